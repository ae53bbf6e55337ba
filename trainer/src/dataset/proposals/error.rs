//! Why proposals are refused.

use std::path::PathBuf;

use hoi_runtime::geometry::Size;

/// Why a file of proposals was refused, or does not fit the pictures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// The file cannot be read.
    #[error("cannot read the proposals {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file without a line.
    #[error("{}: no line: a JSON object a picture is expected", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line that is longer than any picture's detections.
    #[error("{}, line {line}: more than the {limit} bytes that a line may have", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A line that is no JSON, or not the object that belongs there.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A box whose edges are no numbers of pixels or in the wrong order.
    #[error(
        "{}, line {line}, detection {detection}: box {bbox:?} is no box: left, top, right, bottom in pixels are expected, left <= right, top <= bottom",
        path.display()
    )]
    Box {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The detection in the line, 1-based.
        detection: usize,
        /// The box as it stands in the file.
        bbox: [f64; 4],
    },
    /// A score that is none.
    #[error("{}, line {line}, detection {detection}: score {score} is not between 0 and 1", path.display())]
    Score {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The detection in the line, 1-based.
        detection: usize,
        /// What the file says.
        score: f64,
    },
    /// A picture on two lines.
    #[error("{}, line {line}: `{image}` stands on line {first} already", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The line that has it first.
        first: usize,
        /// The picture.
        image: String,
    },
    /// Two lines that fit a picture equally well.
    #[error(
        "{}: `{first}` on line {first_line} and `{second}` on line {second_line} could both be {}: longer paths would tell them apart",
        path.display(),
        picture.display()
    )]
    TwoLines {
        /// The file.
        path: PathBuf,
        /// The picture that was looked for.
        picture: PathBuf,
        /// One picture of the file.
        first: String,
        /// Its line, 1-based.
        first_line: usize,
        /// The other picture.
        second: String,
        /// Its line, 1-based.
        second_line: usize,
    },
    /// Two pictures that a line fits equally well.
    #[error(
        "{}, line {line}: `{image}` could be {} or {}: a longer path would tell which",
        path.display(),
        first.display(),
        second.display()
    )]
    TwoPictures {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The picture as the line names it.
        image: String,
        /// One picture that was looked for.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A line about a picture of another size.
    #[error("{}, line {line}: `{image}` is said to be {said}, the photo is {size}; boxes must be in pixels of the photo", path.display())]
    OtherSize {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The picture as the line names it.
        image: String,
        /// Size as the line says.
        said: Size,
        /// Size of the photo, upright.
        size: Size,
    },
}
