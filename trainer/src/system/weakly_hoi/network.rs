//! The network of section 3.2: one backbone map, one attention pooling for everything, a knowledge bank, and two heads a pair.

use tch::{Kind, Tensor, nn, no_grad};

use super::config::{Knowledge, WeaklyConfig};
use super::example::WeakBatch;
use crate::network::clip::{AttentionPool, AttentionPoolShape};
use crate::network::init::linear;

/// Where the learned temperature starts: ln(1 / 0.07), as CLIP's.
const START_SCALE: f64 = 2.659_260_036_932_778;

/// Share of interactions that an image is taken to show before anything is learned: [`WeaklyNetwork::start_offset`].
const START_PROBABILITY: f64 = 0.01;

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
}

/// Linear layers with ReLU between.
#[derive(Debug)]
struct Perceptron(Vec<nn::Linear>);

impl Perceptron {
    fn new(path: &nn::Path<'_>, widths: &[i64]) -> Self {
        // Numbered as in a sequence where every second module is the activation.
        Self(widths.windows(2).enumerate().map(|(i, w)| linear(&(path / (2 * i)), w[0], w[1])).collect())
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = x.shallow_clone();
        for (i, layer) in self.0.iter().enumerate() {
            x = if i == 0 { x.apply(layer) } else { x.relu().apply(layer) };
        }
        x
    }
}

/// The network above the backbone. Parameters: `pool.*`, `bank`, `scale`, `offset`, `spatial.*` (F_sp), `pair.*` (F_E), `knowledge.*`
/// (F_K), `verbs.*` (F_P), `related.*` (F_B).
#[derive(Debug)]
pub struct WeaklyNetwork {
    pool: AttentionPool,
    bank: Option<Tensor>,
    scale: Option<Tensor>,
    offset: Option<Tensor>,
    spatial: Perceptron,
    pair: Perceptron,
    knowledge: Option<(Knowledge, Perceptron)>,
    verbs: Perceptron,
    related: Option<Perceptron>,
}

/// Cosine of every row of `x` `[.., D]` with every row of the bank `[N, D]`: `[.., N]`.
fn cosines(x: &Tensor, bank: &Tensor) -> Tensor {
    let unit = |t: &Tensor| t / t.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-12);
    unit(x).matmul(&unit(bank).transpose(0, 1))
}

/// Rows `index` `[B, P]` of `x` `[B, N, D]`.
fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    let width = x.size()[2];
    x.gather(1, &index.unsqueeze(-1).expand([-1, -1, width], false), false)
}

impl WeaklyNetwork {
    /// A network whose bank starts at `bank` `[N, D]`; `tch::manual_seed` decides the rest.
    pub fn new(path: &nn::Path<'_>, config: &WeaklyConfig, bank: &Tensor) -> Self {
        let (shape, parts) = (&config.shape, &config.parts);
        let d = shape.width;
        let one = |name: &str, value: f64| path.var(name, &[], nn::Init::Const(value));
        let perceptron = |name: &str, widths: &[i64]| Perceptron::new(&(path / name), widths);
        let asks = parts.recognition || parts.knowledge.is_some_and(|k| k != Knowledge::Union);
        let bank = asks.then(|| {
            let start = bank.to_kind(Kind::Float).to_device(path.device());
            let kept = path.var("bank", &start.size(), nn::Init::Const(0.0));
            no_grad(|| kept.shallow_clone().copy_(&start));
            kept.set_requires_grad(parts.bank_trained)
        });
        Self {
            pool: AttentionPool::new(
                &(path / "pool"),
                AttentionPoolShape {
                    channels: shape.map_channels,
                    heads: shape.pool_heads,
                    grid: shape.pool_grid,
                    output: d,
                },
            ),
            scale: bank.is_some().then(|| one("scale", START_SCALE)),
            offset: parts.recognition.then(|| one("offset", 0.0)),
            bank,
            spatial: perceptron("spatial", &[&SPATIAL_WIDTHS[..], &[d]].concat()),
            pair: perceptron("pair", &[3 * d, d, d]),
            knowledge: parts.knowledge.map(|mode| (mode, perceptron("knowledge", &[d, d, d]))),
            verbs: perceptron("verbs", &[d, d, shape.verbs]),
            related: parts.relatedness.then(|| perceptron("related", &[d, d, 1])),
        }
    }

    /// Pooled features of the whole map, of every entity and of every union: `[B, 1 + N + P, D]`.
    fn features(&self, batch: &WeakBatch) -> Tensor {
        let whole = batch.cells.unsqueeze(1);
        let shares = Tensor::cat(&[&whole, &batch.entity_shares, &batch.union_shares], 1);
        self.pool.masked(&batch.feature, &shares, Some(&batch.sizes))
    }

    /// s_g of pooled features `[B, D]`, where the network recognises interactions.
    fn recognise(&self, whole: &Tensor) -> Option<Tensor> {
        let (bank, scale, offset) = (self.bank.as_ref()?, self.scale.as_ref()?, self.offset.as_ref()?);
        Some(cosines(whole, bank) * scale.exp() + offset)
    }

    /// v_meta of the pairs (eq. 1), from the union features `[B, P, D]`. No gradient reaches the bank.
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
                let mean = bank.mean_dim([0i64].as_slice(), true, Kind::Float).unsqueeze(0);
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
        let features = self.features(batch);
        let union = features.narrow(1, 1 + entities, features.size()[1] - 1 - entities);
        Some((cosines(&union, bank) * scale.exp()).softmax(-1, Kind::Float))
    }

    /// All of it.
    pub fn forward(&self, batch: &WeakBatch) -> WeaklyOutput {
        let features = self.features(batch);
        let entities = batch.entity_shares.size()[1];
        let (whole, each) = (features.select(1, 0), features.narrow(1, 1, entities));
        let union = features.narrow(1, 1 + entities, batch.union_shares.size()[1]);
        let parts = [
            gather(&each, &batch.human_index),
            gather(&each, &batch.object_index),
            self.spatial.forward(&batch.spatial).relu(),
        ];
        let mut pairs = self.pair.forward(&Tensor::cat(&parts, -1));
        if let Some((mode, knowledge)) = &self.knowledge {
            pairs = knowledge.forward(&(pairs + self.meta(*mode, &union)));
        }
        WeaklyOutput {
            image: self.recognise(&whole),
            verbs: self.verbs.forward(&pairs),
            relatedness: self.related.as_ref().map(|related| related.forward(&pairs).squeeze_dim(-1)),
            pairs,
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
            let Some(logits) = self.forward(batch).image else { return };
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
