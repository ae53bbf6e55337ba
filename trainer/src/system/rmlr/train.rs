//! Training on what the frozen detector said: from memory, or picture by picture with augmentation.

use hoi_runtime::vocabulary::Vocabulary;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::no_grad;

use super::detect::{DetectError, FrozenDetector};
use super::example::Example;
use super::model::RmlrModel;
use super::texts::Texts;
use crate::dataset::PictureSet;
use crate::dataset::augment::Augmentation;
use crate::dataset::loader::{LoaderError, LoaderOptions, batches};
use crate::system::run::{EpochShape, EpochSteps, RunConfig, RunError, StepLoss, Trainer};
use crate::text::{ImageText, TextError};

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RmlrError {
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The detector.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The pictures.
    #[error("{0:#}")]
    Loader(String),
}

/// Where training pictures come from.
pub enum Source<'a> {
    /// Examples in memory: `copies` lists of the same pictures in the same order, one of which is drawn for each picture and epoch
    /// (as they are, and mirrored).
    Cached {
        /// Lists of examples, all equally long.
        copies: &'a [Vec<Example>],
        /// Text of the pictures; empty where no transfer loss counts.
        texts: &'a [ImageText],
    },
    /// Pictures read, augmented and shown to the detector anew in each epoch.
    Live {
        /// The data set.
        set: &'a dyn PictureSet,
        /// Which of its pictures.
        indices: &'a [usize],
        /// What is done to them.
        augmentation: &'a Augmentation,
        /// Threads that read.
        threads: usize,
        /// The frozen detector.
        detector: &'a dyn FrozenDetector,
        /// The text encoder, where a transfer loss counts.
        texts: Option<Texts<'a>>,
    },
}

impl Source<'_> {
    fn pictures(&self) -> usize {
        match self {
            Source::Cached { copies, .. } => copies.first().map_or(0, Vec::len),
            Source::Live { indices, .. } => indices.len(),
        }
    }
}

/// Trains `model` for the epochs that `trainer`, started with `config`, has left. After each epoch `validate` may measure something
/// for the log.
///
/// # Errors
/// [`RmlrError`] when a picture, the detector, the text or the run fails.
pub fn train(
    model: &RmlrModel,
    vocabulary: &Vocabulary,
    source: &Source<'_>,
    trainer: &mut Trainer,
    config: &RunConfig,
    mut validate: impl FnMut(&RmlrModel) -> Result<Vec<(&'static str, f64)>, RmlrError>,
) -> Result<(), RmlrError> {
    let pictures = source.pictures();
    let RunConfig { batch, seed, epochs, .. } = *config;
    let from = model.config().language.detach_words_from;
    trainer.run(EpochShape { steps: pictures.div_ceil(batch.max(1)), pictures }, |epoch| {
        let detach = epoch.number() as f64 >= from * epochs as f64;
        match source {
            Source::Cached { copies, texts } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((epoch.number() as u64 + 1) << 32));
                let drawn: Vec<usize> = (0..pictures).map(|_| rng.random_range(0..copies.len())).collect();
                for indices in epoch.order(pictures).chunks(batch).skip(epoch.done()) {
                    let examples: Vec<&Example> = indices.iter().map(|&i| &copies[drawn[i]][i]).collect();
                    let texts: Vec<&ImageText> = indices.iter().filter_map(|&i| texts.get(i)).collect();
                    step(model, &examples, &texts, detach, epoch)?;
                }
            }
            Source::Live { set, indices, augmentation, threads, detector, texts } => {
                let options = LoaderOptions {
                    batch,
                    threads: *threads,
                    seed,
                    epoch: epoch.number() as u64,
                    shuffle: true,
                    skip_limit: epoch.skips_left(),
                };
                let mut behind = epoch.done();
                let report = batches(*set, indices, augmentation, &options, |pictures| {
                    if behind > 0 {
                        behind -= 1;
                        return Ok(());
                    }
                    let pooling = model.config().shape.pooling;
                    let found = no_grad(|| detector.detect(&pictures))?;
                    let examples: Vec<Example> = found
                        .into_iter()
                        .zip(&pictures.targets)
                        .map(|(picture, target)| Example::new(picture, &target.pairs, vocabulary, pooling))
                        .collect();
                    let examples: Vec<&Example> = examples.iter().collect();
                    let read = texts.as_ref().map(|t| t.of(&examples)).transpose()?.unwrap_or_default();
                    step(model, &examples, &read.iter().collect::<Vec<_>>(), detach, epoch)
                })
                .map_err(|e| match e {
                    LoaderError::Consumer(e) => e,
                    other => RmlrError::Loader(with_causes(&other)),
                })?;
                epoch.skip(report.skipped.len());
            }
        }
        epoch.with_average(|| validate(model))
    })
}

/// An error and what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    text
}

fn step(
    model: &RmlrModel,
    examples: &[&Example],
    texts: &[&ImageText],
    detach: bool,
    epoch: &mut EpochSteps<'_>,
) -> Result<(), RmlrError> {
    epoch.step(examples.len(), || {
        Ok(model.loss(examples, texts, detach).map(|(total, parts)| StepLoss { total, parts }))
    })
}
