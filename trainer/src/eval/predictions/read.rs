//! Reading line by line.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use super::{PredictedImage, Prediction, PredictionsError};
use crate::eval::interactions::EvaluationError;

/// Longest line in bytes: some 500,000 predictions of one image.
pub const LINE_LIMIT: u64 = 64 << 20;

/// The images of a file, one after the other, with the line each stands in. Empty lines are passed over.
///
/// Memory is that of one line. After an error nothing more comes.
#[derive(Debug)]
pub struct PredictionReader<R, T> {
    input: R,
    path: PathBuf,
    line: usize,
    text: Vec<u8>,
    ended: bool,
    prediction: PhantomData<fn() -> T>,
}

impl<R: BufRead, T: Prediction> PredictionReader<R, T> {
    /// Reads `input`; `path` is what errors call it.
    pub fn new(input: R, path: &Path) -> Self {
        Self { input, path: path.to_owned(), line: 0, text: Vec::new(), ended: false, prediction: PhantomData }
    }

    /// The file, as errors call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is another line in `text`.
    fn read_line(&mut self) -> Result<bool, PredictionsError> {
        self.text.clear();
        self.line += 1;
        let read = |source| PredictionsError::Read { path: self.path.clone(), source };
        self.input.by_ref().take(LINE_LIMIT + 1).read_until(b'\n', &mut self.text).map_err(read)?;
        if self.text.len() as u64 > LINE_LIMIT {
            return Err(PredictionsError::LineTooLong { path: self.path.clone(), line: self.line });
        }
        Ok(!self.text.is_empty())
    }

    fn next_image(&mut self) -> Result<Option<(usize, PredictedImage<T>)>, PredictionsError> {
        while self.read_line()? {
            if self.text.trim_ascii().is_empty() {
                continue;
            }
            let image = serde_json::from_slice(&self.text).map_err(|error| self.refusal(&error))?;
            return Ok(Some((self.line, image)));
        }
        Ok(None)
    }

    fn refusal(&self, error: &serde_json::Error) -> PredictionsError {
        let text = error.to_string();
        // Its own line number counts within the line.
        let mut reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
        if error.is_syntax() || error.is_eof() {
            reason.push_str(": expected one JSON object a line (NaN and Infinity are no JSON)");
        }
        PredictionsError::Line { path: self.path.clone(), line: self.line, column: error.column(), reason }
    }
}

impl<R: BufRead, T: Prediction> Iterator for PredictionReader<R, T> {
    type Item = Result<(usize, PredictedImage<T>), PredictionsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_image().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Images named in the file.
    pub images: usize,
    /// Their predictions.
    pub triplets: usize,
}

/// Hands every image of a file to `add`, by its number in `numbers` (file name -> number).
///
/// # Errors
/// [`PredictionsError`], naming the line, when it cannot be read, names an unknown image, or `add` refuses it.
pub fn take_all<R: BufRead, T: Prediction>(
    reader: PredictionReader<R, T>,
    numbers: &HashMap<&str, u64>,
    mut add: impl FnMut(u64, &[T]) -> Result<(), EvaluationError>,
) -> Result<Taken, PredictionsError> {
    let path = reader.path().to_owned();
    let mut taken = Taken::default();
    for next in reader {
        let (line, PredictedImage { image, triplets }) = next?;
        let Some(&number) = numbers.get(image.as_str()) else {
            let expected = match numbers.keys().min() {
                Some(name) => format!("expected one of {} names such as `{name}`", numbers.len()),
                None => "it has no image".to_owned(),
            };
            return Err(PredictionsError::UnknownImage { path, line, image, expected });
        };
        add(number, &triplets).map_err(|source| PredictionsError::Refused { path: path.clone(), line, source })?;
        taken.images += 1;
        taken.triplets += triplets.len();
    }
    Ok(taken)
}
