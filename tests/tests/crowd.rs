//! Pictures with everything in them, and with nothing: the pipeline after the detector stays bounded and right.

#![allow(clippy::unwrap_used, missing_docs)]

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::vocabulary::ObjectClass;

const PICTURE: Size = Size { width: 640, height: 480 };

fn pipeline() -> HoiPipeline {
    HoiPipeline::new(&ModelBundle::builtin().unwrap(), &TractEngine::default()).unwrap()
}

fn detection(i: usize, class: ObjectClass, score: f32) -> Detection {
    let (x, y) = ((i % 20) as f32 * 32.0, (i / 20) as f32 * 24.0);
    Detection { bbox: BBox::new(x, y, x + 30.0, y + 22.0), class, score }
}

#[test]
fn three_hundred_detections_are_cut_to_435_pairs() {
    let pipeline = pipeline();
    let person = pipeline.vocabulary().human();
    let bicycle = pipeline.vocabulary().object("bicycle").unwrap();
    let all: Vec<_> =
        (0..300).map(|i| detection(i, if i % 2 == 0 { person } else { bicycle }, 0.99 - i as f32 * 1e-3)).collect();
    let result = pipeline.interactions(&all, &[], PICTURE).unwrap();
    assert_eq!(result.detections.len(), 30);
    assert_eq!(result.detections.iter().filter(|d| d.class == person).count(), 15);
    assert!(!result.triplets.is_empty() && result.triplets.len() <= 100, "max_triplets of the manifest");
    assert!(result.triplets.windows(2).all(|w| w[0].score >= w[1].score));
    // Every triplet is between kept entities, and valid for its object.
    for t in &result.triplets {
        let object = t.object.as_ref().unwrap();
        assert!(result.detections.contains(&t.human) && result.detections.contains(object));
        assert_ne!(t.human, *object);
        assert!(pipeline.vocabulary().valid_verbs(object.class).contains(&t.verb));
    }
}

#[test]
fn nothing_one_person_and_things_without_a_person_are_empty_answers() {
    let pipeline = pipeline();
    let person = pipeline.vocabulary().human();
    let cup = pipeline.vocabulary().object("cup").unwrap();
    let cases = [vec![], vec![detection(0, person, 0.9)], vec![detection(0, cup, 0.9), detection(1, cup, 0.8)]];
    for detections in cases {
        let result = pipeline.interactions(&detections, &[], PICTURE).unwrap();
        assert!(result.triplets.is_empty());
        assert_eq!(result.detections, detections);
    }
}

#[test]
fn degenerate_detections_do_not_panic() {
    let pipeline = pipeline();
    let person = pipeline.vocabulary().human();
    let point = |score| Detection { bbox: BBox::new(5.0, 5.0, 5.0, 5.0), class: person, score };
    let mut nan = detection(3, person, 0.9);
    nan.bbox.x1 = f32::NAN;
    let all = [point(0.9), point(0.8), nan, detection(1, ObjectClass(1), f32::NAN), detection(2, ObjectClass(1), 0.7)];
    let result = pipeline.interactions(&all, &[], Size::new(1, 1)).unwrap();
    assert!(result.triplets.iter().all(|t| t.score.is_finite()));
    assert!(result.detections.iter().all(|d| d.bbox.is_finite()));
}

#[test]
fn a_single_pair_is_scored_the_same_alone_and_in_a_crowd() {
    // The layout head sees each pair alone: others must not change its score, only the fusion's limit may hide it.
    let pipeline = pipeline();
    let person = pipeline.vocabulary().human();
    let bicycle = pipeline.vocabulary().object("bicycle").unwrap();
    let pair = [detection(0, person, 0.9), detection(1, bicycle, 0.9)];
    let alone = pipeline.interactions(&pair, &[], PICTURE).unwrap();
    let third = detection(50, pipeline.vocabulary().object("cup").unwrap(), 0.3);
    let crowd = pipeline.interactions(&[&pair[..], &[third]].concat(), &[], PICTURE).unwrap();
    let best = |r: &hoi_runtime::pipeline::FrameResult| {
        r.triplets.iter().find(|t| t.object.as_ref().unwrap().class == bicycle).cloned().unwrap()
    };
    let (a, b) = (best(&alone), best(&crowd));
    assert_eq!(a.verb, b.verb);
    assert!((a.score - b.score).abs() < 1e-5);
}
