//! The visual head: what is exported.

use tch::{Kind, Tensor, nn};

use super::config::RmlrShape;
use crate::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig, sine_position};

/// One batch of pictures with their pairs, filled up to the largest of the batch.
#[derive(Debug)]
pub struct VisualBatch {
    /// Backbone maps X^v, `[B, c, h, w]`.
    pub feature: Tensor,
    /// Cells that are filling, `[B, h, w]`, bool.
    pub feature_padding: Tensor,
    /// Masked RoIs, `[B, P, h * w]`: eq. 5 as a matrix product.
    pub pair_masks: Tensor,
    /// Detector tokens, `[B, N, D]`.
    pub tokens: Tensor,
    /// Rows of `tokens`, `[B, P]`, i64.
    pub human_index: Tensor,
    /// Rows of `tokens`, `[B, P]`, i64.
    pub object_index: Tensor,
    /// Box geometry, `[B, P, 36]`; read where the shape asks for it.
    pub spatial: Tensor,
    /// Rows that are filling, `[B, P]`, bool. Every picture has at least one row that is not.
    pub pair_padding: Tensor,
}

/// What the head says of a batch.
#[derive(Debug)]
pub struct VisualOutput {
    /// Cues m, `[B, P, cue]`, where they are re-mined.
    pub cue: Option<Tensor>,
    /// Pair tokens after the reasoning module, O, `[B, P, pair]`.
    pub reasoned: Tensor,
    /// Verb logits z (eq. 20), `[B, P, V]`.
    pub logits: Tensor,
}

/// RmLR's head: Interactive Relation Encoder, pair tokens, Interaction Reasoning Module, classifier (eqs. 4 to 9 and 20).
#[derive(Debug)]
pub struct RmlrNetwork {
    shape: RmlrShape,
    remining: Option<Remining>,
    context: Option<nn::Linear>,
    token: nn::Linear,
    spatial: Option<[nn::Linear; 3]>,
    pair: nn::Linear,
    reasoning: Vec<EncoderLayer>,
    verbs: nn::Linear,
}

#[derive(Debug)]
struct Remining {
    project: nn::Conv2D,
    relation: Vec<EncoderLayer>,
    cue: nn::Linear,
}

/// Widths of the three layers over the spatial values (UPT).
const SPATIAL_WIDTHS: [i64; 4] = [hoi_runtime::spatial::SPATIAL_LEN as i64, 128, 256, 512];

fn linear(path: nn::Path<'_>, from: i64, to: i64) -> nn::Linear {
    nn::linear(path, from, to, nn::LinearConfig::default())
}

impl RmlrNetwork {
    /// A head with random weights; `tch::manual_seed` decides which.
    pub fn new(path: &nn::Path<'_>, shape: &RmlrShape) -> Self {
        let remining = shape.cue_used.then(|| {
            let layer = EncoderLayerConfig {
                width: shape.relation_width,
                heads: shape.relation_heads,
                feed_forward: shape.relation_feed_forward,
                dropout: shape.dropout,
                activation: Activation::Relu,
                norm_eps: 1e-5,
            };
            let layers = path / "relation" / "layers";
            Remining {
                project: nn::conv2d(
                    path / "project",
                    shape.map_channels,
                    shape.relation_width,
                    1,
                    nn::ConvConfig::default(),
                ),
                relation: (0..shape.relation_layers).map(|i| EncoderLayer::new(&(&layers / i), &layer)).collect(),
                cue: linear(path / "cue", shape.relation_width, shape.cue),
            }
        });
        let context = shape.context_used.then(|| linear(path / "context", shape.map_channels, shape.cue));
        let token = linear(path / "token", shape.token_width, shape.entity);
        let spatial = shape
            .spatial_used
            .then(|| [0, 1, 2].map(|i| linear(path / "spatial" / (2 * i), SPATIAL_WIDTHS[i], SPATIAL_WIDTHS[i + 1])));
        let width = 2 * shape.entity
            + i64::from(shape.cue_used) * shape.cue
            + i64::from(shape.context_used) * shape.cue
            + i64::from(shape.spatial_used) * SPATIAL_WIDTHS[3];
        let layer = EncoderLayerConfig {
            width: shape.pair,
            heads: shape.reasoning_heads,
            feed_forward: shape.reasoning_feed_forward,
            dropout: shape.dropout,
            activation: Activation::Gelu,
            // UPT's competitive layer.
            norm_eps: 1e-12,
        };
        let layers = path / "reasoning" / "layers";
        Self {
            remining,
            context,
            token,
            spatial,
            pair: linear(path / "pair", width, shape.pair),
            reasoning: (0..shape.reasoning_layers).map(|i| EncoderLayer::new(&(&layers / i), &layer)).collect(),
            verbs: linear(path / "verbs", shape.pair, shape.verbs),
            shape: shape.clone(),
        }
    }

    /// Its sizes.
    pub fn shape(&self) -> &RmlrShape {
        &self.shape
    }

    /// The re-mined map X_e (eq. 4), `[B, d_e, h, w]`, where the head re-mines.
    pub fn relation_map(&self, batch: &VisualBatch, train: bool) -> Option<Tensor> {
        let part = self.remining.as_ref()?;
        let x = batch.feature.apply(&part.project);
        let (b, c, h, w) = x.size4().ok()?;
        let position = sine_position(&batch.feature_padding, c / 2).flatten(2, 3).transpose(1, 2);
        let padding = batch.feature_padding.flatten(1, 2);
        let mut cells = x.flatten(2, 3).transpose(1, 2);
        for layer in &part.relation {
            cells = layer.forward(&cells, Some(&position), Some(&padding), train);
        }
        Some(cells.transpose(1, 2).reshape([b, c, h, w]))
    }

    /// Cues m of the pairs (eq. 5), `[B, P, cue]`, where the head re-mines.
    pub fn cues(&self, batch: &VisualBatch, train: bool) -> Option<Tensor> {
        let part = self.remining.as_ref()?;
        let map = self.relation_map(batch, train)?;
        Some(batch.pair_masks.matmul(&map.flatten(2, 3).transpose(1, 2)).apply(&part.cue))
    }

    /// All of it.
    pub fn forward(&self, batch: &VisualBatch, train: bool) -> VisualOutput {
        let cue = self.cues(batch, train);
        let pairs = batch.pair_masks.size()[1];
        let mut parts = Vec::with_capacity(5);
        if let Some(context) = &self.context {
            // Mean over the cells that are no filling, from the raw map (eq. 6).
            let real = batch.feature_padding.logical_not().to_kind(batch.feature.kind()).unsqueeze(1);
            let sum = (&batch.feature * &real).sum_dim_intlist([2i64, 3].as_slice(), false, None::<Kind>);
            let mean = sum / real.sum_dim_intlist([2i64, 3].as_slice(), false, None::<Kind>);
            let g = mean.apply(context).unsqueeze(1);
            parts.push(g.expand([-1, pairs, -1], false));
        }
        let entities = batch.tokens.apply(&self.token).relu();
        for index in [&batch.human_index, &batch.object_index] {
            let rows = index.unsqueeze(-1).expand([-1, -1, self.shape.entity], false);
            parts.push(entities.gather(1, &rows, false));
        }
        if let Some(m) = &cue {
            parts.push(m.shallow_clone());
        }
        if let Some(layers) = &self.spatial {
            parts.push(layers.iter().fold(batch.spatial.shallow_clone(), |x, layer| x.apply(layer).relu()));
        }
        let mut pair = Tensor::cat(&parts, -1).apply(&self.pair);
        for layer in &self.reasoning {
            pair = layer.forward(&pair, None, Some(&batch.pair_padding), train);
        }
        let logits = pair.apply(&self.verbs);
        VisualOutput { cue, reasoned: pair, logits }
    }
}
