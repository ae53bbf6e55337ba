//! RmLR from the trainer's folders to the board: what `hoi-train export rmlr` writes says of scenes and a photo what the networks say in
//! libtorch, by the very code that trains and scores them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::Parser as _;
use hoi_runtime::bundle::{BundleParts, ModelBundle, sha256_hex, write_bundle};
use hoi_runtime::detector::{Detection, Detector, ENTITY_TOKENS};
use hoi_runtime::engine::{Tensor as Value, TractEngine};
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::interaction::InteractionHead;
use hoi_runtime::pairing::{Bounds, PairingSpec, pair_entities, select_entity_indices};
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{Frame, ImageLimits, open_image};
use hoi_runtime::vocabulary::Vocabulary;
use hoi_tests::photos;
use hoi_trainer::cli::Cli;
use hoi_trainer::dataset::augment::{Augmentation, Resize};
use hoi_trainer::dataset::loader::{Batch, LoaderOptions, batches};
use hoi_trainer::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use hoi_trainer::dataset::{AnnotatedPicture, DatasetError, PictureSet};
use hoi_trainer::network::resnet::{Norm, ResNetConfig};
use hoi_trainer::system::detr::{DetrModel, DetrPlan, DetrSettings};
use hoi_trainer::system::rmlr::{
    Example, FrozenDetector, LanguageConfig, LossWeights, RmlrConfig, RmlrModel, RmlrShape, RoiPooling, predictions,
    save_model,
};
use ndarray::{Array2, Axis};
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

const TOLERANCE: f32 = 1e-4;
const INPUT: Size = Size { width: 96, height: 80 };

/// Scenes, a photo and a black picture.
struct Pictures {
    scenes: RenderedScenes,
    all: Vec<AnnotatedPicture>,
}

impl Pictures {
    fn new() -> Self {
        let config = RenderedConfig { size: Size::new(128, 112), seed: 3, split: Split::Test, count: 3 };
        let scenes = RenderedScenes::new(config).unwrap();
        let photo = open_image(&photos().join("ride_bicycles.jpg"), &ImageLimits::default()).unwrap().pixels;
        let others = [("photo", photo), ("black", image::RgbImage::new(70, 90))];
        let others = others.into_iter().zip(3..).map(|((name, pixels), number)| AnnotatedPicture {
            name: name.to_owned(),
            number,
            pixels,
            entities: Vec::new(),
            pairs: Vec::new(),
        });
        let all = (0..3).map(|i| scenes.open(i).unwrap()).chain(others).collect();
        Self { scenes, all }
    }

    fn with_batch<T>(&self, index: usize, augmentation: &Augmentation, f: impl Fn(&Batch) -> T) -> T {
        let options = LoaderOptions { batch: 1, threads: 1, seed: 0, epoch: 0, shuffle: false, skip_limit: 0 };
        let mut found = None;
        let report = batches(self, &[index], augmentation, &options, |batch| {
            found = Some(f(&batch));
            Ok::<_, Infallible>(())
        });
        assert_eq!(report.unwrap().pictures, 1);
        found.unwrap()
    }
}

impl PictureSet for Pictures {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.scenes.vocabulary()
    }

    fn name(&self, index: usize) -> String {
        self.all[index].name.clone()
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        Ok(self.all[index].clone())
    }
}

/// Moves norms and biases from where they start, and makes attention sharp enough for tokens to differ.
fn unsettle(store: &VarStore) {
    no_grad(|| {
        for (name, mut tensor) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if name.starts_with("transformer") && name.ends_with("in_proj_weight") {
                tensor.copy_(&(&tensor * 4.0));
            } else if tensor.dim() == 1 {
                tensor.copy_(&(&tensor + tensor.randn_like() * 0.2));
            }
        }
    });
}

/// libtorch's random numbers are one sequence for all threads: one test waits for the other.
fn random<T>(seed: i64, f: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    tch::manual_seed(seed);
    f()
}

fn settings(classes: usize) -> DetrSettings {
    let mut settings = DetrPlan::Tiny.settings(classes);
    settings.detector.backbone =
        ResNetConfig { depths: [1, 1, 1, 1], stem_width: 4, dilate_last: true, norm: Norm::Group(2) };
    settings.detector.width = 32;
    settings.detector.encoder_layers = 1;
    settings.detector.decoder_layers = 2;
    settings.detector.feed_forward = 48;
    settings.detector.queries = 14;
    settings.augmentation = Augmentation::exact(INPUT, 0.0);
    settings
}

/// A detector with random weights whose queries say different things: boxes all over the first scene, people and things.
fn detector(pictures: &Pictures) -> DetrModel {
    let vocabulary = pictures.vocabulary().clone();
    let model = random(1, || {
        let model = DetrModel::new(settings(vocabulary.object_count()), vocabulary, Device::Cpu).unwrap();
        unsettle(&model.store);
        model
    });
    let variable = |name: &str| model.store.variables().remove(name).unwrap();
    no_grad(|| {
        for (key, factor) in [("class_embed", 8.0), ("bbox_embed.layers.2", 40.0)] {
            let mut weight = variable(&format!("{key}.weight"));
            weight.copy_(&(&weight * factor));
            let _ = variable(&format!("{key}.bias")).fill_(0.0);
        }
        pictures.with_batch(0, &model.settings.test_augmentation(), |batch| {
            let output = model.network.forward_frozen(&batch.images, &batch.padding);
            let middle = |x: &Tensor| x.mean_dim(Some(&[0i64, 1][..]), false, None);
            variable("bbox_embed.layers.2.bias").copy_(&-middle(&output.boxes.logit(None)));
            let likely = Tensor::from_slice(&[4f32, 3., 3., 3., 3., 3., 3., 3., 0.]);
            variable("class_embed.bias").copy_(&(likely - middle(&output.logits)));
        });
    });
    model
}

/// A head with random weights, with its language side, over this detector.
fn head(detector: &DetrModel, pooling: RoiPooling) -> RmlrModel {
    let verbs = detector.vocabulary.verb_count() as i64;
    let shape = RmlrShape {
        relation_width: 24,
        relation_feed_forward: 40,
        cue: 20,
        entity: 28,
        pair: 40,
        reasoning_feed_forward: 56,
        spatial_used: false,
        pooling,
        ..RmlrShape::tiny(detector.map_channels(), detector.token_width(), verbs)
    };
    let language = LanguageConfig::beside(&shape, "none", 6);
    let config = RmlrConfig { shape, language, weights: LossWeights::default() };
    random(2, || {
        let model = RmlrModel::new(&config, 2, Device::Cpu);
        unsettle(&model.store);
        model
    })
}

/// Both models in folders, as training leaves them.
struct Trained {
    folder: tempfile::TempDir,
}

impl Trained {
    fn save(detector: &DetrModel, head: &RmlrModel, vocabulary: &Vocabulary) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder };
        for part in [made.detector(), made.head()] {
            std::fs::create_dir(part).unwrap();
        }
        let training = |data: &str| json!({"data": data, "command": format!("drawn as {data}")});
        detector.save(&made.detector(), training("random detector")).unwrap();
        let mut note = training("random head");
        note["detector"] = json!(sha256_hex(&std::fs::read(made.detector().join("model.safetensors")).unwrap()));
        note["map"] = json!(12.5);
        note["split"] = json!("validation");
        save_model(head, vocabulary, note, &made.head()).unwrap();
        made
    }

    fn detector(&self) -> PathBuf {
        self.folder.path().join("detector")
    }

    fn head(&self) -> PathBuf {
        self.folder.path().join("head")
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("scene-rmlr")
    }

    /// Runs the command.
    fn export(&self, more: &[&str]) -> Result<ModelBundle, String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let paths =
            ["--model", &text(self.head()), "--detector", &text(self.detector()), "--out", &text(self.bundle())];
        let arguments = ["hoi-train", "export", "rmlr"].iter().chain(&paths).chain(more).copied();
        let cli = Cli::try_parse_from(arguments).map_err(|e| e.to_string())?;
        cli.run().map_err(|e| format!("{e:#}"))?;
        Ok(ModelBundle::load(&self.bundle()).unwrap())
    }
}

fn close(a: f32, b: f32, tolerance: f32) -> bool {
    (a - b).abs() <= tolerance
}

fn same_box(a: &BBox, b: &BBox) -> bool {
    <[f32; 4]>::from(*a).iter().zip(<[f32; 4]>::from(*b)).all(|(x, y)| close(*x, y, 0.05))
}

/// Compares one picture; returns its pairs and triplets.
fn compare(
    bundle: &ModelBundle,
    pictures: &Pictures,
    index: usize,
    detector: &DetrModel,
    head: &RmlrModel,
) -> [usize; 2] {
    let name = pictures.name(index);
    let (vocabulary, pooling) = (pictures.vocabulary(), head.config().shape.pooling);
    let augmentation = detector.settings.test_augmentation();
    let seen =
        pictures.with_batch(index, &augmentation, |batch| FrozenDetector::detect(detector, batch).unwrap().remove(0));
    let example = Example::new(seen, &[], vocabulary, pooling);
    let logits = head.logits(&[&example]).remove(0);

    let pixels = pictures.all[index].pixels.clone();
    let picture = Size::new(pixels.width(), pixels.height());
    let engine = TractEngine::default();
    let board = Detector::load(&engine, bundle).unwrap();
    let (input, transform) = prepare(&pixels, &board.spec().input);
    let mut output = board.detect(input, &transform, picture).unwrap();
    let human = bundle.vocabulary().human();
    let chosen = select_entity_indices(&output.detections, human, &bundle.manifest().pairing);
    let entities: Vec<Detection> = chosen.iter().map(|&i| output.detections[i].clone()).collect();

    // Entities, in their order.
    let (sx, sy) = (picture.width as f32 / INPUT.width as f32, picture.height as f32 / INPUT.height as f32);
    assert_eq!(entities.len(), example.picture.entities.len(), "{name}");
    for (ours, theirs) in entities.iter().zip(&example.picture.entities) {
        assert_eq!(ours.class, theirs.class, "{name}");
        assert!(close(ours.score, theirs.score, TOLERANCE), "{name}: {ours:?} {theirs:?}");
        assert!(same_box(&ours.bbox, &theirs.bbox.scale(sx, sy)), "{name}: {ours:?} {theirs:?}");
    }
    // Pairs, in their order.
    let pairs = pair_entities(&entities, human);
    assert_eq!(pairs, example.pairs, "{name}");
    // Logits.
    for (_, tensor) in output.features.iter_mut().filter(|(n, _)| n == ENTITY_TOKENS) {
        *tensor = Value::F32(tensor.as_f32().unwrap().select(Axis(0), &chosen));
    }
    let loaded = InteractionHead::load(&engine, bundle).unwrap();
    let ours = loaded.run(&entities, &pairs, picture, &output.features).unwrap().verb_logits;
    let verbs = vocabulary.verb_count();
    let flat: Vec<f32> = logits.contiguous().view([-1]).try_into().unwrap();
    let theirs = Array2::from_shape_vec((pairs.len(), verbs), flat).unwrap();
    assert_eq!(ours.dim(), theirs.dim(), "{name}");
    let far = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far <= TOLERANCE, "{name}, {pooling:?}: logits differ by {far}");

    // Triplets of the pipeline against what is scored in training.
    let scenes = &pictures.scenes;
    let mut interactions = vec![vec![None; verbs]; vocabulary.object_count()];
    for (i, interaction) in scenes.interactions().iter().enumerate() {
        interactions[usize::from(interaction.object.0)][usize::from(interaction.verb.0)] = Some(i);
    }
    let expected: Vec<_> =
        predictions(&example, &logits, vocabulary, &interactions).into_iter().filter(|p| p.score > 0.0).collect();
    let frame = Frame { pixels, source: name.clone(), index: 0, decode_ms: 0.0 };
    let got = HoiPipeline::new(bundle, &engine).unwrap().run(&frame).unwrap();
    assert_eq!((got.detections.len(), got.triplets.len()), (entities.len(), expected.len()), "{name}");
    for want in &expected {
        let interaction = scenes.interactions()[want.interaction];
        let found = got.triplets.iter().any(|t| {
            let object = t.object.as_ref().unwrap();
            (t.verb, object.class) == (interaction.verb, interaction.object)
                && same_box(&t.human.bbox, &want.human)
                && same_box(&object.bbox, &want.object)
                && close(t.score, want.score, TOLERANCE)
        });
        assert!(found, "{name}: {want:?} is not among the pipeline's triplets");
    }
    println!("{name}, {pooling:?}: {} entities, {} pairs, logits {far:e}", entities.len(), pairs.len());
    [pairs.len(), expected.len()]
}

fn with_pairing(bundle: &ModelBundle, pairing: &PairingSpec, folder: &Path) -> ModelBundle {
    let mut parts = BundleParts::from_bundle(bundle);
    parts.manifest.pairing = pairing.clone();
    write_bundle(folder, parts).unwrap()
}

#[test]
fn an_exported_bundle_says_what_libtorch_says() {
    let pictures = Pictures::new();
    let mut detector = detector(&pictures);
    let one = Bounds { min: 1, max: 1 };
    let any = Bounds { min: 0, max: 15 };
    let many = PairingSpec::default();
    let single = PairingSpec { humans: one, objects: one, ..PairingSpec::default() };
    let alone = PairingSpec { humans: one, objects: any, min_score: 1.0, ..PairingSpec::default() };
    let none = PairingSpec { humans: any, objects: any, min_score: 1.0, ..PairingSpec::default() };
    for pooling in [RoiPooling::Enclosing, RoiPooling::Covered] {
        let head = head(&detector, pooling);
        let trained = Trained::save(&detector, &head, pictures.vocabulary());
        let bundle = trained.export(&["--licence", "none needed"]).unwrap();
        let manifest = bundle.manifest();
        assert_eq!((manifest.name.as_str(), &manifest.pairing), ("scene-rmlr", &many));
        assert_eq!(manifest.vocabulary, *pictures.vocabulary().spec());
        let records: Vec<_> = manifest.training.iter().map(|r| [&*r.part, &*r.data, &*r.licence, &*r.source]).collect();
        let record = |part| [part, "random detector", "none needed", "drawn as random detector"];
        assert_eq!(records[0], record("detector"));
        assert_eq!(records[1][..2], ["head", "random head"]);
        assert_eq!(manifest.accuracy[0].value, 12.5);
        assert_eq!(manifest.notes[0].contains("`covered`"), pooling == RoiPooling::Covered, "{}", manifest.notes[0]);
        assert!(head.store.variables().keys().any(|k| k.starts_with("text.")), "nothing to leave out");
        let graph = bundle.file(&manifest.head.file).unwrap();
        // `context.` is a part of the head.
        let text = graph.windows(8).any(|w| &w[3..] == b"text." && &w[..3] != b"con");
        assert!(!text, "the text side is in the graph");

        for (pairing, wanted) in [(&many, None), (&single, Some(1)), (&alone, Some(0)), (&none, Some(0))] {
            detector.pairing = pairing.clone();
            let changed = with_pairing(&bundle, pairing, &trained.folder.path().join("changed"));
            let mut most = [0, 0];
            for index in 0..pictures.len() {
                let [pairs, triplets] = compare(&changed, &pictures, index, &detector, &head);
                assert!(wanted.is_none_or(|w| pairs <= w), "{}: {pairs} pairs, not {wanted:?}", pictures.name(index));
                most = [most[0].max(pairs), most[1].max(triplets)];
            }
            if let Some(wanted) = wanted {
                assert_eq!(most[0], wanted, "no picture shows what this pairing gives");
            } else {
                assert!(most[0] >= 12 && most[1] >= 40, "{most:?}: too few to say anything");
            }
        }
        detector.pairing = many.clone();
    }
}

#[test]
fn what_cannot_be_exported_is_refused_with_the_way_out() {
    let pictures = Pictures::new();
    let mut detector = detector(&pictures);
    let refused = |trained: &Trained, more: &[&str], parts: &[&str]| {
        let error = trained.export(more).map(|_| ()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!trained.bundle().join("manifest.json").exists(), "{error}");
    };
    let vocabulary = pictures.vocabulary();
    let enclosing = head(&detector, RoiPooling::Enclosing);

    let map = Trained::save(&detector, &head(&detector, RoiPooling::Map), vocabulary);
    refused(&map, &[], &["`map`", "`enclosing` or `covered`"]);

    let mut other = vocabulary.spec().clone();
    other.objects.swap(1, 2);
    let trained = Trained::save(&detector, &enclosing, &Vocabulary::new(other).unwrap());
    refused(&trained, &[], &["class 1 is `ball` to the detector and `cup` to the head"]);

    let trained = Trained::save(&detector, &enclosing, vocabulary);
    refused(&trained, &["--input", "128x128"], &["96x80", "leave --input out"]);
    no_grad(|| drop(detector.store.variables().remove("class_embed.bias").unwrap().fill_(0.5)));
    detector.save(&trained.detector(), json!({})).unwrap();
    refused(&trained, &[], &["over another detector"]);

    detector.settings.augmentation.resize = Resize::ShortSide { short: 96, long: 160 };
    let trained = Trained::save(&detector, &enclosing, vocabulary);
    refused(&trained, &[], &["any size", "--input WIDTHxHEIGHT"]);
    refused(&trained, &["--input", "90x64"], &["90x64", "multiples of 16"]);
    refused(&trained, &["--input", "wide"], &["--input"]);
    let bundle = trained.export(&["--input", "64x48", "--name", "chosen", "--json"]).unwrap();
    assert_eq!(bundle.manifest().detector.input.shape, [1, 3, 48, 64]);
    assert_eq!((bundle.manifest().name.as_str(), &*bundle.manifest().training[0].licence), ("chosen", "not stated"));
}
