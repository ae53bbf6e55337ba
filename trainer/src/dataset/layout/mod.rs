//! HICO-DET without its pictures: the boxes of each image, the pairs they form and the verbs of each pair.
//!
//! The annotation repeats a pair of boxes, slightly moved, for every verb, so that the number of copies tells the number of
//! verbs. Boxes are therefore merged first ([`merge_boxes`]). What remains is a closed world (half of the images have one pair,
//! always positive), so the honest settings add distractors ([`Setting`]).

mod merge;
mod sample;

use std::collections::BTreeMap;

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use serde::{Deserialize, Serialize};

use super::hico_det::InteractionTable;
use super::{AnnotatedImage, AnnotatedPair};
pub use merge::{MERGE_IOU, merge_boxes};
pub use sample::{Draw, LayoutSample, MAX_PAIRS, PAIR_IOU};

/// What surrounds the annotated boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The annotated boxes, merged, and nothing else: a closed world.
    Merged,
    /// And distractors in every image: Poisson(1) human and Poisson(2) object boxes pasted from other images of the split.
    Open,
    /// And every edge of every box moved by 3 % (standard deviation) of the box's width or height.
    Jitter,
}

impl Setting {
    /// All settings, easiest first.
    pub const ALL: [Self; 3] = [Self::Merged, Self::Open, Self::Jitter];

    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Open => "open",
            Self::Jitter => "jitter",
        }
    }
}

/// An image's merged boxes and its annotation as published.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Number of the image.
    pub number: u64,
    /// Size of the image.
    pub size: Size,
    /// Merged boxes, humans first, score 1.
    pub entities: Vec<Detection>,
    /// The annotation, not merged: what predictions are scored against.
    pub annotated: Vec<AnnotatedPair>,
}

/// A box in shares of its image's width and height.
#[derive(Clone, Copy, Debug)]
struct PooledBox {
    scene: usize,
    class: ObjectClass,
    in_unit_square: BBox,
}

/// The scenes of a split, and all their boxes as a pool of distractors.
#[derive(Clone, Debug)]
pub struct SceneSet {
    scenes: Vec<Scene>,
    human: ObjectClass,
    /// `[interaction]` -> (object class, verb).
    interactions: Vec<(ObjectClass, u16)>,
    human_pool: Vec<PooledBox>,
    object_pool: Vec<PooledBox>,
    skipped: usize,
}

impl SceneSet {
    /// Merges the boxes of every image. An image whose size is unknown (HAKE: no label, so no box) is left out and counted.
    pub fn new<'a>(images: impl IntoIterator<Item = &'a AnnotatedImage>, table: &InteractionTable) -> Self {
        let human = table.vocabulary().human();
        let interactions: Vec<_> =
            table.classes().iter().map(|c| (c.interaction.object, c.interaction.verb.0)).collect();
        let mut set = Self {
            scenes: Vec::new(),
            human,
            interactions,
            human_pool: Vec::new(),
            object_pool: Vec::new(),
            skipped: 0,
        };
        for image in images {
            let Some(size) = image.size else {
                set.skipped += 1;
                continue;
            };
            let entities = set.merged_entities(&image.pairs);
            let (w, h) = (size.width.max(1) as f32, size.height.max(1) as f32);
            for e in &entities {
                let scene = set.scenes.len();
                let pooled = PooledBox { scene, class: e.class, in_unit_square: e.bbox.scale(1.0 / w, 1.0 / h) };
                if e.class == human { &mut set.human_pool } else { &mut set.object_pool }.push(pooled);
            }
            set.scenes.push(Scene { number: image.number, size, entities, annotated: image.pairs.clone() });
        }
        set
    }

    fn merged_entities(&self, pairs: &[AnnotatedPair]) -> Vec<Detection> {
        // Persons and person objects are merged together.
        let mut of_class: BTreeMap<ObjectClass, Vec<BBox>> = BTreeMap::new();
        for pair in pairs {
            of_class.entry(self.human).or_default().push(pair.human);
        }
        for pair in pairs {
            of_class.entry(self.interactions[pair.interaction].0).or_default().push(pair.object);
        }
        let humans = of_class.remove(&self.human).map(|boxes| (self.human, boxes));
        let merged = humans.into_iter().chain(of_class).flat_map(|(class, boxes)| {
            merge_boxes(boxes, MERGE_IOU).into_iter().map(move |bbox| Detection { bbox, class, score: 1.0 })
        });
        merged.collect()
    }

    /// The scenes, in the order of the images.
    pub fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// Images left out because their size is unknown.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// A number that changes with any box, size or label of the set: what a checkpoint is bound to.
    pub fn fingerprint(&self) -> u64 {
        // FNV-1a.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |value: u64| {
            for byte in value.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for scene in &self.scenes {
            eat(scene.number);
            eat(u64::from(scene.size.width) << 32 | u64::from(scene.size.height));
            for pair in &scene.annotated {
                eat(pair.interaction as u64);
                for b in [pair.human, pair.object] {
                    <[f32; 4]>::from(b).into_iter().for_each(|v| eat(u64::from(v.to_bits())));
                }
            }
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::hico_det::tests::table;

    pub(super) fn image(number: u64, pairs: &[([f32; 4], [f32; 4], usize)]) -> AnnotatedImage {
        AnnotatedImage {
            name: format!("x_{number}.jpg"),
            number,
            size: Some(Size::new(100, 100)),
            pairs: pairs
                .iter()
                .map(|&(h, o, interaction)| AnnotatedPair { human: h.into(), object: o.into(), interaction })
                .collect(),
        }
    }

    #[test]
    fn entities_are_merged_per_class_and_humans_come_first() {
        let table = table();
        let (ride, hold, hug) = (1, 0, 3);
        let bicycle = [40., 40., 80., 80.];
        let images = [image(
            7,
            &[
                ([0., 0., 20., 40.], bicycle, ride),
                ([0., 0., 20., 42.], bicycle, hold),
                // The other person is an object here and human nowhere; the first is both.
                ([0., 0., 20., 41.], [60., 0., 80., 40.], hug),
            ],
        )];
        let set = SceneSet::new(&images, &table);
        let got: Vec<_> = set.scenes()[0].entities.iter().map(|e| (e.class.0, e.bbox)).collect();
        assert_eq!(
            got,
            [(0, BBox::new(0., 0., 20., 41.)), (0, BBox::new(60., 0., 80., 40.)), (1, BBox::new(40., 40., 80., 80.))]
        );
        assert_eq!((set.human_pool.len(), set.object_pool.len()), (2, 1));
    }

    #[test]
    fn images_without_size_are_counted() {
        let mut empty = image(1, &[]);
        empty.size = None;
        let set = SceneSet::new(&[empty, image(2, &[])], &table());
        assert_eq!((set.scenes().len(), set.skipped()), (1, 1));
    }

    #[test]
    fn fingerprint_sees_a_moved_box() {
        let a = image(1, &[([0., 0., 20., 40.], [1., 1., 2., 2.], 0)]);
        let b = image(1, &[([0., 0., 20., 41.], [1., 1., 2., 2.], 0)]);
        let table = table();
        let print = |i: &AnnotatedImage| SceneSet::new([i], &table).fingerprint();
        assert_eq!(print(&a), print(&a.clone()));
        assert_ne!(print(&a), print(&b));
    }
}
