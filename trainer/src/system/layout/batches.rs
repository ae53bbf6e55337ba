//! Batches of pairs.

use hoi_runtime::spatial::SPATIAL_LEN;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::network::Pairs;
use crate::dataset::layout::{Draw, LayoutSample, SceneSet, Setting};

/// The pairs of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairBatch {
    /// `[P, 36]`, row by row.
    pub spatial: Vec<f32>,
    /// `[P]`.
    pub object_class: Vec<i64>,
    /// Entity of each pair's human, `[P]`; entities are counted over the whole batch.
    pub human: Vec<i64>,
    /// Entity of each pair's object, `[P]`.
    pub object: Vec<i64>,
    /// Image of each pair, `[P]`, counted over the batch.
    pub image: Vec<i64>,
    /// (row, verb).
    pub positives: Vec<(usize, u16)>,
    /// Entities of all images.
    pub entities: usize,
    /// Images that the pairs come from.
    pub images: usize,
}

impl PairBatch {
    /// Adds an image.
    pub fn push(&mut self, sample: &LayoutSample) {
        let (row, entity) = (self.object_class.len(), self.entities);
        self.spatial.extend(sample.spatial());
        self.object_class.extend(sample.object_class());
        self.human.extend(sample.pairs.iter().map(|p| (entity + p.human) as i64));
        self.object.extend(sample.pairs.iter().map(|p| (entity + p.object) as i64));
        self.image.extend(sample.pairs.iter().map(|_| self.images as i64));
        self.positives.extend(sample.positives.iter().map(|&(r, verb)| (row + r, verb)));
        self.entities += sample.entities.len();
        self.images += 1;
    }

    /// The pairs on a device.
    pub fn pairs(&self, device: Device) -> Pairs {
        let indices = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Pairs {
            spatial: Tensor::from_slice(&self.spatial).view([-1, SPATIAL_LEN as i64]).to_device(device),
            object_class: indices(&self.object_class),
            human: indices(&self.human),
            object: indices(&self.object),
            image: indices(&self.image),
            entities: self.entities as i64,
            images: self.images as i64,
        }
    }

    /// Labels `[P, V]` on a device.
    pub fn labels(&self, verbs: i64, device: Device) -> Tensor {
        let mut labels = vec![0f32; self.object_class.len() * verbs as usize];
        for &(row, verb) in &self.positives {
            labels[row * verbs as usize + verb as usize] = 1.0;
        }
        Tensor::from_slice(&labels).view([-1, verbs]).to_device(device)
    }
}

/// The batches of an epoch: all scenes once, in an order that depends on seed and epoch only. A batch may be without pairs.
///
/// A share of the scenes, drawn anew each epoch, is seen as [`Setting::Merged`] whatever `draw` says.
pub fn batches_of_epoch(
    set: &SceneSet,
    draw: Draw,
    merged_share: f64,
    images: usize,
) -> impl Iterator<Item = PairBatch> + Send + '_ {
    let mut order: Vec<usize> = (0..set.scenes().len()).collect();
    let seed = draw.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(draw.epoch);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    order.shuffle(&mut rng);
    let images = images.max(1);
    let count = order.len().div_ceil(images);
    (0..count).map(move |i| {
        let mut batch = PairBatch::default();
        for &index in order.iter().skip(i * images).take(images) {
            let merged = rng.random_bool(merged_share);
            batch
                .push(&set.draw(index, &Draw { setting: if merged { Setting::Merged } else { draw.setting }, ..draw }));
        }
        batch
    })
}
