//! `hoi-train rmlr`.

mod photo_detector;
mod photos;
mod rendered;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tch::Device;

use self::photos::PhotoArguments;
use super::detected::SceneArguments;
use super::run::RunArguments;
use crate::system::rmlr::{
    DetachWords, FrozenDetector, LanguageConfig, LossWeights, RmlrConfig, RmlrShape, RoiPooling, Row, TextMode, Words,
};
use crate::system::run::{RunConfig, Schedule};
use crate::text::TextEncoder;

/// Where the text encoder is linked by the script that fetches it.
pub(super) const TEXT_ENCODER: &str = ".text-encoder";

/// Sizes and training of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// An eighth of the paper's widths, for rendered scenes on a CPU
    Tiny,
    /// The paper's
    Full,
}

#[derive(Debug, Args)]
pub(super) struct RmlrArguments {
    /// The frozen detector: the folder that `hoi-train detr` wrote or, for photos, a bundle whose detector has tokens and a tap `feature`
    #[arg(long, value_name = "DIR")]
    detector: PathBuf,
    #[command(flatten)]
    photos: PhotoArguments,
    /// The text encoder's folder (config.json, weights, tokenizer)
    #[arg(long, value_name = "DIR", default_value = TEXT_ENCODER)]
    text_encoder: PathBuf,
    /// Sizes and training of the head
    #[arg(long, value_enum, default_value_t = Plan::Tiny)]
    config: Plan,
    /// Row of the paper's Table 2
    #[arg(long, value_enum, default_value_t = Row::Full)]
    row: Row,
    /// Train the perceptron that sees boxes and classes only, instead of RmLR
    #[arg(long)]
    boxes_only: bool,
    /// Weights of the loss as in Table 7: hoi, s^m, w^m, s^a, w^a [default: 2,1,1,0.1,0.1; tiny: 2,5,5,2,2]
    #[arg(long, value_name = "X,X,X,X,X")]
    loss_weights: Option<LossWeights>,
    /// Layers of the reasoning module (Table 8)
    #[arg(long, value_name = "N")]
    reasoning_layers: Option<usize>,
    /// Self-attention layers of cross-modal learning (Table 8)
    #[arg(long, value_name = "N")]
    self_attention_layers: Option<usize>,
    /// Keep the context of the whole picture in rows that do not re-mine
    #[arg(long)]
    with_context: bool,
    /// Add the 36 values of box geometry to the pair token
    #[arg(long)]
    with_spatial: bool,
    /// Reading of the masked RoI
    #[arg(long, value_enum, default_value_t = RoiPooling::Enclosing)]
    pooling: RoiPooling,
    /// Words that a pair attends to
    #[arg(long, value_enum, default_value_t = Words::All)]
    words: Words,
    /// How sub-sentences are read
    #[arg(long, value_enum, default_value_t = TextMode::Joined)]
    text: TextMode,
    /// Stop the gradient of the cross-attended side of the word losses: always, never, or in a part of the epochs such as 0-0.3
    #[arg(long, value_name = "PART", default_value_t = DetachWords::ALWAYS)]
    detach_words: DetachWords,
    /// Dropout of all layers
    #[arg(long, value_name = "X")]
    dropout: Option<f64>,
    #[command(flatten)]
    scenes: SceneArguments,
    /// Score after each epoch too
    #[arg(long)]
    score_each_epoch: bool,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArguments,
}

impl RmlrArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.photos.given() { self.run_photos() } else { self.run_rendered() }
    }

    /// The text encoder, where a transfer loss counts.
    fn encoder(
        &self,
        detector: &dyn FrozenDetector,
        verbs: usize,
        device: Device,
    ) -> anyhow::Result<Option<TextEncoder>> {
        if !self.model_config(detector, verbs, None).weights.transfer() {
            return Ok(None);
        }
        TextEncoder::load(&self.text_encoder, device).context("loading the text encoder").map(Some)
    }

    fn run_config(&self) -> RunConfig {
        let own = match self.config {
            Plan::Full => RunConfig::default(),
            Plan::Tiny => RunConfig {
                epochs: 15,
                batch: 16,
                learning_rate: 1e-3,
                max_gradient: 1.0,
                schedule: Schedule::Cosine { warmup: 0.05 },
                ..RunConfig::default()
            },
        };
        self.run.config(own)
    }

    fn model_config(&self, detector: &dyn FrozenDetector, verbs: usize, encoder: Option<&TextEncoder>) -> RmlrConfig {
        let (channels, tokens) = (detector.map_channels(), detector.token_width());
        let mut shape = match self.config {
            Plan::Tiny => RmlrShape::tiny(channels, tokens, verbs as i64),
            Plan::Full => RmlrShape { map_channels: channels, token_width: tokens, ..RmlrShape::full(verbs as i64) },
        };
        shape.reasoning_layers = self.reasoning_layers.unwrap_or(shape.reasoning_layers);
        shape.dropout = self.dropout.unwrap_or(shape.dropout);
        shape.spatial_used = self.with_spatial;
        shape.pooling = self.pooling;
        let mut weights = self.loss_weights.unwrap_or(match self.config {
            Plan::Tiny => LossWeights::tiny(),
            Plan::Full => LossWeights::default(),
        });
        self.row.apply(&mut shape, &mut weights, self.with_context);
        let name = self.text_encoder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut language = LanguageConfig::beside(&shape, &name, encoder.map_or(1, TextEncoder::width));
        language.self_attention_layers = self.self_attention_layers.unwrap_or(language.self_attention_layers);
        language.words = self.words;
        language.text = self.text;
        language.detach_words = self.detach_words;
        RmlrConfig { shape, language, weights }
    }
}
