//! CLIP's residual network: a stem of three convolutions, average pooling in place of strides, attention pooling at the end.

use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::nn::{self, Init};
use tch::{Tensor, no_grad};

use super::attention_pool::{AttentionPool, AttentionPoolShape};
use super::config::{BatchNorms, ModifiedResNetConfig};

/// Added to the variance in batch norms.
const NORM_EPS: f64 = 1e-5;

/// Weight of a batch in the running statistics of batch norms that are trained.
const MOMENTUM: f64 = 0.1;

/// Width of a block's result over that of its inner convolution.
const EXPANSION: i64 = 4;

/// A convolution without bias, padded to keep its size at stride 1, and the batch norm after it.
#[derive(Debug)]
struct NormedConvolution {
    convolution: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    stride: i64,
    norms: BatchNorms,
}

impl NormedConvolution {
    /// `names` of convolution and norm under `path`; `channels` in and out; `window`: kernel and stride.
    fn new(path: &nn::Path, names: [&str; 2], channels: [i64; 2], window: [i64; 2], norms: BatchNorms) -> Self {
        let ([inputs, outputs], [kernel, stride]) = (channels, window);
        let start =
            Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };
        let convolution = (path / names[0]).var("weight", &[outputs, inputs, kernel, kernel], start);
        let norm = path / names[1];
        let (weight, bias) = match norms {
            BatchNorms::Frozen => (norm.ones_no_train("weight", &[outputs]), norm.zeros_no_train("bias", &[outputs])),
            BatchNorms::Trained => (norm.ones("weight", &[outputs]), norm.zeros("bias", &[outputs])),
        };
        Self {
            convolution,
            weight,
            bias,
            mean: norm.zeros_no_train("running_mean", &[outputs]),
            variance: norm.ones_no_train("running_var", &[outputs]),
            stride,
            norms,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let padding = self.convolution.size()[2] / 2;
        let convolve = |weight: &Tensor, bias: Option<&Tensor>| x.conv2d(weight, bias, self.stride, padding, 1, 1);
        if train && self.norms == BatchNorms::Trained {
            let [weight, bias, mean, variance] = [&self.weight, &self.bias, &self.mean, &self.variance].map(Some);
            let y = convolve(&self.convolution, None);
            return y.batch_norm(weight, bias, mean, variance, true, MOMENTUM, NORM_EPS, true);
        }
        // A constant scale is as well in the weights, which are smaller than the map.
        let scale = &self.weight * (&self.variance + NORM_EPS).rsqrt();
        let shift = &self.bias - &self.mean * &scale;
        convolve(&(&self.convolution * scale.view([-1, 1, 1, 1])), Some(&shift))
    }
}

/// 1x1, 3x3 and 1x1 convolutions, added to their input; where a layer halves its map, both sides are averaged.
#[derive(Debug)]
struct Bottleneck {
    convolutions: [NormedConvolution; 3],
    downsample: Option<NormedConvolution>,
    stride: i64,
}

impl Bottleneck {
    fn new(path: &nn::Path, inputs: i64, width: i64, stride: i64, norms: BatchNorms) -> Self {
        let outputs = EXPANSION * width;
        let convolution = |path: &nn::Path, names, channels, kernel| {
            NormedConvolution::new(path, names, channels, [kernel, 1], norms)
        };
        Self {
            convolutions: [
                convolution(path, ["conv1", "bn1"], [inputs, width], 1),
                convolution(path, ["conv2", "bn2"], [width, width], 3),
                convolution(path, ["conv3", "bn3"], [width, outputs], 1),
            ],
            downsample: (stride > 1 || inputs != outputs)
                .then(|| convolution(&(path / "downsample"), ["0", "1"], [inputs, outputs], 1)),
            stride,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let pooled = |x: &Tensor| if self.stride > 1 { halved(x) } else { x.shallow_clone() };
        let [first, second, third] = &self.convolutions;
        let y = second.forward(&first.forward(x, train).relu(), train).relu();
        let y = third.forward(&pooled(&y), train);
        let kept = match &self.downsample {
            Some(downsample) => downsample.forward(&pooled(x), train),
            None => x.shallow_clone(),
        };
        (y + kept).relu()
    }
}

/// Means of 2x2 cells; an odd last row or column is dropped.
fn halved(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)
}

/// CLIP's residual network (RN50, RN101 and the wider ones).
///
/// Keys as OpenAI's, without `visual.`: `conv1.weight`, `bn1.*`, `layer1.0.conv1.weight`, ..., `layer1.0.downsample.0.weight`,
/// `attnpool.*`.
#[derive(Debug)]
pub struct ModifiedResNet {
    stem: [NormedConvolution; 3],
    layers: [Vec<Bottleneck>; 4],
    pool: AttentionPool,
    channels: i64,
}

impl ModifiedResNet {
    /// A network under `path`, for a configuration that passes [`ModifiedResNetConfig::check`]. Convolutions start with Kaiming's
    /// normal distribution over the fan out, and the last norm of a block with weight 0, as CLIP's do.
    pub fn new(path: &nn::Path, config: &ModifiedResNetConfig, norms: BatchNorms) -> Self {
        let width = config.width;
        let stem = [
            ("conv1", "bn1", 3, width / 2, 2),
            ("conv2", "bn2", width / 2, width / 2, 1),
            ("conv3", "bn3", width / 2, width, 1),
        ]
        .map(|(convolution, norm, inputs, outputs, stride)| {
            NormedConvolution::new(path, [convolution, norm], [inputs, outputs], [3, stride], norms)
        });
        let mut inputs = width;
        let layers = std::array::from_fn(|layer| {
            let path = path / format!("layer{}", layer + 1);
            let width = width << layer;
            (0..config.depths[layer])
                .map(|block| {
                    let stride = if block == 0 && layer > 0 { 2 } else { 1 };
                    let bottleneck = Bottleneck::new(&(&path / block), inputs, width, stride, norms);
                    inputs = EXPANSION * width;
                    bottleneck
                })
                .collect::<Vec<_>>()
        });
        no_grad(|| {
            for block in layers.iter().flatten() {
                let _ = block.convolutions[2].weight.shallow_clone().zero_();
            }
        });
        let &ModifiedResNetConfig { heads, grid, output, .. } = config;
        let shape = AttentionPoolShape { channels: config.channels(), heads, grid, output };
        Self { stem, layers, pool: AttentionPool::new(&(path / "attnpool"), shape), channels: config.channels() }
    }

    /// Pictures `[B, 3, H, W]`, normalised (C7), to the map `[B, C, h, w]` before attention pooling, with C 2048 in RN50 and RN101 and h = floor(ceil(H / 2) / 16); sides of
    /// 32 pixels or more. Batch norms are constants.
    pub fn map(&self, images: &Tensor) -> Tensor {
        self.map_t(images, false)
    }

    /// As [`ModifiedResNet::map`]; with `train`, batch norms that are trained take their statistics from this batch and keep
    /// a running mean of them.
    pub fn map_t(&self, images: &Tensor, train: bool) -> Tensor {
        let stem =
            self.stem.iter().fold(images.shallow_clone(), |x, convolution| convolution.forward(&x, train).relu());
        self.layers.iter().flatten().fold(halved(&stem), |x, block| block.forward(&x, train))
    }

    /// The attention pool, which makes features of the map.
    pub fn pool(&self) -> &AttentionPool {
        &self.pool
    }

    /// Channels C of the map.
    pub fn channels(&self) -> i64 {
        self.channels
    }

    /// Pictures `[B, 3, H, W]` to their features `[B, D]`.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        self.pool.forward(&self.map(images))
    }
}
