//! From a detector, and photos where they are named, to docs/results/weakly_hoi.md.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::{Job, detector_command, machine, make, make_all, options, path};
use crate::cli::rmlr::TEXT_ENCODER;
use crate::cli::run::command_line;
use crate::cli::weakly::actions_table;
use crate::dataset::rendered::Split;
use crate::export::write_beside;
use crate::system::rmlr::{RunResult, mean_and_deviation};
use crate::system::weakly_hoi::{Users, WeaklyRow};

/// The paper's ablation: one part after the other.
const ABLATION: [WeaklyRow; 5] =
    [WeaklyRow::Baseline, WeaklyRow::Exp1, WeaklyRow::Exp3, WeaklyRow::Exp4, WeaklyRow::Full];

#[derive(Debug, Args)]
pub(in crate::cli) struct WeaklyStudy {
    /// The detector of rendered scenes: the folder that `hoi-train detr` wrote
    #[arg(long, value_name = "DIR")]
    detector: PathBuf,
    /// The text encoder's folder
    #[arg(long, value_name = "DIR", default_value = TEXT_ENCODER)]
    text_encoder: PathBuf,
    /// Stanford-40, learned from its whole training list and scored on its test list
    #[arg(long, value_name = "DIR", requires = "backbone")]
    stanford40: Option<PathBuf>,
    /// Backbones for photos, as for `hoi-train weakly --stanford40`
    #[arg(long, value_name = "FILE", requires = "stanford40")]
    backbone: Vec<PathBuf>,
    /// Where runs go; those that have finished there are kept
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write the report here as well
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Seeds of every row: 0 and on
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Rows to run [default: baseline, exp1, exp3, exp4, full: one part after the other]
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Option<Vec<WeaklyRow>>,
    /// Runs at a time, each on one thread; Stanford-40 runs alone, on as many threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Split of the scenes that is scored: choose on validation, report on test
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// What else every run on scenes is told, as one text
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    with: String,
}

/// What a run on scenes leaves.
#[derive(Clone, Debug, Deserialize)]
struct SceneResult {
    #[serde(flatten)]
    run: RunResult,
    users: Users,
    /// The run whose weights it took.
    #[serde(default)]
    trained: Option<PathBuf>,
}

impl SceneResult {
    fn percent(&self, of: usize) -> f64 {
        100.0 * of as f64 / self.users.scenes.max(1) as f64
    }
}

/// "12.34 (0.56)": mean and standard deviation.
fn shown(values: &[f64], digits: usize) -> String {
    let (mean, deviation) = mean_and_deviation(values);
    format!("{mean:.digits$} ({deviation:.digits$})")
}

/// A row as the command line has it.
fn row_name(row: WeaklyRow) -> String {
    row.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

impl WeaklyStudy {
    /// The runs on scenes; and after them those that take the weights of one of them, which is trained alike.
    fn jobs(&self) -> [Vec<Job>; 2] {
        let mut rows: Vec<WeaklyRow> = Vec::new();
        for &row in self.rows.as_deref().unwrap_or(&ABLATION) {
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
        let mut jobs = [Vec::new(), Vec::new()];
        for seed in 0..self.seeds {
            let folder = |row: WeaklyRow| self.out.join(format!("{}-{seed}", row_name(row)));
            for (place, &row) in rows.iter().enumerate() {
                let trained = rows[..place].iter().find(|earlier| row.trained_as(**earlier));
                let mut arguments = vec!["weakly".to_owned()];
                arguments.extend(options(&[
                    ("--detector", path(&self.detector)),
                    ("--text-encoder", path(&self.text_encoder)),
                    ("--cache", path(&self.out.join("detections"))),
                    ("--out", path(&folder(row))),
                    ("--split", self.split.name().to_owned()),
                    ("--row", row_name(row)),
                    ("--seed", seed.to_string()),
                ]));
                arguments.extend(self.with.split_whitespace().map(str::to_owned));
                if let Some(&earlier) = trained {
                    arguments.extend(options(&[("--trained", path(&folder(earlier)))]));
                }
                let borrowed = trained.is_some();
                let job = Job { name: row.title().to_owned(), folder: folder(row), arguments, borrowed };
                jobs[usize::from(borrowed)].push(job);
            }
        }
        jobs
    }

    fn stanford40(&self) -> anyhow::Result<Option<Value>> {
        let Some(root) = &self.stanford40 else { return Ok(None) };
        let mut arguments = vec!["weakly".to_owned()];
        arguments.extend(options(&[
            ("--stanford40", path(root)),
            ("--actions", "test".to_owned()),
            ("--text-encoder", path(&self.text_encoder)),
            ("--cache", path(&self.out.join("stanford40-photos"))),
            ("--out", path(&self.out.join("stanford40"))),
            ("--threads", self.jobs.to_string()),
            ("--loader-threads", self.jobs.to_string()),
        ]));
        self.backbone.iter().for_each(|file| arguments.extend(options(&[("--backbone", path(file))])));
        Ok(Some(make(&Job {
            name: "stanford40".to_owned(),
            folder: self.out.join("stanford40"),
            arguments,
            borrowed: false,
        })?))
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.seeds == 0 {
            bail!("--seeds 0: at least one run of each row is needed");
        }
        let began = Instant::now();
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let actions = self.stanford40()?;
        let tell = |_: &Job, result: &SceneResult| {
            let right = result.percent(result.users.right);
            let RunResult { row, seed, map, seconds, .. } = &result.run;
            format!("{row} seed {seed}: mAP {map:.2}, right person {right:.1} %, {seconds:.0} s")
        };
        let mut results: Vec<(String, SceneResult)> = Vec::new();
        for jobs in self.jobs().iter().filter(|jobs| !jobs.is_empty()) {
            results.extend(make_all(jobs, usize::from(self.jobs), tell)?);
        }
        let text = self.write(&results, actions.as_ref(), began.elapsed().as_secs_f64())?;
        write_beside(&self.out.join("report.md"), text.as_bytes())?;
        if let Some(report) = &self.report {
            write_beside(report, text.as_bytes())?;
        }
        let mut out = std::io::stdout().lock();
        write!(out, "{text}")?;
        Ok(())
    }

    fn write(
        &self,
        results: &[(String, SceneResult)],
        actions: Option<&Value>,
        seconds: f64,
    ) -> anyhow::Result<String> {
        let mut rows: Vec<(&str, Vec<&SceneResult>)> = Vec::new();
        for (name, result) in results {
            match rows.iter_mut().find(|r| r.0 == name.as_str()) {
                Some(row) => row.1.push(result),
                None => rows.push((name, vec![result])),
            }
        }
        let order = |title: &str| WeaklyRow::ALL.iter().position(|r| r.title() == title);
        rows.sort_by_key(|r| order(r.0));
        rows.iter_mut().for_each(|r| r.1.sort_by_key(|result| result.run.seed));
        let spent: f64 = results.iter().map(|r| r.1.run.seconds).sum();
        let one = &results.first().context("no result")?.1;
        let mut text = String::from("# Weakly-HOI: image-level labels only\n\n");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Written by `{}` in {:.0} minutes ({:.0} minutes of runs on scenes, {} at a time; runs that an earlier call had finished are kept) on {}.",
            command_line(),
            seconds / 60.0,
            spent / 60.0,
            self.jobs,
            machine()
        );
        if let Some(actions) = actions {
            text.push_str(&stanford40_section(actions));
        }
        let _ = writeln!(
            text,
            "\n## One part after the other\n\nRendered scenes, learned from which interactions a picture shows. mAP in percent (11 points, min IoU 0.5 of both boxes) on {} scenes of the {} split, detected boxes; mean and standard deviation over {} seeds of weights and order.\n\n| row | mAP | each seed | right person, % | seconds a run |\n|---|---|---|---|---|",
            one.run.scenes, one.run.split, self.seeds
        );
        for (name, results) in &rows {
            let maps: Vec<f64> = results.iter().map(|r| r.run.map).collect();
            let right: Vec<f64> = results.iter().map(|r| r.percent(r.users.right)).collect();
            let seconds: Vec<f64> = results.iter().map(|r| r.run.seconds).collect();
            let each: Vec<String> = maps.iter().map(|m| format!("{m:.2}")).collect();
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {:.0} |",
                shown(&maps, 2),
                each.join(", "),
                shown(&right, 1),
                mean_and_deviation(&seconds).0
            );
        }
        let taken: Vec<&str> =
            rows.iter().filter(|r| r.1.iter().any(|result| result.trained.is_some())).map(|r| r.0).collect();
        if !taken.is_empty() {
            let _ = writeln!(
                text,
                "\nNot trained: {} has the weights of the row that differs from it only in whether what the image shows is a factor of the score.",
                taken.join(", and so ")
            );
        }
        text.push_str(&users_section(&rows));
        if let Some(command) = detector_command(&self.detector) {
            let _ = writeln!(text, "\nThe detector: `{command}`. A run: `{}`.", one.run.command);
        }
        Ok(text)
    }
}

/// Who uses the object: with relatedness, without, and the nearest.
fn users_section(rows: &[(&str, Vec<&SceneResult>)]) -> String {
    let of = |row: WeaklyRow| rows.iter().find(|r| r.0 == row.title()).map(|r| r.1.as_slice());
    let Some(full) = of(WeaklyRow::Full) else { return String::new() };
    let Some(users) = full.first().map(|r| r.users) else { return String::new() };
    let mut text = format!(
        "\n## Who uses the object\n\n{} scenes with two persons and one used object, on which nothing was trained ({} more in which the detector missed one of the three). The right person in percent:\n\n| chosen by | right, % |\n|---|---|\n",
        users.scenes, users.missed
    );
    let mut line = |name: &str, values: Vec<f64>| {
        if !values.is_empty() {
            let _ = writeln!(text, "| {name} | {} |", shown(&values, 1));
        }
    };
    line("relatedness (SRC)", full.iter().filter_map(|r| Some(r.percent(r.users.related?))).collect());
    line("the best triplet, with SRC", full.iter().map(|r| r.percent(r.users.right)).collect());
    let without = of(WeaklyRow::Exp4).unwrap_or_default();
    line("the best triplet, same without SRC", without.iter().map(|r| r.percent(r.users.right)).collect());
    line("the nearest person", vec![full[0].percent(users.nearest)]);
    text
}

fn stanford40_section(result: &Value) -> String {
    let seconds = |key: &str| result["seconds"][key].as_f64().unwrap_or_default() / 60.0;
    let backbones: Vec<&str> = result["backbones"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "\n## Stanford-40\n\n`{}`, on {} with {} threads: reading the training photos took {:.0} minutes, training {:.0}, reading the test photos {:.0}, scoring them {:.1}. Backbones, frozen: {}; {} models of different seeds, averaged. Everything was chosen on the held-out fifth of the training list (`--actions held`). Average precision in percent.\n\n{}",
        result["command"].as_str().unwrap_or_default(),
        result["device"].as_str().unwrap_or_default(),
        result["threads"]["read"],
        seconds("read"),
        seconds("train"),
        seconds("read_test"),
        seconds("score"),
        backbones.join(", "),
        result["members"],
        actions_table(result)
    )
}
