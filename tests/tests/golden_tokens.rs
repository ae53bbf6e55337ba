//! Tokens and a late map of DEIMv2 against ONNX Runtime (tests/golden/make_tokens.py).

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use hoi_runtime::bundle::{BundleParts, ModelBundle, sha256_hex, write_bundle};
use hoi_runtime::detector::{Detector, ENTITY_TOKENS};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{ImageLimits, open_image};
use hoi_tests::{photos, repository, shared_data};
use serde_json::Value;

const MODEL: &str = "deimv2_femto_416";
/// Values of tokens and map are of order 1 to 15; pixels of the two resizers differ in the last bits.
const TOLERANCE: f32 = 1e-3;

#[test]
fn a_detection_of_deim_carries_the_token_of_its_query() {
    let Some(path) = shared_data(&format!("weights/{MODEL}.onnx")) else { return };
    let read = |name: &str| -> Value { serde_json::from_slice(&fs::read(repository(name)).unwrap()).unwrap() };
    let golden = read(&format!("tests/golden/tokens_{MODEL}.json"));
    let onnx = fs::read(path).unwrap();
    assert_eq!(golden["sha256"].as_str().unwrap(), sha256_hex(&onnx), "{MODEL} is another file");
    let description = read(&format!("models/detectors/{MODEL}.json"));
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    parts.manifest.detector = serde_json::from_value(description["detector"].clone()).unwrap();
    parts.files.insert(parts.manifest.detector.file.clone(), onnx);
    let folder = tempfile::tempdir().unwrap();
    let bundle = write_bundle(&folder.path().join("bundle"), parts).unwrap();
    let detector = Detector::load(&TractEngine::default(), &bundle).unwrap();
    assert_eq!(detector.token_width(), golden["width"].as_u64().map(|w| w as usize));

    let photo = photos().join(golden["photo"].as_str().unwrap());
    let frame = open_image(&photo, &ImageLimits::default()).unwrap();
    let (input, transform) = prepare(&frame.pixels, &detector.spec().input);
    let picture = Size::new(frame.pixels.width(), frame.pixels.height());
    let output = detector.detect(input, &transform, picture).unwrap();
    let tensor = |name: &str| output.features.iter().find(|(n, _)| n == name).unwrap().1.as_f32().unwrap();

    let number = |v: &Value| v.as_f64().unwrap() as f32;
    let tokens = tensor(ENTITY_TOKENS);
    assert_eq!(tokens.shape()[0], output.detections.len());
    let (mut rows, mut out_of_order) = (Vec::new(), false);
    for want in golden["detections"].as_array().unwrap() {
        let class = bundle.vocabulary().object(want["class"].as_str().unwrap()).unwrap();
        let clipped = |v: f32, side: u32| v.clamp(0.0, side as f32);
        let same_box = |b: [f32; 4]| {
            b.iter().zip(want["box"].as_array().unwrap()).enumerate().all(|(i, (edge, want))| {
                let side = if i % 2 == 0 { picture.width } else { picture.height };
                (edge - clipped(number(want), side)).abs() < 0.5
            })
        };
        let row = output.detections.iter().position(|d| {
            d.class == class && (d.score - number(&want["score"])).abs() < TOLERANCE && same_box(d.bbox.into())
        });
        let row = row.unwrap_or_else(|| panic!("{want} was not detected"));
        for (i, value) in want["token"].as_array().unwrap().iter().enumerate() {
            let far = (tokens[[row, i]] - number(value)).abs();
            assert!(far < TOLERANCE, "{} {i}: differs by {far}", want["class"]);
        }
        let query = want["query"].as_u64().unwrap();
        out_of_order |= rows.last().is_some_and(|last| *last > query);
        rows.push(query);
    }
    assert!(rows.len() >= 5 && out_of_order, "the graph must have sorted its queries: {rows:?}");

    let feature = tensor("feature");
    let shape: Vec<usize> = serde_json::from_value(golden["feature"]["shape"].clone()).unwrap();
    assert_eq!(feature.shape()[1..], shape);
    assert!((feature.mean().unwrap() - number(&golden["feature"]["mean"])).abs() < TOLERANCE);
    for cell in golden["feature"]["cells"].as_array().unwrap() {
        let at: [usize; 3] = serde_json::from_value(cell["at"].clone()).unwrap();
        let far = (feature[[0, at[0], at[1], at[2]]] - number(&cell["value"])).abs();
        assert!(far < TOLERANCE * number(&golden["feature"]["largest"]), "{cell}: differs by {far}");
    }
}
