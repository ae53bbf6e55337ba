//! `hoi bundle`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use serde::{Deserialize, de::DeserializeOwned};

use super::bench::test_pattern;
use super::load_bundle;
use crate::bundle::{AccuracyRecord, BundleParts, HeadDescription, TrainingRecord, write_bundle};
use crate::detector::DetectorSpec;
use crate::engine::TractEngine;
use crate::fusion::Calibration;
use crate::pipeline::HoiPipeline;

#[derive(Args)]
pub(super) struct BundleArgs {
    /// Folder of the new bundle; a bundle that is already there is replaced
    out: PathBuf,
    /// Bundle to start from
    #[arg(long, value_name = "FOLDER", default_value = "builtin:nano")]
    base: PathBuf,
    /// Name of the new bundle
    #[arg(long)]
    name: Option<String>,
    /// One sentence that says what the new bundle is
    #[arg(long)]
    description: Option<String>,
    /// Detector graph
    #[arg(long, value_name = "ONNX", requires_all = ["detector_description", "name", "description"])]
    detector: Option<PathBuf>,
    /// Its description: the manifest's `detector` section with `training` and `precision` (see models/detectors)
    #[arg(long, value_name = "JSON", requires = "detector")]
    detector_description: Option<PathBuf>,
    /// Interaction head graph
    #[arg(long, value_name = "ONNX", requires_all = ["head_description", "head_licence", "name", "description"])]
    head: Option<PathBuf>,
    /// Its description: the head.json that the trainer wrote
    #[arg(long, value_name = "JSON", requires = "head")]
    head_description: Option<PathBuf>,
    /// How the head's weights are stored and computed
    #[arg(long, value_name = "TEXT", default_value = "f16 stored, f32 computed", requires = "head")]
    head_precision: String,
    /// Licence of the head's weights, and what is known of its data's
    #[arg(long, value_name = "TEXT", requires = "head")]
    head_licence: Option<String>,
    /// Measured figures: a JSON list of {data_set, setting, metric, value, command}; they replace those of the base
    #[arg(long, value_name = "JSON")]
    accuracy: Option<PathBuf>,
    /// What turns scores into probabilities: a JSON object {slope, offset}, fitted to this bundle without one (`hoi-train eval stanford40
    /// --calibrate`)
    #[arg(long, value_name = "JSON")]
    calibration: Option<PathBuf>,
    /// A text to put beside the networks (MODEL_CARD.md, NOTICE); may be repeated
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A detector as models/detectors describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DetectorDescription {
    detector: DetectorSpec,
    precision: String,
    training: TrainingRecord,
}

pub(super) fn run(args: &BundleArgs) -> anyhow::Result<ExitCode> {
    let mut parts = BundleParts::from_bundle(&load_bundle(Some(&args.base))?);
    if args.detector.is_some() || args.head.is_some() {
        // Figures, cards and notices of the base speak of its own networks.
        parts.manifest.accuracy.clear();
        if parts.manifest.fusion.calibration().is_some() {
            eprintln!("hoi: the base's calibration is left out: it was fitted to its own networks");
            parts.manifest.fusion = parts.manifest.fusion.calibrated(None);
        }
        let networks = [parts.manifest.detector.file.clone(), parts.manifest.head.file.clone()];
        parts.files.retain(|name, _| {
            let kept = networks.contains(name);
            if !kept {
                eprintln!("hoi: {name} of the base is left out; add what fits with --file");
            }
            kept
        });
    }
    if let Some(name) = &args.name {
        parts.manifest.name.clone_from(name);
    }
    if let Some(description) = &args.description {
        parts.manifest.description.clone_from(description);
    }
    if let (Some(graph), Some(description)) = (&args.detector, &args.detector_description) {
        let d: DetectorDescription = read_json(description)?;
        let old = std::mem::replace(&mut parts.manifest.detector, d.detector).file;
        let new = parts.manifest.detector.file.clone();
        replace(&mut parts, &old, new, read(graph)?, d.precision, d.training);
    }
    if let (Some(graph), Some(description)) = (&args.head, &args.head_description) {
        let d: HeadDescription = read_json(description)?;
        let old = std::mem::replace(&mut parts.manifest.head, d.head).file;
        let new = parts.manifest.head.file.clone();
        parts.manifest.vocabulary = d.vocabulary;
        // They speak of the base's verbs and of its head.
        parts.manifest.evaluation.clear();
        parts.manifest.notes.clear();
        let training = TrainingRecord {
            part: "head".into(),
            data: d.training.data,
            licence: args.head_licence.clone().unwrap_or_default(),
            source: d.training.command,
        };
        replace(&mut parts, &old, new, read(graph)?, args.head_precision.clone(), training);
    }
    if let Some(path) = &args.accuracy {
        parts.manifest.accuracy = read_json::<Vec<AccuracyRecord>>(path)?;
    }
    if let Some(path) = &args.calibration {
        parts.manifest.fusion = parts.manifest.fusion.calibrated(Some(read_json::<Calibration>(path)?));
    }
    for path in &args.files {
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.with_context(|| format!("{}: not a file name", path.display()))?;
        ensure!(
            ![&parts.manifest.detector.file, &parts.manifest.head.file].iter().any(|f| *f == name),
            "{name} is a network of the bundle; use --detector or --head"
        );
        parts.files.insert(name.to_owned(), read(path)?);
    }
    // It must run before it is written where a board could find it.
    let trial = tempfile::tempdir().context("temporary folder")?;
    let bundle = write_bundle(&trial.path().join("bundle"), parts.clone())?;
    HoiPipeline::new(&bundle, &TractEngine::default())
        .and_then(|pipeline| pipeline.run(&test_pattern()))
        .context("the new bundle does not run")?;
    let bundle = write_bundle(&args.out, parts)?;
    let mut out = std::io::stdout().lock();
    let bytes: u64 = bundle.manifest().files.values().map(|f| f.bytes).sum();
    writeln!(out, "{}: {} files, {bytes} bytes", args.out.display(), bundle.manifest().files.len())?;
    Ok(ExitCode::SUCCESS)
}

/// Puts one network in place of another: file, precision and training record.
fn replace(
    parts: &mut BundleParts,
    old: &str,
    new: String,
    content: Vec<u8>,
    precision: String,
    training: TrainingRecord,
) {
    parts.files.remove(old);
    parts.manifest.precision.remove(old);
    parts.files.insert(new.clone(), content);
    parts.manifest.precision.insert(new, precision);
    parts.manifest.training.retain(|t| t.part != training.part);
    parts.manifest.training.push(training);
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_slice(&read(path)?).with_context(|| path.display().to_string())
}
