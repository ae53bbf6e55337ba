//! `hoi detect`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{EngineArgs, score, wrong_usage};
use crate::pipeline::{DEFAULT_MIN_SCORE, HoiPipeline};
use crate::sink::{FrameRecord, Table, annotate, picture_format, write_picture};
use crate::source::{ImageLimits, Shard, list_pictures, open_image};

#[derive(Args)]
pub(super) struct DetectArgs {
    /// A picture (JPEG, PNG, BMP, WebP) or a directory of pictures
    input: PathBuf,
    /// Where the annotated picture goes: a picture file for a picture, a directory for a directory
    output: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Leave out triplets and detections below this score
    #[arg(long, value_name = "S", default_value_t = DEFAULT_MIN_SCORE, value_parser = score)]
    min_score: f32,
    /// Print one JSON object a picture (schema hoi.frame/1) instead of a table
    #[arg(long)]
    json: bool,
    /// Show the factors of each score, and their product where the bundle calibrates it
    #[arg(long)]
    explain: bool,
    /// Take only share I of N of the directory's pictures, for instance 2/8
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

pub(super) fn run(args: &DetectArgs) -> anyhow::Result<ExitCode> {
    let directory = args.input.is_dir();
    if !directory && args.shard.is_some() {
        wrong_usage("detect", "--shard is for directories");
    }
    // What would fail after the work fails before it.
    if let Some(output) = &args.output {
        if directory {
            std::fs::create_dir_all(output).with_context(|| format!("output directory {}", output.display()))?;
        } else if output.is_dir() {
            wrong_usage(
                "detect",
                &format!("{} is a directory; a picture's output is a picture file", output.display()),
            );
        } else if picture_format(output).is_none() {
            wrong_usage("detect", &format!("{}: the extension must be .jpg, .png, .bmp or .webp", output.display()));
        }
        let parent = output.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|p| !directory && !p.is_dir()) {
            bail!("{}: there is no folder {}", output.display(), parent.display());
        }
        if same_file(&args.input, output) {
            wrong_usage(
                "detect",
                &format!("{}: input and output are the same; the input would be lost", output.display()),
            );
        }
    }
    if !directory {
        let pipeline = args.engine.pipeline()?;
        one(&pipeline, args, &args.input, 0, args.output.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }

    let pictures = list_pictures(&args.input)?;
    if pictures.is_empty() {
        bail!("{}: no .jpg, .jpeg, .png, .bmp or .webp pictures in it", args.input.display());
    }
    let shard = args.shard.unwrap_or_default();
    let pictures = shard.select(pictures.into_iter().enumerate().collect());
    let pipeline = args.engine.pipeline()?;
    let mut failed = Vec::new();
    for (index, path) in &pictures {
        let output = args.output.as_ref().zip(path.file_name()).map(|(directory, name)| directory.join(name));
        match one(&pipeline, args, path, *index as u64, output.as_deref()) {
            Ok(()) => {}
            Err(error) if super::is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                eprintln!("hoi: {error:#}");
                failed.push(path);
            }
        }
    }
    eprintln!("{} pictures, {} done, {} failed", pictures.len(), pictures.len() - failed.len(), failed.len());
    for path in &failed {
        eprintln!("  failed: {}", path.display());
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One picture: read, answer, print, then write the annotated picture.
fn one(
    pipeline: &HoiPipeline,
    args: &DetectArgs,
    path: &Path,
    index: u64,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let mut frame = open_image(path, &ImageLimits::default())?;
    frame.index = index;
    let result = pipeline.run(&frame).with_context(|| path.display().to_string())?;
    let vocabulary = pipeline.vocabulary();
    let mut out = std::io::stdout().lock();
    if args.json {
        let record = if args.explain { FrameRecord::explained } else { FrameRecord::new };
        let line = serde_json::to_string(&record(&frame, &result, vocabulary, args.min_score))?;
        writeln!(out, "{line}")?;
    } else {
        let (min_score, explain) = (args.min_score, args.explain);
        write!(out, "{}", Table { frame: &frame, result: &result, vocabulary, min_score, explain })?;
    }
    out.flush()?;
    if let Some(output) = output {
        if same_file(path, output) {
            bail!("{}: input and output are the same; the input would be lost", output.display());
        }
        let picture = annotate(&frame.pixels, &result, vocabulary, args.min_score);
        write_picture(&picture, output).with_context(|| format!("annotated picture {}", output.display()))?;
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
