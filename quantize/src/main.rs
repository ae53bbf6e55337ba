//! The command `hoi-quantize`.

mod cli;

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use hoi_quantize::bundles::{self, BundlesError};
use hoi_quantize::compare::CompareError;
use hoi_quantize::fp16::{self, Fp16Error};
use hoi_quantize::int8::{self, Int8Error};
use hoi_quantize::qdq::QdqError;
use hoi_runtime::engine::TractEngine;
use indicatif::{ProgressBar, ProgressStyle};

fn main() -> ExitCode {
    let result = match cli::Arguments::parse().command {
        cli::Command::Fp16(arguments) => convert_to_fp16(arguments),
        cli::Command::Int8(arguments) => quantize_to_int8(arguments),
        cli::Command::Compare(arguments) => compare_bundles(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output went away: nothing is wrong with us.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hoi-quantize: {error:#}");
            if is_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether the command line is to blame.
fn is_usage(error: &anyhow::Error) -> bool {
    let fp16 = matches!(
        error.downcast_ref(),
        Some(Fp16Error::SameFile { .. } | Fp16Error::Compare { source: CompareError::InputRange { .. } })
    );
    let int8 = matches!(
        error.downcast_ref(),
        Some(
            Int8Error::OutputExists { .. }
                | Int8Error::Bundles(BundlesError::ReportExists { .. })
                | Int8Error::Unfit { source: QdqError::NoSuchName { .. }, .. }
        )
    );
    let compare =
        matches!(error.downcast_ref(), Some(BundlesError::ReportExists { .. } | BundlesError::Thresholds { .. }));
    fp16 || int8 || compare
}

fn convert_to_fp16(arguments: cli::Fp16) -> anyhow::Result<()> {
    let json = arguments.json;
    let job = arguments.job();
    // What is native is judged as such, whatever this CPU has.
    let engine = TractEngine::new(1).with_native_halves(job.native);
    let report = fp16::run(&job, &engine)?;
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

fn quantize_to_int8(arguments: cli::Int8) -> anyhow::Result<()> {
    let (json, threads) = (arguments.json, arguments.threads);
    let job = arguments.job();
    let bar = bar("calibrating")?;
    let report = int8::run(&job, &TractEngine::new(threads), &mut |what, done, of| {
        bar.set_message(what);
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if json {
        for warning in &report.warnings {
            eprintln!("hoi-quantize: {warning}");
        }
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{report}")?;
        for written in std::iter::once(&job.output).chain(&job.report) {
            writeln!(out, "written    {}", written.display())?;
        }
    }
    Ok(())
}

fn compare_bundles(arguments: cli::Compare) -> anyhow::Result<()> {
    let (json, threads) = (arguments.json, arguments.threads);
    let job = arguments.job();
    let bar = bar("comparing")?;
    let report = bundles::run(&job, &TractEngine::new(threads), &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if json {
        for warning in &report.warnings {
            eprintln!("hoi-quantize: {warning}");
        }
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(out, "{report}")?;
        if let Some(folder) = &job.report {
            writeln!(out, "\nwritten   {}", folder.display())?;
        }
    }
    Ok(())
}

/// A bar for whoever watches.
fn bar(doing: &'static str) -> anyhow::Result<ProgressBar> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}")?);
    Ok(bar.with_message(doing))
}
