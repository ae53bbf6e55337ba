//! The frozen detectors that photos can be shown to.

use std::path::Path;

use anyhow::{Context, bail};
use hoi_runtime::bundle::MANIFEST;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::vocabulary::Vocabulary;
use tch::Device;

use crate::cli::detected::Detector;
use crate::dataset::augment::{Augmentation, Resize};
use crate::system::rmlr::{BundleDetector, FrozenDetector};

/// A frozen detector for photos.
pub(super) enum PhotoDetector {
    Detr(Box<Detector>),
    Bundle(Box<BundleDetector>),
}

impl PhotoDetector {
    pub(super) fn load(folder: &Path, vocabulary: &Vocabulary, device: Device) -> anyhow::Result<Self> {
        if folder.join(MANIFEST).is_file() {
            let found = BundleDetector::load(folder, vocabulary, &TractEngine::default());
            let detector = found.context("loading the detector")?;
            if !detector.unknown_classes().is_empty() {
                eprintln!(
                    "hoi-train: the data set does not have these classes of the detector, they are dropped: {}",
                    detector.unknown_classes().join(", ")
                );
            }
            return Ok(Self::Bundle(Box::new(detector)));
        }
        let detector = Detector::load(folder, device)?;
        let (own, wanted) = (detector.model.vocabulary.spec(), vocabulary.spec());
        if (&own.objects, &own.human) != (&wanted.objects, &wanted.human) {
            let differs = own.objects.iter().zip(&wanted.objects).find(|(a, b)| a != b);
            let differs =
                differs.map_or_else(String::new, |(a, b)| format!(", the first that differ are `{a}` and `{b}`"));
            bail!(
                "the detector in {} has another vocabulary than the data set: {} classes against {}{differs}; it must be trained on the \
                 data set's classes",
                folder.display(),
                own.objects.len(),
                wanted.objects.len(),
            );
        }
        Ok(Self::Detr(Box::new(detector)))
    }

    pub(super) fn frozen(&self) -> &dyn FrozenDetector {
        match self {
            Self::Detr(detector) => &detector.model,
            Self::Bundle(detector) => &**detector,
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Detr(detector) => &detector.key,
            Self::Bundle(detector) => detector.key(),
        }
    }

    pub(super) fn resize(&self) -> Resize {
        match self {
            Self::Detr(detector) => detector.model.settings.resize(),
            Self::Bundle(detector) => Resize::Exact(detector.input()),
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        match self {
            Self::Detr(_) => 0,
            Self::Bundle(detector) => detector.dropped(),
        }
    }

    /// The resize alone; mirrored or not.
    pub(super) fn plain(&self, mirrored: bool) -> Augmentation {
        let flip = if mirrored { 1.0 } else { 0.0 };
        Augmentation { flip, resize: self.resize(), ..Augmentation::test() }
    }
}
