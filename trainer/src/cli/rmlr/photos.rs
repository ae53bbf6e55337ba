//! Training on HICO-DET or V-COCO, and predictions in the form that `hoi-train score` takes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::bundle::TrainingRecord;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::Device;

use super::photo_detector::PhotoDetector;
use super::{Plan, RmlrArguments};
use crate::cli::detected::{Shown, detections};
use crate::cli::photo_sets::{PREDICTIONS_FILE, PhotoChoice, PhotoData, Scores, percent, print_scores};
use crate::cli::pictures::DataChoice;
use crate::cli::run::{command_line, result_line, write_result};
use crate::dataset::augment::Augmentation;
use crate::dataset::hico_det::ZeroShotSplit;
use crate::export::{RmlrGraph, RmlrOver, write_rmlr_over};
use crate::system::rmlr::{
    BundleDetector, DetectOptions, Example, RmlrModel, RoiPooling, Source, Texts, predict_set, save_model, train,
};
use crate::system::run::{EpochRecord, RunConfig, RunIdentity, Trainer, progress_bar};

/// The bundle, where the detector is one's.
const BUNDLE_FOLDER: &str = "bundle";

#[derive(Debug, Args)]
pub(super) struct PhotoArguments {
    /// What pictures are learned from
    #[arg(long, value_enum, default_value_t = DataChoice::Rendered)]
    pub(super) data: DataChoice,
    /// Folder of the annotations
    #[arg(long, value_name = "DIR", required_if_eq_any([("data", "hico-det"), ("data", "v-coco")]))]
    pub(super) root: Option<PathBuf>,
    /// Folder of the pictures; without it, that of the annotations
    #[arg(long, value_name = "DIR", requires = "root")]
    pub(super) images: Option<PathBuf>,
    /// Learn from a part of the training split and score on the rest, not on the test split
    #[arg(long, requires = "root")]
    pub(super) holdout: bool,
    /// Learn from so many percent of the training pictures: 5, 15, 25 or 50
    #[arg(long, value_name = "PERCENT", requires = "root", value_parser = percent)]
    pub(super) fraction: Option<u32>,
    /// Learn without the pairs of interactions that this split keeps back: rf-uc, nf-uc, uc0 to uc4, uo or uv (HICO-DET)
    #[arg(long, value_name = "SPLIT", requires = "root")]
    pub(super) zero_shot: Option<ZeroShotSplit>,
}

impl PhotoArguments {
    /// Whether photos are learned from, not rendered scenes.
    pub(super) fn given(&self) -> bool {
        self.data != DataChoice::Rendered
    }

    fn choice(&self) -> PhotoChoice<'_> {
        PhotoChoice {
            data: self.data,
            root: self.root.as_deref(),
            images: self.images.as_deref(),
            holdout: self.holdout,
            fraction: self.fraction,
            zero_shot: self.zero_shot,
        }
    }
}

/// What training came to.
struct Trained {
    model: RmlrModel,
    log: Vec<EpochRecord>,
    skipped: usize,
    finished: bool,
}

impl RmlrArguments {
    pub(super) fn run_photos(self) -> anyhow::Result<()> {
        for (given, option) in [(self.boxes_only, "--boxes-only"), (self.score_each_epoch, "--score-each-epoch")] {
            if given {
                bail!("{option} is for rendered scenes: leave it out with --data");
            }
        }
        let device = self.run.device()?;
        let data = PhotoData::open(&self.photos.choice())?;
        let set = data.scored.set();
        let detector = PhotoDetector::load(&self.detector, set.vocabulary(), device)?;
        let folder = self.run.make_folder()?;
        let config = self.run_config();
        let began = Instant::now();
        let Trained { model, log, skipped, finished } = self.train_photos(&detector, &data, &config, device)?;
        let note = json!({"data": data.words, "command": command_line(), "config": config, "detector": detector.key(),
            "finished": finished});
        save_model(&model, set.vocabulary(), note, folder)?;
        if !finished {
            eprintln!("hoi-train: stopped before the last epoch; --resume goes on, then predictions are written");
            return Ok(());
        }
        let bundle = match &detector {
            PhotoDetector::Bundle(base) if self.pooling != RoiPooling::Map => {
                Some(self.write_bundle(&model, base, set.vocabulary(), &data.words)?)
            }
            _ => None,
        };
        let path = folder.join(PREDICTIONS_FILE);
        let left = config.skip_limit.saturating_sub(skipped);
        let (unread, scores) = self.predict(&model, &detector, &data, left, &path)?;
        let result = json!({
            "data": data.words,
            "row": self.row.title(),
            "seed": config.seed,
            "scored": data.scored_words,
            "pictures": set.len(),
            "skipped": skipped,
            "skipped_scored": unread.len(),
            "dropped_detections": detector.dropped(),
            "predictions": path,
            "bundle": bundle,
            "score_command": data.score_command(&self.photos.choice(), &path),
            "scores": scores.as_ref().map(|s| &s.0),
            "zero_shot": scores.as_ref().and_then(|s| s.1),
            "seconds": began.elapsed().as_secs_f64(),
            "epochs": log,
            "command": command_line(),
        });
        write_result(folder, &result)?;
        self.report_photos(&result)
    }

    fn train_photos(
        &self,
        detector: &PhotoDetector,
        data: &PhotoData,
        config: &RunConfig,
        device: Device,
    ) -> anyhow::Result<Trained> {
        let (set, vocabulary, threads) = (&*data.training, &data.vocabulary, self.run.loader_threads());
        let frozen = detector.frozen();
        let encoder = self.encoder(frozen, vocabulary.verb_count(), device)?;
        let texts = encoder.as_ref().map(|encoder| Texts { encoder, vocabulary, mode: self.text });
        let model_config = self.model_config(frozen, vocabulary.verb_count(), encoder.as_ref());
        let augmentation = match self.config {
            Plan::Tiny => Augmentation { flip: 0.5, ..detector.plain(false) },
            Plan::Full => Augmentation { resize: detector.resize(), ..Augmentation::training() },
        };
        let seen = match &self.scenes.cache {
            None => serde_json::to_value(augmentation)?,
            Some(_) => json!("as they are, and mirrored"),
        };
        let system = json!({"head": model_config, "detector": detector.key(), "augmentation": seen});
        let model = RmlrModel::new(&model_config, config.seed, device);
        if let Some(texts) = &texts {
            model.start_sentences(texts).context("reading the sentences of the vocabulary")?;
        }
        let identity = RunIdentity { system, data: data.words.clone() };
        let progress = self.run.progress();
        // Before anything slow: a folder that cannot be used is an error at once.
        let mut trainer =
            Trainer::start(&model.store, &[], config, identity, &self.run.options(&progress)).context("starting")?;
        let (mut copies, mut skipped) = (Vec::new(), 0);
        if let Some(cache) = &self.scenes.cache {
            for mirrored in [false, true] {
                let name = format!("{}{}", data.cache_name, if mirrored { "-mirrored" } else { "" });
                let shown = Shown {
                    key: format!("{name}, {} by {}", data.words, detector.key()),
                    name,
                    augmentation: detector.plain(mirrored),
                    threads,
                    skip_limit: config.skip_limit,
                };
                let (found, unread) = detections(frozen, set, &shown, Some(cache), |found| {
                    Example::new(found.picture, &found.pairs, vocabulary, self.pooling)
                })?;
                copies.push(found);
                skipped = unread;
            }
        }
        let read = match (&texts, copies.first()) {
            (Some(texts), Some(list)) => {
                texts.of(&list.iter().collect::<Vec<&Example>>()).context("reading the text")?
            }
            _ => Vec::new(),
        };
        let indices: Vec<usize> = (0..set.len()).collect();
        let source = if self.scenes.cache.is_some() {
            Source::Cached { copies: &copies, texts: &read }
        } else {
            Source::Live { set, indices: &indices, augmentation: &augmentation, threads, detector: frozen, texts }
        };
        train(&model, vocabulary, &source, &mut trainer, config, |_| Ok(Vec::new())).context("training")?;
        progress.finish_and_clear();
        let log = trainer.log().to_vec();
        skipped += log.iter().map(|record| record.skipped).sum::<usize>();
        let finished = trainer.finished();
        trainer.keep_average();
        Ok(Trained { model, log, skipped, finished })
    }

    /// Writes the predictions; the names of pictures that could not be read, and the scores where they can be had at once.
    fn predict(
        &self,
        model: &RmlrModel,
        detector: &PhotoDetector,
        data: &PhotoData,
        skip_limit: usize,
        path: &Path,
    ) -> anyhow::Result<(Vec<String>, Option<Scores>)> {
        let set = data.scored.set();
        let progress = progress_bar();
        progress.set_length(set.len() as u64);
        progress.set_message("predicting");
        let augmentation = detector.plain(false);
        let threads = self.run.loader_threads();
        let options = DetectOptions { augmentation: &augmentation, batch: 4, threads, skip_limit, progress: &progress };
        let indices: Vec<usize> = (0..set.len()).collect();
        let frozen = detector.frozen();
        let scored = data.predictions(path, |interactions, sink| {
            predict_set::<anyhow::Error>(model, frozen, set, &indices, &options, interactions, |t, found| {
                sink(&t.name, t.number, found)
            })
        })?;
        progress.finish_and_clear();
        Ok(scored)
    }

    /// Head and detector as a bundle for the board.
    fn write_bundle(
        &self,
        model: &RmlrModel,
        base: &BundleDetector,
        vocabulary: &Vocabulary,
        data: &str,
    ) -> anyhow::Result<PathBuf> {
        let tensors = RmlrGraph::exported(model.store.variables());
        let parts = RmlrOver {
            base: base.bundle(),
            name: format!("{}-rmlr", base.bundle().manifest().name),
            description: format!(
                "RmLR's head ({}) over the detector of {}",
                self.row.title(),
                base.bundle().manifest().name
            ),
            head: RmlrGraph::of_shape(&model.config().shape, &tensors, base.feature()),
            vocabulary: vocabulary.spec().clone(),
            training: TrainingRecord {
                part: "head".to_owned(),
                data: data.to_owned(),
                licence: "not stated: the data set's terms hold".to_owned(),
                source: command_line(),
            },
        };
        let folder = self.run.out.join(BUNDLE_FOLDER);
        write_rmlr_over(&parts, &folder).context("writing the bundle")?;
        Ok(folder)
    }

    fn report_photos(&self, result: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", result_line(result, &self.run.out))?;
            return Ok(());
        }
        print_scores(&mut out, result)
    }
}
