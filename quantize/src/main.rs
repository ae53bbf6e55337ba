//! The command `hoi-quantize`.

mod cli;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use hoi_quantize::compare::CompareError;
use hoi_quantize::fp16::{self, Fp16Error};
use hoi_runtime::engine::TractEngine;

fn main() -> ExitCode {
    let cli::Command::Fp16(arguments) = cli::Arguments::parse().command;
    match convert_to_fp16(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output went away: nothing is wrong with us.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hoi-quantize: {error:#}");
            match error.downcast_ref() {
                Some(Fp16Error::SameFile { .. } | Fp16Error::Compare { source: CompareError::InputRange { .. } }) => {
                    ExitCode::from(2)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn convert_to_fp16(arguments: cli::Fp16) -> anyhow::Result<()> {
    let json = arguments.json;
    let job = arguments.job();
    let report = fp16::run(&job, &TractEngine::new(1))?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    if !report.within_tolerance {
        bail!("an output differs by more than {} of its range; nothing was written", job.tolerance);
    }
    if !json {
        writeln!(out, "written    {}", job.output.display())?;
    }
    Ok(())
}
