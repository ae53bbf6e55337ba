//! Weakly-HOI on photos: folders become a bundle, and Stanford-40's files are read, learned and scored.

use std::path::{Path, PathBuf};

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::fusion::Calibration;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::{ImageLimits, open_image};
use hoi_trainer::network::efficientnet_lite::{BatchNorm, EfficientNetLite, EfficientNetLiteConfig, Variant};
use image::imageops::flip_horizontal;
use serde_json::{Value, json};
use tch::{Device, nn};

use crate::command::{hoi_train, path, text};

fn photo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos").join(name)
}

/// The text encoder that the check sets up; without it there is no knowledge bank to start from.
pub fn text_encoder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.text-encoder");
    if !folder.is_dir() {
        eprintln!("not run: there is no .text-encoder (trainer/setup-text-encoder fetches it)");
        return None;
    }
    Some(folder)
}

/// A Lite0 with random weights, as a file.
pub fn backbone(folder: &Path) -> PathBuf {
    let file = folder.join("lite0.safetensors");
    let config = EfficientNetLiteConfig { norm: BatchNorm::Frozen, ..EfficientNetLiteConfig::of(Variant::Lite0) };
    let store = nn::VarStore::new(Device::Cpu);
    let _ = EfficientNetLite::new(&store.root(), &config);
    store.save(&file).unwrap();
    file
}

fn place(root: &Path, folder: &str, photos: &[&str]) {
    let folder = root.join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    for name in photos {
        std::fs::copy(photo(name), folder.join(name)).unwrap();
        let pixels = open_image(&photo(name), &ImageLimits::default()).unwrap().pixels;
        flip_horizontal(&pixels).save(folder.join(format!("mirrored-{name}.png"))).unwrap();
    }
}

#[test]
fn folders_become_a_bundle() {
    let Some(encoder) = text_encoder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let backbone = backbone(folder.path());
    let photos = at("photos");
    place(&photos, "ride bicycle", &["ride_bicycles.jpg"]);
    place(&photos, "Ride_Horse", &["ride_horse.jpg"]);
    place(&photos, "stroke fur", &["hug_dog.jpg", "ride_horse.jpg"]);
    place(&photos, "rid bicycle", &["coffee.png"]);
    std::fs::create_dir(photos.join("read book")).unwrap();
    std::fs::write(photos.join("ride bicycle/broken.jpg"), b"no picture").unwrap();
    std::fs::write(at("more.txt"), "# alone\nstroke_fur\n").unwrap();
    let (out, vocabulary) = (at("mine"), at("more.txt"));
    let learn = |out: &Path, more: &[&str]| {
        let base = ["weakly", "--images", path(&photos), "--vocabulary", path(&vocabulary), "--out", path(out)];
        let own = [
            "--backbone",
            path(&backbone),
            "--epochs",
            "2",
            "--batch",
            "4",
            "--device",
            "cpu",
            "--text-encoder",
            path(&encoder),
        ];
        hoi_train(&[&base[..], &own, more].concat())
    };
    let done = learn(&out, &["--folds", "2", "--json"]);
    let (said, warned) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{warned}");
    for named in ["rid bicycle", "ride bicycle", "read book", "broken.jpg", "stroke fur"] {
        assert!(warned.contains(named), "`{named}` is not named in: {warned}");
    }
    let result: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(result["interactions"], json!(["ride bicycle", "ride horse", "stroke fur"]));
    // The horse lies in two folders: 2 + 2 + 2 photos, each answered once.
    assert_eq!(result["estimate"]["photos"], 6);
    assert_eq!(result["folders"]["shared"].as_array().unwrap().len(), 2);
    let confusion = result["estimate"]["confusion"].as_array().unwrap();
    let counted: u64 = confusion.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert!((6..=8).contains(&counted), "{confusion:?}");
    assert!(
        !std::fs::read_dir(folder.path())
            .unwrap()
            .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with(".hoi-train") })
    );
    let card = std::fs::read_to_string(out.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("| ride horse | 2 |") && card.contains("Cross-validation"), "{card}");
    assert!(out.join("report.json").is_file());

    let bundle = ModelBundle::load(&out).unwrap();
    assert_eq!(bundle.vocabulary().alone().len(), 1);
    assert!(bundle.manifest().accuracy.iter().any(|a| a.metric.contains("said first")));
    let told: Option<Calibration> = serde_json::from_value(result["calibration"].clone()).unwrap();
    assert_eq!(bundle.manifest().fusion.calibration(), told);
    assert!(card.contains("### What a score means"), "{card}");
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).unwrap();
    let frame = open_image(&photo("ride_horse.jpg"), &ImageLimits::default()).unwrap();
    let triplets = pipeline.run(&frame).unwrap().triplets;
    assert!(!triplets.is_empty());
    assert!(triplets.iter().any(|t| t.object.is_none()), "the person alone is never said");

    // A bundle is replaced, anything else is not.
    let again = learn(&out, &["--folds", "0"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(std::fs::read_to_string(out.join("MODEL_CARD.md")).unwrap().contains("No estimate"));
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full").join("diary.txt"), "mine").unwrap();
    let refused = learn(&at("full"), &[]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("holds no bundle"));
    assert!(at("full").join("diary.txt").is_file());
    for (more, named) in [
        (["--folds", "1"], "--folds 1"),
        (["--backbone", "nowhere.pth"], "2 times"),
        (["--detector", "nowhere"], "nowhere"),
        (["--proposals", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--positives", "0"], "--positives 0"),
    ] {
        let refused = learn(&at("other"), &more);
        let error = text(&refused.stderr);
        assert!(!refused.status.success() && error.contains(named), "{more:?}: {error}");
    }
}

/// Ten photos of two actions to learn from, two to score on.
pub fn stanford40(root: &Path) -> Vec<String> {
    std::fs::create_dir_all(root.join("images")).unwrap();
    std::fs::create_dir_all(root.join("splits")).unwrap();
    let mut rows = Vec::new();
    let mut lists = [Vec::new(), Vec::new()];
    for (action, source) in [("riding_a_horse", "ride_horse.jpg"), ("riding_a_bike", "ride_bicycles.jpg")] {
        let pixels = open_image(&photo(source), &ImageLimits::default()).unwrap().pixels;
        for i in 0..6 {
            let name = format!("{action}_{i}.jpg");
            let part = image::imageops::crop_imm(&pixels, 4 * i, 2 * i, 400, 400).to_image();
            part.save(root.join("images").join(&name)).unwrap();
            rows.push(
                json!({"file": name, "width": 400, "height": 400, "action": action, "person": [60, 40, 340, 390]}),
            );
            lists[usize::from(i == 5)].push(name);
        }
    }
    std::fs::write(root.join("annotations.json"), Value::from(rows).to_string()).unwrap();
    for (list, file) in lists.iter().zip(["train.txt", "test.txt"]) {
        std::fs::write(root.join("splits").join(file), list.join("\n")).unwrap();
    }
    lists.concat()
}

#[test]
fn actions_are_learned_and_scored() {
    let Some(encoder) = text_encoder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let backbone = backbone(folder.path());
    let root = at("stanford40");
    let photos = stanford40(&root);
    let learn = |out: &Path, more: &[&str]| {
        let base = ["weakly", "--stanford40", path(&root), "--backbone", path(&backbone), "--out", path(out)];
        let own = [
            "--epochs",
            "1",
            "--batch",
            "4",
            "--device",
            "cpu",
            "--loader-threads",
            "2",
            "--json",
            "--text-encoder",
            path(&encoder),
        ];
        hoi_train(&[&base[..], &own, more].concat())
    };
    let lines = |photos: &[String]| {
        let line = |name: &String| {
            let person = json!({"class": "person", "box": [60, 45, 335, 395], "score": 0.9});
            let horse = json!({"class": "horse", "box": [40, 100, 390, 395], "score": 0.8});
            json!({"image": name, "detections": [person, horse]}).to_string()
        };
        photos.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let proposals = at("proposals.jsonl");
    std::fs::write(&proposals, lines(&photos)).unwrap();
    let cache = at("cache");
    let more = ["--proposals", path(&proposals), "--cache", path(&cache)];
    let mut means = Vec::new();
    // Held-out photos; then the test list; then the same out of the cache.
    for (part, scored) in [("held", 2), ("test", 2), ("test", 2)] {
        let out = at(&format!("out-{part}-{}", means.len()));
        let done = learn(&out, &[&more[..], &["--actions", part]].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        let result: Value = serde_json::from_str(text(&done.stdout).trim()).unwrap();
        assert_eq!(result["photos"], scored);
        assert_eq!(result["detected_people"]["found"], scored);
        let known = result["per_action"].as_array().unwrap().iter().filter(|a| !a["given"].is_null()).count();
        assert_eq!(known, 2, "actions without a photo have no precision");
        for mean in [&result["mean_ap"], &result["detected_people"]["mean_ap"]] {
            // Of two photos the right one is first or second.
            assert!((50.0..=100.0).contains(&mean.as_f64().unwrap()), "{mean}");
        }
        assert!(out.join("result.json").is_file() && out.join("model.safetensors").is_file());
        means.push(result["mean_ap"].as_f64().unwrap());
    }
    assert_eq!(means[1], means[2], "a cache changes nothing");

    std::fs::write(&proposals, lines(&photos[1..])).unwrap();
    let refused = learn(&at("out-x"), &["--proposals", path(&proposals)]);
    let error = text(&refused.stderr);
    assert!(!refused.status.success() && error.contains(&photos[0]), "{error}");
    // The cache belongs to other proposals.
    let refused = learn(&at("out-y"), &["--cache", path(&cache)]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("cache"), "{}", text(&refused.stderr));
}
