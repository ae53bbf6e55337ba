//! Photos that were read up to the tuned blocks, on disk: `tune.json` says how, `tune.safetensors` holds them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::super::cache::{Keyed, LookCacheError, LookStore};
use super::TuneLook;

const STORE: LookStore = LookStore { index: "tune.json", tensors: "tune.safetensors" };

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    key: String,
    photos: usize,
}

impl Keyed for Index {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Writes photos that were read as `key` says into a folder, the tensors first.
///
/// # Errors
/// [`LookCacheError`].
pub fn write_tune_looks(folder: &Path, key: &str, looks: &[TuneLook]) -> Result<(), LookCacheError> {
    let of = |f: &dyn Fn(&TuneLook) -> &Tensor| Tensor::stack(&looks.iter().map(f).collect::<Vec<_>>(), 0);
    let tensors = [("early", of(&|l| &l.early)), ("map", of(&|l| &l.map)), ("masks", of(&|l| &l.masks))];
    STORE.write(folder, &Index { key: key.to_owned(), photos: looks.len() }, &tensors)
}

/// The photos of a folder, `None` where it holds none.
///
/// # Errors
/// [`LookCacheError`].
pub fn read_tune_looks(folder: &Path, key: &str) -> Result<Option<Vec<TuneLook>>, LookCacheError> {
    let Some((index, read)) = STORE.read::<Index>(folder, key)? else { return Ok(None) };
    let take = |name: &str, dimensions| STORE.rows(folder, &read, name, [index.photos, dimensions]);
    let (early, map, masks) = (take("early", 3)?, take("map", 4)?, take("masks", 3)?);
    let look = |i| TuneLook { early: early.get(i), map: map.get(i), masks: masks.get(i) };
    Ok(Some((0..index.photos as i64).map(look).collect()))
}
