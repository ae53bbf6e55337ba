//! RmLR from libtorch to the board: a DETR and a head, exported into a bundle, say the same in the engine as in libtorch.
//!
//! The head's forward pass is written here once more, from the method sheet, so that graph and reference share no line.

#![allow(clippy::unwrap_used, missing_docs)]

mod reference;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hoi_quantize::onnx::ModelProto;
use hoi_runtime::bundle::{BundleParts, ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::detector::{DecoderSpec, Detection, Detector, ENTITY_TOKENS};
use hoi_runtime::engine::{Engine as _, GraphRequest, Tensor as Value, TractEngine};
use hoi_runtime::fusion::Fusion;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::interaction::{InteractionError, InteractionHead};
use hoi_runtime::pairing::{pair_entities, select_entity_indices};
use hoi_runtime::pipeline::{HoiPipeline, PipelineError};
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::{Frame, ImageLimits, open_image};
use hoi_runtime::spatial::SPATIAL_LEN;
use hoi_runtime::vocabulary::ObjectClass;
use hoi_tests::photos;
use hoi_trainer::export::{DetrBundle, DetrGraph, ExportError, RmlrGraph, rmlr_fusion, write_detr_bundle};
use hoi_trainer::network::detr::{Detr, DetrConfig, DetrOutput};
use hoi_trainer::network::resnet::{Norm, ResNetConfig};
use ndarray::{Array2, ArrayD};
use reference::{FULL, Parts, Reference, TOKEN, array, seeded, tensor, unsettle};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

const TOLERANCE: f32 = 1e-4;
const INPUT: Size = Size { width: 128, height: 96 };
const PERSON: ObjectClass = ObjectClass(0);

fn detr(norm: Norm, dilate_last: bool) -> (VarStore, Detr) {
    let backbone = ResNetConfig { depths: [1, 2, 1, 2], stem_width: 4, dilate_last, norm };
    let config = DetrConfig {
        width: 32,
        heads: 4,
        encoder_layers: 2,
        decoder_layers: 2,
        feed_forward: 48,
        queries: 20,
        place_input: dilate_last,
        ..DetrConfig::full(backbone, 80)
    };
    seeded(1, || {
        let store = VarStore::new(Device::Cpu);
        let network = Detr::new(&store.root(), &config);
        unsettle(&store);
        (store, network)
    })
}

fn forward(network: &Detr, input: &ArrayD<f32>) -> DetrOutput {
    let images = tensor(input);
    let padding = Tensor::zeros([1, i64::from(INPUT.height), i64::from(INPUT.width)], (Kind::Bool, Device::Cpu));
    no_grad(|| network.forward(&images, &padding, false))
}

fn far(ours: &ArrayD<f32>, theirs: &ArrayD<f32>) -> f32 {
    assert_eq!(ours.shape(), theirs.shape());
    assert!(ours.iter().chain(theirs.iter()).all(|v| v.is_finite()));
    ours.iter().zip(theirs.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn run(model: &ModelProto, inputs: Vec<Value>, outputs: &[&str]) -> Vec<ArrayD<f32>> {
    let outputs = outputs.iter().map(|&s| s.to_owned()).collect();
    let request = GraphRequest { outputs, ..GraphRequest::default() };
    let bytes = hoi_quantize::onnx::to_bytes(model).unwrap();
    let model = TractEngine::default().load(&bytes, &request).unwrap();
    model.run(inputs).unwrap().into_iter().map(|t| t.as_f32().unwrap().clone()).collect()
}

/// A photo, and a picture of noise.
fn pictures() -> [Frame; 2] {
    let photo = open_image(&photos().join("ride_bicycles.jpg"), &ImageLimits::default()).unwrap();
    let noise = image::RgbImage::from_fn(200, 150, |x, y| {
        let v = x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)) >> 7;
        image::Rgb([v as u8, (v >> 8) as u8, (v >> 16) as u8])
    });
    [photo, Frame { pixels: noise, source: "test://noise".into(), index: 0, decode_ms: 0.0 }]
}

#[test]
fn a_detector_says_the_same_in_libtorch_and_in_the_engine() {
    for (norm, dilate_last) in [(Norm::FrozenBatch, false), (Norm::FrozenBatch, true), (Norm::Group(2), false)] {
        let (store, network) = detr(norm, dilate_last);
        let tensors = store.variables();
        let graph = DetrGraph { tensors: &tensors, config: network.config(), input: INPUT };
        let model = graph.graph().unwrap();
        let spec = graph.spec(Vec::new()).input;
        for frame in pictures() {
            let (input, _) = prepare(&frame.pixels, &spec);
            let expected = forward(&network, &input);
            let got = run(&model, vec![Value::F32(input)], &["logits", "boxes", "tokens", "feature"]);
            let [rows, columns, channels] = graph.feature();
            assert_eq!(got[3].shape(), [1, channels, rows, columns]);
            let all = [&expected.logits, &expected.boxes, &expected.tokens, &expected.feature];
            for (name, (ours, theirs)) in ["logits", "boxes", "tokens", "feature"].iter().zip(got.iter().zip(all)) {
                let far = far(ours, &array(theirs));
                println!("{norm:?} dilated {dilate_last} {} {name}: {far:e}", frame.source);
                assert!(far <= TOLERANCE, "{norm:?}, {}: {name} differ by {far}", frame.source);
            }
            let spread = got[2].index_axis(ndarray::Axis(1), 0).to_owned() - got[2].index_axis(ndarray::Axis(1), 1);
            assert!(
                spread.iter().any(|d| d.abs() > 100.0 * TOLERANCE),
                "two queries say the same: the comparison would say nothing"
            );
        }
    }
}

fn record(part: &str) -> TrainingRecord {
    let none = "none: random weights".to_owned();
    TrainingRecord { part: part.to_owned(), data: none.clone(), licence: none.clone(), source: none }
}

/// The bundle of these networks in `folder`.
fn bundle(folder: &Path, detector: DetrGraph, head: RmlrGraph) -> Result<ModelBundle, ExportError> {
    let mut base = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    hoi_tests::layout_only(&mut base);
    let vocabulary = base.manifest.vocabulary;
    let bundle = DetrBundle {
        name: "tiny-rmlr".into(),
        version: "0".into(),
        description: "A test.".into(),
        detector,
        classes: vocabulary.objects.clone(),
        head: head.part()?,
        vocabulary,
        training: vec![record("detector"), record("head")],
        accuracy: Vec::new(),
        evaluation: BTreeMap::new(),
    };
    write_detr_bundle(&bundle, &folder.join("bundle"))
}

/// Entities in a fixed disorder: `humans` people first, then objects of all classes; with their tokens.
fn entities(humans: usize, objects: usize) -> (Vec<Detection>, Tensor) {
    let noise = |i: usize, k: usize| ((i * 7919 + k * 104_729) % 997) as f32 / 997.0;
    let entities = (0..humans + objects)
        .map(|i| {
            let (x, y) = (noise(i, 1) * 500.0, noise(i, 2) * 380.0);
            let bbox = BBox::new(x, y, x + 10.0 + noise(i, 3) * 130.0, y + 10.0 + noise(i, 4) * 90.0);
            let class = if i < humans { 0 } else { 1 + (i * 13 % 79) as u16 };
            Detection { bbox, class: ObjectClass(class), score: 0.9 }
        })
        .collect();
    let size = [(humans + objects) as i64, TOKEN];
    (entities, seeded(3, || Tensor::randn(size, (Kind::Float, Device::Cpu))))
}

#[test]
fn a_head_says_the_same_in_libtorch_and_in_the_engine() {
    let picture = Size::new(640, 480);
    let folder = tempfile::tempdir().unwrap();
    let (detector_store, detector) = detr(Norm::Group(2), false);
    let detector_tensors = detector_store.variables();
    let detector = DetrGraph { tensors: &detector_tensors, config: detector.config(), input: INPUT };
    let [rows, columns, channels] = detector.feature();
    let size = [1, channels as i64, rows as i64, columns as i64];
    let feature = seeded(4, || Tensor::randn(size, (Kind::Float, Device::Cpu))).relu();
    for parts in [
        FULL,
        Parts { cue: false, context: false, ..FULL },
        Parts { context: false, relation_layers: 0, ..FULL },
        Parts { cue: false, spatial: true, reasoning_layers: 2, ..FULL },
        Parts { spatial: true, ..FULL },
    ] {
        let (store, reference) = Reference::new(parts);
        let tensors = store.variables();
        let graph = reference.graph(&tensors, detector.feature());
        let model = graph.graph().unwrap();
        let names = model.graph.as_ref().unwrap().initializer.iter().filter_map(|t| t.name.clone());
        for name in names {
            let training = |part: &str| ["text", "cross", "ffn", "self_attention"].iter().any(|w| part.starts_with(w));
            assert!(!name.split('.').any(training), "{name}");
        }
        let bundle = bundle(folder.path(), detector, graph).unwrap();
        let head = InteractionHead::load(&TractEngine::default(), &bundle).unwrap();
        for (humans, objects) in [(0, 0), (0, 3), (1, 0), (1, 1), (2, 4), (15, 15)] {
            let (entities, tokens) = entities(humans, objects);
            let pairs = pair_entities(&entities, PERSON);
            let features = [
                ("feature".to_owned(), Value::F32(array(&feature))),
                (ENTITY_TOKENS.to_owned(), Value::F32(array(&tokens))),
            ];
            let got = head.run(&entities, &pairs, picture, &features).unwrap().verb_logits;
            assert_eq!(got.dim(), (pairs.len(), 117));
            if pairs.is_empty() {
                continue;
            }
            let expected = reference.logits(&feature, &tokens, &entities, &pairs, picture);
            let far = far(&got.into_dyn(), &expected);
            println!("{parts:?} {} pairs: {far:e}", pairs.len());
            assert!(far <= TOLERANCE, "{parts:?}, {} pairs: logits differ by {far}", pairs.len());
        }
        // The graph itself takes no pair, with and without entities.
        for count in [0, 3] {
            let specs = graph.inputs().unwrap();
            let inputs = specs.iter().map(|spec| match spec.name.as_str() {
                "feature" => Value::F32(array(&feature)),
                "pair_masks" => Value::F32(Array2::zeros((0, rows * columns)).into_dyn()),
                "spatial" => Value::F32(Array2::zeros((0, SPATIAL_LEN)).into_dyn()),
                "entity_tokens" => Value::F32(Array2::ones((count, TOKEN as usize)).into_dyn()),
                _ => Value::I64(ndarray::Array1::zeros(0).into_dyn()),
            });
            assert_eq!(run(&model, inputs.collect(), &["verb_logits"])[0].shape(), [0, 117]);
        }
    }
}

/// Changes the heads of a detector so that its queries say different things of the photo: boxes all over it, people and things.
fn spread(store: &VarStore, network: &Detr) {
    let spec = DetrGraph { tensors: &store.variables(), config: network.config(), input: INPUT }.spec(Vec::new()).input;
    let variable = |name: &str| store.variables().remove(name).unwrap();
    no_grad(|| {
        for (key, factor) in [("class_embed", 8.0), ("bbox_embed.layers.2", 40.0)] {
            let mut weight = variable(&format!("{key}.weight"));
            weight.copy_(&(&weight * factor));
            let _ = variable(&format!("{key}.bias")).fill_(0.0);
        }
        let output = forward(network, &prepare(&pictures()[0].pixels, &spec).0);
        let middle = |x: &Tensor| x.mean_dim(Some(&[0i64, 1][..]), false, None);
        variable("bbox_embed.layers.2.bias").copy_(&-middle(&output.boxes.logit(None)));
        let likely = Tensor::zeros([81], (Kind::Float, Device::Cpu));
        for (class, value) in [(0, 6.0), (1, 5.5), (3, 5.5), (56, 5.5)] {
            let _ = likely.get(class).fill_(value);
        }
        variable("class_embed.bias").copy_(&(likely - middle(&output.logits)));
    });
}

#[test]
fn a_photo_goes_the_whole_way_as_in_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let (detector_store, network) = detr(Norm::FrozenBatch, false);
    spread(&detector_store, &network);
    let tensors = detector_store.variables();
    let detector = DetrGraph { tensors: &tensors, config: network.config(), input: INPUT };
    let (head_store, reference) = Reference::new(FULL);
    let head_tensors = head_store.variables();
    let bundle = bundle(folder.path(), detector, reference.graph(&head_tensors, detector.feature())).unwrap();
    assert!(bundle.manifest().notes[0].contains("masked RoI"));
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).unwrap();
    let mut compared = 0;
    for frame in pictures() {
        let picture = Size::new(frame.pixels.width(), frame.pixels.height());
        let (input, transform) = prepare(&frame.pixels, &bundle.manifest().detector.input);
        let output = forward(&network, &input);
        let probabilities = output.logits.softmax(-1, Kind::Float).narrow(2, 0, 80).squeeze_dim(0);
        let (scores, classes) = probabilities.max_dim(-1, false);
        let boxes = array(&output.boxes);
        let all: Vec<Detection> = (0..20)
            .map(|q| {
                let b = |k: usize, side: u32| boxes[[0, q, k]] * side as f32;
                let (w, h) = (INPUT.width, INPUT.height);
                let in_input = BBox::from_center(b(0, w), b(1, h), b(2, w), b(3, h));
                Detection {
                    bbox: transform.image_from_input(&in_input).clip(picture),
                    class: ObjectClass(classes.int64_value(&[q as i64]) as u16),
                    score: scores.double_value(&[q as i64]) as f32,
                }
            })
            .collect();
        let chosen = select_entity_indices(&all, PERSON, &bundle.manifest().pairing);
        let entities: Vec<Detection> = chosen.iter().map(|&i| all[i].clone()).collect();
        let rows: Vec<i64> = chosen.iter().map(|&i| i as i64).collect();
        let tokens = output.tokens.squeeze_dim(0).index_select(0, &Tensor::from_slice(&rows));
        let pairs = pair_entities(&entities, PERSON);
        let logits = reference.logits(&output.feature, &tokens, &entities, &pairs, picture);
        let logits = logits.into_dimensionality::<ndarray::Ix2>().unwrap();
        let fusion = Fusion::new(&rmlr_fusion(), bundle.vocabulary()).unwrap();
        let expected = fusion.fuse(&entities, &pairs, &logits.into()).unwrap();

        let got = pipeline.run(&frame).unwrap();
        println!("{}: {} entities, {} pairs, {} triplets", frame.source, entities.len(), pairs.len(), expected.len());
        compared += expected.len();
        assert_eq!((got.detections.len(), got.triplets.len()), (entities.len(), expected.len()));
        let same = |a: &Detection, b: &Detection| {
            let edges = |d: &Detection| <[f32; 4]>::from(d.bbox);
            a.class == b.class && edges(a).iter().zip(edges(b)).all(|(x, y)| (x - y).abs() <= 0.05)
        };
        for t in &expected {
            let partner = got.triplets.iter().any(|g| {
                g.verb == t.verb
                    && same(&g.human, &entities[t.human])
                    && same(g.object.as_ref().unwrap(), &entities[t.object.unwrap()])
                    && (g.score - t.score).abs() <= TOLERANCE * t.score.max(1e-3)
            });
            assert!(partner, "{}: {t:?} is not among the pipeline's triplets", frame.source);
        }
    }
    assert!(compared >= 50, "{compared} triplets compared");
}

#[test]
fn tokens_lie_row_by_row_beside_the_detections() {
    let folder = tempfile::tempdir().unwrap();
    let (detector_store, network) = detr(Norm::FrozenBatch, true);
    let tensors = detector_store.variables();
    let detector = DetrGraph { tensors: &tensors, config: network.config(), input: INPUT };
    let (head_store, reference) = Reference::new(FULL);
    let head_tensors = head_store.variables();
    let bundle = bundle(folder.path(), detector, reference.graph(&head_tensors, detector.feature())).unwrap();
    let loaded = Detector::load(&TractEngine::default(), &bundle).unwrap();
    assert_eq!(loaded.token_width(), Some(TOKEN as usize));
    let [photo, _] = pictures();
    let picture = Size::new(photo.pixels.width(), photo.pixels.height());
    let (input, transform) = prepare(&photo.pixels, &bundle.manifest().detector.input);
    let expected = forward(&network, &input);
    let got = loaded.detect(input, &transform, picture).unwrap();
    let (_, tokens) = got.features.iter().find(|(n, _)| n == ENTITY_TOKENS).unwrap();
    let (ours, theirs) = (tokens.as_f32().unwrap(), array(&expected.tokens));
    assert_eq!(ours.shape(), [got.detections.len(), TOKEN as usize]);
    assert!(got.detections.len() >= 15, "{} of 20 queries", got.detections.len());
    let boxes = array(&expected.boxes);
    let (mut found, mut out_of_order) = (Vec::new(), false);
    for (row, d) in got.detections.iter().enumerate() {
        let distance = |q: &usize| -> f32 {
            let ours = ours.index_axis(ndarray::Axis(0), row);
            ours.iter().zip(theirs.index_axis(ndarray::Axis(1), *q)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let query = (0..20).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
        assert!(distance(&query) <= TOLERANCE);
        // The row's own box is the one that was detected.
        let b = |k: usize, side: u32| boxes[[0, query, k]] * side as f32;
        let in_input = BBox::from_center(b(0, INPUT.width), b(1, INPUT.height), b(2, INPUT.width), b(3, INPUT.height));
        let want: [f32; 4] = transform.image_from_input(&in_input).clip(picture).into();
        assert!(<[f32; 4]>::from(d.bbox).iter().zip(want).all(|(x, y)| (x - y).abs() < 0.05), "{d:?} {want:?}");
        assert!(!found.contains(&query), "query {query} twice");
        out_of_order |= found.last().is_some_and(|last| *last > query);
        found.push(query);
    }
    assert!(out_of_order, "detections are sorted by score, so rows must have moved");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (detector_store, network) = detr(Norm::FrozenBatch, false);
    let detector_tensors = detector_store.variables();
    let detector = DetrGraph { tensors: &detector_tensors, config: network.config(), input: INPUT };
    let (store, reference) = Reference::new(FULL);
    let refused = |change: &dyn Fn(&mut HashMap<String, Tensor>), flags: &dyn Fn(&mut RmlrGraph)| {
        let mut tensors: HashMap<String, Tensor> =
            store.variables().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
        change(&mut tensors);
        let mut graph = reference.graph(&tensors, detector.feature());
        flags(&mut graph);
        graph.graph().map(|_| ()).unwrap_err()
    };
    let same = |_: &mut RmlrGraph| {};
    let error =
        refused(&|t| drop(t.insert("text.words.weight".into(), Tensor::zeros([2], (Kind::Float, Device::Cpu)))), &same);
    assert!(matches!(&error, ExportError::TrainingOnly { name, .. } if name == "text.words.weight"), "{error}");
    let error = refused(&|t| drop(t.remove("cue.bias")), &same);
    assert!(matches!(&error, ExportError::MissingWeight { name, .. } if name == "cue.bias"), "{error}");
    let error = refused(&|t| drop(t.insert("cue.bias".into(), Tensor::zeros([3], (Kind::Float, Device::Cpu)))), &same);
    assert!(matches!(&error, ExportError::WeightShape { name, .. } if name == "cue.bias"), "{error}");
    let error = refused(&|t| drop(t.get_mut("verbs.bias").unwrap().get(5).fill_(f64::NAN)), &same);
    assert!(matches!(&error, ExportError::NotFinite { name } if name == "verbs.bias"), "{error}");
    let error = refused(&|_| {}, &|g| g.reasoning_layers = 0);
    assert!(matches!(&error, ExportError::UnusedWeight { name } if name.starts_with("reasoning.layers.0.")), "{error}");
    for flags in [|g: &mut RmlrGraph| g.with_cue = false, |g: &mut RmlrGraph| g.with_context = false] {
        let error = refused(&|_| {}, &flags);
        assert!(matches!(&error, ExportError::WeightShape { name, .. } if name == "pair.weight"), "{error}");
    }
    let error = DetrGraph { tensors: &store.variables(), ..detector }.graph().unwrap_err();
    assert!(
        matches!(&error, ExportError::MissingWeight { name, .. } if name == "backbone.0.body.conv1.weight"),
        "{error}"
    );

    // A detector without tokens, or with tokens of another width, cannot stand under this head.
    let tensors = store.variables();
    let whole = bundle(folder.path(), detector, reference.graph(&tensors, detector.feature())).unwrap();
    let with = |tokens: Option<&str>| {
        let mut parts = BundleParts::from_bundle(&whole);
        if let DecoderSpec::Detr(spec) = &mut parts.manifest.detector.decoder {
            spec.tokens = tokens.map(str::to_owned);
        }
        let bundle = write_bundle(&folder.path().join("changed"), parts).unwrap();
        HoiPipeline::new(&bundle, &TractEngine::default()).map(|_| ())
    };
    with(Some("tokens")).unwrap();
    let error = with(None).unwrap_err();
    assert!(matches!(&error, PipelineError::Interaction(InteractionError::MissingTokens { .. })), "{error}");
    let error = with(Some("logits")).unwrap_err();
    let width =
        matches!(&error, PipelineError::Interaction(InteractionError::TokenWidth { expected: 32, found: 81, .. }));
    assert!(width, "{error}");
    let error = with(Some("feature")).unwrap_err();
    assert!(matches!(&error, PipelineError::Detector(_)) && error.to_string().contains("`feature`"), "{error}");
}
