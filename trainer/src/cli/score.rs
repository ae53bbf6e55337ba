//! `hoi-train score`.

mod v_coco;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table;
use crate::dataset::DatasetError;
use crate::dataset::hico_det::{HicoDet, KnownObjectImages, ZeroShotSplit};
use crate::eval::hico_det::{HicoDetEvaluator, HicoDetScores};
use crate::eval::interactions::EvaluationError;
use crate::eval::predictions::{Prediction, PredictionReader, PredictionsError, Taken, take_all};
use crate::eval::zero_shot::ZeroShotMeans;

#[derive(Debug, Subcommand)]
pub(super) enum ScoreSet {
    /// HICO-DET's test split: Default and Known-Object, all, rare and non-rare
    HicoDet(HicoDetArguments),
    /// V-COCO's role AP in scenario 1 and 2, with and without `point`
    VCoco(v_coco::VCocoArguments),
}

impl ScoreSet {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::HicoDet(arguments) => arguments.run(),
            Self::VCoco(arguments) => arguments.run(),
        }
    }
}

/// Interactions that training did not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ZeroShotChoice {
    /// 120 rare ones
    RfUc,
    /// 120 frequent ones
    NfUc,
    /// Five draws of 120, each verb and object seen
    Uc,
    /// All of 12 objects
    Uo,
    /// All of 20 verbs
    Uv,
}

impl ZeroShotChoice {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }

    /// One split, or the five draws that UC is the mean of.
    fn splits(self) -> Vec<ZeroShotSplit> {
        match self {
            Self::RfUc => vec![ZeroShotSplit::RfUc],
            Self::NfUc => vec![ZeroShotSplit::NfUc],
            Self::Uc => (0..5).map(ZeroShotSplit::Uc).collect(),
            Self::Uo => vec![ZeroShotSplit::Uo],
            Self::Uv => vec![ZeroShotSplit::Uv],
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct HicoDetArguments {
    /// JSON lines, one image a line; a name ending in .gz is unpacked
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Folder of HICO-DET's annotations
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Score the unseen and the seen interactions of a zero-shot split apart
    #[arg(long, value_enum)]
    split: Option<ZeroShotChoice>,
    /// Seed of the order of equal scores
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl HicoDetArguments {
    fn run(self) -> anyhow::Result<()> {
        let data = HicoDet::open(&self.root)?;
        let images = data.test()?;
        let known = known_objects(&data)?;
        let mut evaluator = HicoDetEvaluator::new(data.table(), &images, known.as_ref(), self.seed);
        let numbers: HashMap<&str, u64> = images.iter().map(|i| (i.name.as_str(), i.number)).collect();
        let taken = read_all(&self.predictions, &numbers, |number, list| evaluator.add_image(number, list))?;
        let scores = evaluator.finish();
        let zero_shot = self.split.map(|split| anyhow::Ok((split, means(split, &scores)?))).transpose()?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut line = serde_json::to_value(&scores)?;
            describe(&mut line, "hico-det test", &self.predictions, images.len(), taken, self.seed);
            if let Some((split, means)) = zero_shot {
                line["zero_shot"] = serde_json::to_value(means)?;
                line["zero_shot"]["split"] = json!(split.name());
                line["zero_shot"]["lists"] = json!(split.splits().len());
            }
            writeln!(out, "{line}")?;
            return Ok(());
        }
        writeln!(out, "HICO-DET test: mAP in percent, {}", counted(images.len(), taken))?;
        write!(out, "{}{}", table::head(), table::row("Default", &scores.default))?;
        if let Some(known) = &scores.known_object {
            write!(out, "{}", table::row("Known-Object", known))?;
        }
        if let Some((split, means)) = zero_shot {
            let [unseen, seen, full] = [means.unseen, means.seen, means.full].map(table::cell);
            let lists = split.splits().len();
            let of = if lists > 1 { format!(", mean of {lists} lists") } else { String::new() };
            writeln!(out, "  {}{of}, Default: unseen {unseen}, seen {seen}, full {full}", split.name())?;
        }
        Ok(())
    }
}

/// The lists of the Known-Object mode; nothing, and a line that says so, where the folder has none.
fn known_objects(data: &HicoDet) -> anyhow::Result<Option<KnownObjectImages>> {
    match data.known_objects() {
        Ok(known) => Ok(Some(known)),
        Err(absent @ DatasetError::NothingFound { .. }) => {
            eprintln!("hoi-train: Default only: {absent}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Unseen, seen and full, Default; UC is the mean over its lists.
fn means(split: ZeroShotChoice, scores: &HicoDetScores) -> anyhow::Result<ZeroShotMeans> {
    let draws = split.splits().into_iter().map(|split| {
        ZeroShotMeans::new(&scores.per_interaction, &split.unseen()?)
            .with_context(|| format!("the split {} is not of this folder's interactions", split.name()))
    });
    Ok(ZeroShotMeans::mean(&draws.collect::<anyhow::Result<Vec<_>>>()?))
}

/// Reads a file of predictions with a bar of the bytes read.
fn read_all<T: Prediction>(
    path: &Path,
    numbers: &HashMap<&str, u64>,
    add: impl FnMut(u64, &[T]) -> Result<(), EvaluationError>,
) -> anyhow::Result<Taken> {
    let read = |source| PredictionsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let bytes = file.metadata().map_err(read)?.len();
    // Drawn where standard error is a terminal.
    let progress = ProgressBar::new(bytes);
    let template = "{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    progress.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let file = progress.wrap_read(file);
    let input: Box<dyn BufRead> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::with_capacity(1 << 18, file))
    };
    let taken = take_all(PredictionReader::new(input, path), numbers, add);
    progress.finish_and_clear();
    Ok(taken?)
}

fn counted(images: usize, taken: Taken) -> String {
    format!("{images} images, {} predictions for {} of them", taken.triplets, taken.images)
}

/// What every line says beside the scores.
fn describe(line: &mut Value, set: &str, predictions: &Path, images: usize, taken: Taken, seed: u64) {
    line["set"] = json!(set);
    line["predictions"] = json!(predictions);
    line["images"] = json!(images);
    line["images_with_predictions"] = json!(taken.images);
    line["triplets"] = json!(taken.triplets);
    line["seed"] = json!(seed);
}
