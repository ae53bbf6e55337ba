//! Runs the detector of a bundle a fixed number of times, and nothing else: for tools that count (instructions, cache misses), where what
//! two numbers of runs differ by is the cost of the runs between.
//!
//! ```text
//! cargo run --release --example detector_runs -- builtin:nano tests/photos/ride_horse.jpg 3
//! ```

use std::path::Path;

use anyhow::{Context, bail};
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{ImageLimits, open_image};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, picture, runs] = arguments.as_slice() else {
        bail!("detector_runs BUNDLE PICTURE RUNS");
    };
    let runs: u32 = runs.parse().with_context(|| format!("RUNS: a number is needed, not {runs}"))?;
    let bundle = ModelBundle::load(Path::new(bundle))?;
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::new(1))?;
    let frame = open_image(Path::new(picture), &ImageLimits::default())?;
    let size = Size::new(frame.pixels.width(), frame.pixels.height());
    let (input, transform) = prepare(&frame.pixels, &pipeline.detector().spec().input);
    let mut detections = 0;
    for _ in 0..runs {
        detections = pipeline.detector().detect(input.clone(), &transform, size)?.detections.len();
    }
    println!("{}: {runs} runs, {detections} detections before suppression", bundle.origin().display());
    Ok(())
}
