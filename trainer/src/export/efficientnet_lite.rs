//! EfficientNet-Lite as ONNX nodes, each batch norm inside its convolution.

use std::collections::HashMap;

use hoi_quantize::onnx::{ModelProto, attr_int, attr_ints};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule};
use tch::{Kind, Tensor};

use super::layers::NetworkGraph;
use super::resnet::Map;
use super::weights::{ExportError, Weights};
use crate::network::ConfigError;
use crate::network::efficientnet_lite::{
    BatchNorm, Convolution, EfficientNetLiteConfig, INPUT_MEAN, INPUT_STD, NORM_EPS, same_padding,
};

/// Strides of the maps that can be tapped, in pixels.
const TAP_STRIDES: [u32; 4] = [2, 4, 8, 16];

/// An EfficientNet-Lite with its weights.
#[derive(Clone, Copy, Debug)]
pub struct EfficientNetLiteGraph<'a> {
    /// The variables of the network's store, by the keys of `network::efficientnet_lite`.
    pub tensors: &'a HashMap<String, Tensor>,
    /// What stands before the keys: empty, or as `backbone.`.
    pub prefix: &'a str,
    /// Its sizes.
    pub config: &'a EfficientNetLiteConfig,
    /// Size of the picture that goes in.
    pub input: Size,
    /// Strides, of 2, 4, 8 and 16, of the earlier maps that are wanted.
    pub taps: &'a [u32],
}

impl EfficientNetLiteGraph<'_> {
    /// The graph (opset 17): input `images` f32 `[1, 3, H, W]`, normalised; outputs `map` `[1, 1280, h, w]`, `pooled` `[1, 1280]`,
    /// `logits` `[1, classes]` where there is a classifier, and `tap_8` `[1, c, ceil(H / 8), ceil(W / 8)]` for a tap at stride 8.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, left over, of another shape or not finite, or the field that is wrong.
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        self.config.check()?;
        for stride in self.taps {
            let expected = "strides 2, 4, 8 and 16 can be tapped";
            ConfigError::unless(TAP_STRIDES.contains(stride), "taps", stride, expected)?;
        }
        let mut graph = NetworkGraph::new("efficientnet_lite", Weights::new(self.tensors));
        let fixed = |name: &str, shape: &[i64]| {
            let shape = [&[1], shape].concat().into_iter().map(|n| Dim::Fixed(n as usize)).collect();
            TensorSpec::f32(name, shape)
        };
        let [height, width] = [self.input.height, self.input.width].map(i64::from);
        graph.input(&fixed("images", &[3, height, width]));
        let images = Map { name: "images".into(), channels: 3, height, width };
        let (taps, map) = efficientnet_lite(&mut graph, self.prefix, self.config, &images, self.taps)?;
        graph.output(&fixed("map", &[map.channels, map.height, map.width]));
        let attributes = vec![attr_ints("axes", &[2, 3]), attr_int("keepdims", 0)];
        let pooled = graph.op("ReduceMean", &[&map.name], "pooled", attributes);
        graph.output(&fixed("pooled", &[map.channels]));
        if let Some(classes) = self.config.classes {
            graph.linear(&pooled, &format!("{}_fc", self.prefix), map.channels, "logits")?;
            graph.output(&fixed("logits", &[classes]));
        }
        for tap in taps {
            graph.output(&fixed(&tap.name, &[tap.channels, tap.height, tap.width]));
        }
        graph.finish()
    }

    /// How a picture becomes the input: stretched, RGB, `(v - 127) / 128`.
    pub fn input_spec(&self) -> InputSpec {
        InputSpec {
            name: "images".to_owned(),
            shape: [1, 3, self.input.height as usize, self.input.width as usize],
            colour: ColourOrder::Rgb,
            mean: [INPUT_MEAN; 3],
            std: [INPUT_STD; 3],
            resize: ResizeRule::Stretch {},
        }
    }
}

/// Adds the network to a graph: from `images [1, 3, H, W]` to the tapped maps (`tap_2` ...) in the order of the network,
/// and the last one, `map`.
///
/// # Errors
/// [`ExportError`] naming the weight that is missing, of another shape or not finite.
pub(super) fn efficientnet_lite(
    graph: &mut NetworkGraph,
    prefix: &str,
    config: &EfficientNetLiteConfig,
    images: &Map,
    taps: &[u32],
) -> Result<(Vec<Map>, Map), ExportError> {
    let blocks = config.blocks();
    let mut strides = TAP_STRIDES.into_iter();
    let mut tapped = Vec::with_capacity(taps.len());
    let mut map = convolution(graph, prefix, config.norm, images, &config.stem_convolution(), None)?;
    for (n, block) in blocks.iter().enumerate() {
        // What a stage ends in before the map halves can be tapped.
        let stride = blocks.get(n + 1).filter(|next| next.stride == 2).and_then(|_| strides.next());
        let tap = stride.filter(|stride| taps.contains(stride)).map(|stride| format!("tap_{stride}"));
        let input = map.clone();
        for (place, plan) in block.convolutions.iter().enumerate() {
            let last = place + 1 == block.convolutions.len() && !block.residual;
            map = convolution(graph, prefix, config.norm, &map, plan, tap.as_deref().filter(|_| last))?;
        }
        if block.residual {
            let name = tap.clone().unwrap_or_else(|| format!("{prefix}_blocks.{n}.sum"));
            map.name = graph.op("Add", &[&map.name, &input.name], &name, vec![]);
        }
        if tap.is_some() {
            tapped.push(map.clone());
        }
    }
    let map = convolution(graph, prefix, config.norm, &map, &config.head_convolution(), Some("map"))?;
    Ok((tapped, map))
}

/// A convolution with its batch norm inside, and ReLU6; the result is named `output`, or after its norm.
fn convolution(
    graph: &mut NetworkGraph,
    prefix: &str,
    norm: BatchNorm,
    x: &Map,
    plan: &Convolution,
    output: Option<&str>,
) -> Result<Map, ExportError> {
    let weight_name = format!("{prefix}{}.weight", plan.name);
    let bias_name = format!("{prefix}{}.bias", plan.name);
    let mut weight = graph.weights.take(&weight_name, &plan.shape())?;
    let bias = if norm == BatchNorm::Folded {
        graph.weights.take(&bias_name, &[plan.outputs])?
    } else {
        let mut parts = Vec::with_capacity(4);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let name = format!("{prefix}{}.{part}", plan.norm);
            parts.push(graph.weights.take(&name, &[plan.outputs])?.to_kind(Kind::Double));
        }
        let scale = &parts[0] / (&parts[3] + NORM_EPS).sqrt();
        weight = (weight * scale.view([-1, 1, 1, 1])).to_kind(Kind::Float);
        (&parts[1] - &parts[2] * &scale).to_kind(Kind::Float)
    };
    let weight = graph.constant(&weight_name, &weight)?;
    let bias = graph.constant(&bias_name, &bias)?;
    let [top, bottom] = same_padding(x.height, plan.kernel, plan.stride);
    let [left, right] = same_padding(x.width, plan.kernel, plan.stride);
    let attributes = vec![
        attr_ints("kernel_shape", &[plan.kernel; 2]),
        attr_ints("strides", &[plan.stride; 2]),
        attr_ints("pads", &[top, left, bottom, right]),
        attr_int("group", plan.groups),
    ];
    let own = format!("{prefix}{}.out", plan.norm);
    let last = output.unwrap_or(&own);
    let convolved = if plan.relu6 { format!("{prefix}{}.out", plan.name) } else { last.to_owned() };
    let mut name = graph.op("Conv", &[&x.name, &weight, &bias], &convolved, attributes);
    if plan.relu6 {
        let bounds = [graph.scalar("relu6.least", 0.0), graph.scalar("relu6.most", 6.0)];
        name = graph.op("Clip", &[&name, &bounds[0], &bounds[1]], last, vec![]);
    }
    let cells = |length: i64| (length + plan.stride - 1) / plan.stride;
    Ok(Map { name, channels: plan.outputs, height: cells(x.height), width: cells(x.width) })
}
