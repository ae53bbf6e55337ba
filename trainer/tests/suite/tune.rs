//! Tuning: the parts of a network make the whole, the last blocks learn and no others move, and what is written loads again.

use std::path::{Path, PathBuf};

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::geometry::BBox;
use hoi_trainer::network::efficientnet_lite::{BatchNorm, EfficientNetLite, Variant};
use hoi_trainer::system::edge::{
    TuneConfig, TuneError, TuneLook, TuneModel, TuneReader, View, read_tune_looks, views, write_tune_looks,
};
use hoi_trainer::system::run::{RunConfig, RunIdentity, RunOptions, Trainer};
use image::{Rgb, RgbImage};
use indicatif::ProgressBar;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::command::{hoi_train, path, text};
use crate::efficientnet_lite::reference_network;
use crate::network::largest_difference;
use crate::weakly_photos::{backbone, stanford40};

const SIDE: usize = 64;

/// An EfficientNet-Lite0 without training, as a file.
fn untrained(folder: &Path) -> PathBuf {
    tch::manual_seed(3);
    backbone(folder)
}

/// A person in red, or in blue, on a grey ground.
fn picture(number: u64) -> (RgbImage, BBox) {
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    let left = rng.random_range(0..40) as f32;
    let person = BBox::new(left, 10.0, left + 30.0, 60.0);
    let pixels = RgbImage::from_fn(80, 70, |x, y| {
        let noise: u8 = rng.random_range(0..40);
        let (x, y) = (x as f32, y as f32);
        let inside = (person.x1..person.x2).contains(&x) && (person.y1..person.y2).contains(&y);
        match (inside, number % 2) {
            (false, _) => Rgb([100 + noise; 3]),
            (true, 0) => Rgb([180 + noise, 20, 20]),
            (true, _) => Rgb([20, 20, 180 + noise]),
        }
    });
    (pixels, person)
}

fn looks(file: &Path, blocks: usize, view: View, count: u64) -> Vec<TuneLook> {
    let reader = TuneReader::load(file, blocks, [SIDE + 20, SIDE], SIDE).unwrap();
    (0..count)
        .map(|number| {
            let (pixels, person) = picture(number);
            reader.read(number, &pixels, &person, view).unwrap()
        })
        .collect()
}

#[test]
fn the_parts_are_the_whole() {
    let (_store, network) = reference_network(BatchNorm::Folded, "");
    let images = Tensor::randn([2, 3, 70, 64], (Kind::Float, Device::Cpu));
    let whole = network.map(&images, false);
    // One block after the halving one of the sixth stage's four, and the seventh's.
    assert_eq!(network.late_blocks(), 4);
    for late in [0, 1, 3, 4, 9] {
        let [halving, x] = network.before_late(&images, late);
        assert_eq!(halving.size()[2..], [5, 4], "the last halving begins at stride 16");
        assert_eq!(x.size()[2..], [3, 2]);
        let [depthwise, last] = network.after_late(&x, late, false);
        assert!(largest_difference(&whole, &last) <= 1e-6, "{late}");
        assert!(late == 0 || depthwise.size()[1] > x.size()[1], "the depthwise convolution's channels are expanded");
    }
}

#[test]
fn the_last_blocks_learn_and_no_others_move() {
    let folder = tempfile::tempdir().unwrap();
    let file = untrained(folder.path());
    let config = TuneConfig { relation: 16, hidden: 16, input_dropout: 0.0, dropout: 0.0, ..TuneConfig::default() };
    let model = TuneModel::new(&file, &config, 2, Device::Cpu).unwrap();
    let all: Vec<Vec<TuneLook>> = views(1).into_iter().map(|view| looks(&file, 2, view, 24)).collect();
    let actions: Vec<usize> = (0..24).map(|number| number % 2).collect();
    model.prepare(&all[0]);
    let before = model.store.variables();
    let before: Vec<(String, Tensor)> = before.into_iter().map(|(name, t)| (name, t.detach().copy())).collect();
    let progress = ProgressBar::hidden();
    let run = folder.path().join("run");
    let options =
        RunOptions { folder: &run, resume: false, stop_after: None, checkpoint_every: None, progress: &progress };
    let run_config = RunConfig { epochs: 12, batch: 8, learning_rate: 3e-3, max_gradient: 1.0, ..RunConfig::default() };
    let identity = RunIdentity { system: json!("tune"), data: "red and blue".into() };
    let mut trainer = Trainer::start(&model.store, &model.groups(), &run_config, identity, &options).unwrap();
    model.train(&all, &actions, None, &mut trainer, &run_config, |_| Vec::new()).unwrap();
    let losses: Vec<f64> = trainer.log().iter().map(|epoch| epoch.loss).collect();
    assert!(losses[11] < 0.3 * losses[0], "{losses:?}");
    let right = model.scores(&all[0]).iter().zip(&actions).filter(|(s, a)| s[**a] > 0.5).count();
    assert_eq!(right, 24);
    let after = model.store.variables();
    for (name, was) in &before {
        let moved = largest_difference(was, &after[name]) > 0.0;
        let tuned = ["backbone._blocks.14.", "backbone._blocks.15.", "backbone._conv_head."]
            .iter()
            .any(|start| name.starts_with(start))
            || name.starts_with("look.") && !name.ends_with("mean") && !name.ends_with("deviation");
        assert_eq!(moved, tuned, "{name}");
    }

    let written = folder.path().join("tuned.safetensors");
    model.save(&written).unwrap();
    let loaded = EfficientNetLite::load(&written, Device::Cpu).unwrap();
    assert_eq!((loaded.variant, loaded.network.config().classes), (Variant::Lite0, None));
    let original = EfficientNetLite::load(&file, Device::Cpu).unwrap();
    let images = Tensor::randn([1, 3, 64, 64], (Kind::Float, Device::Cpu));
    let [halving, x] = original.network.before_late(&images, 2);
    let [same, y] = loaded.network.before_late(&images, 2);
    assert_eq!((halving, &x), (same, &y));
    let difference = largest_difference(&original.network.map(&images, false), &loaded.network.map(&images, false));
    assert!(difference > 1e-4, "the tuned blocks say something else: {difference}");
}

#[test]
fn photos_come_back_from_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let file = untrained(folder.path());
    let read = looks(&file, 1, View::Mirrored, 3);
    assert_eq!(read[0].early.size()[0], 3);
    assert_eq!(read[0].masks.size(), [3, 4]);
    assert!(read_tune_looks(folder.path(), "a").unwrap().is_none());
    write_tune_looks(folder.path(), "a", &read).unwrap();
    let back = read_tune_looks(folder.path(), "a").unwrap().unwrap();
    for (a, b) in read.iter().zip(&back) {
        assert!(a.early.equal(&b.early) && a.map.equal(&b.map) && a.masks.equal(&b.masks));
    }
    let error = read_tune_looks(folder.path(), "b").unwrap_err().to_string();
    assert!(error.contains("read as `a`, this run needs `b`"), "{error}");
    std::fs::write(folder.path().join("tune.json"), r#"{"key": "a", "photos": 4}"#).unwrap();
    let error = read_tune_looks(folder.path(), "a").unwrap_err().to_string();
    assert!(error.contains("with 4 rows"), "{error}");
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = untrained(folder.path());
    for asked in [0, 5] {
        let config = TuneConfig { blocks: asked, ..TuneConfig::default() };
        let error = TuneModel::new(&file, &config, 2, Device::Cpu).unwrap_err();
        assert!(matches!(error, TuneError::Blocks { asked: found, most: 4 } if found == asked), "{error}");
        assert!(TuneReader::load(&file, asked, [64, 64], 64).is_err());
    }
    let (pixels, person) = picture(0);
    // 5 cells at stride 16 and 3 at stride 32: no whole multiple.
    let reader = TuneReader::load(&file, 1, [80, 80], 80).unwrap();
    let error = reader.read(0, &pixels, &person, View::Plain).unwrap_err().to_string();
    assert!(error.contains("multiple of 32"), "{error}");
    std::fs::write(&file, "no weights").unwrap();
    assert!(TuneReader::load(&file, 1, [64, 64], 64).is_err());
}

#[test]
fn a_run_leaves_a_bundle_that_looks_through_the_tuned_network() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (file, root, out) = (untrained(folder.path()), at("stanford40"), at("run"));
    stanford40(&root);
    let cache = at("cache");
    let tune = |base: &str, out: &Path| {
        let own = ["--second-side", "64", "--crops", "0", "--epochs", "1", "--cache", path(&cache), "--json"];
        let named = ["--stanford40", path(&root), "--second-backbone", path(&file), "--base", base, "--out", path(out)];
        hoi_train(&[&["tune"][..], &named, &own].concat())
    };
    let done = tune("builtin:nano", &out);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("held_out"));
    let bundle = ModelBundle::load(&out.join("bundle")).unwrap();
    let manifest = bundle.manifest();
    let taps: Vec<&str> = manifest.detector.taps.values().map(String::as_str).collect();
    assert_eq!(
        taps,
        ["second_backbone._blocks.11._bn0.out", "second_backbone._blocks.15._bn1.out", "second_backbone.map"]
    );
    let record = manifest.training.iter().find(|record| record.part == "second_backbone").unwrap();
    assert!(record.data.contains("the last 2 blocks, on 8 photos of four fifths of"), "{}", record.data);

    // A detector that has a second backbone already is refused before a photo is read.
    std::fs::remove_dir_all(&cache).unwrap();
    let refused = tune(path(&out.join("bundle")), &at("other"));
    assert!(text(&refused.stderr).contains("second_backbone."), "{}", text(&refused.stderr));
    assert!(!cache.exists());
}
