//! The visual head: what is exported.

use tch::{Kind, Tensor, nn};

use super::config::RmlrShape;
use crate::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig, sine_position};

/// One batch of pictures with their R pairs, one picture's after another's.
#[derive(Debug)]
pub struct VisualBatch {
    /// Backbone maps X^v, filled up to the largest of the batch, `[B, c, h, w]`.
    pub feature: Tensor,
    /// Cells that are filling, `[B, h, w]`, bool; `None` where there is none.
    pub feature_padding: Option<Tensor>,
    /// Masked RoIs, filled up to the most pairs of a picture, `[B, P, h * w]`: eq. 5 as a matrix product.
    pub pair_masks: Tensor,
    /// Which of the `B * P` masks are pairs, `[R]`, i64.
    pub rows: Tensor,
    /// Picture of each pair, `[R]`, i64.
    pub picture: Tensor,
    /// Detector tokens of all pictures, `[N, D]`.
    pub tokens: Tensor,
    /// Rows of `tokens`, `[R]`, i64.
    pub human_index: Tensor,
    /// Rows of `tokens`, `[R]`, i64.
    pub object_index: Tensor,
    /// Box geometry, `[R, 36]`; read where the shape asks for it.
    pub spatial: Tensor,
    /// True where two pairs belong to different pictures and must not see each other, `[1, R, R]`; `None` for one picture.
    pub apart: Option<Tensor>,
}

/// What the head says of a batch.
#[derive(Debug)]
pub struct VisualOutput {
    /// Cues m, `[R, cue]`, where they are re-mined.
    pub cue: Option<Tensor>,
    /// Pair tokens after the reasoning module, O, `[R, pair]`.
    pub reasoned: Tensor,
    /// Verb logits z (eq. 20), `[R, V]`.
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
        let none = || Tensor::zeros([1, h, w], (Kind::Bool, x.device()));
        let filling = batch.feature_padding.as_ref();
        let position = sine_position(&filling.map_or_else(none, Tensor::shallow_clone), c / 2);
        let position = position.to_kind(x.kind()).flatten(2, 3).transpose(1, 2);
        let padding = filling.map(|p| p.flatten(1, 2));
        let mut cells = x.flatten(2, 3).transpose(1, 2);
        for layer in &part.relation {
            cells = layer.forward(&cells, Some(&position), padding.as_ref(), train);
        }
        Some(cells.transpose(1, 2).reshape([b, c, h, w]))
    }

    /// Cues m of the pairs (eq. 5), `[R, cue]`, where the head re-mines.
    pub fn cues(&self, batch: &VisualBatch, train: bool) -> Option<Tensor> {
        let part = self.remining.as_ref()?;
        let map = self.relation_map(batch, train)?;
        let pooled = batch.pair_masks.matmul(&map.flatten(2, 3).transpose(1, 2));
        Some(pooled.flatten(0, 1).index_select(0, &batch.rows).apply(&part.cue))
    }

    /// All of it.
    pub fn forward(&self, batch: &VisualBatch, train: bool) -> VisualOutput {
        let cue = self.cues(batch, train);
        let mut parts = Vec::with_capacity(5);
        if let Some(context) = &self.context {
            // Mean over the cells that are no filling, from the raw map (eq. 6).
            let sides = [2i64, 3];
            let mean = match &batch.feature_padding {
                None => batch.feature.mean_dim(sides.as_slice(), false, None::<Kind>),
                Some(padding) => {
                    let real = padding.logical_not().to_kind(batch.feature.kind()).unsqueeze(1);
                    let sum = |t: &Tensor| t.sum_dim_intlist(sides.as_slice(), false, None::<Kind>);
                    sum(&(&batch.feature * &real)) / sum(&real)
                }
            };
            parts.push(mean.apply(context).index_select(0, &batch.picture));
        }
        let entities = batch.tokens.apply(&self.token).relu();
        for index in [&batch.human_index, &batch.object_index] {
            parts.push(entities.index_select(0, index));
        }
        if let Some(m) = &cue {
            parts.push(m.shallow_clone());
        }
        if let Some(layers) = &self.spatial {
            parts.push(layers.iter().fold(batch.spatial.shallow_clone(), |x, layer| x.apply(layer).relu()));
        }
        let mut pair = Tensor::cat(&parts, -1).apply(&self.pair).unsqueeze(0);
        for layer in &self.reasoning {
            pair = layer.forward(&pair, None, batch.apart.as_ref(), train);
        }
        let reasoned = pair.squeeze_dim(0);
        let logits = reasoned.apply(&self.verbs);
        VisualOutput { cue, reasoned, logits }
    }
}
