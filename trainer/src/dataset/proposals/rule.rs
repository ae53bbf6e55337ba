//! Which proposals go on.

use hoi_runtime::detector::Detection;
use hoi_runtime::pairing::non_maximum_suppression;
use hoi_runtime::vocabulary::ObjectClass;
use serde::{Deserialize, Serialize};

/// Which detections of a picture become entities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRule {
    /// A detection counts from this score on.
    pub min_score: f32,
    /// Of two boxes of a class with a larger IoU than this only the better one stays.
    pub nms_iou: f32,
    /// At most so many of all classes together, the best by score. Weakly-HOI: 100.
    pub most: usize,
}

impl Default for ProposalRule {
    fn default() -> Self {
        Self { min_score: 0.05, nms_iou: 0.5, most: 100 }
    }
}

/// What a [`ProposalRule`] leaves of a picture's detections.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Persons first, each side by falling score.
    pub entities: Vec<Detection>,
    /// Detections that reached the score and were not suppressed, but are beyond the most.
    pub capped: usize,
}

impl ProposalRule {
    /// Cuts at the score, suppresses class by class, and keeps the best. Equal scores keep the order of the input; detections whose score or
    /// box is not finite are dropped.
    pub fn select(&self, detections: &[Detection], human: ObjectClass) -> Selected {
        let reached: Vec<Detection> = detections.iter().filter(|d| d.score >= self.min_score).cloned().collect();
        let mut kept = non_maximum_suppression(&reached, self.nms_iou);
        let capped = kept.len().saturating_sub(self.most);
        kept.truncate(self.most);
        let (mut entities, objects): (Vec<_>, Vec<_>) = kept.into_iter().partition(|d| d.class == human);
        entities.extend(objects);
        Selected { entities, capped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoi_runtime::geometry::BBox;

    const PERSON: ObjectClass = ObjectClass(0);

    fn at(x: f32, class: u16, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class: ObjectClass(class), score }
    }

    fn shown(selected: &Selected) -> Vec<(u16, f32)> {
        selected.entities.iter().map(|e| (e.class.0, e.score)).collect()
    }

    #[test]
    fn persons_first_and_suppression_by_class() {
        // 1 px apart: IoU 9 / 11; 5 px apart: 5 / 15.
        let all = [at(0., 2, 0.9), at(0., 0, 0.3), at(1., 0, 0.6), at(6., 0, 0.2), at(1., 1, 0.05), at(50., 1, 0.049)];
        let selected = ProposalRule::default().select(&all, PERSON);
        assert_eq!(shown(&selected), [(0, 0.6), (0, 0.2), (2, 0.9), (1, 0.05)]);
        assert_eq!(selected.capped, 0);
        let loose = ProposalRule { nms_iou: 0.9, ..ProposalRule::default() };
        assert_eq!(loose.select(&all, PERSON).entities.len(), 5);
    }

    #[test]
    fn the_best_of_all_classes_stay() {
        let rule = ProposalRule { most: 3, ..ProposalRule::default() };
        // The suppressed second box is not counted as capped.
        let all = [at(0., 1, 0.9), at(1., 1, 0.8), at(20., 0, 0.5), at(40., 2, 0.7), at(60., 0, 0.6), at(80., 2, 0.4)];
        let selected = rule.select(&all, PERSON);
        assert_eq!(shown(&selected), [(0, 0.6), (1, 0.9), (2, 0.7)]);
        assert_eq!(selected.capped, 2);
        let many: Vec<Detection> = (0..130).map(|i| at(20. * i as f32, (i % 3) as u16, 0.5)).collect();
        let selected = ProposalRule::default().select(&many, PERSON);
        assert_eq!((selected.entities.len(), selected.capped), (100, 30));
    }

    #[test]
    fn nothing_and_what_is_not_a_number() {
        let rule = ProposalRule::default();
        assert_eq!(rule.select(&[], PERSON), Selected { entities: vec![], capped: 0 });
        let mut endless = at(0., 0, 0.9);
        endless.bbox.x2 = f32::INFINITY;
        assert!(rule.select(&[at(0., 0, f32::NAN), endless], PERSON).entities.is_empty());
    }
}
