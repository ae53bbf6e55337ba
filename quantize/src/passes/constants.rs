//! Constants in one form, and nodes that do nothing.

use std::collections::HashSet;

use super::Index;
use crate::onnx::{AttributeProto, GraphProto, ModelProto, TensorProto, data_type};

/// Makes a default of a graph input its value for good; returns how many inputs went.
///
/// Older exporters list every weight among the inputs.
pub fn drop_input_defaults(model: &mut ModelProto) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let constants: HashSet<&str> = graph.initializer.iter().map(TensorProto::name_or_empty).collect();
    let before = graph.input.len();
    graph.input.retain(|i| !constants.contains(i.name.as_deref().unwrap_or_default()));
    before - graph.input.len()
}

/// Turns Constant nodes that hold a tensor, a number or a list of numbers into initializers.
pub fn constants_to_initializers(model: &mut ModelProto) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let mut constants = Vec::new();
    graph.node.retain(|node| {
        let value = match (node.op(), node.output.as_slice(), node.attribute.as_slice()) {
            ("Constant", [output], [attribute]) => constant(output, attribute),
            _ => None,
        };
        let kept = value.is_none();
        constants.extend(value);
        kept
    });
    let count = constants.len();
    graph.initializer.extend(constants);
    count
}

fn constant(name: &str, attribute: &AttributeProto) -> Option<TensorProto> {
    let length = |n: usize| [n as i64];
    Some(match attribute.name.as_deref()? {
        "value" => TensorProto { name: Some(name.to_owned()), ..attribute.t.clone()? },
        "value_float" => TensorProto::from_f32(name, &[], &[attribute.f?]),
        "value_floats" => TensorProto::from_f32(name, &length(attribute.floats.len()), &attribute.floats),
        "value_int" => TensorProto::from_i64(name, &[], &[attribute.i?]),
        "value_ints" => TensorProto::from_i64(name, &length(attribute.ints.len()), &attribute.ints),
        _ => return None,
    })
}

/// Turns f16 initializers behind a Cast to f32 into f32 initializers under the Cast's name.
pub fn widen_half_weights(model: &mut ModelProto, keep: &[String]) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let index = Index::new(graph, keep);
    let mut widened = Vec::new();
    let mut gone = HashSet::new();
    for (i, node) in graph.node.iter().enumerate() {
        if node.op() != "Cast" || node.int("to") != Some(data_type::FLOAT.into()) {
            continue;
        }
        let ([input], [output]) = (node.input.as_slice(), node.output.as_slice()) else { continue };
        let Some(stored) = graph.initializer_named(input) else { continue };
        if let Some(values) = stored.f16_values() {
            widened.push(TensorProto::from_f32(output, &stored.dims, &values));
            if index.only_reader(input).is_some() {
                gone.insert(input.clone());
            }
            gone.insert(format!("node {i}"));
        }
    }
    let mut i = 0;
    graph.node.retain(|_| {
        i += 1;
        !gone.contains(&format!("node {}", i - 1))
    });
    graph.initializer.retain(|t| !gone.contains(t.name_or_empty()));
    let count = widened.len();
    graph.initializer.extend(widened);
    count
}

/// Removes Identity nodes. Where the result is a kept name, the producer of the input gives that name instead; an Identity between two
/// kept names, or of a graph input or constant to a kept name, stays.
pub fn remove_identities(model: &mut ModelProto, keep: &[String]) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let mut removed = 0;
    while let Some((i, from, to)) = next_identity(graph, keep) {
        graph.node.remove(i);
        for name in graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output)) {
            if *name == from {
                name.clone_from(&to);
            }
        }
        removed += 1;
    }
    removed
}

/// Position of an Identity that can go, the name that goes with it and the one that stays.
fn next_identity(graph: &GraphProto, keep: &[String]) -> Option<(usize, String, String)> {
    let index = Index::new(graph, keep);
    graph.node.iter().enumerate().find_map(|(i, node)| {
        let ("Identity", [input], [output]) = (node.op(), node.input.as_slice(), node.output.as_slice()) else {
            return None;
        };
        if !index.is_pinned(output) {
            Some((i, output.clone(), input.clone()))
        } else if !index.is_pinned(input) && index.producer(input).is_some() {
            Some((i, input.clone(), output.clone()))
        } else {
            None
        }
    })
}
