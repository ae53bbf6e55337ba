//! A picture with the interactions that it is known to show, and nothing about where.

use hoi_runtime::geometry::BBox;
use hoi_runtime::pairing::{HumanObjectPair, candidate_pairs};
use hoi_runtime::spatial::{FeatureGrid, SPATIAL_LEN, entity_masks, spatial_encoding};
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use tch::{Device, Kind, Tensor};

use super::config::SelfTaught;
use super::pseudo::Positives;
use crate::dataset::{ImageLabel, PairLabel};
use crate::system::rmlr::DetectedPicture;

/// Pairs of an image are cut to the best so many by s_h s_o (section 3 of the method sheet leaves it open).
pub const MAX_PAIRS: usize = 512;

/// The N interactions of a vocabulary: by object, then verb; then the verbs without an object. Rows of the knowledge bank and columns of
/// the image scores are in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InteractionTable {
    entries: Vec<ImageLabel>,
}

impl InteractionTable {
    /// All interactions of `vocabulary`.
    pub fn of(vocabulary: &Vocabulary) -> Self {
        let objects = (0..vocabulary.object_count()).map(|o| ObjectClass(o as u16));
        let with = objects.flat_map(|object| {
            vocabulary.valid_verbs(object).iter().map(move |&verb| ImageLabel { verb, object: Some(object) })
        });
        let alone = vocabulary.alone().iter().map(|&verb| ImageLabel { verb, object: None });
        Self { entries: with.chain(alone).collect() }
    }

    /// In order.
    pub fn entries(&self) -> &[ImageLabel] {
        &self.entries
    }

    /// Number N.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the vocabulary knows no interaction.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Row of an interaction.
    pub fn position(&self, label: ImageLabel) -> Option<usize> {
        self.entries.iter().position(|e| *e == label)
    }
}

/// A picture ready for training and scoring.
#[derive(Debug)]
pub struct WeakExample {
    /// What the detector proposed, and the backbone's map.
    pub picture: DetectedPicture,
    /// Human-object pairs, at most [`MAX_PAIRS`]; humans alone where the vocabulary has verbs without an object.
    pub pairs: Vec<HumanObjectPair>,
    /// Pairs beyond the cap.
    pub cut: usize,
    /// What the image shows, each once. Empty at test.
    pub labels: Vec<ImageLabel>,
    entity_shares: Tensor,
    union_shares: Tensor,
    spatial: Tensor,
}

/// How much of a box lies in each cell, relative to the cell that holds most of it: `[n, h * w]`, every row's largest value 1. A box without
/// area inside the picture gives zeros.
///
/// This is the runtime's `entity_masks` up to a factor a row, which the runtime's normalised rows give back by division.
pub fn relative_shares(boxes: &[BBox], grid: FeatureGrid) -> Tensor {
    let mut masks = entity_masks(boxes, grid);
    for mut row in masks.rows_mut() {
        let most = row.iter().copied().fold(0f32, f32::max);
        if most > 0.0 {
            row /= most;
        }
    }
    let (rows, cells) = masks.dim();
    let values: Vec<f32> = masks.into_iter().collect();
    Tensor::from_slice(&values).view([rows as i64, cells as i64])
}

/// The distinct interactions among annotated pairs, in their order: what an image shows, without where.
pub fn image_labels(pairs: &[PairLabel]) -> Vec<ImageLabel> {
    let mut labels = Vec::new();
    for pair in pairs {
        let label = ImageLabel { verb: pair.verb, object: Some(pair.class) };
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

impl WeakExample {
    /// Forms the pairs of a picture.
    pub fn new(picture: DetectedPicture, labels: Vec<ImageLabel>, vocabulary: &Vocabulary) -> Self {
        let entities = &picture.entities;
        let mut pairs = candidate_pairs(entities, vocabulary);
        let cut = pairs.len().saturating_sub(MAX_PAIRS);
        if cut > 0 {
            let prior = |p: &HumanObjectPair| {
                let human = entities[p.human].score;
                if p.is_alone() { human } else { human * entities[p.object].score }
            };
            pairs.sort_by(|a, b| prior(b).total_cmp(&prior(a)));
            pairs.truncate(MAX_PAIRS);
        }
        let size = picture.feature.size();
        let grid = FeatureGrid { columns: size[2] as usize, rows: size[1] as usize, picture: picture.covered };
        let boxes: Vec<BBox> = entities.iter().map(|e| e.bbox).collect();
        let unions: Vec<BBox> = pairs.iter().map(|p| boxes[p.human].enclosing(&boxes[p.object])).collect();
        let original: Vec<BBox> = boxes.iter().map(|b| picture.in_original(b)).collect();
        let spatial: Vec<f32> = pairs
            .iter()
            .flat_map(|p| spatial_encoding(&original[p.human], &original[p.object], picture.original))
            .collect();
        Self {
            entity_shares: relative_shares(&boxes, grid),
            union_shares: relative_shares(&unions, grid),
            spatial: Tensor::from_slice(&spatial).view([pairs.len() as i64, SPATIAL_LEN as i64]),
            picture,
            pairs,
            cut,
            labels,
        }
    }

    /// The same example; tensors are shared.
    pub fn shallow_clone(&self) -> Self {
        Self {
            picture: self.picture.shallow_clone(),
            pairs: self.pairs.clone(),
            cut: self.cut,
            labels: self.labels.clone(),
            entity_shares: self.entity_shares.shallow_clone(),
            union_shares: self.union_shares.shallow_clone(),
            spatial: self.spatial.shallow_clone(),
        }
    }

    /// Class of a pair's object; `None` for a human alone.
    pub fn object_class(&self, pair: &HumanObjectPair) -> Option<ObjectClass> {
        (!pair.is_alone()).then(|| self.picture.entities[pair.object].class)
    }

    /// The verbs of the image, and which pairs may carry each: those whose object is the object of any of the image's interactions or,
    /// when strict, of one with that verb.
    pub fn positives(&self, rule: &SelfTaught) -> Positives {
        let mut positives = Positives::default();
        for label in &self.labels {
            let verb = usize::from(label.verb.0);
            if positives.verbs.contains(&verb) {
                continue;
            }
            let fits =
                |object| self.labels.iter().any(|l| l.object == object && (!rule.strict || l.verb == label.verb));
            let allowed = (0..self.pairs.len()).filter(|&p| fits(self.object_class(&self.pairs[p])));
            positives.allowed.push(allowed.collect());
            positives.verbs.push(verb);
        }
        positives
    }

    /// Labels that no pair could carry: no proposal shows their object with a human.
    pub fn uncarried(&self) -> Vec<ImageLabel> {
        let carried = |l: &&ImageLabel| self.pairs.iter().any(|p| self.object_class(p) == l.object);
        self.labels.iter().filter(|l| !carried(l)).copied().collect()
    }
}

/// Pictures put together, filled up with zeros to the most cells, entities and pairs of any.
#[derive(Debug)]
pub struct WeakBatch {
    /// Backbone maps Gamma, `[B, C, h, w]`.
    pub feature: Tensor,
    /// Rows and columns of each picture's own map.
    pub sizes: Vec<[i64; 2]>,
    /// Cells of the picture, `[B, h * w]`: 1, and 0 for filling.
    pub cells: Tensor,
    /// Relative shares of the entities' boxes, `[B, N, h * w]`.
    pub entity_shares: Tensor,
    /// Relative shares of the boxes that enclose the pairs, `[B, P, h * w]`.
    pub union_shares: Tensor,
    /// Entity of each pair's human, `[B, P]`, i64.
    pub human_index: Tensor,
    /// Entity of each pair's object, `[B, P]`, i64.
    pub object_index: Tensor,
    /// Box geometry, `[B, P, 36]`.
    pub spatial: Tensor,
    /// What is known of each entity beside the map, `[B, N, T]`; T may be 0.
    pub tokens: Tensor,
    /// True where a row of pairs is filling, `[B, P]`.
    pub filling: Tensor,
}

impl WeakBatch {
    /// Which pairs are a human alone, `[B, P, 1]`.
    pub(super) fn alone(&self) -> Tensor {
        self.human_index.eq_tensor(&self.object_index).unsqueeze(-1)
    }

    /// Puts examples together on a device. At least one entity and pair of filling, so that no dimension is empty.
    pub fn new(examples: &[&WeakExample], device: Device) -> Self {
        let most = |f: &dyn Fn(&WeakExample) -> i64| examples.iter().map(|e| f(e)).max().unwrap_or(0).max(1);
        let rows = most(&|e| e.picture.feature.size()[1]);
        let columns = most(&|e| e.picture.feature.size()[2]);
        let entities = most(&|e| e.picture.entities.len() as i64);
        let pairs = most(&|e| e.pairs.len() as i64);
        let stack = |f: &dyn Fn(&WeakExample) -> Tensor| {
            Tensor::stack(&examples.iter().map(|e| f(e)).collect::<Vec<_>>(), 0).to_device(device)
        };
        let over_map = |t: &Tensor, e: &WeakExample| {
            let size = e.picture.feature.size();
            let (h, w) = (size[1], size[2]);
            let n = t.size()[0];
            t.view([n, h, w]).constant_pad_nd([0, columns - w, 0, rows - h]).flatten(1, 2)
        };
        let fill = |t: Tensor, to: i64| t.constant_pad_nd([0, 0, 0, to - t.size()[0]]);
        let index = |f: &dyn Fn(&HumanObjectPair) -> usize| {
            stack(&|e| {
                let list: Vec<i64> = e.pairs.iter().map(|p| f(p) as i64).collect();
                Tensor::from_slice(&list).constant_pad_nd([0, pairs - list.len() as i64])
            })
        };
        let own = |e: &&WeakExample| {
            let size = e.picture.feature.size();
            [size[1], size[2]]
        };
        Self {
            sizes: examples.iter().map(own).collect(),
            feature: stack(&|e| {
                let size = e.picture.feature.size();
                e.picture.feature.constant_pad_nd([0, columns - size[2], 0, rows - size[1]])
            })
            .to_kind(Kind::Float),
            cells: stack(&|e| {
                let size = e.picture.feature.size();
                let ones = Tensor::ones([1, size[1] * size[2]], (Kind::Float, Device::Cpu));
                over_map(&ones, e).squeeze_dim(0)
            }),
            entity_shares: stack(&|e| fill(over_map(&e.entity_shares, e), entities)),
            union_shares: stack(&|e| fill(over_map(&e.union_shares, e), pairs)),
            human_index: index(&|p| p.human),
            object_index: index(&|p| p.object),
            spatial: stack(&|e| fill(e.spatial.shallow_clone(), pairs)),
            tokens: stack(&|e| fill(e.picture.tokens.to_kind(Kind::Float), entities)),
            filling: stack(&|e| {
                let filling = Tensor::ones([pairs], (Kind::Bool, Device::Cpu));
                let _ = filling.narrow(0, 0, e.pairs.len() as i64).fill_(0);
                filling
            }),
        }
    }
}
