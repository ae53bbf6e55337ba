//! Stanford-40: actions of one person a photo, learned from the photo's label.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::WeaklyArguments;
use super::photos::{PhotoList, PhotoSetting, PhotosRead};
use crate::cli::run::{command_line, result_line, write_result};
use crate::dataset::proposals::ProposalRule;
use crate::dataset::stanford40::{ACTIONS, ActionSplit, Stanford40, vocabulary};
use crate::system::edge::Answers;
use crate::system::rmlr::{DetectedPicture, mean_percent};
use crate::system::run::{RunConfig, RunIdentity, RunOptions, Schedule, Trainer, holds_checkpoint};
use crate::system::weakly_hoi::{
    LOOKS, PRIOR_POWER, People, Pooling, WeakExample, WeaklyConfig, WeaklyModel, WeaklyShape, action_labels,
    action_precisions, action_shares, prepare, save_model, text_bank, train, with_given_person, with_one_person,
};
use crate::text::TextEncoder;

/// Share of features and hidden values that training sets to 0.
const DROPOUT: f64 = 0.5;

#[derive(Debug, Args)]
pub(super) struct Stanford40Arguments {
    /// Learn the 40 actions of Stanford-40 from this folder (annotations.json, splits, images)
    #[arg(long, value_name = "DIR", conflicts_with = "images")]
    pub(super) stanford40: Option<PathBuf>,
    /// Part of Stanford-40 to report on: choose by the held-out fifth of the training list
    #[arg(long, value_name = "PART", value_enum, default_value_t = ActionPart::Held, requires = "stanford40")]
    actions: ActionPart,
    /// Without the closer looks at the person
    #[arg(long, requires = "stanford40")]
    without_looks: bool,
    /// Learn each action by itself, as the paper does; without this they exclude each other, since a photo of this set shows one
    #[arg(long, requires = "stanford40")]
    independent: bool,
    /// Models, each with the next seed, whose scores are averaged
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32), requires = "stanford40")]
    members: u8,
}

/// What is scored, after training on the rest of the training list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ActionPart {
    /// A fifth of the training list; the rest is learned from
    Held,
    /// The test list; the whole training list is learned from
    Test,
}

impl ActionPart {
    fn name(self) -> &'static str {
        match self {
            Self::Held => "held-out fifth of the training list",
            Self::Test => "test list",
        }
    }
}

/// Where a model and its run lie: the first in the folder itself.
fn member_folder(folder: &Path, number: u8) -> PathBuf {
    if number == 0 { folder.to_owned() } else { folder.join(format!("member-{}", u16::from(number) + 1)) }
}

/// Photos with what was read of them.
struct ReadPhotos {
    set: Stanford40,
    views: Vec<Vec<DetectedPicture>>,
    capped: usize,
    seconds: f64,
}

impl WeaklyArguments {
    fn read_actions(
        &self,
        root: &Path,
        split: ActionSplit,
        name: &str,
        setting: &PhotoSetting,
    ) -> anyhow::Result<ReadPhotos> {
        let vocabulary = vocabulary()?;
        let set = Stanford40::load(root, split).context("reading Stanford-40")?;
        let paths: Vec<PathBuf> = set.photos.iter().map(|p| PathBuf::from("images").join(&p.name)).collect();
        let human = vocabulary.human();
        let proposals = setting.proposer.for_photos(&paths, human, ProposalRule::default())?;
        let missing = proposals.without_line();
        if let Some(first) = missing.first() {
            bail!(
                "{} of {} photos have no line in the proposals, the first is {}",
                missing.len(),
                paths.len(),
                paths[*first].display()
            );
        }
        let capped = std::sync::atomic::AtomicUsize::new(0);
        let list = PhotoList {
            name,
            key: format!("Stanford-40 {name}, {} photos", set.photos.len()),
            count: set.photos.len(),
            open: |i: usize| Ok(set.open(i)?),
            entities: |i: usize, pixels: &image::RgbImage| {
                let selected = proposals.of(i, pixels)?;
                capped.fetch_add(selected.capped, std::sync::atomic::Ordering::Relaxed);
                Ok(with_given_person(set.photos[i].person, &selected.entities, human, split != ActionSplit::Fit))
            },
            mirror: split != ActionSplit::Test,
        };
        let PhotosRead { views, seconds } =
            setting.read(&list, &vocabulary, self.run.loader_threads(), self.scenes.cache.as_deref())?;
        Ok(ReadPhotos { views, capped: capped.into_inner(), seconds, set })
    }

    pub(super) fn run_stanford40(self, root: &Path) -> anyhow::Result<()> {
        if self.photos.backbone.is_empty() {
            bail!("--backbone FILE is missing: weights of an EfficientNet-Lite (trainer/setup-backbones gets two)");
        }
        let began = Instant::now();
        let device = self.run.device()?;
        let folder = self.run.make_folder()?;
        let vocabulary = vocabulary()?;
        let encoder = TextEncoder::load(&self.method.text_encoder, device).context("loading the text encoder")?;
        let proposer = self.photos.proposer(self.detector.as_deref(), &vocabulary)?;
        let looks = !self.stanford40.without_looks;
        let input = self.photos.backbone_input.map(|side| Size::new(side, side));
        let setting = self.photos.setting(proposer, self.photos.backbone.clone(), input, looks, device)?;
        let backbone = setting.backbone()?;
        let part = self.stanford40.actions;
        let fit = self.read_actions(root, ActionSplit::Fit, "fit", &setting)?;
        let held = self.read_actions(root, ActionSplit::Held, "held", &setting)?;
        let example = |picture: &DetectedPicture, action: usize, people| {
            let labels = action_labels(action, &vocabulary);
            with_one_person(picture, people, &vocabulary).map(|p| WeakExample::new(p, labels, &vocabulary))
        };
        let learned: &[&ReadPhotos] = match part {
            ActionPart::Held => &[&fit],
            ActionPart::Test => &[&fit, &held],
        };
        let copies: Vec<Vec<WeakExample>> = (0..fit.views.len())
            .map(|view| {
                let photos = learned.iter().flat_map(|read| read.set.photos.iter().zip(&read.views[view]));
                photos.filter_map(|(photo, picture)| example(picture, photo.action, People::Given)).collect()
            })
            .collect();
        let config = self.run.config(RunConfig {
            epochs: 12,
            batch: 64,
            learning_rate: 1e-3,
            weight_decay: 1.0,
            max_gradient: 1.0,
            schedule: Schedule::Cosine { warmup: 0.05 },
            ..RunConfig::default()
        });
        let bank = text_bank(&encoder, &vocabulary).context("reading the prompts of the vocabulary")?;
        let shape = WeaklyShape {
            map_channels: backbone.channels(),
            tokens: if looks { LOOKS * backbone.channels() } else { 0 },
            width: encoder.width(),
            pool_heads: 4,
            pool_grid: 9,
            verbs: vocabulary.verb_count() as i64,
            interactions: bank.size()[0],
        };
        let exclusive = !self.stanford40.independent;
        let model_config = WeaklyConfig { exclusive, ..self.method.config(shape, Pooling::Mean, DROPOUT) };
        let data = format!("image-level labels of {} photos of Stanford-40's training list", copies[0].len());
        let identity =
            || RunIdentity { system: json!({"model": model_config, "photos": setting.key}), data: data.clone() };
        let training = Instant::now();
        let mut members = Vec::new();
        let mut logs = Vec::new();
        for number in 0..self.stanford40.members {
            let own = member_folder(folder, number);
            std::fs::create_dir_all(&own).with_context(|| format!("cannot make the folder {}", own.display()))?;
            let config = RunConfig { seed: config.seed.wrapping_add(u64::from(number)), ..config.clone() };
            let model = WeaklyModel::new(&model_config, &vocabulary, &bank, config.seed, device);
            prepare(&model, &copies[0], config.batch);
            let progress = self.run.progress();
            let options = self.run.options(&progress);
            // A run that stopped in an earlier member has not begun with this one.
            let resume = options.resume && (number == 0 || holds_checkpoint(&own));
            let options = RunOptions { folder: &own, resume, ..options };
            let mut trainer = Trainer::start(&model.store, &[], &config, identity(), &options).context("starting")?;
            train(&model, &copies, &mut trainer, &config, |_| Ok(Vec::new())).context("training")?;
            progress.finish_and_clear();
            logs.push(trainer.log().to_vec());
            trainer.keep_average();
            members.push(model);
        }
        let training = training.elapsed().as_secs_f64();
        let uncarried: usize = copies[0].iter().filter(|e| !e.uncarried().is_empty()).count();
        let cut: usize = copies[0].iter().map(|e| e.cut).sum();
        drop(copies);

        let test = match part {
            ActionPart::Held => None,
            ActionPart::Test => Some(self.read_actions(root, ActionSplit::Test, "test", &setting)?),
        };
        let of = test.as_ref().unwrap_or(&held);
        let scored: Vec<_> = of.set.photos.iter().zip(&of.views[0]).collect();
        let precisions = |people, power| {
            let examples: Vec<_> =
                scored.iter().map(|(photo, picture)| (example(picture, photo.action, people), photo.action)).collect();
            let found = examples.iter().filter(|e| e.0.is_some()).count();
            (action_precisions(&members, &examples, &vocabulary, power), found)
        };
        let read: Vec<&ReadPhotos> = [&fit, &held].into_iter().chain(&test).collect();
        let photos = read.iter().flat_map(|part| part.set.photos.iter().zip(&part.views[0]));
        let (names, examples): (Vec<String>, Vec<_>) = photos
            .map(|(photo, picture)| (photo.name.clone(), (example(picture, photo.action, People::Given), photo.action)))
            .unzip();
        answers(&members, names, &examples, &vocabulary).write(folder).context("writing what the model says")?;
        let scoring = Instant::now();
        let (given, _) = precisions(People::Given, 0.0);
        let (detected, found) = precisions(People::Detected, PRIOR_POWER);
        let scored_in = scoring.elapsed().as_secs_f64();
        let per_action: Vec<Value> = ACTIONS
            .iter()
            .enumerate()
            .map(|(a, (name, verb, object))| {
                let percent = |list: &[Option<f64>]| list[a].map(|ap| 100.0 * ap);
                json!({"action": name, "verb": verb, "object": object, "given": percent(&given), "detected": percent(&detected)})
            })
            .collect();
        let result = json!({
            "row": self.method.row.title(),
            "seed": config.seed,
            "members": members.len(),
            "part": part.name(),
            "photos": scored.len(),
            "learned_from": data,
            "mean_ap": mean_percent(&given),
            "detected_people": {"mean_ap": mean_percent(&detected), "found": found, "of": scored.len()},
            "per_action": per_action,
            "labels_without_proposal": uncarried,
            "pairs_cut": cut,
            "proposals_cut": fit.capped + held.capped + test.as_ref().map_or(0, |t| t.capped),
            "backbones": backbone.names(),
            "device": format!("{device:?}"),
            "threads": {"read": self.run.loader_threads(), "train": tch::get_num_threads()},
            "seconds": {"read": fit.seconds + held.seconds, "train": training, "read_test": test.as_ref().map(|t| t.seconds),
                "score": scored_in, "all": began.elapsed().as_secs_f64()},
            "epochs": logs,
            "command": command_line(),
        });
        let note = json!({"data": data, "command": command_line(), "config": config, "photos": setting.key,
            "part": part.name(), "mean_ap": result["mean_ap"]});
        for (number, model) in (0..).zip(&members) {
            let mut note = note.clone();
            note["config"]["seed"] = json!(config.seed.wrapping_add(u64::from(number)));
            save_model(model, &vocabulary, note, &member_folder(folder, number))?;
        }
        write_result(folder, &result)?;
        self.report_actions(&result, device)
    }

    fn report_actions(&self, result: &Value, device: Device) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", result_line(result, &self.run.out))?;
            return Ok(());
        }
        write!(out, "{}", actions_table(result))?;
        let seconds = |key: &str| result["seconds"][key].as_f64().unwrap_or_default();
        writeln!(
            out,
            "on {device:?}: read photos {:.0} s, train {:.0} s, score {:.0} s",
            seconds("read"),
            seconds("train"),
            seconds("score")
        )?;
        Ok(())
    }
}

/// What the models say of photos with the person given, for those who learn from them (`hoi-train distill --teacher`).
fn answers(
    members: &[WeaklyModel],
    photos: Vec<String>,
    examples: &[(Option<WeakExample>, usize)],
    vocabulary: &Vocabulary,
) -> Answers {
    let shares = action_shares(members, examples, vocabulary, 0.0);
    let flat: Vec<f32> = shares.into_iter().flat_map(|s| s.unwrap_or_else(|| vec![0.0; ACTIONS.len()])).collect();
    let rows = photos.len() as i64;
    let there: Vec<&WeakExample> = examples.iter().filter_map(|(e, _)| e.as_ref()).collect();
    let of_member = |model: &WeaklyModel| -> Option<Tensor> {
        let parts: Option<Vec<Tensor>> = there.chunks(256).map(|part| model.features(part)).collect();
        parts.filter(|parts| !parts.is_empty()).map(|parts| Tensor::cat(&parts, 0))
    };
    // A given person always makes an example.
    let features: Option<Vec<Tensor>> =
        (there.len() == photos.len()).then(|| members.iter().map(of_member).collect()).flatten();
    Answers {
        actions: ACTIONS.iter().map(|a| a.0.to_owned()).collect(),
        scores: Tensor::from_slice(&flat).view([rows, ACTIONS.len() as i64]),
        features: features
            .filter(|f| !f.is_empty())
            .map_or_else(|| Tensor::zeros([rows, 0], (Kind::Float, Device::Cpu)), |f| Tensor::cat(&f, 1)),
        photos,
    }
}

/// A result as a table: mean and each action.
pub(in crate::cli) fn actions_table(result: &Value) -> String {
    let number = |v: &Value| v.as_f64().map_or_else(|| "-".to_owned(), |x| format!("{x:.1}"));
    let mut text = String::from("| action | said as | person given | person detected |\n|---|---|---|---|\n");
    for row in result["per_action"].as_array().into_iter().flatten() {
        let said = match row["object"].as_str() {
            Some(object) => format!("{} {object}", row["verb"].as_str().unwrap_or_default()),
            None => row["verb"].as_str().unwrap_or_default().to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {said} | {} | {} |",
            row["action"].as_str().unwrap_or_default(),
            number(&row["given"]),
            number(&row["detected"])
        );
    }
    let detected = &result["detected_people"];
    let _ =
        writeln!(text, "| **mean AP** | | **{}** | **{}** |", number(&result["mean_ap"]), number(&detected["mean_ap"]));
    let _ = writeln!(
        text,
        "\n{} photos of the {}; the person was detected (IoU 0.5) in {}.",
        result["photos"],
        result["part"].as_str().unwrap_or_default(),
        detected["found"]
    );
    text
}
