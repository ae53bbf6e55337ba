//! Backbone, transformer and detector agree with independent implementations.

use hoi_trainer::network::detr::{Detr, DetrConfig};
use hoi_trainer::network::resnet::{Norm, ResNet, ResNetConfig};
use hoi_trainer::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig, MultiHeadAttention};
use hoi_trainer::network::weights::StateDict;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::network::largest_difference;

/// What `trainer/reference/visual.py` wrote.
fn reference() -> StateDict {
    StateDict::read(concat!(env!("CARGO_MANIFEST_DIR"), "/reference/visual.safetensors").as_ref()).unwrap()
}

/// Agreement asked of networks in single precision.
const AGREES: f64 = 1e-4;

fn assert_agrees(reference: &StateDict, name: &str, found: &Tensor) {
    let expected = &reference.tensors()[name];
    let difference = largest_difference(expected, found);
    assert!(difference <= AGREES, "{name}: {difference}");
}

/// The reference's pictures `[B, 3, H, W]`, and their padding.
fn reference_pictures(reference: &StateDict) -> (Tensor, Tensor) {
    let bytes = reference.tensors()["in.pictures"].to_kind(Kind::Float);
    ((bytes / 255.0 - 0.5) * 4.0, reference.tensors()["in.padding"].to_kind(Kind::Bool))
}

fn reference_backbone() -> ResNetConfig {
    ResNetConfig { depths: [1, 2, 1, 1], stem_width: 4, dilate_last: false, norm: Norm::FrozenBatch }
}

#[test]
fn detector_agrees_with_transformers() {
    let config = DetrConfig {
        width: 16,
        heads: 2,
        encoder_layers: 2,
        decoder_layers: 2,
        feed_forward: 24,
        queries: 6,
        ..DetrConfig::full(reference_backbone(), 3)
    };
    let reference = reference();
    let store = VarStore::new(Device::Cpu);
    let detr = Detr::new(&store.root(), &config);
    self::reference().part("detr.").with_detr_keys().unwrap().load(&store, "").unwrap();
    let (pictures, padding) = reference_pictures(&reference);
    let out = detr.forward(&pictures, &padding, false);
    let (first_logits, first_boxes) = &out.auxiliary[0];
    for (name, found) in [
        ("out.feature", &out.feature),
        ("out.tokens", &out.tokens),
        ("out.logits", &out.logits),
        ("out.boxes", &out.boxes),
        ("out.first.logits", first_logits),
        ("out.first.boxes", first_boxes),
    ] {
        assert_agrees(&reference, name, found);
    }
    // The mask matters here: without it the second picture's tokens are others.
    let unmasked = detr.forward_frozen(&pictures, &padding.zeros_like());
    assert!(largest_difference(&unmasked.tokens.get(1), &out.tokens.get(1)) > 100.0 * AGREES);
}

#[test]
fn residual_network_agrees_with_transformers() {
    let store = VarStore::new(Device::Cpu);
    let network = ResNet::new(&(store.root() / "body"), &reference_backbone());
    let weights = reference().part("detr.model.backbone.conv_encoder.model.").with_resnet_keys().unwrap();
    weights.load(&store, "body.").unwrap();
    let reference = reference();
    assert_agrees(&reference, "out.feature", &network.forward(&reference_pictures(&reference).0));
}

#[test]
fn layers_agree_with_pytorch() {
    let reference = reference();
    let tensor = |name: &str| reference.tensors()[name].shallow_clone();
    let store = VarStore::new(Device::Cpu);
    let config = EncoderLayerConfig {
        width: 16,
        heads: 2,
        feed_forward: 24,
        dropout: 0.1,
        activation: Activation::Gelu,
        norm_eps: 1e-12,
    };
    let layer = EncoderLayer::new(&(store.root() / "encoder"), &config);
    let attention = MultiHeadAttention::with_widths(&(store.root() / "attention"), 16, 10, 2);
    self::reference().part("encoder.").load(&store, "encoder.").unwrap();
    self::reference().part("attention.").load(&store, "attention.").unwrap();
    let padding = tensor("in.tokens.padding").to_kind(Kind::Bool);
    let encoded = layer.forward(&tensor("in.tokens"), None, Some(&padding), false);
    assert_agrees(&reference, "out.encoded", &encoded.masked_fill(&padding.unsqueeze(-1), 0.0));
    let words = tensor("in.words");
    let drawn = attention.forward(&tensor("in.query"), &words, &words, Some(&padding), 0.1, false);
    assert_agrees(&reference, "out.drawn", &drawn);
}
