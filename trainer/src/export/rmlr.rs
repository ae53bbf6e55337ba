//! RmLR's head as ONNX. Nothing of the text side is in it.

use std::collections::HashMap;

use hoi_quantize::onnx::{ModelProto, attr_int, attr_ints};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::fusion::{FusionSpec, TripletNms};
use hoi_runtime::spatial::SPATIAL_LEN;
use tch::{Device, Kind, Tensor};

use super::detr::{position, project};
use super::detr_bundle::HeadPart;
use super::layers::{LayerSizes, NetworkGraph};
use super::resnet::Map;
use super::weights::{ANY, ExportError, Weights};
use crate::network::transformer::Activation;
use crate::system::rmlr::{RmlrShape, RoiPooling};

/// Keys of what serves training alone.
const TRAINING_PREFIX: &str = "text.";

/// Layers of the optional spatial encoding, each with a ReLU behind it.
const SPATIAL_LAYERS: [&str; 3] = ["spatial.0", "spatial.2", "spatial.4"];

/// RmLR's head with its weights, and which of its parts there are (table 2 of the paper; sheet 6).
#[derive(Clone, Copy, Debug)]
pub struct RmlrGraph<'a> {
    /// The variables of the head's store: `project.*`, `relation.layers.N.*`, `cue.*`, `context.*`, `token.*`, `pair.*`,
    /// `reasoning.layers.N.*`, `verbs.*`, `spatial.{0,2,4}.*`. None under `text.`, none that the parts below do not use.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Rows, columns and channels of the map that goes in: [`DetrGraph::feature`](super::DetrGraph::feature).
    pub feature: [usize; 3],
    /// Attention heads of the relation encoder.
    pub relation_heads: i64,
    /// Layers of the relation encoder (eq. 4).
    pub relation_layers: usize,
    /// Attention heads of the reasoning module.
    pub reasoning_heads: i64,
    /// Layers of the reasoning module.
    pub reasoning_layers: usize,
    /// The cue of the pair, re-mined from the map (eq. 5).
    pub with_cue: bool,
    /// The context of the whole map (eq. 6).
    pub with_context: bool,
    /// The encoding of where the boxes lie (C4), which the paper does not have.
    pub with_spatial: bool,
    /// What the masked RoI is divided by; read where there is a cue.
    pub pooling: RoiPooling,
}

impl<'a> RmlrGraph<'a> {
    /// The graph of a trained head over a map of the size `feature` (rows, columns, channels). `tensors` as [`RmlrGraph::tensors`].
    pub fn of_shape(shape: &RmlrShape, tensors: &'a HashMap<String, Tensor>, feature: [usize; 3]) -> Self {
        Self {
            tensors,
            feature,
            relation_heads: shape.relation_heads,
            relation_layers: shape.relation_layers,
            reasoning_heads: shape.reasoning_heads,
            reasoning_layers: shape.reasoning_layers,
            with_cue: shape.cue_used,
            with_context: shape.context_used,
            with_spatial: shape.spatial_used,
            pooling: shape.pooling,
        }
    }

    /// The variables of a store of a trained head without those that serve training alone.
    pub fn exported(variables: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
        variables.into_iter().filter(|(name, _)| !name.starts_with(TRAINING_PREFIX)).collect()
    }

    /// The graph (opset 17) with the inputs of [`RmlrGraph::inputs`] and the output `verb_logits` f32 `[P, V]`; P and N are symbolic
    /// and may be 0.
    ///
    /// The layer over `(g, s_h, s_o, m)` (eq. 9) is one product a part, which comes to the same as a product with all four side by
    /// side: so the context is multiplied once and a token once an entity, not once a pair.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, left over, of another shape, not finite or under `text.`;
    /// [`ExportError::MapPooling`].
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        let training = self.tensors.keys().filter(|name| name.starts_with(TRAINING_PREFIX)).min();
        if let Some(name) = training {
            return Err(ExportError::TrainingOnly { name: name.clone(), prefix: TRAINING_PREFIX });
        }
        let mut graph = NetworkGraph::new("rmlr_head", Weights::new(self.tensors));
        for spec in self.inputs()? {
            graph.input(&spec);
        }
        let weight = graph.weights.take("pair.weight", &[ANY, ANY])?;
        let bias = graph.weights.take("pair.bias", &[weight.size()[0]])?;
        let dim = weight.size()[0];
        let mut pair = PairLayer { weight, bias: Some(bias), next: 0, sum: None };

        let context = if self.with_context { Some(self.context(&mut graph)?) } else { None };
        if let Some((x, width)) = context {
            let x = pair.part(&mut graph, "context", &x, width)?;
            pair.add(&mut graph, &x);
        }
        let (token, width) = tokens(&mut graph)?;
        for (name, index) in [("human", "human_index"), ("object", "object_index")] {
            let x = pair.part(&mut graph, name, &token, width)?;
            let x = graph.op("Gather", &[&x, index], &format!("pair.{name}.chosen"), vec![attr_int("axis", 0)]);
            pair.add(&mut graph, &x);
        }
        let mut parts = Vec::new();
        if self.with_cue {
            parts.push(("cue", self.cue(&mut graph)?));
        }
        if self.with_spatial {
            parts.push(("spatial", spatial(&mut graph)?));
        }
        for (name, (x, width)) in parts {
            let x = pair.part(&mut graph, name, &x, width)?;
            pair.add(&mut graph, &x);
        }
        let mut x = pair.finish()?;
        let sizes =
            LayerSizes { width: dim, heads: self.reasoning_heads, activation: Activation::Gelu, norm_eps: 1e-12 };
        for n in 0..self.reasoning_layers {
            x = graph.encoder_layer(&x, None, &format!("reasoning.layers.{n}"), &sizes)?;
        }
        graph.linear(&x, "verbs", dim, "verb_logits")?;
        graph.output(&self.output()?);
        graph.finish()
    }

    /// The inputs that the head takes, by the names of the head's contract.
    ///
    /// # Errors
    /// [`ExportError`] when `token.weight` is missing or no matrix.
    pub fn inputs(&self) -> Result<Vec<TensorSpec>, ExportError> {
        let [rows, columns, channels] = self.feature.map(Dim::Fixed);
        let symbol = |s: &str| Dim::Symbol(s.to_owned());
        let mut inputs = Vec::new();
        if self.with_cue || self.with_context {
            inputs.push(TensorSpec::f32("feature", vec![Dim::Fixed(1), channels, rows, columns]));
        }
        if self.with_cue {
            let cells = Dim::Fixed(self.feature[0] * self.feature[1]);
            inputs.push(TensorSpec::f32("pair_masks", vec![symbol("P"), cells]));
        }
        for name in ["human_index", "object_index"] {
            inputs.push(TensorSpec::i64(name, vec![symbol("P")]));
        }
        let width = Weights::new(self.tensors).take("token.weight", &[ANY, ANY])?.size()[1] as usize;
        inputs.push(TensorSpec::f32("entity_tokens", vec![symbol("N"), Dim::Fixed(width)]));
        if self.with_spatial {
            inputs.push(TensorSpec::f32("spatial", vec![symbol("P"), Dim::Fixed(SPATIAL_LEN)]));
        }
        Ok(inputs)
    }

    /// `verb_logits` f32 `[P, V]`.
    fn output(&self) -> Result<TensorSpec, ExportError> {
        let verbs = Weights::new(self.tensors).take("verbs.weight", &[ANY, ANY])?.size()[0] as usize;
        Ok(TensorSpec::f32("verb_logits", vec![Dim::Symbol("P".into()), Dim::Fixed(verbs)]))
    }

    /// The head as a part of a bundle.
    ///
    /// # Errors
    /// As [`RmlrGraph::graph`].
    pub fn part(&self) -> Result<HeadPart, ExportError> {
        let (inputs, outputs) = (self.inputs()?, vec![self.output()?]);
        let notes = masked_roi_note(self)?;
        Ok(HeadPart { graph: self.graph()?, inputs, outputs, fusion: rmlr_fusion(), notes })
    }

    fn map(&self) -> Map {
        let [height, width, channels] = self.feature.map(|n| n as i64);
        Map { name: "feature".into(), channels, height, width }
    }

    /// `m = FC(GAP(mRoI(F_enc(X)))) [P, 512]` (eqs. 4, 5) and its width.
    fn cue(&self, graph: &mut NetworkGraph) -> Result<(String, i64), ExportError> {
        let map = self.map();
        let width = graph.weights.take("project.weight", &[ANY, map.channels, 1, 1])?.size()[0];
        let mut x = project(graph, &map, "project", width)?;
        let sizes = LayerSizes { width, heads: self.relation_heads, activation: Activation::Relu, norm_eps: 1e-5 };
        if self.relation_layers > 0 {
            let position = position(graph, &map, width)?;
            for n in 0..self.relation_layers {
                x = graph.encoder_layer(&x, Some(&position), &format!("relation.layers.{n}"), &sizes)?;
            }
        }
        let mut pooled = graph.op("MatMul", &["pair_masks", &x], "cue.pooled", vec![]);
        match self.pooling {
            RoiPooling::Enclosing => {}
            RoiPooling::Covered => {
                let cells = Tensor::ones([map.height * map.width, 1], (Kind::Float, Device::Cpu));
                let cells = graph.constant("cue.cells", &cells)?;
                let sum = graph.op("MatMul", &["pair_masks", &cells], "cue.covered", vec![]);
                // A pair without area has a row of zeros.
                let least = graph.scalar("cue.least", 1e-6);
                let sum = graph.op("Max", &[&sum, &least], "cue.covered.some", vec![]);
                pooled = graph.op("Div", &[&pooled, &sum], "cue.mean", vec![]);
            }
            RoiPooling::Map => return Err(ExportError::MapPooling),
        }
        let outputs = graph.weights.take("cue.weight", &[ANY, width])?.size()[0];
        Ok((graph.linear(&pooled, "cue", width, "cue.out")?, outputs))
    }

    /// `g = FC(GAP(X)) [1, 512]` (eq. 6), from the raw map, and its width.
    fn context(&self, graph: &mut NetworkGraph) -> Result<(String, i64), ExportError> {
        let channels = self.map().channels;
        let attributes = vec![attr_ints("axes", &[2, 3]), attr_int("keepdims", 0)];
        let mean = graph.op("ReduceMean", &["feature"], "context.mean", attributes);
        let outputs = graph.weights.take("context.weight", &[ANY, channels])?.size()[0];
        Ok((graph.linear(&mean, "context", channels, "context.out")?, outputs))
    }
}

/// The projected tokens of the entities `[N, 512]` and their width.
fn tokens(graph: &mut NetworkGraph) -> Result<(String, i64), ExportError> {
    let size = graph.weights.take("token.weight", &[ANY, ANY])?.size();
    let x = graph.linear("entity_tokens", "token", size[1], "token.sum")?;
    Ok((graph.op("Relu", &[&x], "token.out", vec![]), size[0]))
}

/// The encoded places of human and object `[P, 512]` and their width.
fn spatial(graph: &mut NetworkGraph) -> Result<(String, i64), ExportError> {
    let (mut x, mut width) = ("spatial".to_owned(), SPATIAL_LEN as i64);
    for key in SPATIAL_LAYERS {
        let outputs = graph.weights.take(&format!("{key}.weight"), &[ANY, width])?.size()[0];
        let sum = graph.linear(&x, key, width, &format!("{key}.sum"))?;
        x = graph.op("Relu", &[&sum], &format!("{key}.out"), vec![]);
        width = outputs;
    }
    Ok((x, width))
}

/// The layer over what is known of a pair, a part of its columns after the other.
struct PairLayer {
    /// `[D_H, all parts]`.
    weight: Tensor,
    /// Until it is added, to the part with the fewest rows.
    bias: Option<Tensor>,
    next: i64,
    sum: Option<String>,
}

impl PairLayer {
    /// `x [., width]` times the next `width` columns.
    fn part(&mut self, graph: &mut NetworkGraph, name: &str, x: &str, width: i64) -> Result<String, ExportError> {
        let found = self.weight.size();
        if self.next + width > found[1] {
            return Err(self.misfit(self.next + width));
        }
        let columns = self.weight.narrow(1, self.next, width).transpose(0, 1);
        self.next += width;
        let columns = graph.constant(&format!("pair.weight.{name}"), &columns)?;
        let product = graph.op("MatMul", &[x, &columns], &format!("pair.{name}"), vec![]);
        let Some(bias) = self.bias.take() else { return Ok(product) };
        let bias = graph.constant("pair.bias", &bias)?;
        Ok(graph.op("Add", &[&product, &bias], &format!("pair.{name}.biased"), vec![]))
    }

    fn add(&mut self, graph: &mut NetworkGraph, x: &str) {
        self.sum = Some(match self.sum.take() {
            Some(sum) => graph.op("Add", &[x, &sum], &format!("{x}.sum"), vec![]),
            None => x.to_owned(),
        });
    }

    fn finish(&mut self) -> Result<String, ExportError> {
        match self.sum.take().filter(|_| self.next == self.weight.size()[1]) {
            Some(sum) => Ok(sum),
            None => Err(self.misfit(self.next)),
        }
    }

    fn misfit(&self, columns: i64) -> ExportError {
        let found = self.weight.size();
        let expected = format!("[*, {columns}]: one column a value of context, human, object, cue and place");
        ExportError::WeightShape { name: "pair.weight".into(), expected, found }
    }
}

/// How verbs are scored: `sigma(z) (s_h s_o)^2.8` (UPT's rule; the paper does not say), no triplet NMS (nothing passes an IoU of 1).
pub fn rmlr_fusion() -> FusionSpec {
    FusionSpec::DetrPrior {
        lambda: 2.8,
        triplet_nms: TripletNms { iou: 1.0, human_power: 1.0, object_power: 0.5 },
        max_triplets: 1000,
        calibration: None,
    }
}

/// How the head reads eq. 5, where it does.
fn masked_roi_note(head: &RmlrGraph) -> Result<Vec<String>, ExportError> {
    if !head.with_cue {
        return Ok(Vec::new());
    }
    let divisor = match head.pooling {
        RoiPooling::Enclosing => "the area of the box that encloses both",
        RoiPooling::Covered => "the area that the two cover (reading `covered`)",
        RoiPooling::Map => return Err(ExportError::MapPooling),
    };
    Ok(vec![format!(
        "The paper leaves the operator of its masked RoI (eq. 5) open. Here each feature cell counts with the exact share of it that \
         the union of human and object box covers, divided by {divisor}."
    )])
}
