//! Which detectors are trained, and how.

use clap::ValueEnum;
use hoi_runtime::geometry::Size;
use serde::{Deserialize, Serialize};

use crate::dataset::augment::{Augmentation, Resize};
use crate::loss::SetLoss;
use crate::network::detr::DetrConfig;
use crate::network::resnet::{Norm, ResNetConfig};
use crate::system::run::{ParameterGroup, RunConfig, Schedule};

/// A ready-made configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DetrPlan {
    /// 160 x 160 pixels, 1.5 M parameters, from nothing: for the rendered scenes
    Tiny,
    /// DETR-R50, fine-tuned from COCO at 800 pixels
    R50,
    /// DETR-R101, fine-tuned from COCO at 800 pixels
    R101,
}

/// Network, loss and input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetrSettings {
    /// Sizes of the network.
    pub detector: DetrConfig,
    /// Costs and weights.
    pub loss: SetLoss,
    /// What is done to pictures in training; tests take its resize only.
    pub augmentation: Augmentation,
    /// Factor on the backbone's learning rate.
    pub backbone_rate: f64,
    /// Weight of what every cell of the encoder's memory says in training, a help for small networks that start from nothing; 0: none.
    #[serde(default)]
    pub dense: f64,
    /// Whether the backbone's stem and first layer stay as they are.
    pub freeze_early: bool,
}

impl DetrPlan {
    /// Network, loss and input for so many object classes.
    pub fn settings(self, classes: usize) -> DetrSettings {
        let classes = classes as i64;
        let full = |backbone| DetrSettings {
            detector: DetrConfig::full(backbone, classes),
            loss: SetLoss::default(),
            augmentation: Augmentation::training(),
            backbone_rate: 0.1,
            dense: 0.0,
            freeze_early: true,
        };
        match self {
            Self::Tiny => DetrSettings {
                detector: DetrConfig {
                    backbone: ResNetConfig {
                        depths: [1, 1, 1, 1],
                        stem_width: 16,
                        dilate_last: true,
                        norm: Norm::Group(4),
                    },
                    width: 128,
                    heads: 4,
                    encoder_layers: 2,
                    decoder_layers: 3,
                    feed_forward: 256,
                    queries: 16,
                    classes,
                    dropout: 0.0,
                    place_input: true,
                },
                loss: SetLoss::default(),
                augmentation: Augmentation::exact(Size::new(160, 160), 0.5),
                backbone_rate: 1.0,
                dense: 1.0,
                freeze_early: false,
            },
            Self::R50 => full(ResNetConfig::resnet50()),
            Self::R101 => full(ResNetConfig::resnet101()),
        }
    }

    /// How it is trained: the large ones as UPT fine-tunes (AdamW 1e-5, backbone 1e-6, 30 epochs of batches of 16 without a drop).
    pub fn run(self) -> RunConfig {
        match self {
            Self::Tiny => RunConfig {
                epochs: 4,
                batch: 8,
                learning_rate: 4e-4,
                schedule: Schedule::Cosine { warmup: 0.02 },
                average_decay: 0.998,
                ..RunConfig::default()
            },
            Self::R50 | Self::R101 => RunConfig {
                epochs: 30,
                batch: 16,
                learning_rate: 1e-5,
                schedule: Schedule::Constant,
                ..RunConfig::default()
            },
        }
    }
}

impl DetrSettings {
    /// What is done to pictures in tests: the resize alone.
    pub fn test_augmentation(&self) -> Augmentation {
        let resize = self.augmentation.resize;
        Augmentation { resize, ..Augmentation::test() }
    }

    /// The backbone's own learning rate.
    pub fn groups(&self) -> Vec<ParameterGroup> {
        vec![ParameterGroup { prefix: "backbone.".to_owned(), rate: self.backbone_rate }]
    }

    /// Size of the network's input.
    pub fn resize(&self) -> Resize {
        self.augmentation.resize
    }
}
