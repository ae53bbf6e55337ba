//! `hoi bench`: the time of every step, on a picture and on a crowd.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use ndarray::ArrayD;
use serde_json::{Map, Value, json};

use super::{EngineArgs, wrong_usage};
use crate::detector::{Detection, ENTITY_TOKENS};
use crate::engine::Tensor;
use crate::geometry::{BBox, Size};
use crate::pipeline::{HoiPipeline, Timings};
use crate::preprocess::prepare;
use crate::source::{Frame, ImageLimits, open_image};
use crate::vocabulary::ObjectClass;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// Picture whose frames are timed [default: a 640x480 test pattern]
    picture: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Report this step at the top level
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// How long to measure
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Put this many humans and objects in place of what the detector finds, spread over the picture
    #[arg(long, value_name = "HUMANS,OBJECTS", value_parser = crowd)]
    crowd: Option<(usize, usize)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Stage {
    Preprocess,
    Detector,
    Pairs,
    Head,
    Fusion,
    /// pairs + head + fusion: everything after the detector
    AfterDetector,
    Total,
}

impl Stage {
    const ALL: [Stage; 7] =
        [Self::Preprocess, Self::Detector, Self::Pairs, Self::Head, Self::Fusion, Self::AfterDetector, Self::Total];

    fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Detector => "detector",
            Self::Pairs => "pairs",
            Self::Head => "head",
            Self::Fusion => "fusion",
            Self::AfterDetector => "after_detector",
            Self::Total => "total",
        }
    }

    fn of(self, t: &Timings) -> f64 {
        match self {
            Self::Preprocess => t.preprocess,
            Self::Detector => t.detector,
            Self::Pairs => t.pairs,
            Self::Head => t.head,
            Self::Fusion => t.fusion,
            Self::AfterDetector => t.pairs + t.head + t.fusion,
            Self::Total => t.total,
        }
    }
}

fn crowd(text: &str) -> Result<(usize, usize), String> {
    text.split_once(',')
        .and_then(|(h, o)| Some((h.parse().ok()?, o.parse().ok()?)))
        .filter(|&(h, o): &(usize, usize)| h <= 1000 && o <= 1000 && h + o <= 1000)
        .ok_or_else(|| "two numbers are needed, for instance 15,15 (together at most 1000)".to_owned())
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    if args.crowd.is_some() && matches!(args.stage, Some(Stage::Preprocess | Stage::Detector)) {
        wrong_usage("bench", "with --crowd the steps preprocess and detector are not run");
    }
    let (pipeline, origin) = {
        // Its files are not kept in memory: that would be measured.
        let bundle = args.engine.bundle()?;
        (args.engine.pipeline_of(&bundle)?, bundle.origin().to_owned())
    };
    let frame = match &args.picture {
        Some(path) => open_image(path, &ImageLimits::default())?,
        None => test_pattern(),
    };
    let people = match args.crowd {
        Some((h, o)) => {
            let people = spread(&pipeline, h, o, &frame);
            let features = features(&pipeline, &frame, people.len())?;
            Some((people, features))
        }
        None => None,
    };
    let measure = |frame: &Frame| -> anyhow::Result<(Timings, usize, usize)> {
        let result = match &people {
            Some((detections, features)) => {
                let size = Size::new(frame.pixels.width(), frame.pixels.height());
                let mut result = pipeline.interactions(detections, features, size)?;
                let t = &mut result.timings;
                t.total = t.pairs + t.head + t.fusion;
                result
            }
            None => pipeline.run(frame)?,
        };
        let humans = result.detections.iter().filter(|d| d.class == pipeline.vocabulary().human()).count();
        Ok((result.timings, humans, result.detections.len()))
    };
    for _ in 0..3 {
        measure(&frame)?;
    }
    let mut all = Vec::new();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let (mut humans, mut entities) = (0, 0);
    while Instant::now() < end {
        let (mut timings, h, n) = measure(&frame)?;
        timings.total -= timings.decode;
        (humans, entities) = (h, n);
        all.push(timings);
    }
    if all.is_empty() {
        bail!("not one frame was done in {} s", args.seconds);
    }
    // With a crowd the picture and the detector are not run.
    let stages: Vec<Stage> = Stage::ALL
        .into_iter()
        .filter(|s| people.is_none() || !matches!(s, Stage::Preprocess | Stage::Detector))
        .collect();
    let mut by_stage: Map<String, Value> =
        stages.iter().map(|s| (s.name().to_owned(), percentiles(*s, &all))).collect();
    let stage = args.stage.unwrap_or(Stage::Total);
    let top = by_stage.get(stage.name()).cloned().unwrap_or_default();
    let alone = if pipeline.vocabulary().alone().is_empty() { 0 } else { humans };
    let pairs = humans * entities.saturating_sub(1) + alone;
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut object = top.as_object().cloned().unwrap_or_default();
        object.insert("schema".into(), json!("hoi.bench/1"));
        object.insert("bundle".into(), json!(origin));
        object.insert("stage".into(), json!(stage.name()));
        object.insert("frames".into(), json!(all.len()));
        object.insert("humans".into(), json!(humans));
        object.insert("pairs".into(), json!(pairs));
        object.insert("threads".into(), json!(args.engine.threads));
        object.insert("peak_memory_mib".into(), json!(peak_memory_mib()));
        object.insert("stages".into(), Value::Object(std::mem::take(&mut by_stage)));
        writeln!(out, "{}", Value::Object(object))?;
    } else {
        let threads = args.engine.threads;
        writeln!(out, "{}, {threads} thread{}", origin.display(), if threads == 1 { "" } else { "s" })?;
        writeln!(out, "{} frames, {humans} humans, {} others, {pairs} pairs", all.len(), entities - humans)?;
        writeln!(out, "{:15} {:>9} {:>9} {:>9}   ms", "", "p50", "p90", "p99")?;
        for s in stages {
            let p = &by_stage[s.name()];
            let at = |k: &str| p[k].as_f64().unwrap_or(f64::NAN);
            writeln!(out, "{:15} {:9.3} {:9.3} {:9.3}", s.name(), at("p50_ms"), at("p90_ms"), at("p99_ms"))?;
        }
        if let Some(mib) = peak_memory_mib() {
            writeln!(out, "peak memory     {mib:9.1} MiB")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn percentiles(stage: Stage, all: &[Timings]) -> Value {
    let mut ms: Vec<f64> = all.iter().map(|t| stage.of(t)).collect();
    ms.sort_by(f64::total_cmp);
    // Nearest rank.
    let at = |p: f64| ms[((p * ms.len() as f64).ceil() as usize).clamp(1, ms.len()) - 1];
    let rounded = |v: f64| (v * 1e4).round() / 1e4;
    json!({"p50_ms": rounded(at(0.5)), "p90_ms": rounded(at(0.9)), "p99_ms": rounded(at(0.99))})
}

/// A picture with edges and gradients, the same at every run.
pub(super) fn test_pattern() -> Frame {
    let pixels = image::RgbImage::from_fn(640, 480, |x, y| {
        let checker = if (x / 40 + y / 40) % 2 == 0 { 60 } else { 0 };
        image::Rgb([(x * 255 / 640) as u8, (y * 255 / 480) as u8, 100 + checker])
    });
    Frame { pixels, source: "test://pattern".into(), index: 0, decode_ms: 0.0 }
}

/// `humans` and `objects` on a grid, none of which overlap, objects of all classes in turn.
fn spread(pipeline: &HoiPipeline, humans: usize, objects: usize, frame: &Frame) -> Vec<Detection> {
    let vocabulary = pipeline.vocabulary();
    let others: Vec<ObjectClass> =
        (0..vocabulary.object_count() as u16).map(ObjectClass).filter(|c| *c != vocabulary.human()).collect();
    let columns = ((humans + objects) as f32).sqrt().ceil().max(1.0);
    let (w, h) = (frame.pixels.width() as f32 / columns, frame.pixels.height() as f32 / columns);
    (0..humans + objects)
        .map(|i| {
            let (x, y) = ((i as f32 % columns) * w, (i as f32 / columns).floor() * h);
            let class = if i < humans || others.is_empty() { vocabulary.human() } else { others[i % others.len()] };
            Detection { bbox: BBox::new(x, y, x + w * 0.9, y + h * 0.9), class, score: 0.9 - 0.001 * i as f32 }
        })
        .collect()
}

/// What the detector hands to the head for this frame, with tokens of zeros for a crowd that it has not seen.
fn features(pipeline: &HoiPipeline, frame: &Frame, crowd: usize) -> anyhow::Result<Vec<(String, Tensor)>> {
    let detector = pipeline.detector();
    let mut features = Vec::new();
    if !detector.spec().taps.is_empty() {
        let (input, transform) = prepare(&frame.pixels, &detector.spec().input);
        let size = Size::new(frame.pixels.width(), frame.pixels.height());
        features = detector.detect(input, &transform, size)?.features;
        features.retain(|(name, _)| name != ENTITY_TOKENS);
    }
    if let Some(width) = detector.token_width() {
        features.push((ENTITY_TOKENS.to_owned(), Tensor::F32(ArrayD::zeros(vec![crowd, width]))));
    }
    Ok(features)
}

/// Largest resident memory of this process so far, where the system tells.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}
