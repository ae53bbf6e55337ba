//! An EfficientNet-Lite out of an ONNX graph, node by node: what is loaded is what the graph computes.

use std::collections::HashMap;

use hoi_quantize::onnx::{AttributeProto, ModelProto, NodeProto, TensorProto};
use tch::Tensor;

use super::config::{Convolution, EfficientNetLiteConfig};

/// Where a graph is not the network.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) place: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Blocks and inputs of the last convolution, as its number of convolutions (stem, two in the first block, three in each other,
/// head) and their weights tell; zeros where they tell nothing.
pub(super) fn sizes(model: &ModelProto) -> (usize, i64) {
    let Some(graph) = &model.graph else { return (0, 0) };
    let convolutions: Vec<&NodeProto> =
        graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Conv")).collect();
    let weight = convolutions.last().and_then(|node| node.input.get(1));
    let weight = weight.and_then(|name| graph.initializer.iter().find(|t| t.name_or_empty() == name));
    let channels = weight.and_then(|tensor| tensor.dims.get(1).copied()).unwrap_or(0);
    let others = convolutions.len().checked_sub(4).filter(|n| n % 3 == 0);
    (others.map_or(0, |n| n / 3 + 1), channels)
}

/// The parameters of the graph under the network's names, after a look at every node: operator, connections, strides, groups,
/// padding and the bounds of ReLU6.
///
/// # Errors
/// The first node that differs.
pub(super) fn tensors(
    model: &ModelProto,
    config: &EfficientNetLiteConfig,
) -> Result<Vec<(String, Tensor)>, Difference> {
    let empty = Vec::new();
    let (nodes, initializers) = model.graph.as_ref().map_or((&empty, &[][..]), |g| (&g.node, &g.initializer[..]));
    let initializers = initializers.iter().map(|tensor| (tensor.name_or_empty(), tensor)).collect();
    let mut walk = Walk { nodes: nodes.iter(), initializers, tensors: Vec::new() };
    let mut x = nodes.first().and_then(|node| node.input.first()).map_or("", String::as_str);
    x = walk.convolution(x, &config.stem_convolution())?;
    for block in config.blocks() {
        let input = x;
        for convolution in &block.convolutions {
            x = walk.convolution(x, convolution)?;
        }
        if block.residual {
            let node = walk.next("Add")?;
            let mut found = inputs(node, 2);
            let mut expected = [x, input];
            found.sort_unstable();
            expected.sort_unstable();
            same(node, "inputs", &expected[..], &found[..])?;
            x = output(node);
        }
    }
    x = walk.convolution(x, &config.head_convolution())?;
    if walk.nodes.as_slice().is_empty() {
        return Ok(walk.tensors);
    }
    for op in ["GlobalAveragePool", "Flatten"] {
        let node = walk.next(op)?;
        same(node, "input", &[x][..], &inputs(node, 1)[..])?;
        x = output(node);
    }
    let node = walk.next("Gemm")?;
    same(node, "input", &[x][..], &inputs(node, 1)[..])?;
    same(node, "transB", 1, integer(node, "transB", 0))?;
    same(node, "transA", 0, integer(node, "transA", 0))?;
    for factor in ["alpha", "beta"] {
        same(node, factor, 1.0, attribute(node, factor).and_then(|a| a.f).unwrap_or(1.0))?;
    }
    walk.parameter(node, 1, "_fc.weight")?;
    walk.parameter(node, 2, "_fc.bias")?;
    match walk.nodes.next() {
        None => Ok(walk.tensors),
        Some(node) => Err(difference(node, "the end of the graph".into(), operator(node).into())),
    }
}

struct Walk<'a> {
    nodes: std::slice::Iter<'a, NodeProto>,
    initializers: HashMap<&'a str, &'a TensorProto>,
    tensors: Vec<(String, Tensor)>,
}

impl<'a> Walk<'a> {
    fn next(&mut self, expected: &str) -> Result<&'a NodeProto, Difference> {
        let node = self.nodes.next().ok_or_else(|| Difference {
            place: "the end of the graph".into(),
            expected: expected.into(),
            found: "no more nodes".into(),
        })?;
        same(node, "operator", expected, operator(node))?;
        Ok(node)
    }

    /// The convolution of `x` and its ReLU6; the name of the result.
    fn convolution(&mut self, x: &str, plan: &Convolution) -> Result<&'a str, Difference> {
        let node = self.next("Conv")?;
        same(node, "input", &[x][..], &inputs(node, 1)[..])?;
        let ones = [1, 1];
        same(node, "strides", &[plan.stride; 2][..], integers(node, "strides").unwrap_or(&ones))?;
        same(node, "dilations", &ones[..], integers(node, "dilations").unwrap_or(&ones))?;
        same(node, "group", plan.groups, integer(node, "group", 1))?;
        if plan.kernel > 1 {
            let padding = attribute(node, "auto_pad").and_then(|a| a.s.as_deref()).unwrap_or(b"NOTSET");
            same(node, "auto_pad", "SAME_UPPER", &*String::from_utf8_lossy(padding))?;
        } else {
            same(node, "pads", &[0; 4][..], integers(node, "pads").unwrap_or(&[0; 4]))?;
        }
        self.parameter(node, 1, &format!("{}.weight", plan.name))?;
        self.parameter(node, 2, &format!("{}.bias", plan.name))?;
        if !plan.relu6 {
            return Ok(output(node));
        }
        let x = output(node);
        let node = self.next("Clip")?;
        same(node, "input", &[x][..], &inputs(node, 1)[..])?;
        for (place, bound) in [(1, 0.0), (2, 6.0)] {
            let found = self.initializer(node, place)?.f32_values().unwrap_or_default();
            same(node, "bound", &[bound][..], &found[..])?;
        }
        Ok(output(node))
    }

    fn initializer(&self, node: &NodeProto, place: usize) -> Result<&'a TensorProto, Difference> {
        let name = node.input.get(place).map_or("", String::as_str);
        let found = || if name.is_empty() { "none".to_owned() } else { format!("`{name}`, which is no initializer") };
        let tensor = self.initializers.get(name).copied();
        tensor.ok_or_else(|| difference(node, format!("an initializer as input {place}"), found()))
    }

    fn parameter(&mut self, node: &NodeProto, place: usize, name: &str) -> Result<(), Difference> {
        let tensor = self.initializer(node, place)?;
        let wrong = |found: String| difference(node, format!("an f32 tensor for {name}"), found);
        let values = tensor.f32_values().ok_or_else(|| wrong(format!("element type {:?}", tensor.data_type)))?;
        // The length fits the shape: that is checked in reading.
        let shaped = Tensor::f_from_slice(&values).and_then(|t| t.f_view(&tensor.dims[..]));
        self.tensors.push((name.to_owned(), shaped.map_err(|e| wrong(e.to_string()))?));
        Ok(())
    }
}

fn operator(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap_or_default()
}

fn output(node: &NodeProto) -> &str {
    node.output.first().map_or("", String::as_str)
}

/// The first inputs of a node.
fn inputs(node: &NodeProto, count: usize) -> Vec<&str> {
    node.input.iter().take(count).map(String::as_str).collect()
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

fn integers<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|a| &a.ints[..])
}

fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|a| a.i).unwrap_or(default)
}

fn difference(node: &NodeProto, expected: String, found: String) -> Difference {
    Difference { place: format!("the node that gives `{}`", output(node)), expected, found }
}

fn same<T: PartialEq + std::fmt::Debug>(node: &NodeProto, what: &str, expected: T, found: T) -> Result<(), Difference> {
    if expected == found {
        return Ok(());
    }
    Err(difference(node, format!("{what} {expected:?}"), format!("{found:?}")))
}
