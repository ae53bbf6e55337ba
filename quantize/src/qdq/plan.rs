//! Which nodes and tensors are quantized, and which tensors share a scale.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{OLDEST_OPSET, PlanOptions, QdqError};
use crate::onnx::{GraphProto, ModelProto, NodeProto, data_type};
use crate::passes::Index;

/// What becomes of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Positions of the nodes that are quantized, activations that belong to a convolution among them.
    pub nodes: BTreeSet<usize>,
    /// Positions of the nodes among them whose weights are quantized, each with that of the node that gives its result: itself or the
    /// activation that belongs to it.
    pub weighted: BTreeMap<usize, usize>,
    /// The tensors that are quantized, in the order in which they come to be; those of one number share a scale.
    pub tensors: Vec<(String, usize)>,
    /// Tensors that do not count for the scale that they share: whatever of them lies beyond is cut off anyway.
    pub clipped_later: HashSet<String>,
}

impl Plan {
    /// The tensors in groups that share a scale.
    pub fn groups(&self) -> Vec<Vec<&str>> {
        let mut groups: Vec<Vec<&str>> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        for (name, group) in &self.tensors {
            let place = *places.entry(*group).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(name);
        }
        groups
    }
}

/// Operators after which small values matter.
const FINE: &[&str] = &["Sqrt", "Log", "Exp", "Pow", "Reciprocal"];
/// Operators that only move values about.
const MOVING: &[&str] = &[
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Split",
    "Slice",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
];
/// Operators whose result has a scale of its own.
const RESCALING: &[&str] = &["Add", "Concat", "AveragePool", "GlobalAveragePool", "LeakyRelu", "HardSwish", "Sigmoid"];
/// Activations that a convolution takes with it.
const FUSED: &[&str] = &["Relu", "Clip", "LeakyRelu"];
/// Operators of quantized graphs.
pub(crate) const QUANTIZED: &[&str] = &[
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
];

/// Checks that a graph can be quantized: new enough, float so far, weights in order.
pub(super) fn check(model: &ModelProto) -> Result<&GraphProto, QdqError> {
    let graph = model.graph.as_ref().ok_or(QdqError::Nothing)?;
    if let Some(node) = graph.node.iter().find(|n| QUANTIZED.iter().any(|op| n.op_type.as_deref() == Some(*op))) {
        let op = node.op_type.clone().unwrap_or_default();
        return Err(QdqError::AlreadyQuantized { node: node.label().to_owned(), op });
    }
    if model.opset() < OLDEST_OPSET {
        return Err(QdqError::OldOpset { version: model.opset() });
    }
    let multiplied: HashSet<&str> = graph
        .node
        .iter()
        .filter(|n| ["Conv", "ConvTranspose", "MatMul", "Gemm", "BatchNormalization"].contains(&n.op()))
        .flat_map(|n| n.input.iter().map(String::as_str))
        .collect();
    for tensor in &graph.initializer {
        let Some(values) = tensor.f32_values() else { continue };
        let finite = multiplied.contains(tensor.name_or_empty());
        if let Some(position) = values.iter().position(|v| v.is_nan() || (finite && !v.is_finite())) {
            let (tensor, value) = (tensor.name_or_empty().to_owned(), values[position]);
            return Err(QdqError::NonFiniteWeight { tensor, position, value });
        }
    }
    Ok(graph)
}

/// The tensors that some choice of options may quantize, but for the graph's inputs: what calibration looks at.
///
/// # Errors
/// [`QdqError::OldOpset`], [`QdqError::AlreadyQuantized`], [`QdqError::NonFiniteWeight`].
pub fn candidates(model: &ModelProto, keep: &[String]) -> Result<Vec<String>, QdqError> {
    let graph = check(model)?;
    let all = PlanOptions { products: true, results: true, keep_float: Vec::new() };
    let planner = Planner::new(graph, &all, keep, None);
    Ok(planner
        .run()
        .tensors
        .into_iter()
        .map(|(name, _)| name)
        .filter(|n| planner.index.producer(n).is_some())
        .collect())
}

/// Decides what is quantized.
///
/// `keep` are tensors that are read from outside. `shapes` are the lengths of tensors' dimensions; an Add of tensors whose shapes are not
/// known to be equal stays float.
///
/// # Errors
/// As [`candidates`], [`QdqError::NoSuchName`], and [`QdqError::Nothing`] when no weights would be quantized.
pub fn plan(
    model: &ModelProto,
    keep: &[String],
    shapes: &HashMap<String, Vec<usize>>,
    options: &PlanOptions,
) -> Result<Plan, QdqError> {
    let graph = check(model)?;
    options.check(graph)?;
    let plan = Planner::new(graph, options, keep, Some(shapes)).run();
    if plan.weighted.is_empty() { Err(QdqError::Nothing) } else { Ok(plan) }
}

struct Planner<'a> {
    graph: &'a GraphProto,
    options: &'a PlanOptions,
    index: Index,
    shapes: Option<&'a HashMap<String, Vec<usize>>>,
    constants: HashMap<&'a str, &'a crate::onnx::TensorProto>,
    /// Tensors in which small values matter.
    fine: HashSet<&'a str>,
    /// Activation -> the node whose result it alone reads.
    activated: HashMap<usize, usize>,
}

impl<'a> Planner<'a> {
    fn new(
        graph: &'a GraphProto,
        options: &'a PlanOptions,
        keep: &[String],
        shapes: Option<&'a HashMap<String, Vec<usize>>>,
    ) -> Self {
        let index = Index::new(graph, keep);
        let constants = graph.initializer.iter().map(|t| (t.name_or_empty(), t)).collect();
        let mut fine: HashSet<&str> = HashSet::new();
        let mut activated = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            let carries =
                [MOVING, RESCALING, &["MaxPool", "Resize", "Relu", "Clip"]].iter().any(|l| l.contains(&node.op()));
            if FINE.contains(&node.op()) || (carries && node.input.iter().any(|n| fine.contains(n.as_str()))) {
                fine.extend(node.output.iter().map(String::as_str));
            }
            if has_weights(node)
                && let Some(reader) = node.output.first().and_then(|o| index.only_reader(o))
                && FUSED.contains(&graph.node[reader].op())
                && graph.node[reader].input_at(0) == Some(node.output[0].as_str())
            {
                activated.insert(reader, i);
            }
        }
        Self { graph, options, index, shapes, constants, fine, activated }
    }

    fn run(&self) -> Plan {
        let mut nodes = BTreeSet::new();
        let mut wanted: Vec<&str> = Vec::new();
        let activations: HashMap<usize, usize> = self.activated.iter().map(|(a, w)| (*w, *a)).collect();
        let weighted: BTreeMap<usize, usize> = (0..self.graph.node.len())
            .filter(|&i| self.can_have_weights(i))
            .map(|i| (i, activations.get(&i).copied().unwrap_or(i)))
            .collect();
        let integer = self.integer(&weighted);
        for (&i, &last) in &weighted {
            nodes.extend([i, last]);
            wanted.push(&self.graph.node[i].input[0]);
            if self.options.results {
                wanted.push(&self.graph.node[last].output[0]);
            }
        }
        let mut tensors: HashSet<&str> = HashSet::new();
        while let Some(name) = wanted.pop() {
            if !tensors.insert(name) {
                continue;
            }
            let Some(i) = self.index.producer(name) else { continue };
            if !nodes.contains(&i) && integer.contains(name) {
                nodes.insert(i);
                let node = &self.graph.node[i];
                wanted.extend(self.data_inputs(node));
                if node.op() == "Split" {
                    wanted.extend(node.output.iter().filter(|o| !o.is_empty()).map(String::as_str));
                }
            }
        }
        // Nobody reads a dequantized tensor that has no readers.
        tensors.retain(|name| !self.index.readers(name).is_empty());
        let inputs = self.graph.input.iter().filter_map(|i| i.name.as_deref());
        let given = self.graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
        let order: Vec<&str> = inputs.chain(given).filter(|n| tensors.contains(n)).collect();
        let (groups, clipped_later) = self.groups(&order, &nodes);
        let tensors = order.iter().map(|&n| n.to_owned()).zip(groups).collect();
        Plan { nodes, weighted, tensors, clipped_later }
    }

    /// Tensors that may come out of integers: results of the nodes `weighted`, and what is moved, joined or pooled from at least one of them.
    fn integer(&self, weighted: &BTreeMap<usize, usize>) -> HashSet<&'a str> {
        let mut integer: HashSet<&str> = HashSet::new();
        for (i, node) in self.graph.node.iter().enumerate() {
            let multiplied = weighted.contains_key(self.activated.get(&i).unwrap_or(&i));
            if multiplied || (self.can_follow(i) && self.data_inputs(node).any(|x| integer.contains(x))) {
                integer.extend(node.output.iter().map(String::as_str));
            }
        }
        integer
    }

    /// Whether a node is one whose weights are quantized.
    fn can_have_weights(&self, i: usize) -> bool {
        let node = &self.graph.node[i];
        let product = matches!(node.op(), "MatMul" | "Gemm");
        let weight = node.input_at(1).and_then(|w| self.constants.get(w));
        let dims = match weight {
            Some(w) if w.data_type == Some(data_type::FLOAT) => w.dims.as_slice(),
            _ => return false,
        };
        let plain = match node.op() {
            "MatMul" => dims.len() == 2,
            "Gemm" => {
                dims.len() == 2
                    && node.int("transA").unwrap_or(0) == 0
                    && [node.float("alpha"), node.float("beta")].iter().all(|f| f.unwrap_or(1.0) == 1.0)
            }
            _ => dims.len() >= 3,
        };
        let bias = node.input_at(2).is_none_or(|b| {
            self.constants.get(b).is_some_and(|b| b.data_type == Some(data_type::FLOAT) && b.dims.len() == 1)
        });
        let input = node.input_at(0).is_some_and(|x| self.may_be_quantized(x));
        has_weights(node) && (!product || self.options.products) && plain && bias && input && !self.options.keeps(node)
    }

    fn may_be_quantized(&self, name: &str) -> bool {
        !self.constants.contains_key(name) && !self.fine.contains(name)
    }

    /// Whether a node that gives a quantized tensor can be quantized itself, if it has something to read in integers.
    fn can_follow(&self, i: usize) -> bool {
        let node = &self.graph.node[i];
        let fits = match node.op() {
            "Add" => self.adds_alike(node),
            "Concat" => matches!(node.int("axis"), Some(1 | -3)),
            "Resize" => {
                matches!(node.text("mode"), None | Some("nearest" | "linear"))
                    && node.text("coordinate_transformation_mode") != Some("tf_crop_and_resize")
            }
            "Pad" => {
                matches!(node.text("mode"), Some("edge" | "reflect"))
                    || crate::passes::constant_pad(self.graph, node).is_some_and(|(_, value)| value == 0.0)
            }
            "MaxPool" => node.output.len() == 1,
            // An activation goes with its convolution: into integers or not at all.
            "Relu" | "Clip" | "LeakyRelu" => !self.activated.contains_key(&i),
            op => MOVING.contains(&op) || RESCALING.contains(&op),
        };
        let mut inputs = self.data_inputs(node);
        fits && !self.options.keeps(node) && inputs.all(|x| self.may_be_quantized(x))
    }

    /// Whether both terms of an Add have one shape, as far as shapes are known at all.
    fn adds_alike(&self, node: &NodeProto) -> bool {
        let Some(shapes) = self.shapes else { return true };
        let [a, b] = node.input.as_slice() else { return false };
        a != b && shapes.get(a).is_some_and(|a| Some(a) == shapes.get(b))
    }

    /// The inputs of a node that carry activations.
    fn data_inputs(&self, node: &'a NodeProto) -> impl Iterator<Item = &'a str> + use<'a> {
        let count = if matches!(node.op(), "Add" | "Concat") { node.input.len() } else { 1 };
        node.input[..count.min(node.input.len())].iter().map(String::as_str)
    }

    /// A group number for each of `order`, and what does not count in its group.
    fn groups(&self, order: &[&str], nodes: &BTreeSet<usize>) -> (Vec<usize>, HashSet<String>) {
        let places: HashMap<&str, usize> = order.iter().enumerate().map(|(i, n)| (*n, i)).collect();
        let mut parents: Vec<usize> = (0..order.len()).collect();
        let mut clipped_later = HashSet::new();
        for &i in nodes {
            let node = &self.graph.node[i];
            let alone = |name: &str| self.index.only_reader(name).is_some();
            let shared = match node.op() {
                "Relu" | "Clip" => !self.activated.contains_key(&i),
                "Concat" => node.input.iter().all(|n| alone(n)),
                "MaxPool" | "Resize" => true,
                op => MOVING.contains(&op),
            };
            if !shared {
                continue;
            }
            if matches!(node.op(), "Relu" | "Clip") && alone(&node.input[0]) {
                clipped_later.insert(node.input[0].clone());
            }
            let mut members = self.data_inputs(node).chain(node.output.iter().map(String::as_str));
            let members: Vec<usize> = members.by_ref().filter_map(|n| places.get(n).copied()).collect();
            for pair in members.windows(2) {
                let (a, b) = (root(&parents, pair[0]), root(&parents, pair[1]));
                parents[a.max(b)] = a.min(b);
            }
        }
        ((0..order.len()).map(|i| root(&parents, i)).collect(), clipped_later)
    }
}

fn root(parents: &[usize], mut i: usize) -> usize {
    while parents[i] != i {
        i = parents[i];
    }
    i
}

/// Whether an operator multiplies with weights.
fn has_weights(node: &NodeProto) -> bool {
    matches!(node.op(), "Conv" | "ConvTranspose" | "MatMul" | "Gemm")
}
