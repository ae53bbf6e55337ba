//! Frozen detectors.

use hoi_runtime::geometry::Size;
use indicatif::ProgressBar;
use tch::no_grad;

use super::cache::LabelledDetections;
use super::example::DetectedPicture;
use crate::dataset::PictureSet;
use crate::dataset::augment::Augmentation;
use crate::dataset::loader::{Batch, LoaderError, LoaderOptions, batches};
use crate::system::detr::DetrModel;

/// Why pictures could not be shown to the detector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The loader.
    #[error("{reason}")]
    Loader {
        /// What it says.
        reason: String,
    },
    /// The detector.
    #[error("the detector failed on {name}: {reason}")]
    Detector {
        /// The picture.
        name: String,
        /// What it says.
        reason: String,
    },
}

impl DetectError {
    /// What the loader says, with what is wrong with the picture.
    pub(super) fn from_loader<E: std::fmt::Display>(error: &LoaderError<E>) -> Self {
        let reason = match error {
            LoaderError::TooManySkipped { source, .. } => format!("{error}: {source}"),
            other => other.to_string(),
        };
        Self::Loader { reason }
    }
}

/// A detector that is not trained: boxes, tokens and a map, picture by picture.
pub trait FrozenDetector {
    /// Entities, tokens and map of each picture of a batch, after C3's suppression and selection; boxes in input pixels.
    ///
    /// # Errors
    /// [`DetectError`] naming the picture.
    fn detect(&self, batch: &Batch) -> Result<Vec<DetectedPicture>, DetectError>;

    /// Channels of the map.
    fn map_channels(&self) -> i64;

    /// Width of the tokens.
    fn token_width(&self) -> i64;
}

impl FrozenDetector for DetrModel {
    fn detect(&self, batch: &Batch) -> Result<Vec<DetectedPicture>, DetectError> {
        let stride = self.config().backbone.stride();
        let found = no_grad(|| DetrModel::detect(self, batch));
        let pictures = found.into_iter().zip(&batch.targets).map(|(found, target)| {
            let [_, rows, columns] = found.feature.size()[..] else { unreachable!("a map has three dimensions") };
            // The map's sides are rounded up, and may cover filling.
            let cells = |pixels: u32, most: i64| ((i64::from(pixels) + stride - 1) / stride).clamp(1, most);
            let (rows, columns) = (cells(target.input.height, rows), cells(target.input.width, columns));
            DetectedPicture {
                number: target.number,
                original: target.original,
                input: target.input,
                feature: found.feature.narrow(1, 0, rows).narrow(2, 0, columns).contiguous(),
                covered: Size::new((columns * stride) as u32, (rows * stride) as u32),
                entities: found.detections,
                tokens: found.tokens,
            }
        });
        Ok(pictures.collect())
    }

    fn map_channels(&self) -> i64 {
        self.config().backbone.channels()
    }

    fn token_width(&self) -> i64 {
        self.config().width
    }
}

/// How a set is shown to the detector.
#[derive(Clone, Copy, Debug)]
pub struct DetectOptions<'a> {
    /// Resizing; nothing random but what has probability 1.
    pub augmentation: &'a Augmentation,
    /// Pictures at a time.
    pub batch: usize,
    /// Threads that read.
    pub threads: usize,
    /// Pictures that may be unreadable.
    pub skip_limit: usize,
    /// Counts pictures.
    pub progress: &'a ProgressBar,
}

/// Shows the pictures `indices` of a set to the detector, in order, and hands each to `sink`. Returns the names of pictures that could not be read.
///
/// # Errors
/// What `sink` says, or [`DetectError`].
pub fn detect_set<E: From<DetectError> + std::fmt::Display>(
    detector: &dyn FrozenDetector,
    set: &dyn PictureSet,
    indices: &[usize],
    options: &DetectOptions<'_>,
    mut sink: impl FnMut(LabelledDetections) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let DetectOptions { augmentation, batch, threads, skip_limit, progress } = *options;
    let loader = LoaderOptions { batch, threads, seed: 0, epoch: 0, shuffle: false, skip_limit };
    let report = batches(set, indices, augmentation, &loader, |pictures| {
        let found = detector.detect(&pictures)?;
        progress.inc(found.len() as u64);
        for (picture, target) in found.into_iter().zip(pictures.targets) {
            sink(LabelledDetections { picture, pairs: target.pairs })?;
        }
        Ok(())
    })
    .map_err(|e| match e {
        LoaderError::Consumer(e) => e,
        other => E::from(DetectError::from_loader(&other)),
    })?;
    Ok(report.skipped.into_iter().map(|s| s.name).collect())
}
