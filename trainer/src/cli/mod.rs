//! The command line: parse, build, run, print.

mod count;
mod data;
mod detected;
mod detr;
mod distill;
mod eval;
mod export;
mod layout;
mod photo_sets;
mod pictures;
mod rmlr;
mod run;
mod scenes;
mod score;
mod study;
mod table;
mod tune;
mod weakly;

use clap::{Parser, Subcommand};

/// Trains human-object interaction networks and scores them.
#[derive(Debug, Parser)]
#[command(name = "hoi-train", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train the detector of the two-stage systems, DETR
    Detr(Box<detr::DetrArguments>),
    /// Train the layout head on HICO-DET's boxes and write it as ONNX
    Layout(layout::LayoutArguments),
    /// Train RmLR's head over a frozen detector and score it
    Rmlr(Box<rmlr::RmlrArguments>),
    /// Train Weakly-HOI from image-level labels and score it
    Weakly(Box<weakly::WeaklyArguments>),
    /// Train the head that ships: what large systems, language and photos teach, over a detector's own maps
    Distill(Box<distill::DistillArguments>),
    /// Tune the last blocks of an EfficientNet-Lite on Stanford-40, before `distill` looks through it
    Tune(Box<tune::TuneArguments>),
    /// Count a network's parameters and multiply-accumulates
    Count(count::CountArguments),
    /// Look at a data set's folder
    Data {
        #[command(subcommand)]
        command: data::DataCommand,
    },
    /// Draw rendered scenes as PNG files with their annotation, to look at
    Scenes(scenes::ScenesArguments),
    /// Run a system's comparisons and write the report
    Study {
        #[command(subcommand)]
        study: study::Study,
    },
    /// Write a trained system as a bundle for the board
    Export {
        #[command(subcommand)]
        system: export::ExportSystem,
    },
    /// Score a bundle on a data set
    Eval {
        #[command(subcommand)]
        set: eval::EvalSet,
    },
    /// Score a file of predictions against a data set's annotation
    Score {
        #[command(subcommand)]
        set: score::ScoreSet,
    },
}

impl Cli {
    /// Does what the command line says. Results go to standard output, progress to standard error.
    ///
    /// # Errors
    /// Whatever went wrong, with what was being done.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Detr(arguments) => arguments.run(),
            Command::Layout(arguments) => arguments.run(),
            Command::Rmlr(arguments) => arguments.run(),
            Command::Weakly(arguments) => arguments.run(),
            Command::Distill(arguments) => arguments.run(),
            Command::Tune(arguments) => arguments.run(),
            Command::Count(arguments) => arguments.run(),
            Command::Data { command } => command.run(),
            Command::Scenes(arguments) => arguments.run(),
            Command::Study { study } => study.run(),
            Command::Export { system } => system.run(),
            Command::Eval { set } => set.run(),
            Command::Score { set } => set.run(),
        }
    }
}
