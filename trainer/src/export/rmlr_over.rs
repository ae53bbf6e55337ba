//! An RmLR head over the detector that a bundle has already.

use std::path::Path;

use hoi_runtime::bundle::{ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::vocabulary::VocabularySpec;

use super::head_over::with_head;
use super::rmlr::RmlrGraph;
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
    let mut bundle = with_head(parts.base, parts.head.part()?)?;
    bundle.manifest.name.clone_from(&parts.name);
    bundle.manifest.description.clone_from(&parts.description);
    bundle.manifest.vocabulary = parts.vocabulary.clone();
    bundle.manifest.training.push(parts.training.clone());
    Ok(write_bundle(folder, bundle)?)
}
