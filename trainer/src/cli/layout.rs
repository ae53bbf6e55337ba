//! `hoi-train layout`.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use hoi_runtime::vocabulary::Vocabulary;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tch::Device;

use super::run::command_line;
use super::table;
use crate::dataset::AnnotatedImage;
use crate::dataset::hico_det::HicoDet;
use crate::dataset::layout::{SceneSet, Setting};
use crate::eval::layout::{LayoutTruth, score_layout};
use crate::export::write_layout;
use crate::system::layout::{LayoutNetwork, Run, TrainedLayout, TrainingConfig, load_network, train};

/// Where the network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DeviceChoice {
    /// The processor
    Cpu,
    /// The first CUDA GPU
    Cuda,
}

#[derive(Debug, Args)]
pub(super) struct LayoutArguments {
    /// Folder of HICO-DET's annotations
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Where interaction.onnx, head.json, checkpoints and log.csv go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What surrounds the annotated boxes
    #[arg(long, value_enum, default_value_t = TrainingConfig::default().setting)]
    setting: Setting,
    /// Passes over all images
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().epochs)]
    epochs: usize,
    /// Seed of weights, order and distractors
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Train on a part of the training split and print the scores on the rest
    #[arg(long)]
    holdout: bool,
    /// Go on from the checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Stop after this epoch; --resume goes on
    #[arg(long, value_name = "EPOCH")]
    stop_after: Option<usize>,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().batch_images)]
    batch_images: usize,
    /// Highest learning rate
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().learning_rate)]
    learning_rate: f64,
    /// Weight decay
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().weight_decay)]
    weight_decay: f64,
    /// Decay of the average of the weights
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().average_decay)]
    average_decay: f64,
    /// Do not mirror half of the images
    #[arg(long)]
    no_flip: bool,
    /// Width of the hidden layers
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().hidden)]
    hidden: i64,
    /// Width of the object embedding
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().embedding)]
    embedding: i64,
    /// Heads of the reasoning layer, in which the pairs of an image compete; 0: each pair is seen alone
    #[arg(long, value_name = "N", default_value_t = TrainingConfig::default().heads)]
    heads: i64,
    /// Share of the images that are seen without distractors, whatever --setting
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().merged_share)]
    merged_share: f64,
    /// Share of the hidden values that training sets to 0
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().dropout)]
    dropout: f64,
    /// Learn from this finished run beside the annotation; given again, from the mean of several
    #[arg(long, value_name = "DIR")]
    teacher: Vec<PathBuf>,
    /// Weight of the teachers beside the annotation
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().teacher_weight, requires = "teacher")]
    teacher_weight: f64,
    /// Logits are divided by this before they are compared with the teachers'
    #[arg(long, value_name = "X", default_value_t = TrainingConfig::default().temperature, requires = "teacher")]
    temperature: f64,
    /// Threads of libtorch; more than one helps little here, and hurts where others want the processor too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// Where to train
    #[arg(long, value_enum, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl LayoutArguments {
    fn config(&self) -> TrainingConfig {
        TrainingConfig {
            setting: self.setting,
            holdout: self.holdout,
            epochs: self.epochs,
            seed: self.seed,
            batch_images: self.batch_images,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            average_decay: self.average_decay,
            flip: !self.no_flip,
            hidden: self.hidden,
            embedding: self.embedding,
            heads: self.heads,
            merged_share: self.merged_share,
            dropout: self.dropout,
            teachers: self.teacher.iter().map(|folder| folder.display().to_string()).collect(),
            teacher_weight: if self.teacher.is_empty() { 0.0 } else { self.teacher_weight },
            temperature: self.temperature,
            ..TrainingConfig::default()
        }
    }

    fn device(&self) -> anyhow::Result<Device> {
        match self.device {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
            DeviceChoice::Cuda => anyhow::bail!("--device cuda: libtorch finds no CUDA GPU here"),
        }
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        tch::set_num_threads(i32::from(self.threads));
        let device = self.device()?;
        let config = self.config();
        let data = HicoDet::open(&self.root)?;
        let mut images = data.train()?;
        let mut validation = Vec::new();
        if config.holdout {
            let parts = data.held_out()?;
            validation = images.iter().filter(|i| parts.val.contains(&i.number)).cloned().collect();
            images.retain(|i| parts.train.contains(&i.number));
        }
        let scenes = SceneSet::new(&images, data.table());
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        eprintln!(
            "hoi-train: {} images with boxes ({} without), {} labels",
            scenes.scenes().len(),
            scenes.skipped(),
            images.iter().map(|i| i.pairs.len()).sum::<usize>()
        );
        let progress = progress_bar();
        let teachers = self.teachers(data.table().vocabulary(), device)?;
        let run = Run {
            folder: &self.out,
            resume: self.resume,
            stop_after: self.stop_after,
            device,
            teachers: &teachers,
            progress: &progress,
        };
        let trained = train(&scenes, data.table().vocabulary(), &config, &run).context("training")?;
        progress.finish_and_clear();
        self.report(&trained)?;
        if !trained.finished {
            eprintln!("hoi-train: stopped after epoch {}; --resume goes on", trained.log.len());
            return Ok(());
        }
        let training = json!({
            "data": "HICO-DET, training split, boxes and labels of HAKE (no pictures)",
            "images": scenes.scenes().len(),
            "labels": images.iter().map(|i| i.pairs.len()).sum::<usize>(),
            "data_fingerprint": format!("{:016x}", scenes.fingerprint()),
            "config": config,
            "loss": trained.log.last().map(|r| r.loss),
            "seconds": trained.log.iter().map(|r| r.seconds).sum::<f64>(),
            "version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
        });
        let vocabulary = data.table().vocabulary().spec();
        let training = serde_json::from_value(training).context("describing the training")?;
        write_layout(&trained.network, vocabulary, training, &self.out).context("exporting")?;
        if config.holdout {
            self.score_held_out(&trained, &data, &validation)?;
        }
        Ok(())
    }

    fn teachers(&self, vocabulary: &Vocabulary, device: Device) -> anyhow::Result<Vec<LayoutNetwork>> {
        let load = |folder: &PathBuf| {
            let teacher = load_network(folder, device)
                .with_context(|| format!("loading the teacher of --teacher {}", folder.display()))?;
            let (found, wanted) = (teacher.shape(), [vocabulary.object_count() as i64, vocabulary.verb_count() as i64]);
            anyhow::ensure!(
                [found.objects, found.verbs] == wanted,
                "--teacher {}: it knows {} objects and {} verbs, this run {} and {}",
                folder.display(),
                found.objects,
                found.verbs,
                wanted[0],
                wanted[1]
            );
            Ok(teacher)
        };
        self.teacher.iter().map(load).collect()
    }

    fn report(&self, trained: &TrainedLayout) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let (Some(last), seconds) = (trained.log.last(), trained.log.iter().map(|r| r.seconds).sum::<f64>()) else {
            return Ok(());
        };
        if self.json {
            let line = json!({"out": self.out, "epoch": last.epoch, "epochs": self.epochs, "loss": last.loss,
                "seconds": seconds, "finished": trained.finished});
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "epoch {} of {}, loss {:.4}, {seconds:.0} s: {}",
                last.epoch,
                self.epochs,
                last.loss,
                self.out.display()
            )?;
        }
        Ok(())
    }

    fn score_held_out(&self, trained: &TrainedLayout, data: &HicoDet, images: &[AnnotatedImage]) -> anyhow::Result<()> {
        let scenes = SceneSet::new(images, data.table());
        let truth = LayoutTruth { table: data.table(), images, scenes: &scenes, known_objects: None };
        let mut out = std::io::stdout().lock();
        for setting in Setting::ALL {
            let scores =
                score_layout(&truth, setting, 0, |sample| Ok::<_, Infallible>(trained.network.logits(sample)))?;
            if self.json {
                writeln!(
                    out,
                    "{}",
                    json!({"part": "held out of the training split", "boxes": table::BOXES_GIVEN,
                    "setting": setting, "default": scores.scores.default, "images": scores.images, "pairs": scores.pairs})
                )?;
            } else {
                write!(out, "{}", table::render("HICO-DET, held-out part of the training split", &scores))?;
            }
        }
        Ok(())
    }
}

/// A bar on a terminal; else hidden, and training prints a line an epoch.
fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {pos}/{len} images, {per_sec}, {eta} left, {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}
