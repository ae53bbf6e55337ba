//! Rendered scenes, whose labels are taken as the image's alone.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::{Device, no_grad};

use super::WeaklyArguments;
use crate::cli::detected::{Detector, RenderedTruth, scene_detections};
use crate::cli::run::{command_line, write_result};
use crate::dataset::PictureSet;
use crate::dataset::rendered::{RenderedScenes, Split, used_object};
use crate::system::rmlr::{FrozenDetector, LabelledDetections, mean_percent, read_result};
use crate::system::run::{RunConfig, RunIdentity, Schedule, Trainer, holds_checkpoint};
use crate::system::weakly_hoi::{
    Pooling, WeakExample, WeaklyConfig, WeaklyModel, WeaklyShape, average_precisions, image_labels, load_model,
    prepare, save_model, text_bank, train, users,
};
use crate::text::TextEncoder;

/// Scenes to learn from, seen few times: more of them say more than more epochs.
const SCENES: usize = 6000;
/// Scenes with two persons and one used object.
const USED_SCENES: usize = 1000;
/// Their seed on each split: none that anything was trained on.
const USED_SEED: [(Split, u64); 3] = [(Split::Train, 2_000), (Split::Validation, 2_001), (Split::Test, 2_002)];

/// A scene as the method may see it: what was detected, and which interactions the picture shows.
fn weak(found: LabelledDetections, vocabulary: &Vocabulary) -> WeakExample {
    WeakExample::new(found.picture, image_labels(&found.pairs), vocabulary)
}

/// The epochs of a finished run in `trained`, whose weights a run in `folder` is to have.
fn trained_epochs(trained: &Path, folder: &Path) -> anyhow::Result<Value> {
    let shown = trained.display();
    if holds_checkpoint(folder) || folder.canonicalize().ok() == trained.canonicalize().ok() {
        bail!("--out {}: a run was trained there already: choose another folder", folder.display());
    }
    let result: Value = read_result(trained)?.with_context(|| format!("--trained {shown}: it holds no result.json"))?;
    Ok(result["epochs"].clone())
}

/// Lets `model` be what the run in `folder` trained. `training` is what the run must say of itself: data, detector and settings.
fn take_trained(model: &WeaklyModel, folder: &Path, training: &Value) -> anyhow::Result<()> {
    let shown = folder.display();
    let (trained, _, description) =
        load_model(folder, model.store.device()).with_context(|| format!("--trained {shown}"))?;
    let alike = |config: &WeaklyConfig| {
        let mut config = config.clone();
        config.parts.score_fusion = false;
        config
    };
    if alike(trained.config()) != alike(model.config()) {
        bail!("--trained {shown}: that run's row or sizes are trained otherwise; only score fusion may differ");
    }
    for (what, wanted) in training.as_object().into_iter().flatten() {
        let found = &description.training[what];
        if found != wanted {
            bail!("--trained {shown}: its {what} is {found}, and this run's {wanted}");
        }
    }
    no_grad(|| -> anyhow::Result<()> {
        let own = trained.store.variables();
        for (name, mut to) in model.store.variables() {
            to.copy_(own.get(&name).with_context(|| format!("--trained {shown}: it has no `{name}`"))?);
        }
        Ok(())
    })
}

impl WeaklyArguments {
    pub(super) fn run_rendered(self) -> anyhow::Result<()> {
        let Some(folder) = &self.detector else {
            bail!(
                "--detector DIR is missing: the folder that `hoi-train detr` wrote; or photos: --images DIR, \
                 --stanford40 DIR, --data hico-det|v-coco"
            )
        };
        if self.photos.proposals.is_some() || !self.photos.backbone.is_empty() {
            bail!("--proposals and --backbone are for photos: --images DIR, --stanford40 DIR, --data hico-det|v-coco");
        }
        let device = self.run.device()?;
        let detector = Detector::load(folder, device)?;
        let encoder = TextEncoder::load(&self.method.text_encoder, device).context("loading the text encoder")?;
        let size = detector.input()?;
        let [training, scored] = self.scenes.sets(size, SCENES)?;
        // Before anything slow: a folder that cannot be used is an error at once.
        let folder = self.run.make_folder()?;
        let epochs = self.trained.as_ref().map(|trained| trained_epochs(trained, folder)).transpose()?;
        let vocabulary = training.vocabulary();
        let threads = self.run.loader_threads();
        let get = |set: &RenderedScenes, mirrored| {
            scene_detections(&detector, set, mirrored, self.scenes.cache.as_deref(), threads, |found| {
                weak(found, vocabulary)
            })
        };
        let copies = [get(&training, false)?, get(&training, true)?];
        let held = get(&scored, false)?;
        let config = self.run.config(RunConfig {
            epochs: 7,
            batch: 16,
            learning_rate: 1e-3,
            max_gradient: 1.0,
            schedule: Schedule::Cosine { warmup: 0.05 },
            ..RunConfig::default()
        });
        let began = Instant::now();
        let bank = text_bank(&encoder, vocabulary).context("reading the prompts of the vocabulary")?;
        let shape = WeaklyShape {
            map_channels: detector.model.map_channels(),
            tokens: 0,
            width: encoder.width(),
            pool_heads: 4,
            pool_grid: 10,
            verbs: vocabulary.verb_count() as i64,
            interactions: bank.size()[0],
        };
        let model_config = self.method.config(shape, Pooling::Attention, 0.0);
        let model = WeaklyModel::new(&model_config, vocabulary, &bank, config.seed, device);
        prepare(&model, &copies[0], config.batch);
        let data = format!(
            "image-level labels of {} rendered scenes of the training split, scene seed {}",
            training.len(),
            training.config().seed
        );
        let log = match self.trained.as_ref().zip(epochs) {
            Some((trained, epochs)) => {
                if epochs.as_array().is_none_or(|all| all.len() != config.epochs) {
                    bail!("--trained {}: its run has not done all of {} epochs", trained.display(), config.epochs);
                }
                take_trained(&model, trained, &json!({"data": data, "config": config, "detector": detector.key}))?;
                epochs
            }
            None => {
                let identity = RunIdentity { system: serde_json::to_value(&model_config)?, data: data.clone() };
                let progress = self.run.progress();
                let options = self.run.options(&progress);
                let mut trainer = Trainer::start(&model.store, &[], &config, identity, &options).context("starting")?;
                train(&model, &copies, &mut trainer, &config, |_| Ok(Vec::new())).context("training")?;
                progress.finish_and_clear();
                let log = serde_json::to_value(trainer.log())?;
                trainer.keep_average();
                log
            }
        };
        let truth = RenderedTruth::new(&scored);
        let precisions = average_precisions(&model, &truth.truth(), &held).context("scoring")?;
        let seed = USED_SEED.iter().find(|s| s.0 == self.scenes.split).map_or(0, |s| s.1);
        let used = users(&model, &detector.model, &used_object(size, seed, USED_SCENES)?, vocabulary)
            .context("asking who uses an object")?;
        let uncarried: usize = copies[0].iter().map(|e| e.uncarried().len()).sum();
        let cut: usize = copies[0].iter().map(|e| e.cut).sum();
        let result = json!({
            "row": self.method.row.title(),
            "seed": config.seed,
            "split": self.scenes.split,
            "scenes": self.scenes.score_scenes,
            "map": mean_percent(&precisions),
            "users": used,
            "labels_without_proposal": uncarried,
            "pairs_cut": cut,
            "seconds": began.elapsed().as_secs_f64(),
            "epochs": log,
            "trained": self.trained,
            "command": command_line(),
        });
        let note = json!({"data": data, "command": command_line(), "config": config, "detector": detector.key,
            "map": result["map"], "split": self.scenes.split});
        save_model(&model, vocabulary, note, folder)?;
        write_result(folder, &result)?;
        self.report_rendered(&result, device)
    }

    fn report_rendered(&self, result: &Value, device: Device) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let (map, used) = (result["map"].as_f64().unwrap_or_default(), &result["users"]);
        if self.json {
            let line = json!({"out": self.run.out, "row": result["row"], "seed": result["seed"], "split": self.scenes.split,
                "map": map, "users": used, "seconds": result["seconds"], "device": format!("{device:?}")});
            writeln!(out, "{line}")?;
            return Ok(());
        }
        let name = result["row"].as_str().unwrap_or_default();
        writeln!(out, "{name}: mAP {map:.2} % on {} {} scenes", self.scenes.score_scenes, self.scenes.split.name())?;
        let scenes = used["scenes"].as_u64().unwrap_or_default().max(1) as f64;
        let percent = |key: &str| used[key].as_u64().map(|n| 100.0 * n as f64 / scenes);
        let right = percent("right").unwrap_or_default();
        let nearest = percent("nearest").unwrap_or_default();
        writeln!(
            out,
            "of two persons, the right one is chosen in {right:.1} % of {scenes} scenes (the nearest: {nearest:.1} %)"
        )?;
        if let Some(related) = percent("related") {
            writeln!(out, "by relatedness alone: {related:.1} %")?;
        }
        for (key, what) in
            [("labels_without_proposal", "labels that no proposal could carry"), ("pairs_cut", "pairs beyond the cap")]
        {
            writeln!(out, "{what}: {}", result[key])?;
        }
        Ok(())
    }
}
