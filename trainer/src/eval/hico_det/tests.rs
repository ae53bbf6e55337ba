//! Every rule of the score by hand, and a slow second version that agrees on random predictions.

use std::collections::HashSet;

use hoi_runtime::geometry::Size;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::dataset::AnnotatedPair;
use crate::dataset::hico_det::tests::table;
use crate::eval::precision::eleven_point_precision;

const H: [f32; 4] = [0., 0., 10., 10.];
const O: [f32; 4] = [20., 0., 30., 10.];
/// IoU 0.6 with `H`, and 0.6 with `O` moved likewise.
const H_NEAR: [f32; 4] = [0., 0., 10., 6.];
const FAR: [f32; 4] = [60., 60., 90., 90.];
const HOLD: usize = 0;
const RIDE: usize = 1;
const HUG: usize = 3;

fn pair(human: [f32; 4], object: [f32; 4], interaction: usize) -> AnnotatedPair {
    AnnotatedPair { human: human.into(), object: object.into(), interaction }
}

fn image(number: u64, pairs: &[AnnotatedPair]) -> AnnotatedImage {
    AnnotatedImage { name: String::new(), number, size: Some(Size::new(100, 100)), pairs: pairs.to_vec() }
}

fn predict(human: [f32; 4], object: [f32; 4], interaction: usize, score: f32) -> TripletPrediction {
    TripletPrediction { human: human.into(), object: object.into(), interaction, score }
}

fn score(images: &[AnnotatedImage], predictions: &[(u64, Vec<TripletPrediction>)]) -> HicoDetScores {
    let table = table();
    let mut evaluator = HicoDetEvaluator::new(&table, images, None, 0);
    for (number, list) in predictions {
        evaluator.add_image(*number, list).unwrap();
    }
    evaluator.finish()
}

fn ap(images: &[AnnotatedImage], predictions: &[(u64, Vec<TripletPrediction>)], interaction: usize) -> Option<f64> {
    score(images, predictions).per_interaction[interaction]
}

fn near(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() < 1e-12)
}

#[test]
fn eleven_points_by_hand() {
    assert_eq!(eleven_point_precision([], 0), None);
    assert_eq!(eleven_point_precision([], 3), Some(0.0));
    assert_eq!(eleven_point_precision([true, true], 2), Some(1.0));
    // Recall 0.5 at precision 1/2: six points of eleven (0 to 0.5).
    assert!(near(eleven_point_precision([false, true], 2), 6.0 * 0.5 / 11.0));
    // tp 1 of 3 at precision 1, tp 2 of 3 at 2/3: recalls 0 to 0.3, then 0.4 to 0.6.
    assert!(near(eleven_point_precision([true, false, true], 3), (4.0 + 3.0 * 2.0 / 3.0) / 11.0));
    // A later, better precision counts for smaller recalls too.
    assert!(near(eleven_point_precision([false, true, true], 2), 1.0 * (2.0 / 3.0)));
    // 3 of 10 reaches the recall 0.3 exactly: four points, which 0.1 * 3 > 0.3 in floating point would deny.
    assert!(near(eleven_point_precision([true; 3], 10), 4.0 / 11.0));
}

#[test]
fn right_pair_is_right() {
    let images = [image(1, &[pair(H, O, RIDE)])];
    assert!(near(ap(&images, &[(1, vec![predict(H, O, RIDE, 0.3)])], RIDE), 1.0));
    assert_eq!(ap(&images, &[], RIDE), Some(0.0));
    assert_eq!(ap(&images, &[], HOLD), None, "nothing is annotated");
}

#[test]
fn both_boxes_and_the_interaction_must_match() {
    let images = [image(1, &[pair(H, O, RIDE), pair(FAR, FAR, HOLD)])];
    let of = |p| ap(&images, &[(1, vec![p])], RIDE);
    assert_eq!(of(predict(H, FAR, RIDE, 0.3)), Some(0.0));
    assert_eq!(of(predict(FAR, O, RIDE, 0.3)), Some(0.0));
    assert_eq!(of(predict(H, O, HOLD, 0.3)), Some(0.0));
    // The smaller of the two overlaps decides, and 0.5 is enough.
    assert!(near(of(predict([0., 0., 10., 5.], O, RIDE, 0.3)), 1.0));
    assert_eq!(of(predict([0., 0., 10., 4.9], O, RIDE, 0.3)), Some(0.0));
}

#[test]
fn a_duplicate_is_false() {
    let images = [image(1, &[pair(H, O, RIDE)]), image(2, &[pair(H, O, RIDE)])];
    let twice = vec![predict(H, O, RIDE, 0.9), predict(H_NEAR, O, RIDE, 0.8)];
    let predictions = [(1, twice), (2, vec![predict(H, O, RIDE, 0.7)])];
    // true, false, true of 2: recall 0.5 at 1, recall 1 at 2/3.
    assert!(near(ap(&images, &predictions, RIDE), (6.0 + 5.0 * 2.0 / 3.0) / 11.0));
}

#[test]
fn a_taken_pair_is_not_replaced_by_the_next() {
    // Two annotated humans overlap; both predictions are nearest to the first, and would also match the second.
    let second = [0., 0., 10., 8.];
    let images = [image(1, &[pair(H, O, RIDE), pair(second, O, RIDE)])];
    let predictions = [(1, vec![predict(H, O, RIDE, 0.9), predict([0., 0., 10., 9.9], O, RIDE, 0.8)])];
    assert!(near(ap(&images, &predictions, RIDE), 6.0 / 11.0));
    // The nearest pair decides even when it was taken by a worse box before.
    let predictions = [(1, vec![predict([0., 0., 10., 9.9], O, RIDE, 0.9), predict(second, O, RIDE, 0.8)])];
    assert!(near(ap(&images, &predictions, RIDE), 1.0));
}

#[test]
fn humans_can_be_objects() {
    let images = [image(1, &[pair(H, O, HUG)])];
    let both = vec![predict(H, O, HUG, 0.9), predict(O, H, HUG, 0.95)];
    // The pair has a direction: the mirrored one is false and comes first.
    assert!(near(ap(&images, &[(1, both)], HUG), 0.5));
}

#[test]
fn ties_are_broken_at_random_but_always_alike() {
    let images: Vec<_> = (0..200).map(|n| image(n, &[pair(H, O, RIDE)])).collect();
    // Everything has the same score, and the right one always comes first in the list: order must not help.
    let predictions: Vec<_> =
        (0..200).map(|n| (n, vec![predict(H, O, RIDE, 0.5), predict(FAR, O, RIDE, 0.5)])).collect();
    let first = ap(&images, &predictions, RIDE).unwrap();
    assert!((0.42..0.62).contains(&first), "{first}");
    let reversed: Vec<_> = predictions.iter().rev().cloned().collect();
    assert_eq!(ap(&images, &reversed, RIDE), Some(first), "the order of images does not matter");
    let table = table();
    let mut other_seed = HicoDetEvaluator::new(&table, &images, None, 7);
    predictions.iter().for_each(|(n, list)| other_seed.add_image(*n, list).unwrap());
    assert_ne!(other_seed.finish().per_interaction[RIDE], Some(first));
}

#[test]
fn known_object_scores_only_images_with_the_object() {
    let images = [image(1, &[pair(H, O, RIDE)]), image(2, &[])];
    let known = KnownObjectImages::new(vec![HashSet::from([1]), HashSet::new()], vec![0, 0, 1, 1]);
    let table = table();
    let mut evaluator = HicoDetEvaluator::new(&table, &images, Some(&known), 0);
    evaluator.add_image(1, &[predict(H, O, RIDE, 0.5)]).unwrap();
    evaluator.add_image(2, &[predict(H, O, RIDE, 0.9)]).unwrap();
    let scores = evaluator.finish();
    assert_eq!(scores.default.full, Some(50.0));
    assert_eq!(scores.known_object.unwrap().full, Some(100.0));
}

#[test]
fn interactions_absent_from_an_image_still_count_as_false() {
    // Weakly-HOI, appendix I: dropping predictions whose interaction is not annotated in their image hides these two.
    let images = [image(1, &[pair(H, O, RIDE)]), image(2, &[pair(H, O, HUG)]), image(3, &[])];
    let wrong = |n| (n, vec![predict(H, O, RIDE, 0.9)]);
    let predictions = [(1, vec![predict(H, O, RIDE, 0.5)]), wrong(2), wrong(3)];
    assert!(near(ap(&images, &predictions, RIDE), 1.0 / 3.0));
}

#[test]
fn groups_by_hand() {
    // HOLD bicycle is frequent, RIDE bicycle rare.
    let images = [image(1, &[pair(H, O, RIDE), pair(H, O, HOLD)])];
    let scores = score(&images, &[(1, vec![predict(H, O, RIDE, 0.9)])]);
    let m = scores.default;
    assert_eq!((m.full, m.rare, m.non_rare), (Some(50.0), Some(100.0), Some(0.0)));
    assert_eq!(m.without_no_interaction, Some(50.0));
    assert_eq!(score(&[], &[]).default.full, None);
}

#[test]
fn wrong_predictions_are_refused() {
    let table = table();
    let mut evaluator = HicoDetEvaluator::new(&table, &[image(4, &[])], None, 0);
    let good = predict(H, O, RIDE, 0.1);
    let refused = |e: &mut HicoDetEvaluator<'_>, number, p| e.add_image(number, &[good, p]).unwrap_err();
    assert_eq!(refused(&mut evaluator, 5, good), EvaluationError::UnknownImage { number: 5 });
    let nan = predict(H, O, RIDE, f32::NAN);
    assert_eq!(refused(&mut evaluator, 4, nan), EvaluationError::NotFinite { number: 4, index: 1, what: "score" });
    let open = predict([0., 0., f32::INFINITY, 1.], O, RIDE, 0.1);
    assert_eq!(refused(&mut evaluator, 4, open), EvaluationError::NotFinite { number: 4, index: 1, what: "box" });
    let unknown = refused(&mut evaluator, 4, predict(H, O, 4, 0.1));
    assert!(unknown.to_string().contains("expected 0 to 3"), "{unknown}");
    evaluator.add_image(4, &[good]).unwrap();
    assert_eq!(refused(&mut evaluator, 4, good), EvaluationError::ImageTwice { number: 4 });
}

/// The definition, word by word, without anything clever.
fn slow(images: &[AnnotatedImage], predictions: &[(u64, Vec<TripletPrediction>)], k: usize) -> Option<f64> {
    let mut all: Vec<(u64, TripletPrediction)> = Vec::new();
    for (number, list) in predictions {
        all.extend(list.iter().filter(|p| p.interaction == k).map(|p| (*number, *p)));
    }
    all.sort_by(|a, b| b.1.score.partial_cmp(&a.1.score).unwrap());
    let truth: Vec<(u64, AnnotatedPair)> = images
        .iter()
        .flat_map(|i| i.pairs.iter().map(move |p| (i.number, *p)))
        .filter(|(_, p)| p.interaction == k)
        .collect();
    if truth.is_empty() {
        return None;
    }
    let mut taken = HashSet::new();
    let mut points = Vec::new();
    let mut tp = 0;
    for (i, (number, p)) in all.iter().enumerate() {
        let mut best = (-1.0, usize::MAX);
        for (j, (n, t)) in truth.iter().enumerate() {
            let overlap = t.human.iou(&p.human).min(t.object.iou(&p.object));
            if n == number && overlap > best.0 {
                best = (overlap, j);
            }
        }
        if best.0 >= 0.5 && taken.insert(best.1) {
            tp += 1;
        }
        points.push((tp, tp as f64 / (i + 1) as f64));
    }
    let mut sum = 0.0;
    for t in 0..=10 {
        let reached = points.iter().filter(|(tp, _)| 10 * tp >= t * truth.len()).map(|p| p.1);
        sum += reached.fold(0.0, f64::max);
    }
    Some(sum / 11.0)
}

#[test]
fn agrees_with_the_slow_version() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for round in 0..20 {
        let mut random_box = |spread: f32| -> [f32; 4] {
            let (x, y) = (rng.random_range(0.0..spread), rng.random_range(0.0..spread));
            [x, y, x + rng.random_range(5.0..15.0), y + rng.random_range(5.0..15.0)]
        };
        let mut pairs =
            |n: usize| (0..n).map(|i| (random_box(8.0), random_box(8.0), (i * 7 + round) % 4)).collect::<Vec<_>>();
        let images: Vec<_> = (0..12)
            .map(|n| image(n, &pairs(n as usize % 5).iter().map(|&(h, o, k)| pair(h, o, k)).collect::<Vec<_>>()))
            .collect();
        let predictions: Vec<_> = (0..12)
            .map(|n| {
                let list = pairs(15);
                let scored = list.iter().enumerate().map(|(i, &(h, o, k))| {
                    // All different: ties are tested above.
                    predict(h, o, k, ((i * 31 + n as usize * 17 + round * 5) as f32 * 0.618).fract() + n as f32 * 1e-6)
                });
                (n, scored.collect::<Vec<_>>())
            })
            .collect();
        for k in 0..4 {
            let (fast, slow) = (ap(&images, &predictions, k), slow(&images, &predictions, k));
            match (fast, slow) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{a} {b}"),
                (a, b) => assert_eq!(a, b),
            }
        }
    }
}
