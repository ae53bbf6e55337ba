//! Residual networks of bottleneck blocks, with the stride on the 3x3 convolution.

use serde::{Deserialize, Serialize};
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{self, Init, Module};
use tch::{Tensor, nn::GroupNormConfig};

use super::ConfigError;

/// Added to the variance in norms.
const NORM_EPS: f64 = 1e-5;

/// Width of a block's result over that of its inner convolution.
const EXPANSION: i64 = 4;

/// What follows each convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Batch norm as constants, w (x - mean) / sqrt(var + 1e-5) + b; for pre-trained weights (it starts as the identity).
    #[default]
    FrozenBatch,
    /// Group norm with this many groups, trained; for small networks that start from nothing.
    Group(i64),
}

/// Sizes of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Blocks in each of the four layers.
    pub depths: [i64; 4],
    /// Channels after the stem, 64 in full size; the result has 32 times as many.
    pub stem_width: i64,
    /// The last layer is dilated in place of its stride (DC5): the result's stride is 16 and not 32.
    pub dilate_last: bool,
    /// What follows each convolution.
    #[serde(default)]
    pub norm: Norm,
}

impl ResNetConfig {
    /// ResNet-50.
    pub fn resnet50() -> Self {
        Self { depths: [3, 4, 6, 3], stem_width: 64, dilate_last: false, norm: Norm::FrozenBatch }
    }

    /// ResNet-101.
    pub fn resnet101() -> Self {
        Self { depths: [3, 4, 23, 3], ..Self::resnet50() }
    }

    /// Channels of the result (C5).
    pub fn channels(&self) -> i64 {
        32 * self.stem_width
    }

    /// Pixels a cell of the result is wide.
    pub fn stride(&self) -> i64 {
        if self.dilate_last { 16 } else { 32 }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let depths = format!("{:?}", self.depths);
        ConfigError::unless(self.depths.iter().all(|&d| d > 0), "depths", depths, "each layer needs a block")?;
        ConfigError::unless(self.stem_width > 0, "stem_width", self.stem_width, "it must be at least 1")?;
        if let Norm::Group(groups) = self.norm {
            let right = groups > 0 && self.stem_width % groups == 0;
            ConfigError::unless(
                right,
                "norm",
                groups,
                format!("groups divide the stem's {} channels", self.stem_width),
            )?;
        }
        Ok(())
    }
}

#[derive(Debug)]
enum NormLayer {
    FrozenBatch { weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor },
    Group(nn::GroupNorm),
}

impl NormLayer {
    fn new(path: &nn::Path, channels: i64, norm: Norm) -> Self {
        match norm {
            Norm::FrozenBatch => Self::FrozenBatch {
                weight: path.ones_no_train("weight", &[channels]),
                bias: path.zeros_no_train("bias", &[channels]),
                mean: path.zeros_no_train("running_mean", &[channels]),
                variance: path.ones_no_train("running_var", &[channels]),
            },
            Norm::Group(groups) => Self::Group(nn::group_norm(
                path,
                groups,
                channels,
                GroupNormConfig { eps: NORM_EPS, ..Default::default() },
            )),
        }
    }
}

/// Kernel, stride and dilation of a convolution.
#[derive(Clone, Copy, Debug)]
struct Window {
    kernel: i64,
    stride: i64,
    dilation: i64,
}

impl Window {
    const POINT: Self = Self { kernel: 1, stride: 1, dilation: 1 };
}

/// A convolution without bias and the norm after it.
#[derive(Debug)]
struct NormedConvolution {
    weight: Tensor,
    norm: NormLayer,
    window: Window,
}

impl NormedConvolution {
    /// `names` of convolution and norm under `path`; `channels` in and out.
    fn new(path: &nn::Path, names: [&str; 2], channels: [i64; 2], window: Window, norm: Norm) -> Self {
        let [inputs, outputs] = channels;
        let start =
            Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };
        let weight = (path / names[0]).var("weight", &[outputs, inputs, window.kernel, window.kernel], start);
        Self { weight, norm: NormLayer::new(&(path / names[1]), outputs, norm), window }
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let Window { kernel, stride, dilation } = self.window;
        x.conv2d(weight, bias, stride, kernel / 2 * dilation, dilation, 1)
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        match &self.norm {
            // A constant scale is as well in the weights, which are smaller than the map.
            NormLayer::FrozenBatch { weight, bias, mean, variance } => {
                let scale = weight * (variance + NORM_EPS).rsqrt();
                let shift = bias - mean * &scale;
                self.convolve(x, &(&self.weight * scale.view([-1, 1, 1, 1])), Some(&shift))
            }
            NormLayer::Group(norm) => norm.forward(&self.convolve(x, &self.weight, None)),
        }
    }
}

/// 1x1, 3x3 and 1x1 convolutions, added to their input.
#[derive(Debug)]
struct Bottleneck {
    convolutions: [NormedConvolution; 3],
    downsample: Option<NormedConvolution>,
}

impl Bottleneck {
    fn new(path: &nn::Path, inputs: i64, width: i64, middle: Window, norm: Norm) -> Self {
        let outputs = EXPANSION * width;
        let convolution = |names, channels, window| NormedConvolution::new(path, names, channels, window, norm);
        let convolutions = [
            convolution(["conv1", "bn1"], [inputs, width], Window::POINT),
            convolution(["conv2", "bn2"], [width, width], middle),
            convolution(["conv3", "bn3"], [width, outputs], Window::POINT),
        ];
        let downsample = (middle.stride != 1 || inputs != outputs).then(|| {
            let window = Window { stride: middle.stride, ..Window::POINT };
            NormedConvolution::new(&(path / "downsample"), ["0", "1"], [inputs, outputs], window, norm)
        });
        Self { convolutions, downsample }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [first, second, third] = &self.convolutions;
        let y = second.forward(&first.forward(x).relu_()).relu_();
        let mut y = third.forward(&y);
        let mut y = match &self.downsample {
            Some(downsample) => y.g_add_(&downsample.forward(x)),
            None => y.g_add_(x),
        };
        y.relu_()
    }
}

/// A residual network up to C5, without pooling and classifier.
///
/// Keys as torchvision's: `conv1.weight`, `bn1.*`, `layer1.0.conv1.weight`, ..., `layer1.0.downsample.0.weight`.
#[derive(Debug)]
pub struct ResNet {
    stem: NormedConvolution,
    layers: [Vec<Bottleneck>; 4],
}

impl ResNet {
    /// A network under `path`, for a configuration that passes [`ResNetConfig::check`]. Convolutions start with Kaiming's normal
    /// distribution over the fan out.
    pub fn new(path: &nn::Path, config: &ResNetConfig) -> Self {
        let norm = config.norm;
        let stem_window = Window { kernel: 7, stride: 2, dilation: 1 };
        let stem = NormedConvolution::new(path, ["conv1", "bn1"], [3, config.stem_width], stem_window, norm);
        let mut inputs = config.stem_width;
        let layers = std::array::from_fn(|layer| {
            let path = path / format!("layer{}", layer + 1);
            let width = config.stem_width << layer;
            // A dilated layer's first block still looks at the undilated map before it.
            let dilated = layer == 3 && config.dilate_last;
            let stride = if layer == 0 || dilated { 1 } else { 2 };
            (0..config.depths[layer])
                .map(|block| {
                    let middle = if block == 0 {
                        Window { kernel: 3, stride, dilation: 1 }
                    } else {
                        Window { kernel: 3, stride: 1, dilation: if dilated { 2 } else { 1 } }
                    };
                    let bottleneck = Bottleneck::new(&(&path / block), inputs, width, middle, norm);
                    inputs = EXPANSION * width;
                    bottleneck
                })
                .collect()
        });
        Self { stem, layers }
    }

    /// Pictures `[B, 3, H, W]`, normalised, to C5 `[B, 32 * stem_width, h, w]` with h = ceil(H / stride).
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let stem = self.stem.forward(images).relu_().max_pool2d(3, 2, 1, 1, false);
        self.layers.iter().flatten().fold(stem, |x, block| block.forward(&x))
    }

    /// Takes stem and layer 1 out of training (C2): their convolutions (and group norms) need no gradient any more. They stay
    /// among the store's trainable variables, so an optimizer has to ask each for `requires_grad`.
    pub fn freeze_early(&self) {
        let early = self.layers[0].iter().flat_map(|b| b.convolutions.iter().chain(&b.downsample));
        for convolution in early.chain([&self.stem]) {
            let _ = convolution.weight.set_requires_grad(false);
            if let NormLayer::Group(norm) = &convolution.norm {
                for parameter in [&norm.ws, &norm.bs].into_iter().flatten() {
                    let _ = parameter.set_requires_grad(false);
                }
            }
        }
    }
}
