//! Why a data set is refused.

use std::path::PathBuf;

use hoi_runtime::geometry::Size;

use super::mat5::MatError;

/// Why a data set was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not the JSON document that is expected there.
    #[error("{} is not {expected}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
        /// Where and why parsing stopped.
        source: serde_json::Error,
    },
    /// An id that the class table does not hold, or that contradicts it.
    #[error("{}: {record}: {what} {value} is unknown: expected {expected}", path.display())]
    UnknownId {
        /// The file.
        path: PathBuf,
        /// The image or row.
        record: String,
        /// Name of the field.
        what: &'static str,
        /// What it holds.
        value: i64,
        /// What would be right.
        expected: String,
    },
    /// A box that is no box inside its image.
    #[error("{}: {record}: box {bbox:?} is not inside the image of {size} ({convention})", path.display())]
    BoxOutside {
        /// The file.
        path: PathBuf,
        /// The image and its label.
        record: String,
        /// The box as it stands in the file.
        bbox: [f64; 4],
        /// Size of the image.
        size: Size,
        /// What the numbers of a box mean in this file.
        convention: &'static str,
    },
    /// A box whose right edge is left of its left one, its bottom above its top, or that has an edge that is no number.
    #[error("{}: {record}: box {bbox:?} is no box ({convention})", path.display())]
    NotABox {
        /// The file.
        path: PathBuf,
        /// The image and its label.
        record: String,
        /// The box as it stands in the file.
        bbox: [f64; 4],
        /// What the numbers of a box mean in this file.
        convention: &'static str,
    },
    /// Lists that belong together and have different lengths, or parts of a record that contradict each other.
    #[error("{}: {record}: {reason}", path.display())]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The image or row.
        record: String,
        /// What does not fit.
        reason: String,
    },
    /// A file is not a MATLAB 5 file, or not the one that is expected there.
    #[error("cannot read {}", path.display())]
    Mat {
        /// The file.
        path: PathBuf,
        /// Where and why reading stopped.
        source: MatError,
    },
    /// A picture that cannot be decoded.
    #[error("cannot decode the picture {}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        source: image::ImageError,
    },
    /// A picture whose proposals cannot be had.
    #[error("no proposals for {name}")]
    Proposals {
        /// The picture.
        name: String,
        /// What the detector or the file of proposals says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// None of the files that would do is in the folder.
    #[error("{}: no {what}: looked for {looked_for}", folder.display())]
    NothingFound {
        /// The folder that was searched.
        folder: PathBuf,
        /// What is missing.
        what: String,
        /// The names that would do.
        looked_for: String,
    },
}
