//! Proposals of any detector out of a file: JSON lines, one picture a line, in any order.
//!
//! ```json
//! {"schema": "hoi.frame/1", "source": "file://photos/hold cup/a.jpg", "width": 640, "height": 480, "detections": [{"class": "cup", "box": [9, 9, 40, 50], "score": 0.8}]}
//! {"image": "hold cup/b.jpg", "detections": [{"class": "person", "box": [0, 0, 90, 200], "score": 0.9}]}
//! ```
//!
//! The first form is what `hoi detect --json` prints. Boxes are left, top, right, bottom in pixels of the original picture, upright, right
//! and bottom exclusive. Keys that are not named here are passed over.

mod error;
mod pictures;
mod read;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::Size;

pub use error::ProposalError;
pub use rule::{ProposalRule, Selected};

/// The detections of a picture: a line.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureProposals {
    /// The picture as the line names it, without `file://`.
    pub image: String,
    /// The line, 1-based.
    pub line: usize,
    /// Size in pixels, where the line says it.
    pub size: Option<Size>,
    /// In the line's order; boxes in pixels of the original picture, as the line has them.
    pub detections: Vec<Detection>,
}

/// The lines of a file of proposals.
#[derive(Clone, Debug)]
pub struct ProposalFile {
    path: PathBuf,
    pictures: Vec<PictureProposals>,
    unknown_classes: BTreeMap<String, usize>,
}

impl ProposalFile {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All lines, in order.
    pub fn pictures(&self) -> &[PictureProposals] {
        &self.pictures
    }

    /// Detections that were left out because the vocabulary does not have their class: how many of each.
    pub fn unknown_classes(&self) -> &BTreeMap<String, usize> {
        &self.unknown_classes
    }

    /// The detections of a line for a photo of `size`, cut at the photo's edges.
    ///
    /// # Errors
    /// [`ProposalError::OtherSize`] when the line says another size: its boxes would be in other pixels.
    pub fn detections_in(&self, proposals: &PictureProposals, size: Size) -> Result<Vec<Detection>, ProposalError> {
        if let Some(said) = proposals.size.filter(|said| *said != size) {
            return Err(ProposalError::OtherSize {
                path: self.path.clone(),
                line: proposals.line,
                image: proposals.image.clone(),
                said,
                size,
            });
        }
        Ok(proposals.detections.iter().map(|d| Detection { bbox: d.bbox.clip(size), ..d.clone() }).collect())
    }
}
