//! Weakly-HOI's network above the backbone as ONNX.

mod pool;

use std::collections::HashMap;

use hoi_quantize::onnx::{ModelProto, attr_int, attr_ints};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::fusion::FusionSpec;
use hoi_runtime::interaction::{IMAGE_LOGITS, RELATEDNESS, VERB_LOGITS};
use hoi_runtime::spatial::SPATIAL_LEN;
use tch::{Device, Kind, Tensor};

use self::pool::{Pool, projection};
use super::detr_bundle::HeadPart;
use super::layers::NetworkGraph;
use super::weights::{ANY, ExportError, Weights};
use crate::system::weakly_hoi::{BACKBONE, Knowledge, Pooling, STARTED, WeaklyConfig, WeaklyParts, WeaklyShape};

/// 1 for a human alone, 0 for a pair with an object: `[P, 1]`.
const ALONE: &str = "alone";

/// A trained head over a map of one size.
#[derive(Clone, Copy, Debug)]
pub struct WeaklyGraph<'a> {
    /// All variables of the model's store.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Sizes.
    pub shape: &'a WeaklyShape,
    /// How the cells of a box become one feature.
    pub pooling: Pooling,
    /// Parts of the method that the head has.
    pub parts: &'a WeaklyParts,
    /// Whether there are pairs of a human with itself: the vocabulary has verbs without an object.
    pub alone: bool,
    /// Rows, columns and channels of the map that goes in.
    pub feature: [usize; 3],
}

impl<'a> WeaklyGraph<'a> {
    /// The head of a trained model, for a map of `feature` rows, columns and channels; `alone` where its vocabulary has verbs without an
    /// object.
    pub fn new(
        config: &'a WeaklyConfig,
        tensors: &'a HashMap<String, Tensor>,
        alone: bool,
        feature: [usize; 3],
    ) -> Self {
        let WeaklyConfig { shape, pooling, parts, .. } = config;
        Self { tensors, shape, pooling: *pooling, parts, alone, feature }
    }

    /// A model's variables without those that serve training alone.
    pub fn exported(mut variables: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
        variables.retain(|name, _| !name.starts_with(&format!("{STARTED}.")));
        variables
    }

    /// The head as a part of a bundle whose scoring rule is `fusion`.
    ///
    /// # Errors
    /// As [`WeaklyGraph::graph`].
    pub fn part(&self, fusion: FusionSpec) -> Result<HeadPart, ExportError> {
        let pooling = match self.pooling {
            Pooling::Attention => {
                "Human, object and the box around both are read by one attention pooling over all cells of the map, with the logarithm of \
                 each cell's share added to its logit"
            }
            Pooling::Mean => {
                "Human, object and the box around both are read as means over the cells of the map, weighted with their shares"
            }
        };
        let mut notes = vec![format!("{pooling}; v_u is the box that encloses both.")];
        if self.alone {
            notes.push("A human without an object is paired with the whole picture.".to_owned());
        }
        let (inputs, outputs) = (self.inputs(), self.outputs());
        Ok(HeadPart { graph: self.graph()?, inputs, outputs, fusion, notes })
    }

    /// The inputs that the head takes, by the names of the head's contract.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        let [rows, columns, channels] = self.feature.map(Dim::Fixed);
        let cells = || Dim::Fixed(self.feature[0] * self.feature[1]);
        let symbol = |s: &str| Dim::Symbol(s.to_owned());
        let mut inputs = vec![
            TensorSpec::f32("feature", vec![Dim::Fixed(1), channels, rows, columns]),
            TensorSpec::f32("entity_masks", vec![symbol("N"), cells()]),
        ];
        if self.asks_union() {
            inputs.push(TensorSpec::f32("union_masks", vec![symbol("P"), cells()]));
        }
        inputs.push(TensorSpec::i64("human_index", vec![symbol("P")]));
        inputs.push(TensorSpec::i64("object_index", vec![symbol("P")]));
        if self.shape.tokens > 0 {
            let width = Dim::Fixed(self.shape.tokens as usize);
            inputs.push(TensorSpec::f32("entity_tokens", vec![symbol("N"), width]));
        }
        inputs.push(TensorSpec::f32("spatial", vec![symbol("P"), Dim::Fixed(SPATIAL_LEN)]));
        inputs
    }

    /// `verb_logits` `[P, A]`; `relatedness` `[P]` and `image_logits` `[N]` where the head has them.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        let pairs = || Dim::Symbol("P".to_owned());
        let mut outputs = vec![TensorSpec::f32(VERB_LOGITS, vec![pairs(), Dim::Fixed(self.shape.verbs as usize)])];
        if self.parts.relatedness {
            outputs.push(TensorSpec::f32(RELATEDNESS, vec![pairs()]));
        }
        if self.parts.score_fusion {
            outputs.push(TensorSpec::f32(IMAGE_LOGITS, vec![Dim::Fixed(self.shape.interactions as usize)]));
        }
        outputs
    }

    /// Whether pairs look into the bank by their union, or take it itself.
    fn asks_union(&self) -> bool {
        self.parts.knowledge.is_some_and(|k| k != Knowledge::Uniform)
    }

    /// The graph (opset 17); N and P are symbolic.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, of another shape or not finite; or saying that the board has no rule for the
    /// model's scores, or no place for its backbone.
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        if self.parts.prompt_score.is_some() {
            return Err(ExportError::PromptScore);
        }
        if self.tensors.keys().any(|name| name.starts_with(&format!("{BACKBONE}."))) {
            return Err(ExportError::OwnBackbone { prefix: BACKBONE });
        }
        let mut graph = NetworkGraph::new("weakly_hoi_head", Weights::new(self.tensors));
        for spec in self.inputs() {
            graph.input(&spec);
        }
        let pool = self.pool(&mut graph)?;
        let d = self.shape.width;
        let each = self.pooled(&mut graph, &pool, "entity_masks", "entity")?;
        let fused = self.parts.score_fusion && self.shape.tokens == 0;
        let whole = if self.alone || fused { self.whole(&mut graph, &pool)? } else { String::new() };
        let rows = |graph: &mut NetworkGraph, x: &str, side: &str, name: &str| {
            graph.op("Gather", &[x, &format!("{side}_index")], name, vec![attr_int("axis", 0)])
        };
        let mut human = rows(&mut graph, &each, "human", "human.map");
        let mut looked = None;
        if self.shape.tokens > 0 {
            let (looks, known) = self.looks(&mut graph)?;
            let look = rows(&mut graph, &looks, "human", "human.look");
            human = graph.op("Add", &[&human, &look], "human.feature", vec![]);
            looked = Some(known);
        }
        let mut object = rows(&mut graph, &each, "object", "object.feature");
        if self.alone {
            let alone = graph.op("Equal", &["human_index", "object_index"], "alone.equal", vec![]);
            let alone = graph.op("Cast", &[&alone], "alone.cast", vec![attr_int("to", 1)]);
            graph.reshape(&alone, &[-1, 1], ALONE);
            object = whole_where_alone(&mut graph, &object, &whole, "object.or.whole");
        }
        let spatial = perceptron(&mut graph, "spatial", "spatial", SPATIAL_LEN as i64, 3)?;
        let spatial = graph.op("Relu", &[&spatial], "spatial.out", vec![]);
        let joined = graph.op("Concat", &[&human, &object, &spatial], "pair.joined", vec![attr_int("axis", -1)]);
        let mut pairs = perceptron(&mut graph, &joined, "pair", 3 * d, 2)?;
        if let Some(mode) = self.parts.knowledge {
            let meta = self.meta(&mut graph, &pool, mode, &whole)?;
            let sum = graph.op("Add", &[&pairs, &meta], "knowledge.sum", vec![]);
            pairs = perceptron(&mut graph, &sum, "knowledge", d, 2)?;
        }
        let verbs = perceptron(&mut graph, &pairs, "verbs", d, 2)?;
        graph.op("Identity", &[&verbs], VERB_LOGITS, vec![]);
        if self.parts.relatedness {
            let related = perceptron(&mut graph, &pairs, "related", d, 2)?;
            graph.reshape(&related, &[-1], RELATEDNESS);
        }
        if self.parts.score_fusion {
            let seen = match &looked {
                Some(known) => self.seen(&mut graph, known)?,
                None => whole,
            };
            self.image(&mut graph, &seen)?;
        }
        if self.parts.recognition {
            // Trained, and not always told: its weights have their place.
            let _ = graph.weights.take("offset", &[])?;
            if self.shape.tokens > 0 {
                let inputs = self.shape.map_channels + self.shape.tokens;
                for part in ["hidden.centre", "hidden.spread"] {
                    let _ = graph.weights.take(&format!("image.{part}"), &[inputs])?;
                }
                for (layer, inputs) in [("hidden.c_proj", inputs), ("out", d)] {
                    let _ = graph.weights.take(&format!("image.{layer}.weight"), &[d, inputs])?;
                    let _ = graph.weights.take(&format!("image.{layer}.bias"), &[d])?;
                }
            }
        }
        if self.asks_bank() {
            let _ = graph.weights.take("bank", &[self.shape.interactions, d])?;
            let _ = graph.weights.take("scale", &[])?;
        }
        for spec in self.outputs() {
            graph.output(&spec);
        }
        graph.finish()
    }

    fn asks_bank(&self) -> bool {
        self.parts.recognition || self.parts.knowledge.is_some_and(|k| k != Knowledge::Union)
    }

    /// `exp(t)` times the cosines of rows `x` `[K, D]` with the bank, `[K, N]`.
    fn cosines(&self, graph: &mut NetworkGraph, x: &str, name: &str) -> Result<String, ExportError> {
        let d = self.shape.width;
        let bank = graph.weights.take("bank", &[self.shape.interactions, d])?.to_kind(Kind::Float);
        let scale = graph.weights.take("scale", &[])?.to_kind(Kind::Float).exp();
        let unit = &bank / bank.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-12);
        let unit = graph.constant("bank.unit", &(unit * scale).transpose(0, 1).contiguous())?;
        let axes = vec![attr_ints("axes", &[-1]), attr_int("keepdims", 1)];
        let length = graph.op("ReduceL2", &[x], &format!("{name}.length"), axes);
        let least = graph.scalar("length.least", 1e-12);
        let length = graph.op("Max", &[&length, &least], &format!("{name}.length.some"), vec![]);
        let x = graph.op("Div", &[x, &length], &format!("{name}.unit"), vec![]);
        Ok(graph.op("MatMul", &[&x, &unit], &format!("{name}.cosines"), vec![]))
    }

    /// v_meta of the pairs (eq. 1): `[P, D]`, or one row for all.
    fn meta(&self, graph: &mut NetworkGraph, pool: &Pool, mode: Knowledge, whole: &str) -> Result<String, ExportError> {
        let (rows, d) = (self.shape.interactions, self.shape.width);
        if mode == Knowledge::Union {
            return self.union(graph, pool, whole);
        }
        let bank = graph.weights.take("bank", &[rows, d])?;
        if mode == Knowledge::Uniform {
            return graph.constant("bank.mean", &bank.mean_dim([0i64].as_slice(), true, Kind::Float));
        }
        let union = self.union(graph, pool, whole)?;
        let asked = self.cosines(graph, &union, "knowledge")?;
        let weights = match mode {
            Knowledge::Sigmoid => {
                let each = graph.op("Sigmoid", &[&asked], "knowledge.each", vec![]);
                let ones = graph.constant("bank.ones", &Tensor::ones([rows, 1], (Kind::Float, Device::Cpu)))?;
                let sum = graph.op("MatMul", &[&each, &ones], "knowledge.each.sum", vec![]);
                graph.op("Div", &[&each, &sum], "knowledge.weights", vec![])
            }
            _ => graph.op("Softmax", &[&asked], "knowledge.weights", vec![attr_int("axis", -1)]),
        };
        let bank = graph.constant("bank", &bank)?;
        Ok(graph.op("MatMul", &[&weights, &bank], "knowledge.meta", vec![]))
    }

    /// v_u of the pairs.
    fn union(&self, graph: &mut NetworkGraph, pool: &Pool, whole: &str) -> Result<String, ExportError> {
        let union = self.pooled(graph, pool, "union_masks", "union")?;
        Ok(if self.alone { whole_where_alone(graph, &union, whole, "union.or.whole") } else { union })
    }

    /// v_g `[1, D]`.
    fn whole(&self, graph: &mut NetworkGraph, pool: &Pool) -> Result<String, ExportError> {
        let cells = (self.feature[0] * self.feature[1]) as i64;
        let mask = Tensor::full([1, cells], 1.0 / cells as f64, (Kind::Float, Device::Cpu));
        let mask = graph.constant("image.mask", &mask)?;
        self.pooled(graph, pool, &mask, "image")
    }

    /// The looks `[N, D]`, and 1 for entities that have tokens, `[N, 1]`: the look of the others is 0.
    fn looks(&self, graph: &mut NetworkGraph) -> Result<(String, String), ExportError> {
        let ones = Tensor::ones([self.shape.tokens, 1], (Kind::Float, Device::Cpu));
        let ones = graph.constant("tokens.ones", &ones)?;
        let size = graph.op("Abs", &["entity_tokens"], "tokens.size", vec![]);
        let size = graph.op("MatMul", &[&size, &ones], "tokens.sum", vec![]);
        let none = graph.scalar("tokens.none", 0.0);
        let known = graph.op("Greater", &[&size, &none], "tokens.known", vec![]);
        let known = graph.op("Cast", &[&known], "tokens.known.cast", vec![attr_int("to", 1)]);
        let looks = projection(graph, "entity_tokens", "look", self.shape.tokens, "look")?;
        Ok((graph.op("Mul", &[&looks, &known], "look.known", vec![]), known))
    }

    /// What s_g compares with the bank, `[1, D]`, from the mean of the map and that of the tokens of entities that are `known` `[N, 1]`.
    fn seen(&self, graph: &mut NetworkGraph, known: &str) -> Result<String, ExportError> {
        let row = graph.op("Transpose", &[known], "tokens.known.row", vec![attr_ints("perm", &[1, 0])]);
        let count = graph.op("MatMul", &[&row, known], "tokens.count", vec![]);
        let least = graph.scalar("tokens.least", 1.0);
        let count = graph.op("Max", &[&count, &least], "tokens.count.some", vec![]);
        let sum = graph.op("MatMul", &[&row, "entity_tokens"], "tokens.all", vec![]);
        let look = graph.op("Div", &[&sum, &count], "tokens.mean", vec![]);
        let map = self.mean_of_all(graph, "cells", "sight.map")?;
        let both = graph.op("Concat", &[&map, &look], "sight.inputs", vec![attr_int("axis", -1)]);
        let inputs = self.shape.map_channels + self.shape.tokens;
        let hidden = projection(graph, &both, "image.hidden", inputs, "sight.hidden")?;
        let hidden = graph.op("Relu", &[&hidden], "sight.rectified", vec![]);
        graph.linear(&hidden, "image.out", self.shape.width, "sight")
    }

    /// s_g `[N]` of v_g.
    fn image(&self, graph: &mut NetworkGraph, whole: &str) -> Result<(), ExportError> {
        let logits = self.cosines(graph, whole, "image")?;
        let offset = graph.weights.take("offset", &[])?;
        let offset = graph.constant("offset", &offset)?;
        let logits = graph.op("Add", &[&logits, &offset], "image.scores", vec![]);
        graph.reshape(&logits, &[-1], IMAGE_LOGITS);
        Ok(())
    }
}

/// Rows `x` `[P, D]`, in place of which a human alone has `whole` `[1, D]`.
fn whole_where_alone(graph: &mut NetworkGraph, x: &str, whole: &str, name: &str) -> String {
    let rest = graph.op("Sub", &[whole, x], &format!("{name}.rest"), vec![]);
    let taken = graph.op("Mul", &[ALONE, &rest], &format!("{name}.taken"), vec![]);
    graph.op("Add", &[x, &taken], name, vec![])
}

/// Linear layers `key.0`, `key.2`, .. with ReLU between.
fn perceptron(graph: &mut NetworkGraph, x: &str, key: &str, inputs: i64, layers: usize) -> Result<String, ExportError> {
    let (mut x, mut width) = (x.to_owned(), inputs);
    for n in 0..layers {
        let name = format!("{key}.{}", 2 * n);
        if n > 0 {
            x = graph.op("Relu", &[&x], &format!("{name}.in"), vec![]);
        }
        let outputs = graph.weights.take(&format!("{name}.weight"), &[ANY, width])?.size()[0];
        x = graph.linear(&x, &name, width, &format!("{name}.out"))?;
        width = outputs;
    }
    Ok(x)
}
