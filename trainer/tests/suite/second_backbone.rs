//! An EfficientNet-Lite inside a bundle's detector: the boxes stay what they were, and the map is what libtorch says of the same pixels.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hoi_quantize::onnx::{self, GraphBuilder, ModelProto};
use hoi_runtime::bundle::{BundleParts, ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::detector::{Detection, Detector, DetectorSpec};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::{Bounds, PairingSpec};
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule, prepare};
use hoi_runtime::source::{Frame, ImageLimits, open_image};
use hoi_trainer::export::{
    ExportError, HeadPart, SECOND_BACKBONE_MAP, SecondBackbone, WeaklyGraph, WeaklyOver, WeightStorage,
    write_weakly_over,
};
use hoi_trainer::network::efficientnet_lite::{
    BatchNorm, EfficientNetLite, EfficientNetLiteConfig, INPUT_MEAN, INPUT_STD,
};
use hoi_trainer::system::weakly_hoi::{
    InteractionTable, Pooling, SelfTaught, WeaklyConfig, WeaklyModel, WeaklyRow, WeaklyShape,
};
use tch::{Device, Kind, Tensor};

use crate::efficientnet_lite::{optional, reference_config, reference_network};
use crate::network::largest_difference;

/// Share of the map's largest value by which tract and libtorch may differ. The reference's random network saturates and makes differences
/// grow; trained ones are far closer.
const TOLERANCE: f64 = 1e-4;

fn photo() -> Frame {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos/ride_bicycles.jpg");
    open_image(&path, &ImageLimits::default()).unwrap()
}

/// The default bundle, changed.
fn nano(change: impl FnOnce(&mut BundleParts)) -> ModelBundle {
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    change(&mut parts);
    let folder = tempfile::tempdir().unwrap();
    write_bundle(folder.path(), parts).unwrap()
}

/// The default bundle with a change in its detector's graph.
fn nano_with_graph(change: impl FnOnce(&mut ModelProto)) -> ModelBundle {
    nano(|parts| {
        let mut model = onnx::from_bytes(&parts.files["detector.onnx"]).unwrap();
        change(&mut model);
        parts.files.insert("detector.onnx".into(), onnx::to_bytes(&model).unwrap());
    })
}

/// A network with its variables.
struct Lite {
    tensors: HashMap<String, Tensor>,
    network: EfficientNetLite,
    prefix: &'static str,
}

impl Lite {
    /// The random network of `trainer/reference/efficientnet_lite.py`.
    fn reference(norm: BatchNorm, prefix: &'static str) -> Self {
        let (store, network) = reference_network(norm, prefix);
        Self { tensors: store.variables(), network, prefix }
    }

    fn backbone(&self, storage: WeightStorage) -> SecondBackbone<'_> {
        SecondBackbone {
            tensors: &self.tensors,
            prefix: self.prefix,
            config: self.network.config(),
            storage,
            side: None,
        }
    }

    /// The map of a picture stretched to `input`, by libtorch.
    fn map(&self, frame: &Frame, input: Size, colour: ColourOrder) -> Tensor {
        let (width, height) = (input.width as usize, input.height as usize);
        let spec = InputSpec {
            name: "images".into(),
            shape: [1, 3, height, width],
            colour,
            mean: [INPUT_MEAN; 3],
            std: [INPUT_STD; 3],
            resize: ResizeRule::Stretch {},
        };
        let values: Vec<f32> = prepare(&frame.pixels, &spec).0.iter().copied().collect();
        self.network.map(&Tensor::from_slice(&values).view([1, 3, height as i64, width as i64]), false)
    }
}

/// ImageNet's network, where it is.
fn lite0() -> Option<Lite> {
    let loaded = EfficientNetLite::load(&optional(".backbones/efficientnet-lite0.pth")?, Device::Cpu).unwrap();
    Some(Lite { tensors: loaded.store.variables(), network: loaded.network, prefix: "" })
}

/// Weakly-HOI's head with random weights over the map of `backbone`.
fn head(backbone: &SecondBackbone, base: &ModelBundle) -> HeadPart {
    let vocabulary = base.vocabulary();
    let interactions = InteractionTable::of(vocabulary).len() as i64;
    let feature = backbone.feature(&base.manifest().detector.input);
    let shape = WeaklyShape {
        map_channels: feature[2] as i64,
        tokens: 0,
        width: 12,
        pool_heads: 4,
        pool_grid: 3,
        verbs: vocabulary.verb_count() as i64,
        interactions,
    };
    let row = WeaklyRow::Full;
    let self_taught = SelfTaught::default();
    let config = WeaklyConfig {
        shape,
        pooling: Pooling::Attention,
        dropout: 0.0,
        parts: row.parts(),
        bank: row.bank(),
        encoder: "none".into(),
        self_taught,
        exclusive: false,
        backbone: None,
    };
    let bank = (Tensor::arange(interactions * 12, (Kind::Float, Device::Cpu)) * 0.37).sin().view([-1, 12]);
    let model = WeaklyModel::new(&config, vocabulary, &bank, 0, Device::Cpu);
    let tensors = model.store.variables();
    let graph = WeaklyGraph::new(&config, &tensors, !vocabulary.alone().is_empty(), feature);
    graph.part(model.fusion_spec(vocabulary, 100)).unwrap()
}

fn record(part: &str) -> TrainingRecord {
    let none = "none: random weights".to_owned();
    TrainingRecord { part: part.into(), data: none.clone(), licence: none.clone(), source: none }
}

fn over<'a>(base: &'a ModelBundle, backbone: SecondBackbone<'a>) -> WeaklyOver<'a> {
    WeaklyOver {
        base,
        backbone,
        name: "tiny-weakly".into(),
        version: "0.2".into(),
        description: "A test.".into(),
        head: head(&backbone, base),
        vocabulary: base.vocabulary().spec().clone(),
        pairing: PairingSpec { humans: Bounds { min: 1, max: 4 }, ..PairingSpec::default() },
        training: vec![record("second_backbone"), record("head")],
        accuracy: Vec::new(),
        evaluation: BTreeMap::new(),
        notes: vec!["Nothing was learned.".into()],
        notice: "A network of random numbers.\n".into(),
        texts: BTreeMap::from([("THANKS".to_owned(), "To nobody.\n".to_owned())]),
    }
}

fn written(parts: &WeaklyOver) -> Result<ModelBundle, ExportError> {
    let folder = tempfile::tempdir().unwrap();
    write_weakly_over(parts, folder.path())
}

/// Boxes and, where the bundle has one, the map.
fn detected(bundle: &ModelBundle, frame: &Frame) -> (Vec<Detection>, Option<Tensor>) {
    let detector = Detector::load(&TractEngine::default(), bundle).unwrap();
    let (input, transform) = prepare(&frame.pixels, &bundle.manifest().detector.input);
    let size = Size::new(frame.pixels.width(), frame.pixels.height());
    let output = detector.detect(input, &transform, size).unwrap();
    let map = output.features.iter().find(|(name, _)| name == "feature").map(|(_, map)| {
        let shape: Vec<i64> = map.shape().iter().map(|&n| n as i64).collect();
        let values: Vec<f32> = map.as_f32().unwrap().iter().copied().collect();
        Tensor::from_slice(&values).view(&shape[..])
    });
    (output.detections, map)
}

/// Largest difference as a share of the largest value.
fn relative(expected: &Tensor, found: &Tensor) -> f64 {
    let largest = expected.abs().max().double_value(&[]);
    assert!(largest > 1e-2, "the map says nothing: {largest}");
    largest_difference(expected, found) / largest
}

/// Writes the network over `base`: the boxes are the base's, the map is libtorch's, and one with red and blue changed would be another.
fn agrees(base: &ModelBundle, lite: &Lite, storage: WeightStorage, tolerance: f64) -> ModelBundle {
    let frame = photo();
    let bundle = written(&over(base, lite.backbone(storage))).unwrap();
    let (boxes, _) = detected(base, &frame);
    let (same, map) = detected(&bundle, &frame);
    assert!(boxes.len() > 2);
    assert_eq!(boxes, same);
    let (map, input) = (map.unwrap(), base.manifest().detector.input.size());
    let [rows, columns, channels] = lite.backbone(storage).feature(&base.manifest().detector.input);
    assert_eq!(map.size(), [1, channels, rows, columns].map(|n| n as i64));
    let difference = relative(&lite.map(&frame, input, ColourOrder::Rgb), &map);
    let swapped = relative(&lite.map(&frame, input, ColourOrder::Bgr), &map);
    println!("{input}, {storage:?}: {difference:.1e} of the largest value; red and blue changed: {swapped:.1e}");
    assert!(difference <= tolerance, "{difference}");
    assert!(swapped > 10.0 * tolerance, "red and blue make no difference: {swapped}");
    bundle
}

#[test]
fn boxes_stay_and_the_map_is_libtorchs() {
    let base = ModelBundle::builtin().unwrap();
    let lite = Lite::reference(BatchNorm::Frozen, "backbone.");
    let bundle = agrees(&base, &lite, WeightStorage::F32, TOLERANCE);
    let manifest = bundle.manifest();
    assert_eq!((manifest.name.as_str(), manifest.version.as_str()), ("tiny-weakly", "0.2"));
    assert_eq!(manifest.pairing.humans.max, 4);
    assert_eq!(manifest.precision["detector.onnx"], "f16 stored, f32 computed; second backbone: f32");
    let parts: Vec<&str> = manifest.training.iter().map(|record| record.part.as_str()).collect();
    assert_eq!(parts, ["detector", "second_backbone", "head"]);
    assert_eq!(manifest.training[0], base.manifest().training[0]);
    // Notes of the head and of the caller; the base's spoke of its own head.
    let of_head = head(&lite.backbone(WeightStorage::F32), &base).notes;
    assert_eq!(manifest.notes, [of_head, vec!["Nothing was learned.".to_owned()]].concat());
    assert!(manifest.accuracy.is_empty());
    assert_eq!(bundle.file("LICENSE"), base.file("LICENSE"));
    assert_eq!(bundle.file("THANKS").unwrap(), b"To nobody.\n");
    let text = |bundle: &ModelBundle| String::from_utf8(bundle.file("NOTICE").unwrap().to_vec()).unwrap();
    assert!(text(&bundle).contains(text(&base).trim_end()));
    assert!(text(&bundle).ends_with("graph:\n\nA network of random numbers.\n"), "{}", text(&bundle));
    // What the detector's graph held is there, in its order.
    let [before, after] = [&base, &bundle].map(|b| onnx::from_bytes(b.file("detector.onnx").unwrap()).unwrap());
    assert_eq!((before.opset(), after.opset()), (13, 13));
    let (before, after) = (before.graph.unwrap(), after.graph.unwrap());
    assert_eq!(before.node[..], after.node[..before.node.len()]);
    assert_eq!(before.initializer[..], after.initializer[..before.initializer.len()]);
    let given = after.output.last().unwrap().name.as_deref();
    assert_eq!((after.output.len(), given), (before.output.len() + 1, Some(SECOND_BACKBONE_MAP)));

    let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).unwrap();
    let result = pipeline.run(&photo()).unwrap();
    assert!(!result.triplets.is_empty());
    assert!(result.triplets.iter().all(|t| (0.0..=1.0).contains(&t.score)));
}

/// At a size of its own it sees what libtorch makes of the detector's input, bilinear by cell centres; its late maps are there.
#[test]
fn at_a_size_of_its_own() {
    let (base, frame) = (ModelBundle::builtin().unwrap(), photo());
    let lite = Lite::reference(BatchNorm::Folded, "");
    let backbone = SecondBackbone { side: Some(128), ..lite.backbone(WeightStorage::F32) };
    assert_eq!(backbone.feature(&base.manifest().detector.input)[..2], [4, 4]);
    let bundle = written(&over(&base, backbone)).unwrap();
    let map = detected(&bundle, &frame).1.unwrap();
    let input = base.manifest().detector.input.size();
    let spec = InputSpec {
        name: "images".into(),
        shape: [1, 3, input.height as usize, input.width as usize],
        colour: ColourOrder::Rgb,
        mean: [INPUT_MEAN; 3],
        std: [INPUT_STD; 3],
        resize: ResizeRule::Stretch {},
    };
    let values: Vec<f32> = prepare(&frame.pixels, &spec).0.iter().copied().collect();
    let seen = Tensor::from_slice(&values).view([1, 3, i64::from(input.height), i64::from(input.width)]);
    let seen = seen.upsample_bilinear2d([128, 128], false, None, None);
    let difference = relative(&lite.network.map(&seen, false), &map);
    assert!(difference <= TOLERANCE, "{difference}");
    let graph = onnx::from_bytes(bundle.file("detector.onnx").unwrap()).unwrap().graph.unwrap();
    let late = backbone.late_maps();
    assert_eq!((late.len(), late[2].as_str()), (3, SECOND_BACKBONE_MAP));
    for name in &late {
        assert!(graph.node.iter().any(|node| node.output.contains(name)), "{name}");
    }
}

#[test]
fn colours_and_scales_of_other_detectors() {
    let lite = Lite::reference(BatchNorm::Trained, "");
    let bgr = nano(|parts| {
        let input = &mut parts.manifest.detector.input;
        (input.colour, input.mean, input.std) = (ColourOrder::Bgr, [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]);
    });
    agrees(&bgr, &lite, WeightStorage::F32, TOLERANCE);
    // One that normalises as the network does: nothing is put before it.
    let own = nano(|parts| {
        (parts.manifest.detector.input.mean, parts.manifest.detector.input.std) = ([INPUT_MEAN; 3], [INPUT_STD; 3]);
    });
    let graph = lite.backbone(WeightStorage::F32).over(&own).unwrap().graph.unwrap();
    let name = own.manifest().detector.input.name.as_str();
    let readers: Vec<&str> = graph
        .node
        .iter()
        .filter(|node| node.input.iter().any(|input| input == name))
        .map(|node| node.op_type.as_deref().unwrap())
        .collect();
    let before = onnx::from_bytes(own.file("detector.onnx").unwrap()).unwrap().graph.unwrap();
    let there = before.node.iter().filter(|node| node.input.iter().any(|input| input == name)).count();
    assert_eq!((readers.len(), *readers.last().unwrap()), (there + 1, "Conv"));
    agrees(&own, &lite, WeightStorage::F32, TOLERANCE);
}

/// Also over another operator set.
#[test]
fn halves_in_the_file() {
    let lite = Lite::reference(BatchNorm::Folded, "");
    let later = nano_with_graph(|model| model.opset_import[0].version = Some(17));
    let half = agrees(&later, &lite, WeightStorage::F16, 5e-2);
    let detector = half.file("detector.onnx").unwrap();
    assert_eq!(onnx::from_bytes(detector).unwrap().opset(), 17);
    assert_eq!(half.manifest().precision["detector.onnx"], "f16 stored, f32 computed");
    let whole = onnx::to_bytes(&lite.backbone(WeightStorage::F32).over(&later).unwrap()).unwrap();
    let base = later.file("detector.onnx").unwrap().len();
    let share = (detector.len() - base) as f64 / (whole.len() - base) as f64;
    assert!((0.4..0.95).contains(&share), "{share}");
}

/// The families whose graphs lie beside the repository: BGR at 416; and one that decodes by itself, whose own tap `feature` gives way.
#[test]
fn over_published_detectors() {
    let lite = Lite::reference(BatchNorm::Frozen, "");
    for name in ["nanodet_g_416", "deimv2_femto_416"] {
        let Some(path) = optional(&format!("../shared/data/weights/{name}.onnx")) else { continue };
        let description = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/detectors/{name}.json"));
        let mut description: serde_json::Value = serde_json::from_slice(&std::fs::read(description).unwrap()).unwrap();
        let spec: DetectorSpec = serde_json::from_value(description["detector"].take()).unwrap();
        let base = nano(|parts| {
            parts.files.insert(spec.file.clone(), std::fs::read(&path).unwrap());
            parts.manifest.detector = spec;
        });
        println!("{name}");
        agrees(&base, &lite, WeightStorage::F32, TOLERANCE);
    }
}

#[test]
fn published_lite0_over_nano() {
    let Some(lite) = lite0() else { return };
    let base = ModelBundle::builtin().unwrap();
    agrees(&base, &lite, WeightStorage::F32, TOLERANCE);
    agrees(&base, &lite, WeightStorage::F16, 3e-2);
}

#[test]
fn what_cannot_take_a_second_backbone() {
    let lite = Lite::reference(BatchNorm::Frozen, "");
    let backbone = lite.backbone(WeightStorage::F32);
    let base = ModelBundle::builtin().unwrap();
    let refused = |base: &ModelBundle| backbone.over(base).unwrap_err();

    let letterbox = nano(|parts| {
        parts.manifest.detector.taps.clear();
        parts.manifest.detector.input.resize = ResizeRule::LetterboxTopLeft { fill: 114.0 };
    });
    let error = refused(&letterbox);
    assert!(matches!(error, ExportError::Resize { rule: "letterbox_top_left" }), "{error}");
    let old = refused(&nano_with_graph(|model| model.opset_import[0].version = Some(10)));
    assert!(matches!(old, ExportError::OldGraph { opset: 10, .. }), "{old}");
    let old = refused(&nano_with_graph(|model| model.ir_version = Some(3)));
    assert!(matches!(old, ExportError::OldGraph { ir: 3, .. }), "{old}");
    let error = refused(&nano(|parts| parts.manifest.detector.input.name = "image".into()));
    assert!(error.to_string().ends_with("no input `image`, which its manifest names; it has: input"), "{error}");
    let error = refused(&nano(|parts| {
        parts.files.insert("detector.onnx".into(), b"a text".to_vec());
    }));
    assert!(matches!(error, ExportError::Detector { .. }), "{error}");

    // The same again, also where only a subgraph has the name.
    let twice = refused(&written(&over(&base, backbone)).unwrap());
    assert!(matches!(twice, ExportError::NamesTaken { prefix: "second_backbone.", .. }), "{twice}");
    let mut inner = GraphBuilder::new("inner");
    inner.node("Identity", &["c"], &["second_backbone.map"], vec![]);
    let mut branch = onnx::attr_int("then_branch", 0);
    (branch.i, branch.g, branch.r#type) = (None, inner.finish().graph, Some(onnx::attribute_type::GRAPH));
    let hidden = refused(&nano_with_graph(|model| {
        let mut outer = GraphBuilder::new("outer");
        outer.node("If", &["c"], &["chosen"], vec![branch]);
        model.graph.as_mut().unwrap().node.extend(outer.finish().graph.unwrap().node);
    }));
    assert!(matches!(hidden, ExportError::NamesTaken { ref name, .. } if name == SECOND_BACKBONE_MAP), "{hidden}");

    let headless = EfficientNetLiteConfig { classes: None, ..reference_config(BatchNorm::Frozen) };
    let error = SecondBackbone { config: &headless, ..backbone }.over(&base).unwrap_err();
    assert!(matches!(error, ExportError::UnusedWeight { ref name } if name == "_fc.bias"), "{error}");
    let error = SecondBackbone { prefix: "lite.", ..backbone }.over(&base).unwrap_err();
    assert!(
        matches!(error, ExportError::MissingWeight { ref name, .. } if name == "lite._conv_stem.weight"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_together() {
    let lite = Lite::reference(BatchNorm::Frozen, "");
    let base = ModelBundle::builtin().unwrap();
    let right = over(&base, lite.backbone(WeightStorage::F32));
    let mut other = right.clone();
    other.head.inputs[0].shape = [1, 64, 7, 7].map(hoi_runtime::engine::Dim::Fixed).to_vec();
    let error = written(&other).unwrap_err().to_string();
    assert!(error.contains("`feature` is [1, 64, 7, 7]") && error.ends_with("is [1, 64, 10, 10]"), "{error}");
    other.head.inputs.remove(0);
    let error = written(&other).unwrap_err().to_string();
    assert!(error.contains("`feature` is not among its inputs"), "{error}");
    for taken in ["NOTICE", "LICENSE", "detector.onnx", "interaction.onnx", "manifest.json"] {
        let texts = BTreeMap::from([(taken.to_owned(), String::new())]);
        let error = written(&WeaklyOver { texts, ..right.clone() }).unwrap_err();
        assert!(matches!(error, ExportError::FileTaken { ref name } if name == taken), "{error}");
    }
    let swapped = nano(|parts| {
        let graph = parts.files["detector.onnx"].clone();
        parts.files.insert("interaction.onnx".into(), graph);
        parts.manifest.detector.file = "interaction.onnx".into();
    });
    let error = written(&WeaklyOver { base: &swapped, ..right.clone() }).unwrap_err();
    assert!(matches!(error, ExportError::FileTaken { ref name } if name == "interaction.onnx"), "{error}");
}

#[test]
#[ignore = "a measurement: cargo test --release -p hoi-trainer --test suite lite0_beside_nano -- --ignored --nocapture"]
fn lite0_beside_nano() {
    let Some(lite) = lite0() else { return };
    let base = ModelBundle::builtin().unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nano-lite0");
    let bundle = write_weakly_over(&over(&base, lite.backbone(WeightStorage::F16)), &folder).unwrap();
    println!("written to {}", folder.display());
    let frame = photo();
    let pipelines = [&base, &bundle].map(|b| HoiPipeline::new(b, &TractEngine::default()).unwrap());
    let mut times = [const { Vec::new() }; 2];
    // By turns, so that whatever else the machine does meets both.
    for _ in 0..60 {
        for (pipeline, times) in pipelines.iter().zip(&mut times) {
            times.push(pipeline.run(&frame).unwrap().timings.detector);
        }
    }
    let [plain, both] = times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[t.len() / 2]
    });
    println!("detector, p50: nano {plain:.1} ms, with Lite0 {both:.1} ms, {:.2} times", both / plain);
    assert!(both > plain);
}
