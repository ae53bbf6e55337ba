//! `hoi-train eval boxes`: photos annotated with what the detector finds score 1, others what is left.

use std::path::{Path, PathBuf};

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::{Detection, Detector};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::non_maximum_suppression;
use hoi_runtime::preprocess::prepare;
use serde_json::{Value, json};

use crate::command::{hoi_train, path, text};

/// Only what the detector is sure of is annotated.
const SURE: f32 = 0.5;

const PHOTOS: [&str; 3] = ["hug_dog.jpg", "ride_bicycles.jpg", "ride_horse.jpg"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of photos with these boxes.
fn write(folder: &Path, boxes: &[(String, Size, Vec<Detection>)], names: &[String]) {
    let images: Vec<Value> = boxes
        .iter()
        .map(|(file, size, found)| {
            let objects: Vec<Value> = found
                .iter()
                .map(|d| json!({"label": d.class.0, "box": [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2]}))
                .collect();
            json!({"file": file, "width": size.width, "height": size.height, "objects": objects})
        })
        .collect();
    let text = json!({"names": names, "images": images}).to_string();
    std::fs::write(folder.join("annotations.json"), text).unwrap();
}

#[test]
fn a_detector_against_itself() {
    let bundle = repository().join("models/nano");
    let loaded = ModelBundle::load(&bundle).unwrap();
    let detector = Detector::load(&TractEngine::new(1), &loaded).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    let mut all: Vec<(String, Size, Vec<Detection>)> = Vec::new();
    for photo in PHOTOS {
        let to = folder.path().join("images").join(photo);
        std::fs::copy(repository().join("tests/photos").join(photo), &to).unwrap();
        let pixels = image::open(&to).unwrap().to_rgb8();
        let size = Size::new(pixels.width(), pixels.height());
        let (input, transform) = prepare(&pixels, &detector.spec().input);
        let found = detector.detect(input, &transform, size).unwrap().detections;
        let mut found = non_maximum_suppression(&found, loaded.manifest().pairing.nms_iou);
        found.retain(|d| d.score >= SURE);
        assert!(!found.is_empty(), "{photo}");
        all.push((photo.to_owned(), size, found));
    }
    let names = &loaded.vocabulary().spec().objects;
    write(folder.path(), &all, names);
    let eval = ["eval", "boxes", "--root", path(folder.path()), "--bundle", path(&bundle), "--bundle", path(&bundle)];
    let score = |more: &[&str]| -> Vec<Value> {
        let out = hoi_train(&[&eval[..], &["--json"], more].concat());
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let found = score(&[]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    assert_eq!((&found[0]["map50"], &found[0]["person"], &found[0]["pictures"]), (&json!(1.0), &json!(1.0), &json!(3)));
    assert_eq!(found, score(&["--threads", "2"]));

    // Half of the horse picture's boxes are somewhere else.
    let moved: Vec<_> = all
        .iter()
        .map(|(file, size, found)| {
            let moved = found.iter().map(|d| match file.as_str() {
                "ride_horse.jpg" => Detection { bbox: d.bbox.scale(0.3, 0.3), ..d.clone() },
                _ => d.clone(),
            });
            (file.clone(), *size, moved.collect())
        })
        .collect();
    write(folder.path(), &moved, names);
    let worse = score(&[])[0]["map50"].as_f64().unwrap();
    assert!(worse < 1.0 && worse > 0.0, "{worse}");
    let list = folder.path().join("calibrated.txt");
    std::fs::write(&list, "some/where/ride_horse.jpg\n\n").unwrap();
    let rest = &score(&["--leave-out", path(&list)])[0];
    assert_eq!((&rest["map50"], &rest["pictures"]), (&json!(1.0), &json!(2)));

    let mut other = names.clone();
    "unicorn".clone_into(&mut other[usize::from(all[0].2[0].class.0)]);
    write(folder.path(), &all, &other);
    let refused = hoi_train(&eval);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("`unicorn` is annotated"), "{}", text(&refused.stderr));
    std::fs::write(&list, PHOTOS.join("\n")).unwrap();
    let refused = hoi_train(&[&eval[..], &["--leave-out", path(&list)]].concat());
    assert!(text(&refused.stderr).contains("no picture to score"), "{}", text(&refused.stderr));
}
