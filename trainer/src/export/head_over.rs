//! A new head over the detector that a bundle has already.

use hoi_quantize::onnx::to_bytes;
use hoi_runtime::bundle::{BundleKind, BundleParts, HeadSpec, MANIFEST, ModelBundle};

use super::HEAD_FILE;
use super::detr_bundle::HeadPart;
use super::weights::ExportError;

/// The parts of `base` with this head: detector, pairing, vocabulary and the training records of what is in the detector's graph are
/// the base's; its figures, evaluation tables, notes and other files are left out.
///
/// # Errors
/// [`ExportError::Graph`] when the head cannot be encoded, [`ExportError::FileTaken`] when the detector's file is named as a head's.
pub(super) fn with_head(base: &ModelBundle, head: HeadPart) -> Result<BundleParts, ExportError> {
    let mut parts = BundleParts::from_bundle(base);
    let detector = parts.manifest.detector.file.clone();
    parts.files.retain(|name, _| *name == detector);
    add_file(&mut parts, HEAD_FILE, to_bytes(&head.graph)?)?;
    let manifest = &mut parts.manifest;
    manifest.kind = BundleKind::TwoStage;
    manifest.head =
        HeadSpec { file: HEAD_FILE.to_owned(), inputs: head.inputs, outputs: head.outputs, answers_unplaced: false };
    manifest.fusion = head.fusion;
    manifest.precision.retain(|name, _| *name == detector);
    manifest.precision.insert(HEAD_FILE.to_owned(), "f32".to_owned());
    manifest.training.retain(|record| ["detector", "second_backbone"].contains(&record.part.as_str()));
    manifest.accuracy.clear();
    manifest.evaluation.clear();
    manifest.notes = head.notes;
    Ok(parts)
}

/// Adds a file that must not be there yet.
///
/// # Errors
/// [`ExportError::FileTaken`].
pub(super) fn add_file(parts: &mut BundleParts, name: &str, content: Vec<u8>) -> Result<(), ExportError> {
    if name == MANIFEST || parts.files.contains_key(name) {
        return Err(ExportError::FileTaken { name: name.to_owned() });
    }
    parts.files.insert(name.to_owned(), content);
    Ok(())
}
