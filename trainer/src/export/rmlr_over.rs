//! An RmLR head over the detector that a bundle has already.

use std::path::Path;

use hoi_quantize::onnx::to_bytes;
use hoi_runtime::bundle::{BundleKind, BundleParts, HeadSpec, ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::vocabulary::VocabularySpec;

use super::HEAD_FILE;
use super::rmlr::{RmlrGraph, masked_roi_note, rmlr_fusion};
use super::weights::ExportError;

/// A head that was trained on what a bundle's detector says.
#[derive(Clone, Debug)]
pub struct RmlrOver<'a> {
    /// The bundle whose detector it is; its head is replaced.
    pub base: &'a ModelBundle,
    /// Name of the new bundle.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// The head; its `feature` must be the detector's tap.
    pub head: RmlrGraph<'a>,
    /// Classes, verbs and which verb can occur with which object; it must have the detector's classes.
    pub vocabulary: VocabularySpec,
    /// What the head learned from.
    pub training: TrainingRecord,
}

/// Writes the bundle into `folder`: detector, pairing and the detector's training record are the base's, figures and texts of the base are left
/// out.
///
/// # Errors
/// [`ExportError`] when the head cannot be exported, or the bundle cannot be written or refuses its parts.
pub fn write_rmlr_over(parts: &RmlrOver<'_>, folder: &Path) -> Result<ModelBundle, ExportError> {
    let BundleParts { mut manifest, mut files } = BundleParts::from_bundle(parts.base);
    let detector = manifest.detector.file.clone();
    files.retain(|name, _| *name == detector);
    files.insert(HEAD_FILE.to_owned(), to_bytes(&parts.head.graph()?)?);
    manifest.name.clone_from(&parts.name);
    manifest.description.clone_from(&parts.description);
    manifest.kind = BundleKind::TwoStage;
    manifest.vocabulary = parts.vocabulary.clone();
    manifest.head =
        HeadSpec { file: HEAD_FILE.to_owned(), inputs: parts.head.inputs()?, outputs: vec![parts.head.output()?] };
    manifest.fusion = rmlr_fusion();
    manifest.precision.retain(|name, _| *name == detector);
    manifest.precision.insert(HEAD_FILE.to_owned(), "f32".to_owned());
    manifest.training.retain(|record| record.part == "detector");
    manifest.training.push(parts.training.clone());
    manifest.accuracy.clear();
    manifest.evaluation.clear();
    manifest.notes = masked_roi_note(&parts.head)?;
    Ok(write_bundle(folder, BundleParts { manifest, files })?)
}
