//! Reading line by line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::sink::FRAME_SCHEMA;
use hoi_runtime::vocabulary::Vocabulary;
use serde::Deserialize;

use super::pictures::components;
use super::{PictureProposals, ProposalError, ProposalFile};

/// Longest line in bytes: some 500,000 detections of one picture.
const LINE_LIMIT: u64 = 64 << 20;

#[derive(Deserialize)]
struct Line {
    schema: Option<String>,
    source: Option<String>,
    image: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    detections: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    class: String,
    #[serde(rename = "box")]
    bbox: [f64; 4],
    score: f64,
}

/// The picture that a line is about.
fn image_of(line: &Line) -> Result<String, String> {
    match (&line.schema, &line.source, &line.image) {
        (None, None, Some(image)) => Ok(image.clone()),
        (Some(schema), Some(source), None) if schema == FRAME_SCHEMA => source
            .strip_prefix("file://")
            .map(str::to_owned)
            .ok_or_else(|| format!("source `{source}` is no picture file: `file://` and its path are expected")),
        (Some(schema), ..) if schema != FRAME_SCHEMA => {
            Err(format!("schema `{schema}` is unknown: `{FRAME_SCHEMA}` is expected, or `image` without a schema"))
        }
        _ => Err(format!("the picture is named by `image` alone, or by `source` with `schema` \"{FRAME_SCHEMA}\"")),
    }
}

impl ProposalFile {
    /// Reads all lines; empty ones are passed over. Detections whose class `vocabulary` does not have are left out and counted.
    ///
    /// # Errors
    /// [`ProposalError`] naming file and line: it cannot be read or holds no line; a line is not as described above; a box is not finite or
    /// inverted; a score is outside `[0, 1]`; a picture stands there twice.
    pub fn read(path: &Path, vocabulary: &Vocabulary) -> Result<Self, ProposalError> {
        let read = |source| ProposalError::Read { path: path.to_owned(), source };
        let mut input = BufReader::new(File::open(path).map_err(read)?);
        let (mut pictures, mut unknown_classes) = (Vec::new(), BTreeMap::new());
        let mut lines: HashMap<Vec<String>, usize> = HashMap::new();
        let (mut text, mut number) = (Vec::new(), 0);
        loop {
            text.clear();
            number += 1;
            input.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', &mut text).map_err(read)?;
            if text.is_empty() {
                break;
            }
            if text.len() as u64 > LINE_LIMIT {
                return Err(ProposalError::LineTooLong { path: path.to_owned(), line: number, limit: LINE_LIMIT });
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let refused = |reason| ProposalError::Line { path: path.to_owned(), line: number, reason };
            let line: Line = serde_json::from_slice(&text).map_err(|error| refused(reason(&error)))?;
            let image = image_of(&line).map_err(refused)?;
            let names = components(Path::new(&image));
            if names.is_empty() {
                return Err(refused(format!("`{image}` names no file")));
            }
            if let Some(&first) = lines.get(&names) {
                return Err(ProposalError::Twice { path: path.to_owned(), line: number, first, image });
            }
            lines.insert(names, number);
            let mut detections = Vec::with_capacity(line.detections.len());
            for (i, row) in line.detections.into_iter().enumerate() {
                let (bbox, score) = checked(&row, path, number, i + 1)?;
                match vocabulary.object(&row.class) {
                    Some(class) => detections.push(Detection { bbox, class, score }),
                    None => *unknown_classes.entry(row.class).or_default() += 1,
                }
            }
            let size = line.width.zip(line.height).map(|(width, height)| Size::new(width, height));
            pictures.push(PictureProposals { image, line: number, size, detections });
        }
        if pictures.is_empty() {
            return Err(ProposalError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), pictures, unknown_classes })
    }
}

/// Box and score as the runtime has them.
fn checked(row: &Row, path: &Path, line: usize, detection: usize) -> Result<(BBox, f32), ProposalError> {
    let bbox = BBox::from(row.bbox.map(|v| v as f32));
    if !bbox.is_finite() || bbox.x2 < bbox.x1 || bbox.y2 < bbox.y1 {
        return Err(ProposalError::Box { path: path.to_owned(), line, detection, bbox: row.bbox });
    }
    if !(0.0..=1.0).contains(&row.score) {
        return Err(ProposalError::Score { path: path.to_owned(), line, detection, score: row.score });
    }
    Ok((bbox, row.score as f32))
}

fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // Its own line number counts within the line.
    let what = text.split(" at line ").next().unwrap_or(&text);
    let place = format!("column {}: {what}", error.column());
    if error.is_syntax() || error.is_eof() {
        return format!("{place}: expected one JSON object a line (NaN and Infinity are no JSON)");
    }
    place
}
