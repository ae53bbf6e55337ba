//! Batches of pairs.

use hoi_runtime::spatial::SPATIAL_LEN;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use crate::dataset::layout::{Draw, SceneSet};

/// The pairs of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairBatch {
    /// `[P, 36]`, row by row.
    pub spatial: Vec<f32>,
    /// `[P]`.
    pub object_class: Vec<i64>,
    /// (row, verb).
    pub positives: Vec<(usize, u16)>,
    /// Images that the pairs come from.
    pub images: usize,
}

impl PairBatch {
    /// Spatial values `[P, 36]`, object classes `[P]` and labels `[P, V]` on a device.
    pub fn tensors(&self, verbs: i64, device: Device) -> (Tensor, Tensor, Tensor) {
        let mut labels = vec![0f32; self.object_class.len() * verbs as usize];
        for &(row, verb) in &self.positives {
            labels[row * verbs as usize + verb as usize] = 1.0;
        }
        (
            Tensor::from_slice(&self.spatial).view([-1, SPATIAL_LEN as i64]).to_device(device),
            Tensor::from_slice(&self.object_class).to_device(device),
            Tensor::from_slice(&labels).view([-1, verbs]).to_device(device),
        )
    }
}

/// The batches of an epoch: all scenes once, in an order that depends on seed and epoch only. A batch may be without pairs.
pub fn batches_of_epoch(set: &SceneSet, draw: Draw, images: usize) -> impl Iterator<Item = PairBatch> + Send + '_ {
    let mut order: Vec<usize> = (0..set.scenes().len()).collect();
    let seed = draw.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(draw.epoch);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let images = images.max(1);
    let count = order.len().div_ceil(images);
    (0..count).map(move |i| {
        let mut batch = PairBatch::default();
        for &index in order.iter().skip(i * images).take(images) {
            let sample = set.draw(index, &draw);
            let first = batch.object_class.len();
            batch.spatial.extend(sample.spatial());
            batch.object_class.extend(sample.object_class());
            batch.positives.extend(sample.positives.iter().map(|&(row, verb)| (first + row, verb)));
            batch.images += 1;
        }
        batch
    })
}
