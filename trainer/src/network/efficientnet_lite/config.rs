//! Sizes of the networks, and the convolutions that they are made of.

use serde::{Deserialize, Serialize};

use crate::network::ConfigError;

/// Subtracted from each 0..255 value of red, green and blue.
pub const INPUT_MEAN: f32 = 127.0;

/// Divides the difference.
pub const INPUT_STD: f32 = 128.0;

/// Added to the variance in batch norms.
pub(crate) const NORM_EPS: f64 = 1e-3;

/// Channel numbers are multiples of this.
const DIVISOR: i64 = 8;

/// The published networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// 4.7 M parameters, 224 px.
    Lite0,
    /// 5.4 M parameters, 240 px.
    Lite1,
    /// 6.1 M parameters, 260 px.
    Lite2,
    /// 8.2 M parameters, 280 px.
    Lite3,
    /// 13.0 M parameters, 300 px.
    Lite4,
}

impl Variant {
    /// From the smallest to the largest.
    pub const ALL: [Self; 5] = [Self::Lite0, Self::Lite1, Self::Lite2, Self::Lite3, Self::Lite4];

    /// Factors of the channels and of the blocks in a stage.
    pub fn coefficients(self) -> (f64, f64) {
        match self {
            Self::Lite0 => (1.0, 1.0),
            Self::Lite1 => (1.0, 1.1),
            Self::Lite2 => (1.1, 1.2),
            Self::Lite3 => (1.2, 1.4),
            Self::Lite4 => (1.4, 1.8),
        }
    }

    /// Width and height of the pictures it was trained with, in pixels.
    pub fn resolution(self) -> u32 {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
            Self::Lite3 => 280,
            Self::Lite4 => 300,
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EfficientNet-Lite{}", *self as u8)
    }
}

/// What follows each convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchNorm {
    /// Constants: w (x - mean) / sqrt(var + 1e-3) + b. Only the convolutions are trained.
    #[default]
    Frozen,
    /// Trained: scale and shift are parameters; in training, mean and variance are those of the batch, and the running ones move by
    /// a hundredth.
    Trained,
    /// None: they are part of the convolutions, which have a bias.
    Folded,
}

/// Sizes of an [`EfficientNetLite`](super::EfficientNetLite).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetLiteConfig {
    /// Factor of the channels of every block.
    pub width: f64,
    /// Factor of the number of blocks of every stage but the first and the last.
    pub depth: f64,
    /// Channels after the first convolution: 32.
    pub stem: i64,
    /// Channels of the last map: 1280.
    pub head: i64,
    /// What follows each convolution.
    #[serde(default)]
    pub norm: BatchNorm,
    /// Classes of the linear layer at the end, 1000 for ImageNet; none: there is no such layer.
    #[serde(default)]
    pub classes: Option<i64>,
}

/// Blocks, kernel, stride, expansion and channels of a stage at width and depth 1 (EfficientNet-B0's, Tan and Le 2019, Table 1).
struct Stage {
    blocks: i64,
    kernel: i64,
    stride: i64,
    expansion: i64,
    channels: i64,
}

const fn stage(blocks: i64, kernel: i64, stride: i64, expansion: i64, channels: i64) -> Stage {
    Stage { blocks, kernel, stride, expansion, channels }
}

const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// One convolution, its norm and whether ReLU6 follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Convolution {
    /// Name of the convolution, as `_blocks.3._expand_conv`.
    pub(crate) name: String,
    /// Name of its norm, as `_blocks.3._bn0`.
    pub(crate) norm: String,
    pub(crate) inputs: i64,
    pub(crate) outputs: i64,
    pub(crate) kernel: i64,
    pub(crate) stride: i64,
    /// 1, or the number of channels (depthwise).
    pub(crate) groups: i64,
    pub(crate) relu6: bool,
}

impl Convolution {
    /// Shape of its weights.
    pub(crate) fn shape(&self) -> [i64; 4] {
        [self.outputs, self.inputs / self.groups, self.kernel, self.kernel]
    }
}

/// An inverted bottleneck: expansion (but in the first), depthwise convolution, projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) convolutions: Vec<Convolution>,
    /// 2 where the map halves.
    pub(crate) stride: i64,
    /// Whether its input is added to its result.
    pub(crate) residual: bool,
}

impl EfficientNetLiteConfig {
    /// Sizes of a published network, with frozen norms and ImageNet's 1000 classes.
    pub fn of(variant: Variant) -> Self {
        let (width, depth) = variant.coefficients();
        Self { width, depth, stem: 32, head: 1280, norm: BatchNorm::Frozen, classes: Some(1000) }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, factor) in [("width", self.width), ("depth", self.depth)] {
            let right = factor > 0.0 && factor <= 16.0;
            ConfigError::unless(right, field, factor, "a factor above 0 and up to 16 (Lite0 has 1)")?;
        }
        for (field, channels) in [("stem", self.stem), ("head", self.head)] {
            ConfigError::unless(channels > 0, field, channels, "it must be at least 1")?;
        }
        let classes = self.classes.unwrap_or(1);
        ConfigError::unless(classes > 0, "classes", classes, "at least 1, or none at all")
    }

    /// Channels of the taps at strides 2, 4, 8 and 16: what a stage ends in before the map halves.
    pub fn tap_channels(&self) -> [i64; 4] {
        [0, 1, 2, 4].map(|n: usize| scaled(STAGES[n].channels, self.width))
    }

    pub(crate) fn stem_convolution(&self) -> Convolution {
        convolution("_conv_stem", "_bn0", [3, self.stem], 3, 2)
    }

    pub(crate) fn head_convolution(&self) -> Convolution {
        let inputs = scaled(STAGES[STAGES.len() - 1].channels, self.width);
        convolution("_conv_head", "_bn1", [inputs, self.head], 1, 1)
    }

    /// The blocks in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut inputs = self.stem;
        for (n, stage) in STAGES.iter().enumerate() {
            let ends = n == 0 || n + 1 == STAGES.len();
            let count = if ends { stage.blocks } else { (self.depth * stage.blocks as f64).ceil() as i64 };
            let outputs = scaled(stage.channels, self.width);
            for repeat in 0..count {
                let stride = if repeat == 0 { stage.stride } else { 1 };
                let key = format!("_blocks.{}", blocks.len());
                let part = |name: &str, norm: &str| [name, norm].map(|part| format!("{key}.{part}"));
                let inner = stage.expansion * inputs;
                let mut convolutions = Vec::with_capacity(3);
                if stage.expansion != 1 {
                    let [name, norm] = part("_expand_conv", "_bn0");
                    convolutions.push(convolution(&name, &norm, [inputs, inner], 1, 1));
                }
                let [name, norm] = part("_depthwise_conv", "_bn1");
                let depthwise = convolution(&name, &norm, [inner, inner], stage.kernel, stride);
                convolutions.push(Convolution { groups: inner, ..depthwise });
                let [name, norm] = part("_project_conv", "_bn2");
                convolutions.push(Convolution { relu6: false, ..convolution(&name, &norm, [inner, outputs], 1, 1) });
                blocks.push(Block { convolutions, stride, residual: stride == 1 && inputs == outputs });
                inputs = outputs;
            }
        }
        blocks
    }

    /// All convolutions in order.
    pub(crate) fn convolutions(&self) -> Vec<Convolution> {
        let blocks = self.blocks().into_iter().flat_map(|block| block.convolutions);
        [self.stem_convolution()].into_iter().chain(blocks).chain([self.head_convolution()]).collect()
    }
}

fn convolution(name: &str, norm: &str, [inputs, outputs]: [i64; 2], kernel: i64, stride: i64) -> Convolution {
    Convolution {
        name: name.to_owned(),
        norm: norm.to_owned(),
        inputs,
        outputs,
        kernel,
        stride,
        groups: 1,
        relu6: true,
    }
}

/// Channels times a factor, to the nearest multiple of 8, at least 8, and not more than a tenth below.
fn scaled(channels: i64, factor: f64) -> i64 {
    let wanted = channels as f64 * factor;
    let rounded = ((wanted + DIVISOR as f64 / 2.0) as i64 / DIVISOR * DIVISOR).max(DIVISOR);
    if (rounded as f64) < 0.9 * wanted { rounded + DIVISOR } else { rounded }
}

/// TensorFlow's "SAME" padding of an axis, before and after: the result has ceil(length / stride) cells, and where the padding is odd
/// the larger half lies after (below, to the right).
pub(crate) fn same_padding(length: i64, kernel: i64, stride: i64) -> [i64; 2] {
    let total = ((length + stride - 1) / stride * stride - stride + kernel - length).max(0);
    [total / 2, total - total / 2]
}
