//! What nobody reads.

use std::collections::HashSet;

use super::Index;
use crate::onnx::ModelProto;

/// Drops nodes whose results nobody reads, initializers that nobody reads, and notes about tensors that there are none of.
pub fn drop_unused(model: &mut ModelProto, keep: &[String]) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let before = graph.node.len() + graph.initializer.len();
    let index = Index::new(graph, keep);
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut used = vec![false; graph.node.len()];
    for (i, node) in graph.node.iter().enumerate().rev() {
        used[i] = node.output.iter().any(|o| index.is_pinned(o) || wanted.contains(o.as_str()));
        if used[i] {
            wanted.extend(node.input.iter().map(String::as_str));
        }
    }
    let wanted: HashSet<String> = wanted.into_iter().map(str::to_owned).collect();
    let mut used = used.into_iter();
    graph.node.retain(|_| used.next().unwrap_or(true));
    graph.initializer.retain(|t| wanted.contains(t.name_or_empty()) || index.is_pinned(t.name_or_empty()));
    let given: HashSet<&String> = graph.node.iter().flat_map(|n| &n.output).collect();
    graph.value_info.retain(|v| v.name.as_ref().is_some_and(|n| given.contains(n)));
    before - graph.node.len() - graph.initializer.len()
}
