//! The command `hoi`: parse, build, run, print.

mod bench;
mod bundle;
mod detect;
mod inspect;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::bundle::ModelBundle;
use crate::engine::TractEngine;
use crate::pipeline::HoiPipeline;

/// Human-object interactions in pictures: who does what to what.
#[derive(Parser)]
#[command(name = "hoi", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find interactions in a picture or in every picture of a directory
    Detect(detect::DetectArgs),
    /// Show what a bundle is, wants and gives
    Inspect(inspect::InspectArgs),
    /// Time every step of a frame
    Bench(bench::BenchArgs),
    /// Write a bundle: a base bundle with another detector or head
    Bundle(bundle::BundleArgs),
}

/// Which networks run, and on how many threads.
#[derive(Args)]
struct EngineArgs {
    /// Bundle folder, or `builtin:nano` or `builtin:nano-int8`, which are part of the program [default: the faster of these on this CPU]
    #[arg(long, value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Threads that one network may use
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

impl EngineArgs {
    fn bundle(&self) -> anyhow::Result<ModelBundle> {
        load_bundle(self.bundle.as_ref())
    }

    fn pipeline(&self) -> anyhow::Result<HoiPipeline> {
        self.pipeline_of(&self.bundle()?)
    }

    fn pipeline_of(&self, bundle: &ModelBundle) -> anyhow::Result<HoiPipeline> {
        HoiPipeline::new(bundle, &TractEngine::new(self.threads.into()))
            .with_context(|| format!("bundle {}", bundle.origin().display()))
    }
}

fn load_bundle(folder: Option<&PathBuf>) -> anyhow::Result<ModelBundle> {
    match folder {
        Some(folder) => ModelBundle::load(folder).context("bundle refused"),
        None => Ok(ModelBundle::fastest_builtin()?),
    }
}

/// A score in `[0, 1]` from the command line.
fn score(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 1 is needed".to_owned()),
    }
}

/// Runs the command line of this process. Exit status: 0 done, 1 something failed, 2 the command line is wrong.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Detect(args) => detect::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Bundle(args) => bundle::run(&args),
    };
    match outcome {
        Ok(code) => code,
        // The reader of our output went away (`hoi ... | head`): nothing is wrong with us.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoi: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A command line that clap cannot know to be wrong: exit status 2.
fn wrong_usage(command: &str, message: &str) -> ! {
    eprintln!("error: {message}\n\nFor more information, try 'hoi {command} --help'.");
    std::process::exit(2);
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
