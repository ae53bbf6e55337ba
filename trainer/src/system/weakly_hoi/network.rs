//! The network of section 3.2: one backbone map, one attention pooling for everything, a knowledge bank, and two heads a pair.

use tch::{Kind, Tensor, nn, no_grad};

use super::bank::unit_rows;
use super::config::{Knowledge, Pooling, WeaklyConfig};
use super::example::WeakBatch;
use super::started::Started;
use crate::network::clip::{AttentionPool, AttentionPoolShape};
use crate::network::init::linear;

/// Where the learned temperature starts: ln(1 / 0.07), as CLIP's.
pub(super) const START_SCALE: f64 = 2.659_260_036_932_778;

/// Share of interactions that an image is taken to show before anything is learned: [`WeaklyNetwork::start_offset`].
const START_PROBABILITY: f64 = 0.01;

/// Least deviation of a feature that is taken out.
const LEAST_SPREAD: f64 = 1e-3;

/// Added to the 18 geometric values' logarithms by the runtime; the head's three layers as UPT's (36-128-256-D).
const SPATIAL_WIDTHS: [i64; 3] = [hoi_runtime::spatial::SPATIAL_LEN as i64, 128, 256];

/// What the network says of a batch.
#[derive(Debug)]
pub struct WeaklyOutput {
    /// s_g, `[B, N]`: logits of the image's interactions.
    pub image: Option<Tensor>,
    /// s_p, `[B, P, A]`: verb logits of the pairs.
    pub verbs: Tensor,
    /// s_b, `[B, P]`: logits of relatedness.
    pub relatedness: Option<Tensor>,
    /// v^_p, `[B, P, D]`: features of the pairs, as both heads see them.
    pub pairs: Tensor,
    /// v_g as it was before training, `[B, D]`, where pairs learn it.
    pub teacher: Option<Tensor>,
}

/// Linear layers with ReLU between.
#[derive(Debug)]
struct Perceptron(Vec<nn::Linear>);

impl Perceptron {
    fn new(path: &nn::Path<'_>, widths: &[i64]) -> Self {
        // Numbered as in a sequence where every second module is the activation.
        Self(widths.windows(2).enumerate().map(|(i, w)| linear(&(path / (2 * i)), w[0], w[1])).collect())
    }

    /// `dropout` is the share of hidden values that are set to 0.
    fn forward(&self, x: &Tensor, dropout: f64) -> Tensor {
        let mut x = x.shallow_clone();
        for (i, layer) in self.0.iter().enumerate() {
            x = if i == 0 { x.apply(layer) } else { x.relu().dropout(dropout, dropout > 0.0).apply(layer) };
        }
        x
    }
}

/// A linear layer over features whose mean and deviation over the training images are taken out first.
#[derive(Debug)]
pub(super) struct Projection {
    centre: Tensor,
    spread: Tensor,
    out: nn::Linear,
}

impl Projection {
    fn new(path: &nn::Path<'_>, inputs: i64, outputs: i64) -> Self {
        Self {
            centre: path.zeros_no_train("centre", &[inputs]),
            spread: path.ones_no_train("spread", &[inputs]),
            out: linear(&(path / "c_proj"), inputs, outputs),
        }
    }

    /// Of rows `x` `[B, K, inputs]`; what `dropout` takes away it takes from all rows of a picture.
    fn forward(&self, x: &Tensor, dropout: f64) -> Tensor {
        let mut x = (x - &self.centre) / &self.spread;
        if dropout > 0.0 {
            x *= x.narrow(1, 0, 1).ones_like().dropout(dropout, true);
        }
        x.apply(&self.out)
    }

    /// Takes mean and deviation from rows `[n, inputs]`.
    fn standardise(&self, rows: &Tensor) {
        if rows.size()[0] < 2 {
            return;
        }
        no_grad(|| {
            self.centre.shallow_clone().copy_(&rows.mean_dim([0i64].as_slice(), false, Kind::Float));
            self.spread.shallow_clone().copy_(&(rows.std_dim([0i64].as_slice(), true, false) + LEAST_SPREAD));
        });
    }
}

/// One pooling for the whole map, humans, objects and unions.
#[derive(Debug)]
pub(super) enum Pool {
    Attention(AttentionPool),
    Mean(Projection),
}

impl Pool {
    pub(super) fn new(path: &nn::Path<'_>, config: &WeaklyConfig) -> Self {
        let shape = &config.shape;
        match config.pooling {
            Pooling::Mean => Self::Mean(Projection::new(path, shape.map_channels, shape.width)),
            Pooling::Attention => {
                let (channels, heads, grid) = (shape.map_channels, shape.pool_heads, shape.pool_grid);
                Self::Attention(AttentionPool::new(
                    path,
                    AttentionPoolShape { channels, heads, grid, output: shape.width },
                ))
            }
        }
    }

    /// Features `[B, K, D]` of the parts of a batch's maps that `shares` `[B, K, h * w]` tell.
    pub(super) fn forward(&self, batch: &WeakBatch, shares: &Tensor, dropout: f64) -> Tensor {
        match self {
            Self::Attention(pool) => pool.masked(&batch.feature, shares, Some(&batch.sizes)),
            Self::Mean(projection) => {
                let cells = batch.feature.flatten(2, 3).transpose(1, 2);
                // Both are linear, and shares add up to 1: whichever has fewer rows goes first through the wide layer.
                if shares.size()[1] > cells.size()[1] {
                    means(&projection.forward(&cells, dropout), shares)
                } else {
                    projection.forward(&means(&cells, shares), dropout)
                }
            }
        }
    }

    fn standardise(&self, batch: &WeakBatch) {
        if let Self::Mean(projection) = self {
            let cells = batch.feature.flatten(2, 3).transpose(1, 2);
            projection.standardise(&means(&cells, &batch.cells.unsqueeze(1)).squeeze_dim(1));
        }
    }
}

/// Means `[B, K, C]` of cells `[B, h * w, C]`, weighted with shares `[B, K, h * w]`; the mean of the whole picture, which is row 0, for a part
/// that sees nothing.
fn means(cells: &Tensor, shares: &Tensor) -> Tensor {
    let total = shares.sum_dim_intlist([2i64].as_slice(), true, Kind::Float);
    let seen = total.gt(0.0);
    let weighted = shares.matmul(cells) / total.where_self(&seen, &total.ones_like());
    weighted.where_self(&seen, &weighted.narrow(1, 0, 1))
}

/// The network above the backbone. A human alone has the whole picture as its object and as its union: there is no box that shows what it
/// deals with.
///
/// Parameters: `pool.*`, `look.*` (what is known of a human beside the map, added to v_h), `bank`, `scale`, `offset`, `spatial.*` (F_sp), `pair.*` (F_E), `knowledge.*`
/// (F_K), `verbs.*` (F_P), `related.*` (F_B), `started.*` (pooling and prompts before training, in rows of Table 3).
#[derive(Debug)]
pub struct WeaklyNetwork {
    pool: Pool,
    look: Option<Projection>,
    dropout: f64,
    bank: Option<Tensor>,
    scale: Option<Tensor>,
    offset: Option<Tensor>,
    spatial: Perceptron,
    pair: Perceptron,
    knowledge: Option<(Knowledge, Perceptron)>,
    verbs: Perceptron,
    related: Option<Perceptron>,
    started: Option<Started>,
    distilled: bool,
}

/// Cosine of every row of `x` `[.., D]` with every row of the bank `[N, D]`: `[.., N]`.
fn cosines(x: &Tensor, bank: &Tensor) -> Tensor {
    unit_rows(x).matmul(&unit_rows(bank).transpose(0, 1))
}

/// Rows `index` `[B, P]` of `x` `[B, N, D]`.
fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    let width = x.size()[2];
    x.gather(1, &index.unsqueeze(-1).expand([-1, -1, width], false), false)
}

/// Where the pairs of a batch stand among its rows, filling left out.
struct PairList {
    rows: Tensor,
    size: [i64; 2],
}

impl PairList {
    fn new(filling: &Tensor) -> Self {
        let rows = filling.logical_not().view([-1]).nonzero().squeeze_dim(1);
        Self { rows, size: [filling.size()[0], filling.size()[1]] }
    }

    /// `[B, P, D]` to `[pairs, D]`.
    fn take(&self, x: &Tensor) -> Tensor {
        x.flatten(0, 1).index_select(0, &self.rows)
    }

    /// `[pairs, D]` to `[B, P, D]`, zeros where filling is.
    fn put(&self, x: &Tensor) -> Tensor {
        let ([pictures, most], width) = (self.size, x.size()[1]);
        let all = Tensor::zeros([pictures * most, width], (x.kind(), x.device()));
        all.index_copy(0, &self.rows, x).view([pictures, most, width])
    }
}

impl WeaklyNetwork {
    /// A network whose bank starts at `bank` `[N, D]`; `tch::manual_seed` decides the rest.
    pub fn new(path: &nn::Path<'_>, config: &WeaklyConfig, bank: &Tensor) -> Self {
        let (shape, parts) = (&config.shape, &config.parts);
        let d = shape.width;
        let one = |name: &str, value: f64| path.var(name, &[], nn::Init::Const(value));
        let perceptron = |name: &str, widths: &[i64]| Perceptron::new(&(path / name), widths);
        let prompts = bank;
        let asks = parts.recognition || parts.knowledge.is_some_and(|k| k != Knowledge::Union);
        let bank = asks.then(|| {
            let start = bank.to_kind(Kind::Float).to_device(path.device());
            let kept = path.var("bank", &start.size(), nn::Init::Const(0.0));
            no_grad(|| kept.shallow_clone().copy_(&start));
            kept.set_requires_grad(parts.bank_trained)
        });
        Self {
            pool: Pool::new(&(path / "pool"), config),
            look: (shape.tokens > 0).then(|| Projection::new(&(path / "look"), shape.tokens, d)),
            dropout: config.dropout,
            scale: bank.is_some().then(|| one("scale", START_SCALE)),
            offset: parts.recognition.then(|| one("offset", 0.0)),
            bank,
            spatial: perceptron("spatial", &[&SPATIAL_WIDTHS[..], &[d]].concat()),
            pair: perceptron("pair", &[3 * d, d, d]),
            knowledge: parts.knowledge.map(|mode| (mode, perceptron("knowledge", &[d, d, d]))),
            verbs: perceptron("verbs", &[d, d, shape.verbs]),
            related: parts.relatedness.then(|| perceptron("related", &[d, d, 1])),
            // Last: all else is drawn as without it.
            started: parts.keeps_start().then(|| Started::new(&(path / "started"), config, prompts)),
            distilled: parts.distilled,
        }
    }

    /// Whether pairs need the feature of their union.
    fn asks_union(&self) -> bool {
        self.knowledge.as_ref().is_some_and(|(mode, _)| *mode != Knowledge::Uniform)
    }

    /// Pooled features of the whole map, of every entity and, where pairs need it, of every union: `[B, 1 + N + P, D]`.
    fn features(&self, batch: &WeakBatch, dropout: f64) -> Tensor {
        let whole = batch.cells.unsqueeze(1);
        let mut parts = vec![&whole, &batch.entity_shares];
        if self.asks_union() {
            parts.push(&batch.union_shares);
        }
        self.pool.forward(batch, &Tensor::cat(&parts, 1), dropout)
    }

    /// Takes mean and deviation of mean-pooled features and of tokens from the images of a batch, where the network has such.
    pub fn standardise(&self, batch: &WeakBatch) {
        no_grad(|| {
            self.pool.standardise(batch);
            if let Some(started) = &self.started {
                started.pool().standardise(batch);
            }
            if let Some(look) = &self.look {
                let humans = batch.tokens.flatten(0, 1);
                let known = humans.abs().sum_dim_intlist([1i64].as_slice(), false, Kind::Float).gt(0.0);
                look.standardise(&humans.index_select(0, &known.nonzero().squeeze_dim(1)));
            }
        });
    }

    /// s_g of pooled features `[B, D]`, where the network recognises interactions.
    fn recognise(&self, whole: &Tensor) -> Option<Tensor> {
        let (bank, scale, offset) = (self.bank.as_ref()?, self.scale.as_ref()?, self.offset.as_ref()?);
        Some(cosines(whole, bank) * scale.exp() + offset)
    }

    /// v_meta of the pairs (eq. 1), from the union features `[.., D]`. No gradient reaches the bank.
    fn meta(&self, mode: Knowledge, union: &Tensor) -> Tensor {
        let (Some(bank), Some(scale)) = (&self.bank, &self.scale) else { return union.shallow_clone() };
        let bank = bank.detach();
        let asked = || cosines(union, &bank) * scale.exp();
        let weights = match mode {
            Knowledge::Union => return union.shallow_clone(),
            Knowledge::Softmax => asked().softmax(-1, Kind::Float),
            Knowledge::Sigmoid => {
                let each = asked().sigmoid();
                &each / each.sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)
            }
            Knowledge::Uniform => {
                let mean = bank.mean_dim([0i64].as_slice(), true, Kind::Float);
                return mean.expand_as(union);
            }
        };
        weights.matmul(&bank)
    }

    /// The weights alpha with which pairs ask the bank, `[B, P, N]`; `None` without a softmax over it.
    pub fn attention(&self, batch: &WeakBatch) -> Option<Tensor> {
        let (Some((Knowledge::Softmax, _)), Some(bank), Some(scale)) = (&self.knowledge, &self.bank, &self.scale)
        else {
            return None;
        };
        let entities = batch.entity_shares.size()[1];
        let features = self.features(batch, 0.0);
        let union = features.narrow(1, 1 + entities, features.size()[1] - 1 - entities);
        Some((cosines(&union, bank) * scale.exp()).softmax(-1, Kind::Float))
    }

    /// What the prompts say of the pairs without training, `[B, P, N]`: the softmax over the interactions of their unions; `None` where
    /// the network does not keep how it started.
    pub fn prompt_scores(&self, batch: &WeakBatch) -> Option<Tensor> {
        Some(self.started.as_ref()?.scores(batch))
    }

    /// All of it. `train` lets dropout act.
    pub fn forward(&self, batch: &WeakBatch, train: bool) -> WeaklyOutput {
        let dropout = if train { self.dropout } else { 0.0 };
        let features = self.features(batch, dropout);
        let entities = batch.entity_shares.size()[1];
        let (whole, each) = (features.narrow(1, 0, 1), features.narrow(1, 1, entities));
        let alone = batch.alone();
        let mut human = gather(&each, &batch.human_index);
        if let Some(look) = &self.look {
            human += gather(&look.forward(&batch.tokens, dropout), &batch.human_index);
        }
        let object = whole.where_self(&alone, &gather(&each, &batch.object_index));
        // Filling costs nothing from here on: the pairs of all pictures are one list.
        let list = PairList::new(&batch.filling);
        let spatial = self.spatial.forward(&list.take(&batch.spatial), 0.0).relu();
        let parts = [list.take(&human), list.take(&object), spatial];
        let mut pairs = self.pair.forward(&Tensor::cat(&parts, -1), dropout);
        if let Some((mode, knowledge)) = &self.knowledge {
            let meta = if self.asks_union() {
                let union = features.narrow(1, 1 + entities, batch.union_shares.size()[1]);
                self.meta(*mode, &list.take(&whole.where_self(&alone, &union)))
            } else {
                // The same for all pairs: only their number counts.
                self.meta(*mode, &pairs)
            };
            pairs = knowledge.forward(&(pairs + meta), dropout);
        }
        let related = self.related.as_ref().map(|related| related.forward(&pairs, dropout));
        WeaklyOutput {
            image: self.recognise(&whole.squeeze_dim(1)),
            verbs: list.put(&self.verbs.forward(&pairs, dropout)),
            relatedness: related.map(|related| list.put(&related).squeeze_dim(-1)),
            pairs: list.put(&pairs),
            teacher: self.started.as_ref().filter(|_| self.distilled).map(|started| started.whole(batch)),
        }
    }

    /// Replaces the bank by random rows of the same mean square (Exp 9).
    pub fn scatter_bank(&self) {
        if let Some(bank) = &self.bank {
            no_grad(|| {
                let deviation = bank.square().mean(Kind::Float).sqrt();
                let drawn = bank.randn_like() * deviation;
                bank.shallow_clone().copy_(&drawn);
            });
        }
    }

    /// Sets the offset of s_g so that the mean of sigma(s_g) over a first batch is 0.01.
    pub fn start_offset(&self, batch: &WeakBatch) {
        let Some(offset) = &self.offset else { return };
        no_grad(|| {
            let Some(logits) = self.forward(batch, false).image else { return };
            // sigma is monotonic: bisection on the offset.
            let (mut low, mut high) = (-60.0, 60.0);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                let mean = (&logits + middle).sigmoid().mean(Kind::Float).double_value(&[]);
                if mean < START_PROBABILITY { low = middle } else { high = middle }
            }
            let _ = offset.shallow_clone().fill_(offset.double_value(&[]) + 0.5 * (low + high));
        });
    }
}
