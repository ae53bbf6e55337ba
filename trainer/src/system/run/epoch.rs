//! The steps of an epoch.

use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Tensor, no_grad};

use super::trainer::{EpochShape, RunError, Trainer};
use crate::dataset::PictureSet;
use crate::dataset::augment::Augmentation;
use crate::dataset::loader::{Batch, LoaderError, LoaderOptions, batches};
use crate::optimizer::clip_gradients;

/// What a batch costs.
#[derive(Debug)]
pub struct StepLoss {
    /// The scalar that is minimised.
    pub total: Tensor,
    /// What it is made of, for the log.
    pub parts: Vec<(&'static str, f64)>,
}

/// An epoch under way.
#[derive(Debug)]
pub struct EpochSteps<'a> {
    trainer: &'a mut Trainer,
    shape: EpochShape,
    /// Gradients that no step has used yet.
    pending: bool,
    rate: f64,
    clock: Instant,
}

/// Spreads seeds and positions over all 64 bits.
fn mix(seed: u64, position: u64) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(position)
}

impl<'a> EpochSteps<'a> {
    pub(super) fn new(trainer: &'a mut Trainer, shape: EpochShape) -> Self {
        Self { trainer, shape, pending: false, rate: 0.0, clock: Instant::now() }
    }

    /// The epoch, counted from 0.
    pub fn number(&self) -> usize {
        self.trainer.log.len()
    }

    /// Batches of this epoch that a resumed run has behind it: leave them out. [`Self::each_batch`] does.
    pub fn done(&self) -> usize {
        self.trainer.partial.batches
    }

    /// Walks over the pictures `indices` of a set once, in an order that follows from seed and epoch, and takes a step for each
    /// batch. What a resumed run has behind it is left out. `threads` read and augment; they change no result.
    ///
    /// # Errors
    /// What `loss` returns, or [`RunError`]: of [`Self::step`], and when more pictures than the run tolerates cannot be read.
    pub fn each_batch<E: From<RunError>>(
        &mut self,
        set: &dyn PictureSet,
        indices: &[usize],
        augmentation: &Augmentation,
        threads: usize,
        mut loss: impl FnMut(&Batch) -> Result<Option<StepLoss>, E>,
    ) -> Result<(), E> {
        let mut order = indices.to_vec();
        let config = &self.trainer.config;
        let seed = mix(config.seed, self.number() as u64);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut place = vec![0; set.len()];
        for (at, &index) in order.iter().enumerate() {
            if let Some(place) = place.get_mut(index) {
                *place = at;
            }
        }
        let before = self.trainer.partial.pictures + self.trainer.partial.skipped;
        let skipped: usize = self.trainer.log.iter().map(|r| r.skipped).sum::<usize>() + self.trainer.partial.skipped;
        let options = LoaderOptions {
            batch: config.batch,
            threads,
            seed: config.seed,
            epoch: self.number() as u64,
            shuffle: false,
            skip_limit: config.skip_limit.saturating_sub(skipped),
        };
        let rest = order.get(before..).unwrap_or_default();
        let walked = batches(set, rest, augmentation, &options, |batch| {
            let pictures = batch.targets.len();
            // What lies between the pictures handed over could not be read.
            let reached = batch.targets.last().and_then(|t| place.get(t.index)).map_or(before, |at| at + 1);
            let partial = &mut self.trainer.partial;
            partial.skipped = reached.saturating_sub(partial.pictures + pictures);
            self.step(pictures, || loss(&batch))
        });
        match walked {
            Ok(_) => {
                self.trainer.partial.skipped = order.len() - self.trainer.partial.pictures.min(order.len());
                Ok(())
            }
            Err(LoaderError::Consumer(error)) => Err(error),
            Err(LoaderError::Options { what, reason }) => {
                Err(RunError::Loader { reason: format!("{what}: {reason}") }.into())
            }
            Err(LoaderError::TooManySkipped { limit, name, source, .. }) => {
                Err(RunError::Picture { limit: limit + skipped, name, source }.into())
            }
            Err(LoaderError::ThreadStopped { name }) => {
                Err(RunError::Loader { reason: format!("reading {name} stopped a thread") }.into())
            }
        }
    }

    /// Runs `f` while the store holds the averaged weights; just runs it without an average.
    pub fn with_average<T>(&mut self, f: impl FnOnce() -> T) -> T {
        self.trainer.with_average(f)
    }

    /// A batch of `pictures`: its loss, the gradients, and a step of the optimizer when enough batches are together. A batch without
    /// a loss takes no step, but its place in the schedule.
    ///
    /// # Errors
    /// What `loss` returns, or [`RunError`] when loss or gradient are no numbers or a checkpoint cannot be written.
    pub fn step<E: From<RunError>>(
        &mut self,
        pictures: usize,
        loss: impl FnOnce() -> Result<Option<StepLoss>, E>,
    ) -> Result<(), E> {
        let trainer = &mut *self.trainer;
        let epoch = trainer.log.len() as u64;
        let position = epoch * self.shape.steps as u64 + trainer.partial.batches as u64;
        tch::manual_seed(mix(trainer.config.seed, position) as i64);
        let loss = match &trainer.autocast {
            None => loss()?,
            Some(autocast) => autocast.run(loss)?,
        };
        let factor = trainer.config.schedule.factor(position, self.shape.steps as u64, trainer.config.epochs);
        self.rate = trainer.config.learning_rate * factor;
        let mut shown = None;
        if let Some(StepLoss { total, parts }) = loss {
            let value = total.double_value(&[]);
            if !value.is_finite() {
                return Err(self.diverged("loss", value).into());
            }
            (total / trainer.config.accumulate as f64).backward();
            trainer.partial.add(value, &parts);
            self.pending = true;
            shown = Some(value);
        }
        trainer.partial.batches += 1;
        trainer.partial.pictures += pictures;
        let batches = trainer.partial.batches;
        if batches.is_multiple_of(trainer.config.accumulate) || batches == self.shape.steps {
            self.update()?;
        }
        self.count_time();
        let trainer = &*self.trainer;
        trainer.progress.inc(pictures as u64);
        if let Some(value) = shown {
            let (epoch, epochs) = (epoch + 1, trainer.config.epochs);
            trainer.progress.set_message(format!("epoch {epoch}/{epochs} loss {value:.3}"));
        }
        let due = trainer.checkpoint_every.is_some_and(|every| every > 0 && batches.is_multiple_of(every));
        if due && !self.pending && batches < self.shape.steps {
            trainer.save()?;
        }
        Ok(())
    }

    fn count_time(&mut self) {
        self.trainer.partial.seconds += self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
    }

    fn diverged(&self, what: &'static str, value: f64) -> RunError {
        RunError::Diverged { what, epoch: self.number() + 1, step: self.done() + 1, value }
    }

    /// A step of the optimizer along the gradients so far.
    fn update(&mut self) -> Result<(), RunError> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let trainer = &mut *self.trainer;
        let most = if trainer.config.max_gradient > 0.0 { trainer.config.max_gradient } else { f64::INFINITY };
        let norm = clip_gradients(&trainer.parameters, most);
        if !norm.is_finite() {
            return Err(self.diverged("gradient", norm));
        }
        let (rate, rates) = (self.rate, &trainer.rates);
        trainer.optimizer.step_each(&mut trainer.parameters, |i| rate * rates[i]);
        trainer.partial.gradient += norm;
        trainer.partial.optimizer_steps += 1;
        // The average starts as a plain mean, so that the random beginning is forgotten.
        let steps = trainer.optimizer.steps() as f64;
        let decay = trainer.config.average_decay.min(steps / (steps + 10.0));
        no_grad(|| {
            for (average, parameter) in trainer.average.iter_mut().zip(&trainer.parameters) {
                let _ = average.lerp_(parameter, 1.0 - decay);
            }
        });
        Ok(())
    }

    /// Uses what gradients are left (the loader gave fewer batches than announced); the last learning rate.
    pub(super) fn finish(mut self) -> Result<f64, RunError> {
        self.update()?;
        Ok(self.rate)
    }
}
