//! Published weights of a text encoder, by the keys that they are published with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::config::Architecture;

/// Files that are looked for, the first that is there is read.
const SAFETENSORS: &str = "model.safetensors";
const PICKLE: &str = "pytorch_model.bin";

/// Why weights were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// No file of weights.
    #[error("{} holds no weights: expected {SAFETENSORS} or {PICKLE}", folder.display())]
    Absent {
        /// Where they were looked for.
        folder: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the tensors of {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What libtorch says.
        source: tch::TchError,
    },
    /// A pickle that libtorch's reader does not take. It takes a plain `dict` of tensors, which Python's models do not write.
    #[error(
        "cannot read the pickle {} ({reason}): convert it with Python: from transformers import AutoModel; \
         AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER) writes {SAFETENSORS}",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What libtorch says, without its stack.
        reason: String,
    },
    /// A parameter that the configuration asks for is not there.
    #[error("{} has no tensor `{name}` (nor `{prefix}.{name}`): do weights and config.json belong together?", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Key of the parameter.
        name: String,
        /// What keys of models with a head begin with.
        prefix: &'static str,
    },
    /// A parameter has another shape.
    #[error("{}: `{name}` has the shape {found:?}, and config.json asks for {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Key of the parameter.
        name: String,
        /// Shape in the file.
        found: Vec<i64>,
        /// Shape by the configuration.
        expected: Vec<i64>,
    },
    /// A parameter is not a floating-point tensor.
    #[error("{}: `{name}` holds {found:?}: expected f16, bf16, f32 or f64", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// Key of the parameter.
        name: String,
        /// What it holds.
        found: Kind,
    },
}

/// The tensors of a file.
#[derive(Debug)]
pub struct TextWeights {
    path: PathBuf,
    prefix: &'static str,
    tensors: HashMap<String, Tensor>,
}

impl TextWeights {
    /// Reads `model.safetensors`, or else `pytorch_model.bin`, of a folder.
    ///
    /// Keys lose the prefix of models with a head (`bert.` and so on), and layer normalisation's old names `gamma` and `beta` become
    /// `weight` and `bias`.
    ///
    /// # Errors
    ///
    /// Neither is there, or it cannot be read.
    pub fn read(folder: &Path, architecture: &Architecture) -> Result<Self, WeightsError> {
        let (safetensors, pickle) = (folder.join(SAFETENSORS), folder.join(PICKLE));
        let (path, tensors) = if safetensors.exists() {
            let read = Tensor::read_safetensors(&safetensors);
            let read = read.map_err(|source| WeightsError::Read { path: safetensors.clone(), source })?;
            (safetensors, read)
        } else if pickle.exists() {
            let read = Tensor::loadz_multi(&pickle);
            let read = read.map_err(|e| WeightsError::Pickle { path: pickle.clone(), reason: first_line(&e) })?;
            (pickle, read)
        } else {
            return Err(WeightsError::Absent { folder: folder.to_owned() });
        };
        let prefix = architecture.name();
        let plain = |key: String| {
            let key = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&key);
            match key.rsplit_once('.') {
                Some((place, "gamma")) => format!("{place}.weight"),
                Some((place, "beta")) => format!("{place}.bias"),
                _ => key.to_owned(),
            }
        };
        let tensors = tensors.into_iter().map(|(key, tensor)| (plain(key), tensor)).collect();
        Ok(Self { path, prefix, tensors })
    }

    /// A parameter on a device, as f32, without gradient.
    pub(super) fn take(&self, name: &str, shape: &[i64], device: Device) -> Result<Tensor, WeightsError> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let Some(tensor) = self.tensors.get(&name) else {
            return Err(WeightsError::Missing { path, name, prefix: self.prefix });
        };
        if tensor.size() != shape {
            return Err(WeightsError::Shape { path, name, found: tensor.size(), expected: shape.to_owned() });
        }
        if !tensor.is_floating_point() {
            return Err(WeightsError::Kind { path, name, found: tensor.kind() });
        }
        Ok(tensor.detach().to_device(device).to_kind(Kind::Float).contiguous())
    }
}

/// libtorch's own words end with a stack of many lines.
fn first_line(error: &tch::TchError) -> String {
    let text = match error {
        tch::TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}
