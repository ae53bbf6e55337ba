//! The network of section 3.2: one backbone map, one attention pooling for everything, a knowledge bank, and two heads a pair.

use tch::{Kind, Tensor, nn, no_grad};

use super::bank::unit_rows;
use super::config::{Knowledge, Pooling, WeaklyConfig, WeaklyShape};
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

    /// As [`Self::forward`] of rows `x` `[R, inputs]` whose pictures, of so many, `of` `[R]` names: `[R, outputs]`.
    fn forward_rows(&self, x: &Tensor, of: &Tensor, pictures: i64, dropout: f64) -> Tensor {
        let mut x = (x - &self.centre) / &self.spread;
        if dropout > 0.0 {
            let kept = Tensor::ones([pictures, x.size()[1]], (x.kind(), x.device())).dropout(dropout, true);
            x *= kept.index_select(0, of);
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
                let seeing = shares.sum_dim_intlist([2i64].as_slice(), true, Kind::Float).gt(0.0);
                let list = PairList::new(&seeing.squeeze_dim(2).logical_not());
                let size = cells.size();
                // Both are linear, and shares add up to 1: whichever has fewer rows, filling left out, goes first through the wide layer.
                if list.rows.size()[0] > size[0] * size[1] {
                    return means(&projection.forward(&cells, dropout), shares);
                }
                let own: Vec<Tensor> = list
                    .each_picture()
                    .iter()
                    .enumerate()
                    .map(|(i, rows)| {
                        let shares = shares.get(i as i64).index_select(0, rows);
                        let total = shares.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
                        (shares / total).matmul(&cells.get(i as i64))
                    })
                    .collect();
                let made = projection.forward_rows(&Tensor::cat(&own, 0), &list.pictures(), size[0], dropout);
                let all = list.put(&made);
                all.where_self(&seeing, &all.narrow(1, 0, 1))
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

/// What s_g compares with the bank where humans are looked at, `[B, D]`: a hidden layer of its own over the mean of the whole map beside the mean
/// look, then a linear layer. Of what the pairs read it shares nothing.
#[derive(Debug)]
struct Sight {
    hidden: Projection,
    out: nn::Linear,
}

impl Sight {
    fn new(path: &nn::Path<'_>, shape: &WeaklyShape) -> Self {
        let d = shape.width;
        Self {
            hidden: Projection::new(&(path / "hidden"), shape.map_channels + shape.tokens, d),
            out: linear(&(path / "out"), d, d),
        }
    }

    /// Mean of the map and mean look of each picture, `[B, C + T]`; 0 in place of the look where there is none.
    fn inputs(batch: &WeakBatch) -> Tensor {
        let cells = batch.feature.flatten(2, 3).transpose(1, 2);
        let whole = means(&cells, &batch.cells.unsqueeze(1)).squeeze_dim(1);
        let count = looked_at(&batch.tokens).sum_dim_intlist([1i64].as_slice(), false, Kind::Float).clamp_min(1.0);
        let look = batch.tokens.sum_dim_intlist([1i64].as_slice(), false, Kind::Float) / count;
        Tensor::cat(&[whole, look], 1)
    }

    fn forward(&self, batch: &WeakBatch, dropout: f64) -> Tensor {
        let hidden = self.hidden.forward(&Self::inputs(batch).unsqueeze(1), dropout).squeeze_dim(1);
        hidden.relu().dropout(dropout, dropout > 0.0).apply(&self.out)
    }
}

/// The network above the backbone. A human alone has the whole picture as its object and as its union: there is no box that shows what it
/// deals with.
///
/// Parameters: `pool.*`, `look.*` (what is known of a human beside the map, added to v_h), `image.*` (what s_g compares with the bank, where
/// humans are looked at, in place of v_g), `bank`, `scale`, `offset`, `spatial.*` (F_sp), `pair.*` (F_E),
/// `knowledge.*` (F_K), `verbs.*` (F_P), `related.*` (F_B), `started.*` (pooling and prompts before training, in rows of Table 3).
#[derive(Debug)]
pub struct WeaklyNetwork {
    pool: Pool,
    look: Option<Projection>,
    sight: Option<Sight>,
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

/// Which entities have tokens `[B, N, T]`, `[B, N, 1]`: they were looked at. The look of the others is 0.
fn looked_at(tokens: &Tensor) -> Tensor {
    tokens.abs().sum_dim_intlist([2i64].as_slice(), true, Kind::Float).gt(0.0)
}

/// Rows `index` `[B, P]` of `x` `[B, N, D]`.
fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    let width = x.size()[2];
    x.gather(1, &index.unsqueeze(-1).expand([-1, -1, width], false), false)
}

/// Where the pairs, or other parts, of a batch's pictures stand among its rows, filling left out.
struct PairList {
    rows: Tensor,
    size: [i64; 2],
}

impl PairList {
    fn new(filling: &Tensor) -> Self {
        let rows = filling.logical_not().view([-1]).nonzero().squeeze_dim(1);
        Self { rows, size: [filling.size()[0], filling.size()[1]] }
    }

    /// Picture of each, `[pairs]`.
    fn pictures(&self) -> Tensor {
        self.rows.divide_scalar_mode(self.size[1], "floor")
    }

    /// Of each picture, which of its own rows are no filling.
    fn each_picture(&self) -> Vec<Tensor> {
        let [pictures, most] = self.size;
        let of = self.pictures();
        (0..pictures).map(|i| self.rows.masked_select(&of.eq(i)) - i * most).collect()
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
            sight: (shape.tokens > 0 && parts.recognition).then(|| Sight::new(&(path / "image"), shape)),
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

    /// What s_g compares with the bank, `[B, D]`, where humans are looked at.
    pub fn sight(&self, batch: &WeakBatch) -> Option<Tensor> {
        self.sight.as_ref().map(|sight| no_grad(|| sight.forward(batch, 0.0)))
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
                let known = looked_at(&batch.tokens).view([-1]).nonzero().squeeze_dim(1);
                look.standardise(&batch.tokens.flatten(0, 1).index_select(0, &known));
            }
            if let Some(sight) = &self.sight {
                sight.hidden.standardise(&Sight::inputs(batch));
            }
        });
    }

    /// s_g of features `[B, D]`, where the network recognises interactions.
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
        let looks = self.look.as_ref().map(|look| {
            let list = PairList::new(&looked_at(&batch.tokens).logical_not().squeeze_dim(2));
            let pictures = batch.tokens.size()[0];
            list.put(&look.forward_rows(&list.take(&batch.tokens), &list.pictures(), pictures, dropout))
        });
        if let Some(looks) = &looks {
            human += gather(looks, &batch.human_index);
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
        let seen = match &self.sight {
            Some(sight) => sight.forward(batch, dropout),
            None => whole.squeeze_dim(1),
        };
        WeaklyOutput {
            image: self.recognise(&seen),
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

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn means_are_the_same_whichever_layer_comes_first() {
        tch::manual_seed(5);
        let store = nn::VarStore::new(Device::Cpu);
        let pool = Pool::Mean(Projection::new(&store.root(), 3, 4));
        let Pool::Mean(projection) = &pool else { unreachable!("made above") };
        let float = (Kind::Float, Device::Cpu);
        let none = Tensor::zeros([2, 1], (Kind::Int64, Device::Cpu));
        let batch = WeakBatch {
            feature: Tensor::rand([2, 3, 2, 2], float),
            sizes: vec![[2, 2]; 2],
            cells: Tensor::ones([2, 4], float),
            entity_shares: Tensor::zeros([2, 1, 4], float),
            union_shares: Tensor::zeros([2, 1, 4], float),
            human_index: none.shallow_clone(),
            object_index: none.shallow_clone(),
            spatial: Tensor::zeros([2, 1, 36], float),
            tokens: Tensor::zeros([2, 1, 0], float),
            filling: none.eq(1),
        };
        let cells = batch.feature.flatten(2, 3).transpose(1, 2);
        // Fewer parts than the eight cells, and more of them.
        for parts in [3, 12] {
            let shares = Tensor::rand([2, parts, 4], float);
            // A part that sees nothing, which filling is as well.
            let _ = shares.get(0).get(1).fill_(0.0);
            let found = pool.forward(&batch, &shares, 0.0);
            let expected = projection.forward(&means(&cells, &shares), 0.0);
            assert!((&found - &expected).abs().max().double_value(&[]) < 1e-6, "{parts} parts");
            assert!((found.get(0).get(1) - found.get(0).get(0)).abs().max().double_value(&[]) < 1e-6, "{parts} parts");
        }
    }
}
