//! Photos that were read up to the tuned blocks, on disk: `tune.json` says how, `tune.safetensors` holds them.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::cache::LookCacheError;
use super::TuneLook;
use crate::export::{WriteError, write_beside};

const INDEX_FILE: &str = "tune.json";
const TENSOR_FILE: &str = "tune.safetensors";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    key: String,
    photos: usize,
}

/// Writes photos that were read as `key` says into a folder, the tensors first.
///
/// # Errors
/// [`LookCacheError`].
pub fn write_tune_looks(folder: &Path, key: &str, looks: &[TuneLook]) -> Result<(), LookCacheError> {
    let of = |f: &dyn Fn(&TuneLook) -> &Tensor| Tensor::stack(&looks.iter().map(f).collect::<Vec<_>>(), 0);
    let tensors = [("early", of(&|l| &l.early)), ("map", of(&|l| &l.map)), ("masks", of(&|l| &l.masks))];
    let path = folder.join(TENSOR_FILE);
    let beside = folder.join(format!(".{TENSOR_FILE}.part"));
    Tensor::write_safetensors(&tensors, &beside)
        .map_err(|source| LookCacheError::Tensors { path: path.clone(), source })?;
    std::fs::rename(&beside, &path).map_err(|source| WriteError { path, source })?;
    let index = Index { key: key.to_owned(), photos: looks.len() };
    let path = folder.join(INDEX_FILE);
    let text =
        serde_json::to_vec(&index).map_err(|e| LookCacheError::Format { path: path.clone(), reason: e.to_string() })?;
    Ok(write_beside(&path, &text)?)
}

/// The photos of a folder, `None` where it holds none.
///
/// # Errors
/// [`LookCacheError`].
pub fn read_tune_looks(folder: &Path, key: &str) -> Result<Option<Vec<TuneLook>>, LookCacheError> {
    let path = folder.join(INDEX_FILE);
    let Ok(text) = std::fs::read(&path) else { return Ok(None) };
    let format = |reason: String| LookCacheError::Format { path: path.clone(), reason };
    let index: Index = serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
    if index.key != key {
        return Err(LookCacheError::Other { folder: folder.to_owned(), found: index.key, wanted: key.to_owned() });
    }
    let tensors = folder.join(TENSOR_FILE);
    let read =
        Tensor::read_safetensors(&tensors).map_err(|source| LookCacheError::Tensors { path: tensors, source })?;
    let read: HashMap<String, Tensor> = read.into_iter().collect();
    let take = |name: &str, dimensions: usize| {
        let found = read.get(name).filter(|t| t.dim() == dimensions && t.size()[0] == index.photos as i64);
        found.ok_or_else(|| format(format!("there is no `{name}` with {} rows beside it", index.photos)))
    };
    let (early, map, masks) = (take("early", 3)?, take("map", 4)?, take("masks", 3)?);
    let look = |i| TuneLook { early: early.get(i), map: map.get(i), masks: masks.get(i) };
    Ok(Some((0..index.photos as i64).map(look).collect()))
}
