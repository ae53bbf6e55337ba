//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use hoi_quantize::compare::RandomInputs;
use hoi_quantize::fp16::{DEFAULT_TOLERANCE, Fp16Job};

/// Makes ONNX models small and measures what it costs.
#[derive(Debug, Parser)]
#[command(name = "hoi-quantize", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store f32 weights as f16, each behind a Cast to f32 that engines fold while loading
    ///
    /// The file shrinks to about half and runs as fast as before. Both versions are run on the same random inputs (floats uniform in
    /// --input-range, integers 0, symbolic dimensions 7) and the largest difference of each output is reported.
    ///
    /// Outputs are compared element by element, so a network that ends in a sorted list (the DETR families) differs wherever two
    /// entries change places: judge such a one by its detections, and raise --tolerance.
    Fp16(Fp16),
}

#[derive(Debug, clap::Args)]
pub struct Fp16 {
    /// The ONNX file to read; it is never overwritten
    input: PathBuf,
    /// The ONNX file to write
    output: PathBuf,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Seed of the random inputs
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Range of the random f32 inputs; give what the network was made for, for example `0 255` for YOLOX
    #[arg(long, num_args = 2, allow_negative_numbers = true, default_values_t = [-1.0, 1.0], value_names = ["LOW", "HIGH"])]
    input_range: Vec<f32>,
    /// Largest allowed difference of an output, as a share of its range; beyond it nothing is written and the exit status is 1
    #[arg(long, default_value_t = DEFAULT_TOLERANCE, value_parser = tolerance, allow_negative_numbers = true, value_name = "X")]
    tolerance: f64,
}

impl Fp16 {
    /// The job that the arguments describe.
    pub fn job(self) -> Fp16Job {
        let Self { input, output, report, json: _, seed, input_range, tolerance } = self;
        let mut inputs = RandomInputs { seed, ..RandomInputs::default() };
        if let [low, high] = input_range[..] {
            inputs.range = [low, high];
        }
        Fp16Job { input, output, report, inputs, tolerance }
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x >= 0.0 && x.is_finite() => Ok(x),
        _ => Err("a number of at least 0 is wanted".to_owned()),
    }
}
