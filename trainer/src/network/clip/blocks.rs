//! Pre-norm residual blocks, which the text and the vision transformer share.

use tch::nn::{self, Init, LayerNorm, Linear, Module};
use tch::{Kind, Tensor};

use super::config::{Activation, BlocksConfig};
use crate::network::init::{layer_norm, linear_from};
use crate::network::transformer::MultiHeadAttention;

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::Gelu => x.gelu("none"),
        }
    }
}

/// Self-attention and a feed-forward block, each over the normalised input and added to it.
///
/// Keys `ln_1.*`, `attn.*`, `ln_2.*`, `mlp.c_fc.*`, `mlp.c_proj.*`.
#[derive(Debug)]
struct Block {
    norms: [LayerNorm; 2],
    attention: MultiHeadAttention,
    widen: Linear,
    narrow: Linear,
    activation: Activation,
}

impl Block {
    fn new(path: &nn::Path, config: &BlocksConfig) -> Self {
        let BlocksConfig { width, layers, feed_forward, .. } = *config;
        let normal = |stdev: f64| Init::Randn { mean: 0.0, stdev };
        let narrow_deviation = (2.0 * layers as f64 * width as f64).powf(-0.5);
        let mlp = path / "mlp";
        Self {
            norms: ["ln_1", "ln_2"].map(|name| layer_norm(&(path / name), width, config.norm_eps)),
            attention: MultiHeadAttention::new(&(path / "attn"), width, config.heads),
            widen: linear_from(
                &(&mlp / "c_fc"),
                width,
                feed_forward,
                normal((2.0 * width as f64).powf(-0.5)),
                Init::Const(0.0),
            ),
            narrow: linear_from(&(&mlp / "c_proj"), feed_forward, width, normal(narrow_deviation), Init::Const(0.0)),
            activation: config.activation,
        }
    }

    fn forward(&self, x: &Tensor, hidden: Option<&Tensor>) -> Tensor {
        let seen = self.norms[0].forward(x);
        let x = x + self.attention.forward(&seen, &seen, &seen, hidden, 0.0, false);
        let inner = self.activation.apply(&self.widen.forward(&self.norms[1].forward(&x)));
        x + self.narrow.forward(&inner)
    }
}

/// The blocks of a transformer, under `transformer.resblocks`.
#[derive(Debug)]
pub(super) struct Blocks(Vec<Block>);

impl Blocks {
    /// `path` is that of the transformer's owner.
    pub(super) fn new(path: &nn::Path, config: &BlocksConfig) -> Self {
        let path = path / "transformer" / "resblocks";
        Self((0..config.layers).map(|i| Block::new(&(&path / i), config)).collect())
    }

    /// `x` `[B, L, W]`. With `causal`, a token sees those up to itself only.
    pub(super) fn forward(&self, x: Tensor, causal: bool) -> Tensor {
        let length = x.size()[1];
        let hidden = causal.then(|| Tensor::ones([1, length, length], (Kind::Bool, x.device())).triu(1));
        self.0.iter().fold(x, |x, block| block.forward(&x, hidden.as_ref()))
    }
}
