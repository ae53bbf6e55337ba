//! The whole way: a head from the trainer, exported, made small, put into a bundle, and run on a photo up to screen and serial line.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use hoi_firmware::config::Config;
use hoi_firmware::device::{self, Control, Settings};
use hoi_quantize::compare::RandomInputs;
use hoi_quantize::fp16::{DEFAULT_TOLERANCE, Fp16Job};
use hoi_runtime::bundle::{BundleParts, HeadDescription, ModelBundle, write_bundle};
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::interaction::InteractionHead;
use hoi_runtime::pairing::pair_entities;
use hoi_runtime::spatial::spatial_encoding;
use hoi_runtime::vocabulary::ObjectClass;
use hoi_tests::{layout_only, photos};
use hoi_trainer::dataset::layout::LayoutSample;
use hoi_trainer::export::write_layout;
use hoi_trainer::system::layout::{LayoutNetwork, LayoutShape, Standardisation};
use tch::Device;

const PICTURE: Size = Size { width: 640, height: 480 };

/// Entities in a fixed disorder: `humans` people first, then objects of all classes.
fn entities(humans: usize, objects: usize) -> Vec<Detection> {
    let noise = |i: usize, k: usize| ((i * 7919 + k * 104_729) % 997) as f32 / 997.0;
    (0..humans + objects)
        .map(|i| {
            let (x, y) = (noise(i, 1) * 500.0, noise(i, 2) * 380.0);
            let bbox = BBox::new(x, y, x + 10.0 + noise(i, 3) * 130.0, y + 10.0 + noise(i, 4) * 90.0);
            let class = if i < humans { 0 } else { 1 + (i * 13 % 79) as u16 };
            Detection { bbox, class: ObjectClass(class), score: 0.9 }
        })
        .collect()
}

fn network() -> LayoutNetwork {
    let shape = LayoutShape { objects: 80, verbs: 117, hidden: 256, embedding: 64, heads: 16 };
    let sample = entities(10, 10);
    let rows: Vec<f32> = pair_entities(&sample, ObjectClass(0))
        .iter()
        .flat_map(|p| spatial_encoding(&sample[p.human].bbox, &sample[p.object].bbox, PICTURE))
        .collect();
    LayoutNetwork::new(shape, Standardisation::of_rows(&rows), 7, Device::Cpu)
}

#[test]
fn a_head_says_the_same_from_libtorch_to_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let network = network();
    let mut base = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    layout_only(&mut base);
    let training = serde_json::json!({"data": "none: random weights", "command": "a test"});
    let training = serde_json::from_value(training).unwrap();
    write_layout(&network, &base.manifest.vocabulary, training, folder.path()).unwrap();
    let description: HeadDescription =
        serde_json::from_slice(&fs::read(folder.path().join("head.json")).unwrap()).unwrap();
    let exact = folder.path().join("interaction.onnx");
    let small = folder.path().join("small.onnx");
    let job = Fp16Job {
        input: exact.clone(),
        output: small.clone(),
        report: None,
        inputs: RandomInputs::default(),
        tolerance: DEFAULT_TOLERANCE,
        native: false,
    };
    let report = hoi_quantize::fp16::run(&job, &TractEngine::default()).unwrap();
    assert!(report.within_tolerance && report.bytes_after * 100 < report.bytes_before * 60);

    for (file, tolerance) in [(exact, 1e-5), (small, 2e-2)] {
        let mut parts = base.clone();
        parts.manifest.head = description.head.clone();
        parts.files.insert(parts.manifest.head.file.clone(), fs::read(file).unwrap());
        let bundle = write_bundle(&folder.path().join("bundle"), parts).unwrap();
        let head = InteractionHead::load(&TractEngine::default(), &bundle).unwrap();
        for (humans, objects) in [(0, 3), (1, 0), (1, 1), (2, 4), (15, 15)] {
            let entities = entities(humans, objects);
            let pairs = pair_entities(&entities, ObjectClass(0));
            assert_eq!(pairs.len(), humans * (humans + objects).saturating_sub(1));
            let sample = LayoutSample {
                size: PICTURE,
                entities: entities.clone(),
                pairs: pairs.clone(),
                left_out: 0,
                positives: Vec::new(),
            };
            let expected = network.logits(&sample);
            let got = head.run(&entities, &pairs, PICTURE, &[]).unwrap().verb_logits;
            assert_eq!(got.dim(), (pairs.len(), 117));
            let far = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far <= tolerance, "{humans} humans, {objects} objects: logits differ by {far}");
        }
    }

    // The last bundle runs on the board's program: screen, serial line and standard output.
    let screen = folder.path().join("screen.png");
    let mut config = Config::for_command_line();
    config.source.uri = photos().join("ride_horse.jpg").display().to_string();
    config.display.uri = format!("png://{}", screen.display());
    config.model.bundle = folder.path().join("bundle").display().to_string();
    config.model.min_score = 0.0;
    config.board.name = "host".to_owned();
    config.output.json = true;
    let mut stdout = Vec::new();
    let summary = device::run(&Settings::once(config), &Control::default(), &mut stdout).unwrap();
    assert!(summary.is_clean());
    let frame: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(frame["schema"], "hoi.frame/1");
    assert_eq!(image::image_dimensions(&screen).unwrap(), (240, 240));
}
