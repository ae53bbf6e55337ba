//! A trained head on disk: `config.json` and `model.safetensors`.

use std::path::{Path, PathBuf};

use hoi_runtime::vocabulary::{Vocabulary, VocabularyError, VocabularySpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor};

use super::model::{RmlrConfig, RmlrModel};
use crate::export::{WriteError, write_beside};

/// Name of the description.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the tensors.
pub const MODEL_FILE: &str = "model.safetensors";
const SCHEMA: &str = "hoi.rmlr/1";

/// What stands beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmlrDescription {
    schema: String,
    /// What the model is made of.
    pub config: RmlrConfig,
    /// Objects and verbs.
    pub vocabulary: VocabularySpec,
    /// How it was trained: data, command, scores.
    pub training: Value,
}

/// Why a trained head cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The description is damaged or of another version.
    #[error("{} does not describe an RmLR head of this version: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The vocabulary contradicts itself.
    #[error("{}: its vocabulary cannot be used", path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VocabularyError,
    },
    /// The tensors are not those of the description.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Which tensor, and what is wrong with it.
        reason: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes a model into a folder that exists: tensors first, then the description.
///
/// # Errors
/// [`ArtifactError`] naming the file.
pub fn save_model(
    model: &RmlrModel,
    vocabulary: &Vocabulary,
    training: Value,
    folder: &Path,
) -> Result<(), ArtifactError> {
    let path = folder.join(MODEL_FILE);
    let mut variables: Vec<(String, Tensor)> = model.store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors: Vec<(&str, Tensor)> =
        variables.iter().map(|(n, t)| (n.as_str(), t.detach().to_device(Device::Cpu).contiguous())).collect();
    let beside = folder.join(format!("{MODEL_FILE}.partial"));
    let weights = |reason: String| ArtifactError::Weights { path: path.clone(), reason };
    Tensor::write_safetensors(&tensors, &beside).map_err(|e| weights(e.to_string()))?;
    std::fs::rename(&beside, &path).map_err(|source| WriteError { path: path.clone(), source })?;
    let description = RmlrDescription {
        schema: SCHEMA.to_owned(),
        config: model.config().clone(),
        vocabulary: vocabulary.spec().clone(),
        training,
    };
    let path = folder.join(CONFIG_FILE);
    let mut text = serde_json::to_vec_pretty(&description)
        .map_err(|e| ArtifactError::Format { path: path.clone(), reason: e.to_string() })?;
    text.push(b'\n');
    Ok(write_beside(&path, &text)?)
}

/// Reads a model, its vocabulary and its description.
///
/// # Errors
/// [`ArtifactError`] naming the file and what does not fit.
pub fn load_model(folder: &Path, device: Device) -> Result<(RmlrModel, Vocabulary, RmlrDescription), ArtifactError> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read(&path).map_err(|source| ArtifactError::Read { path: path.clone(), source })?;
    let description: RmlrDescription = serde_json::from_slice(&text)
        .map_err(|e| ArtifactError::Format { path: path.clone(), reason: e.to_string() })?;
    if description.schema != SCHEMA {
        let reason = format!("schema `{}`, expected `{SCHEMA}`", description.schema);
        return Err(ArtifactError::Format { path, reason });
    }
    let vocabulary =
        Vocabulary::new(description.vocabulary.clone()).map_err(|source| ArtifactError::Vocabulary { path, source })?;
    let model = RmlrModel::new(&description.config, 0, device);
    let path = folder.join(MODEL_FILE);
    let weights = |reason: String| ArtifactError::Weights { path: path.clone(), reason };
    let mut variables = model.store.variables();
    for (name, value) in Tensor::read_safetensors(&path).map_err(|e| weights(e.to_string()))? {
        let mut variable =
            variables.remove(&name).ok_or_else(|| weights(format!("`{name}` is no part of this configuration")))?;
        if variable.size() != value.size() {
            return Err(weights(format!("`{name}` has the shape {:?}, expected {:?}", value.size(), variable.size())));
        }
        tch::no_grad(|| variable.copy_(&value));
    }
    match variables.keys().min() {
        None => Ok((model, vocabulary, description)),
        Some(name) => Err(weights(format!("there is no tensor `{name}`"))),
    }
}
