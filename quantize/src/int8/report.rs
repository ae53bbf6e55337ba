//! What quantizing a bundle reports.

use std::collections::BTreeMap;

use serde::Serialize;

use super::mixed::Mixed;
use super::signal::{LayerSignal, OutputSignal};
use crate::calibrate::{Method, Warning};
use crate::onnx::ModelProto;
use crate::passes::Cleaned;
use crate::qdq::Plan;

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
    /// What the layers say, in the graph's order, with all of them quantized; empty without images.
    pub layers: Vec<LayerSignal>,
    /// Which layers stay in float for the triplets' sake; `null` where it was not asked for.
    pub mixed: Option<Mixed>,
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
