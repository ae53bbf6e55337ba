//! Which nodes of a QDQ graph can be done in integers, and as what.

use std::sync::Arc;

use tract_onnx::pb::NodeProto;

use super::graph::{Index, float, int, lengths, text};
use super::moving::{padding, resized, shuffled, split};
use crate::engine::integer::kernels::{LANES, PackedDense, PackedDepthwise};
use crate::engine::integer::network::{Bounds, Convolution, Operator, Window};

/// A tensor that is i8: `real = scale * value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantized<'g> {
    /// The tensor of integers.
    pub(super) name: &'g str,
    pub(super) scale: f32,
}

/// What a node becomes.
#[derive(Debug)]
pub(super) struct Match<'g> {
    pub(super) operator: Operator,
    pub(super) inputs: Vec<Quantized<'g>>,
    /// The integers that it makes, or a float tensor.
    pub(super) result: Made<'g>,
    /// The nodes that are done with it, itself among them.
    pub(super) nodes: Vec<usize>,
}

/// What a step of integers makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Made<'g> {
    /// i8, read through DequantizeLinear.
    Quantized(Quantized<'g>),
    /// f32.
    Float(&'g str),
}

/// The largest difference between a bias's scale and what the weights and the input say, as a share.
const BIAS_SCALE_TOLERANCE: f32 = 1e-3;

/// Products of i8 that an i32 can always sum.
const MOST_PRODUCTS: usize = 131_071;

/// What lies behind `QuantizeLinear`: one positive scale, and i8 without a zero point.
pub(super) fn quantized<'g>(index: &Index<'g>, node: &'g NodeProto) -> Option<Quantized<'g>> {
    let [_, scale, zero] = node.input.as_slice() else { return None };
    let scale = index.scalar::<f32>(scale).filter(|s| s.is_finite() && *s > 0.0)?;
    let name = node.output.first()?;
    // Whoever reads the integers must read them as this scale says.
    let read = |&n: &usize| match index.nodes[n].input.as_slice() {
        [integers, own, zero] if index.nodes[n].op_type == "DequantizeLinear" && integers == name => {
            index.scalar::<f32>(own) == Some(scale) && index.scalar::<i8>(zero) == Some(0)
        }
        _ => false,
    };
    let sound = index.scalar::<i8>(zero)? == 0 && !index.is_wanted(name) && index.readers(name).iter().all(read);
    sound.then_some(Quantized { name, scale })
}

/// The integers that a float tensor `[N, C, H, W]` is the dequantized form of.
pub(super) fn behind<'g>(index: &Index<'g>, tensor: &str) -> Option<Quantized<'g>> {
    let (_, node) = index.maker(tensor).filter(|(_, node)| node.op_type == "DequantizeLinear")?;
    let (_, maker) = index.maker(node.input.first()?).filter(|(_, maker)| maker.op_type == "QuantizeLinear")?;
    quantized(index, maker).filter(|_| index.rank(tensor) == Some(4))
}

/// Whether a float tensor comes from integers that a graph holds, and the nodes that make it.
struct Weights {
    values: Vec<i8>,
    shape: Vec<usize>,
    /// One an output channel.
    scales: Vec<f32>,
}

fn weights(index: &Index<'_>, tensor: &str, outputs_axis: i64) -> Option<Weights> {
    let (_, node) = index.maker(tensor).filter(|(_, node)| node.op_type == "DequantizeLinear")?;
    let [values, scale, zeros @ ..] = node.input.as_slice() else { return None };
    let (values, shape) = index.constant::<i8>(values)?;
    let outputs = *shape.get(usize::try_from(outputs_axis).ok()?)?;
    let (mut scales, _) = index.constant::<f32>(scale)?;
    if scales.len() == 1 {
        scales = vec![scales[0]; outputs];
    } else if int(node, "axis", 1) != outputs_axis {
        return None;
    }
    let no_zero_points = zeros.iter().all(|z| index.constant::<i8>(z).is_some_and(|(z, _)| z.iter().all(|&z| z == 0)));
    let sound = scales.len() == outputs && scales.iter().all(|s| s.is_finite() && *s > 0.0) && no_zero_points;
    sound.then_some(Weights { values, shape, scales })
}

/// The bias in units of the sums: input scale times weight scale.
fn bias(index: &Index<'_>, tensor: Option<&String>, units: &[f32]) -> Option<Vec<i32>> {
    let Some(tensor) = tensor.filter(|name| !name.is_empty()) else { return Some(vec![0; units.len()]) };
    if let Some((values, _)) = index.constant::<f32>(tensor) {
        let rounded = values.iter().zip(units).map(|(&b, &unit)| (f64::from(b) / f64::from(unit)).round_ties_even());
        return (values.len() == units.len()).then(|| rounded.map(|b| b as i32).collect());
    }
    let (_, node) = index.maker(tensor).filter(|(_, node)| node.op_type == "DequantizeLinear")?;
    let [values, scale, ..] = node.input.as_slice() else { return None };
    let ((values, _), (scales, _)) = (index.constant::<i32>(values)?, index.constant::<f32>(scale)?);
    let scale_of = |n: usize| scales.get(if scales.len() == 1 { 0 } else { n }).copied();
    let fits = units
        .iter()
        .enumerate()
        .all(|(n, &unit)| scale_of(n).is_some_and(|scale| (scale / unit - 1.0).abs() <= BIAS_SCALE_TOLERANCE));
    (fits && values.len() == units.len()).then_some(values)
}

/// What follows a node: an activation that an integer step does as well, and then `QuantizeLinear`.
pub(super) struct Followed<'g> {
    pub(super) result: Quantized<'g>,
    pub(super) bounds: Bounds,
    pub(super) slope: f32,
    pub(super) nodes: Vec<usize>,
}

pub(super) fn followed<'g>(index: &Index<'g>, tensor: &str, leaky: bool) -> Option<Followed<'g>> {
    let (n, next) = index.only_reader(tensor)?;
    let (mut low, mut high, mut slope) = (f32::NEG_INFINITY, f32::INFINITY, 1.0);
    let mut nodes = vec![n];
    let mut last = next;
    match next.op_type.as_str() {
        "Relu" => low = 0.0,
        "Clip" => {
            let bound = |k: usize, default: f32| match next.input.get(k).filter(|name| !name.is_empty()) {
                Some(name) => index.scalar::<f32>(name),
                None => Some(default),
            };
            (low, high) = (bound(1, low)?, bound(2, high)?);
        }
        "LeakyRelu" if leaky => {
            slope = float(next, "alpha", 0.01);
            (0.0..=1.0).contains(&slope).then_some(())?;
        }
        "QuantizeLinear" => {}
        _ => return None,
    }
    if next.op_type != "QuantizeLinear" {
        let (q, quantize) = index.only_reader(next.output.first()?)?;
        (quantize.op_type == "QuantizeLinear").then_some(())?;
        nodes.push(q);
        last = quantize;
    }
    let result = quantized(index, last)?;
    let bound = |x: f32| (x / result.scale).round_ties_even().clamp(-128.0, 127.0) as i8;
    Some(Followed { result, bounds: Bounds { low: bound(low), high: bound(high) }, slope, nodes })
}

/// The window of a convolution or pooling node.
fn window(node: &NodeProto, kernel: [usize; 2]) -> Option<Window> {
    matches!(text(node, "auto_pad", "NOTSET"), "NOTSET" | "").then_some(())?;
    let window = Window {
        kernel: lengths::<2>(node, "kernel_shape", 0).map(|k| if k == [0, 0] { kernel } else { k })?,
        stride: lengths(node, "strides", 1)?,
        pads: lengths(node, "pads", 0)?,
        dilation: lengths(node, "dilations", 1)?,
    };
    let sound = window.taps() > 0 && window.stride.iter().chain(&window.dilation).all(|&n| n > 0);
    (sound && int(node, "ceil_mode", 0) == 0).then_some(window)
}

/// What a node becomes: one step, several for one with several results, none where it stays as it is.
pub(super) fn matched<'g>(index: &Index<'g>, n: usize) -> Vec<Match<'g>> {
    match index.nodes[n].op_type.as_str() {
        "Split" => split(index, n).unwrap_or_default(),
        _ => single(index, n).into_iter().collect(),
    }
}

fn single<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    match node.op_type.as_str() {
        "Conv" => convolution(index, n),
        "Add" => {
            let [a, b] = node.input.as_slice() else { return None };
            let inputs = vec![behind(index, a)?, behind(index, b)?];
            let next = followed(index, node.output.first()?, false)?;
            let factors = [inputs[0].scale / next.result.scale, inputs[1].scale / next.result.scale];
            Some(simple(n, Operator::Add { factors, bounds: next.bounds }, inputs, next))
        }
        "Concat" if matches!(int(node, "axis", 0), 1 | -3) => {
            let inputs: Option<Vec<_>> = node.input.iter().map(|input| behind(index, input)).collect();
            let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
            let factors = inputs.as_ref()?.iter().map(|input| input.scale / next.result.scale).collect();
            Some(simple(n, Operator::Concat { factors }, inputs?, next))
        }
        "MaxPool" if int(node, "storage_order", 0) == 0 && node.output.len() == 1 => {
            let input = behind(index, node.input.first()?)?;
            let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
            let window = window(node, [0, 0])?;
            (input.scale == next.result.scale).then(|| simple(n, Operator::MaxPool(window), vec![input], next))
        }
        "AveragePool" => {
            let input = behind(index, node.input.first()?)?;
            let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
            let window = window(node, [0, 0]).filter(|window| window.dilation == [1, 1])?;
            let factor = input.scale / next.result.scale;
            let padding_counts = int(node, "count_include_pad", 0) != 0;
            Some(simple(n, Operator::AveragePool { window, factor, padding_counts }, vec![input], next))
        }
        "GlobalAveragePool" => {
            let input = behind(index, node.input.first()?)?;
            let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
            Some(simple(n, Operator::GlobalAverage { factor: input.scale / next.result.scale }, vec![input], next))
        }
        "Resize" => resized(index, n),
        "Reshape" => shuffled(index, n),
        "Pad" => padding(index, n),
        "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "HardSwish" | "HardSigmoid" | "Tanh" => table(index, n),
        _ => None,
    }
}

pub(super) fn simple<'g>(n: usize, operator: Operator, inputs: Vec<Quantized<'g>>, next: Followed<'g>) -> Match<'g> {
    let nodes = std::iter::once(n).chain(next.nodes).collect();
    Match { operator, inputs, result: Made::Quantized(next.result), nodes }
}

fn convolution<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    let [input, weight, rest @ ..] = node.input.as_slice() else { return None };
    let input = behind(index, input)?;
    let weight = weights(index, weight, 0)?;
    let [outputs, depth, rows, columns] = *weight.shape.as_slice() else { return None };
    let window = window(node, [rows, columns]).filter(|window| window.kernel == [rows, columns])?;
    let groups = usize::try_from(int(node, "group", 1)).ok()?;
    let units: Vec<f32> = weight.scales.iter().map(|scale| scale * input.scale).collect();
    let mut bias = bias(index, rest.first(), &units)?;
    let output = node.output.first()?;
    let next = followed(index, output, true);
    let per_unit = next.as_ref().map_or(1.0, |next| next.result.scale);
    let stored = outputs.next_multiple_of(LANES);
    // In f32 and in this order, as other engines do it.
    let mut multiplier: Vec<f32> = units.iter().map(|unit| unit / per_unit).collect();
    multiplier.iter().all(|m| m.is_finite()).then_some(())?;
    bias.resize(stored, 0);
    multiplier.resize(stored, 0.0);
    let (bounds, slope) = (next.as_ref().map(|next| next.bounds), next.as_ref().map_or(1.0, |next| next.slope));
    let depthwise = groups == outputs && depth == 1 && groups > 1;
    let taps = window.taps();
    (depth.checked_mul(taps)? <= MOST_PRODUCTS).then_some(())?;
    let inputs = depth;
    let operator = if groups == 1 {
        // [out, in, tap] to [out, tap, in].
        let mut turned = vec![0; weight.values.len()];
        for (n, &value) in weight.values.iter().enumerate() {
            let (out, within) = (n / (depth * taps), n % (depth * taps));
            turned[(out * taps + within % taps) * depth + within / taps] = value;
        }
        let weights = PackedDense::new(&turned, outputs, taps, depth).ok()?;
        let layer = Convolution { weights, window, inputs, outputs, bias, multiplier, slope, bounds };
        Operator::Dense(Arc::new(layer))
    } else if depthwise && window.dilation == [1, 1] && bounds.is_some() {
        let weights = PackedDepthwise::new(&weight.values, outputs, window.kernel).ok()?;
        let layer = Convolution { weights, window, inputs, outputs, bias, multiplier, slope, bounds };
        Operator::Depthwise(Arc::new(layer))
    } else {
        return None;
    };
    let mut nodes = vec![n];
    let result = match next {
        Some(next) => {
            nodes.extend(next.nodes);
            Made::Quantized(next.result)
        }
        None => Made::Float(output),
    };
    Some(Match { operator, inputs: vec![input], result, nodes })
}

/// A function of one number, looked up.
fn table<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    let input = behind(index, node.input.first()?)?;
    let (q, quantize) = index.only_reader(node.output.first()?)?;
    (quantize.op_type == "QuantizeLinear").then_some(())?;
    let result = quantized(index, quantize)?;
    let bound = |k: usize, default: f32| match node.input.get(k).filter(|name| !name.is_empty()) {
        Some(name) => index.scalar::<f32>(name),
        None => Some(default),
    };
    let (alpha, beta) = (float(node, "alpha", 0.2), float(node, "beta", 0.5));
    let (low, high) = match node.op_type.as_str() {
        "Clip" => (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?),
        _ => (0.0, f32::INFINITY),
    };
    let slope = float(node, "alpha", 0.01);
    let of = |x: f32| match node.op_type.as_str() {
        "Relu" | "Clip" => x.max(low).min(high),
        "LeakyRelu" => {
            if x < 0.0 {
                x * slope
            } else {
                x
            }
        }
        "Sigmoid" => 1.0 / (1.0 + (-x).exp()),
        "Tanh" => x.tanh(),
        "HardSigmoid" => (alpha * x + beta).clamp(0.0, 1.0),
        _ => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    };
    let entry = |byte: u8| Bounds::ALL.clamp(of(f32::from(byte as i8) * input.scale) / result.scale);
    let table: Box<[i8; 256]> = Box::new(std::array::from_fn(|byte| entry(byte as u8)));
    let next = Followed { result, bounds: Bounds::ALL, slope: 1.0, nodes: vec![q] };
    Some(simple(n, Operator::Table(table), vec![input], next))
}
