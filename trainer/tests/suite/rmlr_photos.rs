//! RmLR on photos: a few pictures in HICO-DET's files, and the eight photos of V-COCO that come with the optional data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use hoi_runtime::bundle::{BundleParts, ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::detector::DetectorSpec;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::Frame;
use hoi_trainer::dataset::augment::Augmentation;
use hoi_trainer::dataset::hico_det::{InteractionTable, ZeroShotSplit, fraction_numbers};
use hoi_trainer::system::detr::{DetrModel, DetrPlan};
use hoi_trainer::system::rmlr::{role_predictions, verb_numbers};
use image::{ImageFormat, Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::{Device, Tensor};

use crate::command::{hoi_train, path, text};

pub const SIDE: u32 = 96;

pub struct Photos {
    pub folder: tempfile::TempDir,
    /// Numbers of the training pictures: three of the 5 %, one that only the 50 % have.
    pub numbers: [u64; 4],
}

pub fn name(split: &str, number: u64) -> String {
    format!("HICO_{split}2015_{number:08}.jpg")
}

/// A human and an object, 1-based inclusive.
pub fn boxes(i: u32) -> ([u32; 4], [u32; 4]) {
    ([10 + i, 10, 45 + i, 80], [40 + i, 40, 80 + i, 85])
}

fn draw(path: &Path, i: u32) {
    let (human, object) = boxes(i);
    let inside = |b: [u32; 4], x, y| (b[0]..=b[2]).contains(&x) && (b[1]..=b[3]).contains(&y);
    let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| match (inside(human, x, y), inside(object, x, y)) {
        (_, true) => Rgb([40, 90 + (x % 8) as u8, 220]),
        (true, _) => Rgb([220, 120, 60 + (y % 8) as u8]),
        _ => Rgb([x as u8 * 2, y as u8 * 2, 80]),
    });
    picture.save_with_format(path, ImageFormat::Png).unwrap();
}

impl Photos {
    /// Annotation of both splits with HICO-DET's own table: the last training picture shows an interaction that RF-UC keeps back.
    pub fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let table = InteractionTable::published().unwrap();
        let unseen: BTreeSet<usize> = ZeroShotSplit::RfUc.unseen().unwrap().into_iter().collect();
        let of_bicycle = |kept_back: bool| {
            let all = table.classes().iter().enumerate();
            let mut own = all.filter(|(k, c)| c.interaction.object.0 == 1 && unseen.contains(k) == kept_back);
            own.next().unwrap().0
        };
        let (seen, kept_back) = (of_bicycle(false), of_bicycle(true));
        let small: Vec<u64> = fraction_numbers(5).unwrap();
        let half = fraction_numbers(50).unwrap().into_iter().find(|n| !small.contains(n)).unwrap();
        let numbers = [small[0], small[1], small[2], half];
        for folder in ["train2015", "test2015"] {
            std::fs::create_dir(root.join(folder)).unwrap();
        }
        let mut train = serde_json::Map::new();
        for (i, &number) in (0..).zip(&numbers) {
            let hoi = if i == 3 { kept_back } else { seen };
            let (human, object) = boxes(i);
            let label =
                json!({"hoi_id": hoi + 1, "human_bbox": human, "object_bbox": object, "width": SIDE, "height": SIDE});
            train.insert(name("train", number), json!({"labels": [label]}));
            draw(&root.join("train2015").join(name("train", number)), i);
        }
        write(&root.join("hake_train2015_instance_level.json"), &Value::Object(train));
        let class = table.classes()[seen];
        let (mut annotation, mut names) = (Vec::new(), Vec::new());
        for i in 0..3 {
            let (human, object) = boxes(i + 5);
            annotation
                .push(json!({"boxes_h": [human], "boxes_o": [object], "hoi": [seen], "object": [class.hico_object],
                "verb": [class.interaction.verb.0]}));
            names.push(name("test", u64::from(i) + 1));
            draw(&root.join("test2015").join(&names[i as usize]), i + 5);
        }
        let sizes = vec![[SIDE, SIDE]; 3];
        write(
            &root.join("instances_test2015.json"),
            &json!({"annotation": annotation, "filenames": names, "size": sizes}),
        );
        let mut known = serde_json::Map::new();
        for object in 0..80 {
            let own: Vec<usize> = (0..600).filter(|&k| table.classes()[k].hico_object == object).collect();
            let range = [own[0], *own.last().unwrap()];
            known.insert(format!("object {object}"), json!({"object_idx": object, "hois": range, "images": [1, 2, 3]}));
        }
        write(&root.join("known_object_test.json"), &json!({"objects": known}));
        Self { folder, numbers }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A detector with random weights that are turned up until its boxes differ.
    pub fn detector(&self) -> PathBuf {
        let vocabulary = InteractionTable::published().unwrap().vocabulary().clone();
        detector(&self.at("detector"), vocabulary)
    }

    fn rmlr(&self, out: &str, more: &[&str]) -> Output {
        let (root, detector, out) = (self.folder.path(), self.at("detector"), self.at(out));
        let base =
            ["rmlr", "--data", "hico-det", "--root", path(root), "--detector", path(&detector), "--out", path(&out)];
        let own = ["--batch", "2", "--device", "cpu"];
        let epochs: &[&str] = if more.contains(&"--epochs") { &[] } else { &["--epochs", "1"] };
        hoi_train(&[&base[..], &own, epochs, more].concat())
    }
}

fn write(path: &Path, document: &Value) {
    std::fs::write(path, document.to_string()).unwrap();
}

pub fn detector(folder: &Path, vocabulary: hoi_runtime::vocabulary::Vocabulary) -> PathBuf {
    let mut settings = DetrPlan::Tiny.settings(vocabulary.object_count());
    settings.detector.backbone.stem_width = 8;
    settings.detector.width = 32;
    settings.detector.feed_forward = 64;
    settings.detector.decoder_layers = 1;
    settings.detector.encoder_layers = 1;
    settings.augmentation = Augmentation::exact(Size::new(SIDE, SIDE), 0.5);
    let model = DetrModel::new(settings, vocabulary, Device::Cpu).unwrap();
    // Other tests draw from libtorch's one generator at the same time: all weights come from one of their own.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut variables: Vec<(String, Tensor)> = model.store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::no_grad(|| {
        for (name, mut variable) in variables {
            let size = variable.size();
            if name == "class_embed.bias" {
                // Persons and bicycles, and hardly anything else.
                let _ = variable.fill_(-8.0);
                let _ = variable.narrow(0, 0, 2).fill_(8.0);
            } else if size.len() > 1 {
                let spread = match name.as_str() {
                    "query_embed.weight" => 17.0,
                    "class_embed.weight" => 1.7,
                    n if n.starts_with("bbox_embed") => 0.9,
                    _ => (3.0 / size[1..].iter().product::<i64>() as f32).sqrt(),
                };
                let values: Vec<f32> = (0..variable.numel()).map(|_| rng.random_range(-spread..spread)).collect();
                variable.copy_(&Tensor::from_slice(&values).view(&size[..]));
            } else if name.ends_with("bias") {
                let _ = variable.fill_(0.0);
            }
        }
    });
    std::fs::create_dir_all(folder).unwrap();
    model.save(folder, json!({"data": "none: random weights"})).unwrap();
    folder.to_owned()
}

pub fn done(output: Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap()
}

pub fn refused(output: Output, expected: &[&str]) {
    let error = text(&output.stderr);
    assert!(!output.status.success(), "{expected:?}");
    for part in expected {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn live_training_writes_predictions_that_score_accepts() {
    let photos = Photos::write();
    photos.detector();
    let line = done(photos.rmlr("out", &["--row", "without-cl", "--json"]));
    assert_eq!(line["data"], "HICO-DET, 4 images of the training split");
    assert_eq!((&line["pictures"], &line["skipped"]), (&json!(3), &json!(0)));
    let file = photos.at("out/predictions.jsonl");
    let lines: Vec<Value> =
        std::fs::read_to_string(&file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|l| l["image"].as_str().unwrap()).collect();
    assert_eq!(names, [name("test", 1), name("test", 2), name("test", 3)]);
    assert!(
        lines.iter().map(|l| l["triplets"].as_array().unwrap().len()).sum::<usize>() > 3,
        "the detector finds pairs"
    );

    // The command that it names, word for word, gives the figure that it gave.
    let command = line["score_command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--json"]).collect();
    let score = done(hoi_train(&words));
    assert_eq!(score["images_with_predictions"], 3);
    assert_eq!(score["default"]["full"], line["scores"]["default"]["full"]);

    // Parts of the training pictures, with the full plan's augmentation; what is kept back is not learned from.
    let line = done(photos.rmlr("five", &["--row", "plain", "--fraction", "5", "--json"]));
    assert_eq!(line["data"], "HICO-DET, 3 images of the training split, 5 %");
    let line = done(photos.rmlr("unseen", &["--row", "plain", "--zero-shot", "rf-uc", "--json"]));
    assert_eq!(line["data"], "HICO-DET, 3 images of the training split, without the unseen interactions of rf-uc");
    assert!(line["zero_shot"]["seen"].is_number(), "{line}");
    refused(photos.rmlr("six", &["--fraction", "6"]), &["6", "[5, 15, 25, 50]"]);
    refused(photos.rmlr("split", &["--zero-shot", "rare"]), &["rare", "rf-uc"]);
}

#[test]
fn a_corrupt_picture_is_counted_or_named() {
    let photos = Photos::write();
    photos.detector();
    let bad = name("train", photos.numbers[1]);
    std::fs::write(photos.at("train2015").join(&bad), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    refused(photos.rmlr("strict", &["--row", "without-cl"]), &[&bad, "0 bad pictures are tolerated"]);
    let line = done(photos.rmlr("lenient", &["--row", "without-cl", "--skip-limit", "1", "--json"]));
    assert_eq!((&line["skipped"], &line["skipped_scored"]), (&json!(1), &json!(0)));
    let csv = std::fs::read_to_string(photos.at("lenient/log.csv")).unwrap();
    let column = csv.lines().next().unwrap().split(',').position(|c| c == "skipped").unwrap();
    assert_eq!(csv.lines().nth(1).unwrap().split(',').nth(column), Some("1"));

    // From a cache: passed over in both copies; a bad picture of the test split is one too many.
    let cache = photos.at("cache");
    let cached = ["--row", "without-cl", "--skip-limit", "1", "--cache", path(&cache), "--json"];
    assert_eq!(done(photos.rmlr("cached", &cached))["skipped"], 1);
    let bad = name("test", 2);
    std::fs::write(photos.at("test2015").join(&bad), b"nothing").unwrap();
    refused(photos.rmlr("test", &["--row", "without-cl", "--skip-limit", "1"]), &[&bad]);
}

#[test]
fn what_cannot_be_used_is_named() {
    let photos = Photos::write();
    photos.detector();
    refused(
        photos.rmlr("text", &["--text-encoder", "no-such-folder"]),
        &["loading the text encoder", "no-such-folder"],
    );
    refused(photos.rmlr("each", &["--score-each-epoch"]), &["--score-each-epoch is for rendered scenes"]);

    let started = photos.rmlr("run", &["--row", "without-cl", "--epochs", "2", "--stop-after", "1"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    assert!(!photos.at("run/predictions.jsonl").exists(), "half a training predicts nothing");
    let resume = ["--row", "without-cl", "--epochs", "2", "--resume"];
    refused(photos.rmlr("run", &[&resume[..], &["--reasoning-layers", "2"]].concat()), &["reasoning_layers"]);
    let resumed = photos.rmlr("run", &resume);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert!(photos.at("run/predictions.jsonl").is_file());

    let table = InteractionTable::published().unwrap();
    let mut spec = table.vocabulary().spec().clone();
    spec.objects.truncate(2);
    spec.valid.retain(|object, _| spec.objects.contains(object));
    detector(&photos.at("detector"), hoi_runtime::vocabulary::Vocabulary::new(spec).unwrap());
    refused(photos.rmlr("other", &["--row", "without-cl"]), &["another vocabulary", "2 classes against 80"]);
}

#[test]
fn v_coco_predictions_are_action_roles() {
    let vocabulary = hoi_trainer::dataset::v_coco::vocabulary(hoi_trainer::dataset::v_coco::ActionRoles::WithoutPoint);
    let vocabulary = vocabulary.unwrap();
    let numbers = verb_numbers(&vocabulary);
    assert_eq!((numbers.len(), numbers[5].len(), numbers[5][7]), (80, 24, Some(7)));
    let cut = vocabulary.verb("cut instr").unwrap();
    let human = hoi_runtime::geometry::BBox::new(1., 2., 3., 4.);
    let object = hoi_runtime::geometry::BBox::new(5., 6., 7., 8.);
    let found = [hoi_trainer::eval::interactions::TripletPrediction {
        human,
        object,
        interaction: usize::from(cut.0),
        score: 0.25,
    }];
    let roles = role_predictions(&found, &vocabulary);
    assert_eq!(roles.len(), 1);
    assert_eq!((roles[0].verb.name().as_str(), roles[0].role, roles[0].score), ("cut instr", Some(object), 0.25));
}

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: ../shared/data/{name} is not there");
        return None;
    }
    Some(path)
}

fn gunzip(path: &Path) -> Value {
    serde_json::from_reader(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())).unwrap()
}

/// The photos' rows of UPT's files, as training and as test split.
fn eight_photos(data: &Path, root: &Path) {
    let listed: Value = serde_json::from_slice(&std::fs::read(data.join("images/annotations.json")).unwrap()).unwrap();
    let wanted: BTreeSet<&str> =
        listed["images"].as_array().unwrap().iter().map(|i| i["vcoco_file_name"].as_str().unwrap()).collect();
    let mut document = json!({"annotations": [], "images": []});
    for split in ["trainval", "test"] {
        let all = gunzip(&data.join(format!("instances_vcoco_{split}.json.gz")));
        for key in ["classes", "objects"] {
            document[key] = all[key].clone();
        }
        let rows = all["annotations"].as_array().unwrap().iter().zip(all["images"].as_array().unwrap());
        for (row, id) in rows.filter(|(row, _)| wanted.contains(row["file_name"].as_str().unwrap())) {
            document["annotations"].as_array_mut().unwrap().push(row.clone());
            document["images"].as_array_mut().unwrap().push(id.clone());
        }
    }
    assert_eq!(document["images"].as_array().unwrap().len(), 8);
    for split in ["trainval", "test"] {
        write(&root.join(format!("instances_vcoco_{split}.json")), &document);
    }
}

/// A bundle with DEIM as its detector and the built-in head.
fn deim_bundle(onnx: &Path, folder: &Path) {
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/detectors/deimv2_femto_416.json");
    let description: Value = serde_json::from_slice(&std::fs::read(description).unwrap()).unwrap();
    let spec: DetectorSpec = serde_json::from_value(description["detector"].clone()).unwrap();
    let record: TrainingRecord = serde_json::from_value(description["training"].clone()).unwrap();
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    let old = std::mem::replace(&mut parts.manifest.detector, spec);
    parts.files.remove(&old.file);
    parts.manifest.precision.remove(&old.file);
    let file = parts.manifest.detector.file.clone();
    parts.files.insert(file.clone(), std::fs::read(onnx).unwrap());
    parts.manifest.precision.insert(file, "f32".into());
    parts.manifest.training.retain(|t| t.part != "detector");
    parts.manifest.training.push(record);
    write_bundle(folder, parts).unwrap();
}

#[test]
fn a_head_learns_from_a_bundles_detector_on_photos() {
    let (Some(onnx), Some(data)) = (shared("weights/deimv2_femto_416.onnx"), shared("v-coco")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    eight_photos(&data, root);
    let base = root.join("deim");
    deim_bundle(&onnx, &base);
    let (images, cache, out) = (data.join("images"), root.join("cache"), root.join("out"));
    let arguments =
        ["rmlr", "--data", "v-coco", "--root", path(root), "--images", path(&images), "--detector", path(&base)];
    let own = ["--row", "without-cl", "--epochs", "30", "--batch", "4", "--device", "cpu", "--json"];
    let places = ["--cache", path(&cache), "--out", path(&out)];
    let line = done(hoi_train(&[&arguments[..], &own, &places].concat()));
    assert_eq!((&line["pictures"], &line["dropped_detections"]), (&json!(8), &json!(0)));

    let csv = std::fs::read_to_string(out.join("log.csv")).unwrap();
    let column = csv.lines().next().unwrap().split(',').position(|c| c == "loss").unwrap();
    let losses: Vec<f64> = csv.lines().skip(1).map(|l| l.split(',').nth(column).unwrap().parse().unwrap()).collect();
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let (first, last) = (mean(&losses[..3]), mean(&losses[27..]));
    assert!(last < 0.6 * first, "from {first} to {last}");
    let written = std::fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    assert_eq!(written.lines().count(), 8);
    assert!(
        written.contains("\"verb\":\"hold obj\"") && line["score_command"].as_str().unwrap().contains("--split test")
    );

    // The board's program says of a photo what the trainer wrote.
    let bundle = ModelBundle::load(&out.join("bundle")).unwrap();
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::new(1)).unwrap();
    let photo = image::open(images.join("000000000165.jpg")).unwrap().into_rgb8();
    let frame = Frame { pixels: photo, source: "file://000000000165.jpg".into(), index: 0, decode_ms: 0.0 };
    let result = pipeline.run(&frame).unwrap();
    let best = &result.triplets[0];
    let predicted: Value = written
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .find(|l| l["image"].as_str().unwrap().ends_with("000000000165.jpg"))
        .unwrap();
    let scores = predicted["triplets"].as_array().unwrap().iter().map(|t| t["score"].as_f64().unwrap());
    let top = scores.fold(0.0, f64::max);
    assert!((f64::from(best.score) - top).abs() < 2e-3, "{} {top}", best.score);
    let vocabulary = pipeline.vocabulary();
    assert_eq!(vocabulary.verb_count(), 24);
    assert!(vocabulary.verb_name(best.verb).is_some());
}
