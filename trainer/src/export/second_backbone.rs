//! A second backbone inside a detector's graph: one network runs on a picture, gives boxes as before, and the last map of an
//! EfficientNet-Lite for the head.

use std::collections::HashMap;

use hoi_quantize::fp16::{LEAST_ELEMENTS, convert};
use hoi_quantize::onnx::{GraphProto, ModelProto, NodeProto, OnnxError, from_bytes};
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule};
use tch::Tensor;

use super::efficientnet_lite::efficientnet_lite;
use super::layers::NetworkGraph;
use super::resnet::Map;
use super::weights::{ExportError, Weights};
use crate::network::efficientnet_lite::{EfficientNetLiteConfig, INPUT_MEAN, INPUT_STD};

/// What stands before every name of the second backbone in the detector's graph.
const PREFIX: &str = "second_backbone.";

/// The tensor `[1, C, h, w]` of the detector's graph that holds the second backbone's last map.
pub const SECOND_BACKBONE_MAP: &str = "second_backbone.map";

/// Oldest operator set in which the bounds of Clip are inputs. Conv, Clip, Add, Mul and Cast are used in a way that no later one changed.
const LEAST_OPSET: i64 = 11;

/// Oldest IR version in which a constant need not be listed among the graph's inputs.
const LEAST_IR: i64 = 4;

/// Pixels from a cell of the last map to the next.
const STRIDE: usize = 32;

/// The picture, before the second backbone gets its names in the detector's graph.
const PICTURE: &str = "picture";

/// How weights lie in the file. Engines compute in f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightStorage {
    /// As they are.
    #[default]
    F32,
    /// Rounded to f16 with a Cast behind each, where that is safe ([`hoi_quantize::fp16`]): half the size.
    F16,
}

impl WeightStorage {
    /// As a manifest's `precision` says it.
    pub fn words(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16 stored, f32 computed",
        }
    }
}

/// An EfficientNet-Lite that is to run inside a bundle's detector.
#[derive(Clone, Copy, Debug)]
pub struct SecondBackbone<'a> {
    /// The variables of the network's store, by the keys of `network::efficientnet_lite`; a classifier is left out.
    pub tensors: &'a HashMap<String, Tensor>,
    /// What stands before the keys: empty, or as `backbone.`.
    pub prefix: &'a str,
    /// Its sizes.
    pub config: &'a EfficientNetLiteConfig,
    /// How its weights are stored.
    pub storage: WeightStorage,
    /// Pixels of a side of the square that the detector's input is resized to for it; `None`: it sees the input as it is.
    pub side: Option<usize>,
}

impl SecondBackbone<'_> {
    /// Rows, columns and channels of the map for a detector with this input: a cell for each 32 pixels, rounded up.
    pub fn feature(&self, input: &InputSpec) -> [usize; 3] {
        let [height, width] = self.seen(input);
        [height.div_ceil(STRIDE), width.div_ceil(STRIDE), self.config.head as usize]
    }

    /// Tensors of the detector's graph that hold its late maps, all after an activation: what the last halving begins with, what the last block
    /// ends its depthwise convolution with, and the last map.
    pub fn late_maps(&self) -> Vec<String> {
        let blocks = self.config.blocks();
        let halving = blocks.iter().rev().find(|block| block.stride == 2).and_then(|block| block.convolutions.first());
        let depthwise = blocks.last().and_then(|block| block.convolutions.iter().rev().nth(1));
        let inner = [halving, depthwise].into_iter().flatten().filter(|plan| plan.relu6);
        inner
            .map(|plan| format!("{PREFIX}{}{}.out", self.prefix, plan.norm))
            .chain([SECOND_BACKBONE_MAP.to_owned()])
            .collect()
    }

    /// Height and width of the picture that the network sees.
    fn seen(&self, input: &InputSpec) -> [usize; 2] {
        let [_, _, height, width] = input.shape;
        self.side.map_or([height, width], |side| [side; 2])
    }

    /// The graph of the detector of `base` with the network added, and with one more output, [`SECOND_BACKBONE_MAP`].
    ///
    /// The network reads the detector's input at the detector's size, or resized (bilinear) to [`SecondBackbone::side`]. Mean and scale are
    /// changed from the detector's to its own, `(v - 127) / 128`, by a product and a sum before the first convolution, whose padding means a
    /// value of 0 after both; where the detector takes BGR, that convolution's weights are reordered, which costs nothing. What the detector's
    /// graph holds stays as it is, its operator set too: 11 or later.
    ///
    /// # Errors
    /// [`ExportError::Resize`] unless the detector stretches the picture; [`ExportError::Detector`], [`ExportError::OldGraph`],
    /// [`ExportError::NoInput`] and [`ExportError::NamesTaken`] when its graph cannot take the network; and what is wrong with the network's
    /// weights and sizes.
    pub fn over(&self, base: &ModelBundle) -> Result<ModelProto, ExportError> {
        let spec = &base.manifest().detector;
        let rule = match spec.input.resize {
            ResizeRule::Stretch {} => None,
            ResizeRule::LetterboxTopLeft { .. } => Some("letterbox_top_left"),
        };
        if let Some(rule) = rule {
            return Err(ExportError::Resize { rule });
        }
        let unusable = |source| ExportError::Detector { file: spec.file.clone(), source };
        let mut model = from_bytes(base.file(&spec.file).unwrap_or_default()).map_err(unusable)?;
        let (opset, ir) = (model.opset(), model.ir_version.unwrap_or_default());
        if opset < LEAST_OPSET || ir < LEAST_IR {
            return Err(ExportError::OldGraph { file: spec.file.clone(), opset, ir });
        }
        let Some(graph) = &mut model.graph else { return Err(unusable(OnnxError::NoGraph)) };
        let inputs = || graph.input.iter().filter_map(|input| input.name.as_deref());
        if !inputs().any(|name| name == spec.input.name) {
            let found = inputs().collect::<Vec<_>>().join(", ");
            return Err(ExportError::NoInput { file: spec.file.clone(), name: spec.input.name.clone(), found });
        }
        if let Some(name) = taken(graph) {
            return Err(ExportError::NamesTaken { file: spec.file.clone(), name: name.to_owned(), prefix: PREFIX });
        }
        let mut added = self.network(&spec.input)?.graph.unwrap_or_default();
        place(&mut added, &spec.input.name);
        graph.node.append(&mut added.node);
        graph.initializer.append(&mut added.initializer);
        graph.output.append(&mut added.output);
        Ok(model)
    }

    /// What a manifest says of the precision of a detector whose own is `detector`, with the network added.
    pub(crate) fn precision(&self, detector: Option<&str>) -> String {
        let own = self.storage.words();
        match detector {
            Some(detector) if detector == own => own.to_owned(),
            Some(detector) => format!("{detector}; second backbone: {own}"),
            None => format!("second backbone: {own}"),
        }
    }

    /// The network alone: [`PICTURE`] as the detector takes it, to `map`.
    fn network(&self, input: &InputSpec) -> Result<ModelProto, ExportError> {
        self.config.check()?;
        let tensors = self.reordered(input.colour);
        let mut graph = NetworkGraph::new("second_backbone", Weights::new(&tensors));
        graph.input(&TensorSpec::f32(PICTURE, input.shape.map(Dim::Fixed).to_vec()));
        let [_, channels, height, width] = input.shape.map(|n| n as i64);
        let mut picture = Map { name: normalised(&mut graph, input)?, channels, height, width };
        let [seen_height, seen_width] = self.seen(input).map(|n| n as i64);
        if [seen_height, seen_width] != [height, width] {
            let name = graph.resize(&picture.name, [1, channels, seen_height, seen_width], "input.resized");
            picture = Map { name, channels, height: seen_height, width: seen_width };
        }
        let (_, map) = efficientnet_lite(&mut graph, self.prefix, self.config, &picture, &[])?;
        let shape = [1, map.channels, map.height, map.width].map(|n| Dim::Fixed(n as usize));
        graph.output(&TensorSpec::f32(&map.name, shape.to_vec()));
        if let Some(classes) = self.config.classes {
            let _ = graph.weights.take(&format!("{}_fc.weight", self.prefix), &[classes, self.config.head])?;
            let _ = graph.weights.take(&format!("{}_fc.bias", self.prefix), &[classes])?;
        }
        let mut model = graph.finish()?;
        if self.storage == WeightStorage::F16 {
            convert(&mut model, LEAST_ELEMENTS);
        }
        Ok(model)
    }

    /// The weights for a picture whose channels come in this order.
    fn reordered(&self, colour: ColourOrder) -> HashMap<String, Tensor> {
        let first = format!("{}{}.weight", self.prefix, self.config.stem_convolution().name);
        let reorder = |(name, tensor): (&String, &Tensor)| {
            // One of another shape is refused when it is taken.
            let reversed = *name == first && colour == ColourOrder::Bgr && tensor.dim() == 4;
            (name.clone(), if reversed { tensor.detach().flip([1]) } else { tensor.shallow_clone() })
        };
        self.tensors.iter().map(reorder).collect()
    }
}

/// Adds what turns the detector's `x = (v - mean) / std` into the network's `(v - 127) / 128 = x std / 128 + (mean - 127) / 128`.
fn normalised(graph: &mut NetworkGraph, input: &InputSpec) -> Result<String, ExportError> {
    let per_channel = |value: [f64; 3]| Tensor::from_slice(&value.map(|v| v as f32)).view([1, 3, 1, 1]);
    let own = f64::from(INPUT_STD);
    let scale = input.std.map(|std| f64::from(std) / own);
    let shift = input.mean.map(|mean| (f64::from(mean) - f64::from(INPUT_MEAN)) / own);
    let mut x = PICTURE.to_owned();
    if scale != [1.0; 3] {
        let factor = graph.constant("input.factor", &per_channel(scale))?;
        x = graph.op("Mul", &[&x, &factor], "input.scaled", vec![]);
    }
    if shift != [0.0; 3] {
        let term = graph.constant("input.term", &per_channel(shift))?;
        x = graph.op("Add", &[&x, &term], "input.normalised", vec![]);
    }
    Ok(x)
}

/// Gives everything in the network's graph its name in the detector's, whose input is `input`.
fn place(graph: &mut GraphProto, input: &str) {
    let rename = |name: &mut String| match name.as_str() {
        // An optional input that is left out.
        "" => {}
        PICTURE => input.clone_into(name),
        _ => *name = format!("{PREFIX}{name}"),
    };
    for NodeProto { input, output, name, .. } in &mut graph.node {
        input.iter_mut().chain(output).chain(name).for_each(rename);
    }
    graph.initializer.iter_mut().filter_map(|tensor| tensor.name.as_mut()).for_each(rename);
    graph.output.iter_mut().filter_map(|output| output.name.as_mut()).for_each(rename);
}

/// A name in the graph or its subgraphs, which share its names, that begins with [`PREFIX`].
fn taken(graph: &GraphProto) -> Option<&str> {
    let sparse = graph.sparse_initializer.iter().filter_map(|tensor| tensor.values.as_ref());
    let tensors = graph.initializer.iter().chain(sparse).filter_map(|tensor| tensor.name.as_deref());
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info).filter_map(|v| v.name.as_deref());
    let nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output).chain(&node.name));
    let subgraphs = graph.node.iter().flat_map(|node| &node.attribute).flat_map(|a| a.g.iter().chain(&a.graphs));
    let mut names = tensors.chain(values).chain(nodes.map(String::as_str));
    names.find(|name| name.starts_with(PREFIX)).or_else(|| subgraphs.into_iter().find_map(taken))
}
