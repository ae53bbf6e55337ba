//! What a frozen detector said of a set's pictures, kept on disk: `index.json` with boxes and sizes, and safetensors files of
//! [`CHUNK`] pictures each with their maps (f16) and tokens (f32).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Verb};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::example::DetectedPicture;
use crate::dataset::PairLabel;
use crate::export::{WriteError, write_beside};

/// Pictures of a file.
const CHUNK: usize = 256;
const INDEX_FILE: &str = "index.json";
const SCHEMA: &str = "hoi.detections/1";

/// Why a cache cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is damaged or of another version.
    #[error("{} is not a cache of detections of this version: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds other detections than those asked for.
    #[error("{} holds detections of `{found}`, and this run needs `{wanted}`: delete it or name another folder", folder.display())]
    Other {
        /// The folder.
        folder: PathBuf,
        /// Of what it is.
        found: String,
        /// Of what it should be.
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

/// A picture's detections with its annotation, boxes in input pixels.
#[derive(Debug)]
pub struct LabelledDetections {
    /// What the detector said.
    pub picture: DetectedPicture,
    /// What is annotated.
    pub pairs: Vec<PairLabel>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    schema: String,
    /// What was detected by what: the cache belongs to nothing else.
    key: String,
    pictures: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    number: u64,
    original: [u32; 2],
    input: [u32; 2],
    covered: [u32; 2],
    /// x1, y1, x2, y2, class, score.
    entities: Vec<(f32, f32, f32, f32, u16, f32)>,
    /// Human box, object box, class, verb.
    pairs: Vec<([f32; 4], [f32; 4], u16, u16)>,
}

fn numbers(b: &BBox) -> [f32; 4] {
    [b.x1, b.y1, b.x2, b.y2]
}

fn bbox([x1, y1, x2, y2]: [f32; 4]) -> BBox {
    BBox::new(x1, y1, x2, y2)
}

fn chunk_file(folder: &Path, chunk: usize) -> PathBuf {
    folder.join(format!("maps-{chunk:04}.safetensors"))
}

/// Writes a cache picture by picture. Without [`CacheWriter::finish`] there is no index, hence no cache.
#[derive(Debug)]
pub struct CacheWriter {
    folder: PathBuf,
    index: Index,
    waiting: Vec<(String, Tensor)>,
}

impl CacheWriter {
    /// Starts a cache in a folder that exists; what an unfinished run left there is overwritten.
    pub fn new(folder: &Path, key: &str) -> Self {
        let index = Index { schema: SCHEMA.to_owned(), key: key.to_owned(), pictures: Vec::new() };
        Self { folder: folder.to_owned(), index, waiting: Vec::new() }
    }

    /// Takes a picture.
    ///
    /// # Errors
    /// [`CacheError`] when a file cannot be written.
    pub fn push(&mut self, item: &LabelledDetections) -> Result<(), CacheError> {
        let LabelledDetections { picture, pairs } = item;
        let place = self.index.pictures.len() % CHUNK;
        self.waiting.push((format!("{place}.feature"), picture.feature.to_kind(Kind::Half).contiguous()));
        self.waiting.push((format!("{place}.tokens"), picture.tokens.to_kind(Kind::Float).contiguous()));
        let size = |s: Size| [s.width, s.height];
        let entity = |d: &Detection| (d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2, d.class.0, d.score);
        self.index.pictures.push(Entry {
            number: picture.number,
            original: size(picture.original),
            input: size(picture.input),
            covered: size(picture.covered),
            entities: picture.entities.iter().map(entity).collect(),
            pairs: pairs.iter().map(|p| (numbers(&p.human), numbers(&p.object), p.class.0, p.verb.0)).collect(),
        });
        if place + 1 == CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CacheError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let path = chunk_file(&self.folder, (self.index.pictures.len() - 1) / CHUNK);
        let tensors: Vec<(&str, &Tensor)> = self.waiting.iter().map(|(n, t)| (n.as_str(), t)).collect();
        Tensor::write_safetensors(&tensors, &path).map_err(|source| CacheError::Tensors { path, source })?;
        self.waiting.clear();
        Ok(())
    }

    /// Writes the index: from here on there is a cache.
    ///
    /// # Errors
    /// [`CacheError`] when a file cannot be written.
    pub fn finish(mut self) -> Result<(), CacheError> {
        self.flush()?;
        let path = self.folder.join(INDEX_FILE);
        let text = serde_json::to_vec(&self.index)
            .map_err(|e| CacheError::Format { path: path.clone(), reason: e.to_string() })?;
        Ok(write_beside(&path, &text)?)
    }
}

/// Reads a cache whole; `None` when the folder holds none.
///
/// # Errors
/// [`CacheError`] when it is of other detections, damaged or unreadable.
pub fn read_cache(folder: &Path, key: &str) -> Result<Option<Vec<LabelledDetections>>, CacheError> {
    let path = folder.join(INDEX_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CacheError::Read { path, source }),
    };
    let format = |path: &Path, reason: String| CacheError::Format { path: path.to_owned(), reason };
    let index: Index = serde_json::from_slice(&text).map_err(|e| format(&path, e.to_string()))?;
    if index.schema != SCHEMA {
        return Err(format(&path, format!("schema `{}`, expected `{SCHEMA}`", index.schema)));
    }
    if index.key != key {
        return Err(CacheError::Other { folder: folder.to_owned(), found: index.key, wanted: key.to_owned() });
    }
    let mut pictures = Vec::with_capacity(index.pictures.len());
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (i, entry) in index.pictures.into_iter().enumerate() {
        let path = chunk_file(folder, i / CHUNK);
        if i % CHUNK == 0 {
            let read =
                Tensor::read_safetensors(&path).map_err(|source| CacheError::Tensors { path: path.clone(), source })?;
            tensors = read.into_iter().collect();
        }
        let place = i % CHUNK;
        let mut take = |what: &str, dimensions: usize| match tensors.remove(&format!("{place}.{what}")) {
            Some(t) if t.dim() == dimensions => Ok(t),
            Some(t) => Err(format(&path, format!("`{place}.{what}` has the shape {:?}", t.size()))),
            None => Err(format(&path, format!("it has no tensor `{place}.{what}`"))),
        };
        let (feature, tokens) = (take("feature", 3)?, take("tokens", 2)?);
        let entities: Vec<Detection> = entry
            .entities
            .iter()
            .map(|&(x1, y1, x2, y2, class, score)| Detection {
                bbox: BBox::new(x1, y1, x2, y2),
                class: ObjectClass(class),
                score,
            })
            .collect();
        if tokens.size()[0] != entities.len() as i64 {
            return Err(format(
                &path,
                format!("`{place}.tokens` has {} rows for {} entities", tokens.size()[0], entities.len()),
            ));
        }
        let size = |[width, height]: [u32; 2]| Size::new(width, height);
        let pair = |(human, object, class, verb)| PairLabel {
            human: bbox(human),
            object: bbox(object),
            class: ObjectClass(class),
            verb: Verb(verb),
        };
        pictures.push(LabelledDetections {
            picture: DetectedPicture {
                number: entry.number,
                original: size(entry.original),
                input: size(entry.input),
                feature,
                covered: size(entry.covered),
                entities,
                tokens,
            },
            pairs: entry.pairs.into_iter().map(pair).collect(),
        });
    }
    Ok(Some(pictures))
}
