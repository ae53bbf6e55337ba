//! What may be quantized.

use super::QdqError;
use crate::onnx::{GraphProto, NodeProto};

/// What may be quantized, and what has to stay float.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanOptions {
    /// Also MatMul and Gemm with constant weights.
    pub products: bool,
    /// Also results that only float operators read.
    pub results: bool,
    /// Nodes that stay float: names of nodes or of tensors that they give; a `*` at the end stands for anything.
    pub keep_float: Vec<String>,
}

impl PlanOptions {
    /// Whether `node` has to stay float.
    pub(super) fn keeps(&self, node: &NodeProto) -> bool {
        self.keep_float.iter().any(|pattern| names(pattern, node))
    }

    /// Checks that every name of `keep_float` is one of the graph's.
    pub(super) fn check(&self, graph: &GraphProto) -> Result<(), QdqError> {
        match self.keep_float.iter().find(|pattern| !graph.node.iter().any(|n| names(pattern, n))) {
            Some(pattern) => Err(QdqError::NoSuchName { pattern: pattern.clone() }),
            None => Ok(()),
        }
    }
}

fn names(pattern: &str, node: &NodeProto) -> bool {
    let fits = |name: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    node.name.iter().chain(&node.output).any(fits)
}
