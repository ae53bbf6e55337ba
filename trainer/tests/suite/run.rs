//! The training infrastructure with a network of one layer: what is resumed is the same, what does not fit is refused.

use std::path::Path;

use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use hoi_trainer::dataset::augment::Augmentation;
use hoi_trainer::dataset::loader::Batch;
use hoi_trainer::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use hoi_trainer::dataset::{AnnotatedPicture, DatasetError, PictureSet};
use hoi_trainer::system::run::{
    CheckpointError, EpochShape, EpochSteps, OptimizerChoice, ParameterGroup, Precision, RunConfig, RunError,
    RunIdentity, RunOptions, Schedule, StepLoss, Trainer,
};
use indicatif::ProgressBar;
use serde_json::json;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};

const SCENES: usize = 20;
const SIDE: u32 = 64;

fn scenes() -> RenderedScenes {
    let size = Size::new(SIDE, SIDE);
    RenderedScenes::new(RenderedConfig { size, seed: 3, split: Split::Train, count: SCENES }).unwrap()
}

/// Scenes of which some cannot be read.
struct Holes(RenderedScenes, &'static [usize]);

impl PictureSet for Holes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.0.vocabulary()
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        if self.1.contains(&index) {
            let source = std::io::Error::other("a hole");
            return Err(DatasetError::Read { path: self.0.name(index).into(), source });
        }
        self.0.open(index)
    }
}

fn config() -> RunConfig {
    RunConfig {
        epochs: 3,
        batch: 4,
        learning_rate: 0.05,
        max_gradient: 1.0,
        average_decay: 0.9,
        schedule: Schedule::Cosine { warmup: 0.1 },
        ..RunConfig::default()
    }
}

/// Guesses how many boxes a picture has, from its mean colours, with dropout.
struct Guess {
    store: VarStore,
    first: nn::Linear,
    last: nn::Linear,
}

impl Guess {
    fn new() -> Self {
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let first = nn::linear(store.root() / "first", 3, 4, Default::default());
        let last = nn::linear(store.root() / "last", 4, 1, Default::default());
        Self { store, first, last }
    }

    fn loss(&self, batch: &Batch, dropout: f64) -> StepLoss {
        let colours = batch.images.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        let hidden = self.first.forward(&colours).relu().dropout(dropout, true);
        let counts: Vec<f32> = batch.targets.iter().map(|t| t.entities.len() as f32).collect();
        let error = self.last.forward(&hidden).view([-1]) - Tensor::from_slice(&counts);
        let total = error.square().mean(Kind::Float);
        let absolute = error.abs().mean(Kind::Float).double_value(&[]);
        StepLoss { total, parts: vec![("absolute", absolute)] }
    }

    fn values(&self) -> Vec<(String, Vec<f32>)> {
        let mut values: Vec<_> = self
            .store
            .variables()
            .into_iter()
            .map(|(name, t)| (name, Vec::<f32>::try_from(t.detach().contiguous().view([-1])).unwrap()))
            .collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    }
}

/// How a run differs from the plain one.
#[derive(Clone, Copy, Default)]
struct Variant<'a> {
    resume: bool,
    stop_after: Option<usize>,
    checkpoint_every: Option<usize>,
    /// Fails before this batch, counted over the whole run.
    dies_at: Option<usize>,
    groups: &'a [(&'a str, f64)],
    data: &'a str,
    holes: &'static [usize],
    keep_raw: bool,
}

fn train(guess: &Guess, folder: &Path, config: &RunConfig, v: Variant<'_>) -> Result<Vec<Vec<f64>>, RunError> {
    tch::set_num_threads(1);
    let progress = ProgressBar::hidden();
    let options = RunOptions {
        folder,
        resume: v.resume,
        stop_after: v.stop_after,
        checkpoint_every: v.checkpoint_every,
        progress: &progress,
    };
    let groups: Vec<_> =
        v.groups.iter().map(|&(prefix, rate)| ParameterGroup { prefix: prefix.to_owned(), rate }).collect();
    let identity = RunIdentity { system: json!({"width": 4, "net": {"drop": 0.1}}), data: v.data.to_owned() };
    let mut trainer = Trainer::start(&guess.store, &groups, config, identity, &options)?;
    let set = Holes(scenes(), v.holes);
    let all: Vec<usize> = (0..SCENES).collect();
    let augmentation = Augmentation::exact(Size::new(32, 32), 0.5);
    let mut seen = 0;
    let per_epoch = SCENES.div_ceil(config.batch);
    let mut epoch = |epoch: &mut EpochSteps<'_>| {
        let first = epoch.number() * per_epoch + epoch.done();
        let mut here = 0;
        epoch.each_batch(&set, &all, &augmentation, 2, |batch| {
            if v.dies_at == Some(first + here) {
                return Err(RunError::Nothing { missing: "power" });
            }
            here += 1;
            seen += batch.targets.len();
            Ok(Some(guess.loss(batch, 0.1)))
        })?;
        Ok::<_, RunError>(vec![("seen", seen as f64)])
    };
    trainer.run(EpochShape::new(SCENES, config.batch), &mut epoch)?;
    let log = trainer.log();
    let rows =
        log.iter().map(|r| vec![r.loss, r.parts[0].1, r.gradient, r.pictures as f64, r.skipped as f64]).collect();
    if !v.keep_raw {
        trainer.keep_average();
    }
    Ok(rows)
}

fn refusal(result: Result<Vec<Vec<f64>>, RunError>) -> CheckpointError {
    match result.unwrap_err() {
        RunError::Checkpoint(e) => e,
        other => panic!("{other}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Weights bit by bit; the log but for the last bit, which numbers may lose in the checkpoint's text.
fn assert_same(found: (&[Vec<f64>], &Guess), wanted: (&[Vec<f64>], &Guess)) {
    assert_eq!(found.1.values(), wanted.1.values());
    assert_eq!(found.0.len(), wanted.0.len());
    for (a, b) in found.0.concat().iter().zip(wanted.0.concat()) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} {b}");
    }
}

#[test]
fn what_is_resumed_is_the_same_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Guess::new();
    let start = whole.values();
    let log = train(&whole, &folder.path().join("whole"), &config(), Variant::default()).unwrap();
    assert_eq!(log.len(), 3);
    assert!(whole.values() != start);
    assert!(log[2][0] < log[0][0], "{log:?}");

    let stopped = Guess::new();
    let out = folder.path().join("stopped");
    train(&stopped, &out, &config(), Variant { stop_after: Some(2), ..Variant::default() }).unwrap();
    let resumed = Guess::new();
    let rest = train(&resumed, &out, &config(), Variant { resume: true, ..Variant::default() }).unwrap();
    assert_same((&rest, &resumed), (&log, &whole));

    // In the middle of the second epoch: 5 batches an epoch, a checkpoint after each second, the end before the ninth.
    let out = folder.path().join("killed");
    let dead = Variant { checkpoint_every: Some(2), dies_at: Some(8), ..Variant::default() };
    assert!(matches!(train(&Guess::new(), &out, &config(), dead), Err(RunError::Nothing { missing: "power" })));
    assert_eq!(names(&out), ["checkpoint.1.2.safetensors", "checkpoint.json", "curves.png", "log.csv"]);
    let resumed = Guess::new();
    let go_on = Variant { resume: true, checkpoint_every: Some(2), ..Variant::default() };
    let rest = train(&resumed, &out, &config(), go_on).unwrap();
    assert_same((&rest, &resumed), (&log, &whole));
    // Nothing is left to do, and it stays as it is.
    train(&resumed, &out, &config(), go_on).unwrap();
    assert_eq!(resumed.values(), whole.values());

    let csv = std::fs::read_to_string(out.join("log.csv")).unwrap();
    assert!(csv.starts_with("epoch,steps,learning_rate,loss,absolute,seen,gradient"), "{csv}");
    assert_eq!(csv.lines().count(), 4);
    let curves = image::open(out.join("curves.png")).unwrap().to_rgb8();
    assert_eq!((curves.width(), curves.height()), (720, 3 * 260));
    let first_line = image::Rgb([31, 119, 180]);
    assert!(
        curves.pixels().filter(|p| **p == first_line).count() > 300,
        "each panel has its first line and its legend"
    );
}

#[test]
fn another_run_is_refused_by_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let plain = Variant { data: "twenty", ..Variant::default() };
    let resume = Variant { resume: true, ..plain };
    assert!(matches!(refusal(train(&Guess::new(), out, &config(), resume)), CheckpointError::Absent { .. }));
    train(&Guess::new(), out, &config(), Variant { stop_after: Some(1), ..plain }).unwrap();
    assert!(matches!(refusal(train(&Guess::new(), out, &config(), plain)), CheckpointError::Present { .. }));
    let slower = RunConfig { learning_rate: 0.01, ..config() };
    let text = refusal(train(&Guess::new(), out, &slower, resume)).to_string();
    assert!(text.contains("another learning_rate: 0.05, and this run has 0.01"), "{text}");
    let text = refusal(train(&Guess::new(), out, &config(), Variant { data: "thirty", ..resume })).to_string();
    assert!(text.contains("another data: twenty, and this run has thirty"), "{text}");

    let tensors = out.join("checkpoint.1.0.safetensors");
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
    let error = refusal(train(&Guess::new(), out, &config(), resume));
    assert!(matches!(&error, CheckpointError::Tensors { path, .. } if *path == tensors), "{error}");
    std::fs::write(&tensors, &bytes).unwrap();
    let state = out.join("checkpoint.json");
    let text = std::fs::read_to_string(&state).unwrap();
    for (from, to, expected) in [
        ("hoi.run-checkpoint/1", "hoi.run-checkpoint/9", "schema"),
        ("checkpoint.1.0.safetensors", "../checkpoint.1.0.safetensors", "not the name of a file beside it"),
        ("\"log\"", "\"diary\"", "diary"),
    ] {
        std::fs::write(&state, text.replace(from, to)).unwrap();
        let error = refusal(train(&Guess::new(), out, &config(), resume));
        assert!(matches!(&error, CheckpointError::Format { reason, .. } if reason.contains(expected)), "{error}");
    }
}

#[test]
fn groups_have_rates_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let guess = Guess::new();
    let start = guess.values();
    let groups = [("first.", 0.0), ("first.w", 0.0), ("last.", 0.1)];
    let v = Variant { groups: &groups, stop_after: Some(1), ..Variant::default() };
    let config = RunConfig { optimizer: OptimizerChoice::Adam, weight_decay: 0.0, ..config() };
    train(&guess, folder.path(), &config, v).unwrap();
    let end = guess.values();
    assert_eq!(start[..2], end[..2], "what is frozen stays");
    // Adam goes at most about the learning rate a step: 5 steps of 0.1 * 0.05.
    let moved = (end[2].1[0] - start[2].1[0]).abs();
    assert!(moved > 1e-4 && moved < 5.0 * 0.005, "{moved}");
    let tensors = Tensor::read_safetensors(folder.path().join("checkpoint.1.0.safetensors")).unwrap();
    assert!(tensors.iter().all(|(name, _)| name.contains("last.")), "what is frozen is not kept");
    assert_eq!(tensors.len(), 2 * 4);

    let all = [("", 0.0)];
    let nothing = train(&Guess::new(), &folder.path().join("n"), &config, Variant { groups: &all, ..v });
    assert!(matches!(nothing, Err(RunError::Nothing { missing: "parameters" })));
}

#[test]
fn two_small_batches_are_a_large_one() {
    let folder = tempfile::tempdir().unwrap();
    let result = |batch, accumulate, name: &str| {
        let guess = Guess::new();
        let config = RunConfig { batch, accumulate, average_decay: 0.0, schedule: Schedule::Constant, ..config() };
        // Without dropout, which differs between the two.
        let progress = ProgressBar::hidden();
        let out = folder.path().join(name);
        let options = RunOptions {
            folder: &out,
            resume: false,
            stop_after: Some(1),
            checkpoint_every: None,
            progress: &progress,
        };
        let identity = RunIdentity { system: json!({}), data: String::new() };
        let mut trainer = Trainer::start(&guess.store, &[], &config, identity, &options).unwrap();
        let (set, all) = (scenes(), (0..16).collect::<Vec<usize>>());
        let augmentation = Augmentation::exact(Size::new(32, 32), 0.5);
        let run = trainer.run(EpochShape::new(16, batch), |epoch| {
            epoch.each_batch(&set, &all, &augmentation, 1, |batch| Ok::<_, RunError>(Some(guess.loss(batch, 0.0))))?;
            Ok::<_, RunError>(vec![])
        });
        run.unwrap();
        assert_eq!(trainer.log()[0].steps, 2);
        guess.values()
    };
    for (large, small) in result(8, 1, "large").iter().zip(result(4, 2, "small")) {
        let largest = large.1.iter().zip(&small.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-4, "{}: {largest}", large.0);
    }
}

#[test]
fn unreadable_pictures_are_counted_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig { skip_limit: 4, ..config() };
    let v = Variant { holes: &[3, 7], stop_after: Some(2), ..Variant::default() };
    let log = train(&Guess::new(), &folder.path().join("a"), &config, v).unwrap();
    assert_eq!(log.iter().map(|r| (r[3], r[4])).collect::<Vec<_>>(), [(18.0, 2.0), (18.0, 2.0)]);
    // The third epoch has none left.
    let error =
        train(&Guess::new(), &folder.path().join("a"), &config, Variant { resume: true, stop_after: None, ..v });
    match error {
        Err(RunError::Picture { name, limit: 4, .. }) => assert!(name.contains("00000"), "{name}"),
        other => panic!("{other:?}"),
    }

    // A run that dies and goes on passes over the same pictures.
    let config = RunConfig { skip_limit: 6, ..config };
    let whole = Guess::new();
    let v = Variant { holes: &[3, 7], ..Variant::default() };
    let log = train(&whole, &folder.path().join("b"), &config, v).unwrap();
    let dead = Variant { checkpoint_every: Some(1), dies_at: Some(7), ..v };
    assert!(train(&Guess::new(), &folder.path().join("c"), &config, dead).is_err());
    let resumed = Guess::new();
    let rest = train(&resumed, &folder.path().join("c"), &config, Variant { resume: true, ..v }).unwrap();
    assert_same((&rest, &resumed), (&log, &whole));
}

#[test]
fn failures_say_where_and_leave_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let guess = Guess::new();
    train(&guess, &out, &config(), Variant { stop_after: Some(1), ..Variant::default() }).unwrap();
    let before = names(&out);

    let progress = ProgressBar::hidden();
    let options =
        RunOptions { folder: &out, resume: true, stop_after: None, checkpoint_every: None, progress: &progress };
    let identity = RunIdentity { system: json!({"width": 4, "net": {"drop": 0.1}}), data: String::new() };
    let mut trainer = Trainer::start(&guess.store, &[], &config(), identity, &options).unwrap();
    let error = trainer
        .run(EpochShape::new(SCENES, 4), |epoch| {
            epoch.step(4, || {
                let total = guess.last.ws.sum(Kind::Float) * f64::NAN;
                Ok::<_, RunError>(Some(StepLoss { total, parts: vec![] }))
            })?;
            Ok::<_, RunError>(vec![])
        })
        .unwrap_err();
    assert!(matches!(error, RunError::Diverged { what: "loss", epoch: 2, step: 1, .. }), "{error}");
    assert_eq!(names(&out), before);

    // A folder stands where the next tensors are to be written.
    std::fs::create_dir(out.join(".checkpoint.2.0.safetensors.part")).unwrap();
    let error = refusal(train(&Guess::new(), &out, &config(), Variant { resume: true, ..Variant::default() }));
    assert!(error.to_string().contains("checkpoint.2.0.safetensors"), "{error}");
    std::fs::remove_dir(out.join(".checkpoint.2.0.safetensors.part")).unwrap();
    assert_eq!(names(&out), before);
    train(&Guess::new(), &out, &config(), Variant { resume: true, ..Variant::default() }).unwrap();

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = train(&Guess::new(), &file, &config(), Variant::default()).unwrap_err();
    assert!(matches!(&error, RunError::Write(e) if e.path == file), "{error}");

    for (bad, field) in [
        (RunConfig { epochs: 0, ..config() }, "epochs"),
        (RunConfig { accumulate: 0, ..config() }, "accumulate"),
        (RunConfig { learning_rate: f64::NAN, ..config() }, "learning_rate"),
        (RunConfig { average_decay: 1.0, ..config() }, "average_decay"),
        (RunConfig { schedule: Schedule::Cosine { warmup: 1.0 }, ..config() }, "schedule.warmup"),
        (RunConfig { schedule: Schedule::Step { after: vec![1], factor: 0.0 }, ..config() }, "schedule.factor"),
    ] {
        let error = train(&Guess::new(), &folder.path().join("bad"), &bad, Variant::default()).unwrap_err();
        assert!(matches!(&error, RunError::Config { field: f, .. } if *f == field), "{error}");
    }
}

#[test]
fn the_average_is_lent_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, kept) = (Guess::new(), Guess::new());
    let v = Variant { stop_after: Some(1), keep_raw: true, ..Variant::default() };
    train(&raw, &folder.path().join("raw"), &config(), v).unwrap();
    train(&kept, &folder.path().join("kept"), &config(), Variant { keep_raw: false, ..v }).unwrap();
    assert!(raw.values() != kept.values());

    let progress = ProgressBar::hidden();
    let out = folder.path().join("raw");
    let options =
        RunOptions { folder: &out, resume: true, stop_after: None, checkpoint_every: None, progress: &progress };
    let identity = RunIdentity { system: json!({"width": 4, "net": {"drop": 0.1}}), data: String::new() };
    let again = Guess::new();
    let mut trainer = Trainer::start(&again.store, &[], &config(), identity, &options).unwrap();
    assert_eq!(again.values(), raw.values());
    assert_eq!(trainer.with_average(|| again.values()), kept.values());
    assert_eq!(again.values(), raw.values());
}

#[test]
fn schedules_by_hand() {
    // 2 epochs of 5 steps, one step of warm-up, then half a cosine over 9.
    let cosine = Schedule::Cosine { warmup: 0.1 };
    assert_eq!(cosine.factor(0, 5, 2), 1.0);
    assert_eq!(cosine.factor(1, 5, 2), 1.0);
    assert!((cosine.factor(4, 5, 2) - 0.75).abs() < 1e-12);
    let drops = Schedule::Step { after: vec![1, 3], factor: 0.1 };
    let factors = [0, 4, 5, 14, 15].map(|step| drops.factor(step, 5, 9));
    for (found, wanted) in factors.into_iter().zip([1.0, 1.0, 0.1, 0.1, 0.01]) {
        assert!((found - wanted).abs() < 1e-12, "{factors:?}");
    }
    assert_eq!(Schedule::Constant.factor(7, 5, 2), 1.0);
}

#[test]
fn in_bfloat16_weights_stay_32_bits_and_learn() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig { precision: Precision::Bf16, ..config() };
    let guess = Guess::new();
    let log = train(&guess, folder.path(), &config, Variant::default()).unwrap();
    assert!(log[2][0] < log[0][0], "{log:?}");
    assert!(guess.store.variables().values().all(|v| v.kind() == Kind::Float));
    let full = Guess::new();
    let other = tempfile::tempdir().unwrap();
    let exact = train(&full, other.path(), &self::config(), Variant::default()).unwrap();
    // The same course, but not the same bits.
    assert_ne!(exact[0][0], log[0][0]);
    assert!((exact[0][0] - log[0][0]).abs() < 0.05 * exact[0][0], "{exact:?} {log:?}");
}
