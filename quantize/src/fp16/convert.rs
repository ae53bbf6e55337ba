//! The pass that stores weights as f16.

use std::collections::{HashMap, HashSet};

use half::f16;
use serde::Serialize;

use crate::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeValue, attr_int, attribute_type, data_type,
    element_count,
};

/// Tensors with fewer elements stay f32: biases, scales and scalars weigh next to nothing, and their rounding costs the most.
pub const LEAST_ELEMENTS: usize = 1024;

/// From this IR version on an initializer that bears an input's name is that input's default, which a caller may replace; before, every
/// initializer had to be listed among the inputs.
const IR_WITH_DEFAULTS: i64 = 4;

/// Operators and the inputs whose values must stay exact: thresholds, scales, coordinates, fill values, and variances, which are divided by.
/// An empty list means every input.
const EXACT: &[(&str, &[usize])] = &[
    ("BatchNormalization", &[]),
    ("Clip", &[1, 2]),
    ("DequantizeLinear", &[]),
    ("DynamicQuantizeLinear", &[]),
    ("GridSample", &[1]),
    ("NonMaxSuppression", &[3, 4]),
    ("OneHot", &[2]),
    ("Pad", &[2]),
    ("QLinearConv", &[]),
    ("QLinearMatMul", &[]),
    ("QuantizeLinear", &[]),
    ("Range", &[]),
    ("Resize", &[1, 2]),
    ("RoiAlign", &[1]),
    ("Upsample", &[1]),
];

/// What the pass did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Conversion {
    /// Tensors now stored as f16, in the graph's order.
    pub converted: Vec<ConvertedTensor>,
    /// Tensors that stay f32.
    pub kept: Vec<KeptTensor>,
    /// Tensors that were f16 before.
    pub already_f16: usize,
}

/// A tensor stored as f16.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConvertedTensor {
    /// The graph or subgraph that holds it.
    pub graph: String,
    /// The name under which nodes read it, as f32.
    pub name: String,
    /// Number of elements.
    pub elements: usize,
    /// Largest absolute rounding error of an element.
    pub max_abs_error: f32,
}

/// A tensor that stays f32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptTensor {
    /// The graph or subgraph that holds it.
    pub graph: String,
    /// Its name.
    pub name: String,
    /// Number of elements.
    pub elements: usize,
    /// Why.
    #[serde(flatten)]
    pub reason: KeepReason,
}

/// Why a tensor stays f32.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// It is the default of a graph input that a caller may replace by another f32 tensor.
    DefaultOfInput,
    /// It holds an infinity or NaN.
    NonFinite {
        /// Flat index of the first such element.
        position: usize,
    },
    /// It holds a value beyond the largest f16, 65504.
    OutOfRange {
        /// Flat index of the first such element.
        position: usize,
        /// That element.
        value: f32,
    },
    /// All of it is below the smallest normal f16 (6.1e-5), where f16 loses digits.
    TooFine {
        /// Largest magnitude in it.
        largest: f32,
    },
    /// An operator reads it where an exact value is wanted.
    ReadExactly {
        /// The operator.
        op: String,
        /// Which of its inputs.
        input: usize,
    },
    /// It has fewer elements than asked for.
    TooSmall,
    /// It is a sparse tensor.
    Sparse,
}

impl std::fmt::Display for KeepReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DefaultOfInput => f.write_str("default of a graph input"),
            Self::NonFinite { position } => write!(f, "not finite at position {position}"),
            Self::OutOfRange { position, value } => {
                write!(f, "{value} at position {position} is beyond f16")
            }
            Self::TooFine { largest } => {
                write!(f, "nothing in it exceeds {largest:e}: too fine for f16")
            }
            Self::ReadExactly { op, input } => write!(f, "input {input} of {op} must be exact"),
            Self::TooSmall => f.write_str("too small to be worth it"),
            Self::Sparse => f.write_str("sparse"),
        }
    }
}

/// Stores the f32 weights of `model` as f16, each followed by a Cast to f32 that gives the old name.
///
/// Initializers and Constant nodes of the main graph and of all its subgraphs are looked at; functions and training graphs are left as
/// they are. Names that nodes and subgraphs read stay what they were, so engines fold the casts while loading and run in f32. Tensors of
/// fewer than `least_elements` elements and those of [`KeepReason`] stay f32. Converting a converted model changes nothing.
///
/// `model` must have passed [`check`](crate::onnx::check()).
pub fn convert(model: &mut ModelProto, least_elements: usize) -> Conversion {
    let ir_version = model.ir_version.unwrap_or_default();
    let Some(graph) = model.graph.as_mut() else {
        return Conversion::default();
    };
    let mut pass = Pass {
        least_elements,
        inputs_are_replaceable: ir_version >= IR_WITH_DEFAULTS,
        readers: HashMap::new(),
        taken: HashSet::new(),
        conversion: Conversion::default(),
    };
    pass.survey(graph);
    pass.graph(graph);
    pass.conversion
}

struct Pass {
    least_elements: usize,
    inputs_are_replaceable: bool,
    /// Names read where exactness is wanted: operator and input. Graphs share one name space with their subgraphs.
    readers: HashMap<String, (String, usize)>,
    /// Names that exist anywhere.
    taken: HashSet<String>,
    conversion: Conversion,
}

fn subgraphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

fn is_default_domain(node: &NodeProto) -> bool {
    matches!(node.domain.as_deref(), None | Some("" | "ai.onnx"))
}

impl Pass {
    /// Collects the names of a graph and its subgraphs, and who reads them exactly.
    fn survey(&mut self, graph: &GraphProto) {
        let tensors = graph.initializer.iter().map(|t| &t.name);
        let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).map(|v| &v.name);
        self.taken.extend(tensors.chain(values).flatten().cloned());
        for node in &graph.node {
            self.taken.extend(node.input.iter().chain(&node.output).chain(&node.name).cloned());
            let op = node.op_type.as_deref().unwrap_or_default();
            let exact = EXACT.iter().find(|(name, _)| is_default_domain(node) && *name == op);
            if let Some((_, positions)) = exact {
                for (i, name) in node.input.iter().enumerate() {
                    if positions.is_empty() || positions.contains(&i) {
                        self.readers.entry(name.clone()).or_insert_with(|| (op.to_owned(), i));
                    }
                }
            }
            node.attribute.iter().flat_map(subgraphs).for_each(|g| self.survey(g));
        }
    }

    fn graph(&mut self, graph: &mut GraphProto) {
        let graph_name = graph.name.clone().unwrap_or_default();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for tensor in &mut graph.initializer {
            let name = tensor.name_or_empty().to_owned();
            let input = graph.input.iter_mut().find(|v| v.name.as_deref() == Some(&name));
            let replaceable = input.is_some() && self.inputs_are_replaceable;
            if let Some((stored_name, cast)) = self.tensor(&graph_name, &name, tensor, replaceable) {
                if let Some(input) = input {
                    input.name = Some(stored_name);
                    if let Some(TypeValue::Tensor(t)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) {
                        t.elem_type = Some(data_type::FLOAT16);
                    }
                }
                nodes.push(cast);
            }
        }
        for sparse in graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()) {
            if sparse.data_type == Some(data_type::FLOAT) {
                self.keep(&graph_name, sparse.name_or_empty(), sparse, KeepReason::Sparse);
            }
        }
        for mut node in std::mem::take(&mut graph.node) {
            for attribute in &mut node.attribute {
                attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|g| self.graph(g));
            }
            let cast = self.constant(&graph_name, &mut node);
            nodes.push(node);
            nodes.extend(cast);
        }
        graph.node = nodes;
    }

    /// Converts a Constant node; the Cast that has to follow it comes back.
    fn constant(&mut self, graph_name: &str, node: &mut NodeProto) -> Option<NodeProto> {
        if node.op_type.as_deref() != Some("Constant") || !is_default_domain(node) {
            return None;
        }
        let [output] = node.output.as_mut_slice() else {
            return None;
        };
        let value = node
            .attribute
            .iter_mut()
            .find(|a| a.name.as_deref() == Some("value") && matches!(a.r#type, None | Some(attribute_type::TENSOR)))?;
        let tensor = value.t.as_mut()?;
        let tensor_name = tensor.name.clone();
        let (stored_name, cast) = self.tensor(graph_name, output, tensor, false)?;
        tensor.name = tensor_name; // Nobody reads it; the node's output is what has a name.
        *output = stored_name;
        Some(cast)
    }

    /// Stores one tensor as f16 under a new name, unless something speaks against it; with the Cast that gives `name` again.
    fn tensor(
        &mut self,
        graph_name: &str,
        name: &str,
        tensor: &mut TensorProto,
        replaceable: bool,
    ) -> Option<(String, NodeProto)> {
        if tensor.data_type == Some(data_type::FLOAT16) {
            self.conversion.already_f16 += 1;
        }
        let values = tensor.f32_values()?;
        let reason = if replaceable { Some(KeepReason::DefaultOfInput) } else { self.reason_to_keep(name, &values) };
        if let Some(reason) = reason {
            self.keep(graph_name, name, tensor, reason);
            return None;
        }
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        let errors = values.iter().zip(&halves).map(|(v, h)| (v - h.to_f32()).abs());
        self.conversion.converted.push(ConvertedTensor {
            graph: graph_name.to_owned(),
            name: name.to_owned(),
            elements: values.len(),
            max_abs_error: errors.fold(0.0, f32::max),
        });
        let stored_name = self.fresh(&format!("{name}__f16"));
        tensor.data_type = Some(data_type::FLOAT16);
        tensor.float_data = Vec::new();
        tensor.raw_data = Some(halves.iter().flat_map(|h| h.to_le_bytes()).collect());
        tensor.name = Some(stored_name.clone());
        let cast = NodeProto {
            input: vec![stored_name.clone()],
            output: vec![name.to_owned()],
            name: Some(self.fresh(&format!("{name}__f32"))),
            op_type: Some("Cast".to_owned()),
            attribute: vec![attr_int("to", data_type::FLOAT.into())],
            ..NodeProto::default()
        };
        Some((stored_name, cast))
    }

    fn reason_to_keep(&self, name: &str, values: &[f32]) -> Option<KeepReason> {
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Some(KeepReason::NonFinite { position });
        }
        if let Some(position) = values.iter().position(|&v| f16::from_f32(v).is_infinite()) {
            return Some(KeepReason::OutOfRange { position, value: values[position] });
        }
        if let Some((op, input)) = self.readers.get(name) {
            return Some(KeepReason::ReadExactly { op: op.clone(), input: *input });
        }
        if values.len() < self.least_elements {
            return Some(KeepReason::TooSmall);
        }
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        (largest > 0.0 && largest < f16::MIN_POSITIVE.to_f32()).then_some(KeepReason::TooFine { largest })
    }

    fn keep(&mut self, graph_name: &str, name: &str, tensor: &TensorProto, reason: KeepReason) {
        self.conversion.kept.push(KeptTensor {
            graph: graph_name.to_owned(),
            name: name.to_owned(),
            elements: element_count(&tensor.dims).unwrap_or_default(),
            reason,
        });
    }

    /// A name that nothing in the model has: `wanted`, or `wanted` with a number.
    fn fresh(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut n = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }
}
