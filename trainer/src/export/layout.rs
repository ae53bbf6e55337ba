//! The layout head as ONNX.

use std::path::Path;

use hoi_quantize::onnx::{GraphBuilder, ModelProto, attr_int};
use hoi_runtime::bundle::{HeadDescription, HeadSpec, HeadTraining};
use hoi_runtime::engine::{Dim, ElementType, TensorSpec};
use hoi_runtime::spatial::SPATIAL_LEN;
use hoi_runtime::vocabulary::VocabularySpec;

use super::weights::{ExportError, values};
use super::write_beside;
use crate::system::layout::LayoutNetwork;

/// Name of the graph's file.
pub const HEAD_FILE: &str = "interaction.onnx";

/// Inputs of the head: `spatial` f32 `[P, 36]` and `object_class` i64 `[P]`.
pub fn head_inputs() -> Vec<TensorSpec> {
    let pairs = || Dim::Symbol("P".into());
    vec![
        TensorSpec::f32("spatial", vec![pairs(), Dim::Fixed(SPATIAL_LEN)]),
        TensorSpec::i64("object_class", vec![pairs()]),
    ]
}

/// Outputs of the head: `verb_logits` f32 `[P, V]`.
pub fn head_outputs(verbs: usize) -> Vec<TensorSpec> {
    vec![TensorSpec::f32("verb_logits", vec![Dim::Symbol("P".into()), Dim::Fixed(verbs)])]
}

/// The network as an ONNX graph that takes raw spatial values (opset 17; the dimension P is symbolic and may be 0).
///
/// The standardisation is folded into the first layer. Biases are constants and each is added right after its product, which lets
/// an engine do both, and the ReLU, in one pass. The inputs are cut after the embedding is put beside them (it stays far inside the
/// limit): tract would otherwise turn concatenation and product into two products and a sum, at twice the time of the whole graph.
///
/// # Errors
/// [`ExportError::NotFinite`] when a weight is NaN or infinite.
pub fn layout_graph(network: &LayoutNetwork) -> Result<ModelProto, ExportError> {
    let mut graph = GraphBuilder::new("layout_head");
    for spec in head_inputs() {
        graph.input(&spec.name, spec.element, &spec.shape);
    }
    let limit = network.input_limit();
    let mut constants: Vec<(&str, Vec<usize>, Vec<f32>)> =
        vec![("input.low", vec![], vec![-limit]), ("input.high", vec![], vec![limit])];
    for (name, tensor) in network.folded() {
        constants.push((name, tensor.size().iter().map(|&n| n as usize).collect(), values(&tensor)));
    }
    for (name, shape, values) in &constants {
        if !values.iter().all(|v| v.is_finite()) {
            return Err(ExportError::NotFinite { name: (*name).to_owned() });
        }
        graph.initializer_f32(name, shape, values);
    }
    graph
        .node("Gather", &["object.embedding", "object_class"], &["object.embedded"], vec![attr_int("axis", 0)])
        .node("Concat", &["spatial", "object.embedded"], &["pair"], vec![attr_int("axis", 1)])
        .node("Clip", &["pair", "input.low", "input.high"], &["pair.cut"], vec![])
        .node("MatMul", &["pair.cut", "first.weight"], &["first.product"], vec![])
        .node("Add", &["first.product", "first.bias"], &["first.sum"], vec![])
        .node("Relu", &["first.sum"], &["first.out"], vec![])
        .node("MatMul", &["first.out", "second.weight"], &["second.product"], vec![])
        .node("Add", &["second.product", "second.bias"], &["second.sum"], vec![])
        .node("Relu", &["second.sum"], &["second.out"], vec![])
        .node("MatMul", &["second.out", "verbs.weight"], &["verbs.product"], vec![])
        .node("Add", &["verbs.product", "verbs.bias"], &["verb_logits"], vec![]);
    for spec in head_outputs(network.shape().verbs as usize) {
        graph.output(&spec.name, ElementType::F32, &spec.shape);
    }
    Ok(graph.finish())
}

/// Writes `interaction.onnx` and `head.json` into a folder, the graph first.
///
/// # Errors
/// [`ExportError`] when a weight is not finite or a file cannot be written.
pub fn write_layout(
    network: &LayoutNetwork,
    vocabulary: &VocabularySpec,
    training: HeadTraining,
    folder: &Path,
) -> Result<(), ExportError> {
    hoi_quantize::onnx::write(&layout_graph(network)?, &folder.join(HEAD_FILE))?;
    let head =
        HeadSpec { file: HEAD_FILE.to_owned(), inputs: head_inputs(), outputs: head_outputs(vocabulary.verbs.len()) };
    let description = HeadDescription { vocabulary: vocabulary.clone(), head, training };
    let mut text = serde_json::to_vec_pretty(&description)?;
    text.push(b'\n');
    Ok(write_beside(&folder.join("head.json"), &text)?)
}
