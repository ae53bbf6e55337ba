//! HICO-DET and V-COCO with image-level labels only, as the paper has them: from proposals and CLIP to a file of predictions.

mod reader;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::vocabulary::Vocabulary;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tch::{Device, Kind, no_grad};

use self::reader::Reader;
use super::WeaklyArguments;
use crate::cli::detected::{Shown, detections};
use crate::cli::photo_sets::{PREDICTIONS_FILE, PhotoChoice, PhotoData, Scores, percent, print_scores};
use crate::cli::pictures::DataChoice;
use crate::cli::run::{command_line, result_line, write_result};
use crate::dataset::PictureSet;
use crate::dataset::proposals::ProposalRule;
use crate::system::rmlr::{DetectOptions, LabelledDetections, detect_set};
use crate::system::run::{ParameterGroup, RunConfig, RunIdentity, Schedule, Trainer, progress_bar};
use crate::system::weakly_hoi::{
    LiveSource, Pooling, ProposedMaps, ProposedPictures, Proposer, WeakExample, WeaklyModel, image_labels, predictions,
    prepare, save_model, train, train_live,
};

/// Share of features and hidden values that training sets to 0 over a backbone that was trained with a mean.
const DROPOUT: f64 = 0.3;

/// Steps before the relatedness loss counts (method sheet of the paper, section 5: it leaves the number open).
const RELATEDNESS_AFTER: usize = 1000;

/// "Not said": the number of epochs follows from that of iterations.
const FROM_ITERATIONS: usize = usize::MAX;

#[derive(Debug, Args)]
pub(in crate::cli) struct DataSetArguments {
    /// What pictures are learned from; of an annotation only the set of interactions of each picture is used
    #[arg(long, value_enum, default_value_t = DataChoice::Rendered, conflicts_with_all = ["images", "stanford40"])]
    pub(super) data: DataChoice,
    /// Folder of the annotations
    #[arg(long, value_name = "DIR", required_if_eq_any([("data", "hico-det"), ("data", "v-coco")]))]
    pub(super) root: Option<PathBuf>,
    /// Folder of the pictures; without it, that of the annotations
    #[arg(long, value_name = "DIR", requires = "root")]
    images_root: Option<PathBuf>,
    /// Learn from a part of the training split and score on the rest, not on the test split
    #[arg(long, requires = "root")]
    holdout: bool,
    /// Learn from so many percent of the training pictures: 5, 15, 25 or 50
    #[arg(long, value_name = "PERCENT", requires = "root", value_parser = percent)]
    fraction: Option<u32>,
    /// CLIP RN50 or RN101, a file or folder with its tokenizer beside it: backbone, pooling and knowledge bank start there
    #[arg(long, value_name = "CHECKPOINT", requires = "root")]
    pub(super) clip_model: Option<PathBuf>,
    /// Learning rate of CLIP's backbone; 0: it stays as it is, and --cache keeps its maps [default: 1e-5]
    #[arg(long, value_name = "X", requires = "clip_model")]
    backbone_rate: Option<f64>,
    /// Pixels of the short side of a picture for CLIP; the long side is 5/3 of it at most, and training draws from 3/5 of it on
    #[arg(long, value_name = "PIXELS", requires = "clip_model", default_value_t = 800, value_parser = clap::value_parser!(u32).range(32..=2048))]
    pub(super) short_side: u32,
    /// Steps of training, rounded up to whole epochs; the learning rate drops to a tenth after a fifth and two fifths of them
    #[arg(long, value_name = "N", requires = "root", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..))]
    iterations: u64,
}

impl DataSetArguments {
    /// Whether a data set is learned from.
    pub(super) fn given(&self) -> bool {
        self.data != DataChoice::Rendered
    }

    fn choice(&self) -> PhotoChoice<'_> {
        PhotoChoice {
            data: self.data,
            root: self.root.as_deref(),
            images: self.images_root.as_deref(),
            holdout: self.holdout,
            fraction: self.fraction,
            zero_shot: None,
        }
    }

    /// Learning rate of the backbone; 0 where it is frozen.
    fn backbone_rate(&self, row_keeps_start: bool, row: &str) -> anyhow::Result<f64> {
        let rate = match (&self.clip_model, self.backbone_rate) {
            (None, _) => 0.0,
            (Some(_), None) if row_keeps_start => 0.0,
            (Some(_), rate) => rate.unwrap_or(1e-5),
        };
        if !(rate.is_finite() && rate >= 0.0) {
            bail!("--backbone-rate {rate}: a learning rate of 0 or more is needed");
        }
        if row_keeps_start && rate > 0.0 {
            bail!(
                "--backbone-rate {rate}: the row `{row}` compares with CLIP as it is; --backbone-rate 0 leaves it so"
            );
        }
        Ok(rate)
    }
}

/// Pictures with their proposals, and how many of them the file of proposals says nothing of.
fn proposed<'a>(
    proposer: &'a Proposer,
    set: &'a dyn PictureSet,
    vocabulary: &Vocabulary,
) -> anyhow::Result<ProposedPictures<'a>> {
    let names: Vec<PathBuf> = (0..set.len()).map(|i| PathBuf::from(set.name(i))).collect();
    let proposals = proposer.for_photos(&names, vocabulary.human(), ProposalRule::default())?;
    let pictures = ProposedPictures::new(set, proposals);
    if pictures.without_line() > 0 && pictures.without_line() == set.len() {
        bail!("the proposals have no line for any of {} pictures, as {}", set.len(), names[0].display());
    }
    Ok(pictures)
}

/// What training came to.
struct Trained {
    model: WeaklyModel,
    log: Vec<crate::system::run::EpochRecord>,
    skipped: usize,
    finished: bool,
    without_line: usize,
    capped: usize,
    /// Labels that no pair could carry, and pairs beyond the cap, where examples are in memory.
    counted: Option<[usize; 2]>,
}

impl WeaklyArguments {
    /// Epochs and schedule from the number of iterations, unless the command says others.
    fn data_set_config(&self, pictures: usize) -> RunConfig {
        let own =
            RunConfig { epochs: FROM_ITERATIONS, batch: 24, schedule: Schedule::Constant, ..RunConfig::default() };
        let mut config = self.run.config(own);
        let steps = pictures.div_ceil(config.batch.max(1)).max(1) as u64;
        let mut iterations = self.data_set.iterations;
        if config.epochs == FROM_ITERATIONS {
            config.epochs = iterations.div_ceil(steps) as usize;
        } else {
            iterations = steps.saturating_mul(config.epochs as u64);
        }
        if config.schedule == Schedule::Constant {
            let after_steps = vec![iterations.div_ceil(5), (2 * iterations).div_ceil(5)];
            config.schedule = Schedule::Drops { after_steps, factor: 0.1 };
        }
        config
    }

    pub(super) fn run_data_set(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let parts = self.method.row.parts();
        let rate = self.data_set.backbone_rate(parts.keeps_start(), self.method.row.title())?;
        if rate > 0.0 && self.scenes.cache.is_some() {
            bail!("--cache keeps maps, and those of a backbone that learns change: leave it out, or --backbone-rate 0");
        }
        let device = self.run.device()?;
        let data = PhotoData::open(&self.data_set.choice())?;
        let vocabulary = data.vocabulary.clone();
        let folder = self.run.make_folder()?;
        let proposer = self.photos.proposer(self.detector.as_deref(), &vocabulary)?;
        let reader = Reader::load(&self, &vocabulary, device)?;
        let config = self.data_set_config(data.training.len());
        let trained = self.train_data_set(&data, &proposer, &reader, rate, &config, device)?;
        let model = &trained.model;
        let note = json!({"data": data.words, "command": command_line(), "config": config, "proposals": proposer.key(),
            "backbones": reader.names, "weights": reader.key, "finished": trained.finished});
        save_model(model, &vocabulary, note, folder)?;
        if !trained.finished {
            eprintln!("hoi-train: stopped before the last epoch; --resume goes on, then predictions are written");
            return Ok(());
        }
        let path = folder.join(PREDICTIONS_FILE);
        let left = config.skip_limit.saturating_sub(trained.skipped);
        let (unread, scores) = self.predict_data_set(model, &reader, &proposer, &data, left, device, &path)?;
        let result = json!({
            "data": data.words,
            "row": self.method.row.title(),
            "seed": config.seed,
            "scored": data.scored_words,
            "pictures": data.scored.set().len(),
            "skipped": trained.skipped,
            "skipped_scored": unread.len(),
            "without_proposals": trained.without_line,
            "proposals_cut": trained.capped,
            "labels_without_proposal": trained.counted.map(|c| c[0]),
            "pairs_cut": trained.counted.map(|c| c[1]),
            "backbones": reader.names,
            "backbone_rate": rate,
            "predictions": path,
            "score_command": data.score_command(&self.data_set.choice(), &path),
            "scores": scores.as_ref().map(|s| &s.0),
            "seconds": began.elapsed().as_secs_f64(),
            "epochs": trained.log,
            "command": command_line(),
        });
        write_result(folder, &result)?;
        self.report_data_set(&result)
    }

    fn train_data_set(
        &self,
        data: &PhotoData,
        proposer: &Proposer,
        reader: &Reader,
        rate: f64,
        config: &RunConfig,
        device: Device,
    ) -> anyhow::Result<Trained> {
        let (vocabulary, threads) = (&data.vocabulary, self.run.loader_threads());
        let dropout = if reader.pooling() == Pooling::Mean { DROPOUT } else { 0.0 };
        let mut model_config = self.method.config(reader.shape(vocabulary), reader.pooling(), dropout);
        model_config.encoder = reader.encoder.clone();
        model_config.self_taught.after_steps = self.method.relatedness_after.unwrap_or(RELATEDNESS_AFTER);
        model_config.backbone = reader.clip_sizes().filter(|_| rate > 0.0).cloned();
        let model = WeaklyModel::new(&model_config, vocabulary, &reader.bank, config.seed, device);
        reader.start(&model)?;
        let pictures = proposed(proposer, &*data.training, vocabulary)?;
        let maps = ProposedMaps { pictures: &pictures, network: reader.maps(model.backbone())?, device };
        let training = reader.training();
        let seen = match &self.scenes.cache {
            None => serde_json::to_value(training)?,
            Some(_) => json!("as they are, and mirrored"),
        };
        let system = json!({"head": model_config, "weights": reader.key, "proposals": proposer.key(), "augmentation": seen,
            "backbone_rate": rate});
        let (mut copies, mut unread): (Vec<Vec<WeakExample>>, usize) = (Vec::new(), 0);
        if let Some(cache) = self.scenes.cache.as_deref().filter(|_| model_config.parts.trained()) {
            for mirrored in [false, true] {
                let name = format!("{}{}", data.cache_name, if mirrored { "-mirrored" } else { "" });
                let shown = Shown {
                    key: format!("{name}, {} by {}, {}, {:?}", data.words, proposer.key(), reader.key, reader.names),
                    name,
                    augmentation: reader.plain(mirrored),
                    threads,
                    skip_limit: config.skip_limit,
                };
                let (found, skipped) = detections(&maps, &pictures, &shown, Some(cache), |found| {
                    let LabelledDetections { mut picture, pairs } = found;
                    // Half precision, whether it comes from the cache or not.
                    picture.feature = picture.feature.to_kind(Kind::Half).to_device(Device::Cpu);
                    WeakExample::new(picture, image_labels(&pairs), vocabulary)
                })?;
                copies.push(found);
                unread = skipped;
            }
            prepare(&model, &copies[0], config.batch);
        } else {
            let sample = self.sample(&maps, reader, config, vocabulary)?;
            prepare(&model, &sample, config.batch);
        }
        let identity = RunIdentity { system, data: data.words.clone() };
        let progress = self.run.progress();
        let groups = [ParameterGroup { prefix: "backbone.".to_owned(), rate: rate / config.learning_rate }];
        let mut trainer = Trainer::start(&model.store, &groups, config, identity, &self.run.options(&progress))
            .context("starting")?;
        if copies.is_empty() {
            let indices: Vec<usize> = (0..pictures.len()).collect();
            let source = LiveSource { maps: &maps, indices: &indices, augmentation: &training, threads };
            train_live(&model, vocabulary, &source, &mut trainer, config).context("training")?;
        } else {
            train(&model, &copies, &mut trainer, config, |_| Ok(Vec::new())).context("training")?;
        }
        progress.finish_and_clear();
        let log = trainer.log().to_vec();
        let finished = trainer.finished() || !model_config.parts.trained();
        trainer.keep_average();
        let counted = copies
            .first()
            .map(|list| [list.iter().map(|e| e.uncarried().len()).sum(), list.iter().map(|e| e.cut).sum::<usize>()]);
        let skipped = unread + log.iter().map(|record| record.skipped).sum::<usize>();
        let (without_line, capped) = (pictures.without_line(), pictures.capped());
        Ok(Trained { model, log, skipped, finished, without_line, capped, counted })
    }

    /// Some training pictures, evenly spread, that a model is prepared with.
    fn sample(
        &self,
        maps: &ProposedMaps<'_>,
        reader: &Reader,
        config: &RunConfig,
        vocabulary: &Vocabulary,
    ) -> anyhow::Result<Vec<WeakExample>> {
        let (count, plain, hidden) = (maps.pictures.len(), reader.plain(false), ProgressBar::hidden());
        let indices: Vec<usize> =
            (0..count).step_by(count.div_ceil(reader.prepared_with(config.batch)).max(1)).collect();
        let options = DetectOptions {
            augmentation: &plain,
            batch: 4,
            threads: self.run.loader_threads(),
            skip_limit: config.skip_limit,
            progress: &hidden,
        };
        let mut sample = Vec::with_capacity(indices.len());
        no_grad(|| {
            detect_set::<anyhow::Error>(maps, maps.pictures, &indices, &options, |found| {
                sample.push(WeakExample::new(found.picture, image_labels(&found.pairs), vocabulary));
                Ok(())
            })
        })?;
        Ok(sample)
    }

    /// Writes the predictions; the names of pictures that could not be read, and the scores where they can be had at once.
    #[allow(clippy::too_many_arguments)] // What is shown, by what, to whom, and where it goes: nothing else of the run.
    fn predict_data_set(
        &self,
        model: &WeaklyModel,
        reader: &Reader,
        proposer: &Proposer,
        data: &PhotoData,
        skip_limit: usize,
        device: Device,
        path: &Path,
    ) -> anyhow::Result<(Vec<String>, Option<Scores>)> {
        let (set, vocabulary) = (data.scored.set(), &data.vocabulary);
        let pictures = proposed(proposer, set, vocabulary)?;
        let maps = ProposedMaps { pictures: &pictures, network: reader.maps(model.backbone())?, device };
        let progress = progress_bar();
        progress.set_length(set.len() as u64);
        progress.set_message("predicting");
        let (plain, threads) = (reader.plain(false), self.run.loader_threads());
        let options = DetectOptions { augmentation: &plain, batch: 4, threads, skip_limit, progress: &progress };
        let indices: Vec<usize> = (0..set.len()).collect();
        let names = data.scored.names();
        // A data set scores its `no_interaction` too, which the board does not say.
        let mut spec = vocabulary.spec().clone();
        spec.background_verb = None;
        let every_verb = Vocabulary::new(spec)?;
        let scored = data.predictions(path, |interactions, sink| {
            no_grad(|| {
                detect_set::<anyhow::Error>(&maps, &pictures, &indices, &options, |found| {
                    let example = WeakExample::new(found.picture, Vec::new(), vocabulary);
                    let triplets = model.triplets(&[&example], &every_verb)?.pop().unwrap_or_default();
                    let number = example.picture.number;
                    let name = names.get(&number).copied().unwrap_or_default();
                    sink(name, number, &predictions(&example, &triplets, interactions))
                })
            })
        })?;
        progress.finish_and_clear();
        Ok(scored)
    }

    fn report_data_set(&self, result: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", result_line(result, &self.run.out))?;
            return Ok(());
        }
        print_scores(&mut out, result)?;
        for (key, what) in [
            ("without_proposals", "training pictures have no line in the file of proposals"),
            ("proposals_cut", "proposals were beyond the best 100 of their picture"),
            ("labels_without_proposal", "labels that no proposal could carry"),
            ("pairs_cut", "pairs beyond the cap"),
        ] {
            if result[key].as_u64().unwrap_or_default() > 0 {
                writeln!(out, "  {} {what}", result[key])?;
            }
        }
        Ok(())
    }
}
