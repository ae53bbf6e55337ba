//! Parameters and multiply-accumulates (MACs) of the networks.
//!
//! Parameters are those of a network that is really built; MACs follow from its configuration, layer by layer. Counted are
//! convolutions, linear layers and both matrix products of each attention; norms, activations, softmax and pooling are not, as is the
//! custom.

mod rmlr;
mod walk;

use std::collections::BTreeMap;

use hoi_runtime::geometry::Size;
use tch::Device;
use tch::nn::VarStore;

use super::ConfigError;
use super::detr::{Detr, DetrConfig};

pub use rmlr::{RmlrSizes, count_rmlr};

/// What a layer with MACs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A convolution of the backbone.
    Convolution,
    /// The 1x1 convolution between backbone and transformer.
    InputProjection,
    /// A linear layer of a feed-forward block.
    FeedForward,
    /// An attention: its four projections and two products.
    Attention,
    /// Any other linear layer.
    Linear,
    /// A product of two things that are both computed.
    Product,
}

impl Sort {
    /// Whether RmLR's Table 4 counts it.
    fn is_in_table4(self) -> bool {
        matches!(self, Self::Convolution | Self::InputProjection | Self::FeedForward)
    }
}

/// A layer and its MACs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its parameters' names start with this and a dot.
    pub key: String,
    /// What it is.
    pub sort: Sort,
    /// Multiply-accumulates for one picture.
    pub macs: i64,
}

/// Parameters and MACs of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Parameters, trained in principle: without frozen norms and statistics.
    pub parameters: i64,
    /// Multiply-accumulates for one picture.
    pub macs: i64,
}

/// A part of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is called.
    pub name: &'static str,
    /// What it has.
    pub totals: Totals,
}

/// What a network has.
#[derive(Clone, Debug)]
pub struct Count {
    parts: &'static [(&'static str, &'static [&'static str])],
    layers: Vec<Layer>,
    /// Number of values of each parameter.
    sizes: BTreeMap<String, i64>,
    /// Weights and biases of frozen norms.
    frozen: i64,
}

/// Names of the parts, and what their parameters start with.
const DETR_PARTS: [(&str, &[&str]); 6] = [
    ("backbone", &["backbone."]),
    ("input projection", &["input_proj."]),
    ("encoder", &["transformer.encoder."]),
    ("decoder", &["transformer.decoder."]),
    ("queries", &["query_embed."]),
    ("class and box heads", &["class_embed.", "bbox_embed."]),
];

impl Count {
    /// Of the parameters in `store`.
    fn new(parts: &'static [(&'static str, &'static [&'static str])], layers: Vec<Layer>, store: &VarStore) -> Self {
        let (mut sizes, mut frozen) = (BTreeMap::new(), 0);
        for (name, variable) in store.variables() {
            let count = variable.numel() as i64;
            if variable.requires_grad() {
                sizes.insert(name, count);
            } else if name.ends_with(".weight") || name.ends_with(".bias") {
                frozen += count;
            }
        }
        Self { parts, layers, sizes, frozen }
    }

    /// Everything, without frozen norms.
    pub fn totals(&self) -> Totals {
        Totals { parameters: self.sizes.values().sum(), macs: self.layers.iter().map(|layer| layer.macs).sum() }
    }

    /// Parameters with the weights and biases of frozen norms.
    pub fn parameters_with_norms(&self) -> i64 {
        self.totals().parameters + self.frozen
    }

    /// Part by part; together they are the whole.
    pub fn parts(&self) -> Vec<Part> {
        let part = |&(name, prefixes): &(&'static str, &[&str])| {
            let within = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
            let parameters = self.sizes.iter().filter(|(key, _)| within(key)).map(|(_, count)| count).sum();
            let layers = self.layers.iter().filter(|layer| within(&format!("{}.", layer.key)));
            Part { name, totals: Totals { parameters, macs: layers.map(|layer| layer.macs).sum() } }
        };
        self.parts.iter().map(part).collect()
    }

    /// The layers with MACs.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Parameters of a layer.
    pub fn layer_parameters(&self, layer: &Layer) -> i64 {
        let prefix = format!("{}.", layer.key);
        self.sizes.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, count)| count).sum()
    }

    /// What the detector has under the rule behind RmLR's Table 4: convolutions, the input projection and the linear layers of the
    /// feed-forward blocks alone. Every attention, norm, query and head is missing, so this is no count of the network.
    pub fn under_table4_rule(&self) -> Totals {
        let detector =
            |layer: &&Layer| DETR_PARTS.iter().flat_map(|(_, p)| *p).any(|p| format!("{}.", layer.key).starts_with(p));
        let layers: Vec<&Layer> = self.layers.iter().filter(|l| l.sort.is_in_table4()).filter(detector).collect();
        Totals {
            parameters: layers.iter().map(|layer| self.layer_parameters(layer)).sum(),
            macs: layers.iter().map(|layer| layer.macs).sum(),
        }
    }
}

/// Counts a detector for a picture of `input` pixels, padded to nothing.
///
/// # Errors
/// The configuration cannot be built.
pub fn count_detr(config: &DetrConfig, input: Size) -> Result<Count, ConfigError> {
    config.check()?;
    let store = VarStore::new(Device::Cpu);
    let _detr = Detr::new(&store.root(), config);
    Ok(Count::new(&DETR_PARTS, walk::detr(config, input).0, &store))
}
