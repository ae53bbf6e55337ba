//! Takes the parts of a QDQ graph that can be computed in integers out of it: each becomes one node, backed by a [`Network`].

mod fold;
mod graph;
mod moving;
mod pattern;

use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

pub(in crate::engine) use self::fold::fold_constants;
use self::graph::Index;
use self::pattern::{Made, Match, Quantized, behind, matched};
use super::IntegerReport;
use super::network::{FloatOutput, Network, Operator, Step};

/// Operator type of the nodes that stand for a part in integers.
const OPERATOR: &str = "HoiIntegers";

/// A part of a graph that is computed in integers.
#[derive(Debug)]
pub(in crate::engine) struct Part {
    /// Name of its node in the graph that is left.
    pub(in crate::engine) node: String,
    pub(in crate::engine) network: Network,
}

/// The first scale of a quantized graph that is not a positive number: its tensor and its value.
pub(in crate::engine) fn wrong_scale(graph: &GraphProto) -> Option<(String, f32)> {
    let index = Index::new(graph, &[]);
    let quantizes = |node: &&NodeProto| matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
    graph.node.iter().filter(quantizes).find_map(|node| {
        let name = node.input.get(1)?;
        let (scales, _) = index.constant::<f32>(name)?;
        let wrong = scales.into_iter().find(|scale| !(scale.is_finite() && *scale > 0.0))?;
        Some((name.clone(), wrong))
    })
}

/// What stands between two kinds of arithmetic.
#[derive(Debug, Default)]
struct Region {
    network: Network,
    /// Float tensors that go in.
    inputs: Vec<String>,
    /// Float tensors that come out.
    outputs: Vec<String>,
    /// The step that holds an integer tensor, by its name.
    steps: HashMap<String, usize>,
}

impl Region {
    /// The step that holds `value`; where no step of this region makes it, one that quantizes `float`.
    fn step(&mut self, value: Quantized<'_>, float: &str) -> usize {
        if let Some(&step) = self.steps.get(value.name) {
            return step;
        }
        let slot = self.inputs.iter().position(|input| input == float).unwrap_or_else(|| {
            self.inputs.push(float.to_owned());
            self.inputs.len() - 1
        });
        let operator = Operator::Quantize { slot, scale: value.scale };
        self.push(value.name, operator, Vec::new())
    }

    fn push(&mut self, name: &str, operator: Operator, inputs: Vec<usize>) -> usize {
        self.network.steps.push(Step { name: name.to_owned(), operator, inputs });
        self.steps.insert(name.to_owned(), self.network.steps.len() - 1);
        self.network.steps.len() - 1
    }

    fn leaves(&mut self, tensor: &str, step: usize, scale: f32) {
        self.network.outputs.push(FloatOutput { step, scale });
        self.outputs.push(tensor.to_owned());
    }
}

/// Takes out what can be computed in integers. `wanted` are tensors that will be read beside the graph's outputs. A graph without
/// QuantizeLinear stays as it is, and there is no report.
///
/// The graph that is left has one node for each part, whose operator no engine knows: the caller puts the part's network there.
pub(in crate::engine) fn take_out(model: &mut ModelProto, wanted: &[String]) -> Option<(Vec<Part>, IntegerReport)> {
    let graph = model.graph.as_mut()?;
    graph.node.iter().any(|node| node.op_type == "QuantizeLinear").then_some(())?;
    let index = Index::new(graph, wanted);
    let matches = matches(&index);
    let (regions, left) = regions(&index, &matches);
    let mut report = IntegerReport::default();
    for found in matches.values().filter_map(|found| found.first()) {
        *report.integer.entry(index.nodes[found.nodes[0]].op_type.clone()).or_default() += 1;
    }
    let mut nodes: Vec<NodeProto> = Vec::with_capacity(left.len() + regions.len());
    for &n in &left {
        let node = &index.nodes[n];
        nodes.push(node.clone());
        if node.op_type == "DequantizeLinear" && node.input.iter().all(|input| index.is_constant(input)) {
            continue;
        }
        let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        report.float.push(format!("{} {}", node.op_type, name.map_or("", String::as_str)));
    }
    let mut parts = Vec::with_capacity(regions.len());
    for (level, Region { network, inputs, outputs, .. }) in regions {
        let node = format!("integers.{level}");
        nodes.push(NodeProto {
            op_type: OPERATOR.to_owned(),
            name: node.clone(),
            input: inputs,
            output: outputs,
            ..NodeProto::default()
        });
        parts.push(Part { node, network });
    }
    replace(graph, nodes);
    fold_constants(graph);
    Some((parts, report))
}

/// What can be done in integers, by the first of its nodes.
fn matches<'g>(index: &Index<'g>) -> BTreeMap<usize, Vec<Match<'g>>> {
    let all = (0..index.nodes.len()).map(|n| (n, matched(index, n)));
    all.filter(|(_, found)| !found.is_empty()).collect()
}

/// Sorts the steps into regions, each of which reads only what earlier regions and the float nodes between them make; and says which nodes
/// of the graph are left.
fn regions(index: &Index<'_>, matches: &BTreeMap<usize, Vec<Match<'_>>>) -> (BTreeMap<usize, Region>, Vec<usize>) {
    let inside: HashSet<usize> = matches.values().flatten().flat_map(|found| found.nodes.iter().copied()).collect();
    let made: HashSet<&str> = matches
        .values()
        .flatten()
        .filter_map(|found| match found.result {
            Made::Quantized(value) => Some(value.name),
            Made::Float(_) => None,
        })
        .collect();
    let mut regions: BTreeMap<usize, Region> = BTreeMap::new();
    // The region that a float tensor waits for; the region that makes an integer tensor.
    let mut floats: HashMap<&str, usize> = HashMap::new();
    let mut made_by: HashMap<&str, usize> = HashMap::new();
    let mut left = Vec::new();
    for (n, node) in index.nodes.iter().enumerate() {
        if let Some(steps) = matches.get(&n) {
            for found in steps {
                let sources: Vec<&str> = found.inputs.iter().map(|value| source(index, value.name)).collect();
                let after = |(value, source): (&Quantized<'_>, &&str)| match made_by.get(value.name) {
                    Some(&level) => level,
                    None => floats.get(source).copied().unwrap_or(0),
                };
                let level = found.inputs.iter().zip(&sources).map(after).max().unwrap_or(0);
                // What an earlier region made is read in floats: they are whole multiples of the scale and come back as the same integers.
                let region = regions.entry(level).or_default();
                let mut inputs = Vec::with_capacity(sources.len());
                for (value, source) in found.inputs.iter().zip(&sources) {
                    let earlier = made_by.get(value.name).is_some_and(|&by| by != level);
                    let float = if earlier { dequantized(index, value.name).unwrap_or(source) } else { source };
                    inputs.push(region.step(*value, float));
                }
                match found.result {
                    Made::Quantized(value) => {
                        region.push(value.name, found.operator.clone(), inputs);
                        made_by.insert(value.name, level);
                    }
                    Made::Float(tensor) => {
                        let step = region.push(tensor, found.operator.clone(), inputs);
                        region.leaves(tensor, step, 1.0);
                        floats.insert(tensor, level + 1);
                    }
                }
            }
            continue;
        }
        let of_integers =
            node.op_type == "DequantizeLinear" && node.input.first().is_some_and(|i| made.contains(i.as_str()));
        if of_integers || inside.contains(&n) {
            continue;
        }
        left.push(n);
        let level = node.input.iter().map(|input| level_of(index, input, &floats, &made_by)).max().unwrap_or(0);
        floats.extend(node.output.iter().map(|output| (output.as_str(), level)));
    }
    let left = needed(index, left, &regions);
    outputs(index, &left, &mut regions);
    (regions, left)
}

/// The region after which a float tensor can be read.
fn level_of(index: &Index<'_>, tensor: &str, floats: &HashMap<&str, usize>, made_by: &HashMap<&str, usize>) -> usize {
    if let Some(&level) = floats.get(tensor) {
        return level;
    }
    match behind(index, tensor) {
        Some(value) => made_by.get(value.name).map_or(0, |level| level + 1),
        None => 0,
    }
}

/// The float tensor that an integer tensor is made of.
fn source<'g>(index: &Index<'g>, integers: &str) -> &'g str {
    let maker = index.maker(integers).and_then(|(_, node)| node.input.first());
    maker.map_or("", String::as_str)
}

/// The float tensor that an integer tensor is read as.
fn dequantized<'g>(index: &Index<'g>, integers: &str) -> Option<&'g str> {
    let reader = index.readers(integers).first()?;
    index.nodes[*reader].output.first().map(String::as_str)
}

/// The nodes left that lead to something which is asked for: those that made weights of the steps do not.
fn needed(index: &Index<'_>, left: Vec<usize>, regions: &BTreeMap<usize, Region>) -> Vec<usize> {
    let fed: HashSet<&str> = regions.values().flat_map(|region| region.inputs.iter().map(String::as_str)).collect();
    let mut kept: HashSet<usize> = HashSet::new();
    for &n in left.iter().rev() {
        let reads = |output: &String| {
            index.is_wanted(output)
                || fed.contains(output.as_str())
                || index.readers(output).iter().any(|r| kept.contains(r))
        };
        if index.nodes[n].output.iter().any(reads) {
            kept.insert(n);
        }
    }
    left.into_iter().filter(|n| kept.contains(n)).collect()
}

/// Notes which integers leave their region as floats: those that a node left or another region reads, and those that are asked for.
fn outputs(index: &Index<'_>, left: &[usize], regions: &mut BTreeMap<usize, Region>) {
    let read: HashSet<&str> = left.iter().flat_map(|&n| index.nodes[n].input.iter().map(String::as_str)).collect();
    let fed: HashSet<String> = regions.values().flat_map(|region| region.inputs.iter().cloned()).collect();
    for (n, node) in index.nodes.iter().enumerate() {
        let Some(tensor) = node.output.first().filter(|_| node.op_type == "DequantizeLinear") else { continue };
        if left.contains(&n) || !(read.contains(tensor.as_str()) || index.is_wanted(tensor) || fed.contains(tensor)) {
            continue;
        }
        let Some(value) = behind(index, tensor) else { continue };
        // Made in one region, and perhaps quantized again in later ones: the first made it.
        if let Some(region) = regions.values_mut().find(|region| region.steps.contains_key(value.name)) {
            let step = region.steps[value.name];
            region.leaves(tensor, step, value.scale);
        }
    }
}

/// The graph with these nodes, and of its constants those that they read.
fn replace(graph: &mut GraphProto, nodes: Vec<NodeProto>) {
    let read: HashSet<&str> = nodes.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let subgraphs = nodes.iter().any(|node| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()));
    let kept = |name: &str| subgraphs || read.contains(name) || outputs.contains(name);
    graph.initializer.retain(|tensor| kept(&tensor.name));
    let constants: HashSet<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
    // A constant may be listed among the inputs as well.
    let made: HashSet<&str> = nodes.iter().flat_map(|node| node.output.iter().map(String::as_str)).collect();
    debug_assert!(
        graph.input.iter().all(|input| !made.contains(input.name.as_str()) || constants.contains(&input.name))
    );
    graph.node = nodes;
}
