//! What the encoders are made of.

use tch::Tensor;

use super::config::{Activation, TextConfig};
use super::{Take, WeightsError};

impl Activation {
    pub(super) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
        }
    }
}

/// `x W^T + b` over the last axis.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(name: &str, from: i64, to: i64, take: &Take<'_>) -> Result<Self, WeightsError> {
        let weight = take(&format!("{name}.weight"), &[to, from])?;
        Ok(Self { weight, bias: take(&format!("{name}.bias"), &[to])? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// Layer normalisation over the last axis, or MobileBERT's `x w + b`.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    /// `None`: without statistics.
    eps: Option<f64>,
}

impl Norm {
    pub(super) fn new(name: &str, width: i64, eps: Option<f64>, take: &Take<'_>) -> Result<Self, WeightsError> {
        let weight = take(&format!("{name}.weight"), &[width])?;
        Ok(Self { weight, bias: take(&format!("{name}.bias"), &[width])?, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        match self.eps {
            Some(eps) => x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), eps, false),
            None => x * &self.weight + &self.bias,
        }
    }
}

/// `softmax(q k^T / sqrt(d)) v` per head, with learned projections of queries, keys and values.
#[derive(Debug)]
pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: i64,
}

impl Attention {
    /// `value_from`: width of what values are made of; queries and keys come from the attention's own width.
    pub(super) fn new(config: &TextConfig, name: &str, value_from: i64, take: &Take<'_>) -> Result<Self, WeightsError> {
        let width = config.attention_width();
        Ok(Self {
            query: Linear::new(&format!("{name}.query"), width, width, take)?,
            key: Linear::new(&format!("{name}.key"), width, width, take)?,
            value: Linear::new(&format!("{name}.value"), value_from, width, take)?,
            heads: config.heads,
        })
    }

    /// `[B, L, width]`; `seen` bool `[B, 1, 1, L]`, true where attention may look.
    pub(super) fn forward(&self, query_key: &Tensor, value: &Tensor, seen: Option<&Tensor>) -> Tensor {
        let (batch, length) = (query_key.size()[0], query_key.size()[1]);
        let split = |x: Tensor| x.view([batch, length, self.heads, -1]).transpose(1, 2);
        let (q, k) = (split(self.query.forward(query_key)), split(self.key.forward(query_key)));
        let v = split(self.value.forward(value));
        let context = Tensor::scaled_dot_product_attention(&q, &k, &v, seen, 0.0, false, None, false);
        context.transpose(1, 2).reshape([batch, length, -1])
    }
}

/// `norm(dense(x) + residual)`.
#[derive(Debug)]
pub(super) struct Residual {
    pub(super) dense: Linear,
    pub(super) norm: Norm,
}

impl Residual {
    pub(super) fn forward(&self, x: &Tensor, residual: &Tensor) -> Tensor {
        self.norm.forward(&(self.dense.forward(x) + residual))
    }
}

/// A layer of BERT, RoBERTa and ALBERT: attention, then a feed-forward block, each normalised behind its residual.
#[derive(Debug)]
pub(super) struct PostNormLayer {
    attention: Attention,
    attended: Residual,
    inner: Linear,
    output: Residual,
    activation: Activation,
}

/// Keys of a layer's parts, below the layer's own.
struct Keys {
    attention: &'static str,
    attended: [&'static str; 2],
    inner: &'static str,
    output: [&'static str; 2],
}

impl PostNormLayer {
    /// With BERT's keys.
    pub(super) fn bert(config: &TextConfig, name: &str, take: &Take<'_>) -> Result<Self, WeightsError> {
        let keys = Keys {
            attention: "attention.self",
            attended: ["attention.output.dense", "attention.output.LayerNorm"],
            inner: "intermediate.dense",
            output: ["output.dense", "output.LayerNorm"],
        };
        Self::new(config, name, &keys, take)
    }

    /// With ALBERT's keys.
    pub(super) fn albert(config: &TextConfig, name: &str, take: &Take<'_>) -> Result<Self, WeightsError> {
        let keys = Keys {
            attention: "attention",
            attended: ["attention.dense", "attention.LayerNorm"],
            inner: "ffn",
            output: ["ffn_output", "full_layer_layer_norm"],
        };
        Self::new(config, name, &keys, take)
    }

    fn new(config: &TextConfig, name: &str, keys: &Keys, take: &Take<'_>) -> Result<Self, WeightsError> {
        let (width, feed_forward) = (config.width, config.feed_forward);
        let residual = |[dense, norm]: [&str; 2], from: i64| -> Result<Residual, WeightsError> {
            Ok(Residual {
                dense: Linear::new(&format!("{name}.{dense}"), from, width, take)?,
                norm: Norm::new(&format!("{name}.{norm}"), width, Some(config.norm_eps), take)?,
            })
        };
        Ok(Self {
            attention: Attention::new(config, &format!("{name}.{}", keys.attention), width, take)?,
            attended: residual(keys.attended, width)?,
            inner: Linear::new(&format!("{name}.{}", keys.inner), width, feed_forward, take)?,
            output: residual(keys.output, feed_forward)?,
            activation: config.activation,
        })
    }

    /// `[B, L, D]`; `seen` as in [`Attention::forward`].
    pub(super) fn forward(&self, x: &Tensor, seen: Option<&Tensor>) -> Tensor {
        let x = self.attended.forward(&self.attention.forward(x, x, seen), x);
        let inner = self.activation.forward(&self.inner.forward(&x));
        self.output.forward(&inner, &x)
    }
}
