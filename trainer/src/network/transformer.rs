//! Multi-head attention and the post-norm encoder and decoder layers of DETR, batch first.
//!
//! Every matrix starts with Xavier's uniform distribution, as DETR's do.

use serde::{Deserialize, Serialize};
use tch::nn::{self, Init, Module};
use tch::{Tensor, nn::Linear};

use super::init::{layer_norm, linear_from, xavier_linear, xavier_uniform};
pub use super::position::sine_position;

/// Projections of query, key and value.
#[derive(Debug)]
enum Projection {
    /// One matrix `[3 D, D]`.
    Packed(Tensor),
    /// `[D, D]`, `[D, K]`, `[D, K]`.
    Apart([Tensor; 3]),
}

/// Multi-head attention: softmax(q k^T / sqrt(d)) v per head, between learned projections (RmLR eq. 10).
///
/// Keys as PyTorch's: `in_proj_weight` (or `q_proj_weight`, `k_proj_weight`, `v_proj_weight`), `in_proj_bias`, `out_proj.weight`,
/// `out_proj.bias`.
#[derive(Debug)]
pub struct MultiHeadAttention {
    projection: Projection,
    bias: Tensor,
    out: Linear,
    width: i64,
    heads: i64,
}

impl MultiHeadAttention {
    /// Query, key and value all `width` wide; `heads` divides `width`.
    pub fn new(path: &nn::Path, width: i64, heads: i64) -> Self {
        let weight = path.var("in_proj_weight", &[3 * width, width], xavier_uniform(width, 3 * width));
        Self::around(path, Projection::Packed(weight), width, heads)
    }

    /// Query and result `width` wide, key and value `key_width`; `heads` divides `width`.
    pub fn with_widths(path: &nn::Path, width: i64, key_width: i64, heads: i64) -> Self {
        let weight = |name, inputs| path.var(name, &[width, inputs], xavier_uniform(inputs, width));
        let weights =
            [weight("q_proj_weight", width), weight("k_proj_weight", key_width), weight("v_proj_weight", key_width)];
        Self::around(path, Projection::Apart(weights), width, heads)
    }

    fn around(path: &nn::Path, projection: Projection, width: i64, heads: i64) -> Self {
        let bias = path.var("in_proj_bias", &[3 * width], Init::Const(0.0));
        let out = linear_from(&(path / "out_proj"), width, width, xavier_uniform(width, width), Init::Const(0.0));
        Self { projection, bias, out, width, heads }
    }

    /// Projects to `count` of query (0), key (1) and value (2) from the `first` on; all of them from `x`.
    fn project(&self, x: &Tensor, first: i64, count: i64) -> Vec<Tensor> {
        let (size, d) = (x.size(), self.width);
        let heads = |y: Tensor, n: i64| y.view([size[0], size[1], n, self.heads, d / self.heads]);
        let bias = |first: i64, n: i64| self.bias.narrow(0, first * d, n * d);
        let head_first = |y: &Tensor, i: i64| y.select(2, i).transpose(1, 2);
        match &self.projection {
            Projection::Packed(weight) => {
                let weight = if count == 3 { weight.shallow_clone() } else { weight.narrow(0, first * d, count * d) };
                let all = heads(x.linear(&weight, Some(bias(first, count))), count);
                (0..count).map(|i| head_first(&all, i)).collect()
            }
            Projection::Apart(weights) => weights
                .iter()
                .zip(0..)
                .skip(first as usize)
                .take(count as usize)
                .map(|(weight, i)| head_first(&heads(x.linear(weight, Some(bias(i, 1))), 1), 0))
                .collect(),
        }
    }

    /// What each query draws from the values: `[B, Lq, D]`.
    ///
    /// `query` `[B, Lq, D]`; `key` and `value` `[B, Lk, D]`; `padding` bool `[B, Lk]`, true where a key is ignored, or
    /// `[B, Lq, Lk]` for each query; a query all of whose keys are ignored gets the output projection of zeros. In training, attention weights are dropped with probability
    /// `dropout`. Passing one tensor for several of the three saves matrix products.
    pub fn forward(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        padding: Option<&Tensor>,
        dropout: f64,
        train: bool,
    ) -> Tensor {
        let mut projected = Vec::with_capacity(3);
        let (same_qk, same_kv) = (std::ptr::eq(query, key), std::ptr::eq(key, value));
        match (&self.projection, same_qk, same_kv) {
            (Projection::Packed(_), true, true) => projected.extend(self.project(query, 0, 3)),
            (Projection::Packed(_), true, false) => {
                projected.extend(self.project(query, 0, 2));
                projected.extend(self.project(value, 2, 1));
            }
            (Projection::Packed(_), false, true) => {
                projected.extend(self.project(query, 0, 1));
                projected.extend(self.project(key, 1, 2));
            }
            _ => {
                for (x, i) in [query, key, value].into_iter().zip(0..) {
                    projected.extend(self.project(x, i, 1));
                }
            }
        }
        let mask = padding.map(|p| {
            let kept = p.logical_not().unsqueeze(1);
            if p.dim() == 3 { kept } else { kept.unsqueeze(1) }
        });
        let dropout = if train { dropout } else { 0.0 };
        let [q, k, v] = [&projected[0], &projected[1], &projected[2]];
        let drawn = Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, false, None, false);
        self.out.forward(&drawn.transpose(1, 2).flatten(2, 3))
    }
}

/// Non-linearity between the two linear layers of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x times the normal distribution function of x, exactly.
    Gelu,
}

impl Activation {
    /// Of each value.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu("none"),
        }
    }
}

/// Sizes of an [`EncoderLayer`] or a [`DecoderLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderLayerConfig {
    /// Width of a token.
    pub width: i64,
    /// Attention heads; they divide the width.
    pub heads: i64,
    /// Width inside the feed-forward block.
    pub feed_forward: i64,
    /// Probability with which a value is dropped in training.
    pub dropout: f64,
    /// Inside the feed-forward block.
    pub activation: Activation,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

/// Two linear layers (`linear1`, `linear2`) around an activation.
#[derive(Debug)]
struct FeedForward {
    first: Linear,
    second: Linear,
    activation: Activation,
    dropout: f64,
}

impl FeedForward {
    fn new(path: &nn::Path, config: &EncoderLayerConfig) -> Self {
        Self {
            first: xavier_linear(&(path / "linear1"), config.width, config.feed_forward),
            second: xavier_linear(&(path / "linear2"), config.feed_forward, config.width),
            activation: config.activation,
            dropout: config.dropout,
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.second.forward(&self.activation.apply(&self.first.forward(x)).dropout(self.dropout, train))
    }
}

/// Post-norm encoder layer: self-attention and a feed-forward block, each added to its input and normalised.
///
/// Keys `self_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`, `norm2.*`.
#[derive(Debug)]
pub struct EncoderLayer {
    attention: MultiHeadAttention,
    feed_forward: FeedForward,
    norms: [nn::LayerNorm; 2],
    dropout: f64,
}

impl EncoderLayer {
    /// A layer under `path`.
    pub fn new(path: &nn::Path, config: &EncoderLayerConfig) -> Self {
        Self {
            attention: MultiHeadAttention::new(&(path / "self_attn"), config.width, config.heads),
            feed_forward: FeedForward::new(path, config),
            norms: ["norm1", "norm2"].map(|name| layer_norm(&(path / name), config.width, config.norm_eps)),
            dropout: config.dropout,
        }
    }

    /// `x` `[B, L, D]`; `position` of the same shape is added to queries and keys only; `padding` bool `[B, L]`, true where a
    /// token is ignored as key. Gives `[B, L, D]`.
    pub fn forward(&self, x: &Tensor, position: Option<&Tensor>, padding: Option<&Tensor>, train: bool) -> Tensor {
        let p = self.dropout;
        let drawn = match position {
            Some(position) => {
                let placed = x + position;
                self.attention.forward(&placed, &placed, x, padding, p, train)
            }
            None => self.attention.forward(x, x, x, padding, p, train),
        };
        let x = self.norms[0].forward(&(x + drawn.dropout(p, train)));
        let fed = self.feed_forward.forward(&x, train).dropout(p, train);
        self.norms[1].forward(&(x + fed))
    }
}

/// What a decoder reads.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// With the position code, `[B, L, D]`.
    pub keys: &'a Tensor,
    /// Without it, `[B, L, D]`.
    pub values: &'a Tensor,
    /// Bool `[B, L]`, true where a token is ignored.
    pub padding: Option<&'a Tensor>,
}

/// Post-norm decoder layer: self-attention, attention to the memory, feed-forward block.
///
/// Keys `self_attn.*`, `multihead_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`, `norm2.*`, `norm3.*`.
#[derive(Debug)]
pub struct DecoderLayer {
    attention: MultiHeadAttention,
    reading: MultiHeadAttention,
    feed_forward: FeedForward,
    norms: [nn::LayerNorm; 3],
    dropout: f64,
}

impl DecoderLayer {
    /// A layer under `path`.
    pub fn new(path: &nn::Path, config: &EncoderLayerConfig) -> Self {
        Self {
            attention: MultiHeadAttention::new(&(path / "self_attn"), config.width, config.heads),
            reading: MultiHeadAttention::new(&(path / "multihead_attn"), config.width, config.heads),
            feed_forward: FeedForward::new(path, config),
            norms: ["norm1", "norm2", "norm3"].map(|name| layer_norm(&(path / name), config.width, config.norm_eps)),
            dropout: config.dropout,
        }
    }

    /// `x` `[B, Q, D]`; `position`, broadcast to that, is added to queries (of both attentions) and to the keys of the
    /// self-attention. Gives `[B, Q, D]`.
    pub fn forward(&self, x: &Tensor, position: Option<&Tensor>, memory: Memory, train: bool) -> Tensor {
        let p = self.dropout;
        let placed = |x: &Tensor| position.map_or_else(|| x.shallow_clone(), |position| x + position);
        let query = placed(x);
        let drawn = self.attention.forward(&query, &query, x, None, p, train);
        let x = self.norms[0].forward(&(x + drawn.dropout(p, train)));
        let drawn = self.reading.forward(&placed(&x), memory.keys, memory.values, memory.padding, p, train);
        let x = self.norms[1].forward(&(x + drawn.dropout(p, train)));
        let fed = self.feed_forward.forward(&x, train).dropout(p, train);
        self.norms[2].forward(&(x + fed))
    }
}
