//! How a network is trained.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::trainer::RunError;
use crate::optimizer::{CosineSchedule, StepSchedule};

/// The rule of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerChoice {
    /// Weight decay apart from the gradient
    Adamw,
    /// Weight decay added to the gradient
    Adam,
}

/// How the learning rate goes over a run; the factor on each group's rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Schedule {
    /// The same all along.
    Constant,
    /// Rising over a share of all steps, then half a cosine down to zero.
    Cosine {
        /// Share of all steps in which it rises.
        warmup: f64,
    },
    /// Multiplied by `factor` after each of these epochs.
    Step {
        /// Epochs, counted from 1.
        after: Vec<usize>,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Multiplied by `factor` after each of these steps.
    Drops {
        /// Steps, counted from 1 over all epochs.
        after_steps: Vec<u64>,
        /// What the rate is multiplied by.
        factor: f64,
    },
}

impl Schedule {
    /// The factor of a step, counted from 0 over all epochs.
    pub fn factor(&self, step: u64, steps_per_epoch: u64, epochs: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine { warmup } => {
                let total_steps = steps_per_epoch * epochs as u64;
                let warmup_steps = (total_steps as f64 * warmup) as u64;
                CosineSchedule { peak: 1.0, warmup_steps, total_steps }.rate(step)
            }
            Self::Step { after, factor } => {
                let epoch = (step / steps_per_epoch.max(1)) as usize;
                StepSchedule { peak: 1.0, after, factor: *factor }.rate(epoch)
            }
            Self::Drops { after_steps, factor } => {
                let drops = after_steps.iter().filter(|&&after| step >= after).count();
                factor.powi(drops.min(i32::MAX as usize) as i32)
            }
        }
    }
}

/// Numbers of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits throughout
    Full,
    /// libtorch's autocast to bfloat16: matrix products in 16 bits, weights and sums in 32
    Bf16,
}

/// How a network is trained. A checkpoint can only be resumed with the configuration that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Passes over all pictures.
    pub epochs: usize,
    /// Seed of weights, order, augmentation and dropout.
    pub seed: u64,
    /// Pictures in a batch.
    pub batch: usize,
    /// Batches whose gradients are averaged into one step of the optimizer.
    pub accumulate: usize,
    /// The rule of a step.
    pub optimizer: OptimizerChoice,
    /// Highest learning rate of parameters without a group of their own.
    pub learning_rate: f64,
    /// Weight decay; vectors are not decayed.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0: any.
    pub max_gradient: f64,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Decay of the running average of the weights; 0: no average.
    pub average_decay: f64,
    /// Numbers of the forward pass.
    pub precision: Precision,
    /// Pictures that may be unreadable over the run.
    pub skip_limit: usize,
}

impl Default for RunConfig {
    /// AdamW at 1e-4 and cosine without warm-up for 20 epochs of batches of 8, clipped at 0.1.
    fn default() -> Self {
        Self {
            epochs: 20,
            seed: 0,
            batch: 8,
            accumulate: 1,
            optimizer: OptimizerChoice::Adamw,
            learning_rate: 1e-4,
            weight_decay: 1e-4,
            max_gradient: 0.1,
            schedule: Schedule::Cosine { warmup: 0.0 },
            average_decay: 0.0,
            precision: Precision::Full,
            skip_limit: 0,
        }
    }
}

impl RunConfig {
    /// Whether training can start with this.
    ///
    /// # Errors
    /// [`RunError::Config`] naming the field.
    pub fn check(&self) -> Result<(), RunError> {
        let refuse = |field, value: String, expected| Err(RunError::Config { field, value, expected });
        for (field, value) in [("epochs", self.epochs), ("batch", self.batch), ("accumulate", self.accumulate)] {
            if value < 1 {
                return refuse(field, value.to_string(), "it must be at least 1");
            }
        }
        let share = (0.0..1.0).contains(&self.average_decay);
        for (field, value, right, expected) in [
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0, "it must be a positive number"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "it must not be negative"),
            ("max_gradient", self.max_gradient, self.max_gradient >= 0.0, "it must not be negative"),
            ("average_decay", self.average_decay, share, "it must be 0 or more and below 1"),
        ] {
            if !right || !value.is_finite() {
                return refuse(field, value.to_string(), expected);
            }
        }
        match &self.schedule {
            Schedule::Cosine { warmup } if !(0.0..1.0).contains(warmup) => {
                refuse("schedule.warmup", warmup.to_string(), "it must be a share below 1")
            }
            Schedule::Step { factor, .. } | Schedule::Drops { factor, .. } if !(*factor > 0.0 && *factor <= 1.0) => {
                refuse("schedule.factor", factor.to_string(), "it must be above 0 and at most 1")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_come_after_their_steps() {
        let schedule = Schedule::Drops { after_steps: vec![12, 24], factor: 0.1 };
        let factors = [0, 11, 12, 23, 24, 60].map(|step| schedule.factor(step, 5, 12));
        for (found, expected) in factors.into_iter().zip([1.0, 1.0, 0.1, 0.1, 0.01, 0.01]) {
            assert!((found - expected).abs() < 1e-12, "{factors:?}");
        }
        let config =
            RunConfig { schedule: Schedule::Drops { after_steps: vec![1], factor: 0.0 }, ..RunConfig::default() };
        assert!(matches!(config.check(), Err(RunError::Config { field: "schedule.factor", .. })));
    }
}
