//! Training learns, and a resumed run ends where an uninterrupted one does.

use std::convert::Infallible;
use std::path::Path;

use hoi_trainer::dataset::hico_det::HicoDet;
use hoi_trainer::dataset::layout::{SceneSet, Setting};
use hoi_trainer::eval::layout::{LayoutTruth, score_layout};
use hoi_trainer::system::layout::{
    CheckpointError, LayoutNetwork, Run, TrainError, TrainedLayout, TrainingConfig, load_network, train,
};
use indicatif::ProgressBar;
use tch::Device;

use crate::tiny::{IMAGES, TinyData};

pub fn config() -> TrainingConfig {
    TrainingConfig {
        epochs: 12,
        batch_images: 16,
        hidden: 32,
        embedding: 8,
        heads: 8,
        dropout: 0.0,
        merged_share: 0.0,
        learning_rate: 1e-2,
        average_decay: 0.5,
        ..TrainingConfig::default()
    }
}

pub fn run(
    data: &HicoDet,
    scenes: &SceneSet,
    config: &TrainingConfig,
    folder: &Path,
    resume: bool,
    stop_after: Option<usize>,
) -> Result<TrainedLayout, TrainError> {
    let progress = ProgressBar::hidden();
    let run = Run { folder, resume, stop_after, device: Device::Cpu, teachers: &[], progress: &progress };
    train(scenes, data.table().vocabulary(), config, &run)
}

fn refusal(result: Result<TrainedLayout, TrainError>) -> CheckpointError {
    match result.unwrap_err() {
        TrainError::Checkpoint(e) => e,
        other => panic!("{other}"),
    }
}

fn logits(network: &LayoutNetwork, scenes: &SceneSet) -> Vec<f32> {
    let draw = hoi_trainer::dataset::layout::Draw { setting: Setting::Open, seed: 9, epoch: 0, flip: false };
    (0..scenes.scenes().len())
        .flat_map(|i| {
            let sample = scenes.draw(i, &draw);
            network.logits(&sample)
        })
        .collect()
}

#[test]
fn loss_falls_and_the_verb_is_learned() {
    let tiny = TinyData::write();
    let (data, scenes) = tiny.open();
    let out = tempfile::tempdir().unwrap();
    let config = TrainingConfig { epochs: 40, ..config() };
    let trained = run(&data, &scenes, &config, out.path(), false, None).unwrap();
    let (first, last) = (trained.log[0].loss, trained.log[39].loss);
    assert!(trained.finished && last < 0.5 * first, "{first} {last}");

    let images = data.test().unwrap();
    let test = SceneSet::new(&images, data.table());
    let known = data.known_objects().unwrap();
    let truth = LayoutTruth { table: data.table(), images: &images, scenes: &test, known_objects: Some(&known) };
    let score = |network: &LayoutNetwork| {
        let scorer = |s: &hoi_trainer::dataset::layout::LayoutSample| Ok::<_, Infallible>(network.logits(s));
        score_layout(&truth, Setting::Open, 0, scorer).unwrap()
    };
    let scores = score(&trained.network);
    assert_eq!(scores.images, IMAGES);
    let untrained =
        LayoutNetwork::new(*trained.network.shape(), trained.network.standardisation().clone(), 1, Device::Cpu);
    let (after, before) = (scores.scores.default.full.unwrap(), score(&untrained).scores.default.full.unwrap());
    assert!(after > 80.0 && before < 60.0, "{before} {after}");

    let log = std::fs::read_to_string(out.path().join("log.csv")).unwrap();
    assert_eq!(log.lines().count(), 41);
}

#[test]
fn resumed_training_ends_where_uninterrupted_training_does() {
    let tiny = TinyData::write();
    let (data, scenes) = tiny.open();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = TrainingConfig { epochs: 5, dropout: 0.1, merged_share: 0.3, ..config() };
    let uninterrupted = run(&data, &scenes, &config, whole.path(), false, None).unwrap();
    let stopped = run(&data, &scenes, &config, parts.path(), false, Some(2)).unwrap();
    assert!(!stopped.finished);
    let resumed = run(&data, &scenes, &config, parts.path(), true, None).unwrap();
    assert_eq!(resumed.log.len(), 5);
    let (a, b) = (logits(&uninterrupted.network, &scenes), logits(&resumed.network, &scenes));
    let largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= 1e-6, "{largest}");
    let far = logits(&stopped.network, &scenes);
    assert!(a.iter().zip(&far).any(|(a, b)| (a - b).abs() > 1e-3), "the test would see a difference");

    // One checkpoint is left, and nothing half written.
    let mut names: Vec<_> =
        std::fs::read_dir(parts.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["checkpoint.5.safetensors", "checkpoint.json", "log.csv"]);
}

/// A student with labels of another task would go its own way; with the teacher's weight at 1 it says what the teacher says.
#[test]
fn a_student_says_what_its_teacher_says() {
    let tiny = TinyData::write();
    let (data, scenes) = tiny.open();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = TrainingConfig { epochs: 40, ..config() };
    let teacher = run(&data, &scenes, &long, first.path(), false, None).unwrap().network;
    let loaded = load_network(first.path(), Device::Cpu).unwrap();
    assert_eq!(logits(&loaded, &scenes), logits(&teacher, &scenes));

    let student = TrainingConfig { seed: 5, teacher_weight: 1.0, ..long };
    let progress = ProgressBar::hidden();
    let teachers = [loaded];
    let run = Run {
        folder: second.path(),
        resume: false,
        stop_after: None,
        device: Device::Cpu,
        teachers: &teachers,
        progress: &progress,
    };
    let student = train(&scenes, data.table().vocabulary(), &student, &run).unwrap().network;
    let untaught = LayoutNetwork::new(*student.shape(), student.standardisation().clone(), 5, Device::Cpu);
    let valid = |network: &LayoutNetwork| logits(network, &scenes);
    let distance = |a: &[f32], b: &[f32]| {
        let sigmoid = |z: f32| 1.0 / (1.0 + (-z).exp());
        a.iter().zip(b).map(|(a, b)| (sigmoid(*a) - sigmoid(*b)).abs()).sum::<f32>() / a.len() as f32
    };
    let (near, far) = (distance(&valid(&student), &valid(&teacher)), distance(&valid(&untaught), &valid(&teacher)));
    assert!(near < 0.5 * far, "{near} {far}");
    let stopped = tempfile::tempdir().unwrap();
    super::training::run(&data, &scenes, &config(), stopped.path(), false, Some(1)).unwrap();
    let error = load_network(stopped.path(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("stopped after epoch 1 of 12"), "{error}");
}

#[test]
fn checkpoints_of_other_runs_are_refused() {
    let tiny = TinyData::write();
    let (data, scenes) = tiny.open();
    let out = tempfile::tempdir().unwrap();
    let config = TrainingConfig { epochs: 3, ..config() };
    assert!(matches!(refusal(run(&data, &scenes, &config, out.path(), true, None)), CheckpointError::Absent { .. }));
    run(&data, &scenes, &config, out.path(), false, Some(1)).unwrap();
    assert!(matches!(refusal(run(&data, &scenes, &config, out.path(), false, None)), CheckpointError::Present { .. }));
    let other = TrainingConfig { learning_rate: 0.5, ..config.clone() };
    let error = refusal(run(&data, &scenes, &other, out.path(), true, None));
    assert!(error.to_string().contains("another learning_rate: 0.01, and this run has 0.5"), "{error}");

    let mut images = data.train().unwrap();
    images[0].pairs[0].human.x2 += 1.0;
    let moved = SceneSet::new(&images, data.table());
    let error = refusal(run(&data, &moved, &config, out.path(), true, None));
    assert!(matches!(&error, CheckpointError::OtherRun { what, .. } if what == "data"), "{error}");

    let tensors = out.path().join("checkpoint.1.safetensors");
    let whole = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &whole[..whole.len() / 2]).unwrap();
    let error = refusal(run(&data, &scenes, &config, out.path(), true, None));
    assert!(matches!(error, CheckpointError::Tensors { .. }), "{error}");
    std::fs::write(out.path().join("checkpoint.json"), "{").unwrap();
    let error = refusal(run(&data, &scenes, &config, out.path(), true, None));
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let tiny = TinyData::write();
    let (data, scenes) = tiny.open();
    let out = tempfile::tempdir().unwrap();
    let refused =
        |config: TrainingConfig| run(&data, &scenes, &config, out.path(), false, None).unwrap_err().to_string();
    assert!(refused(TrainingConfig { merged_share: 1.5, ..config() }).contains("merged_share is 1.5"));
    assert!(refused(TrainingConfig { heads: -1, ..config() }).contains("heads is -1"));
    assert_eq!(refused(TrainingConfig { epochs: 0, ..config() }), "epochs is 0: it must be at least 1");
    assert!(refused(TrainingConfig { learning_rate: f64::NAN, ..config() }).contains("learning_rate is NaN"));
    assert!(refused(TrainingConfig { average_decay: 1.0, ..config() }).contains("average_decay is 1"));
    let none = SceneSet::new(&[], data.table());
    let error = run(&data, &none, &config(), out.path(), false, None).unwrap_err();
    assert!(matches!(error, TrainError::NoPairs { images: 0 }), "{error}");
}
