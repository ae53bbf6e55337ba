//! The rule `detr_prior`.

use ndarray::ArrayView2;

use super::{Factors, Scene, ScoredTriplet, sigmoid};

/// Score of a verb for a pair: `sigma(z) (s_h s_o)^lambda` (UPT; RmLR, inference).
pub fn detr_prior(verb_logit: f32, human_score: f32, object_score: f32, lambda: f32) -> f32 {
    sigmoid(verb_logit) * (human_score.max(0.0) * object_score.max(0.0)).powf(lambda)
}

/// Every verb of every pair by [`detr_prior`], in the order of the pairs. Without an object `s_o` is 1.
pub(super) fn score(scene: &Scene<'_>, verb_logits: ArrayView2<'_, f32>, lambda: f32) -> Vec<ScoredTriplet> {
    let mut triplets = Vec::new();
    for (sides, logits) in scene.sides().zip(verb_logits.rows()) {
        let prior = sides.detected.powf(lambda);
        for verb in scene.verbs(&sides) {
            let factors = Factors::DetrPrior { verb: sigmoid(logits[verb.0 as usize]), prior };
            triplets.extend(sides.triplet(verb, factors));
        }
    }
    triplets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detr_prior_by_hand() {
        assert!((detr_prior(0.0, 1.0, 1.0, 2.8) - 0.5).abs() < 1e-6);
        assert!((detr_prior(1.0, 0.9, 0.8, 2.8) - 0.731_058_6 * 0.72f32.powf(2.8)).abs() < 1e-6);
        assert_eq!(detr_prior(5.0, 0.0, 0.9, 2.8), 0.0);
        assert!(detr_prior(-200.0, 1.0, 1.0, 2.8) >= 0.0);
    }
}
