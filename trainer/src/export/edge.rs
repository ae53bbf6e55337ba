//! The edge system as ONNX, and the taps that it needs in its detector's graph.

use std::collections::HashMap;

use hoi_quantize::fp16::{LEAST_ELEMENTS, convert};
use hoi_quantize::onnx::{GraphBuilder, ModelProto, OnnxError, attr_int, attr_ints, from_bytes};
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::DecoderSpec;
use hoi_runtime::engine::{Dim, ElementType, TensorSpec};
use hoi_runtime::fusion::FusionSpec;
use hoi_runtime::interaction::VERB_LOGITS;
use hoi_runtime::spatial::SPATIAL_LEN;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use tch::{Kind, Tensor};

use super::detr_bundle::HeadPart;
use super::layout::{Beside, HIDDEN, layout_nodes, verb_layer};
use super::weights::{ExportError, Weights, values};
use crate::system::edge::{ActionTable, EVIDENCE_SCALE, EdgeConfig};
use crate::system::layout::LayoutNetwork;

/// The tensor that [`with_evidence`] adds to a detector's graph: `[1, K, 1, 1]`, the highest value of each class over all boxes.
pub const EVIDENCE_MAP: &str = "evidence.map";

/// Logit of a verb for a pair that says nothing of it: a human alone of verbs that need an object, or a pair of verbs that nobody taught.
const SILENT: f32 = -16.0;

/// Added to probabilities before their logarithm, as in training.
const PROBABILITY_EPS: f32 = 1e-7;

/// The mean square of the map's mean channels times this, at most 1, says whether there is a picture.
const PRESENT: f32 = 1e4;

/// The tensor that [`EdgeGraph::with_relation`] adds to a detector's graph: `[1, R, h, w]`, the relation map.
pub const RELATION_MAP: &str = "relation.map";

/// The graph of a bundle's detector, which must have these tensors.
fn detector_graph(bundle: &ModelBundle, tensors: &[&str]) -> Result<ModelProto, ExportError> {
    let file = &bundle.manifest().detector.file;
    let unusable = |source| ExportError::Detector { file: file.clone(), source };
    let model = from_bytes(bundle.file(file).unwrap_or_default()).map_err(unusable)?;
    let Some(graph) = &model.graph else { return Err(unusable(OnnxError::NoGraph)) };
    let gives = |name: &str| graph.node.iter().any(|node| node.output.iter().any(|output| output == name));
    match tensors.iter().find(|name| !gives(name)) {
        Some(name) => Err(ExportError::NoTensor { file: file.clone(), name: (*name).to_owned() }),
        None => Ok(model),
    }
}

/// Adds nodes and constants of one graph to another; what an earlier run added under the same names goes first.
fn add(model: &mut ModelProto, added: ModelProto) {
    let (Some(graph), Some(mut added)) = (&mut model.graph, added.graph) else { return };
    let outputs: Vec<String> = added.node.iter().flat_map(|node| node.output.clone()).collect();
    let names: Vec<String> = added.initializer.iter().filter_map(|tensor| tensor.name.clone()).collect();
    graph.node.retain(|node| !node.output.iter().any(|output| outputs.contains(output)));
    graph.initializer.retain(|tensor| !tensor.name.as_ref().is_some_and(|name| names.contains(name)));
    graph.node.append(&mut added.node);
    graph.initializer.append(&mut added.initializer);
}

/// Class probabilities of a detector are cut to this and 1 less this before they become logits.
const LEAST_PROBABILITY: f32 = 1e-4;

/// The graph of a bundle's detector with one more tensor, [`EVIDENCE_MAP`]: `scores` is a tensor of it, `[1, boxes, K]`: class logits, or
/// probabilities where the detector is a NanoDet.
///
/// # Errors
/// [`ExportError::Detector`] when the graph cannot be read, [`ExportError::NoTensor`] when it has no such tensor.
pub fn with_evidence(bundle: &ModelBundle, scores: &str) -> Result<ModelProto, ExportError> {
    let mut model = detector_graph(bundle, &[scores])?;
    let mut added = GraphBuilder::new("evidence");
    added
        .node("ReduceMax", &[scores], &["evidence.most"], vec![attr_ints("axes", &[1]), attr_int("keepdims", 1)])
        .initializer_i64("evidence.shape", &[4], &[1, -1, 1, 1]);
    let logits = if matches!(bundle.manifest().detector.decoder, DecoderSpec::Nanodet(_)) {
        // Its graph ends in probabilities.
        added
            .initializer_f32("evidence.low", &[], &[LEAST_PROBABILITY])
            .initializer_f32("evidence.high", &[], &[1.0 - LEAST_PROBABILITY])
            .initializer_f32("evidence.one", &[], &[1.0])
            .node("Clip", &["evidence.most", "evidence.low", "evidence.high"], &["evidence.yes"], vec![])
            .node("Sub", &["evidence.one", "evidence.yes"], &["evidence.no"], vec![])
            .node("Div", &["evidence.yes", "evidence.no"], &["evidence.odds"], vec![])
            .node("Log", &["evidence.odds"], &["evidence.logits"], vec![]);
        "evidence.logits"
    } else {
        "evidence.most"
    };
    added.node("Reshape", &[logits, "evidence.shape"], &[EVIDENCE_MAP], vec![]);
    add(&mut model, added.finish());
    Ok(model)
}

/// A trained edge head.
#[derive(Clone, Copy, Debug)]
pub struct EdgeGraph<'a> {
    /// The model's variables, without those that serve training alone.
    pub tensors: &'a HashMap<String, Tensor>,
    /// Its sizes.
    pub config: &'a EdgeConfig,
    /// Its layout head.
    pub layout: &'a LayoutNetwork,
    /// The vocabulary of the layout head: the first verbs of `vocabulary`.
    pub layout_vocabulary: &'a Vocabulary,
    /// The bundle's vocabulary.
    pub vocabulary: &'a Vocabulary,
    /// The actions in it.
    pub actions: &'a ActionTable,
}

impl EdgeGraph<'_> {
    /// The head as a part of a bundle.
    ///
    /// # Errors
    /// As [`EdgeGraph::graph`].
    pub fn part(&self, fusion: FusionSpec) -> Result<HeadPart, ExportError> {
        let notes = vec![
            "Without a picture (maps of zeros) the head says what its layout head says.".to_owned(),
            "A pair of a human with itself and an object's class asks for that object at an unknown place.".to_owned(),
        ];
        Ok(HeadPart { graph: self.graph()?, inputs: self.inputs(), outputs: self.outputs(), fusion, notes })
    }

    /// The inputs that the head takes, by the names of the head's contract.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        let [rows, columns] = self.config.grid.map(|n| n as usize);
        let symbol = |s: &str| Dim::Symbol(s.to_owned());
        let cells = || Dim::Fixed(rows * columns);
        let map = |k: usize, shape: [usize; 3]| {
            let [c, h, w] = shape.map(Dim::Fixed);
            TensorSpec::f32(feature_name(k), vec![Dim::Fixed(1), c, h, w])
        };
        let mut inputs = vec![map(0, [self.config.relation as usize, rows, columns])];
        if self.config.evidence > 0 {
            inputs.push(map(1, [self.config.evidence as usize, 1, 1]));
        }
        inputs.push(TensorSpec::f32("entity_masks", vec![symbol("N"), cells()]));
        inputs.push(TensorSpec::f32("upper_masks", vec![symbol("N"), cells()]));
        if self.config.remined > 0 {
            inputs.push(TensorSpec::f32("pair_masks", vec![symbol("P"), cells()]));
        }
        inputs.push(TensorSpec::f32("spatial", vec![symbol("P"), Dim::Fixed(SPATIAL_LEN)]));
        inputs.push(TensorSpec::i64("object_class", vec![symbol("P")]));
        inputs.push(TensorSpec::i64("human_index", vec![symbol("P")]));
        inputs.push(TensorSpec::i64("object_index", vec![symbol("P")]));
        if self.config.layout.heads > 0 {
            for name in ["pairs_of_human", "pairs_of_object"] {
                inputs.push(TensorSpec::f32(name, vec![symbol("N"), symbol("P")]));
            }
        }
        inputs
    }

    /// `verb_logits` `[P, V]`.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        let verbs = Dim::Fixed(self.vocabulary.verb_count());
        vec![TensorSpec::f32(VERB_LOGITS, vec![Dim::Symbol("P".to_owned()), verbs])]
    }

    /// The graph (opset 17); N and P are symbolic.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, of another shape or not finite.
    pub fn graph(&self) -> Result<ModelProto, ExportError> {
        let mut nodes = Nodes { graph: GraphBuilder::new("edge_head"), weights: Weights::new(self.tensors) };
        for spec in self.inputs() {
            nodes.graph.input(&spec.name, spec.element, &spec.shape);
        }
        self.look(&mut nodes)?;
        let seen = self.remine(&mut nodes)?;
        nodes
            .graph
            .node("Equal", &["human_index", "object_index"], &["same"], vec![])
            .node("Cast", &["same"], &["alone"], vec![attr_int("to", FLOAT)])
            .node("Cast", &["same"], &["alone.count"], vec![attr_int("to", INT64)]);
        nodes.graph.initializer_i64("last.axis", &[1], &[1]);
        nodes.constant("unit", &[], &[1.0])?;
        nodes.graph.node("Sub", &["unit", "alone"], &["counted.row"], vec![]).node(
            "Unsqueeze",
            &["counted.row", "last.axis"],
            &["counted"],
            vec![],
        );
        let beside = Beside { seen: seen.as_ref().map(|weight| ("remined.cue", weight)), counted: Some("counted") };
        layout_nodes(&mut nodes.graph, self.layout, beside)?;
        self.combine(&mut nodes)?;
        for spec in self.outputs() {
            nodes.graph.output(&spec.name, ElementType::F32, &spec.shape);
        }
        // The relation map's weights are in the detector's graph.
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| name.starts_with("relate.")) {
            let _ = nodes.take(name, &tensor.size())?;
        }
        nodes.weights.all_taken()?;
        Ok(nodes.graph.finish())
    }

    /// The graph of a bundle's detector with one more tensor, [`RELATION_MAP`]: one linear layer over the standardised roots of the channels of
    /// `taps`, cell by cell, stored in 16 bits.
    ///
    /// # Errors
    /// As [`with_evidence`], and [`ExportError`] naming a weight that is missing, of another shape or not finite.
    pub fn with_relation(&self, bundle: &ModelBundle, taps: &[String]) -> Result<ModelProto, ExportError> {
        let names: Vec<&str> = taps.iter().map(String::as_str).collect();
        let mut model = detector_graph(bundle, &names)?;
        let EdgeConfig { maps, factors, relation, .. } = self.config;
        let channels = self.config.channels();
        let mut nodes = Nodes { graph: GraphBuilder::new("relation"), weights: Weights::new(self.tensors) };
        let [mean, deviation] = [nodes.take("relate.mean", &[channels])?, nodes.take("relate.deviation", &[channels])?];
        let parts: Result<Vec<Tensor>, ExportError> =
            maps.iter().enumerate().map(|(k, &c)| nodes.take(&format!("relate.map.{k}"), &[c, *relation])).collect();
        // (x - m) / d W = x (W / d) - (m / d) W
        let matrix = Tensor::cat(&parts?, 0);
        let bias = (&mean / &deviation).unsqueeze(0).matmul(&matrix).squeeze_dim(0).neg();
        let kernel = (matrix / deviation.unsqueeze(1)).transpose(0, 1).contiguous();
        nodes.tensor("relation.weight", &kernel.view([*relation, channels, 1, 1]))?;
        nodes.tensor("relation.bias", &bias)?;
        for (k, (tap, &factor)) in taps.iter().zip(factors).enumerate() {
            let (root, fine) = (format!("relation.root.{k}"), format!("relation.root.{k}.fine"));
            if factor == 1 {
                nodes.graph.node("Sqrt", &[tap], &[&root], vec![]);
            } else {
                let attributes = vec![attr_ints("kernel_shape", &[factor; 2]), attr_ints("strides", &[factor; 2])];
                nodes.graph.node("Sqrt", &[tap], &[&fine], vec![]).node("AveragePool", &[&fine], &[&root], attributes);
            }
        }
        let roots: Vec<String> = (0..taps.len()).map(|k| format!("relation.root.{k}")).collect();
        let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
        nodes.graph.node("Concat", &roots, &["relation.roots"], vec![attr_int("axis", 1)]).node(
            "Conv",
            &["relation.roots", "relation.weight", "relation.bias"],
            &[RELATION_MAP],
            vec![attr_ints("kernel_shape", &[1, 1])],
        );
        let mut added = nodes.graph.finish();
        convert(&mut added, LEAST_ELEMENTS);
        add(&mut model, added);
        Ok(model)
    }

    /// From the relation map to `heard.pair` `[N, I + 1]`: what each person is heard to do, and `present` `[1, 1]`: whether there is a picture.
    fn look(&self, nodes: &mut Nodes<'_>) -> Result<(), ExportError> {
        let EdgeConfig { relation, evidence, evidence_projected, hidden, actions, .. } = self.config;
        let (width, count) = (*relation, actions.len() as i64);
        let inputs = 3 * width + if *evidence > 0 { *evidence_projected } else { 0 };
        let matrix = nodes.take("look.hidden.weight", &[*hidden, inputs])?.transpose(0, 1);
        let mut bias = nodes.take("look.hidden.bias", &[*hidden])?;
        let cells = self.config.grid.iter().product::<i64>();
        nodes.shape("map.shape", &[width, cells]);
        nodes
            .graph
            .node("Reshape", &["feature", "map.shape"], &["map.flat"], vec![])
            .node("Transpose", &["map.flat"], &["map.rows"], vec![attr_ints("perm", &[1, 0])])
            .node("ReduceMean", &["map.rows"], &["map.whole"], vec![attr_ints("axes", &[0]), attr_int("keepdims", 1)])
            .node("MatMul", &["entity_masks", "map.rows"], &["map.box"], vec![])
            .node("MatMul", &["upper_masks", "map.rows"], &["map.upper"], vec![]);
        // What is the same for all entities first, so that there is one sum a person at the end.
        let mut summands: Vec<String> = Vec::new();
        for (view, name) in [(2, "whole"), (0, "box"), (1, "upper")] {
            let [weight, sum] = ["weight", "sum"].map(|suffix| format!("look.{name}.{suffix}"));
            nodes.tensor(&weight, &matrix.narrow(0, view * width, width))?;
            nodes.graph.node("MatMul", &[&format!("map.{name}"), &weight], &[&sum], vec![]);
            summands.push(sum);
        }
        if *evidence > 0 {
            let k2 = 2 * evidence;
            let [mean, deviation] =
                [nodes.take("look.evidence_mean", &[k2])?, nodes.take("look.evidence_deviation", &[k2])?];
            let projection = nodes.take("look.evidence", &[k2, *evidence_projected])?;
            let part = matrix.narrow(0, 3 * width, *evidence_projected);
            let both = projection.matmul(&part);
            bias -= (&mean / &deviation).unsqueeze(0).matmul(&both).squeeze_dim(0);
            nodes.tensor("evidence.weight", &(both / deviation.unsqueeze(1)))?;
            nodes.shape("evidence.row.shape", &[1, *evidence]);
            nodes.constant("evidence.scale", &[], &[EVIDENCE_SCALE as f32])?;
            nodes
                .graph
                .node("Reshape", &["feature_1", "evidence.row.shape"], &["evidence.row"], vec![])
                .node("Sigmoid", &["evidence.row"], &["evidence.odds"], vec![])
                .node("Mul", &["evidence.row", "evidence.scale"], &["evidence.scaled"], vec![])
                .node("Concat", &["evidence.odds", "evidence.scaled"], &["evidence.forms"], vec![attr_int("axis", 1)])
                .node("MatMul", &["evidence.forms", "evidence.weight"], &["evidence.sum"], vec![]);
            summands.insert(1, "evidence.sum".to_owned());
        } else {
            let _ = nodes.take("look.evidence_mean", &[0])?;
            let _ = nodes.take("look.evidence_deviation", &[0])?;
        }
        nodes.tensor("look.bias", &bias)?;
        let mut sum = "look.bias".to_owned();
        for (i, summand) in summands.iter().enumerate() {
            let next = format!("look.sum.{i}");
            nodes.graph.node("Add", &[summand, &sum], &[&next], vec![]);
            sum = next;
        }
        let to_actions = nodes.take("look.actions.weight", &[count + 1, *hidden])?.transpose(0, 1);
        let action_bias = nodes.take("look.actions.bias", &[count + 1])?;
        nodes.tensor("actions.weight", &to_actions)?;
        nodes.tensor("actions.bias", &action_bias)?;
        // A column for none of the actions, which nobody hears.
        let with_none = |t: Tensor| t.constant_pad_nd([0, 1]);
        let scale = with_none(nodes.take("hear.scale", &[count])?);
        let offset = with_none(nodes.take("hear.offset", &[count])?);
        nodes.tensor("hear.scale", &scale)?;
        nodes.tensor("hear.offset", &offset)?;
        nodes.tensor("hear.least", &with_none(nodes.take("hear.least", &[count])?))?;
        nodes.constant("tiny", &[], &[PROBABILITY_EPS])?;
        nodes.constant("unit.and.tiny", &[], &[1.0 + PROBABILITY_EPS])?;
        nodes.constant("present.gain", &[], &[PRESENT])?;
        nodes.constant("present.low", &[], &[0.0])?;
        nodes.constant("present.high", &[], &[1.0])?;
        nodes
            .graph
            .node("Relu", &[&sum], &["look.hidden"], vec![])
            .node("MatMul", &["look.hidden", "actions.weight"], &["actions.product"], vec![])
            .node("Add", &["actions.product", "actions.bias"], &["actions"], vec![])
            .node("Softmax", &["actions"], &["actions.share"], vec![attr_int("axis", 1)])
            .node("Add", &["actions.share", "tiny"], &["actions.yes"], vec![])
            .node("Sub", &["unit.and.tiny", "actions.share"], &["actions.no"], vec![])
            .node("Log", &["actions.yes"], &["actions.log_yes"], vec![])
            .node("Log", &["actions.no"], &["actions.log_no"], vec![])
            .node("Sub", &["actions.log_yes", "actions.log_no"], &["actions.logit"], vec![])
            .node("Mul", &["actions.logit", "hear.scale"], &["heard.scaled"], vec![])
            .node("Add", &["heard.scaled", "hear.offset"], &["heard.unbounded"], vec![])
            .node("Max", &["heard.unbounded", "hear.least"], &["heard.pair"], vec![])
            .node("Mul", &["map.whole", "map.whole"], &["present.squares"], vec![])
            .node(
                "ReduceMean",
                &["present.squares"],
                &["present.mean"],
                vec![attr_ints("axes", &[1]), attr_int("keepdims", 1)],
            )
            .node("Mul", &["present.mean", "present.gain"], &["present.scaled"], vec![])
            .node("Clip", &["present.scaled", "present.low", "present.high"], &["present"], vec![]);
        Ok(())
    }

    /// `remined.cue` `[P, remined]`, and its weight `[remined, hidden]` in the layout head's first layer; `None` where nothing is re-mined.
    fn remine(&self, nodes: &mut Nodes<'_>) -> Result<Option<Tensor>, ExportError> {
        let remined = self.config.remined;
        if remined == 0 {
            return Ok(None);
        }
        let relation = self.config.relation;
        let cue = nodes.take("remine.cue", &[relation, remined])?;
        nodes.tensor("remined.projection", &cue)?;
        let pair = nodes.take("remine.pair", &[remined, self.config.layout.hidden])?;
        nodes
            .graph
            .node("MatMul", &["map.rows", "remined.projection"], &["remined.map"], vec![])
            .node("MatMul", &["pair_masks", "remined.map"], &["remined.roi"], vec![])
            .node("Relu", &["remined.roi"], &["remined.cue"], vec![]);
        Ok(Some(pair))
    }

    /// `verb_logits` from what the layout head says and what is heard of the person.
    ///
    /// Tables have a row for each class as the object of a pair, then one for each class as the object that a human alone is asked of; there
    /// the human's own class stands for no object. What is heard has two rows a human: what its pairs hear, and what it says alone.
    fn combine(&self, nodes: &mut Nodes<'_>) -> Result<(), ExportError> {
        let (objects, verbs) = (self.vocabulary.object_count(), self.vocabulary.verb_count());
        let (own_verbs, count) = (self.layout_vocabulary.verb_count(), self.actions.actions.len());
        let human = usize::from(self.vocabulary.human().0);
        let columns = count + 1;
        let [weight, bias] = verb_layer(self.layout);
        let bias = values(&bias);
        // What a pair of the row says of a verb before anything is seen or heard.
        let mut first = vec![SILENT; 2 * objects * verbs];
        for row in first.chunks_mut(verbs).take(objects) {
            row[..own_verbs].copy_from_slice(&bias);
        }
        // Of a human alone the layout head says nothing, nor where it was not taught what the photos taught.
        let mut taught = vec![1f32; 2 * objects * verbs];
        taught[objects * verbs..].fill(0.0);
        let mut hears = vec![0f32; 2 * objects * columns];
        let mut to_verbs = vec![0f32; columns * verbs];
        for (column, (&(verb, object), &known)) in self.actions.actions.iter().zip(&self.actions.in_layout).enumerate()
        {
            let verb = usize::from(verb.0);
            to_verbs[column * verbs + verb] = 1.0;
            if let Some(ObjectClass(class)) = object {
                let row = usize::from(class);
                hears[row * columns + column] = 1.0;
                if !known {
                    first[row * verbs + verb] = 0.0;
                    taught[row * verbs + verb] = 0.0;
                }
            }
            let row = objects + object.map_or(human, |ObjectClass(class)| usize::from(class));
            hears[row * columns + column] = 1.0;
            first[row * verbs + verb] = 0.0;
        }
        let rows = 2 * objects;
        nodes.constant("table.first", &[rows, verbs], &first)?;
        nodes.constant("table.hears", &[rows, columns], &hears)?;
        nodes.constant("table.taught", &[rows, verbs], &taught)?;
        nodes.constant("action.verbs", &[columns, verbs], &to_verbs)?;
        nodes.tensor("verbs.weight", &weight.constant_pad_nd([0, (verbs - own_verbs) as i64]))?;
        nodes.graph.initializer_i64("rows.alone", &[2], &[0, objects as i64]).initializer_i64(
            "rows.a.human",
            &[],
            &[2],
        );
        nodes.shape("heard.shape", &[-1, columns as i64]);
        let gather = |graph: &mut GraphBuilder, table: &str, index: &str, output: &str| {
            graph.node("Gather", &[table, index], &[output], vec![attr_int("axis", 0)]);
        };
        let graph = &mut nodes.graph;
        // A product of integers takes ten times as long as the look into a table.
        gather(graph, "rows.alone", "alone.count", "alone.rows");
        graph.node("Add", &["object_class", "alone.rows"], &["table.row"], vec![]);
        gather(graph, "table.taught", "table.row", "pair.taught");
        graph.node("MatMul", &[HIDDEN, "verbs.weight"], &["layout.all"], vec![]).node(
            "Mul",
            &["layout.all", "pair.taught"],
            &["layout.taught"],
            vec![],
        );
        graph.node("Concat", &["heard.pair", "actions.logit"], &["heard.both"], vec![attr_int("axis", 1)]).node(
            "Mul",
            &["heard.both", "present"],
            &["heard.present"],
            vec![],
        );
        graph
            .node("Reshape", &["heard.present", "heard.shape"], &["heard.rows"], vec![])
            .node("Mul", &["human_index", "rows.a.human"], &["human.row"], vec![])
            .node("Add", &["human.row", "alone.count"], &["heard.row"], vec![]);
        gather(graph, "heard.rows", "heard.row", "human.heard");
        gather(graph, "table.hears", "table.row", "pair.hears");
        gather(graph, "table.first", "table.row", "pair.first");
        graph
            .node("Mul", &["human.heard", "pair.hears"], &["heard"], vec![])
            .node("MatMul", &["heard", "action.verbs"], &["heard.verbs"], vec![])
            .node("Add", &["layout.taught", "pair.first"], &["verbs.first"], vec![])
            .node("Add", &["verbs.first", "heard.verbs"], &[VERB_LOGITS], vec![]);
        Ok(())
    }
}

/// ONNX's number of 32-bit floats.
const FLOAT: i64 = 1;

/// ONNX's number of 64-bit integers.
const INT64: i64 = 7;

/// Name of the head input that holds map `k`.
pub(crate) fn feature_name(k: usize) -> String {
    if k == 0 { "feature".to_owned() } else { format!("feature_{k}") }
}

/// A graph and the weights that go into it.
struct Nodes<'a> {
    graph: GraphBuilder,
    weights: Weights<'a>,
}

impl Nodes<'_> {
    fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ExportError> {
        self.weights.take(name, shape)
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), ExportError> {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let tensor = tensor.to_kind(Kind::Float);
        self.constant(name, &shape, &values(&tensor))
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), ExportError> {
        if !values.iter().all(|v| v.is_finite()) {
            return Err(ExportError::NotFinite { name: name.to_owned() });
        }
        self.graph.initializer_f32(name, shape, values);
        Ok(())
    }

    fn shape(&mut self, name: &str, lengths: &[i64]) {
        self.graph.initializer_i64(name, &[lengths.len()], lengths);
    }
}
