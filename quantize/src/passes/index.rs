//! Who gives and who reads each tensor of a graph.

use std::collections::{HashMap, HashSet};

use crate::onnx::{GraphProto, NodeProto};

/// Producers and readers of a graph's tensors, as they were when it was made.
pub(crate) struct Index {
    producers: HashMap<String, usize>,
    readers: HashMap<String, Vec<usize>>,
    pinned: HashSet<String>,
}

impl Index {
    /// Looks through `graph`; `keep` are names that are read from outside.
    pub fn new(graph: &GraphProto, keep: &[String]) -> Self {
        let mut index = Self {
            producers: HashMap::new(),
            readers: HashMap::new(),
            pinned: graph.output.iter().filter_map(|o| o.name.clone()).chain(keep.iter().cloned()).collect(),
        };
        for (i, node) in graph.node.iter().enumerate() {
            for input in node.input.iter().filter(|n| !n.is_empty()) {
                index.readers.entry(input.clone()).or_default().push(i);
            }
            for output in node.output.iter().filter(|n| !n.is_empty()) {
                index.producers.insert(output.clone(), i);
            }
            index.pin_subgraphs(node);
        }
        index
    }

    /// Subgraphs see the tensors around them: every name in one may be read there.
    fn pin_subgraphs(&mut self, node: &NodeProto) {
        for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            for node in &graph.node {
                self.pinned.extend(node.input.iter().cloned());
                self.pin_subgraphs(node);
            }
            self.pinned.extend(graph.output.iter().filter_map(|o| o.name.clone()));
        }
    }

    /// The node that gives `name`.
    pub fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// The nodes that read `name`, once for each time they do.
    pub fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether `name` is read from outside or by a subgraph.
    pub fn is_pinned(&self, name: &str) -> bool {
        self.pinned.contains(name)
    }

    /// The one node that reads `name`, if nobody else does, neither from outside nor twice.
    pub fn only_reader(&self, name: &str) -> Option<usize> {
        match self.readers(name) {
            [reader] if !self.is_pinned(name) => Some(*reader),
            _ => None,
        }
    }
}

/// A name that nothing in the graph has: `wanted`, or `wanted` with a number.
pub(crate) fn fresh(graph: &GraphProto, wanted: &str) -> String {
    let taken = |name: &str| {
        let named = |n: &NodeProto| n.input.iter().chain(&n.output).any(|s| s == name);
        graph.initializer_named(name).is_some()
            || graph.node.iter().any(named)
            || graph.input.iter().any(|i| i.name.as_deref() == Some(name))
    };
    let mut name = wanted.to_owned();
    let mut n = 2;
    while taken(&name) {
        name = format!("{wanted}_{n}");
        n += 1;
    }
    name
}
