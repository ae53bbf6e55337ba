//! The command line: parse, build, run, print.

mod data;
mod eval;
mod layout;
mod table;

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
    /// Train the layout head on HICO-DET's boxes and write it as ONNX
    Layout(layout::LayoutArguments),
    /// Look at a data set's folder
    Data {
        #[command(subcommand)]
        command: data::DataCommand,
    },
    /// Score a bundle on a data set
    Eval {
        #[command(subcommand)]
        set: eval::EvalSet,
    },
}

impl Cli {
    /// Does what the command line says. Results go to standard output, progress to standard error.
    ///
    /// # Errors
    /// Whatever went wrong, with what was being done.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Layout(arguments) => arguments.run(),
            Command::Data { command } => command.run(),
            Command::Eval { set } => set.run(),
        }
    }
}
