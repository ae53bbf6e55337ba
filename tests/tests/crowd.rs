//! Pictures with everything in them, and with nothing: the pipeline after the detector stays bounded and right.

#![allow(clippy::unwrap_used, missing_docs)]

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::{Dim, Tensor, TractEngine};
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::vocabulary::ObjectClass;
use ndarray::ArrayD;

const PICTURE: Size = Size { width: 640, height: 480 };

fn pipeline() -> HoiPipeline {
    HoiPipeline::new(&ModelBundle::builtin().unwrap(), &TractEngine::default()).unwrap()
}

/// What stands in for the detector's maps of a picture that is not there.
fn features() -> Vec<(String, Tensor)> {
    let bundle = ModelBundle::builtin().unwrap();
    let maps = bundle.manifest().head.inputs.iter().filter(|input| input.name.starts_with("feature"));
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(s) => panic!("{s}"),
    };
    maps.map(|map| {
        let shape: Vec<usize> = map.shape.iter().map(fixed).collect();
        (map.name.clone(), Tensor::F32(ArrayD::from_elem(shape, 0.5)))
    })
    .collect()
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
    let result = pipeline.interactions(&all, &features(), PICTURE).unwrap();
    assert_eq!(result.detections.len(), 30);
    assert_eq!(result.detections.iter().filter(|d| d.class == person).count(), 15);
    assert!(!result.triplets.is_empty() && result.triplets.len() <= 100, "max_triplets of the manifest");
    assert!(result.triplets.windows(2).all(|w| w[0].score >= w[1].score));
    // Every triplet is between kept entities, and valid for its object.
    for t in &result.triplets {
        assert!(result.detections.contains(&t.human));
        let Some(object) = t.object.as_ref() else {
            assert!(pipeline.vocabulary().alone().contains(&t.verb));
            continue;
        };
        assert!(result.detections.contains(object));
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
        let result = pipeline.interactions(&detections, &features(), PICTURE).unwrap();
        // One person can do what needs nothing else, where the bundle has such verbs.
        assert!(result.triplets.iter().all(|t| t.object.is_none()));
        let alone = !pipeline.vocabulary().alone().is_empty() && detections.iter().any(|d| d.class == person);
        assert_eq!(!result.triplets.is_empty(), alone);
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
    let result = pipeline.interactions(&all, &features(), Size::new(1, 1)).unwrap();
    assert!(result.triplets.iter().all(|t| t.score.is_finite()));
    assert!(result.detections.iter().all(|d| d.bbox.is_finite()));
}

/// The pairs of a picture compete: of two people it is the one on the bicycle who rides it.
#[test]
fn the_one_on_the_bicycle_rides_it() {
    let pipeline = pipeline();
    let person = pipeline.vocabulary().human();
    let bicycle = pipeline.vocabulary().object("bicycle").unwrap();
    let ride = pipeline.vocabulary().verb("ride").unwrap();
    let at = |bbox, class| Detection { bbox, class, score: 0.95 };
    let on = at(BBox::new(210.0, 100.0, 330.0, 380.0), person);
    let beside = at(BBox::new(480.0, 120.0, 600.0, 420.0), person);
    let thing = at(BBox::new(180.0, 220.0, 370.0, 440.0), bicycle);
    let maps: Vec<_> =
        features().into_iter().map(|(name, map)| (name, Tensor::F32(map.as_f32().unwrap() * 0.0))).collect();
    let result = pipeline.interactions(&[on.clone(), beside.clone(), thing], &maps, PICTURE).unwrap();
    let score = |who: &Detection| {
        let said = result.triplets.iter().find(|t| t.human == *who && t.verb == ride && t.object.is_some());
        said.map_or(0.0, |t| t.score)
    };
    assert!(score(&on) > 5.0 * score(&beside) && score(&on) > 0.2, "{} {}", score(&on), score(&beside));
}
