//! The row that keeps every table honest: a perceptron that sees boxes and classes only, on the same detections and labels.

use hoi_runtime::vocabulary::Vocabulary;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::example::Example;
use crate::loss::FocalLoss;
use crate::optimizer::{AdamW, CosineSchedule};
use crate::system::layout::{LayoutNetwork, LayoutShape, Pairs, Standardisation};

/// How it is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxesConfig {
    /// Passes over all pictures.
    pub epochs: usize,
    /// Pictures a step.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Width of both hidden layers.
    pub hidden: i64,
    /// Seed of weights and order.
    pub seed: u64,
}

fn classes(example: &Example) -> Vec<i64> {
    example.pairs.iter().map(|p| i64::from(example.picture.entities[p.object].class.0)).collect()
}

/// Trains it; `copies` as in [`super::Source::Cached`].
pub fn train_boxes(copies: &[Vec<Example>], vocabulary: &Vocabulary, config: &BoxesConfig) -> LayoutNetwork {
    let all: Vec<&Example> = copies.iter().flatten().filter(|e| !e.pairs.is_empty()).collect();
    let mut rows = Vec::new();
    for example in &all {
        let flat = example.spatial().contiguous().view([-1]);
        let mut values = vec![0f32; flat.numel()];
        let count = values.len();
        flat.copy_data(&mut values, count);
        rows.extend(values);
    }
    let shape = LayoutShape {
        objects: vocabulary.object_count() as i64,
        verbs: vocabulary.verb_count() as i64,
        hidden: config.hidden,
        embedding: 16,
        heads: 0,
    };
    let mut network = LayoutNetwork::new(shape, Standardisation::of_rows(&rows), config.seed, Device::Cpu);
    let mut optimizer = AdamW::new(network.parameters(), 1e-4);
    let steps_per_epoch = all.len().div_ceil(config.batch.max(1));
    let schedule = CosineSchedule {
        peak: config.learning_rate,
        warmup_steps: 0,
        total_steps: (steps_per_epoch * config.epochs) as u64,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..all.len()).collect();
    for _ in 0..config.epochs {
        order.shuffle(&mut rng);
        for indices in order.chunks(config.batch.max(1)) {
            let cat = |f: &dyn Fn(&Example) -> Tensor| {
                Tensor::cat(&indices.iter().map(|&i| f(all[i])).collect::<Vec<_>>(), 0)
            };
            let class: Vec<i64> = indices.iter().flat_map(|&i| classes(all[i])).collect();
            let logits =
                network.forward(&Pairs::unrelated(cat(&|e| e.spatial().shallow_clone()), Tensor::from_slice(&class)));
            let labels = cat(&|e| e.labels().shallow_clone());
            let (prior, valid) = (cat(&|e| e.prior().unsqueeze(1)), cat(&|e| e.valid().shallow_clone()));
            FocalLoss::default().forward(&logits, &labels, &prior, &valid).backward();
            let rate = schedule.rate(optimizer.steps());
            optimizer.step(network.parameters_mut(), rate);
        }
    }
    network
}

/// Verb logits of an example's pairs, `[P, V]`.
pub fn boxes_logits(network: &LayoutNetwork, example: &Example) -> Tensor {
    let verbs = network.shape().verbs;
    if example.pairs.is_empty() {
        return Tensor::zeros([0, verbs], (Kind::Float, Device::Cpu));
    }
    tch::no_grad(|| {
        network.forward(&Pairs::unrelated(example.spatial().shallow_clone(), Tensor::from_slice(&classes(example))))
    })
}
