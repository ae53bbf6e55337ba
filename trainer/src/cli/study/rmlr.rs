//! From a detector to docs/results/rmlr.md.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tch::Device;

use super::{Job, detector_command, machine, make_all, options, path};
use crate::cli::detected::Detector;
use crate::cli::rmlr::TEXT_ENCODER;
use crate::cli::run::command_line;
use crate::dataset::PictureSet;
use crate::dataset::rendered::{RenderedConfig, RenderedScenes, Split, interference, same_place};
use crate::export::write_beside;
use crate::system::rmlr::{
    Row, RunResult, figure_1, figure_1_table, figure_4, figure_4_table, load_model, mean_and_deviation, read_result,
    rows_table,
};

/// Scenes of each claim.
const CLAIM_SCENES: usize = 300;
/// Seed of the claims' scenes: none that anything was trained on.
const CLAIM_SEED: u64 = 1_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct RmlrStudy {
    /// The frozen detector: the folder that `hoi-train detr` wrote
    #[arg(long, value_name = "DIR")]
    detector: PathBuf,
    /// The text encoder's folder
    #[arg(long, value_name = "DIR", default_value = TEXT_ENCODER)]
    text_encoder: PathBuf,
    /// Where runs go; those that have finished there are kept
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Seeds of every row: 0 and on
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// Rows to run; all without this
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Option<Vec<Row>>,
    /// Runs at a time, each on one thread
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Split that is scored: choose on validation, report on test
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// What else every run is told, as one text
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    with: String,
}

impl RmlrStudy {
    fn jobs(&self) -> Vec<Job> {
        let rows = self.rows.clone().unwrap_or_else(|| Row::ALL.to_vec());
        let mut jobs = Vec::new();
        for seed in 0..self.seeds {
            let mut names: Vec<(String, Vec<String>)> =
                vec![("boxes-only".to_owned(), vec!["--boxes-only".to_owned()])];
            names.extend(rows.iter().map(|row| {
                let name = row.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
                (name.clone(), vec!["--row".to_owned(), name])
            }));
            for (name, own) in names {
                let folder = self.out.join(format!("{name}-{seed}"));
                let mut arguments = vec!["rmlr".to_owned()];
                arguments.extend(options(&[
                    ("--detector", path(&self.detector)),
                    ("--text-encoder", path(&self.text_encoder)),
                    ("--cache", path(&self.out.join("detections"))),
                    ("--out", path(&folder)),
                    ("--split", self.split.name().to_owned()),
                    ("--seed", seed.to_string()),
                ]));
                arguments.extend(own);
                arguments.extend(self.with.split_whitespace().map(str::to_owned));
                jobs.push(Job { name, folder, arguments, borrowed: false });
            }
        }
        jobs
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let results: Vec<(String, RunResult)> = make_all(&self.jobs(), self.jobs, |_, result: &RunResult| {
            format!("{} seed {}: mAP {:.2} in {:.0} s", result.row, result.seed, result.map, result.seconds)
        })?;
        let text = self.write(&results, began.elapsed().as_secs_f64())?;
        write_beside(&self.out.join("report.md"), text.as_bytes())?;
        if let Some(report) = &self.report {
            write_beside(report, text.as_bytes())?;
        }
        let mut out = std::io::stdout().lock();
        write!(out, "{text}")?;
        Ok(())
    }

    fn write(&self, results: &[(String, RunResult)], seconds: f64) -> anyhow::Result<String> {
        let mut rows: Vec<(String, Vec<RunResult>)> = Vec::new();
        for job in self.jobs() {
            let of: Vec<RunResult> = results.iter().filter(|r| r.0 == job.name).map(|r| r.1.clone()).collect();
            let title = of.first().map_or(job.name.clone(), |r| r.row.clone());
            if !rows.iter().any(|r| r.0 == title) {
                rows.push((title, of));
            }
        }
        for (_, of) in &mut rows {
            of.sort_by_key(|r| r.seed);
        }
        let spent: f64 = results.iter().map(|r| r.1.seconds).sum();
        let one = &results.first().context("no result")?.1;
        let mut text = String::from("# RmLR on rendered scenes\n\n");
        let _ = writeln!(
            text,
            "Written by `{}` in {:.0} minutes ({:.0} minutes of runs, {} at a time) on {}.\n\nmAP in percent (11 points, min IoU 0.5 of both boxes) on {} scenes of the {} split, detected boxes; {} seeds of weights, order and dropout; one detector and one set of scenes.\n",
            command_line(),
            seconds / 60.0,
            spent / 60.0,
            self.jobs,
            machine(),
            one.scenes,
            one.split,
            self.seeds
        );
        text.push_str(&rows_table(&rows));
        let of = |name: &str| {
            let row = rows.iter().find(|r| r.0 == name)?;
            let maps: Vec<f64> = row.1.iter().map(|r| r.map).collect();
            Some(mean_and_deviation(&maps).0)
        };
        if let (Some(full), Some(plain), Some(boxes)) =
            (of(Row::Full.title()), of(Row::Plain.title()), of("boxes only"))
        {
            let _ = writeln!(
                text,
                "\nRmLR is {:.1} points above plain. The perceptron that sees boxes and classes only reaches {:.0} % of RmLR's mAP.",
                full - plain,
                100.0 * boxes / full.max(1e-9)
            );
        }
        if let Some(command) = detector_command(&self.detector) {
            let _ = writeln!(text, "\nThe detector: `{command}`.");
        }
        text.push_str(&self.claims()?);
        Ok(text)
    }

    /// Figures 1 and 4 with the full row's first seed.
    fn claims(&self) -> anyhow::Result<String> {
        let folder = self.out.join("full-0");
        if read_result::<RunResult>(&folder)?.is_none() {
            return Ok(String::new());
        }
        let detector = Detector::load(&self.detector, Device::Cpu)?;
        let size = detector.input()?;
        let set = RenderedScenes::new(RenderedConfig { size, count: 1, ..RenderedConfig::default() })?;
        let (model, _, _) = load_model(&folder, Device::Cpu).context("loading the full row")?;
        let triples = same_place(size, CLAIM_SEED, CLAIM_SCENES)?;
        let one = figure_1(&detector.model, &model, &triples, set.vocabulary())?;
        let scenes = interference(size, CLAIM_SEED, CLAIM_SCENES)?;
        let four = figure_4(&detector.model, &model, &scenes, set.vocabulary())?;
        write_beside(
            &self.out.join("claims.json"),
            &serde_json::to_vec_pretty(&json!({"figure_1": one, "figure_4": four}))?,
        )?;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n## Figure 1: what tokens and cues are like\n\n{} triples of scenes with one person (seed {CLAIM_SEED}; {} more were missed by the detector), row RmLR, seed 0.\n\n{}",
            one.triples,
            one.missed,
            figure_1_table(&one)
        );
        let _ = writeln!(
            text,
            "## Figure 4: what a neighbour's object changes\n\n{} scenes with and without an object between human and object, outside both boxes; row RmLR, seed 0, annotated boxes.\n\n{}",
            four.scenes,
            figure_4_table(&four)
        );
        Ok(text.trim_end().to_owned() + "\n")
    }
}
