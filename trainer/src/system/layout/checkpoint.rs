//! Checkpoints: `checkpoint.json` says where training stands and names the safetensors file that belongs to it.
//!
//! The tensors are written first, under a name of their own; the JSON file is then replaced in one step, and only then are older
//! tensors deleted. Whenever the process dies, one whole checkpoint is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::config::TrainingConfig;
use super::network::{LayoutNetwork, LayoutShape, Standardisation};
use super::train::EpochRecord;
use crate::export::{WriteError, write_beside};
use crate::optimizer::AdamW;

/// Name of the file that says where training stands.
const STATE_FILE: &str = "checkpoint.json";

/// Version of the format.
const SCHEMA: &str = "hoi.layout-checkpoint/1";

/// Why a checkpoint cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is none.
    #[error("there is no checkpoint in {}: a run of `hoi-train layout` leaves one there", folder.display())]
    Absent {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is one, and training was to start anew.
    #[error("{} holds a checkpoint already: go on with --resume, or choose another folder", folder.display())]
    Present {
        /// Where it is.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is damaged or of another version.
    #[error("{} is not a checkpoint of this version: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It belongs to another run.
    #[error("the checkpoint in {} was made with another {what}: {found}, and this run has {wanted}", folder.display())]
    OtherRun {
        /// Where it is.
        folder: PathBuf,
        /// What differs.
        what: String,
        /// What the checkpoint says.
        found: String,
        /// What this run says.
        wanted: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// libtorch could not write or read the tensors.
    #[error("cannot transfer the tensors of {}", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What libtorch says.
        source: tch::TchError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    schema: String,
    tensors: String,
    config: TrainingConfig,
    data: String,
    shape: LayoutShape,
    steps: u64,
    log: Vec<EpochRecord>,
}

/// All that training needs to go on.
pub(super) struct Progress {
    pub(super) network: LayoutNetwork,
    pub(super) average: Vec<Tensor>,
    pub(super) optimizer: AdamW,
    pub(super) log: Vec<EpochRecord>,
}

/// Whether the folder holds a checkpoint.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join(STATE_FILE).exists()
}

/// Writes the checkpoint of the last epoch in the log, then deletes the one before.
pub(super) fn save(
    folder: &Path,
    progress: &Progress,
    config: &TrainingConfig,
    data: &str,
) -> Result<(), CheckpointError> {
    let network = &progress.network;
    let standardisation = network.standardisation();
    let mut tensors = vec![
        ("standardisation.mean".to_owned(), Tensor::from_slice(&standardisation.mean)),
        ("standardisation.deviation".to_owned(), Tensor::from_slice(&standardisation.deviation)),
    ];
    let (first, second) = progress.optimizer.moments();
    for (i, (name, _)) in LayoutNetwork::names(network.shape()).into_iter().enumerate() {
        for (part, tensor) in [
            ("parameter", &network.parameters()[i]),
            ("average", &progress.average[i]),
            ("first_moment", &first[i]),
            ("second_moment", &second[i]),
        ] {
            tensors.push((format!("{part}.{name}"), tensor.detach().to_device(Device::Cpu).contiguous()));
        }
    }
    let file = format!("checkpoint.{}.safetensors", progress.log.len());
    let path = folder.join(&file);
    let beside = folder.join(format!(".{file}.part"));
    Tensor::write_safetensors(&tensors, &beside)
        .map_err(|source| CheckpointError::Tensors { path: path.clone(), source })?;
    std::fs::rename(&beside, &path).map_err(|source| WriteError { path: path.clone(), source })?;
    let state = State {
        schema: SCHEMA.to_owned(),
        tensors: file.clone(),
        config: config.clone(),
        data: data.to_owned(),
        shape: *network.shape(),
        steps: progress.optimizer.steps(),
        log: progress.log.clone(),
    };
    let text = serde_json::to_vec_pretty(&state)
        .map_err(|e| CheckpointError::Format { path: folder.join(STATE_FILE), reason: e.to_string() })?;
    write_beside(&folder.join(STATE_FILE), &text)?;
    remove_others(folder, &file);
    Ok(())
}

/// Deletes tensors that no state names any more. What cannot be deleted does no harm.
fn remove_others(folder: &Path, keep: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let tensors = name.trim_start_matches('.').starts_with("checkpoint.") && name.contains(".safetensors");
        if tensors && name != keep {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The trained network of a folder: the averaged weights of its checkpoint, whatever configuration made it.
///
/// # Errors
/// [`CheckpointError`] when there is no checkpoint, or it is damaged or of another version.
pub fn load_network(folder: &Path, device: Device) -> Result<LayoutNetwork, CheckpointError> {
    let path = folder.join(STATE_FILE);
    let state = read_state(folder)?;
    let progress = load(folder, &state.config, &state.data, &state.shape, device)?;
    if progress.log.len() < state.config.epochs {
        let reason = format!("its run stopped after epoch {} of {}", progress.log.len(), state.config.epochs);
        return Err(CheckpointError::Format { path, reason });
    }
    Ok(LayoutNetwork::from_parameters(state.shape, progress.network.standardisation().clone(), progress.average))
}

fn read_state(folder: &Path) -> Result<State, CheckpointError> {
    let path = folder.join(STATE_FILE);
    if !path.exists() {
        return Err(CheckpointError::Absent { folder: folder.to_owned() });
    }
    let text = std::fs::read(&path).map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
    let format = |reason: String| CheckpointError::Format { path: path.clone(), reason };
    let state: State = serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
    if state.schema != SCHEMA {
        return Err(format(format!("schema `{}`, expected `{SCHEMA}`", state.schema)));
    }
    Ok(state)
}

/// Reads the checkpoint of a folder, if it belongs to this configuration and this data.
pub(super) fn load(
    folder: &Path,
    config: &TrainingConfig,
    data: &str,
    shape: &LayoutShape,
    device: Device,
) -> Result<Progress, CheckpointError> {
    let path = folder.join(STATE_FILE);
    let format = |path: &Path, reason: String| CheckpointError::Format { path: path.to_owned(), reason };
    let state = read_state(folder)?;
    let other = |what: &str, found: String, wanted: String| CheckpointError::OtherRun {
        folder: folder.to_owned(),
        what: what.to_owned(),
        found,
        wanted,
    };
    if let Some((what, found, wanted)) = first_difference(&state.config, config) {
        return Err(other(&what, found, wanted));
    }
    if state.data != data {
        return Err(other("data", state.data, data.to_owned()));
    }
    if state.shape != *shape {
        return Err(other("network", format!("{:?}", state.shape), format!("{shape:?}")));
    }
    if Path::new(&state.tensors).file_name().is_none_or(|name| name != state.tensors.as_str()) {
        return Err(format(&path, format!("`{}` is not the name of a file beside it", state.tensors)));
    }
    let path = folder.join(&state.tensors);
    let read =
        Tensor::read_safetensors(&path).map_err(|source| CheckpointError::Tensors { path: path.clone(), source })?;
    let mut tensors: HashMap<String, Tensor> = read.into_iter().collect();
    let mut take = |name: String, size: &[i64]| match tensors.remove(&name) {
        Some(t) if t.size() == size => Ok(t.to_device(device)),
        Some(t) => Err(format(&path, format!("`{name}` has the shape {:?}, expected {size:?}", t.size()))),
        None => Err(format(&path, format!("it has no tensor `{name}`"))),
    };
    let values = [hoi_runtime::spatial::SPATIAL_LEN as i64];
    let mut row = |name: &str| -> Result<Vec<f32>, CheckpointError> {
        Vec::try_from(take(name.to_owned(), &values)?.to_device(Device::Cpu))
            .map_err(|source| CheckpointError::Tensors { path: path.clone(), source })
    };
    let standardisation =
        Standardisation { mean: row("standardisation.mean")?, deviation: row("standardisation.deviation")? };
    let mut part = |part: &str| -> Result<Vec<Tensor>, CheckpointError> {
        LayoutNetwork::names(shape).iter().map(|(name, size)| take(format!("{part}.{name}"), size)).collect()
    };
    let parameters = part("parameter")?.into_iter().map(|p| p.set_requires_grad(true)).collect();
    let average = part("average")?;
    let optimizer = AdamW::resume(config.weight_decay, part("first_moment")?, part("second_moment")?, state.steps);
    let network = LayoutNetwork::from_parameters(*shape, standardisation, parameters);
    Ok(Progress { network, average, optimizer, log: state.log })
}

/// The first field in which two configurations differ: its name, and both values.
fn first_difference(found: &TrainingConfig, wanted: &TrainingConfig) -> Option<(String, String, String)> {
    if found == wanted {
        return None;
    }
    let fields = |config: &TrainingConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (found, wanted) = (fields(found), fields(wanted));
    let differs = found.iter().find(|(name, value)| wanted.get(*name) != Some(value));
    let (name, value) = differs?;
    Some((name.clone(), value.to_string(), wanted.get(name).map_or_else(String::new, ToString::to_string)))
}
