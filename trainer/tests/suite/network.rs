//! Backbone, transformer and detector: shapes, padding, gradients.

use hoi_trainer::network::detr::{Detr, DetrConfig, DetrOutput};
use hoi_trainer::network::position::sine_position;
use hoi_trainer::network::resnet::{Norm, ResNet, ResNetConfig};
use hoi_trainer::network::transformer::MultiHeadAttention;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn tiny_backbone() -> ResNetConfig {
    ResNetConfig { depths: [1, 1, 1, 1], stem_width: 8, dilate_last: false, norm: Norm::Group(4) }
}

fn tiny() -> DetrConfig {
    DetrConfig {
        width: 32,
        heads: 4,
        encoder_layers: 2,
        decoder_layers: 3,
        feed_forward: 48,
        queries: 7,
        ..DetrConfig::full(tiny_backbone(), 5)
    }
}

/// A detector that depends on nothing but `config`.
fn build(config: &DetrConfig) -> (VarStore, Detr) {
    let store = VarStore::new(Device::Cpu);
    let detr = Detr::new(&store.root(), config);
    // libtorch's generator is shared by all threads, so tests draw the parameters from values that are their own.
    let mut variables: Vec<_> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::no_grad(|| {
        for (n, (_, mut variable)) in variables.into_iter().enumerate() {
            if variable.dim() > 1 {
                let place = Tensor::arange(variable.numel() as i64, F32) * 12.9898 + n as f64;
                let fan = (variable.numel() as i64 / variable.size()[0]) as f64;
                let value = ((place.sin() * 43758.547).frac() * (3.0 / fan).sqrt()).view_as(&variable);
                variable.copy_(&value);
            }
        }
    });
    (store, detr)
}

fn picture(batch: i64, height: i64, width: i64) -> Tensor {
    (Tensor::arange(batch * 3 * height * width, F32) * 0.37).sin().view([batch, 3, height, width])
}

pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// All of `b`'s own part of `a` is the same.
fn assert_same(a: &DetrOutput, b: &DetrOutput, tolerance: f64) {
    for (name, a, b) in
        [("tokens", &a.tokens, &b.tokens), ("logits", &a.logits, &b.logits), ("boxes", &a.boxes, &b.boxes)]
    {
        let difference = largest_difference(a, b);
        assert!(difference <= tolerance, "{name}: {difference}");
    }
}

#[test]
fn detector_shapes_and_layers() {
    let config = tiny();
    let (_store, detr) = build(&config);
    let padding = Tensor::zeros([2, 65, 96], (Kind::Bool, Device::Cpu));
    let out = detr.forward(&picture(2, 65, 96), &padding, false);
    assert_eq!(out.feature.size(), [2, 256, 3, 3]);
    assert_eq!(out.feature_padding.size(), [2, 3, 3]);
    assert_eq!(out.tokens.size(), [2, 7, 32]);
    assert_eq!(out.logits.size(), [2, 7, 6]);
    assert_eq!(out.boxes.size(), [2, 7, 4]);
    assert_eq!(out.auxiliary.len(), 2);
    assert!(largest_difference(&out.auxiliary[1].0, &out.logits) > 1e-3);
    assert!(out.boxes.min().double_value(&[]) > 0.0 && out.boxes.max().double_value(&[]) < 1.0);
    let frozen = detr.forward_frozen(&picture(2, 65, 96), &padding);
    assert_same(&out, &frozen, 1e-5);
    assert!(frozen.auxiliary.is_empty() && !frozen.tokens.requires_grad() && out.tokens.requires_grad());
}

/// Cells of padding change nothing in what is seen: DETR of a picture alone and of the same beside a larger one.
#[test]
fn padded_cells_are_not_looked_at() {
    let config = DetrConfig { backbone: ResNetConfig { norm: Norm::FrozenBatch, ..tiny_backbone() }, ..tiny() };
    let (_store, detr) = build(&config);
    let padding = Tensor::ones([2, 96, 128], (Kind::Bool, Device::Cpu));
    let _ = padding.get(0).narrow(0, 0, 64).narrow(1, 0, 96).fill_(0);
    let _ = padding.get(1).fill_(0);
    let pictures = picture(2, 96, 128);
    let out = detr.forward(&pictures, &padding, false);
    let cells: Vec<bool> = Vec::try_from(out.feature_padding.get(0).flatten(0, -1)).unwrap();
    assert_eq!(cells, [false, false, false, true, false, false, false, true, true, true, true, true]);
    let changed = pictures.copy();
    let _ = changed.get(0).narrow(2, 127, 1).fill_(9.0);
    let other = detr.forward(&changed, &padding, false);
    let moved = largest_difference(&out.feature.get(0).narrow(2, 3, 1), &other.feature.get(0).narrow(2, 3, 1));
    assert!(moved > 1e-3, "{moved}");
    // The last pixel column lies outside of what the first three cells see.
    let seen = |o: &DetrOutput| o.feature.get(0).narrow(2, 0, 3).narrow(1, 0, 2);
    assert_eq!(largest_difference(&seen(&out), &seen(&other)), 0.0);
    assert_same(&out, &other, 1e-5);
    let unmasked = detr.forward(&changed, &padding.zeros_like(), false);
    assert!(largest_difference(&unmasked.tokens, &out.tokens) > 1e-3);
}

/// Two channels an axis: sine and cosine of the coordinate, which runs to 2 pi over the unpadded cells.
#[test]
fn position_code_of_a_padded_map() {
    let padding = Tensor::from_slice(&[false, false, true, false, false, true, true, true, true]).view([1, 3, 3]);
    let code = sine_position(&padding, 2);
    assert_eq!(code.size(), [1, 4, 3, 3]);
    let at = |channel: i64, row: i64, column: i64| code.double_value(&[0, channel, row, column]);
    // Row 0 of 2 lies at pi, row 1 at 2 pi: sine, cosine. The same for columns.
    for (row, column, expected) in
        [(0, 0, [0.0, -1.0, 0.0, -1.0]), (1, 0, [0.0, 1.0, 0.0, -1.0]), (0, 1, [0.0, -1.0, 0.0, 1.0])]
    {
        for (channel, expected) in expected.into_iter().enumerate() {
            let found = at(channel as i64, row, column);
            assert!((found - expected).abs() < 1e-5, "{channel} {row} {column}: {found} {expected}");
        }
    }
    // Four channels an axis: the second pair turns 100 times slower.
    let slow = sine_position(&padding, 4);
    let found = [slow.double_value(&[0, 2, 1, 0]), slow.double_value(&[0, 3, 1, 0])];
    let angle = std::f64::consts::TAU / 100.0;
    assert!((found[0] - angle.sin()).abs() < 1e-5 && (found[1] - angle.cos()).abs() < 1e-5, "{found:?}");
}

#[test]
fn attention_shares_projections_without_changing_them() {
    let store = VarStore::new(Device::Cpu);
    let attention = MultiHeadAttention::new(&(store.root() / "a"), 8, 2);
    let x = picture(1, 5, 8).squeeze_dim(0);
    let y = picture(1, 4, 8).squeeze_dim(0) + 0.5;
    let draw = |q: &Tensor, k: &Tensor, v: &Tensor| attention.forward(q, k, v, None, 0.0, false);
    let copies = || (x.copy(), y.copy());
    for (shared, apart) in [
        (draw(&x, &x, &x), draw(&x, &copies().0, &copies().0)),
        (draw(&y, &x, &x), draw(&y, &x, &copies().0)),
        (draw(&x, &x, &copies().0), draw(&x, &copies().0, &copies().0)),
    ] {
        assert!(largest_difference(&shared, &apart) < 1e-6);
    }
    // Of different widths: the same function where the matrices are the same.
    let apart = MultiHeadAttention::with_widths(&(store.root() / "b"), 8, 8, 2);
    let variables = store.variables();
    tch::no_grad(|| {
        for (n, name) in ["q", "k", "v"].into_iter().enumerate() {
            let part = variables["a.in_proj_weight"].narrow(0, 8 * n as i64, 8);
            variables[&format!("b.{name}_proj_weight")].shallow_clone().copy_(&part);
        }
        variables["a.in_proj_bias"].shallow_clone().copy_(&(Tensor::arange(24, F32) * 0.1));
        for name in ["in_proj_bias", "out_proj.weight", "out_proj.bias"] {
            variables[&format!("b.{name}")].shallow_clone().copy_(&variables[&format!("a.{name}")]);
        }
    });
    let [a, b] = [&attention, &apart].map(|m| m.forward(&y, &x, &x, None, 0.0, false));
    assert!(largest_difference(&a, &b) < 1e-6);
    let narrow = MultiHeadAttention::with_widths(&(store.root() / "c"), 8, 6, 2);
    let keys = picture(1, 9, 6).squeeze_dim(0);
    assert_eq!(narrow.forward(&x, &keys, &keys, None, 0.0, false).size(), [3, 5, 8]);
}

/// A query that may look nowhere gives the output's bias, not a number that is none.
#[test]
fn attention_to_nothing() {
    let store = VarStore::new(Device::Cpu);
    let attention = MultiHeadAttention::new(&store.root(), 8, 2);
    let _ = tch::no_grad(|| store.variables()["out_proj.bias"].shallow_clone().fill_(0.25));
    let x = picture(1, 5, 8).squeeze_dim(0);
    let nothing = Tensor::ones([3, 5], (Kind::Bool, Device::Cpu));
    let drawn = attention.forward(&x, &x, &x, Some(&nothing), 0.0, false);
    assert_eq!(largest_difference(&drawn, &Tensor::full([3, 5, 8], 0.25, F32)), 0.0);
}

#[test]
fn training_reaches_every_parameter_but_frozen_ones() {
    let (store, detr) = build(&tiny());
    let padding = Tensor::zeros([1, 64, 64], (Kind::Bool, Device::Cpu));
    let total = |o: &DetrOutput| {
        let sum = |(l, b): (&Tensor, &Tensor)| l.square().mean(Kind::Float) + b.square().mean(Kind::Float);
        o.auxiliary.iter().map(|(l, b)| sum((l, b))).fold(sum((&o.logits, &o.boxes)), |a, b| a + b)
    };
    total(&detr.forward(&picture(1, 64, 64), &padding, true)).backward();
    for (name, variable) in store.variables() {
        assert!(variable.grad().defined(), "{name}");
        // The first decoder layer starts from zeros: what it draws from itself, and its norm, are zeros whatever the weights.
        let first =
            ["self_attn", "norm1"].iter().any(|p| name.starts_with(&format!("transformer.decoder.layers.0.{p}")));
        let idle = first || name.contains("bias");
        assert!(idle || variable.grad().abs().max().double_value(&[]) > 0.0, "{name}");
    }
    let (store, detr) = build(&tiny());
    detr.freeze_early();
    total(&detr.forward(&picture(1, 64, 64), &padding, true)).backward();
    for (name, variable) in store.variables() {
        let body = name.strip_prefix("backbone.0.body.").unwrap_or("");
        let early = ["conv1", "bn1", "layer1"].iter().any(|p| body.starts_with(p));
        assert_eq!(variable.grad().defined(), !early, "{name}");
    }
}

#[test]
fn residual_networks_of_other_forms() {
    let names = |config: &ResNetConfig| {
        let store = VarStore::new(Device::Cpu);
        let network = ResNet::new(&store.root(), config);
        let size = network.forward(&picture(1, 64, 96)).size();
        let trained = store.trainable_variables().len();
        let mut names: Vec<_> = store.variables().into_keys().collect();
        names.sort();
        (size, trained, names)
    };
    let frozen = ResNetConfig { norm: Norm::FrozenBatch, depths: [1, 2, 1, 2], ..tiny_backbone() };
    let (size, trained, keys) = names(&frozen);
    // Six blocks of three convolutions, four shortcuts and the stem, each with a weight and four constants of its norm.
    assert_eq!((size, trained, keys.len()), (vec![1, 256, 2, 3], 6 * 3 + 4 + 1, (6 * 3 + 4 + 1) * 5));
    for key in ["conv1.weight", "bn1.running_var", "layer2.1.conv3.weight", "layer4.0.downsample.1.running_mean"] {
        assert!(keys.iter().any(|k| k == key), "{key}");
    }
    let (size, ..) = names(&ResNetConfig { dilate_last: true, ..frozen.clone() });
    assert_eq!(size, [1, 256, 4, 6]);
    let (_, trained, keys) = names(&ResNetConfig { norm: Norm::Group(2), ..frozen });
    assert_eq!((trained, keys.len()), ((6 * 3 + 4 + 1) * 3, (6 * 3 + 4 + 1) * 3));
}

#[test]
fn sizes_that_cannot_be_built_are_named() {
    let good = tiny();
    assert_eq!(good.check(), Ok(()));
    let full = DetrConfig::full(ResNetConfig::resnet101(), 80);
    assert_eq!(full.check(), Ok(()));
    let backbone = |backbone| DetrConfig { backbone, ..tiny() };
    for (field, config) in [
        ("width", DetrConfig { width: 30, ..tiny() }),
        ("width", DetrConfig { heads: 3, ..tiny() }),
        ("heads", DetrConfig { heads: 0, ..tiny() }),
        ("decoder_layers", DetrConfig { decoder_layers: 0, ..tiny() }),
        ("encoder_layers", DetrConfig { encoder_layers: -1, ..tiny() }),
        ("classes", DetrConfig { classes: 0, ..tiny() }),
        ("dropout", DetrConfig { dropout: 1.0, ..tiny() }),
        ("dropout", DetrConfig { dropout: f64::NAN, ..tiny() }),
        ("depths", backbone(ResNetConfig { depths: [1, 0, 1, 1], ..tiny_backbone() })),
        ("stem_width", backbone(ResNetConfig { stem_width: 0, ..tiny_backbone() })),
        ("norm", backbone(ResNetConfig { norm: Norm::Group(3), ..tiny_backbone() })),
    ] {
        assert_eq!(config.check().unwrap_err().field, field, "{config:?}");
    }
    let error = DetrConfig { heads: 3, ..tiny() }.check().unwrap_err();
    assert_eq!(
        error.to_string(),
        "network configuration: `width` is 32; it must be a multiple of 4 and of the 3 heads"
    );
    // A configuration written before norms could be chosen.
    let old: ResNetConfig =
        serde_json::from_str(r#"{"depths": [3, 4, 6, 3], "stem_width": 64, "dilate_last": false}"#).unwrap();
    assert_eq!(old, ResNetConfig::resnet50());
}
