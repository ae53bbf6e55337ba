//! Weakly-HOI's network above the backbone as ONNX.

use std::collections::HashMap;

use hoi_quantize::onnx::{ModelProto, attr_int, attr_ints};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::fusion::FusionSpec;
use hoi_runtime::interaction::{IMAGE_LOGITS, RELATEDNESS, VERB_LOGITS};
use hoi_runtime::spatial::SPATIAL_LEN;
use tch::{Device, Kind, Tensor};

use super::detr_bundle::HeadPart;
use super::layers::NetworkGraph;
use super::weights::{ANY, ExportError, Weights};
use crate::network::clip::resized_positions;
use crate::system::weakly_hoi::{Knowledge, WeaklyParts, WeaklyShape};

/// Shares below this are as good as none: their cells get a weight of 1e-30.
const LEAST_SHARE: f32 = 1e-30;

/// A trained head over a map of one size.
#[derive(Clone, Copy, Debug)]
pub struct WeaklyGraph<'a> {
    /// All variables of the model's store.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Sizes.
    pub shape: &'a WeaklyShape,
    /// Parts of the method that the head has.
    pub parts: &'a WeaklyParts,
    /// Rows, columns and channels of the map that goes in.
    pub feature: [usize; 3],
}

/// What the poolings of one map have in common.
struct Pool {
    /// Keys of the cells, `[heads, C / heads, h * w]`.
    keys: String,
    /// Values of the cells, `[heads, h * w, C / heads]`.
    values: String,
}

impl WeaklyGraph<'_> {
    /// The head as a part of a bundle whose scoring rule is `fusion`.
    ///
    /// # Errors
    /// As [`WeaklyGraph::graph`].
    pub fn part(&self, fusion: FusionSpec) -> Result<HeadPart, ExportError> {
        let note = "Human, object and the box around both are read by one attention pooling over all cells of the map, with the logarithm of \
                    each cell's share added to its logit; v_u is the box that encloses both.";
        let (inputs, outputs) = (self.inputs(), self.outputs());
        Ok(HeadPart { graph: self.graph()?, inputs, outputs, fusion, notes: vec![note.to_owned()] })
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
    /// [`ExportError`] naming the weight that is missing, of another shape or not finite.
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        let mut graph = NetworkGraph::new("weakly_hoi_head", Weights::new(self.tensors));
        for spec in self.inputs() {
            graph.input(&spec);
        }
        let pool = self.pool(&mut graph)?;
        let d = self.shape.width;
        let each = self.pooled(&mut graph, &pool, "entity_masks", "entity")?;
        let gathered = ["human", "object"].map(|name| {
            graph.op(
                "Gather",
                &[&each, &format!("{name}_index")],
                &format!("{name}.feature"),
                vec![attr_int("axis", 0)],
            )
        });
        let spatial = perceptron(&mut graph, "spatial", "spatial", SPATIAL_LEN as i64, 3)?;
        let spatial = graph.op("Relu", &[&spatial], "spatial.out", vec![]);
        let joined = [gathered[0].as_str(), &gathered[1], &spatial];
        let joined = graph.op("Concat", &joined, "pair.joined", vec![attr_int("axis", -1)]);
        let mut pairs = perceptron(&mut graph, &joined, "pair", 3 * d, 2)?;
        if let Some(mode) = self.parts.knowledge {
            let meta = self.meta(&mut graph, &pool, mode)?;
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
            self.image(&mut graph, &pool)?;
        }
        if self.parts.recognition {
            // Trained, and not always told: its weights have their place.
            let _ = graph.weights.take("offset", &[])?;
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

    /// Keys and values of the cells.
    fn pool(&self, graph: &mut NetworkGraph) -> Result<Pool, ExportError> {
        let [rows, columns, channels] = self.feature.map(|n| n as i64);
        let (cells, heads) = (rows * columns, self.shape.pool_heads);
        let flat = graph.reshape("feature", &[channels, cells], "cells.flat");
        let flat = graph.transpose(&flat, &[1, 0], "cells");
        let grid = self.shape.pool_grid;
        let table = graph.weights.take("pool.positional_embedding", &[1 + grid * grid, channels])?;
        let table = resized_positions(&table, grid, [rows, columns]);
        let codes = graph.constant("pool.positions", &table.narrow(0, 1, cells))?;
        graph.constant("pool.position", &table.narrow(0, 0, 1))?;
        let placed = graph.op("Add", &[&flat, &codes], "cells.placed", vec![]);
        let mut split = |part: &str, order: &[i64]| -> Result<String, ExportError> {
            let x = graph.linear(&placed, &format!("pool.{part}"), channels, &format!("cells.{part}"))?;
            let x = graph.reshape(&x, &[0, heads, channels / heads], &format!("cells.{part}.split"));
            Ok(graph.transpose(&x, order, &format!("cells.{part}.heads")))
        };
        Ok(Pool { keys: split("k_proj", &[1, 2, 0])?, values: split("v_proj", &[1, 0, 2])? })
    }

    /// Features `[K, D]` of the parts whose shares of the cells are `masks` `[K, h * w]`, each row's sum 1, or 0 where it sees nothing.
    fn pooled(&self, graph: &mut NetworkGraph, pool: &Pool, masks: &str, name: &str) -> Result<String, ExportError> {
        let [rows, columns, channels] = self.feature.map(|n| n as i64);
        let (cells, heads) = (rows * columns, self.shape.pool_heads);
        let depth = channels / heads;
        let part = |what: &str| format!("{name}.{what}");
        // The mean that asks: weighted with the shares, or that of the whole map for a part that sees nothing.
        let whole =
            graph.constant("cells.each", &Tensor::full([1, cells], 1.0 / cells as f64, (Kind::Float, Device::Cpu)))?;
        let whole = graph.op("MatMul", &[&whole, "cells"], &part("whole"), vec![]);
        let ones = graph.constant("cells.ones", &Tensor::ones([cells, 1], (Kind::Float, Device::Cpu)))?;
        let sum = graph.op("MatMul", &[masks, &ones], &part("sum"), vec![]);
        let one = graph.scalar("one", 1.0);
        let missing = graph.op("Sub", &[&one, &sum], &part("missing"), vec![]);
        let rest = graph.op("Mul", &[&missing, &whole], &part("rest"), vec![]);
        let seen = graph.op("MatMul", &[masks, "cells"], &part("seen"), vec![]);
        let mean = graph.op("Add", &[&seen, &rest], &part("mean"), vec![]);
        let own = graph.op("Add", &[&mean, "pool.position"], &part("own"), vec![]);
        let mut split = |projection: &str| -> Result<String, ExportError> {
            let x =
                graph.linear(&own, &format!("pool.{projection}"), channels, &part(&format!("{projection}.flat")))?;
            Ok(graph.reshape(&x, &[0, heads, depth], &part(projection)))
        };
        let (query, key, value) = (split("q_proj")?, split("k_proj")?, split("v_proj")?);
        let factor = graph.scalar("pool.factor", 1.0 / (depth as f32).sqrt());
        let query = graph.op("Mul", &[&query, &factor], &part("query"), vec![]);
        let products = graph.op("Mul", &[&query, &key], &part("products"), vec![]);
        let to_heads = |graph: &mut NetworkGraph, x: &str| graph.transpose(x, &[1, 0, 2], &format!("{x}.heads"));
        let products = to_heads(graph, &products);
        let sums = graph.constant("pool.sums", &Tensor::ones([depth, 1], (Kind::Float, Device::Cpu)))?;
        let own_logit = graph.op("MatMul", &[&products, &sums], &part("own.logit"), vec![]);
        let query = to_heads(graph, &query);
        let logits = graph.op("MatMul", &[&query, &pool.keys], &part("logits"), vec![]);
        // Relative shares: the largest of a row is 1.
        let axes = vec![attr_ints("axes", &[1]), attr_int("keepdims", 1)];
        let most = graph.op("ReduceMax", &[masks], &part("most"), axes);
        let least = graph.scalar("share.least", LEAST_SHARE);
        let most = graph.op("Max", &[&most, &least], &part("most.some"), vec![]);
        let shares = graph.op("Div", &[masks, &most], &part("shares"), vec![]);
        let shares = graph.op("Max", &[&shares, &least], &part("shares.some"), vec![]);
        let shares = graph.op("Log", &[&shares], &part("shares.log"), vec![]);
        let logits = graph.op("Add", &[&logits, &shares], &part("logits.masked"), vec![]);
        let all = graph.op("Concat", &[&own_logit, &logits], &part("all"), vec![attr_int("axis", -1)]);
        let weights = graph.op("Softmax", &[&all], &part("weights"), vec![attr_int("axis", -1)]);
        let on_own = graph.slice(&weights, 2, [0, 1], &part("weights.own"));
        let on_cells = graph.slice(&weights, 2, [1, 1 + cells], &part("weights.cells"));
        let value = to_heads(graph, &value);
        let from_own = graph.op("Mul", &[&on_own, &value], &part("from.own"), vec![]);
        let from_cells = graph.op("MatMul", &[&on_cells, &pool.values], &part("from.cells"), vec![]);
        let drawn = graph.op("Add", &[&from_cells, &from_own], &part("drawn"), vec![]);
        let drawn = graph.transpose(&drawn, &[1, 0, 2], &part("drawn.split"));
        let drawn = graph.reshape(&drawn, &[0, channels], &part("drawn.flat"));
        graph.linear(&drawn, "pool.c_proj", channels, &part("feature"))
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
    fn meta(&self, graph: &mut NetworkGraph, pool: &Pool, mode: Knowledge) -> Result<String, ExportError> {
        let (rows, d) = (self.shape.interactions, self.shape.width);
        if mode == Knowledge::Union {
            return self.pooled(graph, pool, "union_masks", "union");
        }
        let bank = graph.weights.take("bank", &[rows, d])?;
        if mode == Knowledge::Uniform {
            return graph.constant("bank.mean", &bank.mean_dim([0i64].as_slice(), true, Kind::Float));
        }
        let union = self.pooled(graph, pool, "union_masks", "union")?;
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

    /// s_g `[N]`.
    fn image(&self, graph: &mut NetworkGraph, pool: &Pool) -> Result<(), ExportError> {
        let cells = (self.feature[0] * self.feature[1]) as i64;
        let mask = Tensor::full([1, cells], 1.0 / cells as f64, (Kind::Float, Device::Cpu));
        let mask = graph.constant("image.mask", &mask)?;
        let whole = self.pooled(graph, pool, &mask, "image")?;
        let logits = self.cosines(graph, &whole, "image")?;
        let offset = graph.weights.take("offset", &[])?;
        let offset = graph.constant("offset", &offset)?;
        let logits = graph.op("Add", &[&logits, &offset], "image.scores", vec![]);
        graph.reshape(&logits, &[-1], IMAGE_LOGITS);
        Ok(())
    }
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
