//! Weakly-HOI on data sets with CLIP: a few pictures in HICO-DET's and V-COCO's files, and the tiny CLIP of `trainer/reference/clip`.

use std::path::{Path, PathBuf};
use std::process::Output;

use hoi_runtime::geometry::Size;
use hoi_trainer::dataset::PictureSet;
use hoi_trainer::dataset::augment::{Augmentation, Resize};
use hoi_trainer::dataset::hico_det::{COCO_80, HicoDet, HicoDetPictures};
use hoi_trainer::dataset::loader::{LoaderOptions, batches};
use hoi_trainer::dataset::proposals::{ProposalFile, ProposalRule};
use hoi_trainer::dataset::v_coco::ActionRoles;
use hoi_trainer::network::clip::{Clip, MEAN, STANDARD_DEVIATION};
use hoi_trainer::network::weights::StateDict;
use hoi_trainer::system::rmlr::FrozenDetector;
use hoi_trainer::system::weakly_hoi::{
    InteractionTable, MapNetwork, Pooling, ProposedMaps, ProposedPictures, Proposer, SelfTaught, WeakBatch,
    WeakExample, WeaklyConfig, WeaklyModel, WeaklyRow, WeaklyShape, load_model,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::command::{hoi_train, path, text};
use crate::network::largest_difference;
use crate::rmlr_photos::{Photos, SIDE, boxes, done, name, refused};

/// The residual CLIP of the reference, with the sizes of heads that its weights do not say.
fn clip(folder: &Path) -> PathBuf {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/clip/resnet");
    let clip = folder.join("clip");
    std::fs::create_dir_all(&clip).unwrap();
    for name in ["model.safetensors", "bpe_simple_vocab_16e6.txt"] {
        std::fs::copy(reference.join(name), clip.join(name)).unwrap();
    }
    let settings = json!({"model_cfg": {"quick_gelu": true, "vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 2, "width": 16}}});
    std::fs::write(clip.join("open_clip_config.json"), settings.to_string()).unwrap();
    clip
}

/// Both boxes of a picture and a smaller person, as a detector could have them; 0-based, right and bottom exclusive.
fn line(image: &str, i: u32) -> String {
    let (human, object) = boxes(i);
    let corners = |b: [u32; 4]| [b[0] - 1, b[1] - 1, b[2], b[3]];
    let detection = |class: &str, bbox: [u32; 4], score: f64| json!({"class": class, "box": bbox, "score": score});
    let detections = [
        detection("person", corners(human), 0.9),
        detection("bicycle", corners(object), 0.8),
        detection("person", [60, 2, 90, 60], 0.3),
        detection("zebra crossing", [0, 0, 9, 9], 0.3),
    ];
    json!({"image": image, "detections": detections}).to_string()
}

/// HICO-DET's pictures with proposals and CLIP.
struct Weak {
    photos: Photos,
    clip: PathBuf,
}

impl Weak {
    fn write() -> Self {
        let photos = Photos::write();
        let train = (0..).zip(&photos.numbers).map(|(i, &n)| line(&name("train", n), i));
        let lines: Vec<String> = train.chain((0..3).map(|i| line(&name("test", u64::from(i) + 1), i + 5))).collect();
        std::fs::write(photos.at("proposals.jsonl"), lines.join("\n")).unwrap();
        let clip = clip(photos.folder.path());
        Self { photos, clip }
    }

    fn weakly(&self, out: &str, more: &[&str]) -> Output {
        let at = |name: &str| self.photos.at(name);
        let (root, proposals, out) = (at(""), at("proposals.jsonl"), at(out));
        let base = ["weakly", "--data", "hico-det", "--root", path(&root), "--proposals", path(&proposals)];
        let own = ["--clip-model", path(&self.clip), "--short-side", "64", "--batch", "2", "--device", "cpu"];
        let length: &[&str] =
            if more.contains(&"--epochs") || more.contains(&"--iterations") { &[] } else { &["--iterations", "4"] };
        hoi_train(&[&base[..], &own, &["--out", path(&out), "--json"], length, more].concat())
    }

    fn losses(&self, out: &str) -> Vec<f64> {
        let csv = std::fs::read_to_string(self.photos.at(out).join("log.csv")).unwrap();
        let column = csv.lines().next().unwrap().split(',').position(|c| c == "loss").unwrap();
        csv.lines().skip(1).map(|l| l.split(',').nth(column).unwrap().parse().unwrap()).collect()
    }
}

fn scored(line: &Value) -> Value {
    let words: Vec<&str> = line["score_command"].as_str().unwrap().split(' ').skip(1).chain(["--json"]).collect();
    done(hoi_train(&words))
}

#[test]
fn clip_learns_with_the_rest_and_predictions_are_scored() {
    let weak = Weak::write();
    let line = done(weak.weakly("out", &["--backbone-rate", "1e-3", "--relatedness-after", "0"]));
    assert_eq!(line["data"], "HICO-DET, 4 images of the training split");
    assert_eq!((&line["pictures"], &line["without_proposals"]), (&json!(3), &json!(0)));
    // 4 iterations of 2 pictures are two epochs of 4.
    let losses = weak.losses("out");
    assert!(losses.len() == 2 && losses.iter().all(|l| l.is_finite() && *l > 0.0), "{losses:?}");
    let score = scored(&line);
    assert_eq!(score["images_with_predictions"], 3);
    assert_eq!(score["default"]["full"], line["scores"]["default"]["full"]);
    // Persons with the bicycle, by every verb that goes with one and by none (`no_interaction`), and the two persons with each other.
    let verbs_of = |class: &str| {
        let table = hoi_trainer::dataset::hico_det::InteractionTable::published().unwrap();
        table.vocabulary().valid_verbs(table.vocabulary().object(class).unwrap()).len()
    };
    assert_eq!(score["triplets"].as_u64().unwrap() as usize, 3 * (2 * verbs_of("bicycle") + 2 * verbs_of("person")));

    // The backbone has moved, its norms and the pooling that it does not use have not; and the model can be read.
    let (model, ..) = load_model(&weak.photos.at("out"), Device::Cpu).unwrap();
    let (trained, before) = (model.store.variables(), StateDict::read(&weak.clip.join("model.safetensors")).unwrap());
    let moved =
        |own: &str, theirs: &str| largest_difference(&trained[own], &before.tensors()[theirs].to_kind(Kind::Float));
    assert!(moved("backbone.layer2.0.conv1.weight", "visual.layer2.0.conv1.weight") > 1e-5);
    assert!(moved("pool.v_proj.weight", "visual.attnpool.v_proj.weight") > 1e-6);
    for kept in ["layer2.0.bn1.weight", "layer2.0.bn1.running_mean", "attnpool.v_proj.weight"] {
        assert_eq!(moved(&format!("backbone.{kept}"), &format!("visual.{kept}")), 0.0, "{kept}");
    }
    let out = weak.photos.at("out");
    let bundle = weak.photos.at("bundle");
    weak.photos.detector();
    let detector = weak.photos.at("detector");
    let export = ["export", "weakly", "--model", path(&out), "--detector", path(&detector), "--out", path(&bundle)];
    refused(hoi_train(&export), &["CLIP's, trained with it", "no bundle can hold it"]);
}

#[test]
fn a_frozen_clip_is_read_live_or_from_a_cache() {
    let weak = Weak::write();
    let still = ["--backbone-rate", "0"];
    let live = done(weak.weakly("live", &still));
    assert_eq!((&live["backbone_rate"], &live["labels_without_proposal"]), (&json!(0.0), &Value::Null));
    let cache = weak.photos.at("cache");
    let cached = [&still[..], &["--cache", path(&cache)]].concat();
    let first = done(weak.weakly("first", &cached));
    assert_eq!((&first["labels_without_proposal"], &first["pairs_cut"]), (&json!(0), &json!(0)));
    let second = done(weak.weakly("second", &cached));
    assert_eq!(first["scores"], second["scores"]);
    assert_eq!(weak.losses("first"), weak.losses("second"), "the cache says what CLIP said");
    let (model, ..) = load_model(&weak.photos.at("second"), Device::Cpu).unwrap();
    assert!(model.backbone().is_none());

    // Half of a run, and the rest.
    let half = weak.weakly("half", &[&cached[..], &["--epochs", "2", "--stop-after", "1"]].concat());
    assert!(half.status.success(), "{}", text(&half.stderr));
    assert!(!weak.photos.at("half/predictions.jsonl").exists(), "half a training predicts nothing");
    let whole = done(weak.weakly("half", &[&cached[..], &["--epochs", "2", "--resume"]].concat()));
    assert_eq!(whole["scores"], first["scores"], "--iterations 4 are 2 epochs");
    let written = |out: &str| std::fs::read_to_string(weak.photos.at(out).join("predictions.jsonl")).unwrap();
    assert_eq!(written("half"), written("first"));
}

#[test]
fn rows_of_table_3_run() {
    let weak = Weak::write();
    for row in ["abl1", "abl3", "abl4"] {
        let line = done(weak.weakly(row, &["--row", row, "--iterations", "2"]));
        assert_eq!((&line["backbone_rate"], scored(&line)["images_with_predictions"].as_u64()), (&json!(0.0), Some(3)));
        let losses = weak.losses_or_none(row);
        assert_eq!(losses.is_empty(), row == "abl1", "{row}: {losses:?}");
        assert!(losses.iter().all(|l| l.is_finite()));
    }
    refused(
        weak.weakly("moving", &["--row", "abl3", "--backbone-rate", "1e-5"]),
        &["compares with CLIP as it is", "--backbone-rate 0"],
    );
    refused(weak.weakly("cached", &["--cache", "cache"]), &["--cache keeps maps", "--backbone-rate 0"]);
}

#[test]
fn what_cannot_be_used_is_named() {
    let weak = Weak::write();
    let bad = name("train", weak.photos.numbers[1]);
    std::fs::write(weak.photos.at("train2015").join(&bad), b"\x89PNG\r\n\x1a\nnothing").unwrap();
    refused(weak.weakly("strict", &["--backbone-rate", "0"]), &[&bad, "0 "]);
    let line = done(weak.weakly("lenient", &["--backbone-rate", "0", "--skip-limit", "3"]));
    assert_eq!((&line["skipped"], &line["skipped_scored"]), (&json!(2), &json!(0)), "once in each epoch");

    let (root, proposals, out) = (weak.photos.at(""), weak.photos.at("proposals.jsonl"), weak.photos.at("x"));
    let base = ["weakly", "--data", "hico-det", "--root", path(&root), "--out", path(&out), "--device", "cpu"];
    let with = |more: &[&str]| hoi_train(&[&base[..], more].concat());
    refused(
        with(&["--proposals", path(&proposals)]),
        &["nothing is named that reads pictures", "--clip-model CHECKPOINT"],
    );
    let (no_set, row) =
        (["weakly", "--root", path(&root), "--out", path(&out)], ["--row", "abl1", "--stanford40", "x"]);
    refused(hoi_train(&no_set), &["--root is the folder of a data set", "--data hico-det"]);
    refused(
        hoi_train(&[&["weakly", "--out", path(&out)], &row[..]].concat()),
        &["`prompts alone`", "HICO-DET and V-COCO only"],
    );
    let vit = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/clip/vit");
    refused(with(&["--proposals", path(&proposals), "--clip-model", path(&vit)]), &["is a vision transformer", "RN50"]);
    let other = weak.photos.at("other.jsonl");
    std::fs::write(&other, line_of_nobody()).unwrap();
    refused(
        with(&["--proposals", path(&other), "--clip-model", path(&weak.clip), "--short-side", "64"]),
        &["no line for any of 4 pictures", "as HICO_train2015_"],
    );
}

fn line_of_nobody() -> String {
    line("nobody.jpg", 0)
}

impl Weak {
    fn losses_or_none(&self, out: &str) -> Vec<f64> {
        if self.photos.at(out).join("log.csv").exists() { self.losses(out) } else { Vec::new() }
    }
}

#[test]
fn v_coco_is_predicted_by_roles() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let classes: Vec<String> = ActionRoles::WithoutPoint.list().into_iter().map(|role| role.name()).collect();
    let ride = classes.iter().position(|c| c == "ride instr").unwrap();
    let objects: Vec<&str> = ["background"].into_iter().chain(COCO_80).collect();
    let mut lines = Vec::new();
    for (split, first) in [("trainval", 1u32), ("test", 11)] {
        let rows: Vec<(String, u32)> = (first..first + 3).map(|n| (format!("COCO_val2014_{n:012}.jpg"), n)).collect();
        let annotations: Vec<Value> = rows
            .iter()
            .map(|(name, n)| {
                let (human, object) = boxes(*n);
                json!({"boxes_h": [human], "boxes_o": [object], "actions": [ride], "objects": [2], "file_name": name})
            })
            .collect();
        let images: Vec<u32> = rows.iter().map(|row| row.1).collect();
        let document = json!({"annotations": annotations, "classes": classes, "objects": objects, "images": images});
        std::fs::write(root.join(format!("instances_vcoco_{split}.json")), document.to_string()).unwrap();
        for (name, n) in &rows {
            let picture = image::RgbImage::from_fn(SIDE + 8, SIDE, |x, y| image::Rgb([x as u8, y as u8, *n as u8]));
            picture.save_with_format(root.join(name), image::ImageFormat::Png).unwrap();
            lines.push(line(name, *n));
        }
    }
    let (proposals, clip, out) = (root.join("proposals.jsonl"), clip(root), root.join("out"));
    std::fs::write(&proposals, lines.join("\n")).unwrap();
    let line = done(hoi_train(&[
        "weakly",
        "--data",
        "v-coco",
        "--root",
        path(root),
        "--proposals",
        path(&proposals),
        "--clip-model",
        path(&clip),
        "--short-side",
        "64",
        "--epochs",
        "1",
        "--batch",
        "2",
        "--device",
        "cpu",
        "--json",
        "--out",
        path(&out),
    ]));
    assert_eq!((&line["pictures"], &line["backbone_rate"]), (&json!(3), &json!(1e-5)));
    assert!(line["score_command"].as_str().unwrap().ends_with("--split test"), "{line}");
    let written = std::fs::read_to_string(out.join("predictions.jsonl")).unwrap();
    assert!(written.lines().count() == 3 && written.contains("\"verb\":\"ride instr\""), "{written}");
}

fn normalised(picture: &image::RgbImage) -> Tensor {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    let pixels = Tensor::from_slice(picture.as_raw()).to_kind(Kind::Float).view([height, width, 3]).permute([2, 0, 1]);
    let channel = |list: [f32; 3]| Tensor::from_slice(&list).view([3, 1, 1]);
    ((pixels / 255.0 - channel(MEAN)) / channel(STANDARD_DEVIATION)).unsqueeze(0)
}

/// What the network sees at its start is CLIP: the map of a picture, and the pooled feature of the whole of it.
#[test]
fn at_the_start_the_picture_has_clips_own_feature() {
    let weak = Weak::write();
    let clip = Clip::load(&weak.clip, Device::Cpu).unwrap();
    let data = HicoDet::open(weak.photos.folder.path()).unwrap();
    let set = HicoDetPictures::new(data.test().unwrap(), data.table().clone(), weak.photos.folder.path());
    let vocabulary = set.vocabulary().clone();
    let file = ProposalFile::read(&weak.photos.at("proposals.jsonl"), &vocabulary).unwrap();
    let proposer = Proposer::File(Box::new(file));
    let names: Vec<PathBuf> = (0..set.len()).map(|i| set.name(i).into()).collect();
    let proposals = proposer.for_photos(&names, vocabulary.human(), ProposalRule::default()).unwrap();
    let pictures = ProposedPictures::new(&set, proposals);
    let network = MapNetwork::Clip(clip.visual().resnet().unwrap());
    let maps = ProposedMaps { pictures: &pictures, network, device: Device::Cpu };
    let see = |resize, flip| {
        let augmentation = Augmentation { flip, resize, ..Augmentation::test() };
        let options = LoaderOptions { batch: 3, threads: 2, seed: 0, epoch: 0, shuffle: false, skip_limit: 0 };
        let mut seen = Vec::new();
        batches::<hoi_trainer::system::rmlr::DetectError>(&pictures, &[0, 1, 2], &augmentation, &options, |batch| {
            seen = maps.detect(&batch)?;
            Ok(())
        })
        .unwrap();
        seen
    };
    let seen = see(Resize::Exact(Size::new(SIDE, SIDE)), 0.0);
    let raw: Vec<Tensor> = (0..3).map(|i| normalised(&set.open(i).unwrap().pixels)).collect();
    let by_hand = clip.visual().resnet().unwrap().map(&Tensor::cat(&raw, 0));
    for (i, picture) in seen.iter().enumerate() {
        assert!(largest_difference(&picture.feature, &by_hand.get(i as i64)) < 1e-4);
        // The zebra crossing is no class of the set.
        assert_eq!(
            picture.entities.iter().map(|e| (e.class.0, e.score)).collect::<Vec<_>>(),
            [(0, 0.9), (0, 0.3), (1, 0.8)]
        );
    }
    let (human, _) = boxes(5);
    let own = seen[0].entities[0].bbox;
    assert_eq!([own.x1, own.y1, own.x2, own.y2], [human[0] - 1, human[1] - 1, human[2], human[3]].map(|x| x as f32));
    // Mirrored, and 80 pixels wide: the last column of cells lies half beyond the picture.
    let mirrored = &see(Resize::Exact(Size::new(80, 64)), 1.0)[0];
    assert_eq!((mirrored.feature.size(), mirrored.covered), (vec![64, 2, 3], Size::new(96, 64)));
    let (left, scale) = (mirrored.entities[0].bbox.x1, 80.0 / SIDE as f32);
    assert!((left - scale * (SIDE - human[2]) as f32).abs() < 1e-3, "{left}");

    let sizes = clip.visual().resnet().unwrap();
    let rows = InteractionTable::of(&vocabulary).len() as i64;
    let shape = WeaklyShape {
        map_channels: sizes.channels(),
        tokens: 0,
        width: 12,
        pool_heads: 8,
        pool_grid: 3,
        verbs: vocabulary.verb_count() as i64,
        interactions: rows,
    };
    let model = |row: WeaklyRow| {
        let config = WeaklyConfig {
            shape: shape.clone(),
            pooling: Pooling::Attention,
            dropout: 0.0,
            parts: row.parts(),
            bank: row.bank(),
            encoder: "clip".into(),
            self_taught: SelfTaught::default(),
            exclusive: false,
            backbone: None,
        };
        let bank = (Tensor::arange(rows * 12, (Kind::Float, Device::Cpu)) * 0.37).sin().view([rows, 12]);
        let model = WeaklyModel::new(&config, &vocabulary, &bank, 0, Device::Cpu);
        let visual = StateDict::read(&weak.clip.join("model.safetensors")).unwrap().part("visual.");
        let kept = visual.tensors().iter().filter(|(n, _)| n.starts_with("attnpool."));
        let visual = StateDict::new(&weak.clip, kept.map(|(n, t)| (n.clone(), t.shallow_clone())).collect::<Vec<_>>());
        model.start_at_clip(&visual, 4.0).unwrap();
        (model, bank)
    };
    let expected = clip.encode_image(&Tensor::cat(&raw, 0));
    let examples: Vec<WeakExample> = see(Resize::Exact(Size::new(SIDE, SIDE)), 0.0)
        .into_iter()
        .map(|picture| WeakExample::new(picture, Vec::new(), &vocabulary))
        .collect();
    let batch = WeakBatch::new(&examples.iter().collect::<Vec<_>>(), Device::Cpu);
    let (started, _) = model(WeaklyRow::Abl4);
    let teacher = started.network.forward(&batch, false).teacher.unwrap();
    assert!(largest_difference(&teacher, &expected) < 1e-5 * expected.abs().max().double_value(&[]).max(1.0));
    assert_eq!(started.store.variables()["started.scale"].double_value(&[]), 4.0);
    let (full, bank) = model(WeaklyRow::Full);
    let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true);
    let logits = unit(&expected).matmul(&unit(&bank).tr()) / 0.07;
    let found = full.network.forward(&batch, false).image.unwrap();
    assert!(largest_difference(&found, &logits) < 1e-3, "s_g is CLIP's cosine at the starting temperature");
}
