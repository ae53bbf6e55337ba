//! EfficientNet-Lite agrees with an independent implementation, with the published file in the runtime's engine, and with itself after
//! export; and what is said of files that are something else.

use std::path::{Path, PathBuf};

use hoi_quantize::onnx::{self, GraphBuilder, ModelProto};
use hoi_runtime::engine::{Dim, Engine, GraphRequest, Tensor as EngineTensor, TensorSpec, TractEngine};
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule, prepare};
use hoi_trainer::export::{EfficientNetLiteGraph, ExportError};
use hoi_trainer::network::efficientnet_lite::{
    BatchNorm, EfficientNetLite, EfficientNetLiteConfig, EfficientNetLiteWeights, INPUT_MEAN, INPUT_STD, LoadError,
    Variant, fold_batch_norms,
};
use hoi_trainer::network::weights::{StateDict, WeightsError};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::network::largest_difference;

const NORMS: [BatchNorm; 3] = [BatchNorm::Frozen, BatchNorm::Trained, BatchNorm::Folded];

/// What `trainer/reference/efficientnet_lite.py` wrote.
fn reference() -> StateDict {
    StateDict::read(concat!(env!("CARGO_MANIFEST_DIR"), "/reference/efficientnet_lite.safetensors").as_ref()).unwrap()
}

/// Sizes of the reference's random network: 64 channels at the end.
pub fn reference_config(norm: BatchNorm) -> EfficientNetLiteConfig {
    EfficientNetLiteConfig { width: 0.05, depth: 1.0, stem: 8, head: 64, norm, classes: Some(5) }
}

/// That network under `prefix`.
pub fn reference_network(norm: BatchNorm, prefix: &str) -> (VarStore, EfficientNetLite) {
    let config = reference_config(norm);
    let mut state = reference().part("model.").with_efficientnet_lite_keys().unwrap();
    if norm == BatchNorm::Folded {
        state = fold_batch_norms(state, &config).unwrap();
    }
    let store = VarStore::new(Device::Cpu);
    let root = if prefix.is_empty() { store.root() } else { store.root() / prefix.trim_end_matches('.') };
    let network = EfficientNetLite::new(&root, &config);
    state.load(&store, prefix).unwrap();
    (store, network)
}

fn normalised(bytes: &Tensor) -> Tensor {
    (bytes.to_kind(Kind::Float) - f64::from(INPUT_MEAN)) / f64::from(INPUT_STD)
}

#[test]
fn agrees_with_the_pytorch_package() {
    let reference = reference();
    let images = normalised(&reference.tensors()["in.pictures"]);
    for norm in NORMS {
        let (_store, network) = reference_network(norm, "");
        let maps = network.maps(&images, false);
        let channels: Vec<i64> = maps.taps.iter().map(|tap| tap.size()[1]).collect();
        assert_eq!(channels, network.config().tap_channels());
        let pooled = network.pooled(&images, false);
        let logits = network.logits(&images, false).unwrap();
        let mut found = vec![("map", &maps.last), ("pooled", &pooled), ("logits", &logits)];
        found.extend(["tap_2", "tap_4", "tap_8", "tap_16"].into_iter().zip(&maps.taps));
        for (name, found) in found {
            let expected = &reference.tensors()[&format!("out.{name}")];
            let difference = largest_difference(expected, found);
            assert!(difference <= 1e-4, "{norm:?} {name}: {difference}");
        }
        assert_eq!(network.map(&images, false), maps.last);
    }
}

#[test]
fn only_trained_norms_learn() {
    let images = normalised(&reference().tensors()["in.pictures"]);
    for norm in NORMS {
        let (store, network) = reference_network(norm, "");
        let before = network.map(&images, false);
        network.map(&images, true).mean(Kind::Float).backward();
        let moved = largest_difference(&before, &network.map(&images, false));
        assert_eq!(moved > 1e-4, norm == BatchNorm::Trained, "{norm:?} {moved}");
        let variables = store.variables();
        let gradient = |name: &str| variables.get(name).map(|t| t.requires_grad() && t.grad().defined());
        assert_eq!(gradient("_conv_stem.weight"), Some(true), "{norm:?}");
        assert_eq!(gradient("_conv_stem.bias"), (norm == BatchNorm::Folded).then_some(true), "{norm:?}");
        let expected = (norm != BatchNorm::Folded).then_some(norm == BatchNorm::Trained);
        assert_eq!(gradient("_blocks.3._bn1.weight"), expected, "{norm:?}");
    }
}

/// Parameters of the published networks, 1000 classes, running statistics not counted.
#[test]
fn published_sizes() {
    for (variant, expected) in Variant::ALL.into_iter().zip([4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568]) {
        let store = VarStore::new(Device::Cpu);
        let config = EfficientNetLiteConfig { norm: BatchNorm::Trained, ..EfficientNetLiteConfig::of(variant) };
        config.check().unwrap();
        let _network = EfficientNetLite::new(&store.root(), &config);
        let count: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
        assert_eq!(count, expected, "{variant}");
    }
    assert_eq!(Variant::Lite3.to_string(), "EfficientNet-Lite3");
    let sides = Variant::ALL.map(Variant::resolution);
    assert_eq!(sides, [224, 240, 260, 280, 300]);
}

#[test]
fn sizes_that_cannot_be() {
    let right = EfficientNetLiteConfig::of(Variant::Lite0);
    for (config, field) in [
        (EfficientNetLiteConfig { width: f64::NAN, ..right.clone() }, "width"),
        (EfficientNetLiteConfig { depth: 0.0, ..right.clone() }, "depth"),
        (EfficientNetLiteConfig { stem: 0, ..right.clone() }, "stem"),
        (EfficientNetLiteConfig { head: -1, ..right.clone() }, "head"),
        (EfficientNetLiteConfig { classes: Some(0), ..right.clone() }, "classes"),
    ] {
        assert_eq!(config.check().unwrap_err().field, field);
    }
}

fn in_engine(model: &ModelProto, images: &Tensor, request: GraphRequest) -> Vec<Tensor> {
    let graph = TractEngine::new(1).load(&onnx::to_bytes(model).unwrap(), &request).unwrap();
    let shape: Vec<usize> = images.size().iter().map(|&n| n as usize).collect();
    let values: Vec<f32> = Vec::try_from(images.flatten(0, -1)).unwrap();
    let input = EngineTensor::F32(ndarray::ArrayD::from_shape_vec(shape, values).unwrap());
    let outputs = graph.run(vec![input]).unwrap();
    let tensor = |output: &EngineTensor| {
        let shape: Vec<i64> = output.shape().iter().map(|&n| n as i64).collect();
        let values: Vec<f32> = output.as_f32().unwrap().iter().copied().collect();
        Tensor::from_slice(&values).view(&shape[..])
    };
    outputs.iter().map(tensor).collect()
}

#[test]
fn exported_graph_agrees() {
    // Smooth, and of a size at which every padding occurs.
    let place = Tensor::arange(3 * 64 * 54, (Kind::Float, Device::Cpu));
    let images = (place * 0.137).sin().view([1, 3, 64, 54]);
    for (norm, prefix) in [(BatchNorm::Frozen, ""), (BatchNorm::Trained, "backbone."), (BatchNorm::Folded, "backbone.")]
    {
        let (store, network) = reference_network(norm, prefix);
        let tensors = store.variables();
        let config = reference_config(norm);
        let graph = EfficientNetLiteGraph {
            tensors: &tensors,
            prefix,
            config: &config,
            input: Size { width: 54, height: 64 },
            taps: &[4, 16],
        };
        let model = graph.graph().unwrap();
        let found = in_engine(&model, &images, GraphRequest::default());
        let maps = network.maps(&images, false);
        let (pooled, logits) = (network.pooled(&images, false), network.logits(&images, false).unwrap());
        for (n, expected) in [&maps.last, &pooled, &logits, &maps.taps[1], &maps.taps[3]].into_iter().enumerate() {
            let difference = largest_difference(expected, &found[n]);
            assert!(difference <= 1e-4, "{norm:?} output {n}: {difference}");
        }
        let wrong = EfficientNetLiteGraph { taps: &[3], ..graph }.graph().unwrap_err();
        assert!(wrong.to_string().contains("`taps` is 3"), "{wrong}");
        let headless = EfficientNetLiteConfig { classes: None, ..config.clone() };
        let lost = EfficientNetLiteGraph { config: &headless, ..graph }.graph().unwrap_err();
        assert!(
            matches!(lost, ExportError::UnusedWeight { ref name } if name == &format!("{prefix}_fc.bias")),
            "{lost}"
        );
    }
}

/// A file with these tensors.
fn written(folder: &Path, tensors: &[(String, Tensor)]) -> PathBuf {
    let path = folder.join("backbone.safetensors");
    Tensor::write_safetensors(tensors, &path).unwrap();
    path
}

/// Parameters of Lite0 with its norms, as they start.
fn lite0() -> Vec<(String, Tensor)> {
    let store = VarStore::new(Device::Cpu);
    let _network = EfficientNetLite::new(&store.root(), &EfficientNetLiteConfig::of(Variant::Lite0));
    store.variables().into_iter().collect()
}

#[test]
fn files_are_recognised_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = lite0();
    let path = written(folder.path(), &tensors);
    let loaded = EfficientNetLite::load(&path, Device::Cpu).unwrap();
    assert_eq!((loaded.variant, loaded.network.config().norm), (Variant::Lite0, BatchNorm::Folded));
    assert!(loaded.store.trainable_variables().iter().all(|t| !t.requires_grad()));
    let without = EfficientNetLiteWeights::read(&path).unwrap().without_classifier();
    assert_eq!((without.config().classes, without.config().norm), (None, BatchNorm::Frozen));
    let store = VarStore::new(Device::Cpu);
    let network = EfficientNetLite::new(&store.root(), without.config());
    without.load(&store, "").unwrap();
    assert!(network.logits(&Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu)), false).is_none());

    // One more tensor, one less, one of another shape.
    let other = |name: &str, value: Tensor| (name.to_owned(), value);
    let small = Tensor::zeros([2], (Kind::Float, Device::Cpu));
    tensors.retain(|(name, _)| name != "_bn0.bias" && name != "_bn1.running_mean");
    tensors.push(other("_bn1.running_mean", small.copy()));
    let error = EfficientNetLite::load(&written(folder.path(), &tensors), Device::Cpu).unwrap_err();
    let LoadError::Weights(WeightsError::Mismatch { missing, misshapen, .. }) = &error else { panic!("{error}") };
    assert_eq!((&missing[..], misshapen[0].name.as_str()), (&["_bn0.bias".to_owned()][..], "_bn1.running_mean"));
    let mut more = lite0();
    more.push(other("_blocks.0._se_reduce.weight", small));
    let error = EfficientNetLite::load(&written(folder.path(), &more), Device::Cpu).unwrap_err().to_string();
    assert!(error.ends_with("1 unexpected (_blocks.0._se_reduce.weight)"), "{error}");

    let tiny: Vec<_> = reference().part("model.").tensors().iter().map(|(n, t)| (n.clone(), t.copy())).collect();
    let error = EfficientNetLite::load(&written(folder.path(), &tiny), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("16 blocks and 16 channels before the head"), "{error}");
}

#[test]
fn files_of_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.onnx");
    assert!(matches!(EfficientNetLite::load(&path, Device::Cpu), Err(LoadError::Weights(WeightsError::Read { .. }))));
    std::fs::write(&path, b"a text that is long enough").unwrap();
    let error = EfficientNetLite::load(&path, Device::Cpu).unwrap_err();
    assert!(matches!(error, LoadError::Onnx { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("other.onnx holds neither a state dict (safetensors, torch.save) nor an ONNX graph")
    );
    let mut graph = GraphBuilder::new("other");
    graph.initializer_f32("w", &[1, 1, 1, 1], &[1.0]).node("Conv", &["x", "w"], &["y"], vec![]);
    onnx::write(&graph.finish(), &path).unwrap();
    let error = EfficientNetLite::load(&path, Device::Cpu).unwrap_err();
    assert!(matches!(error, LoadError::UnknownVariant { blocks: 0, channels: 1, .. }), "{error}");
}

/// A file beside the repository, or nothing and a printed line.
pub fn optional(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {name} is not here");
    None
}

/// A photo as `[1, 3, side, side]`, normalised.
fn photo(path: &Path, side: usize) -> Tensor {
    let picture = image::open(path).unwrap().to_rgb8();
    let spec = InputSpec {
        name: "images".into(),
        shape: [1, 3, side, side],
        colour: ColourOrder::Rgb,
        mean: [INPUT_MEAN; 3],
        std: [INPUT_STD; 3],
        resize: ResizeRule::Stretch {},
    };
    let values: Vec<f32> = prepare(&picture, &spec).0.iter().copied().collect();
    Tensor::from_slice(&values).view([1, 3, side as i64, side as i64])
}

/// ImageNet's espresso, and horizontal bar for the boy in the air on a skateboard, which ImageNet has no class for: Lite2 takes it for a
/// unicycle.
const CLASSES: [(&str, [i64; 2]); 2] = [("coffee.png", [967, 967]), ("ride_skateboard.jpg", [602, 880])];

#[test]
fn published_state_dicts_know_the_photos() {
    let Some(photos) = optional("../shared/data/photos") else { return };
    for (which, (name, expected)) in [("lite0", Variant::Lite0), ("lite2", Variant::Lite2)].into_iter().enumerate() {
        let Some(path) = optional(&format!(".backbones/efficientnet-{name}.pth")) else { continue };
        let loaded = EfficientNetLite::load(&path, Device::Cpu).unwrap();
        assert_eq!(loaded.variant, expected);
        for (file, classes) in CLASSES {
            let image = photo(&photos.join(file), expected.resolution() as usize);
            let logits = loaded.network.logits(&image, false).unwrap();
            assert_eq!(logits.argmax(1, false).int64_value(&[0]), classes[which], "{name} {file}");
        }
    }
}

fn lite3() -> Option<PathBuf> {
    optional("../shared/data/weights/efficientnet_lite3_280.onnx")
}

#[test]
fn published_graph_agrees() {
    let (Some(path), Some(photos)) = (lite3(), optional("../shared/data/photos")) else { return };
    let image = photo(&photos.join("coffee.png"), 280);
    let loaded = EfficientNetLite::load(&path, Device::Cpu).unwrap();
    assert_eq!(loaded.variant, Variant::Lite3);
    let shape = [1, 3, 280, 280].map(Dim::Fixed).to_vec();
    let outputs = ["t287", "feat", "logits"].map(str::to_owned).to_vec();
    let request = GraphRequest { inputs: vec![TensorSpec::f32("input", shape)], outputs };
    let found = in_engine(&onnx::read(&path).unwrap(), &image, request);
    let network = &loaded.network;
    let own = [network.map(&image, false), network.pooled(&image, false), network.logits(&image, false).unwrap()];
    for (n, own) in own.iter().enumerate() {
        let relative = largest_difference(own, &found[n]) / found[n].abs().max().double_value(&[]);
        println!("output {n}: {relative:.1e} of the largest value");
        assert!(relative <= 1e-3, "output {n}: {relative}");
    }
    let error = EfficientNetLiteWeights::read(&path).unwrap().with_norm(BatchNorm::Trained).unwrap_err().to_string();
    assert!(error.contains("`norm` is trained") && error.contains("only `folded`"), "{error}");
}

/// A graph that computes something else is refused, at the node where it does.
#[test]
fn changed_graphs_are_refused() {
    let Some(path) = lite3() else { return };
    let whole = onnx::read(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = whole.clone();
        change(&mut model);
        let path = folder.path().join("changed.onnx");
        onnx::write(&model, &path).unwrap();
        EfficientNetLite::load(&path, Device::Cpu).unwrap_err().to_string()
    };
    let node = |model: &mut ModelProto, n: usize, change: &dyn Fn(&mut onnx::NodeProto)| {
        change(&mut model.graph.as_mut().unwrap().node[n]);
    };
    let padding = refused(&|m| {
        node(m, 0, &|n| n.attribute.iter_mut().filter(|a| a.s.is_some()).for_each(|a| a.s = Some(b"VALID".to_vec())));
    });
    assert!(
        padding.ends_with("the node that gives `t5`: expected auto_pad \"SAME_UPPER\", found \"VALID\""),
        "{padding}"
    );
    let bound = refused(&|m| node(m, 1, &|n| n.input[2] = "w1".into()));
    assert!(bound.ends_with("the node that gives `t6`: expected bound [6.0], found [0.0]"), "{bound}");
    let operator = refused(&|m| node(m, 3, &|n| n.op_type = Some("Relu".into())));
    assert!(operator.ends_with("the node that gives `t10`: expected operator \"Clip\", found \"Relu\""), "{operator}");
    let input = refused(&|m| node(m, 4, &|n| n.input[0] = "t6".into()));
    assert!(input.ends_with("expected input [\"t10\"], found [\"t6\"]"), "{input}");
    let shape = refused(&|m| node(m, 2, &|n| n.input[2] = "w12".into()));
    assert!(shape.ends_with("(_blocks.0._depthwise_conv.bias is [24], expected [32])"), "{shape}");
}

/// Time that this thread has run: waiting for a busy machine does not count.
fn thread_time_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

#[test]
#[ignore = "a measurement: cargo test --release -p hoi-trainer --test suite person_crops -- --ignored --nocapture"]
fn person_crops_in_time() {
    tch::set_num_threads(1);
    for name in [".backbones/efficientnet-lite0.pth", ".backbones/efficientnet-lite2.pth"] {
        optional(name).iter().for_each(|path| measure(path));
    }
    lite3().iter().for_each(|path| measure(path));
}

fn measure(path: &Path) {
    let loaded = EfficientNetLite::load(path, Device::Cpu).unwrap();
    let side = i64::from(loaded.variant.resolution());
    let images = Tensor::zeros([16, 3, side, side], (Kind::Float, Device::Cpu));
    let features = loaded.network.pooled(&images, false);
    assert_eq!(features.size(), [16, 1280]);
    let began = thread_time_s();
    let passes = 2;
    (0..passes).for_each(|_| drop(loaded.network.pooled(&images, false)));
    let seconds = (thread_time_s() - began) / f64::from(passes);
    println!(
        "{} {side} px: 100 batches of 16 take {:.0} s, a crop {:.1} ms",
        loaded.variant,
        100.0 * seconds,
        1e3 * seconds / 16.0
    );
}
