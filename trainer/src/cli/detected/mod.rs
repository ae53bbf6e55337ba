//! What a frozen detector says of a whole set, in memory and in a cache.

mod scenes;

use std::path::Path;

use anyhow::Context;

pub(super) use self::scenes::{Detector, RenderedTruth, SceneArguments, scene_detections};
use crate::dataset::PictureSet;
use crate::dataset::augment::Augmentation;
use crate::system::rmlr::{CacheWriter, DetectOptions, FrozenDetector, LabelledDetections, detect_set, read_cache};
use crate::system::run::progress_bar;

/// How a set is shown to the detector and read.
pub(super) struct Shown {
    /// Folder in the cache.
    pub(super) name: String,
    /// What the cache must be of: data and detector.
    pub(super) key: String,
    /// Nothing random but what has probability 1.
    pub(super) augmentation: Augmentation,
    /// Threads that read.
    pub(super) threads: usize,
    /// Pictures that may be unreadable.
    pub(super) skip_limit: usize,
}

/// What `make` makes of each picture of a set, from the cache where there is one, and how many pictures could not be read (0 from a cache).
pub(super) fn detections<T>(
    detector: &dyn FrozenDetector,
    set: &dyn PictureSet,
    shown: &Shown,
    cache: Option<&Path>,
    make: impl Fn(LabelledDetections) -> T,
) -> anyhow::Result<(Vec<T>, usize)> {
    let Shown { name, key, .. } = shown;
    let folder = cache.map(|c| c.join(name));
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        if let Some(found) = read_cache(folder, key)? {
            return Ok((found.into_iter().map(make).collect(), 0));
        }
    }
    let mut writer = folder.as_ref().map(|folder| CacheWriter::new(folder, key));
    let progress = progress_bar();
    progress.set_length(set.len() as u64);
    progress.set_message(format!("detecting {name}"));
    let Shown { augmentation, threads, skip_limit, .. } = shown;
    let options =
        DetectOptions { augmentation, batch: 16, threads: *threads, skip_limit: *skip_limit, progress: &progress };
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut made = Vec::with_capacity(set.len());
    let skipped = detect_set::<anyhow::Error>(detector, set, &indices, &options, |found| {
        if let Some(writer) = &mut writer {
            writer.push(&found)?;
        }
        made.push(make(found));
        Ok(())
    })?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    progress.finish_and_clear();
    Ok((made, skipped.len()))
}
