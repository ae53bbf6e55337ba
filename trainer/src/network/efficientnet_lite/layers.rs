//! The network.

use tch::nn::{self, BatchNormConfig, Init, ModuleT};
use tch::{Kind, Tensor};

use super::config::{BatchNorm, Convolution, EfficientNetLiteConfig, NORM_EPS, same_padding};
use crate::network::init;

/// Share of a batch's mean and variance in the running ones.
const NORM_MOMENTUM: f64 = 0.01;

#[derive(Debug)]
enum NormLayer {
    Frozen { weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor },
    Trained(nn::BatchNorm),
    Folded { bias: Tensor },
}

#[derive(Debug)]
struct NormedConvolution {
    weight: Tensor,
    norm: NormLayer,
    plan: Convolution,
}

fn at<'a>(path: &nn::Path<'a>, name: &str) -> nn::Path<'a> {
    name.split('.').fold(path.clone(), |path, part| path / part)
}

impl NormedConvolution {
    fn new(path: &nn::Path, plan: Convolution, norm: BatchNorm) -> Self {
        // Normal, the variance 2 over the fan out of one group.
        let fan_out = plan.outputs / plan.groups * plan.kernel * plan.kernel;
        let start = Init::Randn { mean: 0.0, stdev: (2.0 / fan_out as f64).sqrt() };
        let channels = plan.outputs;
        let weight = at(path, &plan.name).var("weight", &plan.shape(), start);
        let normed = at(path, &plan.norm);
        let norm = match norm {
            BatchNorm::Frozen => NormLayer::Frozen {
                weight: normed.ones_no_train("weight", &[channels]),
                bias: normed.zeros_no_train("bias", &[channels]),
                mean: normed.zeros_no_train("running_mean", &[channels]),
                variance: normed.ones_no_train("running_var", &[channels]),
            },
            BatchNorm::Trained => {
                let config = BatchNormConfig {
                    eps: NORM_EPS,
                    momentum: NORM_MOMENTUM,
                    ws_init: Init::Const(1.0),
                    ..BatchNormConfig::default()
                };
                NormLayer::Trained(nn::batch_norm2d(&normed, channels, config))
            }
            BatchNorm::Folded => {
                NormLayer::Folded { bias: at(path, &plan.name).var("bias", &[channels], Init::Const(0.0)) }
            }
        };
        Self { weight, norm, plan }
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let Convolution { kernel, stride, groups, .. } = self.plan;
        let size = x.size();
        let [top, bottom] = same_padding(size[2], kernel, stride);
        let [left, right] = same_padding(size[3], kernel, stride);
        if top == bottom && left == right {
            x.conv2d(weight, bias, stride, [top, left], 1, groups)
        } else {
            x.constant_pad_nd([left, right, top, bottom]).conv2d(weight, bias, stride, 0, 1, groups)
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let mut y = match &self.norm {
            // A constant scale is as well in the weights, which are smaller than the map.
            NormLayer::Frozen { weight, bias, mean, variance } => {
                let scale = weight * (variance + NORM_EPS).rsqrt();
                let shift = bias - mean * &scale;
                self.convolve(x, &(&self.weight * scale.view([-1, 1, 1, 1])), Some(&shift))
            }
            NormLayer::Trained(norm) => norm.forward_t(&self.convolve(x, &self.weight, None), train),
            NormLayer::Folded { bias } => self.convolve(x, &self.weight, Some(bias)),
        };
        if self.plan.relu6 { y.relu6_() } else { y }
    }
}

#[derive(Debug)]
struct Bottleneck {
    convolutions: Vec<NormedConvolution>,
    halves: bool,
    residual: bool,
}

impl Bottleneck {
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward_seen(x, train, |_, _| ())
    }

    /// The same; `see` gets what each convolution gives, with its number.
    fn forward_seen(&self, x: &Tensor, train: bool, mut see: impl FnMut(usize, &Tensor)) -> Tensor {
        let mut y = x.shallow_clone();
        for (number, convolution) in self.convolutions.iter().enumerate() {
            y = convolution.forward(&y, train);
            see(number, &y);
        }
        if self.residual { y.g_add_(x) } else { y }
    }
}

/// The maps of some pictures.
#[derive(Debug)]
pub struct Maps {
    /// What the stages at strides 2, 4, 8 and 16 end in, `[B, c, ceil(H / stride), ceil(W / stride)]` with the channels of
    /// [`EfficientNetLiteConfig::tap_channels`]; without activation, as the next stage reads them.
    pub taps: Vec<Tensor>,
    /// The last map, after the head's convolution and ReLU6: `[B, 1280, ceil(H / 32), ceil(W / 32)]`.
    pub last: Tensor,
}

/// An EfficientNet-Lite.
///
/// Without dropout and without stochastic depth, in training too: what is trained here starts from published weights.
#[derive(Debug)]
pub struct EfficientNetLite {
    config: EfficientNetLiteConfig,
    stem: NormedConvolution,
    blocks: Vec<Bottleneck>,
    head: NormedConvolution,
    classifier: Option<nn::Linear>,
}

impl EfficientNetLite {
    /// A network under `path`, for a configuration that passes [`EfficientNetLiteConfig::check`]. Convolutions start with a normal
    /// distribution of variance 2 / fan out, norms as the identity, the classifier as PyTorch's linear layers.
    pub fn new(path: &nn::Path, config: &EfficientNetLiteConfig) -> Self {
        let convolution = |plan| NormedConvolution::new(path, plan, config.norm);
        let blocks = config.blocks().into_iter().map(|block| Bottleneck {
            convolutions: block.convolutions.into_iter().map(convolution).collect(),
            halves: block.stride == 2,
            residual: block.residual,
        });
        Self {
            config: config.clone(),
            stem: convolution(config.stem_convolution()),
            blocks: blocks.collect(),
            head: convolution(config.head_convolution()),
            classifier: config.classes.map(|classes| init::linear(&(path / "_fc"), config.head, classes)),
        }
    }

    /// Its sizes.
    pub fn config(&self) -> &EfficientNetLiteConfig {
        &self.config
    }

    /// Pictures `[B, 3, H, W]`, normalised, to all maps. `train` is for trained batch norms: whether the batch gives mean and
    /// variance.
    pub fn maps(&self, images: &Tensor, train: bool) -> Maps {
        let mut taps = Vec::with_capacity(4);
        let mut x = self.stem.forward(images, train);
        for block in &self.blocks {
            let y = block.forward(&x, train);
            if block.halves {
                taps.push(x);
            }
            x = y;
        }
        Maps { taps, last: self.head.forward(&x, train) }
    }

    /// Blocks after the last one that halves the map: as many as [`Self::before_late`] can leave out.
    pub fn late_blocks(&self) -> usize {
        self.blocks.iter().rev().take_while(|block| !block.halves).count()
    }

    /// The network up to its last `late` blocks, for pictures `[B, 3, H, W]`: what the last halving begins with (the expansion after its ReLU6,
    /// at stride 16), and what the first of the late blocks takes, at stride 32. At most [`Self::late_blocks`] are left out, whatever is asked.
    /// Batch norms use their running means.
    pub fn before_late(&self, images: &Tensor, late: usize) -> [Tensor; 2] {
        let end = self.blocks.len() - late.min(self.late_blocks());
        let mut x = self.stem.forward(images, false);
        let mut halving = x.shallow_clone();
        for block in &self.blocks[..end] {
            x = block.forward_seen(&x, false, |number, y| {
                if block.halves && number == 0 {
                    halving = y.shallow_clone();
                }
            });
        }
        [halving, x]
    }

    /// The rest of the network, from what [`Self::before_late`] gives: what the last block's depthwise convolution gives after its ReLU6, and the
    /// last map.
    pub fn after_late(&self, x: &Tensor, late: usize, train: bool) -> [Tensor; 2] {
        let start = self.blocks.len() - late.min(self.late_blocks());
        let mut x = x.shallow_clone();
        let mut depthwise = x.shallow_clone();
        for block in &self.blocks[start..] {
            let last = block.convolutions.len().saturating_sub(2);
            x = block.forward_seen(&x, train, |number, y| {
                if number == last {
                    depthwise = y.shallow_clone();
                }
            });
        }
        [depthwise, self.head.forward(&x, train)]
    }

    /// The last map alone: `[B, 3, H, W]` to `[B, 1280, ceil(H / 32), ceil(W / 32)]`.
    pub fn map(&self, images: &Tensor, train: bool) -> Tensor {
        let mut x = self.stem.forward(images, train);
        for block in &self.blocks {
            x = block.forward(&x, train);
        }
        self.head.forward(&x, train)
    }

    /// The mean of the last map over its cells: `[B, 3, H, W]` to `[B, 1280]`.
    pub fn pooled(&self, images: &Tensor, train: bool) -> Tensor {
        self.map(images, train).mean_dim([2i64, 3].as_slice(), false, None::<Kind>)
    }

    /// Logits of the classes, `[B, 3, H, W]` to `[B, classes]`; nothing where there is no classifier.
    pub fn logits(&self, images: &Tensor, train: bool) -> Option<Tensor> {
        let classifier = self.classifier.as_ref()?;
        Some(self.pooled(images, train).apply(classifier))
    }
}
