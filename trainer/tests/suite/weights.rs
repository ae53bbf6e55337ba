//! State dicts of other libraries: their files, their names, and what is said when they do not fit.

use std::path::{Path, PathBuf};

use hoi_trainer::network::detr::{Detr, DetrConfig};
use hoi_trainer::network::resnet::{Norm, ResNetConfig};
use hoi_trainer::network::weights::{StateDict, WeightsError, coco_class_rows};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference").join(name)
}

fn values(state: &StateDict, name: &str) -> Vec<f64> {
    Vec::try_from(state.tensors()[name].to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn dict<'a>(names: impl IntoIterator<Item = (&'a str, Tensor)>) -> StateDict {
    StateDict::new(Path::new("others.pth"), names.into_iter().map(|(name, t)| (name.to_owned(), t)))
}

fn zeros(size: &[i64]) -> Tensor {
    Tensor::zeros(size, (Kind::Float, Device::Cpu))
}

#[test]
fn both_forms_of_torch_save() {
    for name in ["archive.pth", "older.pth"] {
        let state = StateDict::read(&reference(name)).unwrap();
        let names: Vec<&str> = state.tensors().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["brain", "count", "double", "flag", "half", "part.turned", "part.weight", "whole.weight"],
            "{name}"
        );
        let whole: Vec<f64> = (0..24).map(|i| f64::from(i) / 4.0).collect();
        assert_eq!(values(&state, "whole.weight"), whole);
        assert_eq!(state.tensors()["whole.weight"].size(), [4, 6]);
        assert_eq!(values(&state, "part.weight"), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        // Columns 1 and 2 of four rows of six.
        assert_eq!(values(&state, "part.turned"), [1.0, 7.0, 13.0, 19.0, 2.0, 8.0, 14.0, 20.0]);
        assert_eq!(values(&state, "half"), [0.5, -2.0]);
        assert_eq!(values(&state, "brain"), [1.5, -0.25]);
        assert_eq!(values(&state, "double"), [0.125]);
        assert_eq!(values(&state, "count"), [70000.0]);
        assert_eq!(values(&state, "flag"), [1.0, 0.0]);
    }
}

/// A file that ends early is an error wherever it ends; one with a wrong byte never ends the program.
#[test]
fn damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    for name in ["archive.pth", "older.pth", "visual.safetensors"] {
        let whole = std::fs::read(reference(name)).unwrap();
        let step = (whole.len() / 60).max(1);
        for end in (0..whole.len() - 1).step_by(step) {
            std::fs::write(&path, &whole[..end]).unwrap();
            let error = StateDict::read(&path).unwrap_err();
            assert!(matches!(error, WeightsError::Format { .. }), "{name} {end}: {error}");
            assert!(error.to_string().contains("damaged.pth holds no weights: "), "{error}");
        }
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let _ = StateDict::read(&path);
        }
    }
    std::fs::write(&path, b"not weights, but long enough to be some").unwrap();
    let error = StateDict::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("it is neither a safetensors file nor one of torch.save"), "{error}");
    assert!(matches!(StateDict::read(&folder.path().join("absent")), Err(WeightsError::Read { .. })));
}

#[test]
fn names_of_others() {
    let part = |value: f64| Tensor::full([2, 2], value, (Kind::Float, Device::Cpu));
    let state = dict([
        ("model.encoder.layers.0.self_attn.q_proj.weight", part(0.0)),
        ("model.encoder.layers.0.self_attn.k_proj.weight", part(1.0)),
        ("model.encoder.layers.0.self_attn.v_proj.weight", part(2.0)),
        ("model.encoder.layers.0.self_attn.out_proj.bias", zeros(&[2])),
        ("model.encoder.layers.0.final_layer_norm.bias", zeros(&[2])),
        ("model.decoder.layers.11.encoder_attn.o_proj.weight", zeros(&[2])),
        ("model.decoder.layers.11.final_layer_norm.weight", zeros(&[2])),
        ("model.decoder.layers.11.mlp.fc1.weight", zeros(&[2])),
        ("model.decoder.layers.11.fc2.bias", zeros(&[2])),
        ("model.decoder.layernorm.bias", zeros(&[2])),
        ("model.backbone.conv_encoder.model.bn1.running_var", zeros(&[2])),
        ("model.backbone.conv_encoder.model.layer4.2.conv3.weight", zeros(&[2])),
        ("model.backbone.model.encoder.stages.0.layers.0.shortcut.normalization.bias", zeros(&[2])),
        ("model.backbone.model.bn1.num_batches_tracked", zeros(&[])),
        ("bbox_predictor.layers.2.bias", zeros(&[4])),
        ("something.else", zeros(&[1])),
    ]);
    let state = state.with_detr_keys().unwrap();
    let names: Vec<&str> = state.tensors().keys().map(String::as_str).collect();
    let expected = [
        "backbone.0.body.bn1.running_var",
        "backbone.0.body.layer1.0.downsample.1.bias",
        "backbone.0.body.layer4.2.conv3.weight",
        "bbox_embed.layers.2.bias",
        "something.else",
        "transformer.decoder.layers.11.linear1.weight",
        "transformer.decoder.layers.11.linear2.bias",
        "transformer.decoder.layers.11.multihead_attn.out_proj.weight",
        "transformer.decoder.layers.11.norm3.weight",
        "transformer.decoder.norm.bias",
        "transformer.encoder.layers.0.norm2.bias",
        "transformer.encoder.layers.0.self_attn.in_proj_weight",
        "transformer.encoder.layers.0.self_attn.out_proj.bias",
    ];
    assert_eq!(names, expected);
    let joined = values(&state, "transformer.encoder.layers.0.self_attn.in_proj_weight");
    assert_eq!(joined, [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]);
    // DETR's own names stay.
    let again = state.with_detr_keys().unwrap();
    assert_eq!(again.tensors().keys().map(String::as_str).collect::<Vec<_>>(), expected);

    let incomplete = dict([("model.encoder.layers.0.self_attn.q_proj.weight", part(0.0))]).with_detr_keys();
    let message = incomplete.unwrap_err().to_string();
    assert!(
        message.contains("others.pth") && message.contains("encoder.layers.0.self_attn.in_proj_weight"),
        "{message}"
    );

    let resnet = dict([
        ("resnet.embedder.embedder.convolution.weight", zeros(&[1])),
        ("resnet.encoder.stages.3.layers.2.layer.0.normalization.running_mean", zeros(&[1])),
        ("classifier.1.weight", zeros(&[1])),
        ("layer1.0.downsample.0.weight", zeros(&[1])),
        ("fc.bias", zeros(&[1])),
    ]);
    let resnet = resnet.with_resnet_keys().unwrap();
    let names: Vec<&str> = resnet.tensors().keys().map(String::as_str).collect();
    assert_eq!(names, ["conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn1.running_mean"]);
}

#[test]
fn weights_of_another_network_change_nothing() {
    let backbone = ResNetConfig { depths: [1; 4], stem_width: 4, dilate_last: false, norm: Norm::FrozenBatch };
    let config = DetrConfig { width: 8, heads: 2, feed_forward: 8, ..DetrConfig::full(backbone, 2) };
    let store = VarStore::new(Device::Cpu);
    let _detr = Detr::new(&store.root(), &config);
    let own = |change: &dyn Fn(&str, Tensor) -> Option<Tensor>| {
        let variables = store.variables().into_iter();
        let changed = variables.filter_map(|(name, t)| Some((name.clone(), change(&name, t.copy() + 1.0)?)));
        StateDict::new(Path::new("w.safetensors"), changed.collect::<Vec<_>>())
    };
    let before = store.variables()["query_embed.weight"].copy();
    let short = own(&|name, t| if name == "class_embed.bias" { Some(t.narrow(0, 0, 2)) } else { Some(t) });
    let message = short.load(&store, "").unwrap_err().to_string();
    assert_eq!(
        message,
        "the weights in w.safetensors are of another network: 1 of another shape (class_embed.bias is [2], expected [3])"
    );
    let part = own(&|name, t| (!name.starts_with("transformer.decoder.layers.5.norm")).then_some(t));
    let message = part.load(&store, "").unwrap_err().to_string();
    let expected = "6 missing (transformer.decoder.layers.5.norm1.bias, transformer.decoder.layers.5.norm1.weight, \
        transformer.decoder.layers.5.norm2.bias, ...)";
    assert!(message.ends_with(expected), "{message}");
    let message = own(&|_, t| Some(t)).part("query_embed.").load(&store, "class_embed.").unwrap_err().to_string();
    assert!(
        message.ends_with("1 missing (bias); 1 of another shape (weight is [100, 8], expected [3, 8])"),
        "{message}"
    );
    assert_eq!(store.variables()["query_embed.weight"], before);
    own(&|_, t| Some(t)).load(&store, "").unwrap();
    assert!(store.variables()["query_embed.weight"].allclose(&(before + 1.0), 0.0, 1e-6, false));
    assert!(store.variables()["query_embed.weight"].requires_grad());
}

#[test]
fn class_head_of_coco() {
    let rows = coco_class_rows();
    assert_eq!(rows.len(), 81);
    // Person, stop sign (12 is a gap), toothbrush, no object.
    assert_eq!([rows[0], rows[11], rows[79], rows[80]], [1, 13, 90, 91]);
    let ids = Tensor::arange(92, (Kind::Float, Device::Cpu));
    let head =
        || dict([("class_embed.weight", ids.unsqueeze(1).expand([92, 3], false)), ("class_embed.bias", ids.copy())]);
    let mut state = head();
    state.keep_class_rows(&rows).unwrap();
    let kept: Vec<f64> = rows.iter().map(|&r| r as f64).collect();
    assert_eq!(values(&state, "class_embed.bias"), kept);
    assert_eq!(state.tensors()["class_embed.weight"].size(), [81, 3]);
    let message = state.keep_class_rows(&rows).unwrap_err().to_string();
    assert!(message.ends_with("`class_embed.weight` has 81 rows, and row 81 is asked for"), "{message}");
    assert!(dict([]).keep_class_rows(&rows).is_err());
}
