//! Frozen text encoders of the BERT family: BERT (and MiniLM, which has its shape), RoBERTa, ALBERT and MobileBERT.
//!
//! Sizes come from a `config.json` ([`TextConfig`]), parameters from the published weights ([`TextWeights`]), whose keys are kept.
//! There is nothing to train: no dropout, no gradient, and no pooling layer above the last hidden state. Which text goes in, and
//! how it is cut into tokens, is [`crate::text`]'s part.

mod config;
mod embeddings;
mod layers;
mod mobilebert;
mod weights;

use tch::{Device, Kind, Tensor, no_grad};

pub use config::{Activation, Architecture, Bottleneck, ConfigError, TextConfig};
pub use weights::{TextWeights, WeightsError};

use embeddings::Embeddings;
use layers::{Linear, PostNormLayer};
use mobilebert::MobileBertLayer;

/// What lies between the embeddings and the last hidden state.
#[derive(Debug)]
enum Body {
    /// BERT, RoBERTa: one layer after the other.
    Stack(Vec<PostNormLayer>),
    /// ALBERT: the embedding is widened, then few layers serve many times. The second list is the order of use.
    Shared { widen: Linear, layers: Vec<PostNormLayer>, order: Vec<usize> },
    /// MobileBERT.
    Narrow(Vec<MobileBertLayer>),
}

/// An encoder with its parameters.
#[derive(Debug)]
pub struct TextNetwork {
    config: TextConfig,
    embeddings: Embeddings,
    body: Body,
    device: Device,
}

impl TextNetwork {
    /// Takes the parameters that the configuration asks for, as f32, to the device. Others (pooler, language-model head) are ignored.
    ///
    /// # Errors
    ///
    /// A parameter is missing or has another shape.
    pub fn new(config: TextConfig, weights: &TextWeights, device: Device) -> Result<Self, WeightsError> {
        let take = |name: &str, shape: &[i64]| weights.take(name, shape, device);
        let embeddings = Embeddings::new(&config, &take)?;
        let body = match &config.architecture {
            Architecture::Bert | Architecture::Roberta => Body::Stack(
                (0..config.layers)
                    .map(|i| PostNormLayer::bert(&config, &format!("encoder.layer.{i}"), &take))
                    .collect::<Result<_, _>>()?,
            ),
            &Architecture::Albert { groups, inner } => {
                let widen =
                    Linear::new("encoder.embedding_hidden_mapping_in", config.embedding_width, config.width, &take)?;
                let mut layers = Vec::new();
                for group in 0..groups {
                    for layer in 0..inner {
                        let name = format!("encoder.albert_layer_groups.{group}.albert_layers.{layer}");
                        layers.push(PostNormLayer::albert(&config, &name, &take)?);
                    }
                }
                // Layer i of the network is group floor(i * groups / layers), whose inner layers follow each other.
                let order = (0..config.layers)
                    .flat_map(|i| {
                        let group = i * groups / config.layers;
                        (0..inner).map(move |layer| (group * inner + layer) as usize)
                    })
                    .collect();
                Body::Shared { widen, layers, order }
            }
            Architecture::MobileBert(bottleneck) => Body::Narrow(
                (0..config.layers)
                    .map(|i| MobileBertLayer::new(&config, bottleneck, &format!("encoder.layer.{i}"), &take))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self { config, embeddings, body, device })
    }

    /// The sizes.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The last hidden state `[B, L, D]`, f32, without gradient.
    ///
    /// `ids` i64 `[B, L]`, each below [`TextConfig::vocabulary`], L at most [`TextConfig::limit`], on the network's device; `padding`
    /// bool `[B, L]`, true where a token is padding, which no other token then sees; at least one token of a row is none.
    pub fn forward(&self, ids: &Tensor, padding: Option<&Tensor>) -> Tensor {
        no_grad(|| {
            // [B, 1, 1, L], true where attention may look.
            let seen = padding.map(|p| p.to_kind(Kind::Bool).logical_not().unsqueeze(1).unsqueeze(1));
            let seen = seen.as_ref();
            let x = self.embeddings.forward(ids);
            match &self.body {
                Body::Stack(layers) => layers.iter().fold(x, |x, layer| layer.forward(&x, seen)),
                Body::Shared { widen, layers, order } => {
                    order.iter().fold(widen.forward(&x), |x, &i| layers[i].forward(&x, seen))
                }
                Body::Narrow(layers) => layers.iter().fold(x, |x, layer| layer.forward(&x, seen)),
            }
        })
    }
}

/// Gives a parameter of a shape by its name.
type Take<'a> = dyn Fn(&str, &[i64]) -> Result<Tensor, WeightsError> + 'a;
