//! Quantizes the detector of a bundle to INT8: calibration, QDQ, a new bundle, a report.

mod error;
mod graphs;
mod report;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use hoi_runtime::bundle::{BundleParts, ModelBundle, sha256_hex, write_bundle};
use hoi_runtime::engine::Engine;

pub use error::Int8Error;
pub use report::{Int8Report, OperatorCount, OutputSignal, REPORT_SCHEMA};
pub use target::CALIBRATION_LIST;

use crate::calibrate::{Histogram, Method, Observed, STATISTICS_SCHEMA, Statistics, Warning, choose_images, collect};
use crate::fp16;
use crate::onnx::{self, ModelProto, data_type};
use crate::passes::{clean, drop_unused};
use crate::qdq::{self, PlanOptions};
use graphs::Graphs;

/// How `precision` of a manifest names the result.
pub const PRECISION: &str = "int8 (QDQ, symmetric s8, a scale for each channel of the weights); the rest f32";
/// Calibration images unless told otherwise.
pub const DEFAULT_COUNT: usize = 100;
/// Images on which the outputs of both graphs are compared.
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
    /// The command, as the manifest records it.
    pub command: String,
}

/// Quantizes a bundle's detector and writes the new bundle.
///
/// `progress` hears `(done, of)` after each calibration image.
///
/// # Errors
/// [`Int8Error`]; the bundle is not written then, and statistics only if they were complete.
pub fn run(
    job: &Int8Job,
    engine: &dyn Engine,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Int8Report, Int8Error> {
    target::check(&job.output)?;
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
    let plan = qdq::plan(&model, &graphs.kept, &shapes, &job.options).map_err(unfit)?;

    let images = match &job.images {
        Some(folder) => choose_images(folder, job.count)?,
        None => Vec::new(),
    };
    let hash = sha256_hex(content);
    let (statistics, mut warnings) = if let Some(path) = &job.statistics {
        let statistics = Statistics::read(path, &hash)?;
        let warnings = statistics.files.is_empty().then_some(Warning::ImagesUnknown);
        (statistics, warnings.into_iter().collect())
    } else {
        let of = images.len();
        let mut progress = |done| progress(done, of);
        let Observed { tensors, files, warnings } =
            collect(&*observed, graphs.input, &graphs.extra, &images, &mut progress)?;
        let schema = STATISTICS_SCHEMA.to_owned();
        (Statistics { schema, graph_sha256: hash, images: files.len(), files, tensors }, warnings)
    };
    drop(observed);
    if let Some(path) = &job.save_statistics {
        statistics.write(path)?;
    }

    let mut tensors: BTreeMap<String, Histogram> = statistics.tensors.clone();
    let mut fixed = HashMap::new();
    if job.equalize {
        fixed.extend(qdq::equalize(&mut model, &graphs.kept, &plan, &mut tensors));
        fixed.extend(qdq::equalize_sums(&mut model, &graphs.kept, &plan, &mut tensors));
    }
    let (scales, of_scales) = qdq::scales(&model, &plan, &tensors, job.method, &fixed).map_err(unfit)?;
    warnings.extend(of_scales);
    let operators = report::count_operators(&model, &plan);
    let means =
        tensors.iter().filter(|_| job.correct_bias).map(|(name, h)| (name.clone(), h.channel_means())).collect();
    let written = qdq::write(&mut model, &plan, &scales, &means).map_err(unfit)?;
    let kept: Vec<String> = graphs.kept.iter().map(|n| written.dequantized.get(n).unwrap_or(n).clone()).collect();
    drop_unused(&mut model, &kept);
    if stores_halves(&source) {
        fp16::convert(&mut model, fp16::LEAST_ELEMENTS);
    }
    let quantized = onnx::to_bytes(&model).map_err(refused)?;
    let outputs = report::signals(&graphs, engine, [content, &quantized], &written, &images, COMPARED_IMAGES)
        .map_err(|e| e.of(&file))?;

    let mut parts = BundleParts::from_bundle(&bundle);
    target::describe(&mut parts, job, &file, &statistics, &written);
    parts.files.insert(file.clone(), quantized.clone());
    target::add_texts(&mut parts, &job.bundle)?;
    let bundle = write_bundle(&job.output, parts)?;
    Ok(Int8Report {
        schema: REPORT_SCHEMA,
        bundle: job.bundle.display().to_string(),
        output: job.output.display().to_string(),
        name: bundle.manifest().name.clone(),
        file,
        method: job.method,
        images: statistics.images,
        bytes_before: content.len(),
        bytes_float: float.len(),
        bytes_after: quantized.len(),
        cleaned,
        operators,
        quantized_tensors: plan.tensors.len(),
        scales: plan.groups().len(),
        equalized: fixed.len(),
        outputs,
        warnings,
    })
}

/// Whether a model stores some weights as f16.
fn stores_halves(model: &ModelProto) -> bool {
    let tensors = model.graph.iter().flat_map(|g| &g.initializer);
    tensors.into_iter().any(|t| t.data_type == Some(data_type::FLOAT16))
}
