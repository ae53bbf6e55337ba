//! The pass that makes a graph compute in f16.

use half::f16;
use serde::Serialize;

use super::convert::{Conversion, ConvertedTensor};
use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue, ValueInfoProto, attr_int,
    attribute_type, data_type,
};
use crate::passes::{constants_to_initializers, drop_input_defaults, fresh, widen_half_weights};
use crate::qdq::QUANTIZED;

/// Operators whose type is f32 whatever the rest is, and the inputs of which this holds.
const IN_F32: &[(&str, &[usize])] = &[("Resize", &[1, 2]), ("Upsample", &[1])];

/// Operators that are not made f16 beside quantized ones: those that have f32 boxes or coordinates, and random ones.
const REFUSED: &[&str] = &[
    "NonMaxSuppression",
    "RoiAlign",
    "GridSample",
    "EyeLike",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
];

/// Why a graph cannot compute in f16.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize)]
#[non_exhaustive]
pub enum NativeError {
    /// An operator that has no f16 form here.
    #[error("node `{node}`: {op} is not made f16; store the weights as f16 instead (without --native)")]
    Operator {
        /// The node.
        node: String,
        /// Its operator, with the domain where it is none of ONNX's.
        op: String,
    },
    /// A node with a graph inside it, or a function.
    #[error("node `{node}` holds a graph of its own: only flat graphs are made f16")]
    Subgraph {
        /// The node, or the function.
        node: String,
    },
    /// A weight that f16 cannot hold.
    #[error("weight `{tensor}` holds {value} at position {position}, beyond f16's 65504")]
    OutOfRange {
        /// The tensor.
        tensor: String,
        /// Flat index of the first such element.
        position: usize,
        /// That element.
        value: f32,
    },
}

/// Makes a flat f32 graph compute in f16: inputs are cast to f16 and outputs back to f32, so that its interface stays what it was; all
/// constants are f16 but those that operators want in f32 (scales of Resize). Bounds of Clip beyond f16 become infinite.
///
/// # Errors
/// [`NativeError`]; the model is left as it was.
pub fn compute_in_halves(model: &mut ModelProto) -> Result<Conversion, NativeError> {
    let mut changed = model.clone();
    if let Some(function) = changed.functions.first() {
        return Err(NativeError::Subgraph { node: function.name.clone().unwrap_or_default() });
    }
    drop_input_defaults(&mut changed);
    constants_to_initializers(&mut changed);
    widen_half_weights(&mut changed, &[]);
    let mut conversion = Conversion::default();
    if let Some(graph) = changed.graph.as_mut() {
        check(graph)?;
        keep_in_f32(graph);
        constants(graph, &mut conversion)?;
        graph.node.iter_mut().for_each(retype);
        borders(graph);
        // Types noted for tensors inside are not theirs any more.
        graph.value_info.clear();
    }
    *model = changed;
    Ok(conversion)
}

fn check(graph: &GraphProto) -> Result<(), NativeError> {
    for node in &graph.node {
        let label = || node.label().to_owned();
        if node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err(NativeError::Subgraph { node: label() });
        }
        let op = node.op();
        let constant = op == "Constant";
        if op.is_empty() || constant || REFUSED.contains(&op) || QUANTIZED.contains(&op) {
            let domain = node.domain.as_deref().filter(|d| !d.is_empty()).map_or(String::new(), |d| format!("{d}."));
            let op = format!("{domain}{}", node.op_type.as_deref().unwrap_or_default());
            return Err(NativeError::Operator { node: label(), op });
        }
    }
    Ok(())
}

/// Whether an operator wants its input `position` in f32.
fn wants_f32(node: &NodeProto, position: usize) -> bool {
    IN_F32.iter().any(|(op, positions)| node.op() == *op && positions.contains(&position))
}

/// Gives what operators want in f32 a name that nobody else reads: constants a copy, computed tensors a Cast.
fn keep_in_f32(graph: &mut GraphProto) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for i in 0..graph.node.len() {
        let mut node = graph.node[i].clone();
        for position in 0..node.input.len() {
            let name = node.input[position].clone();
            if name.is_empty() || !wants_f32(&node, position) {
                continue;
            }
            let kept = fresh(graph, &format!("{name}{KEPT}"));
            if let Some(tensor) = graph.initializer_named(&name) {
                let mut tensor = tensor.clone();
                tensor.name = Some(kept.clone());
                graph.initializer.push(tensor);
            } else {
                nodes.push(cast(&name, &kept, data_type::FLOAT));
            }
            node.input[position] = kept;
        }
        // `fresh` sees names in the graph only.
        graph.node[i].input.clone_from(&node.input);
        nodes.push(node);
    }
    graph.node = nodes;
}

/// End of the names that [`keep_in_f32`] gives.
const KEPT: &str = "__f32";

/// Makes the f32 constants f16, but for those that an operator wants in f32.
fn constants(graph: &mut GraphProto, conversion: &mut Conversion) -> Result<(), NativeError> {
    let bounds = |name: &str, graph: &GraphProto| {
        let readers = || graph.node.iter().filter(|n| n.input.iter().any(|i| i == name));
        readers().all(|n| n.op() == "Clip") && readers().next().is_some()
    };
    for i in 0..graph.initializer.len() {
        let tensor = &graph.initializer[i];
        let name = tensor.name_or_empty().to_owned();
        let Some(values) = tensor.f32_values() else { continue };
        let exact = |n: &NodeProto| n.input.iter().enumerate().any(|(p, i)| *i == name && wants_f32(n, p));
        if graph.node.iter().any(exact) {
            continue;
        }
        let beyond = |v: &f32| v.is_finite() && f16::from_f32(*v).is_infinite();
        if let Some(position) = values.iter().position(beyond)
            && !bounds(&name, graph)
        {
            return Err(NativeError::OutOfRange { tensor: name, position, value: values[position] });
        }
        let halves: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
        let errors = values.iter().zip(&halves).filter(|(v, h)| v.is_finite() && h.is_finite());
        conversion.converted.push(ConvertedTensor {
            graph: graph.name.clone().unwrap_or_default(),
            name: name.clone(),
            elements: values.len(),
            max_abs_error: errors.map(|(v, h)| (v - h.to_f32()).abs()).fold(0.0, f32::max),
        });
        graph.initializer[i] = halves_tensor(&name, &graph.initializer[i].dims, &halves);
    }
    Ok(())
}

fn halves_tensor(name: &str, dims: &[i64], values: &[f16]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT16),
        name: Some(name.to_owned()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// Makes a node that names its result's type give f16 in place of f32.
fn retype(node: &mut NodeProto) {
    let float = i64::from(data_type::FLOAT);
    match node.op() {
        "Cast" if node.int("to") == Some(float) && !node.output.iter().any(|o| o.ends_with(KEPT)) => {
            node.set_attribute(attr_int("to", data_type::FLOAT16.into()));
        }
        "ConstantOfShape" => {
            let filled = node.attribute_named("value").and_then(|a| a.t.as_ref());
            let fill = filled.map_or(Some(vec![0.0]), TensorProto::f32_values);
            if let Some(&[fill]) = fill.as_deref() {
                let tensor = halves_tensor("value", &[1], &[f16::from_f32(fill)]);
                node.set_attribute(AttributeProto {
                    name: Some("value".to_owned()),
                    r#type: Some(attribute_type::TENSOR),
                    t: Some(tensor),
                    ..AttributeProto::default()
                });
            }
        }
        _ => {}
    }
}

fn cast(from: &str, to: &str, element: i32) -> NodeProto {
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: Some(to.to_owned()),
        op_type: Some("Cast".to_owned()),
        attribute: vec![attr_int("to", element.into())],
        ..NodeProto::default()
    }
}

/// Puts casts behind the graph's f32 inputs and before its f32 outputs.
fn borders(graph: &mut GraphProto) {
    let floats = |values: &[ValueInfoProto]| -> Vec<String> {
        let is_float = |v: &&ValueInfoProto| matches!(v.r#type.as_ref().and_then(|t| t.value.as_ref()), Some(TypeValue::Tensor(t)) if t.elem_type == Some(data_type::FLOAT));
        values.iter().filter(is_float).filter_map(|v| v.name.clone()).collect()
    };
    let (inputs, outputs) = (floats(&graph.input), floats(&graph.output));
    let mut rename = |name: &str, first: bool| {
        let half = fresh(graph, &format!("{name}__f16"));
        for node in &mut graph.node {
            let outputs = if first { &mut [][..] } else { &mut node.output[..] };
            let ends = node.input.iter_mut().chain(outputs);
            ends.filter(|n| *n == name).for_each(|n| n.clone_from(&half));
            if !first && node.name.as_deref() == Some(name) {
                node.name = Some(half.clone());
            }
        }
        half
    };
    let first: Vec<NodeProto> = inputs.iter().map(|name| cast(name, &rename(name, true), data_type::FLOAT16)).collect();
    // An output that is an input or a constant as well is already f32 under its name, or has its cast.
    let last: Vec<NodeProto> = outputs
        .iter()
        .filter(|name| !inputs.contains(name))
        .map(|name| cast(&rename(name, false), name, data_type::FLOAT))
        .collect();
    for node in &last {
        let (half, name) = (&node.input[0], &node.output[0]);
        for tensor in graph.initializer.iter_mut().filter(|t| t.name.as_deref() == Some(name)) {
            tensor.name = Some(half.clone());
        }
    }
    graph.node.splice(0..0, first);
    graph.node.extend(last);
}
