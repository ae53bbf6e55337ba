//! One image as the network sees it: entities with distractors and jitter, pairs, encodings and labels.

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::{HumanObjectPair, pair_entities};
use hoi_runtime::spatial::{SPATIAL_LEN, spatial_encoding};
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};

use super::{PooledBox, Scene, SceneSet, Setting};
use crate::dataset::AnnotatedPair;

/// Most pairs of an image; more are thinned out at random.
pub const MAX_PAIRS: usize = 300;

/// A pair carries the verbs of the annotated pairs of its object class whose boxes it meets with at least this IoU, both of them (UPT; the
/// class is compared as well: docs/decisions/0005).
pub const PAIR_IOU: f32 = 0.5;

/// Mean number of human and of object distractors in an image.
const DISTRACTORS: [f64; 2] = [1.0, 2.0];

/// A distractor that overlaps a box of its class by more than this is drawn again.
const DISTRACTOR_IOU: f32 = 0.5;

/// How often a distractor is drawn again before it is left out.
const DISTRACTOR_TRIES: usize = 20;

/// Standard deviation of an edge's jitter, in shares of the box's width or height.
const JITTER: f32 = 0.03;

/// Which of an image's many samples is drawn. The same draw gives the same sample, whatever was drawn before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// What surrounds the annotated boxes.
    pub setting: Setting,
    /// Seed of the run.
    pub seed: u64,
    /// Changes the sample from epoch to epoch; 0 for a test.
    pub epoch: u64,
    /// Mirror half of the images.
    pub flip: bool,
}

/// An image's pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutSample {
    /// Size of the image.
    pub size: Size,
    /// Humans first; pixels of the image.
    pub entities: Vec<Detection>,
    /// At most [`MAX_PAIRS`], as the runtime pairs them.
    pub pairs: Vec<HumanObjectPair>,
    /// Pairs left out because there were more.
    pub left_out: usize,
    /// (row of `pairs`, verb), each once.
    pub positives: Vec<(usize, u16)>,
}

impl LayoutSample {
    /// The runtime's spatial encoding of every pair, `[P, 36]` row by row.
    pub fn spatial(&self) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.pairs.len() * SPATIAL_LEN);
        for pair in &self.pairs {
            let (human, object) = (&self.entities[pair.human].bbox, &self.entities[pair.object].bbox);
            rows.extend_from_slice(&spatial_encoding(human, object, self.size));
        }
        rows
    }

    /// Class of every pair's object, `[P]`.
    pub fn object_class(&self) -> Vec<i64> {
        self.pairs.iter().map(|p| i64::from(self.entities[p.object].class.0)).collect()
    }
}

/// A generator for one image of one draw.
fn generator(draw: &Draw, image: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_mut(8).zip([draw.seed, draw.epoch, image, 0x6c61_796f_7574]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

impl SceneSet {
    /// Draws the sample of the scene at `index`.
    ///
    /// # Panics
    /// When there is no such scene.
    pub fn draw(&self, index: usize, draw: &Draw) -> LayoutSample {
        let scene = &self.scenes[index];
        let mut rng = generator(draw, scene.number);
        let mut entities = scene.entities.clone();
        if draw.setting != Setting::Merged {
            self.add_distractors(index, &mut entities, &mut rng);
        }
        if draw.setting == Setting::Jitter {
            entities.iter_mut().for_each(|e| e.bbox = jittered(&e.bbox, scene.size, &mut rng));
        }
        let mut pairs = pair_entities(&entities, self.human);
        let left_out = pairs.len().saturating_sub(MAX_PAIRS);
        if left_out > 0 {
            let mut kept = index::sample(&mut rng, pairs.len(), MAX_PAIRS).into_vec();
            kept.sort_unstable();
            pairs = kept.into_iter().map(|i| pairs[i]).collect();
        }
        let positives = self.verbs_of(scene, &entities, &pairs);
        if draw.flip && rng.random_bool(0.5) {
            let width = scene.size.width as f32;
            for e in &mut entities {
                e.bbox = BBox::new(width - e.bbox.x2, e.bbox.y1, width - e.bbox.x1, e.bbox.y2);
            }
        }
        LayoutSample { size: scene.size, entities, pairs, left_out, positives }
    }

    /// Pastes boxes of other scenes, humans before objects so that humans stay in front.
    fn add_distractors(&self, index: usize, entities: &mut Vec<Detection>, rng: &mut ChaCha8Rng) {
        let humans = entities.iter().filter(|e| e.class == self.human).count();
        let mut objects = entities.split_off(humans);
        for (side, pool, mean) in
            [(&mut *entities, &self.human_pool, DISTRACTORS[0]), (&mut objects, &self.object_pool, DISTRACTORS[1])]
        {
            // A positive constant is a valid mean.
            let count = Poisson::new(mean).map_or(0.0, |p| p.sample(rng)) as usize;
            for _ in 0..count {
                if let Some(distractor) = self.distractor(index, side, pool, rng) {
                    side.push(distractor);
                }
            }
        }
        entities.append(&mut objects);
    }

    /// A box of another scene that does not overlap a box of its class here; `None` when none is found.
    fn distractor(
        &self,
        index: usize,
        present: &[Detection],
        pool: &[PooledBox],
        rng: &mut ChaCha8Rng,
    ) -> Option<Detection> {
        if pool.is_empty() {
            return None;
        }
        let size = self.scenes[index].size;
        for _ in 0..DISTRACTOR_TRIES {
            let drawn = pool[rng.random_range(0..pool.len())];
            let bbox = drawn.in_unit_square.scale(size.width as f32, size.height as f32);
            let overlaps = present.iter().any(|e| e.class == drawn.class && e.bbox.iou(&bbox) > DISTRACTOR_IOU);
            if drawn.scene != index && !overlaps {
                return Some(Detection { bbox, class: drawn.class, score: 1.0 });
            }
        }
        None
    }

    /// All verbs of the annotated pairs of the same object class that a pair meets, each once.
    fn verbs_of(&self, scene: &Scene, entities: &[Detection], pairs: &[HumanObjectPair]) -> Vec<(usize, u16)> {
        let mut positives = Vec::new();
        for (row, pair) in pairs.iter().enumerate() {
            let (human, object) = (&entities[pair.human], &entities[pair.object]);
            let meets = |a: &AnnotatedPair| {
                self.interactions[a.interaction].0 == object.class
                    && human.bbox.iou(&a.human).min(object.bbox.iou(&a.object)) >= PAIR_IOU
            };
            let first = positives.len();
            for annotated in scene.annotated.iter().filter(|a| meets(a)) {
                let positive = (row, self.interactions[annotated.interaction].1);
                if !positives[first..].contains(&positive) {
                    positives.push(positive);
                }
            }
        }
        positives
    }
}

/// Every edge moved by a normal of [`JITTER`] times the box's width or height, inside the picture.
fn jittered(b: &BBox, size: Size, rng: &mut ChaCha8Rng) -> BBox {
    let mut moved = |edge: f32, extent: f32| edge + Normal::new(0.0, JITTER * extent).map_or(0.0, |n| n.sample(rng));
    let (w, h) = (b.width(), b.height());
    BBox::new(moved(b.x1, w), moved(b.y1, h), moved(b.x2, w), moved(b.y2, h)).clip(size)
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;
    use crate::dataset::hico_det::tests::table;

    const HUMAN: [f32; 4] = [0., 0., 20., 40.];
    const BICYCLE: [f32; 4] = [10., 20., 50., 60.];

    fn draw(setting: Setting) -> Draw {
        Draw { setting, seed: 1, epoch: 0, flip: false }
    }

    fn two_images() -> SceneSet {
        let images = [
            image(1, &[(HUMAN, BICYCLE, 1), ([0., 0., 20., 42.], BICYCLE, 0), (HUMAN, [60., 0., 90., 30.], 1)]),
            image(2, &[([50., 50., 70., 90.], [0., 0., 30., 30.], 2)]),
        ];
        SceneSet::new(&images, &table())
    }

    #[test]
    fn pairs_and_labels_by_hand() {
        let sample = two_images().draw(0, &draw(Setting::Merged));
        // One human (merged), two bicycles.
        assert_eq!(sample.entities.len(), 3);
        assert_eq!(sample.pairs, [HumanObjectPair { human: 0, object: 1 }, HumanObjectPair { human: 0, object: 2 }]);
        // Verbs of the table in the tests: 0 hold, 1 ride, 2 hug. The first bicycle carries both verbs, the second one.
        assert_eq!(sample.positives, [(0, 1), (0, 0), (1, 1)]);
        assert_eq!(sample.object_class(), [1, 1]);
        assert_eq!(sample.spatial().len(), 72);
        let first = spatial_encoding(&BBox::new(0., 0., 20., 41.), &BICYCLE.into(), Size::new(100, 100));
        // The annotated human boxes are 40, 42 and 40 high; greedy running mean.
        let human = sample.entities[0].bbox;
        assert!((human.y2 - 122.0 / 3.0).abs() < 1e-4, "{human:?}");
        assert!((sample.spatial()[0] - first[0]).abs() < 1e-6);
    }

    #[test]
    fn labels_need_both_boxes_and_the_class() {
        let set = two_images();
        let scene = &set.scenes()[0];
        let person = |b: [f32; 4]| Detection { bbox: b.into(), class: set.human, score: 1.0 };
        let bicycle =
            |b: [f32; 4]| Detection { bbox: b.into(), class: hoi_runtime::vocabulary::ObjectClass(1), score: 1.0 };
        let pair = [HumanObjectPair { human: 0, object: 1 }];
        let verbs = |h, o| set.verbs_of(scene, &[person(h), o], &pair).len();
        assert_eq!(verbs(HUMAN, bicycle(BICYCLE)), 2);
        // Exactly half of the human box still counts for the first annotation (IoU 0.5), not for the 42 high one.
        assert_eq!(verbs([0., 0., 20., 20.], bicycle(BICYCLE)), 1);
        assert_eq!(verbs([0., 0., 20., 19.], bicycle(BICYCLE)), 0);
        assert_eq!(verbs(HUMAN, bicycle([10., 20., 29., 60.])), 0);
        assert_eq!(verbs(HUMAN, person(BICYCLE)), 0, "another class in the place of the bicycle");
    }

    #[test]
    fn the_same_draw_is_the_same_whatever_came_before() {
        let set = two_images();
        for setting in Setting::ALL {
            let alone = set.draw(1, &draw(setting));
            set.draw(0, &draw(setting));
            assert_eq!(set.draw(1, &draw(setting)), alone);
        }
        let mut other = draw(Setting::Jitter);
        other.epoch = 1;
        assert_ne!(set.draw(0, &other), set.draw(0, &draw(Setting::Jitter)));
    }

    #[test]
    fn distractors_come_from_other_scenes_and_keep_the_order() {
        let images: Vec<_> = (1..60)
            .map(|n| {
                let x = n as f32;
                image(n, &[([x, 0., x + 20., 40.], [x / 2., 50., x / 2. + 9., 60.], (n % 3) as usize)])
            })
            .collect();
        let set = SceneSet::new(&images, &table());
        let (mut humans, mut objects, mut images) = (0, 0, 0.0);
        for index in 0..set.scenes().len() {
            for epoch in 0..40 {
                let sample = set.draw(index, &Draw { epoch, ..draw(Setting::Open) });
                let split = sample.entities.iter().filter(|e| e.class == set.human).count();
                assert!(sample.entities[..split].iter().all(|e| e.class == set.human), "humans first");
                let own = &set.scenes()[index].entities;
                assert_eq!(sample.entities[0], own[0]);
                assert_eq!(sample.entities[split], own[1]);
                for (i, e) in sample.entities.iter().enumerate() {
                    let near = |o: &Detection| o.class == e.class && o.bbox.iou(&e.bbox) > 0.5;
                    assert!(!sample.entities[..i].iter().any(near));
                }
                humans += split - 1;
                objects += sample.entities.len() - split - 1;
                images += 1.0;
            }
        }
        // Poisson(1) and Poisson(2), a little less where no free place is found: 2,360 images, three standard deviations.
        let (humans, objects) = (humans as f64 / images, objects as f64 / images);
        assert!((0.75..1.07).contains(&humans), "{humans}");
        assert!((1.7..2.1).contains(&objects), "{objects}");
    }

    #[test]
    fn many_pairs_are_capped_and_counted() {
        // 20 humans in a row, each riding the bicycle: 20 x 20 pairs.
        let pairs: Vec<_> = (0..20).map(|i| ([5. * i as f32, 0., 5. * i as f32 + 4., 9.], BICYCLE, 1)).collect();
        let set = SceneSet::new(&[image(1, &pairs)], &table());
        let sample = set.draw(0, &draw(Setting::Merged));
        assert_eq!((sample.pairs.len(), sample.left_out), (MAX_PAIRS, 100));
        assert_eq!(sample, set.draw(0, &draw(Setting::Merged)));
        let positives = sample.positives.len();
        assert!(positives < 20 && positives > 5, "positives are thinned out like all others: {positives}");
    }

    #[test]
    fn flipping_mirrors_boxes_and_keeps_labels() {
        let set = two_images();
        let plain = set.draw(0, &draw(Setting::Merged));
        let flipped = (0..20)
            .map(|epoch| set.draw(0, &Draw { epoch, flip: true, ..draw(Setting::Merged) }))
            .find(|s| s.entities != plain.entities)
            .unwrap();
        assert_eq!(flipped.entities[1].bbox, BBox::new(50., 20., 90., 60.));
        assert_eq!(flipped.positives, plain.positives);
        let (a, b) = (plain.spatial(), flipped.spatial());
        assert!((a[0] + b[0] - 1.0).abs() < 1e-6, "centre x is mirrored");
        assert!((a[14] - b[15]).abs() < 1e-6, "dx changes sides");
        assert_eq!(a[13], b[13], "IoU stays");
    }

    #[test]
    fn jitter_has_its_size() {
        let mut rng = generator(&draw(Setting::Jitter), 1);
        let b = BBox::new(400., 400., 500., 600.);
        let moves: Vec<f32> = (0..2000).map(|_| jittered(&b, Size::new(1000, 1000), &mut rng).x1 - 400.0).collect();
        let sigma = (moves.iter().map(|m| m * m).sum::<f32>() / 2000.0).sqrt();
        assert!((2.8..3.2).contains(&sigma), "{sigma}");
    }
}
