//! The whole chain learns eight scenes by heart: detector, then head with its language side, scored against the annotation.
//!
//! A program of its own: libtorch's random numbers are one sequence for all threads, and here the result depends on them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use hoi_trainer::dataset::augment::Augmentation;
use hoi_trainer::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use hoi_trainer::dataset::{AnnotatedImage, AnnotatedPicture, DatasetError, PictureSet};
use hoi_trainer::system::detr::{DetrModel, DetrPlan, DetrTask, evaluate, train_detr};
use hoi_trainer::system::rmlr::{
    DetectError, DetectOptions, Example, FrozenDetector, LanguageConfig, LossWeights, RmlrConfig, RmlrModel, RmlrShape,
    RoiPooling, Source, TextMode, Texts, Truth, average_precisions, detect_set, mean_percent, train,
};
use hoi_trainer::system::run::{RunConfig, RunIdentity, RunOptions, Schedule, Trainer};
use hoi_trainer::text::TextEncoder;
use indicatif::ProgressBar;
use tch::Device;

const SCENES: usize = 8;
const SIZE: Size = Size { width: 96, height: 96 };
/// Steps from one checkpoint to the next.
const EPOCH_STEPS: usize = 50;

/// The scenes over and over, so that an epoch has many steps.
struct Repeated {
    vocabulary: Vocabulary,
    pictures: Vec<AnnotatedPicture>,
    times: usize,
}

impl PictureSet for Repeated {
    fn len(&self) -> usize {
        self.pictures.len() * self.times
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn name(&self, index: usize) -> String {
        self.pictures[index % self.pictures.len()].name.clone()
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        Ok(self.pictures[index % self.pictures.len()].clone())
    }
}

fn train_detector(set: &Repeated, folder: &Path) -> DetrModel {
    let mut settings = DetrPlan::Tiny.settings(set.vocabulary.object_count());
    settings.augmentation = Augmentation::exact(SIZE, 0.0);
    settings.detector.decoder_layers = 2;
    settings.detector.queries = 12;
    let run = RunConfig {
        epochs: 10,
        batch: SCENES,
        learning_rate: 1e-3,
        schedule: Schedule::Cosine { warmup: 0.05 },
        max_gradient: 0.1,
        ..RunConfig::default()
    };
    let task = DetrTask {
        training: set,
        validation: Some(set),
        score_every: 0,
        settings: &settings,
        run: &run,
        weights: None,
        data: "eight scenes",
        loader_threads: 1,
        device: Device::Cpu,
    };
    let progress = ProgressBar::hidden();
    let options = RunOptions { folder, resume: false, stop_after: None, checkpoint_every: None, progress: &progress };
    let (model, finished) = train_detr(&task, &options).unwrap();
    assert!(finished);
    model
}

fn detect(detector: &DetrModel, set: &dyn PictureSet) -> Vec<Example> {
    let progress = ProgressBar::hidden();
    let augmentation = detector.settings.test_augmentation();
    let options =
        DetectOptions { augmentation: &augmentation, batch: 16, threads: 1, skip_limit: 0, progress: &progress };
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut examples = Vec::new();
    detect_set(detector, set, &indices, &options, |found| {
        examples.push(Example::new(found.picture, &found.pairs, set.vocabulary(), RoiPooling::default()));
        Ok::<_, DetectError>(())
    })
    .unwrap();
    examples
}

fn train_head(detector: &DetrModel, set: &Repeated, folder: &Path) -> [RmlrModel; 2] {
    let verbs = set.vocabulary.verb_count() as i64;
    let shape = RmlrShape::tiny(detector.map_channels(), detector.token_width(), verbs);
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/text/bert");
    let encoder = TextEncoder::load(&encoder, Device::Cpu).unwrap();
    let language = LanguageConfig::beside(&shape, "bert", encoder.width());
    let config = RmlrConfig { shape, language, weights: LossWeights::default() };
    let copies = [detect(detector, set)];
    let all: Vec<&Example> = copies[0].iter().collect();
    let reader = Texts { encoder: &encoder, vocabulary: &set.vocabulary, mode: TextMode::Joined };
    let texts = reader.of(&all).unwrap();
    let run = RunConfig {
        epochs: 4,
        batch: SCENES,
        learning_rate: 1e-3,
        max_gradient: 1.0,
        schedule: Schedule::Cosine { warmup: 0.05 },
        ..RunConfig::default()
    };
    let model = RmlrModel::new(&config, run.seed, Device::Cpu);
    model.start_sentences(&reader).unwrap();
    let progress = ProgressBar::hidden();
    let options = RunOptions { folder, resume: false, stop_after: None, checkpoint_every: None, progress: &progress };
    let identity = RunIdentity { system: serde_json::to_value(&config).unwrap(), data: "eight scenes".to_owned() };
    let mut trainer = Trainer::start(&model.store, &[], &run, identity, &options).unwrap();
    let source = Source::Cached { copies: &copies, texts: &texts };
    train(&model, &set.vocabulary, &source, &mut trainer, &run, |_| Ok(Vec::new())).unwrap();
    assert!(trainer.finished());
    [RmlrModel::new(&config, run.seed, Device::Cpu), model]
}

#[test]
fn eight_scenes_are_learned_by_heart() {
    tch::set_num_threads(2);
    let began = Instant::now();
    let config = RenderedConfig { size: SIZE, seed: 0, split: Split::Train, count: SCENES };
    let scenes = RenderedScenes::new(config).unwrap();
    let pictures: Vec<AnnotatedPicture> = (0..SCENES).map(|i| scenes.open(i).unwrap()).collect();
    let vocabulary = scenes.vocabulary().clone();
    let set = |times| Repeated { vocabulary: vocabulary.clone(), pictures: pictures.clone(), times };
    let folder = tempfile::tempdir().unwrap();

    let detector = train_detector(&set(EPOCH_STEPS), &folder.path().join("detector"));
    let found = evaluate(&detector, &set(1), SCENES, 1).unwrap();
    println!("detector: mAP50 {:.3}, recall {:.3}, {:.0?}", found.map50, found.mean_recall, began.elapsed());
    let [fresh, trained] = train_head(&detector, &set(EPOCH_STEPS), &folder.path().join("head"));

    let images: Vec<AnnotatedImage> = (0..SCENES).map(|i| scenes.annotation(i)).collect();
    let mut interactions = vec![vec![None; vocabulary.verb_count()]; vocabulary.object_count()];
    for (i, interaction) in scenes.interactions().iter().enumerate() {
        interactions[usize::from(interaction.object.0)][usize::from(interaction.verb.0)] = Some(i);
    }
    let truth = Truth {
        vocabulary: &vocabulary,
        interactions: &interactions,
        count: scenes.interactions().len(),
        images: &images,
    };
    let held = detect(&detector, &set(1));
    let score = |model: &RmlrModel| {
        let precisions = average_precisions(&truth, &held, |chunk| model.logits(chunk)).unwrap();
        let annotated = precisions.iter().flatten().count();
        assert!(annotated >= 8, "{annotated} interactions in the scenes are too few to say anything");
        mean_percent(&precisions)
    };
    let (before, after) = (score(&fresh), score(&trained));
    let took = began.elapsed();
    println!(
        "mAP of eight scenes: {before:.1} % before, {after:.1} % after {took:.0?} (180 s are allowed on an idle machine)"
    );
    assert!(after > 90.0, "mAP {after:.1} %");
    assert!(before < 60.0, "mAP {before:.1} % without training: the score says nothing");
    assert!(took < Duration::from_secs(600), "{took:.0?}");
}
