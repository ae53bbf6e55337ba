//! `hoi-train export`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hoi_runtime::bundle::{AccuracyRecord, ModelBundle, TrainingRecord};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pipeline::{DEFAULT_MIN_SCORE, HoiPipeline};
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::Device;

use super::count::size;
use super::detected::Detector;
use crate::dataset::augment::Resize;
use crate::export::{DetrBundle, DetrGraph, HeadPart, RmlrGraph, WeaklyGraph, write_detr_bundle};
use crate::system::{rmlr, weakly_hoi};

/// Description of a trained part, beside its weights.
const CONFIG_FILE: &str = "config.json";

#[derive(Debug, Subcommand)]
pub(super) enum ExportSystem {
    /// RmLR: detector and head; nothing that serves training alone
    Rmlr(DetrExport),
    /// Weakly-HOI: detector and the network above its map, scored by the rule `weakly`
    Weakly(DetrExport),
}

impl ExportSystem {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Rmlr(arguments) => arguments.run(System::Rmlr),
            Self::Weakly(arguments) => arguments.run(System::Weakly),
        }
    }
}

/// Which system the head is of.
#[derive(Clone, Copy, Debug)]
enum System {
    Rmlr,
    Weakly,
}

impl System {
    fn title(self) -> &'static str {
        match self {
            Self::Rmlr => "RmLR",
            Self::Weakly => "Weakly-HOI",
        }
    }
}

/// A trained head as the export needs it.
struct TrainedHead {
    vocabulary: Vocabulary,
    training: Value,
    part: HeadPart,
}

/// Triplets of a picture at most, where the rule leaves it open.
const MAX_TRIPLETS: usize = 1000;

impl System {
    /// Reads the head in a folder, for a map of the size `feature` (rows, columns, channels).
    fn head(self, folder: &Path, feature: [usize; 3]) -> anyhow::Result<TrainedHead> {
        match self {
            Self::Rmlr => {
                let (model, vocabulary, description) =
                    rmlr::load_model(folder, Device::Cpu).context("loading the head")?;
                let tensors = RmlrGraph::exported(model.store.variables());
                let part = RmlrGraph::of_shape(&model.config().shape, &tensors, feature).part().context("exporting")?;
                Ok(TrainedHead { vocabulary, training: description.training, part })
            }
            Self::Weakly => {
                let (model, vocabulary, description) =
                    weakly_hoi::load_model(folder, Device::Cpu).context("loading the head")?;
                let (tensors, config) = (WeaklyGraph::exported(model.store.variables()), model.config());
                let graph = WeaklyGraph::new(config, &tensors, !vocabulary.alone().is_empty(), feature);
                let fusion = model.fusion_spec(&vocabulary, MAX_TRIPLETS);
                let part = graph.part(fusion).context("exporting")?;
                Ok(TrainedHead { vocabulary, training: description.training, part })
            }
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct DetrExport {
    /// The head: the folder that `hoi-train rmlr` or `hoi-train weakly` wrote
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The detector that it was trained over: the folder that `hoi-train detr` wrote
    #[arg(long, value_name = "DIR")]
    detector: PathBuf,
    /// Where the bundle goes
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// Input of a detector that was trained with pictures of any size; every picture will be stretched to it
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    input: Option<Size>,
    /// Name of the bundle; without it, that of its folder
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Licence of the weights, and what is known of the data's
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    licence: String,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

/// What a trained part's description says of its training.
fn training_of(folder: &Path) -> anyhow::Result<Value> {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut description: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    Ok(description["training"].take())
}

/// The detector's columns must be the head's classes.
fn check_classes(detector: &Vocabulary, head: &Vocabulary) -> anyhow::Result<()> {
    let (found, wanted) = (&detector.spec().objects, &head.spec().objects);
    let different = found.iter().zip(wanted).position(|(a, b)| a != b);
    match different {
        Some(i) => bail!(
            "detector and head do not know the same objects: class {i} is `{}` to the detector and `{}` to the head",
            found[i],
            wanted[i]
        ),
        None if found.len() != wanted.len() => bail!(
            "detector and head do not know the same objects: the detector has {} classes, the head {}",
            found.len(),
            wanted.len()
        ),
        None if detector.human() != head.human() => bail!(
            "detector and head do not call the same class human: `{}` and `{}`",
            detector.spec().human,
            head.spec().human
        ),
        None => Ok(()),
    }
}

impl DetrExport {
    /// Size of the input: the detector's own, or what the command line says where it has none.
    fn input(&self, resize: Resize) -> anyhow::Result<Size> {
        match (resize, self.input) {
            (Resize::Exact(own), None) => Ok(own),
            (Resize::Exact(own), Some(wanted)) if own == wanted => Ok(own),
            (Resize::Exact(own), Some(wanted)) => {
                bail!("--input {wanted}: this detector was trained with pictures of {own}; leave --input out")
            }
            (Resize::ShortSide { .. }, Some(wanted)) => Ok(wanted),
            (Resize::ShortSide { short, long }, None) => bail!(
                "this detector was trained with pictures of any size (short side {short}, long side up to {long}), and a board's graph \
                 has an input of one size: choose it with --input WIDTHxHEIGHT, for instance --input 640x480"
            ),
        }
    }

    fn record(&self, part: &str, training: &Value) -> TrainingRecord {
        let text = |key: &str| training[key].as_str().unwrap_or("not recorded").to_owned();
        TrainingRecord {
            part: part.to_owned(),
            data: text("data"),
            licence: self.licence.clone(),
            source: text("command"),
        }
    }

    fn run(self, system: System) -> anyhow::Result<()> {
        let detector = Detector::load(&self.detector, Device::Cpu)?;
        let model = &detector.model;
        let input = self.input(model.settings.resize())?;
        let detector_tensors = model.store.variables();
        let detector_graph = DetrGraph { tensors: &detector_tensors, config: model.config(), input };
        let TrainedHead { vocabulary, training, part } = system.head(&self.model, detector_graph.feature())?;
        let training = &training;
        check_classes(&model.vocabulary, &vocabulary)?;
        if let Some(trained) = training["detector"].as_str().filter(|&key| key != detector.key) {
            bail!(
                "the head was trained over another detector, whose weights have the SHA-256 {trained}; those in {} have {}",
                self.detector.display(),
                detector.key
            );
        }

        let name = self.name.clone().or_else(|| Some(self.out.file_name()?.to_string_lossy().into_owned()));
        let objects = vocabulary.object_count();
        let bundle = DetrBundle {
            name: name.unwrap_or_else(|| system.title().to_lowercase()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: format!(
                "{} over a DETR with an input of {input}: {objects} classes, {} verbs; exported by hoi-train.",
                system.title(),
                vocabulary.verb_count()
            ),
            detector: detector_graph,
            classes: vocabulary.spec().objects.clone(),
            head: part,
            vocabulary: vocabulary.spec().clone(),
            training: vec![self.record("detector", &training_of(&self.detector)?), self.record("head", training)],
            accuracy: accuracy(training).into_iter().collect(),
            evaluation: BTreeMap::new(),
        };
        let written = write_detr_bundle(&bundle, &self.out).context("exporting")?;
        HoiPipeline::new(&written, &TractEngine::default()).context("the engine refuses the bundle")?;
        self.report(&written, input)
    }

    fn report(&self, bundle: &ModelBundle, input: Size) -> anyhow::Result<()> {
        let manifest = bundle.manifest();
        let (queries, spec) = (manifest.detector.max_detections, &manifest.pairing);
        let [objects, verbs] = [&manifest.vocabulary.objects, &manifest.vocabulary.verbs].map(Vec::len);
        let command = format!("hoi detect PICTURE --bundle {}", self.out.display());
        let mut out = std::io::stdout().lock();
        if self.json {
            let files: BTreeMap<_, _> = manifest.files.iter().map(|(name, entry)| (name, entry.bytes)).collect();
            let line = json!({"out": self.out, "name": manifest.name, "input": [input.width, input.height],
                "objects": objects, "verbs": verbs, "queries": queries, "pairing": spec, "fusion": manifest.fusion,
                "bytes": files, "notes": manifest.notes, "command": command});
            writeln!(out, "{line}")?;
            return Ok(());
        }
        writeln!(out, "wrote the bundle `{}` into {}:", manifest.name, self.out.display())?;
        for (name, entry) in &manifest.files {
            writeln!(out, "  {name:<18}{:>12} bytes", entry.bytes)?;
        }
        for note in &manifest.notes {
            writeln!(out, "note: {note}")?;
        }
        writeln!(out, "`{command}` will")?;
        writeln!(out, "  stretch each picture to {input} and look for {objects} classes with {queries} queries,")?;
        writeln!(
            out,
            "  take {} to {} persons and {} to {} other objects (score from {} on, or the best), and pair each person with everything,",
            spec.humans.min, spec.humans.max, spec.objects.min, spec.objects.max, spec.min_score
        )?;
        writeln!(out, "  score {verbs} verbs for each pair, and print those from {DEFAULT_MIN_SCORE} on.")?;
        Ok(())
    }
}

/// The figure that `hoi-train rmlr` measured, where the description has one.
fn accuracy(training: &Value) -> Option<AccuracyRecord> {
    let text = |key: &str| Some(training[key].as_str()?.to_owned());
    Some(AccuracyRecord {
        data_set: format!("{} split of the data that the head learned from", text("split")?),
        setting: "the detector's boxes; in libtorch, before the export".to_owned(),
        metric: "mean average precision over interactions (11 points), percent".to_owned(),
        value: training["map"].as_f64()?,
        command: text("command")?,
    })
}
