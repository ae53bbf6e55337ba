//! Photos that were read, on disk: `index.json` with sizes and entities, and `looks.safetensors` with the rest.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::HumanObjectPair;
use hoi_runtime::vocabulary::ObjectClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::photo::PhotoLook;
use crate::dataset::layout::LayoutSample;
use crate::export::{WriteError, write_beside};

const STORE: LookStore = LookStore { index: "index.json", tensors: "looks.safetensors" };

/// Why a cache cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookCacheError {
    /// It is damaged.
    #[error("{} is no cache of photos of this version: {reason}; delete its folder", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It holds other photos, or the same ones read in another way.
    #[error("{} holds photos that were read as `{found}`, this run needs `{wanted}`: delete it or name another folder", folder.display())]
    Other {
        /// The folder.
        folder: PathBuf,
        /// How they were read.
        found: String,
        /// How they should have been.
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
struct Index {
    key: String,
    photos: Vec<Photo>,
}

impl Keyed for Index {
    fn key(&self) -> &str {
        &self.key
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Photo {
    width: u32,
    height: u32,
    /// x1, y1, x2, y2, score and class of each entity, the person first.
    entities: Vec<([f32; 5], u16)>,
}

/// Tensors by name.
type Tensors = HashMap<String, Tensor>;

/// A kind of cache: the names of its two files.
pub(super) struct LookStore {
    pub(super) index: &'static str,
    pub(super) tensors: &'static str,
}

/// What stands in every index: how the photos were read.
pub(super) trait Keyed {
    fn key(&self) -> &str;
}

impl LookStore {
    /// Writes both files, the tensors first: without an index there is no cache.
    pub(super) fn write(
        &self,
        folder: &Path,
        index: &impl Serialize,
        tensors: &[(&str, Tensor)],
    ) -> Result<(), LookCacheError> {
        let path = folder.join(self.tensors);
        let beside = folder.join(format!(".{}.part", self.tensors));
        Tensor::write_safetensors(tensors, &beside)
            .map_err(|source| LookCacheError::Tensors { path: path.clone(), source })?;
        std::fs::rename(&beside, &path).map_err(|source| WriteError { path, source })?;
        let path = folder.join(self.index);
        let text = serde_json::to_vec(index)
            .map_err(|e| LookCacheError::Format { path: path.clone(), reason: e.to_string() })?;
        Ok(write_beside(&path, &text)?)
    }

    /// The index and the tensors by name; `None` where there is no index.
    pub(super) fn read<T: Keyed + DeserializeOwned>(
        &self,
        folder: &Path,
        key: &str,
    ) -> Result<Option<(T, Tensors)>, LookCacheError> {
        let path = folder.join(self.index);
        let Ok(text) = std::fs::read(&path) else { return Ok(None) };
        let index: T =
            serde_json::from_slice(&text).map_err(|e| LookCacheError::Format { path, reason: e.to_string() })?;
        if index.key() != key {
            let (found, wanted) = (index.key().to_owned(), key.to_owned());
            return Err(LookCacheError::Other { folder: folder.to_owned(), found, wanted });
        }
        let path = folder.join(self.tensors);
        let read = Tensor::read_safetensors(&path).map_err(|source| LookCacheError::Tensors { path, source })?;
        Ok(Some((index, read.into_iter().collect())))
    }

    /// A tensor with so many rows and dimensions.
    pub(super) fn rows<'a>(
        &self,
        folder: &Path,
        tensors: &'a Tensors,
        name: &str,
        [rows, dimensions]: [usize; 2],
    ) -> Result<&'a Tensor, LookCacheError> {
        let found = tensors.get(name).filter(|t| t.dim() == dimensions && t.size()[0] == rows as i64);
        found.ok_or_else(|| LookCacheError::Format {
            path: folder.join(self.index),
            reason: format!("there is no `{name}` with {rows} rows beside it"),
        })
    }
}

/// Writes photos that were read as `key` says into a folder, the tensors first.
///
/// # Errors
/// [`LookCacheError`].
pub fn write_looks(folder: &Path, key: &str, photos: &[PhotoLook]) -> Result<(), LookCacheError> {
    let of = |f: &dyn Fn(&PhotoLook) -> &Tensor| photos.iter().map(|p| f(p).shallow_clone()).collect::<Vec<_>>();
    let tensors = [
        ("pooled", Tensor::stack(&of(&|p| &p.pooled), 0)),
        ("evidence", Tensor::stack(&of(&|p| &p.evidence), 0)),
        ("of_pairs", Tensor::cat(&of(&|p| &p.of_pairs), 0)),
    ];
    let photo = |p: &PhotoLook| Photo {
        width: p.sample.size.width,
        height: p.sample.size.height,
        entities: p
            .sample
            .entities
            .iter()
            .map(|e| {
                let b = &e.bbox;
                ([b.x1, b.y1, b.x2, b.y2, e.score], e.class.0)
            })
            .collect(),
    };
    let index = Index { key: key.to_owned(), photos: photos.iter().map(photo).collect() };
    STORE.write(folder, &index, &tensors)
}

/// The photos of a folder, `None` where it holds none.
///
/// # Errors
/// [`LookCacheError`].
pub fn read_looks(folder: &Path, key: &str) -> Result<Option<Vec<PhotoLook>>, LookCacheError> {
    let Some((index, read)) = STORE.read::<Index>(folder, key)? else { return Ok(None) };
    let pairs = index.photos.iter().map(|p| p.entities.len().saturating_sub(1)).sum();
    let take = |name: &str, rows, dimensions| STORE.rows(folder, &read, name, [rows, dimensions]);
    let count = index.photos.len();
    let (pooled, evidence, of_pairs) =
        (take("pooled", count, 3)?, take("evidence", count, 2)?, take("of_pairs", pairs, 2)?);
    let mut first = 0;
    let mut photos = Vec::with_capacity(index.photos.len());
    for (i, photo) in (0..).zip(&index.photos) {
        let entities: Vec<Detection> = photo
            .entities
            .iter()
            .map(|&([x1, y1, x2, y2, score], class)| Detection {
                bbox: BBox::new(x1, y1, x2, y2),
                class: ObjectClass(class),
                score,
            })
            .collect();
        let pairs: Vec<HumanObjectPair> =
            (1..entities.len()).map(|object| HumanObjectPair { human: 0, object }).collect();
        let own = pairs.len() as i64;
        photos.push(PhotoLook {
            sample: LayoutSample {
                size: Size::new(photo.width, photo.height),
                entities,
                pairs,
                left_out: 0,
                positives: Vec::new(),
            },
            pooled: pooled.get(i),
            evidence: evidence.get(i).to_kind(Kind::Float),
            of_pairs: of_pairs.narrow(0, first, own),
        });
        first += own;
    }
    Ok(Some(photos))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn photos_come_back_as_they_were() {
        let entity = |x: f32, class: u16| Detection {
            bbox: BBox::new(x, 1.0, x + 5.0, 9.0),
            class: ObjectClass(class),
            score: 0.5 + x / 100.0,
        };
        let look = |objects: usize| {
            let entities: Vec<Detection> =
                (0..=objects).map(|i| entity(i as f32, if i == 0 { 0 } else { i as u16 + 3 })).collect();
            let pairs = (1..=objects).map(|object| HumanObjectPair { human: 0, object }).collect();
            let values = |rows: i64| Tensor::rand([rows, 4], (Kind::Float, Device::Cpu)).to_kind(Kind::Half);
            PhotoLook {
                sample: LayoutSample { size: Size::new(40, 30), entities, pairs, left_out: 0, positives: Vec::new() },
                pooled: values(3),
                evidence: Tensor::rand([7], (Kind::Float, Device::Cpu)),
                of_pairs: values(objects as i64),
            }
        };
        let photos = [look(2), look(0), look(1)];
        let folder = tempfile::tempdir().unwrap();
        assert!(read_looks(folder.path(), "a").unwrap().is_none());
        write_looks(folder.path(), "a", &photos).unwrap();
        let read = read_looks(folder.path(), "a").unwrap().unwrap();
        assert_eq!(read.len(), 3);
        for (a, b) in photos.iter().zip(&read) {
            assert_eq!(a.sample, b.sample);
            assert!(a.pooled.equal(&b.pooled) && a.evidence.equal(&b.evidence) && a.of_pairs.equal(&b.of_pairs));
        }
        let error = read_looks(folder.path(), "b").unwrap_err().to_string();
        assert!(error.contains("read as `a`, this run needs `b`"), "{error}");
        std::fs::write(folder.path().join("index.json"), "[]").unwrap();
        assert!(read_looks(folder.path(), "a").is_err());
    }
}
