//! Rendered scenes as a detector sees them, and what they are scored against.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::bundle::MANIFEST;
use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use tch::Device;

use super::{Shown, detections};
use crate::dataset::augment::{Augmentation, Resize};
use crate::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use crate::dataset::{AnnotatedImage, PictureSet};
use crate::system::detr::DetrModel;
use crate::system::rmlr::{LabelledDetections, Truth};

/// Which scenes a system learns from and is scored on.
#[derive(Debug, Args)]
pub(in crate::cli) struct SceneArguments {
    /// Rendered scenes to learn from [default: 3000; 6000 from image-level labels]
    #[arg(long, value_name = "N")]
    scenes: Option<usize>,
    /// Rendered scenes to score on
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(in crate::cli) score_scenes: usize,
    /// Which of them
    #[arg(long, value_enum, default_value_t = Split::Validation)]
    pub(in crate::cli) split: Split,
    /// Seed of the scenes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) scene_seed: u64,
    /// Keep what the detector says here, and read it from here
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) cache: Option<PathBuf>,
}

impl SceneArguments {
    /// The scenes to learn from, `scenes` where the command line does not say how many, and those to score on, in pictures of `size`.
    pub(in crate::cli) fn sets(&self, size: Size, scenes: usize) -> anyhow::Result<[RenderedScenes; 2]> {
        let seed = self.scene_seed;
        let set =
            |split, count| RenderedScenes::new(RenderedConfig { size, seed, split, count }).context("drawing scenes");
        Ok([set(Split::Train, self.scenes.unwrap_or(scenes))?, set(self.split, self.score_scenes)?])
    }
}

/// A detector with what identifies it.
pub(in crate::cli) struct Detector {
    pub(in crate::cli) model: DetrModel,
    /// Folder and digest of its weights.
    pub(in crate::cli) key: String,
}

impl Detector {
    pub(in crate::cli) fn load(folder: &Path, device: Device) -> anyhow::Result<Self> {
        if folder.join(MANIFEST).is_file() {
            bail!(
                "{} is a bundle, whose detector is for photos (--data): rendered scenes need one that `hoi-train detr` wrote",
                folder.display()
            );
        }
        let model = DetrModel::load(folder, device).context("loading the detector")?;
        let weights = folder.join("model.safetensors");
        let bytes = std::fs::read(&weights).with_context(|| format!("cannot read {}", weights.display()))?;
        Ok(Self { model, key: hoi_runtime::bundle::sha256_hex(&bytes) })
    }

    /// Size of the input; the detector must take pictures of one size.
    pub(in crate::cli) fn input(&self) -> anyhow::Result<Size> {
        match self.model.settings.resize() {
            Resize::Exact(size) => Ok(size),
            Resize::ShortSide { .. } => {
                bail!("this detector takes pictures of any size; rendered scenes need one with a fixed input")
            }
        }
    }
}

/// What `make` makes of each scene, mirrored or not, from the cache where there is one.
pub(in crate::cli) fn scene_detections<T>(
    detector: &Detector,
    set: &RenderedScenes,
    mirrored: bool,
    cache: Option<&Path>,
    threads: usize,
    make: impl Fn(LabelledDetections) -> T,
) -> anyhow::Result<Vec<T>> {
    let RenderedConfig { size, seed, split, count } = *set.config();
    let name = format!("{}{}-{seed}-{count}", split.name(), if mirrored { "-mirrored" } else { "" });
    let shown = Shown {
        key: format!("rendered {name} of {size} by {}", detector.key),
        name,
        augmentation: Augmentation::exact(detector.input()?, if mirrored { 1.0 } else { 0.0 }),
        threads,
        skip_limit: 0,
    };
    Ok(detections(&detector.model, set, &shown, cache, make)?.0)
}

/// What rendered scenes are scored against.
pub(in crate::cli) struct RenderedTruth {
    vocabulary: Vocabulary,
    interactions: Vec<Vec<Option<usize>>>,
    count: usize,
    images: Vec<AnnotatedImage>,
}

impl RenderedTruth {
    pub(in crate::cli) fn new(set: &RenderedScenes) -> Self {
        let vocabulary = set.vocabulary().clone();
        let mut interactions = vec![vec![None; vocabulary.verb_count()]; vocabulary.object_count()];
        for (i, interaction) in set.interactions().iter().enumerate() {
            interactions[usize::from(interaction.object.0)][usize::from(interaction.verb.0)] = Some(i);
        }
        let images = (0..set.len()).map(|i| set.annotation(i)).collect();
        Self { vocabulary, interactions, count: set.interactions().len(), images }
    }

    pub(in crate::cli) fn truth(&self) -> Truth<'_> {
        Truth {
            vocabulary: &self.vocabulary,
            interactions: &self.interactions,
            count: self.count,
            images: &self.images,
        }
    }
}
