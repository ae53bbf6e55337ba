//! Writes a plan into a graph.

use std::collections::HashMap;

use super::weights::{FloatWeights, IntegerWeights, integer_weights};
use super::{Plan, QdqError};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, attr_int};
use crate::passes::{Index, fresh};

/// The names that a quantized tensor got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Tensor that comes out of integers -> the same tensor after QuantizeLinear and DequantizeLinear, which whoever read the former is to
    /// read. What float operators give stays as it is for all but the quantized nodes.
    pub dequantized: HashMap<String, String>,
}

impl Written {
    /// The names under which tensors are read from outside: dequantized where they come out of integers.
    pub fn names(&self, tensors: &[String]) -> Vec<String> {
        tensors.iter().map(|name| self.dequantized.get(name).unwrap_or(name).clone()).collect()
    }
}

/// Quantizes the weights that `plan` names and puts QuantizeLinear and DequantizeLinear behind its tensors.
///
/// `means` are the means of tensors' channels; the bias of a convolution makes up for what the rounding of its weights does to the mean of
/// its result where those of its input are known.
///
/// # Errors
/// [`QdqError::NoStatistics`] when `scales` lacks a tensor of the plan; the model is left as it was.
pub fn write(
    model: &mut ModelProto,
    plan: &Plan,
    scales: &HashMap<String, f32>,
    means: &HashMap<String, Vec<f64>>,
) -> Result<Written, QdqError> {
    let missing = |tensor: &str| QdqError::NoStatistics { tensor: tensor.to_owned() };
    if let Some((name, _)) = plan.tensors.iter().find(|(name, _)| !scales.contains_key(name)) {
        return Err(missing(name));
    }
    let Some(graph) = model.graph.as_mut() else { return Ok(Written::default()) };
    let index = Index::new(graph, &[]);
    let mut writer = Writer { zero: fresh(graph, "zero_point"), before: HashMap::new(), dequantized: HashMap::new() };
    graph.initializer.push(TensorProto::from_i8(&writer.zero, &[], &[0]));
    for &i in plan.weighted.keys() {
        let input = &graph.node[i].input[0];
        let scale = *scales.get(input).ok_or_else(|| missing(input))?;
        let means = means.get(input).filter(|_| graph.node[i].op() == "Conv").map(Vec::as_slice);
        writer.weights(graph, i, scale, means);
    }
    let mut behind: HashMap<String, [NodeProto; 2]> = HashMap::new();
    for (name, _) in &plan.tensors {
        let pair = writer.activation(graph, name, scales[name]);
        behind.insert(name.clone(), pair);
    }
    let is_integer = |name: &str| index.producer(name).is_some_and(|i| plan.nodes.contains(&i));
    for (i, node) in graph.node.iter_mut().enumerate() {
        for name in &mut node.input {
            let Some(dequantized) = writer.dequantized.get(name) else { continue };
            if plan.nodes.contains(&i) || is_integer(name) {
                name.clone_from(dequantized);
            }
        }
    }
    let mut nodes = Vec::with_capacity(graph.node.len() + 2 * behind.len());
    for input in graph.input.iter().filter_map(|i| i.name.as_ref()) {
        nodes.extend(behind.remove(input).into_iter().flatten());
    }
    for (i, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        nodes.extend(writer.before.remove(&i).into_iter().flatten());
        let outputs = node.output.clone();
        nodes.push(node);
        for output in &outputs {
            nodes.extend(behind.remove(output).into_iter().flatten());
        }
    }
    graph.node = nodes;
    let mut dequantized = writer.dequantized;
    dequantized.retain(|name, _| is_integer(name));
    Ok(Written { dequantized })
}

struct Writer {
    /// The zero point of all activations.
    zero: String,
    /// Nodes to be put before the node at a position.
    before: HashMap<usize, Vec<NodeProto>>,
    /// Each quantized tensor's dequantized form.
    dequantized: HashMap<String, String>,
}

pub(super) fn node(op: &str, inputs: [&str; 3], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        ..NodeProto::default()
    }
}

impl Writer {
    fn activation(&mut self, graph: &mut GraphProto, name: &str, scale: f32) -> [NodeProto; 2] {
        let [quantized, dequantized, scale_name] =
            ["q", "dq", "scale"].map(|suffix| fresh(graph, &format!("{name}.{suffix}")));
        graph.initializer.push(TensorProto::from_f32(&scale_name, &[], &[scale]));
        self.dequantized.insert(name.to_owned(), dequantized.clone());
        [
            node("QuantizeLinear", [name, &scale_name, &self.zero], &quantized),
            node("DequantizeLinear", [&quantized, &scale_name, &self.zero], &dequantized),
        ]
    }

    /// Quantizes weights and bias of the node at `i`. The float ones stay for whoever else reads them.
    fn weights(&mut self, graph: &mut GraphProto, i: usize, input_scale: f32, means: Option<&[f64]>) {
        let reader = graph.node[i].clone();
        let Some(weight) = graph.initializer_named(&reader.input[1]) else { return };
        let (dims, values) = (weight.dims.clone(), weight.f32_values().unwrap_or_default());
        let axis = match reader.op() {
            "ConvTranspose" => 1,
            "MatMul" => 1,
            "Gemm" if reader.int("transB").unwrap_or(0) == 0 => 1,
            _ => 0,
        };
        let bias = reader.input_at(2).and_then(|b| graph.initializer_named(b)?.f32_values());
        let float = FloatWeights { values: &values, dims: &dims, axis, bias: bias.as_deref(), input_scale, means };
        let IntegerWeights { values, scales, bias } = integer_weights(&float);
        let stored = |name: &str| TensorProto::from_i8(name, &dims, &values);
        let zeros = vec![0i8; scales.len()];
        let zero = |name: &str| TensorProto::from_i8(name, &[zeros.len() as i64], &zeros);
        self.constant(graph, i, 1, &scales, axis, stored, zero);
        if let Some((values, scales)) = bias {
            if reader.input_at(2).is_none() {
                let inputs = &mut graph.node[i].input;
                inputs.truncate(2);
                inputs.push(format!("{}.bias", reader.label()));
            }
            let dims = [values.len() as i64];
            let zeros = vec![0i32; values.len()];
            let stored = |name: &str| TensorProto::from_i32(name, &dims, &values);
            let zero = |name: &str| TensorProto::from_i32(name, &dims, &zeros);
            self.constant(graph, i, 2, &scales, 0, stored, zero);
        }
    }

    /// Puts integers with a DequantizeLinear in place of the constant that the node at `i` reads at `position`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one DequantizeLinear")]
    fn constant(
        &mut self,
        graph: &mut GraphProto,
        i: usize,
        position: usize,
        scales: &[f32],
        axis: usize,
        stored: impl Fn(&str) -> TensorProto,
        zero: impl Fn(&str) -> TensorProto,
    ) {
        let name = graph.node[i].input[position].clone();
        let [quantized, dequantized, scale, zero_point] =
            ["q", "dq", "scale", "zero_point"].map(|suffix| fresh(graph, &format!("{name}.{suffix}")));
        graph.initializer.push(stored(&quantized));
        graph.initializer.push(TensorProto::from_f32(&scale, &[scales.len() as i64], scales));
        graph.initializer.push(zero(&zero_point));
        let mut dequantize = node("DequantizeLinear", [&quantized, &scale, &zero_point], &dequantized);
        dequantize.attribute.push(attr_int("axis", axis as i64));
        self.before.entry(i).or_default().push(dequantize);
        graph.node[i].input[position] = dequantized;
    }
}
