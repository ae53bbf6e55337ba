//! An index over an ONNX graph: who makes a tensor, who reads it, which are constant.

use std::collections::{HashMap, HashSet};

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::{Datum, Tensor};
use tract_onnx::tensor::load_tensor;

/// The graph with its index.
pub(super) struct Index<'g> {
    pub(super) nodes: &'g [NodeProto],
    constants: HashMap<&'g str, &'g TensorProto>,
    makers: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
    /// Tensors that somebody outside the graph asks for.
    wanted: HashSet<&'g str>,
    /// Numbers of dimensions, where they follow from the graph.
    ranks: HashMap<&'g str, usize>,
}

impl<'g> Index<'g> {
    /// `wanted` are tensors that are read from outside, beside the graph's outputs.
    pub(super) fn new(graph: &'g GraphProto, wanted: &'g [String]) -> Self {
        let mut makers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (n, node) in graph.node.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (name.as_str(), n)));
            for name in node.input.iter().filter(|name| !name.is_empty()) {
                readers.entry(name).or_default().push(n);
            }
        }
        let outputs = graph.output.iter().map(|output| output.name.as_str());
        let mut index = Self {
            nodes: &graph.node,
            constants: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            makers,
            readers,
            wanted: outputs.chain(wanted.iter().map(String::as_str)).collect(),
            ranks: graph.input.iter().filter_map(|input| Some((input.name.as_str(), input_rank(input)?))).collect(),
        };
        index.follow_ranks();
        index
    }

    /// Ranks of what the nodes make, in their order.
    fn follow_ranks(&mut self) {
        for node in self.nodes {
            let of = |k: usize| node.input.get(k).and_then(|name| self.rank(name));
            let rank = match node.op_type.as_str() {
                "Conv" => of(0).or_else(|| of(1)),
                "QuantizeLinear" | "DequantizeLinear" | "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSwish"
                | "HardSigmoid" | "Tanh" | "Exp" | "Log" | "Sqrt" | "Erf" | "Softplus" | "Elu" | "Neg" | "Abs"
                | "Identity" | "Cast" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Resize" | "Pad"
                | "Concat" | "Transpose" | "Split" | "Slice" | "BatchNormalization" | "Softmax" => of(0),
                "Add" | "Sub" | "Mul" | "Div" | "Pow" => of(0).zip(of(1)).map(|(a, b)| a.max(b)),
                "Reshape" => node.input.get(1).and_then(|shape| Some(self.constant::<i64>(shape)?.0.len())),
                _ => None,
            };
            if let Some(rank) = rank {
                self.ranks.extend(node.output.iter().map(|output| (output.as_str(), rank)));
            }
        }
    }

    /// The number of dimensions of a tensor, where it follows from the graph.
    pub(super) fn rank(&self, tensor: &str) -> Option<usize> {
        self.ranks.get(tensor).copied().or_else(|| Some(self.constants.get(tensor)?.dims.len()))
    }

    pub(super) fn maker(&self, tensor: &str) -> Option<(usize, &'g NodeProto)> {
        let n = *self.makers.get(tensor)?;
        Some((n, &self.nodes[n]))
    }

    pub(super) fn readers(&self, tensor: &str) -> &[usize] {
        self.readers.get(tensor).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_constant(&self, tensor: &str) -> bool {
        self.constants.contains_key(tensor)
    }

    pub(super) fn is_wanted(&self, tensor: &str) -> bool {
        self.wanted.contains(tensor)
    }

    /// The one node that reads a tensor which nobody else reads or asks for.
    pub(super) fn only_reader(&self, tensor: &str) -> Option<(usize, &'g NodeProto)> {
        match (self.readers(tensor), self.is_wanted(tensor)) {
            (&[n], false) => Some((n, &self.nodes[n])),
            _ => None,
        }
    }

    /// The numbers of a constant of this element type, and its shape.
    pub(super) fn constant<T: Datum + Copy>(&self, name: &str) -> Option<(Vec<T>, Vec<usize>)> {
        let tensor = constant_tensor(self.constants.get(name)?)?;
        let view = tensor.to_plain_array_view::<T>().ok()?;
        Some((view.iter().copied().collect(), tensor.shape().to_vec()))
    }

    /// The one number of a constant of this element type.
    pub(super) fn scalar<T: Datum + Copy>(&self, name: &str) -> Option<T> {
        match self.constant(name)?.0.as_slice() {
            &[value] => Some(value),
            _ => None,
        }
    }
}

/// A constant; `None` when its data is damaged or lies in another file.
pub(super) fn constant_tensor(tensor: &TensorProto) -> Option<Tensor> {
    load_tensor(&MmapDataResolver, tensor, None).ok()
}

fn input_rank(input: &ValueInfoProto) -> Option<usize> {
    match input.r#type.as_ref()?.value.as_ref()? {
        Value::TensorType(tensor) => Some(tensor.shape.as_ref()?.dim.len()),
    }
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

pub(super) fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    attribute(node, name).map_or(default, |a| a.f)
}

pub(super) fn text<'n>(node: &'n NodeProto, name: &str, default: &'n str) -> &'n str {
    attribute(node, name).and_then(|a| std::str::from_utf8(&a.s).ok()).unwrap_or(default)
}

/// A list of exactly `N` lengths, or `default` where the node has none; `None` for another number of them, or a negative one.
pub(super) fn lengths<const N: usize>(node: &NodeProto, name: &str, default: usize) -> Option<[usize; N]> {
    let Some(found) = attribute(node, name) else { return Some([default; N]) };
    let lengths: Option<Vec<usize>> = found.ints.iter().map(|&n| usize::try_from(n).ok()).collect();
    lengths?.try_into().ok()
}
