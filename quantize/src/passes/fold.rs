//! Per-channel arithmetic that a convolution can do in its weights and bias.

use super::{Index, fresh};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};

/// `y = scale x + offset` for each channel.
struct Affine {
    scale: Vec<f64>,
    offset: Vec<f64>,
}

/// Folds a BatchNormalization into the Conv or ConvTranspose before it, whose result nobody else may read.
pub fn fold_batch_norms(model: &mut ModelProto, keep: &[String]) -> usize {
    fold(model, keep, batch_norm)
}

/// Folds products with and sums of per-channel constants (Mul, Div, Add, Sub) into the Conv or ConvTranspose before them.
pub fn fold_affine(model: &mut ModelProto, keep: &[String]) -> usize {
    fold(model, keep, arithmetic)
}

/// `scale (x - mean) / sqrt(variance + epsilon) + bias`.
fn batch_norm(graph: &GraphProto, node: &NodeProto, conv: &Conv) -> Option<Affine> {
    if node.op() != "BatchNormalization" || node.input_at(0) != Some(&conv.output) || node.output.len() != 1 {
        return None;
    }
    let values = |position| {
        let values = graph.initializer_named(node.input_at(position)?)?.f32_values()?;
        (values.len() == conv.channels).then(|| values.into_iter().map(f64::from).collect::<Vec<_>>())
    };
    let (gamma, beta, mean, variance) = (values(1)?, values(2)?, values(3)?, values(4)?);
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let offset = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Some(Affine { scale, offset })
}

fn arithmetic(graph: &GraphProto, node: &NodeProto, conv: &Conv) -> Option<Affine> {
    let [a, b] = node.input.as_slice() else { return None };
    let (other, is_second) = if *a == conv.output { (b, true) } else { (a, false) };
    let c = per_channel(graph.initializer_named(other)?, conv)?;
    let ones = || vec![1.0; conv.channels];
    let zeros = || vec![0.0; conv.channels];
    match node.op() {
        "Mul" => Some(Affine { scale: c, offset: zeros() }),
        "Add" => Some(Affine { scale: ones(), offset: c }),
        "Sub" if is_second => Some(Affine { scale: ones(), offset: c.iter().map(|v| -v).collect() }),
        "Div" if is_second => Some(Affine { scale: c.iter().map(|v| 1.0 / v).collect(), offset: zeros() }),
        _ => None,
    }
}

/// The values of a constant for each channel, if along no other axis of `conv`'s result it changes.
fn per_channel(tensor: &TensorProto, conv: &Conv) -> Option<Vec<f64>> {
    let values = tensor.f32_values()?;
    if tensor.dims.len() > conv.rank {
        return None;
    }
    if let [value] = values[..] {
        return Some(vec![value.into(); conv.channels]);
    }
    let channel_axis = (tensor.dims.len() + 1).checked_sub(conv.rank)?;
    let along_channels = tensor.dims.iter().enumerate().all(|(i, &d)| i == channel_axis || d == 1);
    (along_channels && values.len() == conv.channels).then(|| values.into_iter().map(f64::from).collect())
}

/// A convolution whose weights are constant.
struct Conv {
    node: usize,
    output: String,
    channels: usize,
    rank: usize,
}

impl Conv {
    fn at(graph: &GraphProto, i: usize) -> Option<Self> {
        let node = &graph.node[i];
        let weight = graph.initializer_named(node.input_at(1)?)?;
        let group = node.int("group").unwrap_or(1);
        let channels = match (node.op(), weight.dims.as_slice()) {
            ("Conv", [m, _, ..]) => *m,
            ("ConvTranspose", [_, m, ..]) => m.checked_mul(group)?,
            _ => return None,
        };
        let bias_is_constant =
            node.input_at(2).is_none_or(|b| graph.initializer_named(b).is_some_and(|b| b.f32_values().is_some()));
        let channels = usize::try_from(channels).ok().filter(|&c| c > 0)?;
        let usable = weight.f32_values().is_some_and(|w| !w.is_empty() && w.len().is_multiple_of(channels));
        (usable && bias_is_constant).then(|| Self {
            node: i,
            output: node.output[0].clone(),
            channels,
            rank: weight.dims.len(),
        })
    }

    /// The channel of the result that element `i` of the weights is for.
    fn channel(&self, node: &NodeProto, dims: &[i64], len: usize, i: usize) -> usize {
        if node.op() == "Conv" {
            return i / (len / self.channels);
        }
        let (rows, columns) = (dims[0] as usize, dims[1] as usize);
        let row = i / (len / rows);
        let column = i / (len / rows / columns) % columns;
        row / (rows * columns / self.channels).max(1) * columns + column
    }
}

fn fold(
    model: &mut ModelProto,
    keep: &[String],
    affine_of: fn(&GraphProto, &NodeProto, &Conv) -> Option<Affine>,
) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let mut count = 0;
    let mut i = 0;
    while i < graph.node.len() {
        let found = Conv::at(graph, i).and_then(|conv| {
            let index = Index::new(graph, keep);
            let next = index.only_reader(&conv.output)?;
            let affine = affine_of(graph, &graph.node[next], &conv)?;
            affine.scale.iter().chain(&affine.offset).all(|v| v.is_finite()).then_some((conv, next, affine, index))
        });
        let Some((conv, next, affine, index)) = found else {
            i += 1;
            continue;
        };
        apply(graph, &index, &conv, &affine);
        let output = graph.node[next].output[0].clone();
        graph.node[i].output[0] = output;
        graph.node.remove(next);
        count += 1;
    }
    count
}

/// Puts `affine` into the weights and bias of `conv`. Weights that others read are copied first.
fn apply(graph: &mut GraphProto, index: &Index, conv: &Conv, affine: &Affine) {
    let node = graph.node[conv.node].clone();
    let own = |name: &str| index.only_reader(name).is_some();
    if affine.scale.iter().any(|s| *s != 1.0)
        && let Some(weight) = graph.initializer_named(&node.input[1])
        && let Some(mut values) = weight.f32_values()
    {
        let len = values.len();
        for (e, v) in values.iter_mut().enumerate() {
            *v = (f64::from(*v) * affine.scale[conv.channel(&node, &weight.dims, len, e)]) as f32;
        }
        let dims = weight.dims.clone();
        let name = put(graph, &node.input[1], own(&node.input[1]), &dims, &values);
        graph.node[conv.node].input[1] = name;
    }
    let bias = node.input_at(2);
    let values = bias.and_then(|b| graph.initializer_named(b)?.f32_values());
    let values = values.unwrap_or_else(|| vec![0.0; conv.channels]);
    let folded: Vec<f32> = values
        .iter()
        .zip(affine.scale.iter().zip(&affine.offset))
        .map(|(b, (s, o))| (f64::from(*b) * s + o) as f32)
        .collect();
    let wanted = bias.map_or_else(|| format!("{}.bias", node.label()), str::to_owned);
    let name = put(graph, &wanted, bias.is_some_and(own), &[conv.channels as i64], &folded);
    let inputs = &mut graph.node[conv.node].input;
    inputs.truncate(2);
    inputs.push(name);
}

/// Stores values under `name`, in place when nobody else reads it; returns the name they have.
fn put(graph: &mut GraphProto, name: &str, own: bool, dims: &[i64], values: &[f32]) -> String {
    if own && let Some(tensor) = graph.initializer.iter_mut().find(|t| t.name.as_deref() == Some(name)) {
        *tensor = TensorProto::from_f32(name, dims, values);
        return name.to_owned();
    }
    let name = fresh(graph, name);
    graph.initializer.push(TensorProto::from_f32(&name, dims, values));
    name
}

/// `(conv + r) + c` becomes `(conv + c) + r`: a per-channel constant added after a residual sum becomes the convolution's bias.
///
/// Neither the convolution's result nor the first sum may have another reader.
pub fn move_biases_before_sums(model: &mut ModelProto, keep: &[String]) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let mut count = 0;
    while let Some((conv, sum, last, offset)) = next_bias(graph, keep) {
        let index = Index::new(graph, keep);
        let scale = vec![1.0; conv.channels];
        apply(graph, &index, &conv, &Affine { scale, offset });
        let output = graph.node[last].output[0].clone();
        graph.node[sum].output[0] = output;
        graph.node.remove(last);
        count += 1;
    }
    count
}

fn next_bias(graph: &GraphProto, keep: &[String]) -> Option<(Conv, usize, usize, Vec<f64>)> {
    let index = Index::new(graph, keep);
    (0..graph.node.len()).find_map(|i| {
        let conv = Conv::at(graph, i)?;
        let sum = index.only_reader(&conv.output)?;
        let [a, b] = graph.node[sum].input.as_slice() else { return None };
        let two_activations = [a, b].iter().all(|n| graph.initializer_named(n).is_none());
        let last = index.only_reader(&graph.node[sum].output[0])?;
        let adds = graph.node[sum].op() == "Add" && graph.node[last].op() == "Add";
        let constant = graph.node[last].input.iter().find_map(|n| per_channel(graph.initializer_named(n)?, &conv))?;
        let finite = constant.iter().all(|v| v.is_finite());
        (adds && two_activations && finite).then_some((conv, sum, last, constant))
    })
}
