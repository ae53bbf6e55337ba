//! Training on examples in memory, or on pictures that are read anew in each epoch.

use hoi_runtime::fusion::FusionError;
use hoi_runtime::vocabulary::Vocabulary;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::no_grad;

use super::example::{WeakBatch, WeakExample, image_labels};
use super::model::WeaklyModel;
use super::pictures::ProposedMaps;
use crate::dataset::augment::Augmentation;
use crate::eval::interactions::EvaluationError;
use crate::system::rmlr::{DetectError, FrozenDetector};
use crate::system::run::{EpochShape, RunConfig, RunError, StepLoss, Trainer};
use crate::text::TextError;

/// Why training or scoring failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeaklyError {
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
    /// The scoring rule.
    #[error(transparent)]
    Fusion(#[from] FusionError),
}

/// Images that tell the mean and deviation of features.
const STANDARDISED: usize = 400;

/// Takes mean and deviation of features from some of the examples ([`super::WeaklyNetwork::standardise`]), and lets s_g start where a
/// first batch says ([`super::WeaklyNetwork::start_offset`]); before the run is started or resumed.
pub fn prepare(model: &WeaklyModel, examples: &[WeakExample], batch: usize) {
    let batch_of = |examples: Vec<&WeakExample>| WeakBatch::new(&examples, model.store.device());
    if examples.is_empty() {
        return;
    }
    model.network.standardise(&batch_of(examples.iter().step_by(examples.len().div_ceil(STANDARDISED)).collect()));
    model.network.start_offset(&batch_of(examples.iter().take(batch.max(1)).collect()));
}

/// Trains `model` for the epochs that `trainer`, started with `config`, has left. `copies` are lists of the same images in the same
/// order, one of which is drawn for each image and epoch (as they are, and mirrored). After each epoch `validate` may measure
/// something for the log. A row that trains nothing (Abl 1) is left as it is.
///
/// # Errors
/// [`WeaklyError`] when the run fails or `validate` does.
pub fn train(
    model: &WeaklyModel,
    copies: &[Vec<WeakExample>],
    trainer: &mut Trainer,
    config: &RunConfig,
    mut validate: impl FnMut(&WeaklyModel) -> Result<Vec<(&'static str, f64)>, WeaklyError>,
) -> Result<(), WeaklyError> {
    if !model.config().parts.trained() {
        return Ok(());
    }
    let pictures = copies.first().map_or(0, Vec::len);
    let RunConfig { batch, seed, .. } = *config;
    let steps = pictures.div_ceil(batch.max(1));
    let after = model.config().self_taught.after_steps;
    trainer.run(EpochShape::new(pictures, batch), |epoch| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((epoch.number() as u64 + 1) << 32));
        let drawn: Vec<usize> = (0..pictures).map(|_| rng.random_range(0..copies.len())).collect();
        let mut order: Vec<usize> = (0..pictures).collect();
        order.shuffle(&mut rng);
        for (number, indices) in order.chunks(batch).enumerate().skip(epoch.done()) {
            let examples: Vec<&WeakExample> = indices.iter().map(|&i| &copies[drawn[i]][i]).collect();
            let counts = epoch.number() * steps + number >= after;
            epoch.step(examples.len(), || {
                let loss = model.loss(&examples, counts);
                Ok::<_, WeaklyError>(loss.map(|(total, parts)| StepLoss { total, parts }))
            })?;
        }
        epoch.with_average(|| validate(model))
    })
}

/// Pictures that are read, augmented and shown to the backbone anew in each epoch.
pub struct LiveSource<'a> {
    /// Pictures with their proposals, and what makes maps of them.
    pub maps: &'a ProposedMaps<'a>,
    /// Which of the pictures.
    pub indices: &'a [usize],
    /// What is done to them; no crops, which could lose what a label names.
    pub augmentation: &'a Augmentation,
    /// Threads that read; they change no result.
    pub threads: usize,
}

/// As [`train`], on pictures that are read anew; gradients reach the model's backbone where it has one. The log tells the labels of a
/// picture that no pair could carry (`uncarried`).
///
/// # Errors
/// [`WeaklyError`] when the run, a picture or the backbone fails.
pub fn train_live(
    model: &WeaklyModel,
    vocabulary: &Vocabulary,
    source: &LiveSource<'_>,
    trainer: &mut Trainer,
    config: &RunConfig,
) -> Result<(), WeaklyError> {
    if !model.config().parts.trained() {
        return Ok(());
    }
    let LiveSource { maps, indices, augmentation, threads } = *source;
    let shape = EpochShape::new(indices.len(), config.batch);
    let after = model.config().self_taught.after_steps;
    trainer.run(shape, |epoch| {
        let mut step = epoch.number() * shape.steps + epoch.done();
        epoch.each_batch(maps.pictures, indices, augmentation, threads, |pictures| {
            let found = match model.backbone() {
                Some(_) => maps.detect(pictures),
                None => no_grad(|| maps.detect(pictures)),
            };
            let examples: Vec<WeakExample> = found?
                .into_iter()
                .zip(&pictures.targets)
                .map(|(picture, target)| WeakExample::new(picture, image_labels(&target.pairs), vocabulary))
                .collect();
            let uncarried: usize = examples.iter().map(|e| e.uncarried().len()).sum();
            let loss = model.loss(&examples.iter().collect::<Vec<_>>(), step >= after);
            step += 1;
            Ok::<_, WeaklyError>(loss.map(|(total, mut parts)| {
                parts.push(("uncarried", uncarried as f64 / examples.len().max(1) as f64));
                StepLoss { total, parts }
            }))
        })?;
        Ok(Vec::new())
    })
}
