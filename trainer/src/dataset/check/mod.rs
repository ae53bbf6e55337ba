//! What of a data set is in a folder, and whether its counts are the published ones.

mod hico_det;
mod v_coco;

use std::path::{Path, PathBuf};

use hoi_runtime::geometry::Size;
use serde::Serialize;

use super::folder::{picture_size, read_picture};
use super::{DatasetError, PictureFolder};
pub use hico_det::check_hico_det;
pub use v_coco::check_v_coco;

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As published, or nothing to compare with.
    Fine,
    /// Not there; some commands need it.
    Absent,
    /// Needed and not there, not readable, or not as published.
    Failed,
}

/// A count beside the published one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What is counted.
    pub what: String,
    /// The published number; `None` where none is known for this format.
    pub expected: Option<u64>,
    /// The number found.
    pub found: u64,
}

impl Count {
    fn new(what: impl Into<String>, expected: impl Into<Option<u64>>, found: usize) -> Self {
        Self { what: what.into(), expected: expected.into(), found: found as u64 }
    }

    /// Whether the number is the published one.
    pub fn fits(&self) -> bool {
        self.expected.is_none_or(|expected| expected == self.found)
    }
}

/// One thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked for.
    pub what: String,
    /// How it is to be taken.
    pub state: State,
    /// Where it was found, in which format, or why it was not.
    pub note: String,
    /// Its counts.
    pub counts: Vec<Count>,
}

impl Finding {
    /// Something that was found, with its counts.
    fn found(what: &str, note: impl Into<String>, counts: Vec<Count>) -> Self {
        let state = if counts.iter().all(Count::fits) { State::Fine } else { State::Failed };
        Self { what: what.to_owned(), state, note: note.into(), counts }
    }

    /// Something needed that was not found or could not be read.
    fn failed(what: &str, error: &DatasetError) -> Self {
        Self { what: what.to_owned(), state: State::Failed, note: chain(error), counts: Vec::new() }
    }

    /// Something that was looked for and is not there, if it is not needed; what is there and cannot be read has failed.
    fn optional(what: &str, error: &DatasetError) -> Self {
        let absent = matches!(error, DatasetError::NothingFound { .. });
        Self { state: if absent { State::Absent } else { State::Failed }, ..Self::failed(what, error) }
    }
}

/// An error with its sources.
fn chain(error: &DatasetError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// How pictures are looked at.
#[derive(Clone, Debug)]
pub struct PictureCheck {
    /// Where they are looked for.
    pub root: PathBuf,
    /// Whether all are decoded; otherwise only their headers are read.
    pub decode: bool,
    /// Whether a missing picture is a failure.
    pub needed: bool,
}

/// How many pictures are there and can be used.
struct Pictures {
    present: usize,
    missing: usize,
    /// How many cannot be decoded, or have another size than the annotation says.
    bad: usize,
    first_bad: Option<String>,
}

impl PictureCheck {
    /// Looks at the pictures of a split: their names, any of which would do, and their sizes where they are known.
    fn look(
        &self,
        what: &str,
        folder: &PictureFolder,
        pictures: &[(Vec<String>, Option<Size>)],
        progress: &mut dyn FnMut(),
    ) -> Finding {
        let mut seen = Pictures { present: 0, missing: 0, bad: 0, first_bad: None };
        for (names, size) in pictures {
            progress();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let Some(path) = folder.find(&names) else {
                seen.missing += 1;
                continue;
            };
            seen.present += 1;
            if let Err(reason) = self.usable(&path, *size) {
                seen.bad += 1;
                seen.first_bad.get_or_insert(reason);
            }
        }
        let state = match (seen.bad, seen.missing) {
            (0, 0) => State::Fine,
            (0, _) if !self.needed => State::Absent,
            _ => State::Failed,
        };
        let note = match (seen.first_bad, seen.missing) {
            (Some(bad), _) => format!("the first that cannot be used: {bad}"),
            (None, 0) => self.root.display().to_string(),
            (None, _) => format!("what looks at pictures needs them below {}", self.root.display()),
        };
        let counts = vec![
            Count::new("present", pictures.len() as u64, seen.present),
            Count::new("missing", None, seen.missing),
            Count::new(if self.decode { "not decodable" } else { "header not readable" }, None, seen.bad),
        ];
        Finding { what: what.to_owned(), state, note, counts }
    }

    fn usable(&self, path: &Path, annotated: Option<Size>) -> Result<(), String> {
        let size = if self.decode {
            read_picture(path).map(|picture| Size::new(picture.width(), picture.height()))
        } else {
            picture_size(path)
        };
        let size = size.map_err(|error| chain(&error))?;
        match annotated.filter(|annotated| *annotated != size) {
            Some(annotated) => Err(format!("{} is {size}, annotated at {annotated}", path.display())),
            None => Ok(()),
        }
    }
}
