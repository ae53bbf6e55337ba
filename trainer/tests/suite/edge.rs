//! The edge head in the runtime's engine says what the network says, and what each of its parts says alone.

use std::collections::HashMap;
use std::path::Path;

use hoi_quantize::onnx::{self, GraphBuilder};
use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use hoi_runtime::detector::DetectorSpec;
use hoi_runtime::engine::{Dim, ElementType, Engine, GraphRequest, Model, Tensor, TractEngine};
use hoi_runtime::fusion::{FusionSpec, TripletNms};
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::HumanObjectPair;
use hoi_runtime::spatial::{FeatureGrid, entity_masks, pair_masks, upper_masks};
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};
use hoi_trainer::dataset::hico_det::InteractionTable;
use hoi_trainer::dataset::layout::LayoutSample;
use hoi_trainer::dataset::stanford40::{ACTIONS, with_actions};
use hoi_trainer::export::{EVIDENCE_MAP, EdgeGraph, RELATION_MAP, with_evidence};
use hoi_trainer::system::edge::{
    ActionTable, EdgeBatch, EdgeConfig, EdgeModel, EdgeNetwork, PhotoLook, Photos, TrainWeights, load_model,
    save_model, train,
};
use hoi_trainer::system::layout::{LayoutNetwork, LayoutShape, Standardisation};
use hoi_trainer::system::run::{RunConfig, RunIdentity, RunOptions, Trainer};
use indicatif::ProgressBar;
use ndarray::{Array, Array2, Axis, concatenate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor as Values, no_grad};

use crate::export::{inputs, random_sample};

const GRID: [usize; 2] = [4, 5];
const MAPS: [usize; 2] = [6, 3];
/// Cells of each map along a side of a cell of the grid.
const FACTORS: [usize; 2] = [1, 2];
const CLASSES: usize = 7;

fn vocabularies() -> (Vocabulary, Vocabulary) {
    let layout = InteractionTable::published().unwrap().vocabulary().clone();
    let both = with_actions(layout.spec()).unwrap();
    (layout, both)
}

fn config() -> EdgeConfig {
    EdgeConfig {
        layout: LayoutShape { objects: 80, verbs: 117, hidden: 32, embedding: 8, heads: 8 },
        grid: GRID.map(|n| n as i64),
        maps: MAPS.map(|n| n as i64).to_vec(),
        factors: FACTORS.map(|n| n as i64).to_vec(),
        evidence: CLASSES as i64,
        relation: 5,
        evidence_projected: 4,
        hidden: 12,
        remined: 6,
        veto: 2.0,
        actions: ACTIONS.iter().map(|(_, v, o)| ((*v).to_owned(), o.map(str::to_owned))).collect(),
    }
}

fn layout() -> LayoutNetwork {
    let rows = random_sample(20, 20, 80, 500).spatial();
    LayoutNetwork::new(config().layout, Standardisation::of_rows(&rows), 3, Device::Cpu)
}

fn model(weights: &TrainWeights) -> EdgeModel {
    let (layout_vocabulary, vocabulary) = vocabularies();
    let table = ActionTable::new(&config().actions, &vocabulary, &layout_vocabulary).unwrap();
    EdgeModel::new(&config(), layout(), table, weights, None, Device::Cpu)
}

/// A model in which nothing is as it starts.
fn disturbed() -> EdgeModel {
    tch::manual_seed(7);
    let model = model(&TrainWeights::default());
    no_grad(|| {
        for (name, mut variable) in model.store.variables() {
            let random = Values::randn(variable.size(), (Kind::Float, Device::Cpu)) * 0.5;
            variable.copy_(&if name.contains("deviation") { random.abs() + 0.5 } else { random });
        }
    });
    model
}

/// A person with objects, one of which is the object of an action that the layout head knows (bicycle) and one of an action that it does not know (car).
fn sample() -> LayoutSample {
    let mut sample = random_sample(1, 3, 80, 3);
    for (entity, class) in sample.entities.iter_mut().zip([0, 1, 2, 56]) {
        entity.class = ObjectClass(class);
    }
    sample
}

fn grid() -> FeatureGrid {
    FeatureGrid { rows: GRID[0], columns: GRID[1], picture: Size { width: 640, height: 480 } }
}

/// Two maps of the detector and its class scores.
fn features(seed: u64, scale: f32) -> Vec<(&'static str, Tensor, FeatureGrid)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |shape: [usize; 4], low: f32| {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| scale * rng.random_range(low..2.0)).collect();
        Tensor::F32(Array::from_shape_vec(shape.to_vec(), values).unwrap())
    };
    vec![
        ("feature", random([1, MAPS[0], GRID[0], GRID[1]], 0.0), grid()),
        ("feature_1", random([1, MAPS[1], FACTORS[1] * GRID[0], FACTORS[1] * GRID[1]], 0.0), grid()),
        ("feature_2", random([1, CLASSES, 1, 1], -3.0), grid()),
    ]
}

/// The means of the roots of all channels over these masks.
fn pooled(masks: &Array2<f32>, features: &[(&str, Tensor, FeatureGrid)]) -> Values {
    let parts: Vec<Array2<f32>> = features[..MAPS.len()]
        .iter()
        .zip(MAPS.into_iter().zip(FACTORS))
        .map(|((_, map, _), (channels, factor))| {
            let map = map.as_f32().unwrap();
            let mean = Array2::from_shape_fn((channels, GRID[0] * GRID[1]), |(c, cell)| {
                let (y, x) = (cell / GRID[1] * factor, cell % GRID[1] * factor);
                let block = map.slice(ndarray::s![0, c, y..y + factor, x..x + factor]);
                block.mapv(f32::sqrt).mean().unwrap()
            });
            masks.dot(&mean.t())
        })
        .collect();
    let all = concatenate(Axis(1), &parts.iter().map(|p| p.view()).collect::<Vec<_>>()).unwrap();
    let shape = [all.nrows() as i64, all.ncols() as i64];
    Values::from_slice(&all.iter().copied().collect::<Vec<_>>()).view(shape)
}

fn look(sample: &LayoutSample, features: &[(&str, Tensor, FeatureGrid)]) -> PhotoLook {
    let person = [sample.entities[0].bbox];
    let whole = Array2::from_elem((1, GRID[0] * GRID[1]), 1.0 / (GRID[0] * GRID[1]) as f32);
    let parts = [entity_masks(&person, grid()), upper_masks(&person, grid()), whole];
    let masks = concatenate(Axis(0), &parts.iter().map(|m| m.view()).collect::<Vec<_>>()).unwrap();
    let boxes: Vec<_> =
        sample.pairs.iter().map(|p| (sample.entities[p.human].bbox, sample.entities[p.object].bbox)).collect();
    let evidence: Vec<f32> = features[2].1.as_f32().unwrap().iter().copied().collect();
    let of_pairs = pair_masks(&boxes, grid());
    let covered = Values::from_slice(&of_pairs.sum_axis(Axis(1)).to_vec()).view([-1, 1]);
    PhotoLook {
        sample: sample.clone(),
        pooled: pooled(&masks, features),
        evidence: Values::from_slice(&evidence),
        of_pairs: Values::cat(&[pooled(&of_pairs, features), covered], 1),
    }
}

/// A detector's graph that hands out what it is given, with the relation map added.
fn relation(graph: &EdgeGraph<'_>, features: &[(&'static str, Tensor, FeatureGrid)]) -> Tensor {
    let base = ModelBundle::builtin().unwrap();
    let mut parts = BundleParts::from_bundle(&base);
    let mut detector = GraphBuilder::new("detector");
    let shape = |t: &Tensor| t.shape().iter().copied().map(Dim::Fixed).collect::<Vec<_>>();
    let maps = &features[..MAPS.len()];
    for (k, (_, map, _)) in maps.iter().enumerate() {
        detector.input(&format!("in.{k}"), ElementType::F32, &shape(map));
        detector.node("Relu", &[&format!("in.{k}")], &[&format!("map.{k}")], vec![]);
    }
    detector.output("map.0", ElementType::F32, &shape(&maps[0].1));
    parts.files.insert(parts.manifest.detector.file.clone(), onnx::to_bytes(&detector.finish()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let bundle = write_bundle(&folder.path().join("bundle"), parts).unwrap();
    let taps = ["map.0".to_owned(), "map.1".to_owned()];
    let mut with = graph.with_relation(&bundle, &taps).unwrap();
    // Twice is once.
    let again = graph.with_relation(&bundle, &taps).unwrap();
    assert_eq!(onnx::to_bytes(&with).unwrap(), onnx::to_bytes(&again).unwrap());
    let error = graph.with_relation(&bundle, &["nowhere".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("no tensor `nowhere`"), "{error}");
    with.graph.as_mut().unwrap().output.clear();
    let request = GraphRequest { inputs: vec![], outputs: vec![RELATION_MAP.into()] };
    let mut described = GraphBuilder::new("x");
    described.output(RELATION_MAP, ElementType::F32, &[1, 5, GRID[0], GRID[1]].map(Dim::Fixed));
    with.graph.as_mut().unwrap().output = described.finish().graph.unwrap().output;
    let model = TractEngine::new(1).load(&onnx::to_bytes(&with).unwrap(), &request).unwrap();
    model.run(maps.iter().map(|m| m.1.clone()).collect()).unwrap().remove(0)
}

/// What the head gets of these maps: the relation map and the class scores.
fn seen(
    model: &EdgeModel,
    features: &[(&'static str, Tensor, FeatureGrid)],
) -> Vec<(&'static str, Tensor, FeatureGrid)> {
    let map = with_graph(model, |graph| relation(graph, features));
    vec![("feature", map, grid()), ("feature_1", features[2].1.clone(), grid())]
}

/// A picture that is not there.
fn unseen() -> Vec<(&'static str, Tensor, FeatureGrid)> {
    let zeros = |shape: [usize; 4]| Tensor::F32(ndarray::ArrayD::zeros(shape.to_vec()));
    vec![("feature", zeros([1, 5, GRID[0], GRID[1]]), grid()), ("feature_1", zeros([1, CLASSES, 1, 1]), grid())]
}

/// Does something with the graph of a model that was written and read again.
fn with_graph<T>(model: &EdgeModel, work: impl FnOnce(&EdgeGraph<'_>) -> T) -> T {
    let (layout_vocabulary, vocabulary) = vocabularies();
    let table = ActionTable::new(&config().actions, &vocabulary, &layout_vocabulary).unwrap();
    let folder = tempfile::tempdir().unwrap();
    save_model(&model.store, &model.network, &vocabulary, serde_json::Value::Null, folder.path()).unwrap();
    let (store, network, ..) = load_model(folder.path(), layout(), Device::Cpu).unwrap();
    let tensors: HashMap<String, Values> = store.variables();
    work(&EdgeGraph {
        tensors: &tensors,
        config: network.config(),
        layout: network.layout(),
        layout_vocabulary: &layout_vocabulary,
        vocabulary: &vocabulary,
        actions: &table,
    })
}

fn exported(model: &EdgeModel) -> Box<dyn Model> {
    let fusion = FusionSpec::DetrPrior {
        lambda: 1.0,
        triplet_nms: TripletNms { iou: 0.7, human_power: 1.0, object_power: 0.5 },
        max_triplets: 10,
        calibration: None,
    };
    let part = with_graph(model, |graph| graph.part(fusion).unwrap());
    let bytes = onnx::to_bytes(&part.graph).unwrap();
    let request = GraphRequest { inputs: part.inputs, outputs: vec!["verb_logits".into()] };
    TractEngine::new(1).load(&bytes, &request).unwrap()
}

/// The pairs of a sample followed by a question for each action.
fn asking(sample: &LayoutSample, vocabulary: &Vocabulary) -> (LayoutSample, Vec<i64>) {
    let mut classes = sample.object_class();
    let mut all = sample.clone();
    for (_, _, object) in ACTIONS {
        all.pairs.push(HumanObjectPair { human: 0, object: 0 });
        classes.push(object.map_or(0, |name| i64::from(vocabulary.object(name).unwrap().0)));
    }
    (all, classes)
}

fn run(model: &dyn Model, sample: &LayoutSample, classes: &[i64], maps: &[(&str, Tensor, FeatureGrid)]) -> Array2<f32> {
    let logits = model.run(inputs(model, sample, classes, maps)).unwrap();
    logits[0].as_f32().unwrap().clone().into_dimensionality().unwrap()
}

#[test]
fn the_engine_says_what_the_network_says() {
    let (layout_vocabulary, vocabulary) = vocabularies();
    let table = ActionTable::new(&config().actions, &vocabulary, &layout_vocabulary).unwrap();
    let model = disturbed();
    let graph = exported(&model);
    let sample = sample();
    let maps = features(1, 1.0);
    let photo = look(&sample, &maps);
    let batch = EdgeBatch::new(&[&photo], Device::Cpu);
    let output = no_grad(|| model.network.forward(&batch, [0.0; 2]));
    let of_actions: Vec<Vec<f32>> =
        Vec::try_from(no_grad(|| model.network.of_actions(&output, &batch, &table))).unwrap();
    let own: Vec<Vec<f32>> = Vec::try_from(&output.layout).unwrap();
    let (all, classes) = asking(&sample, &vocabulary);
    let maps = seen(&model, &maps);
    let found = run(graph.as_ref(), &all, &classes, &maps);
    assert_eq!(found.dim(), (3 + 40, vocabulary.verb_count()));

    let close = |a: f32, b: f32, what: &str| assert!((a - b).abs() < 5e-4 * a.abs().max(1.0), "{what}: {a} {b}");
    let mut compared = 0;
    for (m, pair) in sample.pairs.iter().enumerate() {
        let class = sample.entities[pair.object].class;
        for (a, (verb, object)) in table.actions.iter().enumerate() {
            if *object == Some(class) {
                close(of_actions[m][a], found[[m, usize::from(verb.0)]], "an action of a pair");
                compared += 1;
            }
        }
        for verb in layout_vocabulary.valid_verbs(class) {
            if !table.actions.contains(&(*verb, Some(class))) {
                let v = usize::from(verb.0);
                close(own[m][v], found[[m, v]], "a verb of the layout head");
                compared += 1;
            }
        }
    }
    assert!(compared > 10, "{compared}");
    // Riding and repairing a bicycle; repairing a car, which HICO-DET does not know: the layout head has no part in that.
    assert!(table.in_layout.iter().filter(|known| !**known).count() > 20);
    let shares: Vec<Vec<f32>> = Vec::try_from(output.actions.softmax(-1, Kind::Float)).unwrap();
    for (a, (verb, _)) in table.actions.iter().enumerate() {
        // With the constant that keeps both logarithms finite.
        let p = shares[0][a];
        close(((p + 1e-7) / (1.0 - p + 1e-7)).ln(), found[[3 + a, usize::from(verb.0)]], "an answer");
    }
    // Questions do not change what pairs say.
    let alone = run(graph.as_ref(), &sample, &sample.object_class(), &maps);
    for (a, b) in alone.iter().zip(&found) {
        close(*a, *b, "without questions");
    }
}

#[test]
fn without_a_picture_it_is_the_layout_head() {
    let model = disturbed();
    let graph = exported(&model);
    for (humans, others, pairs) in [(2, 5, 12), (1, 1, 1), (3, 0, 6)] {
        let sample = random_sample(humans, others, 80, pairs);
        let found = run(graph.as_ref(), &sample, &sample.object_class(), &unseen());
        let expected = layout().logits(&sample);
        for (m, row) in found.rows().into_iter().enumerate() {
            for v in 0..117 {
                let (a, b) = (row[v], expected[m * 117 + v]);
                assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "pair {m}, verb {v}: {a} {b}");
            }
        }
    }
}

/// Photos in which one channel tells the action.
fn telling(count: usize) -> (Vec<PhotoLook>, Vec<Option<usize>>) {
    let sample = sample();
    (0..count)
        .map(|i| {
            // Riding a bicycle, or applauding.
            let action = if i % 2 == 0 { 24 } else { 0 };
            let mut maps = features(i as u64, 0.2);
            if let Tensor::F32(map) = &mut maps[0].1 {
                map.index_axis_mut(Axis(1), 2).fill(if i % 2 == 0 { 3.0 } else { 0.1 });
            }
            (look(&sample, &maps), Some(action))
        })
        .unzip()
}

/// A model that learned from 64 made-up photos.
fn trained(kept: f64) -> EdgeModel {
    let folder = tempfile::tempdir().unwrap();
    tch::manual_seed(1);
    let weights = TrainWeights { input_dropout: 0.0, dropout: 0.0, kept, ..TrainWeights::default() };
    let model = model(&weights);
    let (looks, actions) = telling(64);
    model.prepare(&looks);
    let config = RunConfig { epochs: 20, batch: 16, learning_rate: 1e-2, ..RunConfig::default() };
    let progress = ProgressBar::hidden();
    let options = RunOptions {
        folder: folder.path(),
        resume: false,
        stop_after: None,
        checkpoint_every: None,
        progress: &progress,
    };
    let identity = RunIdentity { system: serde_json::Value::Null, data: "made up".into() };
    let mut trainer = Trainer::start(&model.store, &[], &config, identity, &options).unwrap();
    let views = [looks];
    let photos = Photos { views: &views, actions: &actions, teachers: None };
    train(&model, &photos, &mut trainer, &config, |_| Vec::new()).unwrap();
    trainer.keep_average();
    model
}

#[test]
fn training_learns_the_action_and_the_pair() {
    let model = trained(TrainWeights::default().kept);
    let (fresh, expected) = telling(60);
    let all: Vec<&PhotoLook> = fresh.iter().collect();
    let [said, _] = model.answers(&all);
    let best: Vec<i64> = Vec::try_from(said.argmax(1, false)).unwrap();
    let right = best.iter().zip(&expected).filter(|(b, e)| Some(**b as usize) == **e).count();
    assert!(right >= 58, "{right} of 60");
    // The pair with the bicycle hears of it.
    let (layout_vocabulary, vocabulary) = vocabularies();
    let table = ActionTable::new(&config().actions, &vocabulary, &layout_vocabulary).unwrap();
    let ride = |photo: &PhotoLook, network: &EdgeNetwork| {
        let batch = EdgeBatch::new(&[photo], Device::Cpu);
        no_grad(|| {
            let output = network.forward(&batch, [0.0; 2]);
            network.of_actions(&output, &batch, &table).double_value(&[0, 24])
        })
    };
    assert!(ride(&fresh[0], &model.network) > ride(&fresh[1], &model.network) + 2.0);
}

#[test]
fn what_the_look_takes_away_is_bounded_where_the_layout_head_knows_more() {
    let model = model(&TrainWeights::default());
    // A look that is sure of none of the actions.
    no_grad(|| {
        for (name, mut variable) in model.store.variables() {
            match name.as_str() {
                "look.actions.weight" => drop(variable.zero_()),
                "look.actions.bias" => drop(variable.narrow(0, ACTIONS.len() as i64, 1).fill_(50.0)),
                _ => {}
            }
        }
    });
    let (_, vocabulary) = vocabularies();
    let (sample, layout) = (sample(), layout().logits(&sample()));
    let found = run(exported(&model).as_ref(), &sample, &sample.object_class(), &seen(&model, &features(3, 1.0)));
    let repair = usize::from(vocabulary.verb("repair").unwrap().0);
    let ride = usize::from(vocabulary.verb("ride").unwrap().0);
    let of = |class: u16| sample.pairs.iter().position(|p| sample.entities[p.object].class.0 == class).unwrap();
    // HICO-DET has `repair bicycle`, and no `repair car`: of that only the photo tells.
    let [bicycle, car] = [1, 2].map(of);
    for verb in [ride, repair] {
        let (with, alone) = (found[[bicycle, verb]], layout[bicycle * 117 + verb]);
        assert!((with - (alone - config().veto as f32)).abs() < 1e-3, "verb {verb}: {with}, {alone} alone");
    }
    assert!(found[[car, repair]] < -10.0, "{}", found[[car, repair]]);
}

#[test]
fn verbs_that_no_photo_tells_stay_as_they_were() {
    let (fresh, _) = telling(60);
    let batch = EdgeBatch::new(&fresh.iter().collect::<Vec<_>>(), Device::Cpu);
    let (_, vocabulary) = vocabularies();
    // Of a bicycle the photos tell ride and repair.
    let of_bicycles = batch.pairs.object_class.eq(1).nonzero().squeeze_dim(1);
    assert!(of_bicycles.size()[0] > 10);
    let told = ["ride", "repair"].map(|name| i64::from(vocabulary.verb(name).unwrap().0));
    let untold: Vec<i64> = (0..117).filter(|verb| !told.contains(verb)).collect();
    let moved = |kept: f64| {
        let model = trained(kept);
        no_grad(|| {
            let with = model.network.forward(&batch, [0.0; 2]).layout;
            let moved = (with - model.network.layout().forward(&batch.pairs)).abs().index_select(0, &of_bicycles);
            moved.index_select(1, &Values::from_slice(&untold)).mean(Kind::Float).double_value(&[])
        })
    };
    let (kept, free) = (moved(TrainWeights::default().kept), moved(0.0));
    println!("untold verbs move by {kept:.3}, without the weight by {free:.3}");
    assert!(kept < 0.5 * free, "{kept} against {free}");
}

/// A NanoDet's graph ends in probabilities: the head hears logits all the same, cut where a probability says no more.
#[test]
fn evidence_of_probabilities_is_logits() {
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/detectors/nanodet_plus_m_416.json");
    let mut description: serde_json::Value = serde_json::from_slice(&std::fs::read(description).unwrap()).unwrap();
    let spec: DetectorSpec = serde_json::from_value(description["detector"].take()).unwrap();
    let values = Array::from_shape_vec(vec![1, 2, 3], vec![0.1, 0.7, 0.0, 0.5, 0.2, 0.0]).unwrap();
    let said = |nanodet: bool| -> Vec<f32> {
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        if nanodet {
            spec.decoder.clone_into(&mut parts.manifest.detector.decoder);
        }
        let mut graph = GraphBuilder::new("detector");
        graph.input("in", ElementType::F32, &[1, 2, 3].map(Dim::Fixed));
        graph.node("Identity", &["in"], &["scores"], vec![]);
        graph.output("scores", ElementType::F32, &[1, 2, 3].map(Dim::Fixed));
        parts.files.insert(parts.manifest.detector.file.clone(), onnx::to_bytes(&graph.finish()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let bundle = write_bundle(&folder.path().join("bundle"), parts).unwrap();
        let model = onnx::to_bytes(&with_evidence(&bundle, "scores").unwrap()).unwrap();
        let request = GraphRequest { inputs: vec![], outputs: vec![EVIDENCE_MAP.into()] };
        let model = TractEngine::new(1).load(&model, &request).unwrap();
        let map = model.run(vec![Tensor::F32(values.clone())]).unwrap().remove(0);
        assert_eq!(map.shape(), [1, 3, 1, 1]);
        map.as_f32().unwrap().iter().copied().collect()
    };
    assert_eq!(said(false), [0.5, 0.7, 0.0]);
    let logits = said(true);
    for (found, expected) in logits.iter().zip([0.0, (0.7f32 / 0.3).ln(), (1e-4f32 / (1.0 - 1e-4)).ln()]) {
        assert!((found - expected).abs() < 1e-3, "{logits:?}");
    }
}
