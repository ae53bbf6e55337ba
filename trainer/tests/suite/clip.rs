//! CLIP: what `trainer/reference/clip.py` computed with transformers and OpenCLIP, parts of maps, tokenizers, and bad checkpoints.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use hoi_trainer::network::clip::{
    BatchNorms, Clip, ClipCheckpoint, ClipConfig, ClipError, ClipOptions, ModifiedResNetConfig, TextTransformerConfig,
    Visual, VisualConfig, freeze,
};
use hoi_trainer::network::weights::{StateDict, WeightsError};
use hoi_trainer::text::{ClipTokenizer, Overlong, TextError};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::network::largest_difference;

const AGREES: f64 = 1e-4;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/clip").join(name)
}

fn expected(name: &str) -> StateDict {
    StateDict::read(&reference(name).join("expected.safetensors")).unwrap()
}

fn near(expected: &StateDict, name: &str, found: &Tensor) {
    let difference = largest_difference(&expected.tensors()[name], found);
    assert!(difference < AGREES, "{name}: {difference}");
}

/// As `picture` of the script.
fn picture(batch: i64, height: i64, width: i64) -> Tensor {
    let i = Tensor::arange(batch * 3 * height * width, (Kind::Int64, Device::Cpu));
    let level = (&i * 31 + &i * &i * 17).remainder(251);
    (level.to_kind(Kind::Float) / 125.0 - 1.0).view([batch, 3, height, width])
}

fn texts() -> (Vec<String>, Vec<Vec<i64>>) {
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(reference("texts.json")).unwrap()).unwrap();
    let texts = serde_json::from_value(document["texts"].clone()).unwrap();
    (texts, serde_json::from_value(document["ids"].clone()).unwrap())
}

/// The residual reference is narrower than any of OpenAI's: its heads are too.
fn narrow() -> ClipOptions {
    ClipOptions { head_width: 8, ..ClipOptions::default() }
}

fn resnet_checkpoint() -> ClipCheckpoint {
    ClipCheckpoint::read_with(&reference("resnet"), &narrow()).unwrap()
}

fn resnet(store: &VarStore, norms: BatchNorms) -> Clip {
    resnet_checkpoint().clip(store, "", norms).unwrap()
}

#[test]
fn vision_transformer_agrees_with_transformers() {
    let expected = expected("vit");
    let clip = Clip::load(&reference("vit"), Device::Cpu).unwrap();
    let tokenizer = ClipTokenizer::load(&reference("vit"), &clip.config().text).unwrap();
    let square = clip.encode_image(&picture(2, 24, 24));
    near(&expected, "out.square", &square);
    // Another grid than the table's, and pixels beyond the last patch.
    near(&expected, "out.wide", &clip.encode_image(&picture(1, 37, 40)));
    let features = clip.encode_text(&tokenizer.batch(&texts().0).unwrap());
    near(&expected, "out.texts", &features);
    near(&expected, "out.logits", &clip.logits(&square, &features));
    assert!(!features.requires_grad());
    let VisualConfig::VisionTransformer(visual) = &clip.config().visual else { panic!("no vision transformer") };
    assert_eq!((visual.blocks.heads, visual.blocks.width, visual.patch, visual.grid), (4, 20, 8, 3));
}

#[test]
fn residual_network_agrees_with_openclip() {
    let expected = expected("resnet");
    let store = VarStore::new(Device::Cpu);
    let clip = resnet(&store, BatchNorms::Frozen);
    // Half precision in the file.
    assert!(store.variables().values().all(|variable| variable.kind() == Kind::Float));
    let network = clip.visual().resnet().unwrap();
    assert_eq!(network.channels(), 64);
    near(&expected, "out.square.map", &network.map(&picture(2, 96, 96)));
    near(&expected, "out.square", &clip.encode_image(&picture(2, 96, 96)));
    let map = network.map(&picture(2, 65, 128));
    near(&expected, "out.wide.map", &map);
    near(&expected, "out.wide", &network.pool().forward(&map));
    near(&expected, "out.parts", &network.pool().masked(&map, &expected.tensors()["in.shares"], None));
    let tokenizer = ClipTokenizer::load(resnet_checkpoint().path(), &clip.config().text).unwrap();
    near(&expected, "out.texts", &clip.encode_text(&tokenizer.batch(&texts().0).unwrap()));
}

#[test]
fn parts_of_a_map() {
    let store = VarStore::new(Device::Cpu);
    let clip = resnet(&store, BatchNorms::Frozen);
    let pool = clip.visual().resnet().unwrap().pool();
    let map = Tensor::randn([1, 64, 2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let whole = pool.forward(&map);
    let shares =
        Tensor::from_slice(&[1f32, 1., 1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 1., 0., 0., 0.]).view([1, 3, 6]);
    let parts = pool.masked(&map, &shares, None);
    assert_eq!(parts.size(), [1, 3, 12]);
    assert!(largest_difference(&parts.select(1, 0), &whole) < 1e-5);
    // Nothing seen: the value of the mean of all cells. One cell seen: another cell does not matter.
    assert!(largest_difference(&parts.select(1, 1), &whole) > 1e-2);
    let mean = map.mean_dim([2i64, 3].as_slice(), true, Kind::Float).expand_as(&map);
    let changed = Tensor::cat(&[&map.narrow(3, 0, 2) + 1.0, map.narrow(3, 2, 1)], 3);
    assert!(largest_difference(&pool.masked(&mean, &shares, None).select(1, 1), &parts.select(1, 1)) < 1e-5);
    assert!(largest_difference(&pool.masked(&changed, &shares, None).select(1, 2), &parts.select(1, 2)) < 1e-5);
    parts.sum(Kind::Float).backward();
    assert_eq!(map.grad().isfinite().all().int64_value(&[]), 1);
    let query = &store.variables()["visual.attnpool.q_proj.weight"];
    assert_eq!(query.grad().isfinite().all().int64_value(&[]), 1);
}

#[test]
fn trained_and_frozen_parameters() {
    let checkpoint = resnet_checkpoint();
    let mut store = VarStore::new(Device::Cpu);
    let frozen = checkpoint.visual(&store, "clip.visual", BatchNorms::Frozen).unwrap();
    let names = store.variables();
    assert!(names.contains_key("clip.visual.layer2.1.conv3.weight") && !names.contains_key("logit_scale"));
    assert!(!names["clip.visual.bn1.weight"].requires_grad() && names["clip.visual.conv1.weight"].requires_grad());
    let images = picture(2, 96, 96);
    frozen.forward(&images).sum(Kind::Float).backward();
    assert!(names["clip.visual.conv1.weight"].grad().abs().max().double_value(&[]) > 0.0);
    freeze(&store, "clip.visual");
    assert!(!frozen.forward(&images).requires_grad());
    store.unfreeze();
    assert!(frozen.forward(&images).requires_grad());

    let store = VarStore::new(Device::Cpu);
    let Visual::ResNet(trained) = checkpoint.visual(&store, "", BatchNorms::Trained).unwrap() else {
        panic!("no resnet")
    };
    let mean = store.variables()["bn1.running_mean"].shallow_clone();
    let (before, map) = (mean.copy(), trained.map(&images));
    assert!(store.variables()["bn1.weight"].requires_grad());
    assert!(largest_difference(&map, &frozen.resnet().unwrap().map(&images)) < 1e-5);
    assert_eq!(mean, before);
    assert!(largest_difference(&trained.map_t(&images, true), &map) > 1e-2);
    assert_ne!(mean, before);

    let store = VarStore::new(Device::Cpu);
    let text = checkpoint.text(&store, "text").unwrap();
    let empty = Tensor::from_slice(&[542i64, 543]).view([1, 2]);
    let difference =
        largest_difference(&text.forward(&empty).get(0), &expected("resnet").tensors()["out.texts"].get(4));
    assert!(difference < AGREES, "{difference}");
}

#[test]
fn every_form_of_tokenizer() {
    let config = resnet_checkpoint().config().text.clone();
    let list = reference("resnet/bpe_simple_vocab_16e6.txt");
    let folder = tempfile::tempdir().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(reference("vit").join(name), folder.path().join(name)).unwrap();
    }
    let packed = folder.path().join("list.gz");
    let mut encoder = GzEncoder::new(std::fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&list).unwrap()).unwrap();
    encoder.finish().unwrap();
    let (texts, ids) = texts();
    for path in [reference("vit"), reference("vit/tokenizer.json"), folder.path().to_owned(), list, packed] {
        let tokenizer = ClipTokenizer::load(&path, &config).unwrap();
        let found: Vec<_> = texts.iter().map(|text| tokenizer.ids(text).unwrap()).collect();
        assert_eq!(found, ids, "{}", path.display());
    }
    let tokenizer = ClipTokenizer::load(&reference("vit"), &config).unwrap();
    let batch = tokenizer.batch(&texts).unwrap();
    assert_eq!(batch.size(), [5, 27]);
    assert_eq!(batch.int64_value(&[4, 1]), 543);
    assert_eq!(batch.get(4).narrow(0, 2, 25).abs().max().int64_value(&[]), 0);

    let long = "cup ".repeat(39);
    let refused = tokenizer.ids(&long).unwrap_err();
    assert!(matches!(refused, TextError::TooLong { tokens: 41, limit: 40, .. }), "{refused}");
    assert!(refused.to_string().contains(&long), "{refused}");
    let cut = tokenizer.with_overlong(Overlong::Cut).ids(&long).unwrap();
    assert_eq!((cut.len(), cut[39], cut[38]), (40, 543, cut[1]));
}

#[test]
fn bad_tokenizers() {
    let config = resnet_checkpoint().config().text.clone();
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path, config: &TextTransformerConfig| ClipTokenizer::load(path, config).unwrap_err().to_string();
    assert!(said(folder.path(), &config).contains("holds no tokenizer: expected tokenizer.json"));
    assert!(said(&folder.path().join("model.safetensors"), &config).contains("holds no tokenizer"));
    let list = folder.path().join("bpe_simple_vocab_16e6.txt");
    std::fs::write(&list, "#version\na b\nab\n").unwrap();
    assert!(said(&list, &config).contains("line 3: expected two pieces, found `ab`"));
    std::fs::write(&list, "#version\na b\n").unwrap();
    assert!(said(folder.path(), &config).contains("it has 1 merges, and the network's 544 tokens need 30"));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert!(said(folder.path(), &config).contains("not a tokenizer"));
    let fewer = TextTransformerConfig { vocabulary: 543, ..config };
    assert!(said(&reference("vit"), &fewer).contains("the network knows 543"));
}

/// The reference's weights with a change, in a folder of their own.
fn changed(name: &str, change: impl Fn(&mut Vec<(String, Tensor)>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDict::read(&reference(name).join("model.safetensors")).unwrap();
    let mut tensors: Vec<_> =
        state.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    change(&mut tensors);
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn refused(folder: &Path) -> ClipError {
    let store = VarStore::new(Device::Cpu);
    let read = ClipCheckpoint::read_with(folder, &narrow());
    read.and_then(|checkpoint| checkpoint.clip(&store, "", BatchNorms::Frozen)).unwrap_err()
}

#[test]
fn bad_checkpoints() {
    let without =
        |name: &'static str, key: &'static str| changed(name, |tensors| tensors.retain(|(name, _)| name != key));
    let error = refused(without("resnet", "visual.layer2.0.bn1.bias").path());
    assert!(
        matches!(&error, ClipError::Weights(WeightsError::Mismatch { missing, .. }) if missing == &["visual.layer2.0.bn1.bias"])
    );
    assert!(error.to_string().contains("model.safetensors are of another network: 1 missing"), "{error}");
    let error = refused(without("resnet", "token_embedding.weight").path());
    assert!(error.to_string().contains("are of no CLIP: there is no `token_embedding.weight`"), "{error}");
    let error = refused(without("vit", "vision_model.encoder.layers.1.self_attn.k_proj.bias").path());
    assert!(error.to_string().contains("`visual.transformer.resblocks.1.attn.in_proj_bias`"), "{error}");

    let replace = |key: &'static str, shape: &'static [i64]| {
        changed("resnet", move |tensors| {
            for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name == key) {
                *tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            }
        })
    };
    let error = refused(replace("visual.conv2.weight", &[1, 1, 5, 5]).path());
    assert!(error.to_string().contains("visual.conv2.weight is [1, 1, 5, 5], expected [1, 1, 3, 3]"), "{error}");
    let error = refused(replace("visual.attnpool.positional_embedding", &[9, 64]).path());
    assert!(matches!(&error, ClipError::Shape { found, .. } if found == &[9, 64]), "{error}");
    assert!(error.to_string().contains("expected [grid * grid + 1, width]"), "{error}");
    let error = refused(replace("text_projection", &[16, 9]).path());
    assert!(matches!(&error, ClipError::Config { .. }), "{error}");

    // Another model altogether, an empty folder, one with two files, and one that is not there.
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/text/bert/model.safetensors");
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path()).to_string().contains("holds no weights: expected model.safetensors"));
    for name in ["a.safetensors", "b.safetensors"] {
        std::fs::copy(&other, folder.path().join(name)).unwrap();
    }
    assert!(refused(folder.path()).to_string().contains("several files of weights (a.safetensors, b.safetensors)"));
    assert!(matches!(refused(&folder.path().join("a.safetensors")), ClipError::NotClip { .. }));
    assert!(matches!(refused(&folder.path().join("absent.pt")), ClipError::Weights(WeightsError::Read { .. })));
}

#[test]
fn settings_beside_the_weights() {
    // Heads as OpenAI's would be 64 wide.
    let error = ClipCheckpoint::read(&reference("resnet")).unwrap_err();
    assert!(matches!(error, ClipError::Heads { width: 16, head_width: 64, .. }), "{error}");
    let folder = changed("resnet", |_| ());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let read = || ClipCheckpoint::read(folder.path());
    write(
        "open_clip_config.json",
        r#"{"model_cfg": {"quick_gelu": true, "vision_cfg": {"head_width": 8}, "text_cfg": {"heads": 2, "width": 16}}}"#,
    );
    assert_eq!(read().unwrap().config(), resnet_checkpoint().config());
    write("config.json", r#"{"model_type": "clip", "vision_config": {}, "text_config": {"hidden_size": 20}}"#);
    let error = read().unwrap_err().to_string();
    assert!(error.contains("`text_config` has the width 20, and the weights have 16"), "{error}");
    write("config.json", r#"{"vision_config": {}, "text_config": {"hidden_act": "relu"}}"#);
    let error = read().unwrap_err().to_string();
    assert!(error.contains("`text_config.hidden_act` is \"relu\": expected \"quick_gelu\" or \"gelu\""), "{error}");
    write("config.json", r#"{"model_type": "siglip"}"#);
    assert!(read().unwrap_err().to_string().contains("`model_type` is \"siglip\": expected \"clip\""));
    write("config.json", r#"{"vision_config": {}, "text_config": {"num_attention_heads": 3}}"#);
    let error = read().unwrap_err();
    assert!(matches!(&error, ClipError::Config { source, .. } if source.field == "heads"), "{error}");
}

#[test]
fn archive_of_torchscript() {
    let (script, plain) =
        (StateDict::read(&reference("script.pt")).unwrap(), StateDict::read(&reference("script.safetensors")).unwrap());
    let names = |state: &StateDict| state.tensors().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&script), names(&plain));
    assert_eq!(script.tensors().len(), 8);
    for (name, tensor) in plain.tensors() {
        assert_eq!(&script.tensors()[name], tensor, "{name}");
    }
}

/// Weights of a transformer block: norms, packed attention, feed-forward of four times the width.
fn block(width: i64) -> i64 {
    4 * width + (3 * width * width + 3 * width) + (width * width + width) + (8 * width * width + 5 * width)
}

/// Weights of the residual network by its description (C11); a norm has two for each channel.
fn residual(depths: [i64; 4], output: i64) -> i64 {
    let convolution = |inputs: i64, outputs: i64, kernel: i64| inputs * outputs * kernel * kernel + 2 * outputs;
    let mut sum = convolution(3, 32, 3) + convolution(32, 32, 3) + convolution(32, 64, 3);
    let mut inputs = 64;
    for (depth, width) in depths.into_iter().zip([64, 128, 256, 512]) {
        sum += convolution(inputs, 4 * width, 1);
        for _ in 0..depth {
            sum += convolution(inputs, width, 1) + convolution(width, width, 3) + convolution(width, 4 * width, 1);
            inputs = 4 * width;
        }
    }
    sum + 50 * 2048 + 3 * (2048 * 2048 + 2048) + 2048 * output + output
}

#[test]
fn networks_of_full_size() {
    let text = |output: i64| 49_408 * 512 + 77 * 512 + 12 * block(512) + 2 * 512 + 512 * output;
    let vit = 768 * 3 * 32 * 32 + 768 + 50 * 768 + 4 * 768 + 12 * block(768) + 768 * 512;
    let rn50 = residual([3, 4, 6, 3], 1024);
    assert_eq!((rn50, vit, text(512), text(1024)), (38_316_896, 87_849_216, 63_428_096, 63_690_240));
    let built = |build: &dyn Fn(&VarStore)| {
        let store = VarStore::new(Device::Cpu);
        build(&store);
        let statistic = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
        store.variables().iter().filter(|(name, _)| !statistic(name)).map(|(_, v)| v.numel() as i64).sum::<i64>()
    };
    for (config, visual) in [(ClipConfig::rn50(), rn50), (ClipConfig::vit_b32(), vit)] {
        config.check().unwrap();
        let found = built(&|store| drop(Clip::new(&store.root(), &config, BatchNorms::Frozen)));
        assert_eq!(found, visual + text(config.text.output) + 1);
    }
    let rn101 = VisualConfig::ResNet(ModifiedResNetConfig::rn101());
    let found = built(&|store| drop(Visual::new(&store.root(), &rn101, BatchNorms::Trained)));
    assert_eq!(found, residual([3, 4, 23, 3], 512));
}
