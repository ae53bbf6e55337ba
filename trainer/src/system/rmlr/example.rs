//! A picture as the head sees it: what the frozen detector said, the pairs formed from it, and their labels.

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::{HumanObjectPair, pair_entities};
use hoi_runtime::spatial::{FeatureGrid, SPATIAL_LEN, pair_masks, spatial_encoding};
use hoi_runtime::vocabulary::{Interaction, Vocabulary};
use tch::{Device, Kind, Tensor};

use super::config::RoiPooling;
use super::network::VisualBatch;
use crate::dataset::PairLabel;

/// A pair is positive when both of its boxes overlap an annotated pair's by at least this (C3).
pub const MATCH_IOU: f32 = 0.5;

/// What a frozen detector says of a picture.
#[derive(Debug)]
pub struct DetectedPicture {
    /// Number of the image in its set.
    pub number: u64,
    /// Size of the original image, or of the part of it that was cut out; predictions are written in its pixels.
    pub original: Size,
    /// Size of the picture in the network's input, without filling.
    pub input: Size,
    /// Backbone map, `[c, h, w]`.
    pub feature: Tensor,
    /// The part of the input that the map covers; at least `input`.
    pub covered: Size,
    /// Entities after NMS and selection, humans first, boxes in input pixels.
    pub entities: Vec<Detection>,
    /// Their tokens, `[N, D]`.
    pub tokens: Tensor,
}

impl DetectedPicture {
    /// The same picture; tensors are shared.
    pub fn shallow_clone(&self) -> Self {
        let (feature, tokens) = (self.feature.shallow_clone(), self.tokens.shallow_clone());
        Self { feature, tokens, entities: self.entities.clone(), ..*self }
    }

    /// A box of the input in pixels of the original image.
    pub fn in_original(&self, bbox: &BBox) -> BBox {
        let ratio = |original: u32, input: u32| original as f32 / input.max(1) as f32;
        bbox.scale(ratio(self.original.width, self.input.width), ratio(self.original.height, self.input.height))
    }
}

/// A picture ready for training and scoring.
#[derive(Debug)]
pub struct Example {
    /// What the detector said.
    pub picture: DetectedPicture,
    /// All human-object pairs.
    pub pairs: Vec<HumanObjectPair>,
    /// Distinct annotated triplets in annotation order.
    pub triplets: Vec<Interaction>,
    /// (pair, triplet): which pair carries which annotated triplet; each once.
    pub matches: Vec<(usize, usize)>,
    masks: Tensor,
    spatial: Tensor,
    prior: Tensor,
    valid: Tensor,
    labels: Tensor,
}

/// The masks of eq. 5 in the chosen reading: `[P, h * w]` row by row.
fn masks(boxes: &[(BBox, BBox)], grid: FeatureGrid, pooling: RoiPooling) -> Vec<f32> {
    let mut masks = pair_masks(boxes, grid);
    for (mut row, (human, object)) in masks.rows_mut().into_iter().zip(boxes) {
        let factor = match pooling {
            RoiPooling::Enclosing => 1.0,
            RoiPooling::Covered => 1.0 / row.sum().max(1e-6),
            RoiPooling::Map => {
                let enclosing = human.clip(grid.picture).enclosing(&object.clip(grid.picture));
                enclosing.area() / grid.picture.bbox().area().max(1e-6)
            }
        };
        row *= factor;
    }
    masks.into_iter().collect()
}

impl Example {
    /// Forms the pairs of a picture and labels them with `annotated`, boxes in input pixels.
    ///
    /// A pair carries the verbs of every annotated pair with min(IoU_human, IoU_object) >= 0.5, whatever class was annotated, as far
    /// as the detected class takes them. It is associated with that pair's triplets in any case.
    pub fn new(
        picture: DetectedPicture,
        annotated: &[PairLabel],
        vocabulary: &Vocabulary,
        pooling: RoiPooling,
    ) -> Self {
        let pairs = pair_entities(&picture.entities, vocabulary.human());
        let at = |i: usize| &picture.entities[i];
        let boxes: Vec<(BBox, BBox)> = pairs.iter().map(|p| (at(p.human).bbox, at(p.object).bbox)).collect();
        let mut triplets: Vec<Interaction> = Vec::new();
        let mut matches = Vec::new();
        let (rows, verbs) = (pairs.len(), vocabulary.verb_count());
        let mut labels = vec![0f32; rows * verbs];
        let mut valid = vec![0f32; rows * verbs];
        for (row, pair) in pairs.iter().enumerate() {
            for verb in vocabulary.valid_verbs(at(pair.object).class) {
                valid[row * verbs + usize::from(verb.0)] = 1.0;
            }
        }
        for label in annotated {
            let triplet = Interaction { verb: label.verb, object: label.class };
            let index = triplets.iter().position(|t| *t == triplet).unwrap_or_else(|| {
                triplets.push(triplet);
                triplets.len() - 1
            });
            for (row, (human, object)) in boxes.iter().enumerate() {
                if human.iou(&label.human).min(object.iou(&label.object)) < MATCH_IOU {
                    continue;
                }
                let entry = row * verbs + usize::from(label.verb.0);
                labels[entry] = valid[entry];
                if !matches.contains(&(row, index)) {
                    matches.push((row, index));
                }
            }
        }
        let (rows, verbs) = (rows as i64, verbs as i64);
        let size = picture.feature.size();
        let grid = FeatureGrid { columns: size[2] as usize, rows: size[1] as usize, picture: picture.covered };
        // In the original's pixels, as the runtime has them: a stretched input has other aspect ratios.
        let spatial: Vec<f32> = boxes
            .iter()
            .flat_map(|(human, object)| {
                let [human, object] = [human, object].map(|b| picture.in_original(b));
                spatial_encoding(&human, &object, picture.original)
            })
            .collect();
        let prior: Vec<f32> = pairs.iter().map(|p| at(p.human).score * at(p.object).score).collect();
        Self {
            masks: Tensor::from_slice(&masks(&boxes, grid, pooling)).view([rows, size[1], size[2]]),
            spatial: Tensor::from_slice(&spatial).view([rows, SPATIAL_LEN as i64]),
            prior: Tensor::from_slice(&prior),
            valid: Tensor::from_slice(&valid).view([rows, verbs]),
            labels: Tensor::from_slice(&labels).view([rows, verbs]),
            picture,
            pairs,
            triplets,
            matches,
        }
    }

    /// Spatial values of the pairs, `[P, 36]`.
    pub fn spatial(&self) -> &Tensor {
        &self.spatial
    }

    /// Labels of the pairs, 0 or 1, `[P, V]`.
    pub fn labels(&self) -> &Tensor {
        &self.labels
    }

    /// 1 where the verb occurs with the pair's detected class, `[P, V]`.
    pub fn valid(&self) -> &Tensor {
        &self.valid
    }

    /// s_h s_o, `[P]`.
    pub fn prior(&self) -> &Tensor {
        &self.prior
    }
}

/// Pictures with at least one pair, put together.
#[derive(Debug)]
pub struct PairBatch {
    /// What the head takes.
    pub visual: VisualBatch,
    /// Labels, `[R, V]`.
    pub labels: Tensor,
    /// Validity, `[R, V]`.
    pub valid: Tensor,
    /// s_h s_o, `[R, 1]`.
    pub prior: Tensor,
}

/// `[.., h, w]` filled up with zeros to the right and below.
fn fill(t: &Tensor, rows: i64, columns: i64) -> Tensor {
    match t.size()[..] {
        [.., h, w] if (h, w) != (rows, columns) => t.constant_pad_nd([0, columns - w, 0, rows - h]),
        _ => t.shallow_clone(),
    }
}

impl PairBatch {
    /// Puts examples together on a device. Each must have a pair.
    pub fn new(examples: &[&Example], device: Device) -> Self {
        let most = |f: &dyn Fn(&Example) -> i64| examples.iter().map(|e| f(e)).max().unwrap_or(0);
        let rows = most(&|e| e.picture.feature.size()[1]);
        let columns = most(&|e| e.picture.feature.size()[2]);
        let pairs = most(&|e| e.pairs.len() as i64);
        let cat = |f: &dyn Fn(&Example) -> Tensor| {
            Tensor::cat(&examples.iter().map(|e| f(e)).collect::<Vec<_>>(), 0).to_device(device)
        };
        let stack = |f: &dyn Fn(&Example) -> Tensor| {
            Tensor::stack(&examples.iter().map(|e| f(e)).collect::<Vec<_>>(), 0).to_device(device)
        };
        let alike = examples.iter().all(|e| e.picture.feature.size()[1..] == [rows, columns]);
        let filling = |e: &Example| {
            let filling = Tensor::ones([rows, columns], (Kind::Bool, Device::Cpu));
            let size = e.picture.feature.size();
            let _ = filling.narrow(0, 0, size[1]).narrow(1, 0, size[2]).fill_(0);
            filling
        };
        let (mut row, mut picture, mut human, mut object) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut entities = 0;
        for (i, example) in (0..).zip(examples) {
            for (p, pair) in (0..).zip(&example.pairs) {
                row.push(i * pairs + p);
                picture.push(i);
                human.push(entities + pair.human as i64);
                object.push(entities + pair.object as i64);
            }
            entities += example.picture.entities.len() as i64;
        }
        let index = |list: &[i64]| Tensor::from_slice(list).to_device(device);
        let picture = index(&picture);
        Self {
            visual: VisualBatch {
                feature: stack(&|e| fill(&e.picture.feature, rows, columns)).to_kind(Kind::Float),
                feature_padding: (!alike).then(|| stack(&filling)),
                pair_masks: stack(&|e| {
                    let masks = fill(&e.masks, rows, columns).flatten(1, 2);
                    masks.constant_pad_nd([0, 0, 0, pairs - e.pairs.len() as i64])
                }),
                rows: index(&row),
                apart: (examples.len() > 1).then(|| picture.unsqueeze(1).ne_tensor(&picture.unsqueeze(0)).unsqueeze(0)),
                picture,
                tokens: cat(&|e| e.picture.tokens.to_kind(Kind::Float)),
                human_index: index(&human),
                object_index: index(&object),
                spatial: cat(&|e| e.spatial.shallow_clone()),
            },
            labels: cat(&|e| e.labels.shallow_clone()),
            valid: cat(&|e| e.valid.shallow_clone()),
            prior: cat(&|e| e.prior.unsqueeze(1)),
        }
    }
}
