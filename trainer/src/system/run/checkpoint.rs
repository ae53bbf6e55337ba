//! Checkpoints: `checkpoint.json` says where training stands and names the safetensors file that belongs to it.
//!
//! The tensors are written first, under a name of their own; the JSON file is then replaced in one step, and only then are older
//! tensors deleted. Whenever the process dies, one whole checkpoint is there.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor};

use super::record::{EpochRecord, Sums};
use crate::export::{WriteError, write_beside};

/// Name of the file that says where training stands.
const STATE_FILE: &str = "checkpoint.json";

/// Version of the format.
const SCHEMA: &str = "hoi.run-checkpoint/1";

/// Why a checkpoint cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is none.
    #[error("there is no checkpoint to resume in {}", folder.display())]
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
        /// What differs: the path of the field.
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

/// What a run is about; a checkpoint of another is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunIdentity {
    /// The system's configuration: network, losses, input.
    pub system: Value,
    /// The data in words, with a fingerprint where there is one; also where frozen weights came from.
    pub data: String,
}

/// All of `checkpoint.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    schema: String,
    tensors: String,
    identity: RunIdentity,
    config: Value,
    pub(super) optimizer_steps: u64,
    pub(super) log: Vec<EpochRecord>,
    pub(super) partial: Sums,
}

/// What the trainer hands over to be saved.
pub(super) struct Saved<'a> {
    pub(super) identity: &'a RunIdentity,
    pub(super) config: &'a Value,
    pub(super) optimizer_steps: u64,
    pub(super) log: &'a [EpochRecord],
    pub(super) partial: &'a Sums,
    /// Parts (`parameter`, `average`, ...), each a tensor a name.
    pub(super) parts: &'a [(&'static str, &'a [Tensor])],
    pub(super) names: &'a [String],
}

/// Whether the folder holds a checkpoint.
pub fn holds_checkpoint(folder: &Path) -> bool {
    folder.join(STATE_FILE).exists()
}

/// Writes a checkpoint, then deletes the one before.
pub(super) fn save(folder: &Path, saved: &Saved<'_>) -> Result<(), CheckpointError> {
    let mut tensors = Vec::new();
    for (part, of) in saved.parts {
        for (name, tensor) in saved.names.iter().zip(*of) {
            tensors.push((format!("{part}.{name}"), tensor.detach().to_device(Device::Cpu).contiguous()));
        }
    }
    let file = format!("checkpoint.{}.{}.safetensors", saved.log.len(), saved.partial.batches);
    write_tensors(folder, &file, &tensors)?;
    let state = State {
        schema: SCHEMA.to_owned(),
        tensors: file.clone(),
        identity: saved.identity.clone(),
        config: saved.config.clone(),
        optimizer_steps: saved.optimizer_steps,
        log: saved.log.to_vec(),
        partial: saved.partial.clone(),
    };
    let text = serde_json::to_vec_pretty(&state)
        .map_err(|e| CheckpointError::Format { path: folder.join(STATE_FILE), reason: e.to_string() })?;
    write_beside(&folder.join(STATE_FILE), &text)?;
    remove_others(folder, &file);
    Ok(())
}

/// Writes tensors beside `file` and renames them into place; what was half written is removed.
pub(in crate::system) fn write_tensors(
    folder: &Path,
    file: &str,
    tensors: &[(String, Tensor)],
) -> Result<(), CheckpointError> {
    let path = folder.join(file);
    let beside = folder.join(format!(".{file}.part"));
    let written = Tensor::write_safetensors(tensors, &beside)
        .map_err(|source| CheckpointError::Tensors { path: path.clone(), source })
        .and_then(|()| {
            let synced = File::open(&beside).and_then(|f| f.sync_all()).and_then(|()| std::fs::rename(&beside, &path));
            synced.map_err(|source| WriteError { path: path.clone(), source }.into())
        });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
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

/// Reads the checkpoint of a folder, if it belongs to this run: the state and its tensors by name.
pub(super) fn load(
    folder: &Path,
    identity: &RunIdentity,
    config: &Value,
) -> Result<(State, StoredTensors), CheckpointError> {
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
    // Numbers may lose their last bit on the way through a file, so these take the same way.
    let stored = |value: &Value| serde_json::from_str::<Value>(&value.to_string()).map_err(|e| format(e.to_string()));
    let (config, system) = (stored(config)?, stored(&identity.system)?);
    let differs =
        first_difference(&state.config, &config).or_else(|| first_difference(&state.identity.system, &system));
    let data = (state.identity.data != identity.data)
        .then(|| ("data".to_owned(), state.identity.data.clone(), identity.data.clone()));
    if let Some((what, found, wanted)) = differs.or(data) {
        return Err(CheckpointError::OtherRun { folder: folder.to_owned(), what, found, wanted });
    }
    if Path::new(&state.tensors).file_name().is_none_or(|name| name != state.tensors.as_str()) {
        return Err(format(format!("`{}` is not the name of a file beside it", state.tensors)));
    }
    let path = folder.join(&state.tensors);
    let tensors =
        Tensor::read_safetensors(&path).map_err(|source| CheckpointError::Tensors { path: path.clone(), source })?;
    Ok((state, StoredTensors { path, tensors: tensors.into_iter().collect() }))
}

/// The tensors of a checkpoint.
pub(super) struct StoredTensors {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl StoredTensors {
    /// Takes one part, in the order of the names, with the shapes of `like`.
    pub(super) fn part(
        &mut self,
        part: &str,
        names: &[String],
        like: &[Tensor],
    ) -> Result<Vec<Tensor>, CheckpointError> {
        let format = |reason: String| CheckpointError::Format { path: self.path.clone(), reason };
        let mut taken = Vec::with_capacity(names.len());
        for (name, like) in names.iter().zip(like) {
            let name = format!("{part}.{name}");
            taken.push(match self.tensors.remove(&name) {
                Some(t) if t.size() == like.size() => t.to_device(like.device()),
                Some(t) => {
                    return Err(format(format!("`{name}` has the shape {:?}, expected {:?}", t.size(), like.size())));
                }
                None => return Err(format(format!("it has no tensor `{name}`"))),
            });
        }
        Ok(taken)
    }
}

/// The first field in which two JSON values differ: its path, and both values. A field that is missing is empty.
pub fn first_difference(found: &Value, wanted: &Value) -> Option<(String, String, String)> {
    let show = |v: Option<&Value>| v.map_or_else(String::new, Value::to_string);
    match (found, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = b.keys().filter(|k| !a.contains_key(*k));
            a.keys().chain(missing).find_map(|key| match (a.get(key), b.get(key)) {
                (Some(x), Some(y)) => first_difference(x, y).map(|(path, x, y)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{key}.{path}") };
                    (path, x, y)
                }),
                (x, y) => Some((key.clone(), show(x), show(y))),
            })
        }
        _ if found == wanted => None,
        _ => Some((String::new(), found.to_string(), wanted.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named() {
        let a = json!({"width": 8, "net": {"heads": 2, "depths": [1, 1]}});
        assert_eq!(first_difference(&a, &a), None);
        let difference = |b: Value| first_difference(&a, &b).map(|(path, found, wanted)| [path, found, wanted]);
        let named = |v: [&str; 3]| Some(v.map(str::to_owned));
        assert_eq!(difference(json!({"width": 9, "net": a["net"]})), named(["width", "8", "9"]));
        let deep = json!({"width": 8, "net": {"heads": 2, "depths": [1, 2]}});
        assert_eq!(difference(deep), named(["net.depths", "[1,1]", "[1,2]"]));
        assert_eq!(difference(json!({"width": 8, "net": {"depths": [1, 1]}})), named(["net.heads", "2", ""]));
        assert_eq!(difference(json!({"width": 8, "net": a["net"], "new": true})), named(["new", "", "true"]));
    }
}
