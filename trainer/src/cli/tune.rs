//! `hoi-train tune`: the last blocks of a second backbone, tuned on photos; and a bundle with the network in its detector, whose taps are its
//! late maps, as `hoi-quantize int8` and `hoi-train distill --base` take it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use hoi_runtime::bundle::{ModelBundle, sha256_hex};
use hoi_runtime::preprocess::ResizeRule;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::distill::{Kept, LearnedPart, ViewReading, ask_teachers, tapped, with_second_backbone};
use super::run::{RunArguments, command_line, result_line, write_result};
use crate::dataset::stanford40::{ACTIONS, ActionSplit, Stanford40};
use crate::eval::stanford40::action_precisions;
use crate::system::edge::{
    TeacherAnswers, TuneConfig, TuneLook, TuneModel, TuneReader, View, read_tune_looks, views, write_tune_looks,
};
use crate::system::run::{RunConfig, RunIdentity, RunOptions, Schedule, Trainer};

/// The tuned network in a run's folder.
pub(super) const TUNED_FILE: &str = "backbone.safetensors";

/// What a run tells of its network, in `tuned.json`.
const ABOUT_FILE: &str = "tuned.json";

#[derive(Debug, Args)]
pub(super) struct TuneArguments {
    /// Folder of Stanford-40: photos with one action each, by a person whose box is known
    #[arg(long, value_name = "DIR")]
    stanford40: PathBuf,
    /// The EfficientNet-Lite: its weights, as PyTorch file or ONNX
    #[arg(long, value_name = "FILE")]
    second_backbone: PathBuf,
    /// Pixels of a side of the picture that it sees, a multiple of 32 or as many as it was trained with
    #[arg(long, value_name = "N", default_value_t = 280, value_parser = clap::value_parser!(u16).range(64..=1024))]
    second_side: u16,
    /// The bundle in whose detector it will look: that detector's input is what it sees, resized [default: the bundle that is part of the program]
    #[arg(long, value_name = "BUNDLE")]
    base: Option<PathBuf>,
    /// A teacher: a bundle, or a finished run of `hoi-train weakly --stanford40` or `hoi-train distill`; given again, the mean of several
    #[arg(long, value_name = "BUNDLE|DIR")]
    teacher: Vec<PathBuf>,
    /// Learn from the whole training list, or from four fifths of it and report on the rest
    #[arg(long, value_name = "PART", value_enum, default_value_t = LearnedPart::Fit)]
    learn: LearnedPart,
    /// Blocks, from the last one on, that are tuned
    #[arg(long, value_name = "N", default_value_t = TuneConfig::default().blocks)]
    blocks: usize,
    /// Learning rate of the network as a share of --learning-rate, which is that of the look above it
    #[arg(long, value_name = "X", default_value_t = TuneConfig::default().rate, value_parser = share)]
    backbone_rate: f64,
    /// Share of the teachers beside the photo's label
    #[arg(long, value_name = "X", default_value_t = TuneConfig::default().teacher, value_parser = share)]
    teacher_weight: f64,
    /// Random crops of each photo to learn from, beside the photo as it is and mirrored
    #[arg(long, value_name = "N", default_value_t = 2)]
    crops: u64,
    /// Keep photos that were read in this folder
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    run: RunArguments,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err(format!("`{text}` is no number from 0 to 1")),
    }
}

/// Where a tuned network comes from, as its run's folder says it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TunedBackbone {
    /// File of the weights that it started with.
    pub(super) from: String,
    pub(super) from_sha256: String,
    /// What it was tuned on.
    pub(super) data: String,
    pub(super) command: String,
}

impl TunedBackbone {
    /// What a finished run's folder says; `None` where `path` is no folder.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let about = path.join(ABOUT_FILE);
        let text = std::fs::read(&about).with_context(|| {
            format!("cannot read {}: {} is no finished run of `hoi-train tune`", about.display(), path.display())
        })?;
        let read = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", about.display()))?;
        Ok(Some(read))
    }
}

impl TuneArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let device = self.run.device()?;
        let folder = self.run.make_folder()?.to_owned();
        let file = &self.second_backbone;
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let sha256 = sha256_hex(&bytes);
        drop(bytes);
        let config = TuneConfig {
            blocks: self.blocks,
            rate: self.backbone_rate,
            teacher: self.teacher_weight,
            ..TuneConfig::default()
        };
        tch::manual_seed(self.run.seed as i64);
        let model = TuneModel::new(file, &config, ACTIONS.len() as i64, device).context("loading --second-backbone")?;
        let base = self.base()?;
        // What the network's picture is resized from.
        let [_, _, height, width] = base.manifest().detector.input.shape;
        let input = [height, width];
        let second = folder.join("second");
        // What the detector's graph does not take is known before the photos are read.
        with_second_backbone(&base, file, self.second_side.into(), &second)?;
        let mut fit = self.read(ActionSplit::Fit, "fit", &views(self.crops), input, &sha256)?;
        let held_views = match self.learn {
            LearnedPart::Fit => vec![View::Plain],
            LearnedPart::Train => views(self.crops),
        };
        let mut held = self.read(ActionSplit::Held, "held", &held_views, input, &sha256)?;
        let seconds = began.elapsed().as_secs_f64();
        let own_actions = |set: &Stanford40| set.photos.iter().map(|p| p.action).collect::<Vec<_>>();
        let names = |set: &Stanford40| set.photos.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let teachers = ask_teachers(&self.teacher, &[&fit.0, &held.0])?;
        let (mut photos, mut actions) = (names(&fit.0), own_actions(&fit.0));
        let held_actions = own_actions(&held.0);
        let shown = match self.learn {
            LearnedPart::Fit => held.1.pop().unwrap_or_default(),
            LearnedPart::Train => {
                fit.1.iter_mut().zip(held.1).for_each(|(view, more)| view.extend(more));
                photos.extend(names(&held.0));
                actions.extend_from_slice(&held_actions);
                Vec::new()
            }
        };
        let learned = fit.1;
        let asked: Vec<&str> = photos.iter().map(String::as_str).collect();
        let said = TeacherAnswers::new(&teachers, &asked).context("asking the teachers")?;
        let run_config = self.run.config(RunConfig {
            epochs: 10,
            batch: 64,
            learning_rate: 1e-3,
            weight_decay: 0.3,
            max_gradient: 1.0,
            schedule: Schedule::Cosine { warmup: 0.05 },
            ..RunConfig::default()
        });
        let part = if self.learn == LearnedPart::Fit { "four fifths of " } else { "" };
        let data = format!(
            "the last {} blocks, on {} photos of {part}Stanford-40's training list in {} views",
            config.blocks,
            actions.len(),
            learned.len()
        );
        model.prepare(&learned[0]);
        let identity = RunIdentity {
            system: json!({"backbone": sha256, "side": self.second_side, "input": input, "blocks": config.blocks, "rate": config.rate,
                "teacher_weight": config.teacher, "teachers": self.teacher, "crops": self.crops}),
            data: data.clone(),
        };
        let progress = self.run.progress();
        let options = RunOptions { folder: &folder, ..self.run.options(&progress) };
        let mut trainer =
            Trainer::start(&model.store, &model.groups(), &run_config, identity, &options).context("starting")?;
        let measure = |model: &TuneModel| -> Option<f64> {
            let scores = model.scores(&shown);
            let scores: Vec<Option<&[f32]>> = scores.iter().map(|s| Some(s.as_slice())).collect();
            action_precisions(&held_actions, &scores).0
        };
        let held_out = |model: &TuneModel| if shown.is_empty() { None } else { measure(model) };
        let training = Instant::now();
        model
            .train(&learned, &actions, said.as_ref(), &mut trainer, &run_config, |model| {
                held_out(model).map(|mean| ("held_out_map", mean)).into_iter().collect()
            })
            .context("training")?;
        progress.finish_and_clear();
        let training = training.elapsed().as_secs_f64();
        let log = trainer.log().to_vec();
        trainer.keep_average();
        model.save(&folder.join(TUNED_FILE)).context("writing the tuned network")?;
        let own = held_out(&model);
        let command = command_line();
        let from = file.file_name().unwrap_or_default().display().to_string();
        let about = TunedBackbone { from, from_sha256: sha256, data: data.clone(), command: command.clone() };
        let result = json!({
            "held_out": {"photos": shown.len(), "mean_ap": own},
            "learned_from": data, "teachers": self.teacher, "config": run_config, "device": format!("{device:?}"),
            "seconds": {"read": seconds, "train": training, "all": began.elapsed().as_secs_f64()}, "epochs": log, "command": command,
        });
        crate::export::write_beside(&folder.join(ABOUT_FILE), &serde_json::to_vec_pretty(&about)?)?;
        let (second, taps) = with_second_backbone(&base, &folder, self.second_side.into(), &second)?;
        let bundle = tapped(&second, &taps, None, &folder.join("bundle"))?;
        write_result(&folder, &result)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", result_line(&result, &self.run.out))?;
        } else {
            let own = own.map_or_else(|| "-".to_owned(), |x| format!("{x:.1}"));
            let file = bundle.origin();
            writeln!(
                out,
                "held-out photos, under the look of this run: mean AP {own}\nread {seconds:.0} s, train {training:.0} s\n{}",
                file.display()
            )?;
        }
        Ok(())
    }

    /// The bundle in whose detector the network will look.
    fn base(&self) -> anyhow::Result<ModelBundle> {
        let base = match &self.base {
            Some(base) => ModelBundle::load(base).with_context(|| format!("loading {}", base.display()))?,
            None => ModelBundle::builtin().context("loading the built-in bundle")?,
        };
        anyhow::ensure!(
            matches!(base.manifest().detector.input.resize, ResizeRule::Stretch {}),
            "the detector of `{}` letterboxes the picture: a second backbone needs one that stretches it",
            base.manifest().name
        );
        Ok(base)
    }

    /// Reads all views of a part of the set, from the cache where it has them.
    fn read(
        &self,
        split: ActionSplit,
        name: &str,
        views: &[View],
        input: [usize; 2],
        sha256: &str,
    ) -> anyhow::Result<(Stanford40, Vec<Vec<TuneLook>>)> {
        let set = Stanford40::load(&self.stanford40, split).context("reading Stanford-40")?;
        let side = usize::from(self.second_side);
        let how = format!("backbone {sha256}, last {} blocks apart; {side} pixels of {input:?}", self.blocks);
        let reading = ViewReading {
            name,
            prefix: "tune-",
            count: set.photos.len(),
            threads: self.run.loader_threads(),
            cache: self.cache.as_deref(),
        };
        let all = reading.read(
            views,
            &how,
            &Kept { read: read_tune_looks, write: write_tune_looks },
            || Ok(TuneReader::load(&self.second_backbone, self.blocks, input, side)?),
            |reader, index, view| {
                let photo = &set.photos[index];
                let read = reader.read(index as u64, &set.open(index)?, &photo.person, view);
                read.with_context(|| format!("reading {}", photo.name))
            },
        )?;
        Ok((set, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_where_its_network_comes_from() {
        let folder = tempfile::tempdir().unwrap();
        let about = folder.path().join(ABOUT_FILE);
        assert!(TunedBackbone::read(&about).unwrap().is_none(), "no folder");
        let error = TunedBackbone::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no finished run of `hoi-train tune`"), "{error}");
        std::fs::write(
            &about,
            r#"{"from": "a.onnx", "from_sha256": "00", "data": "photos", "command": "hoi-train tune"}"#,
        )
        .unwrap();
        assert_eq!(TunedBackbone::read(folder.path()).unwrap().unwrap().data, "photos");
        std::fs::write(&about, r#"{"from": "a.onnx"}"#).unwrap();
        assert!(TunedBackbone::read(folder.path()).unwrap_err().to_string().contains("is damaged"));
    }
}
