//! Sizes of CLIP's networks.

use serde::{Deserialize, Serialize};

use crate::network::ConfigError;

/// Width of an attention head in OpenAI's models.
pub(super) const HEAD_WIDTH: i64 = 64;

/// Added to the variance in layer norms.
pub(super) const NORM_EPS: f64 = 1e-5;

/// A bound that no network reaches; it keeps products of sizes from overflowing.
const LARGEST: i64 = 1 << 20;

/// Non-linearity of the feed-forward blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// x sigma(1.702 x), OpenAI's.
    #[default]
    QuickGelu,
    /// x Phi(x), of many later models.
    Gelu,
}

/// What the batch norms of a [`ModifiedResNet`](super::ModifiedResNet) are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchNorms {
    /// Constants, w (x - mean) / sqrt(var + 1e-5) + b.
    #[default]
    Frozen,
    /// Weights and biases are parameters, and a batch has statistics of its own in training.
    Trained,
}

/// Sizes of the residual blocks of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct BlocksConfig {
    /// Width of a token.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Attention heads; they divide the width.
    pub heads: i64,
    /// Width inside the feed-forward block.
    pub feed_forward: i64,
    /// Inside the feed-forward block.
    pub activation: Activation,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

impl BlocksConfig {
    /// As OpenAI's of this width: heads 64 wide, four times the width inside.
    pub fn openai(width: i64, layers: i64) -> Self {
        Self {
            width,
            layers,
            heads: width / HEAD_WIDTH,
            feed_forward: 4 * width,
            activation: Activation::QuickGelu,
            norm_eps: NORM_EPS,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        sizes([("width", self.width), ("layers", self.layers), ("feed_forward", self.feed_forward)])?;
        check_heads(self.heads, self.width)?;
        let right = self.norm_eps.is_finite() && self.norm_eps > 0.0;
        ConfigError::unless(right, "norm_eps", self.norm_eps, "it must be above 0")
    }
}

fn sizes<const N: usize>(fields: [(&'static str, i64); N]) -> Result<(), ConfigError> {
    fields.into_iter().try_for_each(|(field, size)| {
        ConfigError::unless((1..=LARGEST).contains(&size), field, size, format!("it must be 1 to {LARGEST}"))
    })
}

fn check_heads(heads: i64, width: i64) -> Result<(), ConfigError> {
    let right = heads > 0 && width % heads == 0;
    ConfigError::unless(right, "heads", heads, format!("it must divide the width {width}"))
}

/// Sizes of a [`ModifiedResNet`](super::ModifiedResNet).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModifiedResNetConfig {
    /// Blocks in each of the four layers.
    pub depths: [i64; 4],
    /// Channels after the stem, 64 in RN50; the map has 32 times as many.
    pub width: i64,
    /// Heads of the attention pool; they divide the channels of the map.
    pub heads: i64,
    /// Cells a side of the attention pool's position table, 7 for pictures of 224 x 224.
    pub grid: i64,
    /// Width D of the feature.
    pub output: i64,
}

impl ModifiedResNetConfig {
    /// Of RN50.
    pub fn rn50() -> Self {
        Self { depths: [3, 4, 6, 3], width: 64, heads: 32, grid: 7, output: 1024 }
    }

    /// Of RN101, whose feature is narrower than RN50's.
    pub fn rn101() -> Self {
        Self { depths: [3, 4, 23, 3], output: 512, ..Self::rn50() }
    }

    /// Channels of the map.
    pub fn channels(&self) -> i64 {
        32 * self.width
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.depths.iter().try_for_each(|&depth| sizes([("depths", depth)]))?;
        sizes([("width", self.width), ("grid", self.grid), ("output", self.output)])?;
        ConfigError::unless(self.width % 2 == 0, "width", self.width, "the stem starts with half of it")?;
        check_heads(self.heads, self.channels())
    }
}

/// Sizes of a [`VisionTransformer`](super::VisionTransformer).
#[derive(Clone, Debug, PartialEq)]
pub struct VisionTransformerConfig {
    /// Residual blocks.
    pub blocks: BlocksConfig,
    /// Pixels a side of a patch.
    pub patch: i64,
    /// Patches a side of the position table.
    pub grid: i64,
    /// Width D of the feature.
    pub output: i64,
}

impl VisionTransformerConfig {
    /// Of ViT-B/32 at 224 x 224.
    pub fn vit_b32() -> Self {
        Self { blocks: BlocksConfig::openai(768, 12), patch: 32, grid: 7, output: 512 }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        sizes([("patch", self.patch), ("grid", self.grid), ("output", self.output)])?;
        self.blocks.check()
    }
}

/// Sizes of a [`TextTransformer`](super::TextTransformer).
#[derive(Clone, Debug, PartialEq)]
pub struct TextTransformerConfig {
    /// Residual blocks.
    pub blocks: BlocksConfig,
    /// Tokens of the vocabulary.
    pub vocabulary: i64,
    /// Positions: the most tokens of a text, those of its start and end counted.
    pub context: i64,
    /// Width D of the feature.
    pub output: i64,
}

impl TextTransformerConfig {
    /// Of OpenAI's RN50, RN101 and ViT-B/32, with a feature of this width.
    pub fn openai(output: i64) -> Self {
        Self { blocks: BlocksConfig::openai(512, 12), vocabulary: 49_408, context: 77, output }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        sizes([("vocabulary", self.vocabulary), ("context", self.context), ("output", self.output)])?;
        self.blocks.check()
    }
}

/// Kind and sizes of the visual network.
#[derive(Clone, Debug, PartialEq)]
pub enum VisualConfig {
    /// A residual network with attention pooling.
    ResNet(ModifiedResNetConfig),
    /// A vision transformer.
    VisionTransformer(VisionTransformerConfig),
}

impl VisualConfig {
    /// Width D of the feature.
    pub fn output(&self) -> i64 {
        match self {
            Self::ResNet(config) => config.output,
            Self::VisionTransformer(config) => config.output,
        }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::ResNet(config) => config.check(),
            Self::VisionTransformer(config) => config.check(),
        }
    }
}

/// Sizes of a [`Clip`](super::Clip).
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// Of pictures.
    pub visual: VisualConfig,
    /// Of texts.
    pub text: TextTransformerConfig,
}

impl ClipConfig {
    /// RN50.
    pub fn rn50() -> Self {
        Self::around(VisualConfig::ResNet(ModifiedResNetConfig::rn50()))
    }

    /// RN101.
    pub fn rn101() -> Self {
        Self::around(VisualConfig::ResNet(ModifiedResNetConfig::rn101()))
    }

    /// ViT-B/32.
    pub fn vit_b32() -> Self {
        Self::around(VisualConfig::VisionTransformer(VisionTransformerConfig::vit_b32()))
    }

    fn around(visual: VisualConfig) -> Self {
        Self { text: TextTransformerConfig::openai(visual.output()), visual }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.visual.check()?;
        self.text.check()?;
        let (pictures, texts) = (self.visual.output(), self.text.output);
        ConfigError::unless(pictures == texts, "output", texts, format!("the visual network's is {pictures}"))
    }
}
