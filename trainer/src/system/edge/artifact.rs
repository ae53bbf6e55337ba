//! A trained model on disk: `config.json` and `model.safetensors`; the layout head lies beside it as a run of its own.

use std::path::Path;

use hoi_runtime::vocabulary::Vocabulary;
use serde_json::Value;
use tch::Device;

use super::config::EdgeConfig;
use super::network::{EdgeNetwork, in_store};
use crate::system::artifact::{ArtifactError, Description, fill, read_description, save};
use crate::system::layout::LayoutNetwork;
use tch::nn::VarStore;

const SCHEMA: &str = "hoi.edge/1";

/// What stands beside the tensors.
pub type EdgeDescription = Description<EdgeConfig>;

/// What serves training alone.
const TRAINING_ONLY: &str = "text.";

/// Writes a model without its layout head and without what serves training alone.
///
/// # Errors
/// [`ArtifactError`].
pub fn save_model(
    store: &VarStore,
    network: &EdgeNetwork,
    vocabulary: &Vocabulary,
    training: Value,
    folder: &Path,
) -> Result<(), ArtifactError> {
    let (config, vocabulary) = (network.config().clone(), vocabulary.spec().clone());
    let kept = VarStore::new(Device::Cpu);
    for (name, tensor) in store.variables().iter().filter(|(name, _)| !name.starts_with(TRAINING_ONLY)) {
        let (folders, last) = name.rsplit_once('.').unwrap_or(("", name));
        let path = folders.split('.').filter(|part| !part.is_empty()).fold(kept.root(), |path, part| path / part);
        let _ = path.var_copy(last, tensor);
    }
    save(&kept, &Description { schema: SCHEMA.to_owned(), config, vocabulary, training }, folder)
}

/// Reads a model above the layout head that it was trained with.
///
/// # Errors
/// [`ArtifactError`] naming the file and what does not fit.
pub fn load_model(
    folder: &Path,
    layout: LayoutNetwork,
    device: Device,
) -> Result<(VarStore, EdgeNetwork, Vocabulary, EdgeDescription), ArtifactError> {
    let (description, vocabulary): (EdgeDescription, Vocabulary) = read_description(folder, SCHEMA)?;
    let (store, network) = in_store(&description.config, layout, device);
    fill(&store, folder)?;
    Ok((store, network, vocabulary, description))
}
