//! Quantizes the detector of a bundle to INT8: calibration, QDQ, a new bundle, a report.

mod error;
mod graphs;
mod judge;
mod mixed;
mod pages;
mod prepared;
mod report;
mod signal;
mod target;

use std::path::PathBuf;

use hoi_runtime::bundle::{BundleParts, ModelBundle, sha256_hex, write_bundle};
use hoi_runtime::engine::Engine;

pub use error::Int8Error;
pub use judge::Agreement;
pub use mixed::{Change, DEFAULT_CANDIDATES, DEFAULT_HELD, Mixed, Sensitivity, Step};
pub use report::{Int8Report, OperatorCount, REPORT_SCHEMA};
pub use signal::{LayerSignal, OutputSignal, Signal};
pub use target::CALIBRATION_LIST;

use crate::bundles::folder::ReportFolder;
use crate::calibrate::{
    Method, Observed, STATISTICS_SCHEMA, Statistics, VideoFrames, Warning, choose_images, collect, is_video,
};
use crate::onnx::{self, ModelProto, data_type};
use crate::passes::clean;
use crate::qdq::{self, PlanOptions};
use graphs::Graphs;
use judge::Judge;
use prepared::{Made, Prepared};

/// How `precision` of a manifest names the result.
pub const PRECISION: &str = "int8 (QDQ, symmetric s8, a scale for each channel of the weights); the rest f32";
/// Calibration images unless told otherwise.
pub const DEFAULT_COUNT: usize = 100;
/// Images on which outputs and layers of both graphs are compared.
const COMPARED_IMAGES: usize = 8;

/// One quantization of a bundle.
#[derive(Clone, Debug)]
pub struct Int8Job {
    /// Folder of the bundle to read.
    pub bundle: PathBuf,
    /// Folder of the bundle to write; it must not be there yet, or be empty.
    pub output: PathBuf,
    /// Folder of calibration images; may be left out where statistics are given.
    pub images: Option<PathBuf>,
    /// At most this many images.
    pub count: usize,
    /// How thresholds are chosen.
    pub method: Method,
    /// What is quantized.
    pub options: PlanOptions,
    /// Whether channels of clipped activations are brought to one range first.
    pub equalize: bool,
    /// Whether biases make up for what the rounding of weights does to means.
    pub correct_bias: bool,
    /// Statistics of an earlier run to use instead of calibrating.
    pub statistics: Option<PathBuf>,
    /// Where to write the statistics.
    pub save_statistics: Option<PathBuf>,
    /// Whether and how layers are judged and kept in float; needs images.
    pub sensitivity: Option<Sensitivity>,
    /// Folder for report.md and report.json; it must not be there yet, or be empty.
    pub report: Option<PathBuf>,
    /// The command, as the manifest records it.
    pub command: String,
}

/// Quantizes a bundle's detector and writes the new bundle.
///
/// `progress` hears `(what, done, of)`.
///
/// # Errors
/// [`Int8Error`]; the bundle is not written then (it is where only the report could not be), and statistics only if they were complete.
pub fn run(
    job: &Int8Job,
    engine: &dyn Engine,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Int8Report, Int8Error> {
    target::check(&job.output)?;
    let folder = job.report.as_deref().map(ReportFolder::new).transpose()?;
    let bundle = ModelBundle::load(&job.bundle)?;
    let file = bundle.manifest().detector.file.clone();
    let content = bundle.file(&file).unwrap_or_default();
    let refused = |source| Int8Error::Input { file: file.clone(), source };
    let source = onnx::from_bytes(content).map_err(refused)?;
    let graphs = Graphs::new(&source, &bundle.manifest().detector);

    let mut model = source.clone();
    let cleaned = clean(&mut model, &graphs.kept);
    let unfit = |source| Int8Error::Unfit { file: file.clone(), source };
    let candidates = qdq::candidates(&model, &graphs.kept).map_err(unfit)?;
    let float = onnx::to_bytes(&model).map_err(refused)?;
    let observed = graphs.load(engine, &float, &candidates, "cleaned").map_err(|e| e.of(&file))?;
    let shapes = graphs.shapes(&*observed).map_err(unfit)?;
    qdq::plan(&model, &graphs.kept, &shapes, &job.options).map_err(unfit)?;

    let frames;
    let images = match &job.images {
        Some(video) if is_video(video) => {
            // The files stay until the end of this function.
            frames = VideoFrames::of(video, job.count)?;
            frames.files().to_vec()
        }
        Some(folder) => choose_images(folder, job.count)?,
        None => Vec::new(),
    };
    let hash = sha256_hex(content);
    let (mut statistics, mut warnings) = if let Some(path) = &job.statistics {
        let statistics = Statistics::read(path, &hash)?;
        let warnings = statistics.files.is_empty().then_some(Warning::ImagesUnknown);
        (statistics, warnings.into_iter().collect())
    } else {
        let of = images.len();
        let mut progress = |done| progress("calibrating", done, of);
        let Observed { tensors, files, warnings } =
            collect(&*observed, graphs.input, &graphs.extra, &images, &mut progress)?;
        let schema = STATISTICS_SCHEMA.to_owned();
        (Statistics { schema, graph_sha256: hash, images: files.len(), files, tensors }, warnings)
    };
    drop(observed);
    if let Some(path) = &job.save_statistics {
        statistics.write(path)?;
    }

    let tensors = std::mem::take(&mut statistics.tensors);
    let halves = stores_halves(&source);
    let prepared = Prepared { job, file: &file, graphs: &graphs, model, shapes, tensors, halves };
    let mut made = prepared.make(&job.options)?;
    let layers = signal::of_layers(&prepared, engine, &made, &images, COMPARED_IMAGES, &mut |done, of| {
        progress("comparing layers", done, of);
    })?;
    let mut mixed = None;
    if let (Some(asked), Some(folder)) = (&job.sensitivity, &job.images) {
        let held = judge::held(folder, &statistics.files, asked.held)?;
        warnings.extend(held.warning);
        let judge = Judge::new(&job.bundle, engine, &held.images)?;
        let parts = |made: &Made| {
            let mut parts = BundleParts::from_bundle(&bundle);
            target::describe(&mut parts, job, &file, &statistics, &made.written);
            parts.files.insert(file.clone(), made.content.clone());
            parts
        };
        let mut detector = mixed::Detector { prepared: &prepared, judge: &judge, parts: &parts };
        let found = mixed::search(asked, &layers, judge.images(), &mut detector, progress)?;
        if !found.kept.is_empty() {
            let kept: Vec<&str> = found.kept.iter().map(String::as_str).collect();
            made = prepared.make(&mixed::with(&job.options, &kept))?;
        }
        mixed = Some(found);
    }
    warnings.append(&mut made.warnings);
    let outputs = signal::of_outputs(&prepared, engine, content, &made, &images, COMPARED_IMAGES)?;

    let mut parts = BundleParts::from_bundle(&bundle);
    target::describe(&mut parts, job, &file, &statistics, &made.written);
    target::describe_mixed(&mut parts, &file, mixed.as_ref());
    parts.files.insert(file.clone(), made.content.clone());
    target::add_texts(&mut parts, &job.bundle)?;
    let bundle = write_bundle(&job.output, parts)?;
    let report = Int8Report {
        schema: REPORT_SCHEMA,
        bundle: job.bundle.display().to_string(),
        output: job.output.display().to_string(),
        name: bundle.manifest().name.clone(),
        file,
        method: job.method,
        images: statistics.images,
        bytes_before: content.len(),
        bytes_float: float.len(),
        bytes_after: made.content.len(),
        cleaned,
        operators: made.operators,
        quantized_tensors: made.plan.tensors.len(),
        scales: made.plan.groups().len(),
        equalized: made.equalized,
        outputs,
        layers,
        mixed,
        warnings,
    };
    if let Some(folder) = folder {
        let files = pages::files(&report).map_err(|e| folder.failed(e))?;
        folder.write(files)?;
    }
    Ok(report)
}

/// Whether a model stores some weights as f16.
fn stores_halves(model: &ModelProto) -> bool {
    let tensors = model.graph.iter().flat_map(|g| &g.initializer);
    tensors.into_iter().any(|t| t.data_type == Some(data_type::FLOAT16))
}

#[cfg(test)]
mod tests;
