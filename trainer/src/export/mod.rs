//! From a trained network to the files that a bundle is made of.

mod detr;
mod detr_bundle;
mod edge;
mod efficientnet_lite;
mod head_over;
mod layers;
mod layout;
mod resnet;
mod rmlr;
mod rmlr_over;
mod second_backbone;
mod weakly_hoi;
mod weakly_over;
mod weights;

use std::path::{Path, PathBuf};

use hoi_runtime::staged::StagedFile;

pub use detr::{DETECTOR_FILE, DetrGraph};
pub use detr_bundle::{DetrBundle, HeadPart, write_detr_bundle};
pub use edge::{EVIDENCE_MAP, EdgeGraph, RELATION_MAP, with_evidence};
pub use efficientnet_lite::EfficientNetLiteGraph;
pub use layout::{HEAD_FILE, head_inputs, head_outputs, layout_graph, write_layout};
pub use rmlr::{RmlrGraph, rmlr_fusion};
pub use rmlr_over::{RmlrOver, write_rmlr_over};
pub use second_backbone::{SECOND_BACKBONE_MAP, SecondBackbone, WeightStorage};
pub use weakly_hoi::WeaklyGraph;
pub use weakly_over::{WeaklyOver, write_weakly_over};
pub use weights::ExportError;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

/// Writes a file beside its place and renames it, so that its place never holds half a file.
pub(crate) fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_owned(), source };
    StagedFile::new(path, bytes).and_then(StagedFile::commit).map_err(fail)
}
