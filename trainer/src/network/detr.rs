//! DETR (C2): a residual network, a transformer with learned queries, and heads for class and box.

use serde::{Deserialize, Serialize};
use tch::nn::{self, Init, Linear, Module};
use tch::{Device, Kind, Tensor, no_grad};

use super::ConfigError;
use super::init::{layer_norm, linear, pointwise};
use super::position::sine_position;
use super::resnet::{ResNet, ResNetConfig};
use super::transformer::{Activation, DecoderLayer, EncoderLayer, EncoderLayerConfig, Memory};

/// Linear layers of the box head.
const BOX_LAYERS: usize = 3;

/// Sizes of a [`Detr`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetrConfig {
    /// The backbone.
    pub backbone: ResNetConfig,
    /// Width of a token, a multiple of 4 and of the heads.
    pub width: i64,
    /// Attention heads.
    pub heads: i64,
    /// Layers of the encoder.
    pub encoder_layers: i64,
    /// Layers of the decoder.
    pub decoder_layers: i64,
    /// Width inside the feed-forward blocks.
    pub feed_forward: i64,
    /// Learned queries, so many detections at most.
    pub queries: i64,
    /// Object classes, without "no object".
    pub classes: i64,
    /// Probability with which a value is dropped in training.
    pub dropout: f64,
    /// Whether the position code is also added to the encoder's input, so that values tell where they are. The published DETR does
    /// not; a small network from nothing learns boxes much faster with it.
    #[serde(default)]
    pub place_input: bool,
}

impl DetrConfig {
    /// The published sizes: 6 + 6 layers, width 256, 8 heads, 2048 inside, 100 queries, dropout 0.1.
    pub fn full(backbone: ResNetConfig, classes: i64) -> Self {
        Self {
            backbone,
            width: 256,
            heads: 8,
            encoder_layers: 6,
            decoder_layers: 6,
            feed_forward: 2048,
            queries: 100,
            classes,
            dropout: 0.1,
            place_input: false,
        }
    }

    /// Whether a network can be built with this.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.backbone.check()?;
        for (field, value) in [
            ("heads", self.heads),
            ("decoder_layers", self.decoder_layers),
            ("feed_forward", self.feed_forward),
            ("queries", self.queries),
            ("classes", self.classes),
        ] {
            ConfigError::unless(value > 0, field, value, "it must be at least 1")?;
        }
        ConfigError::unless(
            self.encoder_layers >= 0,
            "encoder_layers",
            self.encoder_layers,
            "it must not be negative",
        )?;
        let width = self.width > 0 && self.width % 4 == 0 && self.width % self.heads == 0;
        let expected = format!("it must be a multiple of 4 and of the {} heads", self.heads);
        ConfigError::unless(width, "width", self.width, expected)?;
        ConfigError::unless(
            (0.0..1.0).contains(&self.dropout),
            "dropout",
            self.dropout,
            "it must be 0 or more and below 1",
        )
    }

    /// Sizes of its transformer layers.
    pub fn layer(&self) -> EncoderLayerConfig {
        EncoderLayerConfig {
            width: self.width,
            heads: self.heads,
            feed_forward: self.feed_forward,
            dropout: self.dropout,
            activation: Activation::Relu,
            norm_eps: 1e-5,
        }
    }
}

/// What the detector gives for a batch of B pictures.
#[derive(Debug)]
pub struct DetrOutput {
    /// The backbone's map, `[B, c, h, w]`.
    pub feature: Tensor,
    /// Bool `[B, h, w]`, true on padding.
    pub feature_padding: Tensor,
    /// The encoder's result, one row a cell, `[B, h w, D]`.
    pub memory: Tensor,
    /// One token a query, after the decoder's final norm, `[B, Q, D]`.
    pub tokens: Tensor,
    /// `[B, Q, K + 1]`, the last for "no object".
    pub logits: Tensor,
    /// Centre x, centre y, width and height as shares of the padded picture, `[B, Q, 4]`.
    pub boxes: Tensor,
    /// Logits and boxes after each earlier decoder layer, first layer first.
    pub auxiliary: Vec<(Tensor, Tensor)>,
}

/// The map, its padding, the encoder's result, and the tokens after each decoder layer (before the final norm).
struct Decoded {
    feature: Tensor,
    feature_padding: Tensor,
    memory: Tensor,
    layers: Vec<Tensor>,
}

/// The detector.
///
/// Keys as those of the published checkpoints: `backbone.0.body.*`, `input_proj.*`, `transformer.encoder.layers.N.*`,
/// `transformer.decoder.layers.N.*`, `transformer.decoder.norm.*`, `query_embed.weight`, `class_embed.*`, `bbox_embed.layers.N.*`.
#[derive(Debug)]
pub struct Detr {
    config: DetrConfig,
    backbone: ResNet,
    input: nn::Conv2D,
    encoder: Vec<EncoderLayer>,
    decoder: Vec<DecoderLayer>,
    norm: nn::LayerNorm,
    queries: Tensor,
    class: Linear,
    bbox: [Linear; BOX_LAYERS],
}

impl Detr {
    /// A network under `path`, for a configuration that passes [`DetrConfig::check`].
    pub fn new(path: &nn::Path, config: &DetrConfig) -> Self {
        let (width, layer) = (config.width, config.layer());
        let transformer = path / "transformer";
        let (encoder, decoder) = (&transformer / "encoder", &transformer / "decoder");
        let bbox = path / "bbox_embed" / "layers";
        Self {
            backbone: ResNet::new(&(path / "backbone" / "0" / "body"), &config.backbone),
            input: pointwise(&(path / "input_proj"), config.backbone.channels(), width),
            encoder: (0..config.encoder_layers)
                .map(|n| EncoderLayer::new(&(&encoder / "layers" / n), &layer))
                .collect(),
            decoder: (0..config.decoder_layers)
                .map(|n| DecoderLayer::new(&(&decoder / "layers" / n), &layer))
                .collect(),
            norm: layer_norm(&(&decoder / "norm"), width, layer.norm_eps),
            queries: (path / "query_embed").var(
                "weight",
                &[config.queries, width],
                Init::Randn { mean: 0.0, stdev: 1.0 },
            ),
            class: linear(&(path / "class_embed"), width, config.classes + 1),
            bbox: std::array::from_fn(|n| linear(&(&bbox / n), width, if n + 1 == BOX_LAYERS { 4 } else { width })),
            config: config.clone(),
        }
    }

    /// What it was built with.
    pub fn config(&self) -> &DetrConfig {
        &self.config
    }

    /// Takes the backbone's stem and layer 1 out of training: [`ResNet::freeze_early`].
    pub fn freeze_early(&self) {
        self.backbone.freeze_early();
    }

    /// Detects in pictures `[B, 3, H, W]` (normalised), with `padding` bool `[B, H, W]`, true on padding.
    pub fn forward(&self, images: &Tensor, padding: &Tensor, train: bool) -> DetrOutput {
        let Decoded { feature, feature_padding, memory, layers } = self.decode(images, padding, train);
        let last = layers.len() - 1;
        let all = self.norm.forward(&Tensor::stack(&layers, 0));
        let (logits, boxes) = self.heads(&all);
        let auxiliary = (0..last as i64).map(|n| (logits.get(n), boxes.get(n))).collect();
        let [tokens, logits, boxes] = [&all, &logits, &boxes].map(|t| t.get(last as i64));
        DetrOutput { feature, feature_padding, memory, tokens, logits, boxes, auxiliary }
    }

    /// The same without gradients, dropout and auxiliary results: the detector as a fixed part of another system.
    pub fn forward_frozen(&self, images: &Tensor, padding: &Tensor) -> DetrOutput {
        no_grad(|| {
            let Decoded { feature, feature_padding, memory, layers } = self.decode(images, padding, false);
            let tokens = self.norm.forward(&layers[layers.len() - 1]);
            let (logits, boxes) = self.heads(&tokens);
            DetrOutput { feature, feature_padding, memory, tokens, logits, boxes, auxiliary: Vec::new() }
        })
    }

    fn decode(&self, images: &Tensor, padding: &Tensor, train: bool) -> Decoded {
        let feature = self.backbone.forward(images);
        let size = feature.size();
        let feature_padding = shrink(padding, [size[2], size[3]]);
        let tokens = |map: Tensor| map.flatten(2, 3).transpose(1, 2);
        let position = tokens(sine_position(&feature_padding, self.config.width / 2));
        let masked = feature_padding.flatten(1, 2);
        // Without padding the masks say nothing. On a GPU, asking would cost more than masking.
        let masked =
            if masked.device() == Device::Cpu && masked.any().int64_value(&[]) == 0 { None } else { Some(&masked) };
        let mut memory = tokens(self.input.forward(&feature));
        if self.config.place_input {
            memory += &position;
        }
        for layer in &self.encoder {
            memory = layer.forward(&memory, Some(&position), masked, train);
        }
        let keys = &memory + &position;
        let read = Memory { keys: &keys, values: &memory, padding: masked };
        let mut x = Tensor::zeros([size[0], self.config.queries, self.config.width], (Kind::Float, images.device()));
        let mut layers = Vec::with_capacity(self.decoder.len());
        for layer in &self.decoder {
            x = layer.forward(&x, Some(&self.queries), read, train);
            layers.push(x.shallow_clone());
        }
        Decoded { feature, feature_padding, memory, layers }
    }

    /// Logits and boxes of tokens after the final norm.
    fn heads(&self, tokens: &Tensor) -> (Tensor, Tensor) {
        let [first, second, third] = &self.bbox;
        let boxes = third.forward(&second.forward(&first.forward(tokens).relu()).relu()).sigmoid();
        (self.class.forward(tokens), boxes)
    }
}

/// Padding `[B, H, W]` at the cells of a smaller map: that of the pixel in a cell's upper left corner.
fn shrink(padding: &Tensor, size: [i64; 2]) -> Tensor {
    padding.to_kind(Kind::Float).unsqueeze(1).upsample_nearest2d(size, None, None).squeeze_dim(1).to_kind(Kind::Bool)
}
