//! `hoi-train data`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::dataset::check::{Finding, PictureCheck, State, check_hico_det, check_v_coco};

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// Say what of a data set is in a folder, what is missing, and whether its counts are the published ones
    Check(CheckArguments),
}

impl DataCommand {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(arguments) => arguments.run(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DataSet {
    /// 600 interactions, 38,118 + 9,658 images
    HicoDet,
    /// 26 actions, 5,400 + 4,946 images
    #[value(name = "v-coco")]
    VCoco,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The data set
    set: DataSet,
    /// Its folder: annotation in any of the usual files, plain or .gz, and pictures in the usual folders below
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Folder of the pictures, where it is another one
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Fail when a picture is missing; otherwise they are only counted, since not every command needs them
    #[arg(long)]
    need_pictures: bool,
    /// Decode every picture instead of reading its header
    #[arg(long)]
    decode: bool,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl CheckArguments {
    fn run(self) -> anyhow::Result<()> {
        let pictures = PictureCheck {
            root: self.pictures.unwrap_or_else(|| self.root.clone()),
            decode: self.decode,
            needed: self.need_pictures,
        };
        let bar = ProgressBar::no_length().with_message("pictures looked for");
        if let Ok(style) = ProgressStyle::with_template("{pos} {msg}, {per_sec}") {
            bar.set_style(style);
        }
        let mut progress = || bar.inc(1);
        let findings = match self.set {
            DataSet::HicoDet => check_hico_det(&self.root, &pictures, &mut progress),
            DataSet::VCoco => check_v_coco(&self.root, &pictures, &mut progress),
        };
        bar.finish_and_clear();
        let failed: Vec<&str> = findings.iter().filter(|f| f.state == State::Failed).map(|f| f.what.as_str()).collect();
        let mut out = std::io::stdout().lock();
        if self.json {
            for finding in &findings {
                writeln!(out, "{}", serde_json::to_string(finding)?)?;
            }
            writeln!(out, "{}", json!({"fine": failed.is_empty(), "failed": failed}))?;
        } else {
            for finding in &findings {
                write!(out, "{}", render(finding))?;
            }
        }
        if !failed.is_empty() {
            bail!("missing or not as published: {}", failed.join("; "));
        }
        Ok(())
    }
}

/// A finding for people. Of long lists of counts, those that differ and how many do not.
fn render(finding: &Finding) -> String {
    let state = match finding.state {
        State::Fine => "fine",
        State::Absent => "absent",
        State::Failed => "FAILED",
    };
    let mut text = format!("{state:<7} {}: {}\n", finding.what, finding.note);
    for count in finding.counts.iter().filter(|count| !is_person_count(&count.what) || !count.fits()) {
        let expected = match count.expected {
            Some(expected) if expected == count.found => "as published".to_owned(),
            Some(expected) => format!("expected {expected}"),
            None => String::new(),
        };
        text.push_str(format!("        {:>8} {:<28}{expected}", count.found, count.what).trim_end());
        text.push('\n');
    }
    let persons: Vec<_> = finding.counts.iter().filter(|count| is_person_count(&count.what)).collect();
    if !persons.is_empty() {
        let fitting = persons.iter().filter(|count| count.fits()).count();
        text.push_str(&format!("        {fitting} of {} actions have as many persons as published\n", persons.len()));
    }
    text
}

fn is_person_count(what: &str) -> bool {
    what.starts_with("persons that ")
}
