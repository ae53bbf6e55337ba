//! RmLR: the detector and what the method adds to it, once a picture and once a pair.

use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::PairingSpec;
use tch::Device;
use tch::nn::{self, VarStore};

use super::walk::{self, encoder_layer, weighted};
use super::{Count, DETR_PARTS, Layer, Sort};
use crate::network::ConfigError;
use crate::network::detr::{Detr, DetrConfig};
use crate::network::init::{linear, pointwise};
use crate::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig};

/// Sizes of RmLR beside its detector (RmLR section 3.2, appendix B).
#[derive(Clone, Debug, PartialEq)]
pub struct RmlrSizes {
    /// The Interactive Relation Encoder's layers and their number (eq. 4).
    pub relation: (EncoderLayerConfig, i64),
    /// The Interaction Reasoning Module's layers and their number.
    pub reasoning: (EncoderLayerConfig, i64),
    /// Width of the pair's cue (eq. 5), of the context (eq. 6) and of a token after its projection.
    pub entity: i64,
    /// Verbs.
    pub verbs: i64,
    /// Detections that are paired.
    pub detections: i64,
    /// Human-object pairs.
    pub pairs: i64,
}

impl RmlrSizes {
    /// The paper's sizes, and the most pairs that there can be: 15 humans and 15 objects.
    pub fn full(verbs: i64) -> Self {
        let relation = EncoderLayerConfig {
            width: 256,
            heads: 8,
            feed_forward: 2048,
            dropout: 0.1,
            activation: Activation::Relu,
            norm_eps: 1e-5,
        };
        let reasoning = EncoderLayerConfig { width: 1024, activation: Activation::Gelu, norm_eps: 1e-12, ..relation };
        let PairingSpec { humans, objects, .. } = PairingSpec::default();
        let (humans, detections) = (humans.max as i64, (humans.max + objects.max) as i64);
        Self {
            relation: (relation, 2),
            reasoning: (reasoning, 1),
            entity: 512,
            verbs,
            detections,
            pairs: humans * (detections - 1),
        }
    }
}

/// Parts of detector and head.
const PARTS: [(&str, &[&str]); 15] = {
    let [backbone, input, encoder, decoder, queries, heads] = DETR_PARTS;
    [
        backbone,
        input,
        encoder,
        decoder,
        queries,
        heads,
        ("projection of the map", &["project."]),
        ("interactive relation encoder", &["relation."]),
        ("context", &["context."]),
        ("masked RoI", &["roi."]),
        ("cue", &["cue."]),
        ("tokens", &["token."]),
        ("pair", &["pair."]),
        ("interaction reasoning module", &["reasoning."]),
        ("verbs", &["verbs."]),
    ]
};

/// Builds the parameters of the head.
fn build(path: &nn::Path, channels: i64, token: i64, sizes: &RmlrSizes) {
    let RmlrSizes { relation: (relation, relations), reasoning: (reasoning, reasonings), entity, verbs, .. } = sizes;
    pointwise(&(path / "project"), channels, relation.width);
    for n in 0..*relations {
        EncoderLayer::new(&(path / "relation" / "layers" / n), relation);
    }
    linear(&(path / "context"), channels, *entity);
    linear(&(path / "cue"), relation.width, *entity);
    linear(&(path / "token"), token, *entity);
    linear(&(path / "pair"), 4 * entity, reasoning.width);
    for n in 0..*reasonings {
        EncoderLayer::new(&(path / "reasoning" / "layers" / n), reasoning);
    }
    linear(&(path / "verbs"), reasoning.width, *verbs);
}

/// Layers of the head over a map of so many cells.
fn head(channels: i64, token: i64, cells: i64, sizes: &RmlrSizes) -> Vec<Layer> {
    let RmlrSizes { relation: (relation, relations), reasoning: (reasoning, reasonings), entity, verbs, .. } = sizes;
    let (detections, pairs) = (sizes.detections, sizes.pairs);
    let linear = |key: &str, weights, positions| weighted(key.to_owned(), Sort::Linear, weights, positions);
    let mut layers = vec![linear("project", channels * relation.width, cells)];
    for n in 0..*relations {
        layers.extend(encoder_layer(&format!("relation.layers.{n}"), relation, cells));
    }
    layers.push(linear("context", channels * entity, 1));
    // The share of each cell in each pair's boxes, times the map.
    layers.push(weighted("roi".to_owned(), Sort::Product, relation.width * cells, pairs));
    layers.push(linear("cue", relation.width * entity, pairs));
    layers.push(linear("token", token * entity, detections));
    layers.push(linear("pair", 4 * entity * reasoning.width, pairs));
    for n in 0..*reasonings {
        layers.extend(encoder_layer(&format!("reasoning.layers.{n}"), reasoning, pairs));
    }
    layers.push(linear("verbs", reasoning.width * verbs, pairs));
    layers
}

/// Counts detector and head for a picture of `input` pixels with as many pairs as `sizes` says; the text side, which only training
/// has, is not in it.
///
/// # Errors
/// The detector's configuration cannot be built.
pub fn count_rmlr(config: &DetrConfig, sizes: &RmlrSizes, input: Size) -> Result<Count, ConfigError> {
    config.check()?;
    let store = VarStore::new(Device::Cpu);
    let _detr = Detr::new(&store.root(), config);
    let channels = config.backbone.channels();
    build(&store.root(), channels, config.width, sizes);
    let (mut layers, [height, width]) = walk::detr(config, input);
    layers.extend(head(channels, config.width, height * width, sizes));
    Ok(Count::new(&PARTS, layers, &store))
}
