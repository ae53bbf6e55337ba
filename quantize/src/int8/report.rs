//! What quantizing a bundle reports, as JSON and as text.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hoi_runtime::engine::{Engine, Tensor};
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{ImageLimits, open_image};
use serde::Serialize;

use super::error::GraphError;
use super::graphs::Graphs;
use crate::calibrate::{Method, Warning};
use crate::onnx::ModelProto;
use crate::passes::Cleaned;
use crate::qdq::{Plan, Written};

/// Name and version of the JSON report.
pub const REPORT_SCHEMA: &str = "hoi.int8/1";

/// The report of one quantization; its JSON form is what `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Int8Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The bundle that was read.
    pub bundle: String,
    /// The bundle that was written.
    pub output: String,
    /// Its name.
    pub name: String,
    /// The graph's file.
    pub file: String,
    /// How thresholds were chosen.
    #[serde(flatten)]
    pub method: Method,
    /// How many images the statistics are of.
    pub images: usize,
    /// Size of the graph's file before.
    pub bytes_before: usize,
    /// Size of the same graph with 32-bit floats.
    pub bytes_float: usize,
    /// Size of the graph's file after.
    pub bytes_after: usize,
    /// What was tidied before.
    pub cleaned: Cleaned,
    /// By operator: how many nodes are quantized and how many stay float.
    pub operators: BTreeMap<String, OperatorCount>,
    /// How many activations are quantized.
    pub quantized_tensors: usize,
    /// How many different scales they have.
    pub scales: usize,
    /// Tensors whose channels were brought to one range.
    pub equalized: usize,
    /// What the outputs say; empty without images.
    pub outputs: Vec<OutputSignal>,
    /// What speaks against the calibration.
    pub warnings: Vec<Warning>,
}

/// Nodes of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperatorCount {
    /// How many are quantized.
    pub quantized: usize,
    /// How many stay float.
    pub float: usize,
    /// Which ones stay float, though others of their kind are quantized.
    pub float_names: Vec<String>,
}

/// Signal and noise of an output: of the float graph, and of the difference of the quantized one to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputSignal {
    /// The output, by its name in the float graph.
    pub name: String,
    /// Images that were run.
    pub images: usize,
    /// Mean square of the float values.
    pub signal: f64,
    /// Mean square of the differences.
    pub noise: f64,
    /// `10 log10(signal / noise)`; `null` where there is no noise or no signal.
    pub decibel: Option<f64>,
}

/// Counts the nodes of the cleaned graph by operator.
pub(super) fn count_operators(model: &ModelProto, plan: &Plan) -> BTreeMap<String, OperatorCount> {
    let mut counts: BTreeMap<String, OperatorCount> = BTreeMap::new();
    for (i, node) in model.graph.iter().flat_map(|g| &g.node).enumerate() {
        let count = counts.entry(node.op_type.clone().unwrap_or_default()).or_default();
        if plan.nodes.contains(&i) {
            count.quantized += 1;
        } else {
            count.float += 1;
            count.float_names.push(node.label().to_owned());
        }
    }
    for count in counts.values_mut().filter(|c| c.quantized == 0) {
        count.float_names.clear();
    }
    counts
}

/// Runs the float and the quantized graph on the first images that can be read and measures their outputs' distance.
pub(super) fn signals(
    graphs: &Graphs<'_>,
    engine: &dyn Engine,
    [float, quantized]: [&[u8]; 2],
    written: &Written,
    images: &[PathBuf],
    count: usize,
) -> Result<Vec<OutputSignal>, GraphError> {
    let renamed: Vec<String> = graphs.kept.iter().map(|n| written.dequantized.get(n).unwrap_or(n).clone()).collect();
    let first = graphs.load(engine, float, &graphs.kept, "original")?;
    let second = graphs.load(engine, quantized, &renamed, "quantized")?;
    let mut sums: Vec<(f64, f64, usize)> = vec![(0.0, 0.0, 0); graphs.kept.len()];
    let mut run = 0;
    for path in images {
        if run == count {
            break;
        }
        let Ok(frame) = open_image(path, &ImageLimits::default()) else { continue };
        let (tensor, _) = prepare(&frame.pixels, graphs.input);
        let inputs: Vec<Tensor> = std::iter::once(Tensor::F32(tensor)).chain(graphs.extra.iter().cloned()).collect();
        let failed = |which| move |source| GraphError { which, source };
        let a = first.run(inputs.clone()).map_err(failed("original"))?;
        let b = second.run(inputs).map_err(failed("quantized"))?;
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(&b)) {
            let (Some(a), Some(b)) = (a.as_f32(), b.as_f32()) else { continue };
            for (a, b) in a.iter().zip(b.iter()).filter(|(a, b)| a.is_finite() && b.is_finite()) {
                sum.0 += f64::from(*a).powi(2);
                sum.1 += (f64::from(*a) - f64::from(*b)).powi(2);
                sum.2 += 1;
            }
        }
        run += 1;
    }
    let signal = |(name, (signal, noise, values)): (&String, (f64, f64, usize))| OutputSignal {
        name: name.clone(),
        images: run,
        signal: signal / values as f64,
        noise: noise / values as f64,
        decibel: (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10()),
    };
    let measured = graphs.kept.iter().zip(sums).filter(|(_, sum)| sum.2 > 0);
    Ok(measured.map(signal).collect())
}

impl std::fmt::Display for Int8Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 4;
        let share = 100.0 * self.bytes_after as f64 / self.bytes_float.max(1) as f64;
        writeln!(
            f,
            "size       {}: {} -> {} bytes ({share:.1} % of the same graph with 32-bit floats)",
            self.file, self.bytes_before, self.bytes_after
        )?;
        writeln!(f, "statistics {} images, method {}", self.images, self.method)?;
        writeln!(
            f,
            "tensors    {} quantized, {} scales, {} equalised",
            self.quantized_tensors, self.scales, self.equalized
        )?;
        for (op, count) in &self.operators {
            write!(f, "           {op}: {} quantized, {} float", count.quantized, count.float)?;
            let names = &count.float_names;
            if !names.is_empty() {
                let more = names.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(f, " ({}{more})", names[..names.len().min(SHOWN)].join(", "))?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            match output.decibel {
                Some(db) => {
                    writeln!(f, "output     {}: signal to noise {db:.1} dB ({} images)", output.name, output.images)?
                }
                None => writeln!(f, "output     {}: no difference ({} images)", output.name, output.images)?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning    {warning}")?;
        }
        Ok(())
    }
}
