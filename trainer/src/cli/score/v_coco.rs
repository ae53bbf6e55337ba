//! `hoi-train score v-coco`.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::table::cell;
use super::{counted, describe, read_all};
use crate::dataset::v_coco::{Source, Split, VCoco};
use crate::eval::predictions::Taken;
use crate::eval::v_coco::{TEST_POSITIVES, VCocoEvaluator, VCocoScores};

/// What `scenario_1` and `scenario_2` are the mean of.
const QUOTED: &str = "mean over 24 action-roles, without point";

/// The images that are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SplitChoice {
    /// 2,533 images
    Train,
    /// 2,867 images
    Val,
    /// Both
    Trainval,
    /// 4,946 images
    Test,
}

impl SplitChoice {
    fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Val => Split::Val,
            Self::Trainval => Split::Trainval,
            Self::Test => Split::Test,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VCocoArguments {
    /// JSON lines, one image a line; a name ending in .gz is unpacked
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Folder of V-COCO's annotations; the official score needs vcoco_SPLIT.json and COCO's instances
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// The images that are scored
    #[arg(long, value_enum, default_value_t = SplitChoice::Test)]
    split: SplitChoice,
    /// Seed of the order of equal scores
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl VCocoArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let split = self.split.split();
        let data = VCoco::open(&self.root)?;
        let source = data.source(split)?;
        let images = data.images(split)?;
        let mut evaluator = VCocoEvaluator::new(&images, self.seed)
            .with_context(|| format!("{} cannot be scored against", self.root.display()))?;
        let numbers: HashMap<&str, u64> = images.iter().map(|i| (i.name.as_str(), i.number)).collect();
        let taken = read_all(&self.predictions, &numbers, |number, list| evaluator.add_image(number, list))?;
        let scores = evaluator.finish();
        let limits = limits(&source, split, evaluator.positives());
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut line = serde_json::to_value(&scores)?;
            describe(&mut line, &format!("v-coco {}", split.name()), &self.predictions, images.len(), taken, self.seed);
            line["quoted"] = json!(QUOTED);
            line["annotation"] = json!(source.name());
            line["limits"] = json!(limits);
            writeln!(out, "{line}")?;
            return Ok(());
        }
        write!(out, "{}", render(split, images.len(), taken, &scores))?;
        for limit in limits {
            writeln!(out, "  not the official score: {limit}")?;
        }
        Ok(())
    }
}

/// Why these are not the official scores; empty where they are.
fn limits(source: &Source, split: Split, positives: &[usize]) -> Vec<String> {
    let mut limits = Vec::new();
    match source {
        Source::Official { .. } => {}
        Source::Qpic(_) => limits.push(
            "QPIC's file does not tell a person who does nothing from one whom V-COCO does not annotate: detections of the former \
             are skipped, not false"
                .to_owned(),
        ),
        Source::Pairs(_) => limits.push(
            "a file of pairs has no person without a pair, no action without a role and no absent role: recall counts fewer \
             persons, detections of the persons that are missing are false or belong to another person, and the scenarios differ \
             only where an action has two roles"
                .to_owned(),
        ),
    }
    if split == Split::Test && positives != TEST_POSITIVES {
        let [here, official] = [positives, &TEST_POSITIVES].map(|counts| counts.iter().sum::<usize>());
        limits.push(format!("recall counts {here} actions of persons here, {official} in the official test split"));
    }
    limits
}

fn render(split: Split, images: usize, taken: Taken, scores: &VCocoScores) -> String {
    let row = |name: &str, one, two| format!("  {name:<24}{:>12}{:>12}", cell(one), cell(two));
    let mut text = format!("V-COCO {}: role AP in percent, {}\n", split.name(), counted(images, taken));
    text.push_str(&format!("  {:<24}{:>12}{:>12}{:>10}\n", "", "scenario 1", "scenario 2", "persons"));
    for role in &scores.roles {
        text.push_str(&format!("{}{:>10}\n", row(&role.verb, role.scenario_1, role.scenario_2), role.positives));
    }
    let with = &scores.with_point;
    text.push_str(&row("mean of 24, no point", scores.scenario_1, scores.scenario_2));
    text.push_str("  what UPT-style papers quote\n");
    text.push_str(&row("mean of all 25", with.scenario_1, with.scenario_2));
    text.push('\n');
    if scores.agent.is_some() {
        text.push_str(&format!("  {:<24}{:>12}\n", "agent, mean of 26", cell(scores.agent)));
    }
    text.push_str(&format!("  {} predictions skipped: V-COCO says nothing about their person\n", scores.skipped));
    text
}
