//! The run: parameters, optimizer and where training stands.

use std::path::{Path, PathBuf};

use hoi_runtime::sink::write_picture;
use indicatif::ProgressBar;
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use super::checkpoint::{self, CheckpointError, RunIdentity, Saved};
use super::config::{OptimizerChoice, Precision, RunConfig};
use super::curves::draw_curves;
use super::epoch::EpochSteps;
use super::record::{EpochRecord, Sums, to_csv};
use crate::accelerator::Autocast;
use crate::dataset::DatasetError;
use crate::export::{WriteError, write_beside};
use crate::optimizer::{AdamW, WeightDecay};

/// Parameters whose names start alike, with a learning rate of their own. Of several that fit, the longest prefix counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// How the names start.
    pub prefix: String,
    /// Factor on the learning rate; 0 freezes the parameters.
    pub rate: f64,
}

/// Where a run writes and how it starts.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Folder of checkpoint, log and curves; it is made where it is missing.
    pub folder: &'a Path,
    /// Go on from the folder's checkpoint; without this, a folder with a checkpoint is refused.
    pub resume: bool,
    /// Stop after this epoch, to be resumed later.
    pub stop_after: Option<usize>,
    /// Checkpoints within the epoch, every that many batches; one after each epoch is written in any case.
    pub checkpoint_every: Option<usize>,
    /// Counts pictures over all epochs.
    pub progress: &'a ProgressBar,
}

/// Length of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochShape {
    /// Batches.
    pub steps: usize,
    /// Pictures.
    pub pictures: usize,
}

impl EpochShape {
    /// All pictures in batches, the last of which may be smaller.
    pub fn new(pictures: usize, batch: usize) -> Self {
        Self { steps: pictures.div_ceil(batch.max(1)), pictures }
    }
}

/// Why training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
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
    /// There is nothing to train, or nothing to train on.
    #[error("there is nothing to train{}: {missing} are needed", if *.missing == "pictures" { " on" } else { "" })]
    Nothing {
        /// `pictures` or `parameters`.
        missing: &'static str,
    },
    /// Loss or gradient are no longer numbers.
    #[error("the {what} of epoch {epoch}, step {step} is {value}: try a smaller learning rate")]
    Diverged {
        /// `loss` or `gradient`.
        what: &'static str,
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1 within the epoch.
        step: usize,
        /// NaN or infinite.
        value: f64,
    },
    /// A picture cannot be read, and no more may be passed over.
    #[error("{name} cannot be used, and {limit} bad pictures are tolerated")]
    Picture {
        /// The picture.
        name: String,
        /// How many are tolerated.
        limit: usize,
        /// What is wrong with it.
        source: Box<DatasetError>,
    },
    /// The loader cannot go on.
    #[error("cannot load pictures: {reason}")]
    Loader {
        /// What is wrong.
        reason: String,
    },
    /// This libtorch, or this device, has no autocast to bfloat16.
    #[error("precision bf16: this libtorch has no autocast to bfloat16 for this device; use precision full")]
    NoAutocast,
    /// Checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Log or folder.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A run under way.
#[derive(Debug)]
pub struct Trainer {
    folder: PathBuf,
    stop_after: Option<usize>,
    pub(super) checkpoint_every: Option<usize>,
    pub(super) progress: ProgressBar,
    pub(super) config: RunConfig,
    config_value: Value,
    identity: RunIdentity,
    names: Vec<String>,
    pub(super) parameters: Vec<Tensor>,
    /// Factor on the learning rate, for each parameter.
    pub(super) rates: Vec<f64>,
    pub(super) optimizer: AdamW,
    /// Empty without an average.
    pub(super) average: Vec<Tensor>,
    pub(super) autocast: Option<Autocast>,
    pub(super) log: Vec<EpochRecord>,
    pub(super) partial: Sums,
}

fn copies(of: &[Tensor]) -> Vec<Tensor> {
    of.iter().map(|p| p.detach().copy()).collect()
}

fn overwrite(parameters: &mut [Tensor], values: &[Tensor]) {
    no_grad(|| parameters.iter_mut().zip(values).for_each(|(p, value)| p.copy_(value)));
}

impl Trainer {
    /// A run at its beginning, or where the folder's checkpoint left it; the store's variables then hold the checkpoint's.
    ///
    /// # Errors
    /// [`RunError`] when the configuration cannot be used, no variable is trainable, the folder cannot be made, holds a checkpoint
    /// without `resume`, or holds none, a damaged one or one of another run with it.
    pub fn start(
        store: &VarStore,
        groups: &[ParameterGroup],
        config: &RunConfig,
        identity: RunIdentity,
        options: &RunOptions<'_>,
    ) -> Result<Self, RunError> {
        config.check()?;
        let folder = options.folder.to_owned();
        std::fs::create_dir_all(&folder).map_err(|source| WriteError { path: folder.clone(), source })?;
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut names, mut parameters, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for (name, variable) in variables.into_iter().filter(|(_, v)| v.requires_grad()) {
            let group = groups.iter().filter(|g| name.starts_with(&g.prefix)).max_by_key(|g| g.prefix.len());
            let rate = group.map_or(1.0, |g| g.rate);
            if rate == 0.0 {
                let _ = variable.set_requires_grad(false);
                continue;
            }
            names.push(name);
            parameters.push(variable);
            rates.push(rate);
        }
        if names.is_empty() {
            return Err(RunError::Nothing { missing: "parameters" });
        }
        let autocast = match config.precision {
            Precision::Full => None,
            Precision::Bf16 => Some(Autocast::bfloat16(store.device()).ok_or(RunError::NoAutocast)?),
        };
        let config_value = serde_json::to_value(config)
            .map_err(|e| CheckpointError::Format { path: folder.clone(), reason: e.to_string() })?;
        let mut trainer = Self {
            optimizer: AdamW::new(&parameters, config.weight_decay),
            average: if config.average_decay > 0.0 { copies(&parameters) } else { Vec::new() },
            folder,
            stop_after: options.stop_after,
            checkpoint_every: options.checkpoint_every,
            progress: options.progress.clone(),
            config: config.clone(),
            config_value,
            identity,
            names,
            parameters,
            rates,
            autocast,
            log: Vec::new(),
            partial: Sums::default(),
        };
        if options.resume {
            trainer.resume()?;
        } else if checkpoint::holds_checkpoint(&trainer.folder) {
            return Err(CheckpointError::Present { folder: trainer.folder }.into());
        }
        trainer.optimizer.decay = match config.optimizer {
            OptimizerChoice::Adamw => WeightDecay::Apart,
            OptimizerChoice::Adam => WeightDecay::InGradient,
        };
        Ok(trainer)
    }

    fn resume(&mut self) -> Result<(), RunError> {
        let (state, mut tensors) = checkpoint::load(&self.folder, &self.identity, &self.config_value)?;
        let mut part = |part: &str| tensors.part(part, &self.names, &self.parameters);
        let values = part("parameter")?;
        let (first, second) = (part("first_moment")?, part("second_moment")?);
        if !self.average.is_empty() {
            self.average = part("average")?;
        }
        overwrite(&mut self.parameters, &values);
        self.optimizer = AdamW::resume(self.config.weight_decay, first, second, state.optimizer_steps);
        self.log = state.log;
        self.partial = state.partial;
        Ok(())
    }

    /// Runs the epochs that remain. `epoch` walks over the batches with [`EpochSteps::step`] and returns what it measured
    /// afterwards. After each epoch the folder holds a checkpoint, the log and the curves.
    ///
    /// # Errors
    /// What `epoch` returns, or [`RunError`] when there are no batches, training diverges or a file cannot be written; the last
    /// checkpoint then is still there.
    pub fn run<E: From<RunError>>(
        &mut self,
        shape: EpochShape,
        mut epoch: impl FnMut(&mut EpochSteps<'_>) -> Result<Vec<(&'static str, f64)>, E>,
    ) -> Result<(), E> {
        if shape.steps == 0 {
            return Err(RunError::Nothing { missing: "pictures" }.into());
        }
        self.progress.set_length((shape.pictures * self.config.epochs) as u64);
        self.progress.set_position((shape.pictures * self.log.len() + self.partial.pictures) as u64);
        self.progress.reset_eta();
        let last = self.stop_after.unwrap_or(self.config.epochs).min(self.config.epochs);
        for number in self.log.len()..last {
            let mut steps = EpochSteps::new(self, shape);
            let measured = epoch(&mut steps)?;
            let rate = steps.finish()?;
            let measured = measured.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let record = self.partial.record(number + 1, self.optimizer.steps(), rate, measured);
            self.tell(&record);
            self.log.push(record);
            self.partial = Sums::default();
            self.save()?;
            self.write_log().map_err(RunError::from)?;
        }
        Ok(())
    }

    /// Without a bar: a line an epoch, so that a job's log shows that it goes on.
    fn tell(&self, r: &EpochRecord) {
        if self.progress.is_hidden() {
            let measured: String = r.measured.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect();
            let (epochs, speed) = (self.config.epochs, r.images_per_second());
            eprintln!(
                "epoch {} of {epochs}, loss {:.4}{measured}, {:.0} s, {speed:.1} images/s",
                r.epoch, r.loss, r.seconds
            );
        }
    }

    pub(super) fn save(&self) -> Result<(), RunError> {
        let (first, second) = self.optimizer.moments();
        let parts = [
            ("parameter", &self.parameters[..]),
            ("average", &self.average),
            ("first_moment", first),
            ("second_moment", second),
        ];
        let saved = Saved {
            identity: &self.identity,
            config: &self.config_value,
            optimizer_steps: self.optimizer.steps(),
            log: &self.log,
            partial: &self.partial,
            parts: &parts,
            names: &self.names,
        };
        Ok(checkpoint::save(&self.folder, &saved)?)
    }

    fn write_log(&self) -> Result<(), WriteError> {
        write_beside(&self.folder.join("log.csv"), to_csv(&self.log).as_bytes())?;
        let path = self.folder.join("curves.png");
        write_picture(&draw_curves(&self.log), &path).map_err(|source| WriteError { path, source })
    }

    /// One record an epoch.
    pub fn log(&self) -> &[EpochRecord] {
        &self.log
    }

    /// Whether all epochs are behind us; false after [`RunOptions::stop_after`].
    pub fn finished(&self) -> bool {
        self.log.len() >= self.config.epochs
    }

    /// Runs `f` while the store holds the averaged weights; just runs it without an average.
    pub fn with_average<T>(&mut self, f: impl FnOnce() -> T) -> T {
        if self.average.is_empty() {
            return f();
        }
        let kept = copies(&self.parameters);
        overwrite(&mut self.parameters, &self.average);
        let result = f();
        overwrite(&mut self.parameters, &kept);
        result
    }

    /// Ends the run: the store then holds the averaged weights, or the last ones without an average.
    pub fn keep_average(mut self) {
        if !self.average.is_empty() {
            overwrite(&mut self.parameters, &self.average);
        }
    }
}
