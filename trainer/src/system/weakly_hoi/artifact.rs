//! A trained head on disk.

use std::path::Path;

use hoi_runtime::vocabulary::Vocabulary;
use serde_json::Value;
use tch::Device;

use super::config::WeaklyConfig;
use super::model::WeaklyModel;
use crate::system::artifact::{ArtifactError, Description, fill, read_description, save};

const SCHEMA: &str = "hoi.weakly_hoi/1";

/// What stands beside the tensors.
pub type WeaklyDescription = Description<WeaklyConfig>;

/// Writes a model into a folder that exists.
///
/// # Errors
/// [`ArtifactError`] naming the file.
pub fn save_model(
    model: &WeaklyModel,
    vocabulary: &Vocabulary,
    training: Value,
    folder: &Path,
) -> Result<(), ArtifactError> {
    let (config, vocabulary) = (model.config().clone(), vocabulary.spec().clone());
    save(&model.store, &Description { schema: SCHEMA.to_owned(), config, vocabulary, training }, folder)
}

/// Reads a model, its vocabulary and its description.
///
/// # Errors
/// [`ArtifactError`] naming the file and what does not fit.
pub fn load_model(
    folder: &Path,
    device: Device,
) -> Result<(WeaklyModel, Vocabulary, WeaklyDescription), ArtifactError> {
    let (description, vocabulary): (WeaklyDescription, Vocabulary) = read_description(folder, SCHEMA)?;
    let model = WeaklyModel::empty(&description.config, &vocabulary, device);
    fill(&model.store, folder)?;
    Ok((model, vocabulary, description))
}
