//! The tuned blocks under their look.

use std::path::Path;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::super::answers::TeacherAnswers;
use super::super::network::VIEWS;
use super::{TuneConfig, TuneError, TuneLook, check_blocks};
use crate::network::efficientnet_lite::{BatchNorm, EfficientNetLite, EfficientNetLiteConfig, EfficientNetLiteWeights};
use crate::network::init::linear_from;
use crate::system::run::{EpochShape, ParameterGroup, RunConfig, RunError, StepLoss, Trainer};

/// Where the network's variables lie in the store.
const BACKBONE: &str = "backbone.";

/// Added to the maps before their roots, whose slope would be endless at 0.
const ROOT_EPS: f64 = 1e-3;

/// Photos that tell mean and deviation of the look's inputs.
const STANDARDISED: usize = 400;

/// Photos that are scored at a time.
const BATCH: usize = 100;

/// The network under its look.
#[derive(Debug)]
pub struct TuneModel {
    /// Everything; what is not tuned is frozen.
    pub store: VarStore,
    network: EfficientNetLite,
    config: TuneConfig,
    mean: Tensor,
    deviation: Tensor,
    relate: Tensor,
    hidden: nn::Linear,
    actions: nn::Linear,
}

impl TuneModel {
    /// The network of a file under a new look at `actions` actions.
    ///
    /// # Errors
    /// [`TuneError`].
    pub fn new(file: &Path, config: &TuneConfig, actions: i64, device: Device) -> Result<Self, TuneError> {
        let weights = EfficientNetLiteWeights::read(file)?.with_norm(BatchNorm::Folded)?.without_classifier();
        let store = VarStore::new(device);
        let network = EfficientNetLite::new(&(store.root() / "backbone"), weights.config());
        check_blocks(&network, config.blocks)?;
        weights.load(&store, BACKBONE)?;
        let tuned = tuned_convolutions(weights.config(), config.blocks);
        for (name, variable) in store.variables() {
            let own = name.strip_prefix(BACKBONE).and_then(|name| name.rsplit_once('.')).map_or("", |(name, _)| name);
            let _ = variable.set_requires_grad(tuned.iter().any(|tuned| tuned == own));
        }
        let channels = look_channels(weights.config());
        let look = store.root() / "look";
        let buffer =
            |name: &str, value: f64| look.var(name, &[channels], nn::Init::Const(value)).set_requires_grad(false);
        let uniform = |n: i64| {
            let bound = 1.0 / (n.max(1) as f64).sqrt();
            nn::Init::Uniform { lo: -bound, up: bound }
        };
        let inputs = VIEWS as i64 * config.relation;
        let normal = nn::Init::Randn { mean: 0.0, stdev: 1.0 / (channels.max(1) as f64).sqrt() };
        Ok(Self {
            mean: buffer("mean", 0.0),
            deviation: buffer("deviation", 1.0),
            relate: look.var("relate", &[channels, config.relation], normal),
            hidden: linear_from(&(&look / "hidden"), inputs, config.hidden, uniform(inputs), uniform(inputs)),
            actions: linear_from(
                &(&look / "actions"),
                config.hidden,
                actions,
                uniform(config.hidden),
                nn::Init::Const(0.0),
            ),
            store,
            network,
            config: *config,
        })
    }

    /// The groups of a [`Trainer`].
    pub fn groups(&self) -> Vec<ParameterGroup> {
        vec![ParameterGroup { prefix: BACKBONE.to_owned(), rate: self.config.rate }]
    }

    /// Takes mean and deviation of the look's inputs from some of the photos.
    pub fn prepare(&self, photos: &[TuneLook]) {
        let some: Vec<&TuneLook> = photos.iter().step_by(photos.len().div_ceil(STANDARDISED).max(1)).collect();
        if some.is_empty() {
            return;
        }
        no_grad(|| {
            let rows: Vec<Tensor> = some.chunks(BATCH).map(|part| self.pooled(part).flatten(0, 1)).collect();
            let rows = Tensor::cat(&rows, 0);
            let axes = [0i64];
            self.mean.shallow_clone().copy_(&rows.mean_dim(axes.as_slice(), false, Kind::Float));
            self.deviation.shallow_clone().copy_(&(rows.std_dim(axes.as_slice(), false, false) + 1e-3));
        });
    }

    /// Mean roots of all late maps, `[B, 3, C]`.
    fn pooled(&self, looks: &[&TuneLook]) -> Tensor {
        let device = self.store.device();
        let stack = |of: &dyn Fn(&TuneLook) -> &Tensor| {
            let all: Vec<&Tensor> = looks.iter().map(|look| of(look)).collect();
            Tensor::stack(&all, 0).to_device(device).to_kind(Kind::Float)
        };
        let (early, masks) = (stack(&|look| &look.early), stack(&|look| &look.masks));
        let maps = self.network.after_late(&stack(&|look| &look.map), self.config.blocks, true);
        let late = maps.map(|map| {
            let roots = (map + ROOT_EPS).sqrt() - ROOT_EPS.sqrt();
            masks.matmul(&roots.flatten(2, 3).transpose(1, 2))
        });
        Tensor::cat(&[&early, &late[0], &late[1]], 2)
    }

    /// Logits of the actions, `[B, I]`; with dropout where it `trains`.
    fn logits(&self, looks: &[&TuneLook], trains: bool) -> Tensor {
        let standard = (self.pooled(looks) - &self.mean) / &self.deviation;
        let related = standard.dropout(self.config.input_dropout, trains).matmul(&self.relate);
        let hidden = related.flatten(1, 2).apply(&self.hidden).relu();
        hidden.dropout(self.config.dropout, trains).apply(&self.actions)
    }

    /// Probability of each action, `[n, I]`.
    pub fn scores(&self, looks: &[TuneLook]) -> Vec<Vec<f32>> {
        let part = |part: &[TuneLook]| {
            let scores = no_grad(|| self.logits(&part.iter().collect::<Vec<_>>(), false).softmax(-1, Kind::Float));
            Vec::<Vec<f32>>::try_from(scores.to_device(Device::Cpu)).unwrap_or_default()
        };
        looks.chunks(BATCH).flat_map(part).collect()
    }

    /// Cross-entropy to the labels and, at the temperature, to the teachers' probabilities `[B, I]`.
    fn loss(&self, looks: &[&TuneLook], actions: &[i64], said: Option<&Tensor>) -> StepLoss {
        let logits = self.logits(looks, true);
        let labels = Tensor::from_slice(actions).to_device(logits.device());
        let mut total = logits.cross_entropy_for_logits(&labels);
        let mut parts = vec![("actions", total.double_value(&[]))];
        if let Some(said) = said {
            let t = self.config.temperature;
            let target = said.to_device(logits.device()).clamp_min(1e-6).pow_tensor_scalar(1.0 / t);
            let target = &target / target.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
            let distance = &target * (target.log() - (logits / t).log_softmax(-1, Kind::Float));
            let taught = distance.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).mean(Kind::Float) * (t * t);
            parts.push(("teacher", taught.double_value(&[])));
            total = total * (1.0 - self.config.teacher) + taught * self.config.teacher;
        }
        StepLoss { total, parts }
    }

    /// Trains for the epochs that `trainer` has left; for each photo and epoch one of its views is drawn.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn train(
        &self,
        views: &[Vec<TuneLook>],
        actions: &[usize],
        teachers: Option<&TeacherAnswers>,
        trainer: &mut Trainer,
        config: &RunConfig,
        mut validate: impl FnMut(&Self) -> Vec<(&'static str, f64)>,
    ) -> Result<(), RunError> {
        let RunConfig { batch, seed, .. } = *config;
        let count = actions.len();
        trainer.run(EpochShape::new(count, batch), |epoch| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((epoch.number() as u64 + 1) << 32));
            let drawn: Vec<usize> = (0..count).map(|_| rng.random_range(0..views.len())).collect();
            let mut order: Vec<usize> = (0..count).collect();
            order.shuffle(&mut rng);
            for indices in order.chunks(batch).skip(epoch.done()) {
                let looks: Vec<&TuneLook> = indices.iter().map(|&i| &views[drawn[i]][i]).collect();
                let labels: Vec<i64> = indices.iter().map(|&i| actions[i] as i64).collect();
                epoch.step(looks.len(), || {
                    let rows = Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>());
                    let said = teachers.map(|t| t.scores.index_select(0, &rows));
                    Ok::<_, RunError>(Some(self.loss(&looks, &labels, said.as_ref())))
                })?;
            }
            Ok(epoch.with_average(|| validate(self)))
        })
    }

    /// Writes the network alone, batch norms folded, as [`EfficientNetLite::load`] reads it.
    ///
    /// # Errors
    /// [`TuneError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), TuneError> {
        let mut own: Vec<(String, Tensor)> = self
            .store
            .variables()
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(BACKBONE)?.to_owned(), tensor.detach())))
            .map(|(name, tensor)| (name, tensor.to_device(Device::Cpu)))
            .collect();
        own.sort_by(|a, b| a.0.cmp(&b.0));
        let beside = path.with_extension("part");
        Tensor::write_safetensors(&own, &beside)
            .and_then(|()| Ok(std::fs::rename(&beside, path)?))
            .map_err(|source| TuneError::Write { path: path.to_owned(), source })
    }
}

/// Names of the convolutions of the last blocks, and of the one behind them.
fn tuned_convolutions(config: &EfficientNetLiteConfig, blocks: usize) -> Vec<String> {
    let all = config.blocks();
    let late = all.iter().rev().take(blocks).flat_map(|block| &block.convolutions);
    late.map(|plan| plan.name.clone()).chain([config.head_convolution().name]).collect()
}

/// Channels of the three late maps together.
fn look_channels(config: &EfficientNetLiteConfig) -> i64 {
    let blocks = config.blocks();
    let halving = blocks.iter().rev().find(|block| block.stride == 2).and_then(|block| block.convolutions.first());
    let depthwise = blocks.last().and_then(|block| block.convolutions.iter().rev().nth(1));
    [halving, depthwise].into_iter().flatten().map(|plan| plan.outputs).sum::<i64>() + config.head
}
