//! From detections to human-object pairs: per-class NMS, how many humans and objects are kept, and every pair of them
//! (UPT; two-stage systems).

use serde::{Deserialize, Serialize};

use crate::detector::Detection;
use crate::vocabulary::{ObjectClass, Vocabulary};

/// Which detections become entities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairingSpec {
    /// Per-class NMS: a box is dropped when a better box of its class has a larger IoU than this. UPT: 0.5.
    pub nms_iou: f32,
    /// A detection counts from this score on. UPT: 0.2.
    pub min_score: f32,
    /// At least and at most this many humans. When fewer reach the score, the best are taken whatever their score. UPT: 3, 15.
    pub humans: Bounds,
    /// The same for all other classes together. UPT: 3, 15.
    pub objects: Bounds,
}

impl Default for PairingSpec {
    fn default() -> Self {
        let bounds = Bounds { min: 3, max: 15 };
        Self { nms_iou: 0.5, min_score: 0.2, humans: bounds, objects: bounds }
    }
}

/// Fewest and most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Taken whatever their score when fewer reach it.
    pub min: usize,
    /// Never more than these.
    pub max: usize,
}

/// A human and the other detection it is paired with: indices into the list of entities. A human paired with itself ([`Self::is_alone`])
/// stands for a human without an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HumanObjectPair {
    /// Index of the human.
    pub human: usize,
    /// Index of the object, which may be another human; equal to `human` where there is no object.
    pub object: usize,
}

impl HumanObjectPair {
    /// Whether this is a human without an object.
    pub fn is_alone(&self) -> bool {
        self.human == self.object
    }
}

/// Per-class non-maximum suppression, best score first.
///
/// Of two boxes of a class with `IoU > iou` only the one with the higher score stays; equal scores keep the order of the input.
/// Detections whose score or box is not finite are dropped.
pub fn non_maximum_suppression(detections: &[Detection], iou: f32) -> Vec<Detection> {
    suppressed(detections, iou).into_iter().map(|i| detections[i].clone()).collect()
}

/// Indices of what [`non_maximum_suppression`] keeps, by falling score.
fn suppressed(detections: &[Detection], iou: f32) -> Vec<usize> {
    let finite = |i: &usize| detections[*i].score.is_finite() && detections[*i].bbox.is_finite();
    let mut sorted: Vec<usize> = (0..detections.len()).filter(finite).collect();
    sorted.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
    let mut kept: Vec<usize> = Vec::new();
    for i in sorted {
        let d = &detections[i];
        if !kept.iter().map(|&k| &detections[k]).any(|k| k.class == d.class && k.bbox.iou(&d.bbox) > iou) {
            kept.push(i);
        }
    }
    kept
}

/// The entities of a picture: NMS, then per side (humans; all others) those that reach the score, at least `min` and at most `max`.
///
/// Humans come first, each side by falling score.
pub fn select_entities(detections: &[Detection], human: ObjectClass, spec: &PairingSpec) -> Vec<Detection> {
    select_entity_indices(detections, human, spec).into_iter().map(|i| detections[i].clone()).collect()
}

/// The indices of [`select_entities`] in `detections`, for whatever is kept row by row beside them.
pub fn select_entity_indices(detections: &[Detection], human: ObjectClass, spec: &PairingSpec) -> Vec<usize> {
    let kept = suppressed(detections, spec.nms_iou);
    let (humans, objects): (Vec<_>, Vec<_>) = kept.into_iter().partition(|&i| detections[i].class == human);
    let side = |mut side: Vec<usize>, bounds: Bounds| {
        let reached = side.iter().take_while(|&&i| detections[i].score >= spec.min_score).count();
        side.truncate(reached.max(bounds.min).min(bounds.max));
        side
    };
    let mut entities = side(humans, spec.humans);
    entities.extend(side(objects, spec.objects));
    entities
}

/// Every pair `(i, j)` with `i` a human and `j != i` any entity, by rising `i`, then `j`.
///
/// 15 humans and 15 objects give 15 x 29 = 435 pairs. No human, or one entity only: no pair.
pub fn pair_entities(entities: &[Detection], human: ObjectClass) -> Vec<HumanObjectPair> {
    let mut pairs = Vec::new();
    for (i, _) in entities.iter().enumerate().filter(|(_, e)| e.class == human) {
        pairs.extend((0..entities.len()).filter(|&j| j != i).map(|j| HumanObjectPair { human: i, object: j }));
    }
    pairs
}

/// All pairs of a picture: those of [`pair_entities`] and, where the vocabulary has verbs without an object, then each human with itself,
/// by rising index.
///
/// 15 humans and 15 objects give 435 pairs, or 450 with the humans alone.
pub fn candidate_pairs(entities: &[Detection], vocabulary: &Vocabulary) -> Vec<HumanObjectPair> {
    let human = vocabulary.human();
    let mut pairs = pair_entities(entities, human);
    if !vocabulary.alone().is_empty() {
        let humans = (0..entities.len()).filter(|&i| entities[i].class == human);
        pairs.extend(humans.map(|i| HumanObjectPair { human: i, object: i }));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::BBox;
    use crate::vocabulary::VocabularySpec;
    use proptest::prelude::*;

    const PERSON: ObjectClass = ObjectClass(0);

    fn at(x: f32, class: u16, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class: ObjectClass(class), score }
    }

    #[test]
    fn nms_keeps_the_best_per_class() {
        let kept = non_maximum_suppression(&[at(0., 0, 0.4), at(1., 0, 0.9), at(1., 1, 0.3), at(30., 0, 0.2)], 0.5);
        let scores: Vec<f32> = kept.iter().map(|d| d.score).collect();
        assert_eq!(scores, [0.9, 0.3, 0.2]);
    }

    #[test]
    fn nms_drops_what_is_not_a_number() {
        let mut infinite = at(0., 0, 0.5);
        infinite.bbox.x2 = f32::INFINITY;
        assert!(non_maximum_suppression(&[at(0., 0, f32::NAN), infinite], 0.5).is_empty());
    }

    #[test]
    fn few_are_kept_whatever_their_score_and_many_are_cut() {
        let spec = PairingSpec::default();
        let weak: Vec<_> =
            [0.01, 0.05, 0.03, 0.02, 0.04].iter().enumerate().map(|(i, s)| at(20.0 * i as f32, 0, *s)).collect();
        let kept = select_entities(&weak, PERSON, &spec);
        assert_eq!(kept.iter().map(|d| d.score).collect::<Vec<_>>(), [0.05, 0.04, 0.03]);
        assert_eq!(select_entity_indices(&weak, PERSON, &spec), [1, 4, 2]);

        let many: Vec<_> = (0..40).map(|i| at(20.0 * i as f32, (i % 2) as u16, 0.5)).collect();
        let kept = select_entities(&many, PERSON, &spec);
        assert_eq!(kept.iter().filter(|d| d.class == PERSON).count(), 15);
        assert_eq!(kept.len(), 30);
        assert_eq!(pair_entities(&kept, PERSON).len(), 435);
    }

    #[test]
    fn exactly_at_the_score_counts() {
        let four: Vec<_> = (0..4).map(|i| at(20.0 * i as f32, 1, 0.2)).collect();
        assert_eq!(select_entities(&four, PERSON, &PairingSpec::default()).len(), 4);
    }

    #[test]
    fn pairs_by_hand() {
        assert!(pair_entities(&[], PERSON).is_empty());
        assert!(pair_entities(&[at(0., 0, 0.9)], PERSON).is_empty());
        assert!(pair_entities(&[at(0., 1, 0.9), at(20., 2, 0.9)], PERSON).is_empty());
        let pairs = pair_entities(&[at(0., 0, 0.9), at(20., 0, 0.8), at(40., 3, 0.7)], PERSON);
        let got: Vec<_> = pairs.iter().map(|p| (p.human, p.object)).collect();
        assert_eq!(got, [(0, 1), (0, 2), (1, 0), (1, 2)]);
    }

    #[test]
    fn humans_alone_come_after_all_other_pairs() {
        let vocabulary = |alone: &[&str]| {
            let names = |list: &[&str]| list.iter().map(|n| n.to_string()).collect::<Vec<_>>();
            let (objects, verbs) = (names(&["person", "cup", "dog", "car"]), names(&["hold", "wave"]));
            let spec = VocabularySpec {
                human: "person".into(),
                objects,
                verbs,
                background_verb: None,
                valid: Default::default(),
                alone: names(alone),
            };
            Vocabulary::new(spec).unwrap()
        };
        let entities = [at(0., 0, 0.9), at(20., 0, 0.8), at(40., 3, 0.7)];
        let pairs = candidate_pairs(&entities, &vocabulary(&["wave"]));
        let got: Vec<_> = pairs.iter().map(|p| (p.human, p.object, p.is_alone())).collect();
        let ordinary = [(0, 1, false), (0, 2, false), (1, 0, false), (1, 2, false)];
        assert_eq!(got, [&ordinary[..], &[(0, 0, true), (1, 1, true)]].concat());
        assert_eq!(candidate_pairs(&entities, &vocabulary(&[])), pair_entities(&entities, PERSON));
        assert_eq!(candidate_pairs(&entities[..1], &vocabulary(&["wave"])), [HumanObjectPair { human: 0, object: 0 }]);
        assert!(candidate_pairs(&entities[2..], &vocabulary(&["wave"])).is_empty());
    }

    proptest! {
        #[test]
        fn nms_is_idempotent(v in prop::collection::vec((0f32..60.0, 0u16..3, 0f32..1.0), 0..40)) {
            let all: Vec<_> = v.into_iter().map(|(x, c, s)| at(x, c, s)).collect();
            let once = non_maximum_suppression(&all, 0.5);
            prop_assert_eq!(&non_maximum_suppression(&once, 0.5), &once);
        }
    }
}
