//! Weakly-HOI as ONNX: the engine of the board says what libtorch says.

use std::collections::BTreeMap;

use hoi_runtime::bundle::{ModelBundle, TrainingRecord};
use hoi_runtime::detector::{Detection, ENTITY_TOKENS};
use hoi_runtime::engine::{Tensor as Value, TractEngine};
use hoi_runtime::fusion::Fusion;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::interaction::InteractionHead;
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary, VocabularySpec};
use hoi_trainer::export::{DetrBundle, DetrGraph, WeaklyGraph, write_detr_bundle};
use hoi_trainer::network::resnet::{Norm, ResNetConfig};
use hoi_trainer::system::detr::{DetrModel, DetrPlan};
use hoi_trainer::system::rmlr::DetectedPicture;
use hoi_trainer::system::weakly_hoi::{
    InteractionTable, Knowledge, Pooling, SelfTaught, WeakExample, WeaklyConfig, WeaklyModel, WeaklyRow, WeaklyShape,
};
use ndarray::ArrayD;
use tch::{Device, Tensor, no_grad};

const INPUT: Size = Size { width: 96, height: 80 };
const TOLERANCE: f32 = 1e-4;
/// Width of the tokens: that of the detector.
const TOKENS: i64 = 32;

fn vocabulary() -> Vocabulary {
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    Vocabulary::new(VocabularySpec {
        human: "person".into(),
        objects: names(&["person", "ball", "cup"]),
        verbs: names(&["hold", "kick", "hug", "wave"]),
        background_verb: None,
        valid: [
            ("person".to_owned(), names(&["hug"])),
            ("ball".to_owned(), names(&["hold", "kick"])),
            ("cup".to_owned(), names(&["hold"])),
        ]
        .into(),
        alone: names(&["wave"]),
    })
    .unwrap()
}

/// Values that depend on nothing but place and seed: libtorch's own random numbers are shared by all tests.
fn noise(shape: &[i64], seed: usize) -> Tensor {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> =
        (0..count as usize).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect();
    Tensor::from_slice(&values).view(shape)
}

fn picture(people: usize, things: usize, [channels, rows, columns]: [i64; 3]) -> DetectedPicture {
    let entity = |i: usize| {
        let (x, y) = ((i * 37 % 60) as f32, (i * 23 % 40) as f32);
        let class = if i < people { 0 } else { 1 + (i % 2) as u16 };
        Detection {
            bbox: BBox::new(x, y, x + 20.0 + (i * 5 % 16) as f32, y + 30.0),
            class: ObjectClass(class),
            score: 0.5 + (i % 5) as f32 / 10.0,
        }
    };
    let entities: Vec<Detection> = (0..people + things).map(entity).collect();
    DetectedPicture {
        number: 1,
        original: INPUT,
        input: INPUT,
        feature: noise(&[channels, rows, columns], 1),
        covered: INPUT,
        tokens: looked_at(&entities),
        entities,
    }
}

/// Tokens of humans; things have none.
fn looked_at(entities: &[Detection]) -> Tensor {
    let humans: Vec<f32> = entities.iter().map(|e| if e.class.0 == 0 { 1.0 } else { 0.0 }).collect();
    noise(&[entities.len() as i64, TOKENS], 7) * Tensor::from_slice(&humans).unsqueeze(1)
}

fn array(tensor: &Tensor) -> ArrayD<f32> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let mut values = vec![0f32; tensor.numel()];
    let count = values.len();
    tensor.contiguous().view([-1]).copy_data(&mut values, count);
    ArrayD::from_shape_vec(shape, values).unwrap()
}

fn detector(vocabulary: &Vocabulary) -> DetrModel {
    let mut settings = DetrPlan::Tiny.settings(vocabulary.object_count());
    settings.detector.backbone =
        ResNetConfig { depths: [1, 1, 1, 1], stem_width: 4, dilate_last: true, norm: Norm::Group(2) };
    settings.detector.width = TOKENS;
    settings.detector.encoder_layers = 1;
    settings.detector.decoder_layers = 1;
    settings.detector.feed_forward = 32;
    settings.detector.queries = 6;
    DetrModel::new(settings, vocabulary.clone(), Device::Cpu).unwrap()
}

fn bundle(model: &WeaklyModel, detector: &DetrModel, vocabulary: &Vocabulary) -> ModelBundle {
    let record = |part: &str| {
        let none = "none: random weights".to_owned();
        TrainingRecord { part: part.into(), data: none.clone(), licence: none.clone(), source: none }
    };
    let tensors = detector.store.variables();
    let graph = DetrGraph { tensors: &tensors, config: detector.config(), input: INPUT };
    let (weights, config) = (model.store.variables(), model.config());
    let head = WeaklyGraph::new(config, &weights, !vocabulary.alone().is_empty(), graph.feature());
    let parts = DetrBundle {
        name: "tiny-weakly".into(),
        version: "0".into(),
        description: "A test.".into(),
        detector: graph,
        classes: vocabulary.spec().objects.clone(),
        head: head.part(model.fusion_spec(vocabulary, 1000)).unwrap(),
        vocabulary: vocabulary.spec().clone(),
        training: vec![record("detector"), record("head")],
        accuracy: Vec::new(),
        evaluation: BTreeMap::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    write_detr_bundle(&parts, folder.path()).unwrap()
}

#[test]
fn the_board_says_what_libtorch_says() {
    let vocabulary = vocabulary();
    let detector = detector(&vocabulary);
    let map = DetrGraph { tensors: &detector.store.variables(), config: detector.config(), input: INPUT }.feature();
    let [rows, columns, channels] = map.map(|n| n as i64);
    let engine = TractEngine::default();
    let ways = [None, Some(Knowledge::Sigmoid), Some(Knowledge::Uniform), Some(Knowledge::Union)];
    let rows_and_ways = [WeaklyRow::Baseline, WeaklyRow::Exp4, WeaklyRow::Exp5, WeaklyRow::Exp7]
        .map(|row| (row, None, Pooling::Attention, 0))
        .into_iter()
        .chain(ways.map(|way| (WeaklyRow::Full, way, Pooling::Attention, 0)))
        .chain([0, TOKENS].map(|tokens| (WeaklyRow::Full, None, Pooling::Mean, tokens)))
        // Recognition that is trained and not told.
        .chain([(WeaklyRow::Exp7, None, Pooling::Mean, TOKENS)]);
    for (row, knowledge, pooling, tokens) in rows_and_ways {
        let mut parts = row.parts();
        parts.knowledge = parts.knowledge.map(|mode| knowledge.unwrap_or(mode));
        let table = InteractionTable::of(&vocabulary).len() as i64;
        let shape = WeaklyShape {
            map_channels: channels,
            tokens,
            width: 12,
            pool_heads: 4,
            pool_grid: 3,
            verbs: vocabulary.verb_count() as i64,
            interactions: table,
        };
        let config = WeaklyConfig {
            shape,
            pooling,
            dropout: 0.5,
            parts,
            bank: row.bank(),
            encoder: "none".into(),
            self_taught: SelfTaught::default(),
            exclusive: false,
            backbone: None,
        };
        let model = WeaklyModel::new(&config, &vocabulary, &noise(&[table, 12], 2), 0, Device::Cpu);
        let variables: BTreeMap<String, Tensor> = model.store.variables().into_iter().collect();
        no_grad(|| {
            for (i, (name, mut tensor)) in variables.into_iter().enumerate() {
                if tensor.dim() > 0 && name != "bank" {
                    let fan = *tensor.size().last().unwrap() as f64;
                    let drawn = noise(&tensor.size(), 3 + i);
                    // A deviation is positive.
                    let drawn = if name.ends_with("spread") { drawn.abs() + 0.5 } else { drawn * (3.0 / fan).sqrt() };
                    tensor.copy_(&drawn);
                }
            }
        });
        let bundle = bundle(&model, &detector, &vocabulary);
        let head = InteractionHead::load(&engine, &bundle).unwrap();
        let fusion = Fusion::new(&bundle.manifest().fusion, bundle.vocabulary()).unwrap();
        for (people, things) in [(0, 2), (1, 0), (1, 1), (2, 3), (6, 7)] {
            let example = WeakExample::new(picture(people, things, [channels, rows, columns]), Vec::new(), &vocabulary);
            let entities = &example.picture.entities;
            let feature = array(&example.picture.feature.unsqueeze(0));
            let tokens = array(&example.picture.tokens);
            let features =
                [("feature".to_owned(), Value::F32(feature)), (ENTITY_TOKENS.to_owned(), Value::F32(tokens))];
            let ours = head.run(entities, &example.pairs, INPUT, &features).unwrap();
            let theirs = model.outputs(&[&example]).remove(0);
            assert_eq!(ours.verb_logits.dim(), theirs.verb_logits.dim());
            let mut far = 0f32;
            let mut compare = |a: &[f32], b: &[f32]| {
                assert_eq!(a.len(), b.len());
                far = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(far, f32::max);
            };
            compare(
                &ours.verb_logits.iter().copied().collect::<Vec<_>>(),
                &theirs.verb_logits.iter().copied().collect::<Vec<_>>(),
            );
            if !example.pairs.is_empty() {
                assert_eq!(ours.relatedness.is_some(), parts.relatedness);
                assert_eq!(ours.image_logits.is_some(), parts.score_fusion);
                for (a, b) in [(&ours.relatedness, &theirs.relatedness), (&ours.image_logits, &theirs.image_logits)] {
                    if let (Some(a), Some(b)) = (a, b) {
                        compare(&a.to_vec(), &b.to_vec());
                    }
                }
            }
            println!("{}, {knowledge:?}, {pooling:?}: {} pairs, {far:e}", row.title(), example.pairs.len());
            assert!(far <= TOLERANCE, "{}, {knowledge:?}, {} pairs: {far}", row.title(), example.pairs.len());
            let board = fusion.fuse(entities, &example.pairs, &ours).unwrap();
            let trained = model.triplets(&[&example], &vocabulary).unwrap().remove(0);
            assert_eq!(board.len(), trained.len());
            let total = |list: &[hoi_runtime::fusion::ScoredTriplet]| list.iter().map(|t| t.score).sum::<f32>();
            assert!((total(&board) - total(&trained)).abs() < 1e-3);
        }
        let spread = {
            let example = WeakExample::new(picture(6, 7, [channels, rows, columns]), Vec::new(), &vocabulary);
            let logits = model.outputs(&[&example]).remove(0).verb_logits;
            let column: Vec<f32> = logits.column(0).to_vec();
            column.iter().fold(f32::MIN, |a, b| a.max(*b)) - column.iter().fold(f32::MAX, |a, b| a.min(*b))
        };
        assert!(spread > 0.01, "{}: all pairs say the same, {spread}", row.title());
    }
}
