//! `hoi-train distill`: the head that ships.

mod bundle;
mod photos;
mod teachers;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use self::bundle::EdgeBundle;
pub(super) use self::bundle::{tapped, with_second_backbone};
pub(super) use self::photos::{Kept, ViewReading};
use self::photos::{PhotoSource, ReadPhotos};
pub(super) use self::teachers::ask_teachers;
use super::run::{RunArguments, command_line, result_line, write_result};
use crate::dataset::bystanders::Bystanders;
use crate::dataset::hico_det::InteractionTable;
use crate::dataset::proposals::ProposalFile;
use crate::dataset::stanford40::{ACTIONS, ActionSplit, Stanford40, with_actions};
use crate::eval::stanford40::action_precisions;
use crate::system::edge::{
    ActionTable, ActionTexts, Answers, EdgeConfig, EdgeModel, PhotoLook, Photos, TeacherAnswers, TrainWeights, View,
    grid_of, save_model, train, views,
};
use crate::system::layout::load_network;
use crate::system::run::{RunConfig, RunIdentity, RunOptions, Schedule, Trainer};
use crate::text::TextEncoder;

/// Late maps of SSDLite-MobileNetV2, 10 x 10 cells each.
const SSDLITE_TAPS: [&str; 3] = ["Clip_284", "Clip_337", "Clip_357"];

/// A veto of more than this leaves no probability.
const MOST_VETO: f64 = 100.0;

/// Photos that the trained network scores at a time.
const BATCH: usize = 256;

#[derive(Debug, Args)]
pub(super) struct DistillArguments {
    /// Folder of Stanford-40: photos with one action each, by a person whose box is known
    #[arg(long, value_name = "DIR")]
    stanford40: PathBuf,
    /// A finished run of `hoi-train layout`: the part of the head that knows boxes
    #[arg(long, value_name = "DIR")]
    layout: PathBuf,
    /// The bundle whose detector finds people and gives the maps [default: `builtin:nano`]
    #[arg(long, value_name = "BUNDLE")]
    base: Option<PathBuf>,
    /// A tensor of the detector's graph to look at, [1, C, h, w]; given again, several maps with the same cells [default: those of SSDLite, or
    /// the second backbone's]
    #[arg(long, value_name = "TENSOR")]
    tap: Vec<String>,
    /// An EfficientNet-Lite to look at the picture beside the detector, in the same graph: its weights, as PyTorch file or ONNX, or a finished run
    /// of `hoi-train tune`
    #[arg(long, value_name = "FILE|DIR")]
    second_backbone: Option<PathBuf>,
    /// Pixels of a side of the picture that the second backbone sees
    #[arg(long, value_name = "N", default_value_t = 280, requires = "second_backbone", value_parser = clap::value_parser!(u16).range(64..=1024))]
    second_side: u16,
    /// A tensor of class logits, [1, boxes, classes], whose highest values the head looks at; `none`: it does not
    #[arg(long, value_name = "TENSOR", default_value = "logits")]
    evidence: String,
    /// A teacher: a bundle, or a finished run of `hoi-train weakly --stanford40` or `hoi-train distill`; given again, the mean of several
    #[arg(long, value_name = "BUNDLE|DIR")]
    teacher: Vec<PathBuf>,
    /// Learn from the whole training list, or from four fifths of it and report on the rest
    #[arg(long, value_name = "PART", value_enum, default_value_t = LearnedPart::Fit)]
    learn: LearnedPart,
    /// Objects of a stronger detector: one JSON object a photo, as `hoi detect --json` prints them
    #[arg(long, value_name = "FILE")]
    objects: Option<PathBuf>,
    /// Pictures with boxes of COCO's classes (annotations.json, images): their persons who touch nothing that an action is done with do none of the
    /// actions
    #[arg(long, value_name = "DIR")]
    others: Option<PathBuf>,
    /// Files of --others to leave out, a name a line
    #[arg(long, value_name = "FILE", requires = "others")]
    others_without: Option<PathBuf>,
    /// Random crops of each photo to learn from, beside the photo as it is and mirrored
    #[arg(long, value_name = "N", default_value_t = 2)]
    crops: u64,
    /// Keep photos that were read in this folder
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The text encoder's folder, for the transfer from language; `none`: without
    #[arg(long, value_name = "DIR", default_value = ".text-encoder")]
    text_encoder: PathBuf,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    shape: ShapeArguments,
    /// Power of the detector's scores in the score of a triplet
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    lambda: f32,
    /// Name of the bundle in OUT/bundle
    #[arg(long, default_value = "edge")]
    name: String,
    #[command(flatten)]
    run: RunArguments,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

/// What is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LearnedPart {
    /// Four fifths of the training list; the rest is reported on
    Fit,
    /// The whole training list
    Train,
}

#[derive(Clone, Debug, Args)]
struct WeightArguments {
    /// Share of the inputs that training sets to 0
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().input_dropout)]
    input_dropout: f64,
    /// Share of the hidden values that training sets to 0
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().dropout)]
    dropout: f64,
    /// Weight of what pairs with found objects say
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().pairs)]
    pairs_weight: f64,
    /// Weight of what the re-mined features must not change: the logits of verbs that the photos do not tell
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().kept)]
    kept_weight: f64,
    /// Share of the teachers beside the photo's label
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().teacher)]
    teacher_weight: f64,
    /// Logits are divided by this before they are compared with the teachers'
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().temperature)]
    temperature: f64,
    /// Weight of the teachers' relation features
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().relation)]
    relation_weight: f64,
    /// Weight of the word-level transfer from language
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().words)]
    words_weight: f64,
    /// Weight of the sentence-level transfer from language
    #[arg(long, value_name = "X", default_value_t = TrainWeights::default().sentences)]
    sentences_weight: f64,
}

impl WeightArguments {
    fn weights(&self) -> anyhow::Result<TrainWeights> {
        let weights = TrainWeights {
            input_dropout: self.input_dropout,
            dropout: self.dropout,
            pairs: self.pairs_weight,
            kept: self.kept_weight,
            teacher: self.teacher_weight,
            temperature: self.temperature,
            relation: self.relation_weight,
            words: self.words_weight,
            sentences: self.sentences_weight,
        };
        for (name, value, right, expected) in [
            (
                "input-dropout",
                weights.input_dropout,
                (0.0..1.0).contains(&weights.input_dropout),
                "0 or more and below 1",
            ),
            ("dropout", weights.dropout, (0.0..1.0).contains(&weights.dropout), "0 or more and below 1"),
            ("teacher-weight", weights.teacher, (0.0..=1.0).contains(&weights.teacher), "a share from 0 to 1"),
            ("temperature", weights.temperature, weights.temperature > 0.0, "a positive number"),
            ("kept-weight", weights.kept, weights.kept >= 0.0, "0 or more"),
            ("pairs-weight", weights.pairs, weights.pairs >= 0.0, "0 or more"),
            ("relation-weight", weights.relation, weights.relation >= 0.0, "0 or more"),
            ("words-weight", weights.words, weights.words >= 0.0, "0 or more"),
            ("sentences-weight", weights.sentences, weights.sentences >= 0.0, "0 or more"),
        ] {
            if !right || !value.is_finite() {
                bail!("--{name} is {value}: it must be {expected}");
            }
        }
        Ok(weights)
    }
}

#[derive(Clone, Debug, Args)]
struct ShapeArguments {
    /// Channels of the relation map, which is computed in the detector's graph
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(i64).range(1..=4096))]
    relation: i64,
    /// Width of the hidden layer of the look at a person
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(i64).range(1..=4096))]
    hidden: i64,
    /// Width of the re-mined features of a pair; 0: none
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(i64).range(0..=4096))]
    remined: i64,
    /// What the look at a person takes at most from the logit of an action that the layout head knows
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = veto)]
    veto: f64,
}

/// A number from 0 to [`MOST_VETO`].
fn veto(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (0.0..=MOST_VETO).contains(&x) => Ok(x),
        _ => Err(format!("`{text}` is no number from 0 to {MOST_VETO}")),
    }
}

/// Part of the set with what was read of it.
struct Part {
    set: Stanford40,
    read: ReadPhotos,
}

impl DistillArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let weights = self.weights.weights()?;
        let device = self.run.device()?;
        let folder = self.run.make_folder()?.to_owned();
        let layout_vocabulary = InteractionTable::published().context("reading the table of interactions")?;
        let layout_vocabulary = layout_vocabulary.vocabulary();
        let vocabulary = with_actions(layout_vocabulary.spec()).context("adding the actions to the vocabulary")?;
        let layout = load_network(&self.layout, Device::Cpu)
            .with_context(|| format!("loading the layout head of {}", self.layout.display()))?;
        let found = [layout.shape().objects, layout.shape().verbs];
        let wanted = [layout_vocabulary.object_count() as i64, layout_vocabulary.verb_count() as i64];
        anyhow::ensure!(found == wanted, "--layout: it knows {found:?} objects and verbs, HICO-DET has {wanted:?}");
        let base = match &self.base {
            Some(base) => ModelBundle::load(base).with_context(|| format!("loading {}", base.display()))?,
            None => ModelBundle::builtin().context("loading the built-in bundle")?,
        };
        anyhow::ensure!(
            base.vocabulary().spec().objects == vocabulary.spec().objects,
            "the bundle `{}` has other object classes than HICO-DET: take one whose vocabulary is COCO's 80",
            base.manifest().name
        );
        let (base, own_taps) = match &self.second_backbone {
            Some(file) => with_second_backbone(&base, file, self.second_side.into(), &folder.join("second"))?,
            None => (base, SSDLITE_TAPS.map(String::from).to_vec()),
        };
        let taps = if self.tap.is_empty() { own_taps } else { self.tap.clone() };
        let evidence = (self.evidence != "none").then_some(self.evidence.as_str());
        let tapped = tapped(&base, &taps, evidence, &folder.join("detector"))?;
        let objects = match &self.objects {
            Some(path) => Some(ProposalFile::read(path, &vocabulary).context("reading --objects")?),
            None => None,
        };
        let source = PhotoSource {
            bundle: &tapped,
            objects: objects.as_ref(),
            threads: self.run.loader_threads(),
            cache: self.cache.as_deref(),
        };
        let read = |split, name: &str, views: &[View]| -> anyhow::Result<Part> {
            let set = Stanford40::load(&self.stanford40, split).context("reading Stanford-40")?;
            let read = source.read(&set, name, views)?;
            Ok(Part { set, read })
        };
        let mut fit = read(ActionSplit::Fit, "fit", &views(self.crops))?;
        let held_views = match self.learn {
            LearnedPart::Fit => vec![View::Plain],
            LearnedPart::Train => views(self.crops),
        };
        let mut held = read(ActionSplit::Held, "held", &held_views)?;
        let names = |set: &Stanford40| set.photos.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        let own_actions = |set: &Stanford40| set.photos.iter().map(|p| p.action).collect::<Vec<_>>();
        let (held_names, held_actions) = (names(&held.set), own_actions(&held.set));
        let teachers = ask_teachers(&self.teacher, &[&fit.set, &held.set])?;
        let mut learned = std::mem::take(&mut fit.read.views);
        let (mut photo_names, mut actions) = (names(&fit.set), own_actions(&fit.set));
        if self.learn == LearnedPart::Train {
            let held_views = std::mem::take(&mut held.read.views);
            learned.iter_mut().zip(held_views).for_each(|(view, more)| view.extend(more));
            photo_names.extend(held_names.iter().cloned());
            actions.extend_from_slice(&held_actions);
        }
        let asked: Vec<&str> = photo_names.iter().map(String::as_str).collect();
        let said = TeacherAnswers::new(&teachers, &asked).context("asking the teachers")?;
        let own_photos = actions.len();
        let others = match self.others(&vocabulary)? {
            Some(set) => Some(source.read(&set, "others", &views(self.crops))?),
            None => None,
        };
        let other_count = others.as_ref().and_then(|read| read.views.first()).map_or(0, Vec::len);
        if let Some(read) = others {
            learned.iter_mut().zip(read.views).for_each(|(view, more)| view.extend(more));
        }
        let said = said.map(|said| said.with_unknown(other_count as i64));

        let action_names: Vec<(String, Option<String>)> =
            ACTIONS.iter().map(|(_, verb, object)| ((*verb).to_owned(), object.map(str::to_owned))).collect();
        let table = ActionTable::new(&action_names, &vocabulary, layout_vocabulary)?;
        let first = learned.first().and_then(|view| view.first()).context("there is no photo to learn from")?;
        let config = self.config(&tapped, &taps, first, *layout.shape(), action_names)?;
        let texts = self.texts(&config, device)?;
        let layout_again = load_network(&self.layout, Device::Cpu)?;
        let run_config = self.run.config(RunConfig {
            epochs: 30,
            batch: 64,
            learning_rate: 1e-3,
            weight_decay: 0.3,
            max_gradient: 1.0,
            schedule: Schedule::Cosine { warmup: 0.05 },
            ..RunConfig::default()
        });
        tch::manual_seed(run_config.seed as i64);
        let model = EdgeModel::new(&config, layout, table.clone(), &weights, texts, device);
        model.prepare(&learned[0]);
        let mut data = format!("{own_photos} photos of Stanford-40's training list in {} views", learned.len());
        if other_count > 0 {
            data.push_str(&format!("; {other_count} persons of other pictures, who do none of the actions"));
        }
        let identity = RunIdentity {
            system: json!({"model": config, "weights": weights, "layout": self.layout, "teachers": self.teacher,
                "tap": taps, "evidence": self.evidence, "second_backbone": self.second_backbone, "second_side": self.second_side,
                "others": self.others}),
            data: data.clone(),
        };
        let progress = self.run.progress();
        let options = self.run.options(&progress);
        let options = RunOptions { folder: &folder, ..options };
        let mut trainer = Trainer::start(&model.store, &[], &run_config, identity, &options).context("starting")?;
        let mut labels: Vec<Option<usize>> = actions.iter().copied().map(Some).collect();
        labels.resize(own_photos + other_count, None);
        let training = Instant::now();
        let photos = Photos { views: &learned, actions: &labels, teachers: said.as_ref() };
        train(&model, &photos, &mut trainer, &run_config, |model| match held.read.views.first() {
            Some(view) => {
                let (mean, _) = precisions(&scores(model, view), &held_actions);
                mean.map(|mean| ("held_out_map", mean)).into_iter().collect()
            }
            None => Vec::new(),
        })
        .context("training")?;
        progress.finish_and_clear();
        let training = training.elapsed().as_secs_f64();
        let log = trainer.log().to_vec();
        trainer.keep_average();
        let own = held.read.views.first().map(|view| {
            let all = scores(&model, view);
            precisions(&all, &held_actions)
        });
        let held_asked: Vec<&str> = held_names.iter().map(String::as_str).collect();
        let taught = match TeacherAnswers::new(&teachers, &held_asked)? {
            Some(said) => precisions(&rows(&said.scores), &held_actions).0,
            None => None,
        };
        let result = json!({
            "held_out": {"photos": held_actions.len(), "mean_ap": own.as_ref().and_then(|o| o.0), "teachers_mean_ap": taught,
                "per_action": own.map(|o| ACTIONS.iter().zip(o.1).map(|(a, ap)| (a.0.to_owned(), json!(ap))).collect::<serde_json::Map<_, _>>())},
            "learned_from": data,
            "teachers": self.teacher,
            "config": run_config,
            "weights": weights,
            "model": config,
            "device": format!("{device:?}"),
            "seconds": {"read": fit.read.seconds + held.read.seconds, "train": training, "all": began.elapsed().as_secs_f64()},
            "epochs": log,
            "command": command_line(),
        });
        let note = json!({"data": data, "command": command_line(), "config": run_config, "weights": weights,
            "held_out": result["held_out"]["mean_ap"]});
        save_model(&model.store, &model.network, &vocabulary, note, &folder)?;
        let answered: Vec<&PhotoLook> =
            learned[0].iter().take(own_photos).chain(held.read.views.first().into_iter().flatten()).collect();
        let mut answer_names = photo_names;
        if self.learn == LearnedPart::Fit {
            answer_names.extend(held_names);
        }
        answers(&model, answer_names, &answered).write(&folder).context("writing what the model says")?;
        let bundle = EdgeBundle {
            base: &base,
            tapped: &tapped,
            taps: &taps,
            vocabulary: &vocabulary,
            layout_vocabulary,
            layout: &layout_again,
            actions: &table,
            config: &config,
            lambda: self.lambda,
            name: &self.name,
            data: &data,
            command: command_line(),
        };
        bundle.write(&folder, &folder.join("bundle"))?;
        write_result(&folder, &result)?;
        self.report(&result)
    }

    fn config(
        &self,
        tapped: &ModelBundle,
        taps: &[String],
        first: &PhotoLook,
        layout: crate::system::layout::LayoutShape,
        actions: Vec<(String, Option<String>)>,
    ) -> anyhow::Result<EdgeConfig> {
        let engine = TractEngine::new(1);
        let detector = hoi_runtime::detector::Detector::load(&engine, tapped).context("loading the detector")?;
        let blank = image::RgbImage::new(8, 8);
        let (input, transform) = hoi_runtime::preprocess::prepare(&blank, &detector.spec().input);
        let output = detector.detect(input, &transform, hoi_runtime::geometry::Size::new(8, 8))?;
        let mut cells = Vec::new();
        let mut maps = Vec::new();
        for (k, tap) in taps.iter().enumerate() {
            let name = if k == 0 { "feature".to_owned() } else { format!("feature_{k}") };
            let map = output.features.iter().find(|(n, _)| *n == name).context("a tap gives no map")?;
            let &[_, channels, rows, columns] = map.1.shape() else { bail!("the tap {tap} is no map") };
            cells.push([rows, columns]);
            maps.push(channels as i64);
        }
        let (rows, columns, factors) = grid_of(&cells).map_err(|reason| anyhow::anyhow!("--tap: {reason}"))?;
        Ok(EdgeConfig {
            layout,
            grid: [rows as i64, columns as i64],
            maps,
            factors: factors.into_iter().map(|f| f as i64).collect(),
            evidence: first.evidence.size()[0],
            relation: self.shape.relation,
            evidence_projected: 64,
            hidden: self.shape.hidden,
            remined: self.shape.remined,
            veto: self.shape.veto,
            actions,
        })
    }

    fn others(&self, vocabulary: &Vocabulary) -> anyhow::Result<Option<Bystanders>> {
        let Some(root) = &self.others else { return Ok(None) };
        let without = match &self.others_without {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => String::new(),
        };
        let without = without.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        let classes = ACTIONS.iter().filter_map(|action| action.2).collect();
        let set = Bystanders::load(root, &vocabulary.spec().human, &classes, &without).context("reading --others")?;
        anyhow::ensure!(
            !set.persons.is_empty(),
            "--others {}: there is no person who could do nothing",
            root.display()
        );
        Ok(Some(set))
    }

    fn texts(&self, config: &EdgeConfig, device: Device) -> anyhow::Result<Option<ActionTexts>> {
        if self.text_encoder == Path::new("none") {
            return Ok(None);
        }
        let encoder = TextEncoder::load(&self.text_encoder, device).context(
            "loading the text encoder (trainer/setup-text-encoder gets one; --text-encoder none does without)",
        )?;
        Ok(Some(ActionTexts::read(&encoder, &config.actions).context("reading the actions' texts")?))
    }

    fn report(&self, result: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", result_line(result, &self.run.out))?;
            return Ok(());
        }
        let number = |v: &Value| v.as_f64().map_or_else(|| "-".to_owned(), |x| format!("{x:.1}"));
        writeln!(
            out,
            "held-out photos, person given: mean AP {}, teachers {}\nread {:.0} s, train {:.0} s\n{}",
            number(&result["held_out"]["mean_ap"]),
            number(&result["held_out"]["teachers_mean_ap"]),
            result["seconds"]["read"].as_f64().unwrap_or_default(),
            result["seconds"]["train"].as_f64().unwrap_or_default(),
            self.run.out.join("bundle").display()
        )?;
        Ok(())
    }
}

/// What a model says of photos, for those who learn from it.
fn answers(model: &EdgeModel, photos: Vec<String>, looks: &[&PhotoLook]) -> Answers {
    let parts: Vec<[Tensor; 2]> = looks.chunks(BATCH).map(|part| model.answers(part)).collect();
    let of = |i: usize| Tensor::cat(&parts.iter().map(|p| &p[i]).collect::<Vec<_>>(), 0).to_device(Device::Cpu);
    Answers { actions: ACTIONS.iter().map(|a| a.0.to_owned()).collect(), photos, scores: of(0), features: of(1) }
}

/// Rows of a matrix.
fn rows(matrix: &Tensor) -> Vec<Vec<f32>> {
    Vec::try_from(matrix.to_device(Device::Cpu).to_kind(Kind::Float)).unwrap_or_default()
}

fn scores(model: &EdgeModel, looks: &[PhotoLook]) -> Vec<Vec<f32>> {
    looks.chunks(BATCH).flat_map(|part| rows(&model.answers(&part.iter().collect::<Vec<_>>())[0])).collect()
}

fn precisions(scores: &[Vec<f32>], actions: &[usize]) -> (Option<f64>, Vec<Option<f64>>) {
    let list: Vec<Option<&[f32]>> = scores.iter().map(|s| Some(s.as_slice())).collect();
    action_precisions(actions, &list)
}
