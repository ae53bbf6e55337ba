//! Which pictures a network is trained and scored on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use hoi_runtime::geometry::Size;

use crate::dataset::PictureSet;
use crate::dataset::hico_det::{HicoDet, HicoDetPictures};
use crate::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use crate::dataset::v_coco::{self, ActionRoles, VCoco, VCocoPictures};

/// What pictures are learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DataChoice {
    /// Drawn scenes, no files needed
    Rendered,
    /// HICO-DET
    HicoDet,
    /// V-COCO
    VCoco,
}

#[derive(Debug, Args)]
pub(super) struct DataArguments {
    /// What pictures are learned from
    #[arg(long, value_enum, default_value_t = DataChoice::Rendered)]
    data: DataChoice,
    /// Folder of the annotations
    #[arg(long, value_name = "DIR", required_if_eq_any([("data", "hico-det"), ("data", "v-coco")]))]
    root: Option<PathBuf>,
    /// Folder of the pictures; without it, that of the annotations
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Learn from a part of the training split and score on the rest, not on the test split
    #[arg(long)]
    holdout: bool,
    /// Rendered scenes to learn from
    #[arg(long, value_name = "N", default_value_t = 12000)]
    scenes: usize,
    /// Rendered scenes of the validation split to score on
    #[arg(long, value_name = "N", default_value_t = 500)]
    validation_scenes: usize,
}

/// Training and validation pictures, and what they are in words.
pub(super) struct PictureData {
    pub(super) training: Box<dyn PictureSet>,
    pub(super) validation: Box<dyn PictureSet>,
    pub(super) words: String,
    pub(super) validation_words: String,
}

impl DataArguments {
    /// Reads the annotation; pictures are opened later. `seed` is that of the rendered scenes.
    pub(super) fn open(&self, seed: u64) -> anyhow::Result<PictureData> {
        match (self.data, &self.root) {
            (DataChoice::Rendered, _) => self.rendered(seed),
            (DataChoice::HicoDet, Some(root)) => self.hico_det(root),
            (DataChoice::VCoco, Some(root)) => self.v_coco(root),
            (_, None) => anyhow::bail!("--root is needed: the folder of the annotations"),
        }
    }

    fn rendered(&self, seed: u64) -> anyhow::Result<PictureData> {
        let size = Size::new(160, 160);
        let set =
            |split, count| RenderedScenes::new(RenderedConfig { size, seed, split, count }).context("drawing scenes");
        Ok(PictureData {
            training: Box::new(set(Split::Train, self.scenes)?),
            validation: Box::new(set(Split::Validation, self.validation_scenes)?),
            words: format!("rendered scenes, {} of the training split, {size} pixels, seed {seed}", self.scenes),
            validation_words: "rendered scenes, validation split".to_owned(),
        })
    }

    fn images_of<'a>(&'a self, root: &'a Path) -> &'a Path {
        self.images.as_deref().unwrap_or(root)
    }

    fn hico_det(&self, root: &Path) -> anyhow::Result<PictureData> {
        let data = HicoDet::open(root)?;
        let mut training = data.train()?;
        // Images without a label have no boxes to learn.
        training.retain(|i| !i.pairs.is_empty());
        let (validation, words) = if self.holdout {
            let parts = data.held_out()?;
            let (kept, held): (Vec<_>, Vec<_>) = training
                .into_iter()
                .filter(|i| parts.train.contains(&i.number) || parts.val.contains(&i.number))
                .partition(|i| parts.train.contains(&i.number));
            training = kept;
            (held, "HICO-DET, held-out part of the training split")
        } else {
            (data.test()?, "HICO-DET, test split")
        };
        let images = self.images_of(root);
        let set = |of| Box::new(HicoDetPictures::new(of, data.table().clone(), images));
        Ok(PictureData {
            words: format!("HICO-DET, {} images of the training split", training.len()),
            training: set(training),
            validation: set(validation),
            validation_words: words.to_owned(),
        })
    }

    fn v_coco(&self, root: &Path) -> anyhow::Result<PictureData> {
        let data = VCoco::open(root)?;
        let (training, validation) = if self.holdout {
            (v_coco::Split::Train, v_coco::Split::Val)
        } else {
            (v_coco::Split::Trainval, v_coco::Split::Test)
        };
        let images = self.images_of(root);
        let set = |split| -> anyhow::Result<Box<VCocoPictures>> {
            Ok(Box::new(VCocoPictures::new(data.images(split)?, ActionRoles::WithoutPoint, images)?))
        };
        let learned = set(training)?;
        Ok(PictureData {
            words: format!("V-COCO, {} images of {}", learned.len(), training.name()),
            training: learned,
            validation: set(validation)?,
            validation_words: format!("V-COCO, {}", validation.name()),
        })
    }
}
