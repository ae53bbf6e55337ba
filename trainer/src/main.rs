//! The command `hoi-train`.

use std::process::ExitCode;

use clap::Parser;
use hoi_trainer::accelerator::register_cuda;
use hoi_trainer::allocator::keep_freed_memory;
use hoi_trainer::cli::Cli;

fn main() -> ExitCode {
    // Before anything of tch.
    register_cuda();
    keep_freed_memory();
    // A wrong command line ends here with status 2.
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hoi-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
