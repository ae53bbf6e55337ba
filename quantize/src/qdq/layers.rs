//! The layers of a plan, and what each of them does to a graph that is float otherwise.

use std::collections::HashMap;

use super::Plan;
use super::write::node;
use crate::onnx::{ModelProto, NodeProto};
use crate::passes::fresh;

/// A node whose weights are quantized, with the activation that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The tensor that the node gives; [`PlanOptions::keep_float`](super::PlanOptions::keep_float) takes it.
    pub name: String,
    /// The node's operator.
    pub operator: String,
    /// The tensor that the activation gives, or the node where there is none.
    pub result: String,
}

impl Plan {
    /// The layers, in the graph's order. `model` is the one that the plan was made for.
    pub fn layers(&self, model: &ModelProto) -> Vec<Layer> {
        let nodes = model.graph.as_ref().map_or(&[][..], |g| &g.node);
        let layer = |(&first, &last): (&usize, &usize)| Layer {
            name: nodes[first].output[0].clone(),
            operator: nodes[first].op().to_owned(),
            result: nodes[last].output[0].clone(),
        };
        self.weighted.iter().map(layer).collect()
    }
}

/// The float graph with every layer a second time beside it: quantized, but reading what the float graph gives.
///
/// `quantized` is what [`write`](super::write()) made of `float`. Gives the graph and, for each of [`Plan::layers`], the name of its quantized
/// result; the float one keeps its own. Their distance is the noise that a layer adds by itself: rounding of its input, its weights and its
/// result.
pub fn alone(float: &ModelProto, quantized: &ModelProto, plan: &Plan) -> (ModelProto, Vec<String>) {
    let mut model = quantized.clone();
    let (Some(float_graph), Some(graph)) = (&float.graph, &mut model.graph) else { return (model, Vec::new()) };
    let (linear, others): (Vec<NodeProto>, Vec<NodeProto>) = std::mem::take(&mut graph.node)
        .into_iter()
        .partition(|n| matches!(n.op(), "QuantizeLinear" | "DequantizeLinear"));
    let others: HashMap<String, NodeProto> =
        others.into_iter().filter_map(|n| Some((n.output.first()?.clone(), n))).collect();
    let pairs: HashMap<String, [String; 2]> = linear
        .iter()
        .filter(|n| n.op() == "QuantizeLinear")
        .map(|n| (n.input[0].clone(), [n.input[1].clone(), n.input[2].clone()]))
        .collect();
    graph.node.clone_from(&float_graph.node);
    graph.node.extend(linear);
    let mut results = Vec::new();
    for (&first, &last) in &plan.weighted {
        let outputs = [first, last].map(|i| &float_graph.node[i].output[0]);
        let mut result = String::new();
        for output in &outputs[..if first == last { 1 } else { 2 }] {
            let Some(mut node) = others.get(*output).cloned() else { continue };
            let name = fresh(graph, &format!("{output}.alone"));
            if !result.is_empty() {
                node.input[0] = result;
            }
            node.name = Some(name.clone());
            node.output = vec![name.clone()];
            graph.node.push(node);
            result = name;
        }
        if let Some([scale, zero]) = pairs.get(outputs[1]) {
            let [q, dq] = ["q", "dq"].map(|suffix| fresh(graph, &format!("{result}.{suffix}")));
            graph.node.push(node("QuantizeLinear", [&result, scale, zero], &q));
            graph.node.push(node("DequantizeLinear", [&q, scale, zero], &dq));
            result = dq;
        }
        results.push(result);
    }
    (model, results)
}
