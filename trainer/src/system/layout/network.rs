//! The network.

use hoi_runtime::spatial::SPATIAL_LEN;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::batches::PairBatch;
use crate::dataset::layout::LayoutSample;

/// Spatial values beyond this are cut. Logarithms stay inside (that of zero is -23); ratios of a thin box can be arbitrarily large.
const INPUT_LIMIT: f32 = 30.0;

/// Scores in the reasoning layer are cut at plus and minus this before their exponential: sums over all pairs stay far inside f32.
const SCORE_LIMIT: f32 = 15.0;

/// Sizes of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutShape {
    /// Object classes.
    pub objects: i64,
    /// Verbs.
    pub verbs: i64,
    /// Width of both hidden layers.
    pub hidden: i64,
    /// Width of the object embedding.
    pub embedding: i64,
    /// Heads of the reasoning layer; 0: each pair is seen alone.
    #[serde(default)]
    pub heads: i64,
}

/// Mean and standard deviation of the 36 spatial values over the training pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardisation {
    /// Means, 36.
    pub mean: Vec<f32>,
    /// Standard deviations, 36, none of them zero.
    pub deviation: Vec<f32>,
}

impl Standardisation {
    /// Over rows of [`SPATIAL_LEN`] values, cut like the network's inputs. A value that never changes gets the deviation 1.
    pub fn of_rows(rows: &[f32]) -> Self {
        let count = (rows.len() / SPATIAL_LEN).max(1) as f64;
        let mut sums = [[0f64; 2]; SPATIAL_LEN];
        for row in rows.chunks_exact(SPATIAL_LEN) {
            for (sum, &v) in sums.iter_mut().zip(row) {
                let v = f64::from(v.clamp(-INPUT_LIMIT, INPUT_LIMIT));
                *sum = [sum[0] + v, sum[1] + v * v];
            }
        }
        let mean = sums.map(|[sum, _]| sum / count);
        let deviation = |(&[_, squares], mean): (&[f64; 2], &f64)| (squares / count - mean * mean).max(0.0).sqrt();
        let deviation = sums.iter().zip(&mean).map(deviation);
        Self {
            deviation: deviation.map(|d| if d > 1e-6 { d as f32 } else { 1.0 }).collect(),
            mean: mean.iter().map(|&m| m as f32).collect(),
        }
    }
}

/// Pairs of one or more images, as the network takes them.
#[derive(Debug)]
pub struct Pairs {
    /// Raw spatial values `[P, 36]`.
    pub spatial: Tensor,
    /// Classes of the objects `[P]`.
    pub object_class: Tensor,
    /// Entities of the humans `[P]`.
    pub human: Tensor,
    /// Entities of the objects `[P]`.
    pub object: Tensor,
    /// Images `[P]`.
    pub image: Tensor,
    /// Number of entities, N.
    pub entities: i64,
    /// Number of images.
    pub images: i64,
}

impl Pairs {
    /// Pairs that have nothing to do with each other: each is the only one of its image.
    pub fn unrelated(spatial: Tensor, object_class: Tensor) -> Self {
        let count = object_class.size()[0];
        let each = || Tensor::arange(count, (Kind::Int64, object_class.device()));
        let (human, object, image) = (each(), each(), each());
        Self { spatial, object_class, human, object, image, entities: count, images: count }
    }
}

/// Names and shapes `[in, out]` of the parameters, in the order in which they are kept.
fn layout(shape: &LayoutShape) -> Vec<(&'static str, Vec<i64>)> {
    let LayoutShape { objects, verbs, hidden, embedding, heads } = *shape;
    let mut parameters = vec![
        ("object.embedding", vec![objects, embedding]),
        ("first.weight", vec![SPATIAL_LEN as i64 + embedding, hidden]),
        ("first.bias", vec![hidden]),
        ("second.weight", vec![hidden, hidden]),
        ("second.bias", vec![hidden]),
        ("verbs.weight", vec![hidden, verbs]),
        ("verbs.bias", vec![verbs]),
    ];
    if heads > 0 {
        parameters.extend([
            ("reason.score.weight", vec![hidden, heads]),
            ("reason.score.bias", vec![heads]),
            ("reason.value.weight", vec![hidden, heads]),
            ("reason.value.bias", vec![heads]),
            ("reason.human", vec![4 * heads, hidden]),
            ("reason.object", vec![4 * heads, hidden]),
            ("reason.image", vec![2 * heads, hidden]),
        ]);
    }
    parameters
}

/// A perceptron with two hidden layers over the standardised spatial values and an embedding of the object's class, and between them a
/// layer in which the pairs of an image compete.
///
/// Of each pair's first hidden layer that layer takes `heads` scores s and values v. Over the pairs of a group (those with the same entity as
/// human, the same entity as object, the whole image) each head has `ln(1 + sum e^s)` and `sum e^s v / (1 + sum e^s)`: how strong the
/// group's best pairs are, and what they say. A pair's second hidden layer sees both of its human (in both roles), of its object (in
/// both roles) and of its image, so that it can tell the nearest bicycle from the others and a rider from one who stands beside.
#[derive(Debug)]
pub struct LayoutNetwork {
    shape: LayoutShape,
    standardisation: Standardisation,
    mean: Tensor,
    deviation: Tensor,
    parameters: Vec<Tensor>,
}

/// Which of `count` values stay when a share of them is set to 0: `1 / (1 - share)` for those, 0 for the others.
fn kept(count: usize, share: f64, rng: &mut ChaCha8Rng) -> Tensor {
    let stays = (1.0 / (1.0 - share)) as f32;
    let values: Vec<f32> = (0..count).map(|_| if rng.random_bool(share) { 0.0 } else { stays }).collect();
    Tensor::from_slice(&values)
}

/// Logit of a verb before anything is learned: most pairs carry none.
const FIRST_LOGIT: f32 = -2.5;

impl LayoutNetwork {
    /// A network with random weights that depend on nothing but `seed`.
    pub fn new(shape: LayoutShape, standardisation: Standardisation, seed: u64, device: Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let parameters = layout(&shape)
            .into_iter()
            .map(|(name, size)| {
                let count = size.iter().product::<i64>() as usize;
                // He initialisation; the embedding has unit variance.
                let deviation = match name {
                    "object.embedding" => 1.0,
                    "verbs.weight" => 0.5 / (size[0] as f32).sqrt(),
                    name if name.starts_with("reason.") && size.len() == 2 => 0.5 / (size[0] as f32).sqrt(),
                    // He initialisation.
                    _ if size.len() == 2 => (2.0 / size[0] as f32).sqrt(),
                    _ => 0.0,
                };
                let constant = if name == "verbs.bias" { FIRST_LOGIT } else { 0.0 };
                let values: Vec<f32> = match Normal::new(constant, deviation) {
                    Ok(normal) => normal.sample_iter(&mut rng).take(count).collect(),
                    Err(_) => vec![constant; count],
                };
                Tensor::from_slice(&values).view(size.as_slice()).to_device(device).set_requires_grad(true)
            })
            .collect();
        Self::from_parameters(shape, standardisation, parameters)
    }

    /// A network with these parameters, in the order of [`LayoutNetwork::names`].
    pub(crate) fn from_parameters(
        shape: LayoutShape,
        standardisation: Standardisation,
        parameters: Vec<Tensor>,
    ) -> Self {
        let device = parameters.first().map_or(Device::Cpu, Tensor::device);
        let mean = Tensor::from_slice(&standardisation.mean).to_device(device);
        let deviation = Tensor::from_slice(&standardisation.deviation).to_device(device);
        Self { shape, standardisation, mean, deviation, parameters }
    }

    /// Sizes of the network.
    pub fn shape(&self) -> &LayoutShape {
        &self.shape
    }

    /// How its inputs are standardised.
    pub fn standardisation(&self) -> &Standardisation {
        &self.standardisation
    }

    /// Spatial values are cut at plus and minus this before anything else.
    pub fn input_limit(&self) -> f32 {
        INPUT_LIMIT
    }

    /// Scores of the reasoning layer are cut at plus and minus this.
    pub fn score_limit(&self) -> f32 {
        SCORE_LIMIT
    }

    /// Names of the parameters, in the order of [`LayoutNetwork::parameters`], with their shapes.
    pub(crate) fn names(shape: &LayoutShape) -> Vec<(&'static str, Vec<i64>)> {
        layout(shape).to_vec()
    }

    /// The trained tensors.
    pub fn parameters(&self) -> &[Tensor] {
        &self.parameters
    }

    pub(crate) fn parameters_mut(&mut self) -> &mut [Tensor] {
        &mut self.parameters
    }

    /// The parameters by name, with the standardisation folded into the first layer: it takes cut, otherwise raw spatial values.
    ///
    /// `W (x - m) / d + b = (W / d) x + (b - W m / d)`, computed in double precision.
    pub(crate) fn folded(&self) -> Vec<(&'static str, Tensor)> {
        let names = layout(&self.shape).into_iter().map(|(name, _)| name);
        no_grad(|| {
            let double = |t: &Tensor| t.detach().to_kind(Kind::Double);
            let deviation = double(&self.deviation).unsqueeze(1);
            let fold = |(name, tensor): (&'static str, &Tensor)| {
                let first = || double(&self.parameters[1]).narrow(0, 0, SPATIAL_LEN as i64) / &deviation;
                let folded = match name {
                    "first.weight" => {
                        let rest = double(tensor).narrow(0, SPATIAL_LEN as i64, self.shape.embedding);
                        Tensor::cat(&[first(), rest], 0)
                    }
                    "first.bias" => double(tensor) - double(&self.mean).unsqueeze(0).matmul(&first()).squeeze_dim(0),
                    _ => tensor.detach().copy(),
                };
                (name, folded.to_kind(Kind::Float))
            };
            names.zip(&self.parameters).map(fold).collect()
        })
    }

    /// Verb logits `[P, V]`.
    pub fn forward(&self, pairs: &Pairs) -> Tensor {
        self.forward_with(pairs, None, None)
    }

    /// Verb logits `[P, V]` with `seen` `[P, hidden]`, what is known of each pair's picture, added to the first hidden layer before its ReLU.
    pub fn forward_seen(&self, pairs: &Pairs, seen: &Tensor) -> Tensor {
        self.forward_with(pairs, Some(seen), None)
    }

    /// Verb logits `[P, V]` with this share of the hidden values set to 0, for training.
    pub(super) fn forward_with(
        &self,
        pairs: &Pairs,
        seen: Option<&Tensor>,
        mut dropout: Option<(f64, &mut ChaCha8Rng)>,
    ) -> Tensor {
        let [embedding, first, first_bias, second, second_bias, verbs, verbs_bias, reason @ ..] = &self.parameters[..]
        else {
            unreachable!("a network has as many parameters as its layout")
        };
        let limit = f64::from(INPUT_LIMIT);
        let x = (pairs.spatial.clamp(-limit, limit) - &self.mean) / &self.deviation;
        let x = Tensor::cat(&[x, embedding.index_select(0, &pairs.object_class)], 1);
        let mut dropped = |x: Tensor| match &mut dropout {
            None => x,
            Some((share, rng)) => &x * kept(x.numel(), *share, rng).view(x.size().as_slice()).to_device(x.device()),
        };
        let mut x = x.matmul(first) + first_bias;
        if let Some(seen) = seen {
            x += seen;
        }
        let x = dropped(x.relu());
        let mut hidden = x.matmul(second) + second_bias;
        if let [score, score_bias, value, value_bias, human, object, image] = reason {
            let (scores, values) = (x.matmul(score) + score_bias, x.matmul(value) + value_bias);
            let [of_entities, of_images] = self.compete(&scores, &values, pairs);
            hidden = hidden
                + of_entities.matmul(human).index_select(0, &pairs.human)
                + of_entities.matmul(object).index_select(0, &pairs.object)
                + of_images.matmul(image).index_select(0, &pairs.image);
        }
        dropped(hidden.relu()).matmul(verbs) + verbs_bias
    }

    /// What the groups of pairs say: `[N, 4 heads]` of the entities, as human then as object, and `[images, 2 heads]`.
    fn compete(&self, scores: &Tensor, values: &Tensor, pairs: &Pairs) -> [Tensor; 2] {
        let heads = self.shape.heads;
        let limit = f64::from(SCORE_LIMIT);
        let odds = scores.clamp(-limit, limit).exp();
        let both = Tensor::cat(&[&odds, &(&odds * values)], 1);
        let group = |index: &Tensor, count: i64| {
            let sums = Tensor::zeros([count, 2 * heads], (both.kind(), both.device())).index_add(0, index, &both);
            let total = sums.narrow(1, 0, heads) + 1.0;
            Tensor::cat(&[total.log(), sums.narrow(1, heads, heads) / total], 1)
        };
        let of_entities = Tensor::cat(&[group(&pairs.human, pairs.entities), group(&pairs.object, pairs.entities)], 1);
        [of_entities, group(&pairs.image, pairs.images)]
    }

    /// Verb logits of one image's pairs, `[P, V]` row by row, without gradients.
    pub fn logits(&self, sample: &LayoutSample) -> Vec<f32> {
        if sample.pairs.is_empty() {
            return Vec::new();
        }
        let mut batch = PairBatch::default();
        batch.push(sample);
        no_grad(|| {
            let z = self.forward(&batch.pairs(self.mean.device()));
            let z = z.to_kind(Kind::Float).to_device(Device::Cpu).contiguous().view([-1]);
            let mut values = vec![0f32; z.numel()];
            let count = values.len();
            z.copy_data(&mut values, count);
            values
        })
    }
}
