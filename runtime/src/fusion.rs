//! From verb logits and detection scores to triplets: one function per scoring rule, and triplet NMS.

use serde::{Deserialize, Serialize};

use crate::detector::Detection;
use crate::pairing::HumanObjectPair;
use crate::vocabulary::{Verb, Vocabulary};

/// A scoring rule with its constants, as the manifest names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum FusionSpec {
    /// `sigma(z) (s_h s_o)^lambda`: UPT, RmLR.
    DetrPrior {
        /// Power of the prior. UPT: 2.8 at inference.
        lambda: f32,
        /// Suppression of triplets that say the same.
        triplet_nms: TripletNms,
        /// At most this many triplets an image leave the fusion.
        max_triplets: usize,
    },
}

impl FusionSpec {
    /// `Err((key, reason))` where a constant cannot be used.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let Self::DetrPrior { lambda, triplet_nms, max_triplets } = self;
        if !(lambda.is_finite() && *lambda > 0.0) {
            return Err(("lambda", format!("{lambda} is not a positive number")));
        }
        if !(0.0..=1.0).contains(&triplet_nms.iou) {
            return Err(("triplet_nms.iou", format!("{} is not between 0 and 1", triplet_nms.iou)));
        }
        for (key, power) in [
            ("triplet_nms.human_power", triplet_nms.human_power),
            ("triplet_nms.object_power", triplet_nms.object_power),
        ] {
            if !(power.is_finite() && power >= 0.0) {
                return Err((key, format!("{power} is not 0 or more")));
            }
        }
        if !(1..=10_000).contains(max_triplets) {
            return Err(("max_triplets", format!("{max_triplets} is not between 1 and 10000")));
        }
        Ok(())
    }
}

/// Triplet NMS: of two triplets of one verb and object class, the one with the lower score is dropped when
/// `IoU_h^human_power * IoU_o^object_power > iou` (CDN, GEN-VLKT: 0.7, 1, 0.5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TripletNms {
    /// Threshold.
    pub iou: f32,
    /// Power of the human boxes' IoU.
    pub human_power: f32,
    /// Power of the object boxes' IoU.
    pub object_power: f32,
}

/// A triplet in terms of the frame's entities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredTriplet {
    /// Index of the human.
    pub human: usize,
    /// What is done.
    pub verb: Verb,
    /// Index of the object.
    pub object: usize,
    /// Score in `[0, 1]`.
    pub score: f32,
}

/// The logistic function.
pub fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

/// Score of a verb for a pair: `sigma(z) (s_h s_o)^lambda` (UPT; RmLR, inference).
pub fn detr_prior(verb_logit: f32, human_score: f32, object_score: f32, lambda: f32) -> f32 {
    sigmoid(verb_logit) * (human_score.max(0.0) * object_score.max(0.0)).powf(lambda)
}

/// Scores every verb that is valid for the pair's object, except the vocabulary's background verb, and returns the triplets by falling
/// score after triplet NMS.
///
/// `verb_logits` holds one row of `V` per pair. Scores that are not finite are dropped.
pub fn fuse(
    entities: &[Detection],
    pairs: &[HumanObjectPair],
    verb_logits: ndarray::ArrayView2<'_, f32>,
    vocabulary: &Vocabulary,
    spec: &FusionSpec,
) -> Vec<ScoredTriplet> {
    let FusionSpec::DetrPrior { lambda, triplet_nms, max_triplets } = spec;
    let mut triplets = Vec::new();
    for (pair, logits) in pairs.iter().zip(verb_logits.rows()) {
        let (human, object) = (&entities[pair.human], &entities[pair.object]);
        let prior = (human.score.max(0.0) * object.score.max(0.0)).powf(*lambda);
        for &verb in vocabulary.valid_verbs(object.class) {
            if Some(verb) == vocabulary.background() {
                continue;
            }
            let score = sigmoid(logits[verb.0 as usize]) * prior;
            if score.is_finite() && score > 0.0 {
                triplets.push(ScoredTriplet { human: pair.human, verb, object: pair.object, score });
            }
        }
    }
    triplets.sort_by(|a, b| b.score.total_cmp(&a.score));
    suppress_triplets(&triplets, entities, *triplet_nms, *max_triplets)
}

/// Triplet NMS over triplets sorted by falling score; stops when `limit` are kept.
pub fn suppress_triplets(
    sorted: &[ScoredTriplet],
    entities: &[Detection],
    nms: TripletNms,
    limit: usize,
) -> Vec<ScoredTriplet> {
    let mut kept: Vec<ScoredTriplet> = Vec::new();
    for t in sorted {
        if kept.len() >= limit {
            break;
        }
        let same = |k: &&ScoredTriplet| k.verb == t.verb && entities[k.object].class == entities[t.object].class;
        let repeated = kept.iter().filter(same).any(|k| {
            let human = entities[k.human].bbox.iou(&entities[t.human].bbox).powf(nms.human_power);
            human > 0.0
                && human * entities[k.object].bbox.iou(&entities[t.object].bbox).powf(nms.object_power) > nms.iou
        });
        if !repeated {
            kept.push(*t);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::BBox;
    use crate::vocabulary::{ObjectClass, VocabularySpec};
    use std::collections::BTreeMap;

    const NMS: TripletNms = TripletNms { iou: 0.7, human_power: 1.0, object_power: 0.5 };

    fn vocabulary() -> Vocabulary {
        Vocabulary::new(VocabularySpec {
            human: "person".into(),
            objects: vec!["person".into(), "bicycle".into()],
            verbs: vec!["hold".into(), "no_interaction".into(), "ride".into(), "eat".into()],
            background_verb: Some("no_interaction".into()),
            valid: BTreeMap::from([("bicycle".into(), vec!["hold".into(), "no_interaction".into(), "ride".into()])]),
        })
        .unwrap()
    }

    fn entity(class: u16, x: f32, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 20.0), class: ObjectClass(class), score }
    }

    #[test]
    fn detr_prior_by_hand() {
        assert!((detr_prior(0.0, 1.0, 1.0, 2.8) - 0.5).abs() < 1e-6);
        assert!((detr_prior(1.0, 0.9, 0.8, 2.8) - 0.731_058_6 * 0.72f32.powf(2.8)).abs() < 1e-6);
        assert_eq!(detr_prior(5.0, 0.0, 0.9, 2.8), 0.0);
        assert!(detr_prior(-200.0, 1.0, 1.0, 2.8) >= 0.0);
    }

    #[test]
    fn only_valid_verbs_are_scored_and_background_is_silent() {
        let entities = [entity(0, 0.0, 1.0), entity(1, 5.0, 0.5), entity(0, 40.0, 1.0)];
        let pairs = crate::pairing::pair_entities(&entities, ObjectClass(0));
        let logits = ndarray::Array2::from_shape_fn((pairs.len(), 4), |(_, v)| v as f32);
        let spec = FusionSpec::DetrPrior { lambda: 1.0, triplet_nms: NMS, max_triplets: 100 };
        let got = fuse(&entities, &pairs, logits.view(), &vocabulary(), &spec);
        // Persons as objects have no valid verb here; `no_interaction` and `eat` never come out.
        let names: Vec<_> = got.iter().map(|t| (t.human, t.verb.0, t.object)).collect();
        assert_eq!(names, [(0, 2, 1), (2, 2, 1), (0, 0, 1), (2, 0, 1)]);
        assert!((got[0].score - sigmoid(2.0) * 0.5).abs() < 1e-6);
    }

    #[test]
    fn nan_logits_and_scores_give_no_triplet() {
        let entities = [entity(0, 0.0, 1.0), entity(1, 5.0, f32::NAN)];
        let pairs = [HumanObjectPair { human: 0, object: 1 }];
        let spec = FusionSpec::DetrPrior { lambda: 2.8, triplet_nms: NMS, max_triplets: 100 };
        let nan = ndarray::Array2::from_elem((1, 4), f32::NAN);
        assert!(fuse(&entities, &pairs, nan.view(), &vocabulary(), &spec).is_empty());
    }

    #[test]
    fn triplet_nms_by_hand() {
        // Human boxes equal, object boxes with IoU 1/3: 1 * (1/3)^0.5 = 0.577 stays; with IoU 9/11: 0.905 is dropped.
        let entities = [entity(0, 0.0, 1.0), entity(1, 0.0, 1.0), entity(1, 5.0, 1.0), entity(1, 1.0, 1.0)];
        let t = |object, verb, score| ScoredTriplet { human: 0, verb: Verb(verb), object, score };
        let sorted = [t(1, 0, 0.9), t(2, 0, 0.8), t(3, 0, 0.7), t(3, 2, 0.6)];
        let kept = suppress_triplets(&sorted, &entities, NMS, 100);
        let got: Vec<_> = kept.iter().map(|t| (t.object, t.verb.0)).collect();
        assert_eq!(got, [(1, 0), (2, 0), (3, 2)], "another verb is another triplet");
        assert_eq!(suppress_triplets(&sorted, &entities, NMS, 1).len(), 1);
    }
}
