//! How well boxes are found: average precision at an IoU of 0.5 and recall, class by class.

use hoi_runtime::detector::Detection;
use serde::Serialize;

use crate::dataset::EntityLabel;

/// A detection is right when its IoU with an annotated box of its class is at least this.
const RIGHT_IOU: f32 = 0.5;

/// Collects detections picture by picture.
#[derive(Clone, Debug)]
pub struct DetectionEvaluator {
    /// For each class score and whether it was right.
    found: Vec<Vec<(f32, bool)>>,
    annotated: Vec<usize>,
    pictures: usize,
}

/// Scores of one class that is annotated at least once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// Index in the vocabulary.
    pub class: usize,
    /// Area under the precision envelope over the recall, in `[0, 1]`.
    pub average_precision: f64,
    /// Share of the annotated boxes that were found at any score.
    pub recall: f64,
    /// Annotated boxes.
    pub annotated: usize,
}

/// Scores of a picture set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DetectionScores {
    /// Mean average precision at IoU 0.5 over the classes that are annotated, in `[0, 1]`.
    pub map50: f64,
    /// Mean of their recalls.
    pub mean_recall: f64,
    /// Pictures.
    pub pictures: usize,
    /// Class by class.
    pub classes: Vec<ClassScore>,
}

impl DetectionEvaluator {
    /// No picture yet.
    pub fn new(classes: usize) -> Self {
        Self { found: vec![Vec::new(); classes], annotated: vec![0; classes], pictures: 0 }
    }

    /// Compares the detections of a picture with its annotation, best score first: right when the annotated box of the class with
    /// the largest IoU reaches 0.5 and has not been found before. Classes out of range do not count.
    pub fn add_picture(&mut self, annotated: &[EntityLabel], detections: &[Detection]) {
        self.pictures += 1;
        for label in annotated {
            if let Some(count) = self.annotated.get_mut(label.class.0 as usize) {
                *count += 1;
            }
        }
        let mut sorted: Vec<&Detection> = detections.iter().filter(|d| !d.score.is_nan()).collect();
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut taken = vec![false; annotated.len()];
        for d in sorted {
            let own = annotated.iter().enumerate().filter(|(_, label)| label.class == d.class);
            let best = own.map(|(i, label)| (i, label.bbox.iou(&d.bbox))).max_by(|a, b| a.1.total_cmp(&b.1));
            let right = best.is_some_and(|(i, iou)| iou >= RIGHT_IOU && !std::mem::replace(&mut taken[i], true));
            if let Some(found) = self.found.get_mut(d.class.0 as usize) {
                found.push((d.score, right));
            }
        }
    }

    /// The scores of all pictures so far; 0 where nothing is annotated.
    pub fn finish(mut self) -> DetectionScores {
        let mut classes = Vec::new();
        for (class, (found, &annotated)) in self.found.iter_mut().zip(&self.annotated).enumerate() {
            if annotated > 0 {
                let (average_precision, recall) = precision_and_recall(found, annotated);
                classes.push(ClassScore { class, average_precision, recall, annotated });
            }
        }
        let mean = |of: fn(&ClassScore) -> f64| classes.iter().map(of).sum::<f64>() / classes.len().max(1) as f64;
        DetectionScores {
            map50: mean(|c| c.average_precision),
            mean_recall: mean(|c| c.recall),
            pictures: self.pictures,
            classes,
        }
    }
}

/// Area under the envelope "best precision at this recall or a higher one" (VOC 2010), and the last recall.
fn precision_and_recall(found: &mut [(f32, bool)], annotated: usize) -> (f64, f64) {
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut right = 0usize;
    // Precision where recall rises.
    let mut precisions = Vec::new();
    for (i, &(_, is_right)) in found.iter().enumerate() {
        if is_right {
            right += 1;
            precisions.push(right as f64 / (i + 1) as f64);
        }
    }
    let (mut best, mut area) = (0f64, 0.0);
    for &precision in precisions.iter().rev() {
        best = best.max(precision);
        area += best;
    }
    (area / annotated as f64, right as f64 / annotated as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoi_runtime::geometry::BBox;
    use hoi_runtime::vocabulary::ObjectClass;

    fn label(x: f32, class: u16) -> EntityLabel {
        EntityLabel { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class: ObjectClass(class) }
    }

    fn found(x: f32, class: u16, score: f32) -> Detection {
        Detection { bbox: BBox::new(x, 0.0, x + 10.0, 10.0), class: ObjectClass(class), score }
    }

    #[test]
    fn precision_and_recall_by_hand() {
        let mut evaluator = DetectionEvaluator::new(4);
        // Class 0: right at 0.9 and 0.4, a second box on the same person at 0.8, one person of three missed.
        evaluator
            .add_picture(&[label(0., 0), label(40., 0)], &[found(1., 0, 0.8), found(0., 0, 0.9), found(90., 1, 0.7)]);
        // IoU 7 / 13 is enough, 6 / 14 is not.
        evaluator
            .add_picture(&[label(0., 0), label(0., 2)], &[found(3., 0, 0.4), found(4., 2, 0.4), found(0., 9, 1.0)]);
        let scores = evaluator.finish();
        // Precisions 1 (recall 1/3) and 2/3 (recall 2/3): (1 + 2/3) / 3.
        assert_eq!(scores.classes.iter().map(|c| c.class).collect::<Vec<_>>(), [0, 2], "class 1 is annotated nowhere");
        assert!((scores.classes[0].average_precision - 5.0 / 9.0).abs() < 1e-12);
        assert!((scores.classes[0].recall - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((scores.classes[1].average_precision, scores.classes[1].recall), (0.0, 0.0));
        assert!((scores.map50 - 5.0 / 18.0).abs() < 1e-12 && (scores.mean_recall - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(scores.pictures, 2);
        assert_eq!(DetectionEvaluator::new(2).finish().map50, 0.0);
    }

    #[test]
    fn the_envelope_looks_ahead() {
        // Wrong, right, right: precision 1/2, then 2/3, which also counts for the first.
        let mut found = [(0.9, false), (0.8, true), (0.7, true)];
        assert_eq!(precision_and_recall(&mut found, 2), (2.0 / 3.0, 1.0));
        assert_eq!(precision_and_recall(&mut [], 2), (0.0, 0.0));
    }
}
