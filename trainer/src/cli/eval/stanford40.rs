//! `hoi-train eval stanford40`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use hoi_runtime::bundle::{AccuracyRecord, ModelBundle};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::staged::StagedFile;
use serde_json::{Value, json};

use crate::dataset::stanford40::{ACTIONS, ActionSplit, Stanford40};
use crate::eval::calibration::{ReliabilityBin, expected_calibration_error, fit_calibration, reliability};
use crate::eval::stanford40::{ActionMap, ActionScorer, PhotoScores, action_precisions};
use crate::system::run::progress_bar;
use crate::system::weakly_hoi::in_order;

/// Parts of `[0, 1]` in which scores are compared with what is true.
const BINS: usize = 10;

/// Triplets below this are not shown by default, and do not count for the calibration error.
const SHOWN: f32 = hoi_runtime::pipeline::DEFAULT_MIN_SCORE;

#[derive(Debug, Args)]
pub(in crate::cli) struct Stanford40Arguments {
    /// The bundle that is scored [default: `builtin:nano`]
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Folder of the set: annotations.json, splits, images
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Part of the set: choose by the held-out fifth of the training list
    #[arg(long, value_enum, default_value_t = ActionSplit::Test, conflicts_with = "list")]
    part: ActionSplit,
    /// Score the photos that this file lists, a name a line
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Photos that are scored at the same time, each on one thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// Write the figures to this file as a bundle's manifest lists them (`hoi bundle --accuracy`)
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Fit a calibration to what the pipeline says of these photos and write it to this file (`hoi bundle --calibration`)
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Draw scores against the share of true ones into this SVG file
    #[arg(long, value_name = "FILE")]
    reliability: Option<PathBuf>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Stanford40Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let bundle = match &self.bundle {
            Some(folder) => {
                ModelBundle::load(folder).with_context(|| format!("loading the bundle {}", folder.display()))?
            }
            None => ModelBundle::builtin().context("loading the built-in bundle")?,
        };
        let map = ActionMap::new(&bundle.manifest().evaluation, bundle.vocabulary())
            .with_context(|| format!("the bundle `{}` cannot be scored on Stanford-40", bundle.manifest().name))?;
        let set = match &self.list {
            Some(list) => Stanford40::load_list(&self.root, list),
            None => Stanford40::load(&self.root, self.part),
        };
        let set = set.context("reading Stanford-40")?;
        ensure!(!set.photos.is_empty(), "there is no photo to score");
        let pipeline = HoiPipeline::new(&bundle, &TractEngine::new(1)).context("making the pipeline")?;
        let scorer = ActionScorer { pipeline: &pipeline, map: &map };
        let progress = progress_bar();
        progress.set_length(set.photos.len() as u64);
        progress.set_message("scoring");
        let mut scores: Vec<PhotoScores> = Vec::with_capacity(set.photos.len());
        in_order(
            set.photos.len(),
            usize::from(self.threads),
            || anyhow::Ok(()),
            |(), index| {
                let pixels = set.open(index)?;
                let photo = &set.photos[index];
                scorer.score(&pixels, &photo.person).with_context(|| format!("scoring {}", photo.name))
            },
            |_, photo| {
                scores.push(photo);
                progress.inc(1);
                anyhow::Ok(())
            },
        )?;
        progress.finish_and_clear();
        let said: Vec<(f32, bool)> =
            set.photos.iter().zip(&scores).flat_map(|(photo, s)| scorer.said_and_true(s, photo.action)).collect();
        let result = self.result(&bundle, &set, &scores, &said);
        if let Some(path) = &self.calibrate {
            ensure!(
                bundle.manifest().fusion.calibration().is_none(),
                "the bundle has a calibration already: fit one to a bundle without"
            );
            let found = fit_calibration(&said).context("the scores do not rise with what is true: nothing to fit")?;
            write(path, &serde_json::to_vec_pretty(&found)?)?;
            eprintln!("hoi-train: {}: {found}", path.display());
        }
        if let Some(path) = &self.reliability {
            let shown: Vec<_> = said.iter().copied().filter(|s| s.0 >= SHOWN).collect();
            write(path, reliability_svg(&reliability(&shown, BINS)).as_bytes())?;
        }
        if let Some(path) = &self.records {
            write(path, &serde_json::to_vec_pretty(&self.accuracy(&result))?)?;
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{result}")?;
        } else {
            write!(out, "{}", table(&result))?;
        }
        Ok(())
    }

    fn part_name(&self) -> String {
        match (&self.list, self.part) {
            (Some(list), _) => format!("the photos of {}", list.display()),
            (None, ActionSplit::Test) => "test list".to_owned(),
            (None, ActionSplit::Train) => "training list".to_owned(),
            (None, ActionSplit::Fit) => "four fifths of the training list".to_owned(),
            (None, ActionSplit::Held) => "held-out fifth of the training list".to_owned(),
        }
    }

    fn result(&self, bundle: &ModelBundle, set: &Stanford40, scores: &[PhotoScores], said: &[(f32, bool)]) -> Value {
        let actions: Vec<usize> = set.photos.iter().map(|p| p.action).collect();
        let of = |list: Vec<Option<&[f32]>>| action_precisions(&actions, &list);
        let (given, per_action) = of(scores.iter().map(|s| Some(s.given.as_slice())).collect());
        let (detected, detected_each) = of(scores.iter().map(|s| s.detected.as_deref()).collect());
        let (by_itself, said_each) = of(scores.iter().map(|s| Some(s.said.as_slice())).collect());
        let by_name = |list: &[Option<f64>]| -> Value {
            ACTIONS
                .iter()
                .zip(list)
                .map(|((name, ..), ap)| ((*name).to_owned(), json!(ap)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let shown: Vec<_> = said.iter().copied().filter(|s| s.0 >= SHOWN).collect();
        let first = |of: &dyn Fn(&PhotoScores) -> &[f32]| {
            let right = scores.iter().zip(&actions).filter(|(s, a)| best(of(s)) == Some(**a)).count();
            100.0 * right as f64 / scores.len() as f64
        };
        json!({
            "set": "stanford40",
            "part": self.part_name(),
            "bundle": bundle.manifest().name,
            "photos": scores.len(),
            "mean_ap": given,
            "per_verb": by_name(&per_action),
            "first_right": first(&|s| &s.given),
            "confusions": confusions(scores, &actions),
            "detected_people": {
                "mean_ap": detected,
                "found": scores.iter().filter(|s| s.detected.is_some()).count(),
                "per_verb": by_name(&detected_each),
            },
            "said": {"mean_ap": by_itself, "first_right": first(&|s| &s.said), "per_verb": by_name(&said_each)},
            "calibration": {
                "error": expected_calibration_error(&shown, BINS),
                "triplets": shown.len(),
                "bins": reliability(&shown, BINS),
            },
        })
    }

    fn accuracy(&self, result: &Value) -> Vec<AccuracyRecord> {
        let part = match (&self.list, self.part) {
            (Some(_), _) => "--list LIST".to_owned(),
            (None, part) => format!("--part {}", format!("{part:?}").to_lowercase()),
        };
        let record = |setting: &str, metric: &str, value: &Value| {
            Some(AccuracyRecord {
                data_set: format!("Stanford-40, {}", self.part_name()),
                setting: setting.to_owned(),
                metric: metric.to_owned(),
                value: (value.as_f64()? * 1000.0).round() / 1000.0,
                command: format!("hoi-train eval stanford40 --root ROOT --bundle BUNDLE {part}"),
            })
        };
        [
            record("the person's box given", "mean AP", &result["mean_ap"]),
            record("the detected person that overlaps it", "mean AP", &result["detected_people"]["mean_ap"]),
            record(
                "as the pipeline says it: an action's COCO object must be found",
                "mean AP",
                &result["said"]["mean_ap"],
            ),
            record(
                "triplets that are actions of the set",
                "expected calibration error",
                &result["calibration"]["error"],
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The action with the highest score; `None` where nothing is said.
fn best(scores: &[f32]) -> Option<usize> {
    let most = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
    (*most.1 > 0.0).then_some(most.0)
}

/// The most frequent wrong first answers with the person given.
fn confusions(scores: &[PhotoScores], actions: &[usize]) -> Vec<Value> {
    let mut counts = std::collections::BTreeMap::new();
    for (s, &own) in scores.iter().zip(actions) {
        if let Some(first) = best(&s.given).filter(|first| *first != own) {
            *counts.entry((own, first)).or_insert(0usize) += 1;
        }
    }
    let mut list: Vec<_> = counts.into_iter().collect();
    list.sort_by_key(|((own, first), count)| (std::cmp::Reverse(*count), *own, *first));
    list.truncate(15);
    list.into_iter()
        .map(|((own, first), n)| json!({"action": ACTIONS[own].0, "said": ACTIONS[first].0, "photos": n}))
        .collect()
}

fn write(path: &std::path::Path, content: &[u8]) -> anyhow::Result<()> {
    let mut content = content.to_vec();
    if content.last() != Some(&b'\n') {
        content.push(b'\n');
    }
    StagedFile::new(path, &content)
        .and_then(StagedFile::commit)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn table(result: &Value) -> String {
    let number = |v: &Value| v.as_f64().map_or_else(|| "-".to_owned(), |x| format!("{x:.1}"));
    let mut text = String::from("| action | person given | person detected | said |\n|---|---|---|---|\n");
    let (detected, said) = (&result["detected_people"], &result["said"]);
    for (name, ..) in ACTIONS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            number(&result["per_verb"][name]),
            number(&detected["per_verb"][name]),
            number(&said["per_verb"][name])
        );
    }
    let _ = writeln!(
        text,
        "| **mean AP** | **{}** | **{}** | **{}** |\n\n{} photos of the {}; a person was detected there (IoU 0.5) in {}.",
        number(&result["mean_ap"]),
        number(&detected["mean_ap"]),
        number(&said["mean_ap"]),
        result["photos"],
        result["part"].as_str().unwrap_or_default(),
        detected["found"]
    );
    let calibration = &result["calibration"];
    let _ = writeln!(
        text,
        "Expected calibration error of {} triplets over {SHOWN}: {:.3}.",
        calibration["triplets"],
        calibration["error"].as_f64().unwrap_or(f64::NAN)
    );
    text
}

/// A reliability plot: a bar for each part of `[0, 1]` as high as the share of true triplets in it, and the diagonal on which they should end.
fn reliability_svg(bins: &[ReliabilityBin]) -> String {
    let (side, margin) = (300.0, 40.0);
    let at = |v: f64| margin + v * side;
    let total = side + 2.0 * margin;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total} {total}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{total}\" height=\"{total}\" fill=\"white\"/>\n"
    );
    let width = side / bins.len().max(1) as f64;
    for (i, bin) in bins.iter().enumerate().filter(|(_, b)| b.count > 0) {
        let (x, height) = (margin + i as f64 * width, bin.share * side);
        let y = margin + side - height;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#4a7fb5\"/>\n\
             <circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#c0392b\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"8\">{}</text>",
            x + 1.0,
            width - 2.0,
            at(bin.score),
            margin + side - bin.share * side,
            x + width / 2.0,
            y - 3.0,
            bin.count
        );
    }
    let (low, high) = (margin, margin + side);
    let _ = writeln!(
        svg,
        "<line x1=\"{low}\" y1=\"{high}\" x2=\"{high}\" y2=\"{low}\" stroke=\"#888\" stroke-dasharray=\"4\"/>\n\
         <path d=\"M{low} {low}V{high}H{high}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">score (dot: mean of the part)</text>\n\
         <text x=\"12\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 12 {})\">share of true triplets</text>",
        low + side / 2.0,
        high + 28.0,
        low + side / 2.0,
        low + side / 2.0
    );
    for tick in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            at(tick),
            high + 13.0,
            low - 5.0,
            high - tick * side + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
