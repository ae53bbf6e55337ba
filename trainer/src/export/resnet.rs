//! Residual networks as ONNX nodes, each norm inside its convolution where it is constant.

use hoi_quantize::onnx::{attr_int, attr_ints};
use tch::Tensor;

use super::layers::NetworkGraph;
use super::weights::ExportError;
use crate::network::resnet::{Norm, ResNetConfig};

/// Added to the variance in norms.
const NORM_EPS: f32 = 1e-5;

/// Width of a block's result over that of its inner convolution.
const EXPANSION: i64 = 4;

/// A map `[1, channels, height, width]` in the graph.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) name: String,
    pub(super) channels: i64,
    pub(super) height: i64,
    pub(super) width: i64,
}

/// Kernel, stride and dilation of a convolution; padding keeps the size at stride 1.
#[derive(Clone, Copy)]
struct Window {
    kernel: i64,
    stride: i64,
    dilation: i64,
}

impl Window {
    const POINT: Self = Self { kernel: 1, stride: 1, dilation: 1 };

    fn attributes(self) -> Vec<hoi_quantize::onnx::AttributeProto> {
        let pad = self.kernel / 2 * self.dilation;
        vec![
            attr_ints("kernel_shape", &[self.kernel; 2]),
            attr_ints("strides", &[self.stride; 2]),
            attr_ints("pads", &[pad; 4]),
            attr_ints("dilations", &[self.dilation; 2]),
        ]
    }
}

/// Adds the network under `key` to a graph: from `images [1, 3, H, W]` to C5, a tensor named `output`.
///
/// # Errors
/// [`ExportError`] naming the weight that is missing, of another shape or not finite.
pub(super) fn resnet(
    graph: &mut NetworkGraph,
    key: &str,
    config: &ResNetConfig,
    images: &Map,
    output: &str,
) -> Result<Map, ExportError> {
    let stem = Window { kernel: 7, stride: 2, dilation: 1 };
    let names = [format!("{key}.conv1"), format!("{key}.bn1")];
    let map = convolution(graph, config.norm, images, &names, config.stem_width, stem)?;
    let name = graph.op("Relu", &[&map.name], &format!("{key}.stem"), vec![]);
    let pool = Window { kernel: 3, stride: 2, dilation: 1 };
    // The attribute `dilations` of MaxPool is left out: 1.
    let mut attributes = pool.attributes();
    attributes.truncate(3);
    let name = graph.op("MaxPool", &[&name], &format!("{key}.pooled"), attributes);
    let mut map = Map { name, height: halved(map.height), width: halved(map.width), ..map };
    for layer in 0..4 {
        let dilated = layer == 3 && config.dilate_last;
        for block in 0..config.depths[layer] {
            let middle = Window {
                kernel: 3,
                stride: if block == 0 && layer > 0 && !dilated { 2 } else { 1 },
                // The first block of a dilated layer still looks at the undilated map before it.
                dilation: if dilated && block > 0 { 2 } else { 1 },
            };
            let last = layer == 3 && block + 1 == config.depths[3];
            let block = format!("{key}.layer{}.{block}", layer + 1);
            let output = if last { output.to_owned() } else { format!("{block}.out") };
            map = bottleneck(graph, config, &map, &block, config.stem_width << layer, middle, &output)?;
        }
    }
    Ok(map)
}

fn halved(length: i64) -> i64 {
    (length + 1) / 2
}

fn bottleneck(
    graph: &mut NetworkGraph,
    config: &ResNetConfig,
    x: &Map,
    key: &str,
    width: i64,
    middle: Window,
    output: &str,
) -> Result<Map, ExportError> {
    let mut map = x.clone();
    for (n, (channels, window)) in
        [(width, Window::POINT), (width, middle), (EXPANSION * width, Window::POINT)].into_iter().enumerate()
    {
        let names = [format!("{key}.conv{}", n + 1), format!("{key}.bn{}", n + 1)];
        map = convolution(graph, config.norm, &map, &names, channels, window)?;
        if n < 2 {
            map.name = graph.op("Relu", &[&map.name], &format!("{}.relu", names[1]), vec![]);
        }
    }
    let shortcut = if middle.stride != 1 || x.channels != map.channels {
        let names = [format!("{key}.downsample.0"), format!("{key}.downsample.1")];
        let window = Window { stride: middle.stride, ..Window::POINT };
        convolution(graph, config.norm, x, &names, map.channels, window)?.name
    } else {
        x.name.clone()
    };
    let sum = graph.op("Add", &[&map.name, &shortcut], &format!("{key}.sum"), vec![]);
    Ok(Map { name: graph.op("Relu", &[&sum], output, vec![]), ..map })
}

/// A convolution and its norm; a frozen batch norm `w (x - mean) / sqrt(var + eps) + b` goes into weights and bias.
fn convolution(
    graph: &mut NetworkGraph,
    norm: Norm,
    x: &Map,
    [convolution, normed]: &[String; 2],
    channels: i64,
    window: Window,
) -> Result<Map, ExportError> {
    let weight_name = format!("{convolution}.weight");
    let weight = graph.weights.take(&weight_name, &[channels, x.channels, window.kernel, window.kernel])?;
    let size = |length| if window.stride == 2 { halved(length) } else { length };
    let map = |name| Map { name, channels, height: size(x.height), width: size(x.width) };
    match norm {
        Norm::FrozenBatch => {
            let mut parts = Vec::with_capacity(4);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                parts.push(graph.weights.take(&format!("{normed}.{part}"), &[channels])?.to_kind(tch::Kind::Double));
            }
            let scale = &parts[0] / (&parts[3] + f64::from(NORM_EPS)).sqrt();
            let shift = (&parts[1] - &parts[2] * &scale).to_kind(tch::Kind::Float);
            let weight = (weight * scale.view([-1, 1, 1, 1])).to_kind(tch::Kind::Float);
            let weight = graph.constant(&weight_name, &weight)?;
            let bias = graph.constant(&format!("{convolution}.bias"), &shift)?;
            Ok(map(graph.op("Conv", &[&x.name, &weight, &bias], &format!("{normed}.out"), window.attributes())))
        }
        Norm::Group(groups) => {
            let weight = graph.constant(&weight_name, &weight)?;
            let raw = map(graph.op("Conv", &[&x.name, &weight], &format!("{convolution}.out"), window.attributes()));
            group_norm(graph, &raw, normed, groups)
        }
    }
}

/// `w (x - mean) / sqrt(var + eps) + b` with mean and variance over the channels of a group and all cells.
fn group_norm(graph: &mut NetworkGraph, x: &Map, key: &str, groups: i64) -> Result<Map, ExportError> {
    let part = |name: &str| format!("{key}.{name}");
    let grouped = graph.reshape(&x.name, &[groups, x.channels / groups * x.height * x.width], &part("grouped"));
    let mean = |graph: &mut NetworkGraph, x: &str, output: &str| {
        graph.op("ReduceMean", &[x], output, vec![attr_ints("axes", &[1]), attr_int("keepdims", 1)])
    };
    let centre = mean(graph, &grouped, &part("mean"));
    let centred = graph.op("Sub", &[&grouped, &centre], &part("centred"), vec![]);
    let squared = graph.op("Mul", &[&centred, &centred], &part("squared"), vec![]);
    let variance = mean(graph, &squared, &part("variance"));
    let eps = graph.scalar("group_norm.eps", NORM_EPS);
    let variance = graph.op("Add", &[&variance, &eps], &part("variance.safe"), vec![]);
    let deviation = graph.op("Sqrt", &[&variance], &part("deviation"), vec![]);
    let normed = graph.op("Div", &[&centred, &deviation], &part("normed"), vec![]);
    let mut y = graph.reshape(&normed, &[1, x.channels, x.height, x.width], &part("map"));
    for (name, op) in [("weight", "Mul"), ("bias", "Add")] {
        let tensor: Tensor = graph.weights.take(&part(name), &[x.channels])?.view([-1, 1, 1]);
        let constant = graph.constant(&part(name), &tensor)?;
        y = graph.op(op, &[&y, &constant], &format!("{key}.{}", if op == "Mul" { "scaled" } else { "out" }), vec![]);
    }
    Ok(Map { name: y, ..x.clone() })
}
