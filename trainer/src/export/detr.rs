//! DETR as ONNX: a picture of a fixed size in, logits, boxes, tokens and the backbone's map out.

use std::collections::HashMap;

use hoi_quantize::onnx::ModelProto;
use hoi_runtime::detector::{DecoderSpec, DetectorSpec, DetrSpec};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule};
use tch::{Device, Kind, Tensor};

use super::layers::{LayerSizes, NetworkGraph};
use super::resnet::{Map, resnet};
use super::weights::{ExportError, Weights};
use crate::network::detr::DetrConfig;
use crate::network::transformer::sine_position;

/// Name of the graph's file.
pub const DETECTOR_FILE: &str = "detector.onnx";

/// ImageNet's mean and standard deviation of red, green and blue, on 0..1 (C7).
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A DETR with its weights.
#[derive(Clone, Copy, Debug)]
pub struct DetrGraph<'a> {
    /// The variables of the network's store, by the keys of `network::detr`.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Its sizes.
    pub config: &'a DetrConfig,
    /// Size of the picture that goes in.
    pub input: Size,
}

impl DetrGraph<'_> {
    /// Rows, columns and channels of the backbone's map.
    pub fn feature(&self) -> [usize; 3] {
        let cells = |length: u32| length.div_ceil(self.config.backbone.stride() as u32) as usize;
        [cells(self.input.height), cells(self.input.width), self.config.backbone.channels() as usize]
    }

    /// The graph (opset 17): input `images` f32 `[1, 3, H, W]`, normalised; outputs `logits` `[1, Q, K + 1]`, `boxes` `[1, Q, 4]`
    /// (centre, width and height in 0..1), `tokens` `[1, Q, D]` (after the decoder's last norm) and `feature` `[1, C, h, w]` (C5).
    ///
    /// The picture fills the input, so there is no padding and no mask. Frozen batch norms are part of their convolutions, the
    /// position code is a constant.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, left over, of another shape or not finite, or the size that is wrong.
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        self.config.check()?;
        let mut graph = NetworkGraph::new("detr", Weights::new(self.tensors));
        let [height, width] = [self.input.height, self.input.width].map(|n| n as usize);
        let fixed = |name: &str, shape: &[usize]| {
            let shape = [&[1], shape].concat().into_iter().map(Dim::Fixed).collect();
            TensorSpec::f32(name, shape)
        };
        graph.input(&fixed("images", &[3, height, width]));
        let images = Map { name: "images".into(), channels: 3, height: height as i64, width: width as i64 };
        let feature = resnet(&mut graph, "backbone.0.body", &self.config.backbone, &images, "feature")?;
        let tokens = self.transformer(&mut graph, &feature)?;

        let dim = self.config.width;
        let (queries, columns) = (self.config.queries, self.config.classes + 1);
        graph.reshape(&tokens, &[1, queries, dim], "tokens");
        let logits = graph.linear(&tokens, "class_embed", dim, "logits.flat")?;
        graph.reshape(&logits, &[1, queries, columns], "logits");
        let mut x = tokens;
        for n in 0..3 {
            let key = format!("bbox_embed.layers.{n}");
            x = graph.linear(&x, &key, dim, &format!("{key}.out"))?;
            if n < 2 {
                x = graph.op("Relu", &[&x], &format!("{key}.relu"), vec![]);
            }
        }
        let boxes = graph.op("Sigmoid", &[&x], "boxes.flat", vec![]);
        graph.reshape(&boxes, &[1, queries, 4], "boxes");
        let [q, k, d] = [queries, columns, dim].map(|n| n as usize);
        for (name, shape) in [("logits", [q, k]), ("boxes", [q, 4]), ("tokens", [q, d])] {
            graph.output(&fixed(name, &shape));
        }
        let [h, w, c] = self.feature();
        graph.output(&fixed("feature", &[c, h, w]));
        graph.finish()
    }

    /// From C5 to the decoder's tokens `[Q, D]` after its norm.
    fn transformer(&self, graph: &mut NetworkGraph, feature: &Map) -> Result<String, ExportError> {
        let config = self.config;
        let layer = config.layer();
        let sizes = LayerSizes {
            width: layer.width,
            heads: layer.heads,
            activation: layer.activation,
            norm_eps: layer.norm_eps,
        };
        let mut memory = project(graph, feature, "input_proj", config.width)?;
        let position = position(graph, feature, config.width)?;
        if config.place_input {
            memory = graph.op("Add", &[&memory, &position], "transformer.encoder.placed", vec![]);
        }
        for n in 0..config.encoder_layers {
            let key = format!("transformer.encoder.layers.{n}");
            memory = graph.encoder_layer(&memory, Some(&position), &key, &sizes)?;
        }
        let keys = graph.op("Add", &[&memory, &position], "transformer.decoder.keys", vec![]);
        let queries = graph.weights.take("query_embed.weight", &[config.queries, config.width])?;
        let start = graph.constant("transformer.decoder.start", &queries.zeros_like())?;
        let queries = graph.constant("query_embed.weight", &queries)?;
        let mut x = start;
        for n in 0..config.decoder_layers {
            let key = format!("transformer.decoder.layers.{n}");
            x = graph.decoder_layer(&x, &queries, [&keys, &memory], &key, &sizes)?;
        }
        graph.layer_norm(&x, "transformer.decoder.norm", config.width, layer.norm_eps, "transformer.decoder.out")
    }

    /// The `detector` section of a manifest for this graph: classes by name, `feature` tapped, tokens named.
    ///
    /// Detections of any score leave the detector: it is the pairing that cuts, and it takes the best few whatever their score (C3).
    pub fn spec(&self, classes: Vec<String>) -> DetectorSpec {
        let shape = [1, 3, self.input.height as usize, self.input.width as usize];
        DetectorSpec {
            file: DETECTOR_FILE.to_owned(),
            input: InputSpec {
                name: "images".to_owned(),
                shape,
                colour: ColourOrder::Rgb,
                mean: MEAN.map(|m| m * 255.0),
                std: STD.map(|s| s * 255.0),
                resize: ResizeRule::Stretch {},
            },
            decoder: DecoderSpec::Detr(DetrSpec {
                logits: "logits".to_owned(),
                boxes: "boxes".to_owned(),
                queries: self.config.queries as usize,
                tokens: Some("tokens".to_owned()),
            }),
            classes,
            min_score: 0.0,
            max_detections: self.config.queries as usize,
            taps: [("feature".to_owned(), "feature".to_owned())].into(),
        }
    }
}

/// A 1x1 convolution of a map, its cells as tokens `[h w, D]`.
pub(super) fn project(graph: &mut NetworkGraph, map: &Map, key: &str, width: i64) -> Result<String, ExportError> {
    let [weight_name, bias_name] = ["weight", "bias"].map(|part| format!("{key}.{part}"));
    let weight = graph.weights.take(&weight_name, &[width, map.channels, 1, 1])?;
    let bias = graph.weights.take(&bias_name, &[width])?;
    let weight = graph.constant(&weight_name, &weight)?;
    let bias = graph.constant(&bias_name, &bias)?;
    let projected = graph.op("Conv", &[&map.name, &weight, &bias], &format!("{key}.map"), vec![]);
    let flat = graph.reshape(&projected, &[width, map.height * map.width], &format!("{key}.flat"));
    Ok(graph.transpose(&flat, &[1, 0], &format!("{key}.tokens")))
}

/// The sine position code of a map's cells as a constant `[h w, D]`.
pub(super) fn position(graph: &mut NetworkGraph, map: &Map, width: i64) -> Result<String, ExportError> {
    let padding = Tensor::zeros([1, map.height, map.width], (Kind::Bool, Device::Cpu));
    let code = sine_position(&padding, width / 2).view([width, map.height * map.width]).transpose(0, 1);
    graph.constant("position", &code)
}
