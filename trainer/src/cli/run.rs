//! What all trainings on pictures can be told.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tch::Device;

use crate::export::write_beside;
use crate::system::run::{DeviceChoice, OptimizerChoice, Precision, RunConfig, RunOptions, Schedule, progress_bar};

/// Options of a run; what is left out keeps the system's own value.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Where the model, checkpoints, log.csv and curves.png go
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Go on from the checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Stop after this epoch; --resume goes on
    #[arg(long, value_name = "EPOCH")]
    stop_after: Option<usize>,
    /// Also write a checkpoint every that many batches
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<usize>,
    /// Passes over all pictures
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of weights, order, augmentation and dropout
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Pictures in a batch
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Batches whose gradients are averaged into one step
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Rule of a step
    #[arg(long, value_enum)]
    optimizer: Option<OptimizerChoice>,
    /// Highest learning rate
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient; 0: any
    #[arg(long, value_name = "X")]
    clip: Option<f64>,
    /// Half a cosine down to zero, after a rise over this share of all steps
    #[arg(long, value_name = "SHARE", conflicts_with = "drop_after")]
    warmup: Option<f64>,
    /// Constant learning rate, but a tenth after each of these epochs
    #[arg(long, value_name = "EPOCH,...", value_delimiter = ',')]
    drop_after: Option<Vec<usize>>,
    /// Decay of the average of the weights, which is what is kept in the end; 0: no average
    #[arg(long, value_name = "X")]
    average_decay: Option<f64>,
    /// Numbers of the forward pass
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Pictures that may be unreadable over the run
    #[arg(long, value_name = "N")]
    skip_limit: Option<usize>,
    /// Where to train
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Threads of libtorch on the processor; results are the same bit by bit only with the same number
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// Threads that read and augment pictures; they change no result
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    loader_threads: u8,
}

impl RunArguments {
    /// The system's configuration with what the command line says.
    pub(super) fn config(&self, own: RunConfig) -> RunConfig {
        let schedule = match (self.warmup, &self.drop_after) {
            (Some(warmup), _) => Schedule::Cosine { warmup },
            (None, Some(after)) => Schedule::Step { after: after.clone(), factor: 0.1 },
            (None, None) => own.schedule,
        };
        RunConfig {
            epochs: self.epochs.unwrap_or(own.epochs),
            seed: self.seed,
            batch: self.batch.unwrap_or(own.batch),
            accumulate: self.accumulate.unwrap_or(own.accumulate),
            optimizer: self.optimizer.unwrap_or(own.optimizer),
            learning_rate: self.learning_rate.unwrap_or(own.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(own.weight_decay),
            max_gradient: self.clip.unwrap_or(own.max_gradient),
            schedule,
            average_decay: self.average_decay.unwrap_or(own.average_decay),
            precision: self.precision.unwrap_or(own.precision),
            skip_limit: self.skip_limit.unwrap_or(own.skip_limit),
        }
    }

    /// Sets libtorch's threads and finds the device.
    pub(super) fn device(&self) -> anyhow::Result<Device> {
        tch::set_num_threads(i32::from(self.threads));
        Ok(self.device.device()?)
    }

    /// Makes the folder.
    pub(super) fn make_folder(&self) -> anyhow::Result<&Path> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        Ok(&self.out)
    }

    pub(super) fn progress(&self) -> ProgressBar {
        progress_bar()
    }

    pub(super) fn loader_threads(&self) -> usize {
        usize::from(self.loader_threads)
    }

    pub(super) fn options<'a>(&'a self, progress: &'a ProgressBar) -> RunOptions<'a> {
        RunOptions {
            folder: &self.out,
            resume: self.resume,
            stop_after: self.stop_after,
            checkpoint_every: self.checkpoint_every,
            progress,
        }
    }
}

/// Writes `result.json` into a run's folder.
pub(super) fn write_result(folder: &Path, result: &Value) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(result)?;
    text.push(b'\n');
    Ok(write_beside(&folder.join("result.json"), &text)?)
}

/// A result as `--json` prints it: without its epochs, with the run's folder.
pub(super) fn result_line(result: &Value, out: &Path) -> Value {
    let mut line = result.clone();
    if let Some(line) = line.as_object_mut() {
        line.remove("epochs");
        line.insert("out".to_owned(), json!(out));
    }
    line
}

/// The command as it was given, without the program's folder.
pub(super) fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:=+@%".contains(c);
    let shown = |argument: String| match argument.chars().all(plain) && !argument.is_empty() {
        true => argument,
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    };
    let arguments = std::env::args().skip(1).map(shown);
    std::iter::once("hoi-train".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}
