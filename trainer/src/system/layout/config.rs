//! What can be chosen.

use serde::{Deserialize, Serialize};

use super::train::TrainError;
use crate::dataset::layout::Setting;

/// What is trained and how. A checkpoint can only be resumed with the configuration that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// What surrounds the annotated boxes.
    pub setting: Setting,
    /// Share of the images that are seen as they are annotated, merged and without distractors, whatever the setting.
    pub merged_share: f64,
    /// Whether a part of the training split is held out.
    pub holdout: bool,
    /// Passes over all images.
    pub epochs: usize,
    /// Seed of weights, order and distractors.
    pub seed: u64,
    /// Images in a batch.
    pub batch_images: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Share of all steps in which the learning rate rises.
    pub warmup: f64,
    /// Largest norm of the gradient.
    pub max_gradient: f64,
    /// Decay of the average of the weights over the steps; the average is what is exported.
    pub average_decay: f64,
    /// Mirror half of the images.
    pub flip: bool,
    /// Width of the hidden layers.
    pub hidden: i64,
    /// Width of the object embedding.
    pub embedding: i64,
    /// Heads of the reasoning layer; 0: each pair is seen alone.
    pub heads: i64,
    /// Share of the hidden values that training sets to 0.
    pub dropout: f64,
    /// Finished runs whose mean is learned beside the annotation.
    pub teachers: Vec<String>,
    /// Weight of what the teachers say beside the annotation, 0 to 1; without teachers it does not count.
    pub teacher_weight: f64,
    /// Teachers' and own logits are divided by this before they are compared.
    pub temperature: f64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            setting: Setting::Open,
            merged_share: 0.25,
            holdout: false,
            epochs: 12,
            seed: 0,
            batch_images: 64,
            learning_rate: 2e-3,
            weight_decay: 1e-2,
            warmup: 0.03,
            max_gradient: 1.0,
            average_decay: 0.999,
            flip: true,
            hidden: 256,
            embedding: 32,
            heads: 64,
            dropout: 0.1,
            teachers: Vec::new(),
            teacher_weight: 0.5,
            temperature: 2.0,
        }
    }
}

impl TrainingConfig {
    /// Whether training can start with this.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        let config = self;
        let positive = "it must be at least 1";
        for (field, value) in [
            ("epochs", config.epochs as i64),
            ("batch_images", config.batch_images as i64),
            ("hidden", config.hidden),
            ("embedding", config.embedding),
        ] {
            if value < 1 {
                return Err(TrainError::Config { field, value: value.to_string(), expected: positive });
            }
        }
        if config.heads < 0 {
            let value = config.heads.to_string();
            return Err(TrainError::Config { field: "heads", value, expected: "it must be 0 or more" });
        }
        for (field, value, right, expected) in [
            ("learning_rate", config.learning_rate, config.learning_rate > 0.0, "it must be a positive number"),
            ("weight_decay", config.weight_decay, config.weight_decay >= 0.0, "it must not be negative"),
            ("warmup", config.warmup, (0.0..1.0).contains(&config.warmup), "it must be a share below 1"),
            (
                "merged_share",
                config.merged_share,
                (0.0..=1.0).contains(&config.merged_share),
                "it must be a share from 0 to 1",
            ),
            ("dropout", config.dropout, (0.0..1.0).contains(&config.dropout), "it must be 0 or more and below 1"),
            (
                "teacher_weight",
                config.teacher_weight,
                (0.0..=1.0).contains(&config.teacher_weight),
                "it must be a share from 0 to 1",
            ),
            ("temperature", config.temperature, config.temperature > 0.0, "it must be a positive number"),
            ("max_gradient", config.max_gradient, config.max_gradient > 0.0, "it must be a positive number"),
            (
                "average_decay",
                config.average_decay,
                (0.0..1.0).contains(&config.average_decay),
                "it must be 0 or more and below 1",
            ),
        ] {
            if !right || !value.is_finite() {
                return Err(TrainError::Config { field, value: value.to_string(), expected });
            }
        }
        Ok(())
    }
}
