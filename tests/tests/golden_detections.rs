//! Detections against an independent implementation: ONNX Runtime and numpy (tests/golden/make_detections.py).

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use hoi_runtime::bundle::{BundleParts, ModelBundle, sha256_hex, write_bundle};
use hoi_runtime::detector::{Detection, Detector};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::non_maximum_suppression;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{ImageLimits, open_image};
use hoi_tests::{photos, repository, shared_data};
use serde_json::Value;

/// The tolerances; what is measured is about a hundred times closer.
const BOX_TOLERANCE: f32 = 1.0;
const SCORE_TOLERANCE: f32 = 1e-3;

fn golden(model: &str) -> Value {
    let path = repository("tests/golden").join(format!("detections_{model}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn detections(bundle: &ModelBundle, detector: &Detector, photo: &Path) -> Vec<Detection> {
    let frame = open_image(photo, &ImageLimits::default()).unwrap();
    let (input, transform) = prepare(&frame.pixels, &bundle.manifest().detector.input);
    let size = Size::new(frame.pixels.width(), frame.pixels.height());
    let all = detector.detect(input, &transform, size).unwrap().detections;
    non_maximum_suppression(&all, 0.5)
}

fn edges(b: &BBox) -> [f32; 4] {
    [b.x1, b.y1, b.x2, b.y2]
}

/// Every detection of one side has its partner on the other, except at the score floor, where rounding decides.
fn compare(bundle: &ModelBundle, golden: &Value) {
    let detector = Detector::load(&TractEngine::default(), bundle).unwrap();
    let floor = golden["score_floor"].as_f64().unwrap() as f32;
    let mut compared = 0;
    for photo in golden["photos"].as_array().unwrap() {
        let name = photo["file"].as_str().unwrap();
        let ours = detections(bundle, &detector, &photos().join(name));
        let theirs: Vec<Detection> = photo["detections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| Detection {
                bbox: serde_json::from_value(d["box"].clone()).unwrap(),
                class: bundle.vocabulary().object(d["class"].as_str().unwrap()).unwrap(),
                score: d["score"].as_f64().unwrap() as f32,
            })
            .collect();
        let partner = |d: &Detection, others: &[Detection]| {
            others.iter().any(|o| {
                let far = edges(&d.bbox).iter().zip(edges(&o.bbox)).any(|(a, b)| (a - b).abs() > BOX_TOLERANCE);
                o.class == d.class && !far && (o.score - d.score).abs() <= SCORE_TOLERANCE
            })
        };
        for (side, list, others) in [("ours", &ours, &theirs), ("theirs", &theirs, &ours)] {
            for d in list.iter().filter(|d| d.score > floor + SCORE_TOLERANCE) {
                assert!(partner(d, others), "{name}: {d:?} of {side} has no partner");
                compared += 1;
            }
        }
    }
    assert!(compared >= 40, "{compared} detections compared");
}

#[test]
fn the_default_detector_agrees_on_eight_photos() {
    let bundle = ModelBundle::builtin().unwrap();
    // Its graph is the golden one with two more tensors, which the head reads.
    compare(&bundle, &golden("ssdlite_mnv2_coco_300"));
}

#[test]
fn every_other_family_agrees_where_its_weights_are() {
    for model in ["nanodet_g_416", "nanodet_plus_m_416", "nanodet_plus_m15x_416", "yolox_nano", "deimv2_femto_416"] {
        let Some(path) = shared_data(&format!("weights/{model}.onnx")) else { continue };
        let golden = golden(model);
        let onnx = fs::read(path).unwrap();
        assert_eq!(golden["sha256"].as_str().unwrap(), sha256_hex(&onnx), "{model} is another file");
        let description: Value =
            serde_json::from_slice(&fs::read(repository("models/detectors").join(format!("{model}.json"))).unwrap())
                .unwrap();
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        parts.manifest.detector = serde_json::from_value(description["detector"].clone()).unwrap();
        parts.files.insert(parts.manifest.detector.file.clone(), onnx);
        let folder = tempfile::tempdir().unwrap();
        compare(&write_bundle(&folder.path().join("bundle"), parts).unwrap(), &golden);
    }
}
