//! From statistics to a scale for each tensor.

use std::collections::{BTreeMap, HashMap};

use super::{Plan, QdqError};
use crate::calibrate::{Histogram, Method, Warning, scale};
use crate::onnx::{GraphProto, ModelProto};
use crate::passes::Index;

/// The scale of each tensor of `plan`: that of the largest threshold among those that share it.
///
/// Tensors in `fixed` have their threshold there.
///
/// # Errors
/// [`QdqError::NoStatistics`].
pub fn scales(
    model: &ModelProto,
    plan: &Plan,
    statistics: &BTreeMap<String, Histogram>,
    method: Method,
    fixed: &HashMap<String, f32>,
) -> Result<(HashMap<String, f32>, Vec<Warning>), QdqError> {
    let empty = GraphProto::default();
    let graph = model.graph.as_ref().unwrap_or(&empty);
    let index = Index::new(graph, &[]);
    let mut scales = HashMap::new();
    let mut warnings = Vec::new();
    for group in plan.groups() {
        let mut largest = 0f32;
        for &name in &group {
            let histogram = statistics.get(name).ok_or_else(|| QdqError::NoStatistics { tensor: name.to_owned() })?;
            if histogram.non_finite > 0 {
                warnings.push(Warning::NonFinite { tensor: name.to_owned(), values: histogram.non_finite });
            }
            if plan.clipped_later.contains(name) && group.len() > 1 {
                continue;
            }
            let threshold = fixed.get(name).copied().unwrap_or_else(|| histogram.threshold(method));
            if threshold == 0.0 {
                warnings.push(Warning::OnlyZero { tensor: name.to_owned() });
            }
            let bound = index.producer(name).and_then(|i| bound(graph, i)).unwrap_or(f32::INFINITY);
            largest = largest.max(threshold.min(bound));
        }
        scales.extend(group.iter().map(|n| ((*n).to_owned(), scale(largest))));
    }
    Ok((scales, warnings))
}

/// The largest magnitude that node `i` can give, where its operator has bounds.
fn bound(graph: &GraphProto, i: usize) -> Option<f32> {
    let node = &graph.node[i];
    let constant = |position| graph.initializer_named(node.input_at(position)?)?.f32_values()?.first().copied();
    match node.op() {
        "Clip" => Some(constant(1)?.abs().max(constant(2)?.abs())),
        "Sigmoid" | "HardSigmoid" => Some(1.0),
        _ => None,
    }
}
