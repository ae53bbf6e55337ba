//! Triplets that say the same, and which of them stays.

use serde::{Deserialize, Serialize};

use super::ScoredTriplet;
use crate::detector::Detection;

/// Triplet NMS: of two triplets of one verb and object class, the one with the lower score is dropped when
/// `IoU_h^human_power * IoU_o^object_power > iou` (CDN, GEN-VLKT: 0.7, 1, 0.5).
///
/// Triplets without an object are of one kind, and their object factor is 1.
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

impl TripletNms {
    /// `Err((key, reason))` where a constant cannot be used.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.iou) {
            return Err(("triplet_nms.iou", format!("{} is not between 0 and 1", self.iou)));
        }
        for (key, power) in
            [("triplet_nms.human_power", self.human_power), ("triplet_nms.object_power", self.object_power)]
        {
            if !(power.is_finite() && power >= 0.0) {
                return Err((key, format!("{power} is not 0 or more")));
            }
        }
        Ok(())
    }
}

/// Triplet NMS over triplets sorted by falling score; stops when `limit` are kept.
pub fn suppress_triplets(
    sorted: &[ScoredTriplet],
    entities: &[Detection],
    nms: TripletNms,
    limit: usize,
) -> Vec<ScoredTriplet> {
    let class = |t: &ScoredTriplet| t.object.map(|o| entities[o].class);
    let mut kept: Vec<ScoredTriplet> = Vec::new();
    for t in sorted {
        if kept.len() >= limit {
            break;
        }
        let same = |k: &&ScoredTriplet| k.verb == t.verb && class(k) == class(t);
        let repeated = kept.iter().filter(same).any(|k| {
            let human = entities[k.human].bbox.iou(&entities[t.human].bbox).powf(nms.human_power);
            let object = match (k.object, t.object) {
                (Some(a), Some(b)) => entities[a].bbox.iou(&entities[b].bbox).powf(nms.object_power),
                _ => 1.0,
            };
            human > 0.0 && human * object > nms.iou
        });
        if !repeated {
            kept.push(*t);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::Factors;
    use super::*;
    use crate::geometry::BBox;
    use crate::vocabulary::{ObjectClass, Verb};

    const NMS: TripletNms = TripletNms { iou: 0.7, human_power: 1.0, object_power: 0.5 };

    fn entity(class: u16, x: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 20.0), class: ObjectClass(class), score: 1.0 }
    }

    fn triplet(human: usize, object: Option<usize>, verb: u16, score: f32) -> ScoredTriplet {
        let factors = Factors::DetrPrior { verb: score, prior: 1.0 };
        ScoredTriplet { human, verb: Verb(verb), object, score, factors }
    }

    #[test]
    fn triplet_nms_by_hand() {
        // Human boxes equal, object boxes with IoU 1/3: 1 * (1/3)^0.5 = 0.577 stays; with IoU 9/11: 0.905 is dropped.
        let entities = [entity(0, 0.0), entity(1, 0.0), entity(1, 5.0), entity(1, 1.0)];
        let t = |object, verb, score| triplet(0, Some(object), verb, score);
        let sorted = [t(1, 0, 0.9), t(2, 0, 0.8), t(3, 0, 0.7), t(3, 2, 0.6)];
        let kept = suppress_triplets(&sorted, &entities, NMS, 100);
        let got: Vec<_> = kept.iter().map(|t| (t.object, t.verb.0)).collect();
        assert_eq!(got, [(Some(1), 0), (Some(2), 0), (Some(3), 2)], "another verb is another triplet");
        assert_eq!(suppress_triplets(&sorted, &entities, NMS, 1).len(), 1);
    }

    #[test]
    fn without_an_object_the_humans_decide() {
        // Humans 0 and 1: IoU 9/11 = 0.818 > 0.7. Human 2: IoU 1/3 with human 0.
        let entities = [entity(0, 0.0), entity(0, 1.0), entity(0, 5.0)];
        let sorted = [
            triplet(0, None, 0, 0.9),
            triplet(1, None, 0, 0.8),
            triplet(2, None, 0, 0.7),
            triplet(1, Some(0), 0, 0.6),
            triplet(1, None, 1, 0.5),
        ];
        let kept = suppress_triplets(&sorted, &entities, NMS, 100);
        let got: Vec<_> = kept.iter().map(|t| (t.human, t.object, t.verb.0)).collect();
        let expected = [(0, None, 0), (2, None, 0), (1, Some(0), 0), (1, None, 1)];
        assert_eq!(got, expected, "with an object, or with another verb, it is another triplet");
    }
}
