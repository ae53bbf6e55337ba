//! A trained head on disk: `config.json` and `model.safetensors`.

use std::path::{Path, PathBuf};

use hoi_runtime::vocabulary::{Vocabulary, VocabularyError, VocabularySpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor, nn};

use crate::export::{WriteError, write_beside};

/// Name of the description.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the tensors.
pub const MODEL_FILE: &str = "model.safetensors";

/// What stands beside the tensors; `C` is what the system's model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description<C> {
    /// System and version, such as `hoi.rmlr/1`.
    pub schema: String,
    /// What the model is made of.
    pub config: C,
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
    #[error("{} does not describe a head of this system and version: {reason}", path.display())]
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
pub fn save<C: Serialize>(
    store: &nn::VarStore,
    description: &Description<C>,
    folder: &Path,
) -> Result<(), ArtifactError> {
    let path = folder.join(MODEL_FILE);
    let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors: Vec<(&str, Tensor)> =
        variables.iter().map(|(n, t)| (n.as_str(), t.detach().to_device(Device::Cpu).contiguous())).collect();
    let beside = folder.join(format!("{MODEL_FILE}.partial"));
    let weights = |reason: String| ArtifactError::Weights { path: path.clone(), reason };
    Tensor::write_safetensors(&tensors, &beside).map_err(|e| weights(e.to_string()))?;
    std::fs::rename(&beside, &path).map_err(|source| WriteError { path: path.clone(), source })?;
    let path = folder.join(CONFIG_FILE);
    let mut text = serde_json::to_vec_pretty(description)
        .map_err(|e| ArtifactError::Format { path: path.clone(), reason: e.to_string() })?;
    text.push(b'\n');
    Ok(write_beside(&path, &text)?)
}

/// Reads the description of a model of the system `schema`, and its vocabulary.
///
/// # Errors
/// [`ArtifactError`] naming the file and what does not fit.
pub fn read_description<C: DeserializeOwned>(
    folder: &Path,
    schema: &str,
) -> Result<(Description<C>, Vocabulary), ArtifactError> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read(&path).map_err(|source| ArtifactError::Read { path: path.clone(), source })?;
    let wrong = |reason: String| ArtifactError::Format { path: path.clone(), reason };
    // The schema first: the configuration of another system would only be said to lack a field.
    let value: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    match value["schema"].as_str() {
        Some(found) if found == schema => {}
        Some(found) => return Err(wrong(format!("schema `{found}`, expected `{schema}`"))),
        None => return Err(wrong(format!("it has no `schema`, expected `{schema}`"))),
    }
    let description: Description<C> = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    let vocabulary = Vocabulary::new(description.vocabulary.clone())
        .map_err(|source| ArtifactError::Vocabulary { path: path.clone(), source })?;
    Ok((description, vocabulary))
}

/// Fills a store with the tensors in a folder; it must have these and no others.
///
/// # Errors
/// [`ArtifactError`] naming the file and the tensor.
pub fn fill(store: &nn::VarStore, folder: &Path) -> Result<(), ArtifactError> {
    let path = folder.join(MODEL_FILE);
    let weights = |reason: String| ArtifactError::Weights { path: path.clone(), reason };
    let mut variables = store.variables();
    for (name, value) in Tensor::read_safetensors(&path).map_err(|e| weights(e.to_string()))? {
        let mut variable =
            variables.remove(&name).ok_or_else(|| weights(format!("`{name}` is no part of this configuration")))?;
        if variable.size() != value.size() {
            return Err(weights(format!("`{name}` has the shape {:?}, expected {:?}", value.size(), variable.size())));
        }
        tch::no_grad(|| variable.copy_(&value));
    }
    match variables.keys().min() {
        None => Ok(()),
        Some(name) => Err(weights(format!("there is no tensor `{name}`"))),
    }
}
