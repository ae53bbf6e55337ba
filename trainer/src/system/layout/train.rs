//! Training: an epoch is every image once, each time with fresh distractors.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::batches::batches_of_epoch;
use super::checkpoint::{self, CheckpointError, Progress};
use super::config::TrainingConfig;
use super::network::{LayoutNetwork, LayoutShape, Pairs, Standardisation};
use crate::dataset::layout::{Draw, SceneSet};
use crate::export::{WriteError, write_beside};
use crate::loss::FocalLoss;
use crate::optimizer::{AdamW, CosineSchedule, clip_gradients};

/// What is known of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps so far.
    pub steps: u64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
    /// Pairs seen.
    pub pairs: usize,
    /// Speed.
    pub images_per_second: f64,
    /// Duration of the epoch.
    pub seconds: f64,
}

/// Where a run writes and how it starts.
#[derive(Debug)]
pub struct Run<'a> {
    /// Folder of checkpoint and log; it exists.
    pub folder: &'a Path,
    /// Go on from the folder's checkpoint; without this, a folder with a checkpoint is refused.
    pub resume: bool,
    /// Stop after this epoch, to be resumed later.
    pub stop_after: Option<usize>,
    /// Where the network lives.
    pub device: Device,
    /// Trained networks whose mean probabilities are learned beside the annotation; may be none.
    pub teachers: &'a [LayoutNetwork],
    /// Counts images over all epochs.
    pub progress: &'a ProgressBar,
}

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration cannot be used.
    #[error("{field} is {value}: {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// There is nothing to train on.
    #[error("none of the {images} images holds a human-object pair")]
    NoPairs {
        /// Images looked at.
        images: usize,
    },
    /// The loss is no longer a number.
    #[error("the loss of epoch {epoch}, step {step} is {loss}: try a smaller learning rate")]
    Diverged {
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1 over all epochs.
        step: u64,
        /// NaN or infinite.
        loss: f64,
    },
    /// Checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Log.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A trained network, with the averaged weights.
#[derive(Debug)]
pub struct TrainedLayout {
    /// The network to evaluate and export.
    pub network: LayoutNetwork,
    /// One record an epoch.
    pub log: Vec<EpochRecord>,
    /// False when the run stopped early ([`Run::stop_after`]).
    pub finished: bool,
}

/// `[objects, verbs]`: 1 where the vocabulary knows the verb for the object.
fn validity(vocabulary: &Vocabulary) -> Tensor {
    let verbs = vocabulary.verb_count();
    let mut valid = vec![0f32; vocabulary.object_count() * verbs];
    for object in 0..vocabulary.object_count() {
        for verb in vocabulary.valid_verbs(ObjectClass(object as u16)) {
            valid[object * verbs + verb.0 as usize] = 1.0;
        }
    }
    Tensor::from_slice(&valid).view([-1, verbs as i64])
}

fn draw_of(config: &TrainingConfig, epoch: usize) -> Draw {
    Draw { setting: config.setting, seed: config.seed, epoch: epoch as u64, flip: config.flip }
}

/// A fresh network, standardised by the pairs of the first epoch.
fn start(set: &SceneSet, config: &TrainingConfig, shape: LayoutShape, device: Device) -> Result<Progress, TrainError> {
    let rows: Vec<f32> = batches_of_epoch(set, draw_of(config, 0), config.merged_share, config.batch_images)
        .flat_map(|b| b.spatial)
        .collect();
    if rows.is_empty() {
        return Err(TrainError::NoPairs { images: set.scenes().len() });
    }
    let network = LayoutNetwork::new(shape, Standardisation::of_rows(&rows), config.seed, device);
    let average = network.parameters().iter().map(|p| p.detach().copy()).collect();
    let optimizer = AdamW::new(network.parameters(), config.weight_decay);
    Ok(Progress { network, average, optimizer, log: Vec::new() })
}

/// Trains the layout head on `set`. After each epoch the folder holds a checkpoint and `log.csv`.
///
/// Weights, order and distractors follow from the seed, so that a resumed run ends where an uninterrupted one does.
///
/// # Errors
/// [`TrainError`] when the configuration cannot be used, there is nothing to learn, the checkpoint belongs to another run or
/// cannot be written, or training diverges.
pub fn train(
    set: &SceneSet,
    vocabulary: &Vocabulary,
    config: &TrainingConfig,
    run: &Run<'_>,
) -> Result<TrainedLayout, TrainError> {
    config.check()?;
    let shape = LayoutShape {
        objects: vocabulary.object_count() as i64,
        verbs: vocabulary.verb_count() as i64,
        hidden: config.hidden,
        embedding: config.embedding,
        heads: config.heads,
    };
    let data = format!("{} images, fingerprint {:016x}", set.scenes().len(), set.fingerprint());
    let mut state = if run.resume {
        checkpoint::load(run.folder, config, &data, &shape, run.device)?
    } else if checkpoint::exists(run.folder) {
        return Err(CheckpointError::Present { folder: run.folder.to_owned() }.into());
    } else {
        start(set, config, shape, run.device)?
    };
    let valid = validity(vocabulary).to_device(run.device);
    let images = set.scenes().len();
    run.progress.set_length((images * config.epochs) as u64);
    run.progress.set_position((images * state.log.len()) as u64);
    run.progress.reset_eta();
    let last = run.stop_after.unwrap_or(config.epochs).min(config.epochs);
    for epoch in state.log.len()..last {
        let record = train_epoch(set, config, run, epoch, &valid, &mut state)?;
        state.log.push(record);
        checkpoint::save(run.folder, &state, config, &data)?;
        write_log(&run.folder.join("log.csv"), &state.log)?;
    }
    let finished = state.log.len() == config.epochs;
    let network = LayoutNetwork::from_parameters(shape, state.network.standardisation().clone(), state.average);
    Ok(TrainedLayout { network, log: state.log, finished })
}

fn train_epoch(
    set: &SceneSet,
    config: &TrainingConfig,
    run: &Run<'_>,
    epoch: usize,
    valid: &Tensor,
    state: &mut Progress,
) -> Result<EpochRecord, TrainError> {
    let steps_per_epoch = set.scenes().len().div_ceil(config.batch_images) as u64;
    let total_steps = steps_per_epoch * config.epochs as u64;
    let schedule = CosineSchedule {
        peak: config.learning_rate,
        warmup_steps: (total_steps as f64 * config.warmup) as u64,
        total_steps,
    };
    let loss_of = FocalLoss::default();
    // Which values are dropped depends on seed, epoch and step alone, so that a resumed run goes the same way.
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed.wrapping_mul(1_000_003).wrapping_add(epoch as u64));
    let began = Instant::now();
    let (mut losses, mut batches, mut pairs) = (0.0, 0u32, 0);
    let mut learning_rate = 0.0;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(16);
        let draw = draw_of(config, epoch);
        scope.spawn(move || {
            for batch in batches_of_epoch(set, draw, config.merged_share, config.batch_images) {
                // The receiver is gone when training stopped with an error.
                if send.send(batch).is_err() {
                    return;
                }
            }
        });
        for (i, batch) in (0..).zip(receive) {
            run.progress.inc(batch.images as u64);
            if batch.object_class.is_empty() {
                continue;
            }
            let given = batch.pairs(run.device);
            let labels = batch.labels(state.network.shape().verbs, run.device);
            let dropout = (config.dropout > 0.0).then_some((config.dropout, &mut rng));
            let logits = state.network.forward_with(&given, None, dropout);
            // Boxes are given, so s_h = s_o = 1.
            let prior = Tensor::ones([logits.size()[0], 1], (Kind::Float, run.device));
            let valid = valid.index_select(0, &given.object_class);
            let mut loss = loss_of.forward(&logits, &labels, &prior, &valid);
            if !run.teachers.is_empty() {
                let taught = distance_to_teachers(run.teachers, &given, &logits, &valid, config.temperature);
                let positives = (&labels * &valid).sum(Kind::Float).clamp_min(1.0);
                loss = loss * (1.0 - config.teacher_weight) + taught / positives * config.teacher_weight;
            }
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                let step = steps_per_epoch * epoch as u64 + i + 1;
                return Err(TrainError::Diverged { epoch: epoch + 1, step, loss: value });
            }
            loss.backward();
            clip_gradients(state.network.parameters(), config.max_gradient);
            // A batch without pairs takes no step, but its place in the schedule.
            learning_rate = schedule.rate(steps_per_epoch * epoch as u64 + i);
            state.optimizer.step(state.network.parameters_mut(), learning_rate);
            // The average starts as a plain mean, so that the random beginning is forgotten.
            let steps = state.optimizer.steps() as f64;
            average(&mut state.average, state.network.parameters(), config.average_decay.min(steps / (steps + 10.0)));
            losses += value;
            batches += 1;
            pairs += batch.object_class.len();
            if i % 50 == 0 {
                run.progress.set_message(format!("epoch {}/{} loss {value:.3}", epoch + 1, config.epochs));
            }
        }
        Ok(())
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if run.progress.is_hidden() {
        // No terminal: a line an epoch, so that a job's log shows that it goes on.
        let mean = losses / f64::from(batches.max(1));
        eprintln!("epoch {} of {}, loss {mean:.4}, {seconds:.0} s", epoch + 1, config.epochs);
    }
    Ok(EpochRecord {
        epoch: epoch + 1,
        steps: state.optimizer.steps(),
        learning_rate,
        loss: losses / f64::from(batches.max(1)),
        pairs,
        images_per_second: set.scenes().len() as f64 / seconds.max(1e-9),
        seconds,
    })
}

/// Cross-entropy of each valid verb against the teachers' mean probability, both at a temperature T, times T^2 so that gradients keep their
/// size (Hinton, Vinyals and Dean, 2015); summed, less the teachers' own entropy.
fn distance_to_teachers(
    teachers: &[LayoutNetwork],
    pairs: &Pairs,
    logits: &Tensor,
    valid: &Tensor,
    temperature: f64,
) -> Tensor {
    let probabilities = no_grad(|| {
        let each = teachers.iter().map(|t| (t.forward(pairs) / temperature).sigmoid());
        each.reduce(|a, b| a + b).map(|sum| sum / teachers.len() as f64)
    });
    let Some(target) = probabilities else { return Tensor::from(0f32) };
    let x = logits / temperature;
    let cross_entropy = x.softplus() - &x * &target;
    let own = target.special_entr() + (target.neg() + 1.0).special_entr();
    ((cross_entropy - own) * valid).sum(Kind::Float) * (temperature * temperature)
}

fn average(average: &mut [Tensor], parameters: &[Tensor], decay: f64) {
    no_grad(|| {
        for (a, p) in average.iter_mut().zip(parameters) {
            *a *= decay;
            *a += p.detach() * (1.0 - decay);
        }
    });
}

fn write_log(path: &Path, log: &[EpochRecord]) -> Result<(), WriteError> {
    let mut text = String::from("epoch,steps,learning_rate,loss,pairs,images_per_second,seconds\n");
    for r in log {
        let EpochRecord { epoch, steps, learning_rate, loss, pairs, images_per_second, seconds } = r;
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{epoch},{steps},{learning_rate:.3e},{loss:.5},{pairs},{images_per_second:.0},{seconds:.2}");
    }
    write_beside(path, text.as_bytes())
}
