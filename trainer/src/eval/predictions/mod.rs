//! Predictions in a plain file: JSON lines, one image a line, in any order.
//!
//! ```json
//! {"image": "HICO_test2015_00000001.jpg", "triplets": [{"human": [0, 0, 9, 9], "object": [5, 5, 20, 20], "interaction": 245, "score": 0.4}]}
//! {"image": "COCO_val2014_000000000294.jpg", "triplets": [{"human": [0, 0, 9, 9], "verb": "hold obj", "role": null, "score": 0.4}]}
//! ```
//!
//! Boxes are x1, y1, x2, y2 in 0-based continuous pixels of the original image. `interaction` is 0-based; `verb` is an action of
//! V-COCO with a role, or without for the agent alone; `role` is its box, or null where the role is said to be absent. Keys that
//! are not listed here are refused, and so are numbers that are not finite.

mod read;
mod write;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::interactions::EvaluationError;
use crate::export::WriteError;
pub use read::{LINE_LIMIT, PredictionReader, Taken, take_all};
pub use write::PredictionFile;

/// What a line holds a list of.
pub trait Prediction: Serialize + DeserializeOwned {
    /// `score` or `box`, whichever is not a finite number.
    fn not_finite(&self) -> Option<&'static str>;
}

/// The predictions of one image: a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedImage<T> {
    /// File name of the image.
    pub image: String,
    /// Its predictions.
    pub triplets: Vec<T>,
}

/// Why a file of predictions was refused or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line that is no JSON, or not the object that belongs there.
    #[error("{}, line {line}, column {column}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// Where in the line, 1-based.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A line that is too long to be one image.
    #[error("{}, line {line}: longer than {} MiB: expected one image a line", path.display(), LINE_LIMIT >> 20)]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
    },
    /// An image that is not annotated.
    #[error("{}, line {line}: image `{image}` is not in the annotation that is scored against: {expected}", path.display())]
    UnknownImage {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// What it names.
        image: String,
        /// What would be right.
        expected: String,
    },
    /// Predictions that cannot be scored.
    #[error("{}, line {line}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// Why.
        source: EvaluationError,
    },
    /// A prediction that has no place in JSON.
    #[error("image `{image}`, prediction {index}: its {what} is not a finite number")]
    NotFinite {
        /// The image.
        image: String,
        /// Position in the image's list.
        index: usize,
        /// `score` or `box`.
        what: &'static str,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}
