//! Channels of a tensor brought to one range, so that one scale serves them all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Plan;
use crate::calibrate::Histogram;
use crate::onnx::{GraphProto, ModelProto, TensorProto};
use crate::passes::Index;

/// Room above the largest value that calibration saw: what lies beyond is clipped from then on.
const MARGIN: f32 = 1.1;
/// A channel grows at most this much.
const MOST: f32 = 16.0;

/// Scales up the channels of clipped activations that stay far below the bound of their Clip, and scales down the weights that read them
/// (cross-layer equalisation, Nagel et al. 2019, section 4.1).
///
/// Looked at are tensors that a convolution and a Clip from 0 to a bound give and that only depthwise convolutions read: there both sides
/// have a scale for each channel, so that nothing is lost by it. A channel is multiplied so that the largest value that calibration saw,
/// and a tenth more, reaches the bound. Statistics of these tensors are changed to match. Returns the threshold of each such tensor.
pub fn equalize(
    model: &mut ModelProto,
    keep: &[String],
    plan: &Plan,
    statistics: &mut BTreeMap<String, Histogram>,
) -> HashMap<String, f32> {
    let mut thresholds = HashMap::new();
    let Some(graph) = model.graph.as_mut() else { return thresholds };
    let index = Index::new(graph, keep);
    let groups = plan.groups();
    for group in groups.iter().filter(|g| g.len() == 1) {
        let name = group[0];
        let Some(histogram) = statistics.get_mut(name) else { continue };
        let Some((producer, bound)) = producer(graph, &index, plan, name) else { continue };
        let readers = index.readers(name);
        let fit = readers.iter().all(|r| plan.weighted.contains_key(r) && is_depthwise(graph, &index, *r, histogram));
        if !fit || index.is_pinned(name) || !is_own(graph, &index, producer) {
            continue;
        }
        let factor = |largest: &f32| if *largest > 0.0 { (bound / (largest * MARGIN)).clamp(1.0, MOST) } else { 1.0 };
        let factors: Vec<f32> = histogram.channel_max.iter().map(factor).collect();
        if factors.len() != channels(graph, producer) {
            continue;
        }
        for position in [1, 2] {
            multiply(graph, producer, position, &factors);
        }
        let inverse: Vec<f32> = factors.iter().map(|f| 1.0 / f).collect();
        for reader in readers {
            multiply(graph, *reader, 1, &inverse);
        }
        for (sum, factor) in histogram.channel_sums.iter_mut().zip(&factors) {
            *sum *= f64::from(*factor);
        }
        thresholds.insert(name.to_owned(), bound);
    }
    thresholds
}

/// Brings the channels of residual sums to one range, their geometric mean; the weights of the dense convolutions that read them make up for
/// it.
///
/// Looked at are tensors that hang together by Adds of two, given by convolutions without activation and read by dense convolutions only.
/// Returns the threshold of each.
pub fn equalize_sums(
    model: &mut ModelProto,
    keep: &[String],
    plan: &Plan,
    statistics: &mut BTreeMap<String, Histogram>,
) -> HashMap<String, f32> {
    let mut thresholds = HashMap::new();
    let Some(graph) = model.graph.as_mut() else { return thresholds };
    let index = Index::new(graph, keep);
    let mut seen: HashSet<&str> = HashSet::new();
    for (name, _) in &plan.tensors {
        if seen.contains(name.as_str()) {
            continue;
        }
        let Some(sums) = Sums::around(graph, &index, plan, name) else { continue };
        seen.extend(plan.tensors.iter().map(|(n, _)| n.as_str()).filter(|n| sums.tensors.contains(*n)));
        let Some(largest) = sums.largest(statistics) else { continue };
        let logarithms: Vec<f32> = largest.iter().filter(|m| **m > 0.0).map(|m| m.ln()).collect();
        let middle = logarithms.iter().sum::<f32>() / logarithms.len().max(1) as f32;
        let factor = |m: &f32| if *m > 0.0 { (middle - m.ln()).exp().clamp(1.0 / MOST, MOST) } else { 1.0 };
        let factors: Vec<f32> = largest.iter().map(factor).collect();
        let rows_fit = sums.producers.iter().all(|p| channels(graph, *p) == factors.len() && is_own(graph, &index, *p));
        if !rows_fit || !sums.readers.iter().all(|r| is_dense(graph, *r, factors.len()) && is_own(graph, &index, *r)) {
            continue;
        }
        for producer in &sums.producers {
            multiply(graph, *producer, 1, &factors);
            multiply(graph, *producer, 2, &factors);
        }
        for reader in &sums.readers {
            divide_columns(graph, *reader, &factors);
        }
        for tensor in &sums.tensors {
            let Some(histogram) = statistics.get_mut(tensor) else { continue };
            let mut threshold = 0f32;
            for (i, factor) in factors.iter().enumerate() {
                histogram.channel_sums[i] *= f64::from(*factor);
                histogram.channel_max[i] *= factor;
                threshold = threshold.max(histogram.channel_max[i]);
            }
            thresholds.insert(tensor.clone(), threshold);
        }
    }
    thresholds
}

/// Tensors that hang together by sums.
#[derive(Default)]
struct Sums {
    tensors: BTreeSet<String>,
    producers: BTreeSet<usize>,
    readers: BTreeSet<usize>,
}

impl Sums {
    /// All that hangs together with `name`; `None` where something else than convolutions and sums takes part.
    fn around(graph: &GraphProto, index: &Index, plan: &Plan, name: &str) -> Option<Self> {
        let quantized: HashSet<&str> = plan.tensors.iter().map(|(n, _)| n.as_str()).collect();
        let mut sums = Self::default();
        let mut queue = vec![name.to_owned()];
        while let Some(name) = queue.pop() {
            if !quantized.contains(name.as_str()) || index.is_pinned(&name) {
                return None;
            }
            if !sums.tensors.insert(name.clone()) {
                continue;
            }
            let around = std::iter::once(index.producer(&name)?).chain(index.readers(&name).iter().copied());
            for (i, node) in around.map(|i| (i, &graph.node[i])) {
                let gives = node.output[0] == name;
                match node.op() {
                    "Conv" if plan.weighted.contains_key(&i) && gives => drop(sums.producers.insert(i)),
                    "Conv" if plan.weighted.contains_key(&i) && node.input[0] == name => drop(sums.readers.insert(i)),
                    "Add" if plan.nodes.contains(&i) => queue.extend(node.input.iter().chain(&node.output).cloned()),
                    _ => return None,
                }
            }
        }
        Some(sums)
    }

    /// Largest magnitude of each channel over all tensors.
    fn largest(&self, statistics: &BTreeMap<String, Histogram>) -> Option<Vec<f32>> {
        let mut largest: Option<Vec<f32>> = None;
        for name in &self.tensors {
            let channels = &statistics.get(name)?.channel_max;
            let all = largest.get_or_insert_with(|| vec![0.0; channels.len()]);
            if all.len() != channels.len() {
                return None;
            }
            all.iter_mut().zip(channels).for_each(|(a, c)| *a = a.max(*c));
        }
        largest.filter(|l| !l.is_empty())
    }
}

/// Whether a node is a convolution that sums over all `count` input channels.
fn is_dense(graph: &GraphProto, node: usize, count: usize) -> bool {
    let weight = graph.initializer_named(&graph.node[node].input[1]);
    let columns = weight.and_then(|w| w.dims.get(1)).map_or(0, |d| usize::try_from(*d).unwrap_or_default());
    columns == count && graph.node[node].int("group").unwrap_or(1) == 1
}

/// Divides the weights for each input channel.
fn divide_columns(graph: &mut GraphProto, node: usize, factors: &[f32]) {
    let name = graph.node[node].input[1].clone();
    let Some(tensor) = graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(&name)) else { return };
    let Some(mut values) = tensor.f32_values() else { return };
    let window = tensor.dims[2..].iter().product::<i64>().max(1) as usize;
    for (i, values) in values.chunks_mut(window).enumerate() {
        values.iter_mut().for_each(|v| *v /= factors[i % factors.len()]);
    }
    *tensor = TensorProto::from_f32(&name, &tensor.dims, &values);
}

/// The quantized convolution behind a Clip from 0 to a bound that gives `name`, and the bound.
fn producer(graph: &GraphProto, index: &Index, plan: &Plan, name: &str) -> Option<(usize, f32)> {
    let clip = &graph.node[index.producer(name)?];
    let constant = |position| graph.initializer_named(clip.input_at(position)?)?.f32_values()?.first().copied();
    let conv = index.producer(clip.input_at(0)?)?;
    let fits = clip.op() == "Clip" && constant(1)? == 0.0 && graph.node[conv].op() == "Conv";
    let bound = constant(2)?;
    let alone = index.only_reader(&graph.node[conv].output[0]).is_some();
    (fits && alone && bound > 0.0 && bound.is_finite() && plan.weighted.contains_key(&conv)).then_some((conv, bound))
}

fn channels(graph: &GraphProto, conv: usize) -> usize {
    let weight = graph.initializer_named(&graph.node[conv].input[1]);
    weight.and_then(|w| w.dims.first()).map_or(0, |d| usize::try_from(*d).unwrap_or_default())
}

fn is_depthwise(graph: &GraphProto, index: &Index, node: usize, input: &Histogram) -> bool {
    let conv = &graph.node[node];
    let Some(weight) = graph.initializer_named(&conv.input[1]) else { return false };
    let count = channels(graph, node);
    conv.op() == "Conv"
        && weight.dims.get(1) == Some(&1)
        && conv.int("group").is_some_and(|g| usize::try_from(g) == Ok(count))
        && input.channel_max.len() == count
        && is_own(graph, index, node)
}

/// Whether nobody else reads the node's weights and bias.
fn is_own(graph: &GraphProto, index: &Index, node: usize) -> bool {
    graph.node[node].input.iter().skip(1).filter(|n| !n.is_empty()).all(|n| index.only_reader(n).is_some())
}

/// Multiplies a constant of a node, row by row.
fn multiply(graph: &mut GraphProto, node: usize, position: usize, factors: &[f32]) {
    let Some(name) = graph.node[node].input_at(position).map(str::to_owned) else { return };
    let Some(tensor) = graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(&name)) else { return };
    let Some(mut values) = tensor.f32_values() else { return };
    let row = (values.len() / factors.len()).max(1);
    for (values, factor) in values.chunks_mut(row).zip(factors) {
        values.iter_mut().for_each(|v| *v *= factor);
    }
    *tensor = TensorProto::from_f32(&name, &tensor.dims, &values);
}
