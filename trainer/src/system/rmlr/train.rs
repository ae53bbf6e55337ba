//! Training on what the frozen detector said: from memory, or picture by picture with augmentation.

use hoi_runtime::vocabulary::Vocabulary;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::no_grad;

use super::detect::{DetectError, FrozenDetector};
use super::example::Example;
use super::model::RmlrModel;
use super::texts::Texts;
use crate::dataset::PictureSet;
use crate::dataset::augment::Augmentation;
use crate::eval::interactions::EvaluationError;
use crate::system::run::{EpochShape, RunConfig, RunError, StepLoss, Trainer};
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
    /// The scores.
    #[error(transparent)]
    Score(#[from] EvaluationError),
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
    let detach_words = model.config().language.detach_words;
    trainer.run(EpochShape::new(pictures, batch), |epoch| {
        let detach = detach_words.in_epoch(epoch.number(), epochs);
        match source {
            Source::Cached { copies, texts } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((epoch.number() as u64 + 1) << 32));
                let drawn: Vec<usize> = (0..pictures).map(|_| rng.random_range(0..copies.len())).collect();
                let mut order: Vec<usize> = (0..pictures).collect();
                order.shuffle(&mut rng);
                for indices in order.chunks(batch).skip(epoch.done()) {
                    let examples: Vec<&Example> = indices.iter().map(|&i| &copies[drawn[i]][i]).collect();
                    let texts: Vec<&ImageText> = indices.iter().filter_map(|&i| texts.get(i)).collect();
                    epoch.step(examples.len(), || Ok::<_, RmlrError>(loss_of(model, &examples, &texts, detach)))?;
                }
            }
            Source::Live { set, indices, augmentation, threads, detector, texts } => {
                epoch.each_batch(*set, indices, augmentation, *threads, |pictures| {
                    let pooling = model.config().shape.pooling;
                    let found = no_grad(|| detector.detect(pictures))?;
                    let examples: Vec<Example> = found
                        .into_iter()
                        .zip(&pictures.targets)
                        .map(|(picture, target)| Example::new(picture, &target.pairs, vocabulary, pooling))
                        .collect();
                    let examples: Vec<&Example> = examples.iter().collect();
                    let read = texts.as_ref().map(|t| t.of(&examples)).transpose()?.unwrap_or_default();
                    Ok::<_, RmlrError>(loss_of(model, &examples, &read.iter().collect::<Vec<_>>(), detach))
                })?;
            }
        }
        epoch.with_average(|| validate(model))
    })
}

fn loss_of(model: &RmlrModel, examples: &[&Example], texts: &[&ImageText], detach: bool) -> Option<StepLoss> {
    model.loss(examples, texts, detach).map(|(total, parts)| StepLoss { total, parts })
}
