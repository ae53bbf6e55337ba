//! MobileBERT's layer (arXiv 2004.02984): a narrow BERT layer with several feed-forward blocks between two bottlenecks.

use tch::Tensor;

use super::config::{Activation, Bottleneck, TextConfig};
use super::embeddings::DEFAULT_NORM_EPS;
use super::layers::{Attention, Linear, Norm, Residual};
use super::{Take, WeightsError};

/// `norm(dense(x))`: from the outer width to the inner one.
#[derive(Debug)]
struct Narrowing {
    dense: Linear,
    norm: Norm,
}

impl Narrowing {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.norm.forward(&self.dense.forward(x))
    }
}

/// `norm(dense(activation(inner(x))) + x)`.
#[derive(Debug)]
struct FeedForward {
    inner: Linear,
    output: Residual,
}

impl FeedForward {
    fn forward(&self, x: &Tensor, activation: Activation) -> Tensor {
        self.output.forward(&activation.forward(&self.inner.forward(x)), x)
    }
}

/// One layer.
#[derive(Debug)]
pub(super) struct MobileBertLayer {
    /// Narrows what the attention's residual is made of; `None` without bottlenecks.
    input: Option<Narrowing>,
    /// Narrows what queries and keys are made of, where they have a bottleneck of their own.
    query_key: Option<Narrowing>,
    narrow_values: bool,
    attention: Attention,
    attended: Residual,
    /// In order; the last one's keys are those of a BERT layer.
    feed_forwards: Vec<FeedForward>,
    /// Widens again, with the layer's input as residual; `None` without bottlenecks.
    output: Option<Residual>,
    activation: Activation,
}

impl MobileBertLayer {
    pub(super) fn new(
        config: &TextConfig,
        bottleneck: &Bottleneck,
        name: &str,
        take: &Take<'_>,
    ) -> Result<Self, WeightsError> {
        let (wide, narrow, feed_forward) = (config.width, bottleneck.inner_width, config.feed_forward);
        let linear = |part: &str, from: i64, to: i64| Linear::new(&format!("{name}.{part}.dense"), from, to, take);
        let norm = |part: &str, width: i64, eps: f64| {
            Norm::new(&format!("{name}.{part}.LayerNorm"), width, (!bottleneck.no_norm).then_some(eps), take)
        };
        let residual = |part: &str, from: i64, to: i64, eps: f64| -> Result<Residual, WeightsError> {
            Ok(Residual { dense: linear(part, from, to)?, norm: norm(part, to, eps)? })
        };
        let narrowing = |part: &str| -> Result<Narrowing, WeightsError> {
            Ok(Narrowing { dense: linear(part, wide, narrow)?, norm: norm(part, narrow, config.norm_eps)? })
        };
        let own_query_key = bottleneck.narrow && bottleneck.shared_key_query && !bottleneck.narrow_values;
        let value_from = if bottleneck.narrow_values { narrow } else { wide };
        let mut feed_forwards = Vec::new();
        for i in 0..bottleneck.feed_forwards - 1 {
            feed_forwards.push(FeedForward {
                inner: linear(&format!("ffn.{i}.intermediate"), narrow, feed_forward)?,
                output: residual(&format!("ffn.{i}.output"), feed_forward, narrow, config.norm_eps)?,
            });
        }
        feed_forwards.push(FeedForward {
            inner: linear("intermediate", narrow, feed_forward)?,
            output: residual("output", feed_forward, narrow, DEFAULT_NORM_EPS)?,
        });
        Ok(Self {
            input: bottleneck.narrow.then(|| narrowing("bottleneck.input")).transpose()?,
            query_key: own_query_key.then(|| narrowing("bottleneck.attention")).transpose()?,
            narrow_values: bottleneck.narrow && bottleneck.narrow_values,
            attention: Attention::new(config, &format!("{name}.attention.self"), value_from, take)?,
            attended: residual("attention.output", narrow, narrow, config.norm_eps)?,
            feed_forwards,
            output: bottleneck
                .narrow
                .then(|| residual("output.bottleneck", narrow, wide, config.norm_eps))
                .transpose()?,
            activation: config.activation,
        })
    }

    /// `[B, L, D]`; `seen` bool `[B, 1, 1, L]`, true where attention may look.
    pub(super) fn forward(&self, x: &Tensor, seen: Option<&Tensor>) -> Tensor {
        let input = self.input.as_ref().map(|narrowing| narrowing.forward(x));
        let layer_input = input.as_ref().unwrap_or(x);
        let own = self.query_key.as_ref().map(|narrowing| narrowing.forward(x));
        let values = if self.narrow_values { layer_input } else { x };
        let query_key = own.as_ref().unwrap_or(values);
        let attended = self.attended.forward(&self.attention.forward(query_key, values, seen), layer_input);
        let inner = self.feed_forwards.iter().fold(attended, |x, block| block.forward(&x, self.activation));
        match &self.output {
            Some(output) => output.forward(&inner, x),
            None => inner,
        }
    }
}
