//! The layout head as ONNX.

use std::path::Path;

use hoi_quantize::onnx::{GraphBuilder, ModelProto, attr_int};
use hoi_runtime::bundle::{HeadDescription, HeadSpec, HeadTraining};
use hoi_runtime::engine::{Dim, ElementType, TensorSpec};
use hoi_runtime::spatial::SPATIAL_LEN;
use hoi_runtime::vocabulary::VocabularySpec;
use tch::Tensor;

use super::weights::{ExportError, values};
use super::write_beside;
use crate::system::layout::{LayoutNetwork, LayoutShape};

/// Name of the graph's file.
pub const HEAD_FILE: &str = "interaction.onnx";

/// Inputs of the head: `spatial` f32 `[P, 36]`, `object_class` i64 `[P]` and, with a reasoning layer, `human_index` and `object_index` i64
/// `[P]`, `pairs_of_human` and `pairs_of_object` f32 `[N, P]`.
pub fn head_inputs(shape: &LayoutShape) -> Vec<TensorSpec> {
    let pairs = || Dim::Symbol("P".into());
    let mut inputs = vec![
        TensorSpec::f32("spatial", vec![pairs(), Dim::Fixed(SPATIAL_LEN)]),
        TensorSpec::i64("object_class", vec![pairs()]),
    ];
    if shape.heads > 0 {
        let incidence = || vec![Dim::Symbol("N".into()), pairs()];
        inputs.extend([
            TensorSpec::i64("human_index", vec![pairs()]),
            TensorSpec::i64("object_index", vec![pairs()]),
            TensorSpec::f32("pairs_of_human", incidence()),
            TensorSpec::f32("pairs_of_object", incidence()),
        ]);
    }
    inputs
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
    for spec in head_inputs(network.shape()) {
        graph.input(&spec.name, spec.element, &spec.shape);
    }
    layout_nodes(&mut graph, network, Beside::default())?;
    let [weight, bias] = verb_layer(network);
    for (name, tensor) in [("verbs.weight", weight), ("verbs.bias", bias)] {
        constant(&mut graph, name, &tensor)?;
    }
    graph.node("MatMul", &[HIDDEN, "verbs.weight"], &["verbs.product"], vec![]).node(
        "Add",
        &["verbs.product", "verbs.bias"],
        &["verb_logits"],
        vec![],
    );
    for spec in head_outputs(network.shape().verbs as usize) {
        graph.output(&spec.name, ElementType::F32, &spec.shape);
    }
    Ok(graph.finish())
}

/// What a head that sees more hands to the layout head's nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside<'a> {
    /// A tensor `[P, R]` that is put beside the inputs of the first layer, and its rows of that layer's weight, `[R, hidden]`. It is cut as the
    /// other inputs are.
    pub(super) seen: Option<(&'a str, &'a Tensor)>,
    /// A tensor `[P, 1]`: 1 for pairs that compete, 0 for those that the others must not notice.
    pub(super) counted: Option<&'a str>,
}

/// The last hidden layer of the layout head, `[P, hidden]`.
pub(super) const HIDDEN: &str = "second.out";

/// Weight `[hidden, V]` and bias `[V]` of the layer that follows it.
pub(super) fn verb_layer(network: &LayoutNetwork) -> [Tensor; 2] {
    ["verbs.weight", "verbs.bias"].map(|wanted| {
        let found = network.folded().into_iter().find(|(name, _)| *name == wanted);
        found.map_or_else(|| unreachable!("a layout head has `{wanted}`"), |(_, tensor)| tensor)
    })
}

fn constant(graph: &mut GraphBuilder, name: &str, tensor: &Tensor) -> Result<(), ExportError> {
    let values = values(tensor);
    if !values.iter().all(|v| v.is_finite()) {
        return Err(ExportError::NotFinite { name: name.to_owned() });
    }
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    graph.initializer_f32(name, &shape, &values);
    Ok(())
}

/// Adds the layout head's nodes and constants up to [`HIDDEN`]; its inputs must be declared.
///
/// # Errors
/// [`ExportError::NotFinite`].
pub(super) fn layout_nodes(
    graph: &mut GraphBuilder,
    network: &LayoutNetwork,
    beside: Beside<'_>,
) -> Result<(), ExportError> {
    let shape = network.shape();
    let (limit, scores) = (network.input_limit(), network.score_limit());
    graph.initializer_f32("input.low", &[], &[-limit]).initializer_f32("input.high", &[], &[limit]);
    if shape.heads > 0 {
        graph
            .initializer_f32("score.low", &[], &[-scores])
            .initializer_f32("score.high", &[], &[scores])
            .initializer_f32("one", &[], &[1.0]);
    }
    for (name, tensor) in network.folded().iter().filter(|(name, _)| !name.starts_with("verbs.")) {
        match beside.seen {
            Some((_, more)) if *name == "first.weight" => constant(graph, name, &Tensor::cat(&[tensor, more], 0))?,
            _ => constant(graph, name, tensor)?,
        }
    }
    let inputs: Vec<&str> =
        ["spatial", "object.embedded"].into_iter().chain(beside.seen.map(|(seen, _)| seen)).collect();
    graph
        .node("Gather", &["object.embedding", "object_class"], &["object.embedded"], vec![attr_int("axis", 0)])
        .node("Concat", &inputs, &["pair"], vec![attr_int("axis", 1)])
        .node("Clip", &["pair", "input.low", "input.high"], &["pair.cut"], vec![])
        .node("MatMul", &["pair.cut", "first.weight"], &["first.product"], vec![])
        .node("Add", &["first.product", "first.bias"], &["first.sum"], vec![])
        .node("Relu", &["first.sum"], &["first.out"], vec![])
        .node("MatMul", &["first.out", "second.weight"], &["second.product"], vec![])
        .node("Add", &["second.product", "second.bias"], &["second.sum"], vec![]);
    let second = if shape.heads > 0 { reasoning(graph, beside.counted) } else { "second.sum" };
    graph.node("Relu", &[second], &[HIDDEN], vec![]);
    Ok(())
}

/// The reasoning layer: what the pairs of each human, of each object and of the image say, added to `second.sum`.
///
/// Sums over a group are products with the incidence matrices; projections are made once an entity, not once a pair.
fn reasoning(graph: &mut GraphBuilder, counted: Option<&str>) -> &'static str {
    for part in ["score", "value"] {
        let [weight, bias, product, sum] =
            ["weight", "bias", "product", "sum"].map(|suffix| format!("reason.{part}.{suffix}"));
        graph.node("MatMul", &["first.out", &weight], &[&product], vec![]).node(
            "Add",
            &[&product, &bias],
            &[&sum],
            vec![],
        );
    }
    graph.node("Clip", &["reason.score.sum", "score.low", "score.high"], &["reason.score"], vec![]).node(
        "Exp",
        &["reason.score"],
        &[if counted.is_some() { "reason.all_odds" } else { "reason.odds" }],
        vec![],
    );
    if let Some(counted) = counted {
        graph.node("Mul", &["reason.all_odds", counted], &["reason.odds"], vec![]);
    }
    graph.node("Mul", &["reason.odds", "reason.value.sum"], &["reason.weighted"], vec![]).initializer_i64(
        "first.axis",
        &[1],
        &[0],
    );
    for group in ["human", "object"] {
        let incidence = format!("pairs_of_{group}");
        for sum in ["odds", "weighted"] {
            graph.node("MatMul", &[&incidence, &format!("reason.{sum}")], &[&format!("{group}.{sum}")], vec![]);
        }
    }
    for sum in ["odds", "weighted"] {
        // Every pair has one human.
        let (of_humans, of_image) = (format!("human.{sum}"), format!("image.{sum}"));
        graph.node("ReduceSum", &[&of_humans, "first.axis"], &[&of_image], vec![attr_int("keepdims", 1)]);
    }
    for group in ["human", "object", "image"] {
        let [odds, weighted, total, strength, mean] =
            ["odds", "weighted", "total", "strength", "mean"].map(|suffix| format!("{group}.{suffix}"));
        graph.node("Add", &[&odds, "one"], &[&total], vec![]).node("Log", &[&total], &[&strength], vec![]).node(
            "Div",
            &[&weighted, &total],
            &[&mean],
            vec![],
        );
    }
    graph
        .node(
            "Concat",
            &["human.strength", "human.mean", "object.strength", "object.mean"],
            &["entity.groups"],
            vec![attr_int("axis", 1)],
        )
        .node("Concat", &["image.strength", "image.mean"], &["image.groups"], vec![attr_int("axis", 1)])
        .node("MatMul", &["image.groups", "reason.image"], &["image.context"], vec![])
        .node("MatMul", &["entity.groups", "reason.human"], &["human.projected"], vec![])
        .node("MatMul", &["entity.groups", "reason.object"], &["object.projected"], vec![])
        .node("Add", &["human.projected", "image.context"], &["human.of_image"], vec![]);
    let mut sum = "second.sum".to_owned();
    for (role, projected) in [("human", "human.of_image"), ("object", "object.projected")] {
        let [context, next] = ["context", "added"].map(|suffix| format!("{role}.{suffix}"));
        graph.node("Gather", &[projected, &format!("{role}_index")], &[&context], vec![attr_int("axis", 0)]).node(
            "Add",
            &[&sum, &context],
            &[&next],
            vec![],
        );
        sum = next;
    }
    "object.added"
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
    let head = HeadSpec {
        file: HEAD_FILE.to_owned(),
        inputs: head_inputs(network.shape()),
        outputs: head_outputs(vocabulary.verbs.len()),
        answers_unplaced: false,
    };
    let description = HeadDescription { vocabulary: vocabulary.clone(), head, training };
    let mut text = serde_json::to_vec_pretty(&description)?;
    text.push(b'\n');
    Ok(write_beside(&folder.join("head.json"), &text)?)
}
