//! Data sets as they are published, read and checked.

pub mod augment;
pub mod hico_det;
pub mod layout;
pub mod loader;
mod picture;
pub mod rendered;
pub mod v_coco;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use serde::de::DeserializeOwned;

pub use picture::{AnnotatedPicture, EntityLabel, PairLabel, PictureSet};

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
    #[error("{}: {record}: box {bbox:?} is not inside the image of {size} (1-based, inclusive, x1 <= x2, y1 <= y2)", path.display())]
    BoxOutside {
        /// The file.
        path: PathBuf,
        /// The image and its label.
        record: String,
        /// The box as it stands in the file.
        bbox: [f64; 4],
        /// Size of the image.
        size: Size,
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
}

/// One annotated human-object pair of one interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnnotatedPair {
    /// Box of the human, 0-based continuous pixels of the original image.
    pub human: BBox,
    /// Box of the object, in the same space.
    pub object: BBox,
    /// Index into the data set's table of interactions.
    pub interaction: usize,
}

/// An image with its annotated pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotatedImage {
    /// File name of the image.
    pub name: String,
    /// The number in the file name. Numbers are not contiguous.
    pub number: u64,
    /// Size of the image; `None` where the annotation does not say it (HAKE: images without a label).
    pub size: Option<Size>,
    /// One entry per pair and interaction: the same boxes, sometimes slightly moved, are repeated for every verb.
    pub pairs: Vec<AnnotatedPair>,
}

/// Reads a JSON document; a name ending in `.gz` is unpacked on the way.
fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, DatasetError> {
    let read = |source| DatasetError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut text = Vec::new();
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::GzDecoder::new(file).read_to_end(&mut text).map_err(read)?;
    } else {
        file.read_to_end(&mut text).map_err(read)?;
    }
    serde_json::from_slice(&text).map_err(|source| DatasetError::Format { path: path.to_owned(), expected, source })
}

/// A 1-based inclusive box as 0-based continuous pixels: `x1 - 1, y1 - 1, x2, y2`. `None` when it is no box inside `size`.
fn from_one_based_inclusive([x1, y1, x2, y2]: [f64; 4], size: Size) -> Option<BBox> {
    let inside = |low: f64, high: f64, limit: u32| low >= 1.0 && low <= high && high <= f64::from(limit);
    (inside(x1, x2, size.width) && inside(y1, y2, size.height))
        .then(|| BBox::new((x1 - 1.0) as f32, (y1 - 1.0) as f32, x2 as f32, y2 as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_by_hand() {
        let size = Size::new(10, 5);
        assert_eq!(from_one_based_inclusive([1., 1., 10., 5.], size), Some(BBox::new(0., 0., 10., 5.)));
        assert_eq!(from_one_based_inclusive([3., 2., 3., 2.], size), Some(BBox::new(2., 1., 3., 2.)));
        for outside in
            [[0., 1., 5., 5.], [1., 1., 11., 5.], [1., 1., 10., 6.], [5., 1., 4., 5.], [f64::NAN, 1., 2., 2.]]
        {
            assert_eq!(from_one_based_inclusive(outside, size), None, "{outside:?}");
        }
    }
}
