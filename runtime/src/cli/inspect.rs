//! `hoi inspect`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::load_bundle;
use crate::bundle::{Manifest, ModelBundle};
use crate::engine::{Engine, GraphRequest, Halves, IntegerReport, Model, TractEngine, display_shape};
use crate::pipeline::HoiPipeline;

#[derive(Args)]
pub(super) struct InspectArgs {
    /// Bundle folder, or `builtin:nano` or `builtin:nano-int8`, which are part of the program [default: the faster of these on this CPU]
    bundle: Option<PathBuf>,
    /// Print the manifest and the graphs' inputs and outputs as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let bundle = load_bundle(args.bundle.as_ref())?;
    let engine = TractEngine::default();
    // What is shown has been loaded: a bundle that cannot run is an error here too.
    let token_width = HoiPipeline::new(&bundle, &engine)?.detector().token_width();
    let manifest = bundle.manifest();
    let graphs = [&manifest.detector.file, &manifest.head.file]
        .map(|file| graph(&engine, &bundle, file).map(|model| (file.clone(), model)));
    let [detector, head] = graphs;
    let graphs = [detector?, head?];
    let mut out = std::io::stdout().lock();
    if args.json {
        let tensors: serde_json::Map<String, serde_json::Value> = graphs
            .iter()
            .map(|(file, m)| {
                (file.clone(), json!({"inputs": m.inputs(), "outputs": m.outputs(), "integers": m.integers(), "halves": m.halves()}))
            })
            .collect();
        let all = json!({
            "schema": "hoi.inspect/1", "origin": bundle.origin(), "engine": engine.name(), "manifest": manifest, "graphs": tensors
        });
        writeln!(out, "{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    write_manifest(&mut out, &bundle, manifest, token_width)?;
    for (file, model) in &graphs {
        writeln!(out, "graph {file} on {}", engine.name())?;
        for (what, tensors) in [("input", model.inputs()), ("output", model.outputs())] {
            for t in tensors {
                writeln!(out, "  {what:7} {:16} {} {}", t.name, t.element, display_shape(&t.shape))?;
            }
        }
        if let Some(report) = model.integers() {
            write_integers(&mut out, report)?;
        }
        match model.halves() {
            Some(Halves::Native) => writeln!(out, "  in f16")?,
            Some(Halves::Widened) => writeln!(out, "  in f32, though it says f16: the CPU has no FP16 arithmetic")?,
            None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn graph(engine: &TractEngine, bundle: &ModelBundle, file: &str) -> anyhow::Result<Box<dyn Model>> {
    Ok(engine.load(bundle.file(file).unwrap_or_default(), &GraphRequest::default())?)
}

fn write_integers(out: &mut impl Write, report: &IntegerReport) -> std::io::Result<()> {
    let counts: Vec<String> = report.integer.iter().map(|(operator, count)| format!("{operator} {count}")).collect();
    let counts = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
    writeln!(out, "  in integers ({} kernels): {counts}", report.kernels)?;
    for node in &report.float {
        writeln!(out, "  in float: {node}")?;
    }
    Ok(())
}

fn write_manifest(
    out: &mut impl Write,
    bundle: &ModelBundle,
    m: &Manifest,
    token_width: Option<usize>,
) -> std::io::Result<()> {
    writeln!(out, "{} {}  ({})", m.name, m.version, bundle.origin().display())?;
    writeln!(out, "  {}", m.description)?;
    writeln!(out, "files")?;
    for (name, entry) in &m.files {
        let precision = m.precision.get(name).map_or(String::new(), |p| format!("  {p}"));
        writeln!(
            out,
            "  {name:18} {:>9} bytes  sha256 {}..{precision}",
            entry.bytes,
            entry.sha256.get(..12).unwrap_or("")
        )?;
    }
    let d = &m.detector;
    writeln!(
        out,
        "detector  family {}, input {} {:?} {:?}, resize {:?}, {} classes, score from {}",
        d.decoder.family(),
        d.input.name,
        d.input.shape,
        d.input.colour,
        d.input.resize,
        d.classes.len(),
        d.min_score
    )?;
    for (input, tensor) in &d.taps {
        writeln!(out, "tap       {input} = {tensor}")?;
    }
    if let (Some(tensor), Some(width)) = (d.decoder.tokens(), token_width) {
        writeln!(out, "tokens    entity_tokens [N, {width}] = rows of {tensor}")?;
    }
    let p = &m.pairing;
    writeln!(
        out,
        "pairing   NMS IoU {}, score from {}, {}..{} humans, {}..{} objects",
        p.nms_iou, p.min_score, p.humans.min, p.humans.max, p.objects.min, p.objects.max
    )?;
    let v = &m.vocabulary;
    let interactions: usize = v.valid.values().map(Vec::len).sum();
    let alone = match v.alone.len() {
        0 => String::new(),
        n => format!(", {n} verbs without an object"),
    };
    writeln!(
        out,
        "words     {} object classes, {} verbs, {interactions} interactions{alone}",
        v.objects.len(),
        v.verbs.len()
    )?;
    writeln!(out, "fusion    {}", m.fusion)?;
    for t in &m.training {
        writeln!(out, "trained   {}: {}; licence: {}; from {}", t.part, t.data, t.licence, t.source)?;
    }
    for note in &m.notes {
        writeln!(out, "note      {note}")?;
    }
    for a in &m.accuracy {
        writeln!(
            out,
            "measured  {} {:.2}  {}, {}\n          by {}",
            a.metric, a.value, a.data_set, a.setting, a.command
        )?;
    }
    Ok(())
}
