//! Layer by layer through a configuration.

use hoi_runtime::geometry::Size;

use super::{Layer, Sort};
use crate::network::detr::DetrConfig;
use crate::network::resnet::ResNetConfig;
use crate::network::transformer::EncoderLayerConfig;

/// A layer of `weights` weights, each used at so many `positions`.
pub(super) fn weighted(key: String, sort: Sort, weights: i64, positions: i64) -> Layer {
    Layer { key, sort, macs: weights * positions }
}

/// Projections and products of an attention of so many queries to so many keys.
fn attention(key: String, width: i64, queries: i64, keys: i64) -> Layer {
    let projections = 2 * width * width * (queries + keys);
    Layer { key, sort: Sort::Attention, macs: projections + 2 * queries * keys * width }
}

/// An encoder layer over so many tokens.
pub(super) fn encoder_layer(key: &str, config: &EncoderLayerConfig, tokens: i64) -> Vec<Layer> {
    let mut layers = vec![attention(format!("{key}.self_attn"), config.width, tokens, tokens)];
    layers.extend(feed_forward(key, config, tokens));
    layers
}

fn decoder_layer(key: &str, config: &EncoderLayerConfig, queries: i64, memory: i64) -> Vec<Layer> {
    let mut layers = vec![
        attention(format!("{key}.self_attn"), config.width, queries, queries),
        attention(format!("{key}.multihead_attn"), config.width, queries, memory),
    ];
    layers.extend(feed_forward(key, config, queries));
    layers
}

fn feed_forward(key: &str, config: &EncoderLayerConfig, tokens: i64) -> [Layer; 2] {
    let weights = config.width * config.feed_forward;
    ["linear1", "linear2"].map(|name| weighted(format!("{key}.{name}"), Sort::FeedForward, weights, tokens))
}

/// The map after a window of odd size with half its size as padding.
fn strided([height, width]: [i64; 2], stride: i64) -> [i64; 2] {
    [(height + stride - 1) / stride, (width + stride - 1) / stride]
}

/// Convolutions of a residual network, and the size of its result.
fn resnet(key: &str, config: &ResNetConfig, input: Size) -> (Vec<Layer>, [i64; 2]) {
    let mut layers = Vec::new();
    let mut convolution = |name: String, channels: [i64; 2], kernel: i64, [height, width]: [i64; 2]| {
        let weights = channels[0] * channels[1] * kernel * kernel;
        layers.push(weighted(format!("{key}.{name}"), Sort::Convolution, weights, height * width));
    };
    let stem = strided([i64::from(input.height), i64::from(input.width)], 2);
    convolution("conv1".to_owned(), [3, config.stem_width], 7, stem);
    let mut size = strided(stem, 2);
    let mut channels = config.stem_width;
    for (layer, &depth) in config.depths.iter().enumerate() {
        let inner = config.stem_width << layer;
        let kept = layer == 0 || (layer == 3 && config.dilate_last);
        for block in 0..depth {
            let name = |part: &str| format!("layer{}.{block}.{part}", layer + 1);
            let before = size;
            if block == 0 && !kept {
                size = strided(size, 2);
            }
            convolution(name("conv1"), [channels, inner], 1, before);
            convolution(name("conv2"), [inner, inner], 3, size);
            convolution(name("conv3"), [inner, 4 * inner], 1, size);
            if block == 0 {
                convolution(name("downsample.0"), [channels, 4 * inner], 1, size);
            }
            channels = 4 * inner;
        }
    }
    (layers, size)
}

/// Layers of a detector, and the size of its map.
pub(super) fn detr(config: &DetrConfig, input: Size) -> (Vec<Layer>, [i64; 2]) {
    let (mut layers, map) = resnet("backbone.0.body", &config.backbone, input);
    let (width, queries, cells) = (config.width, config.queries, map[0] * map[1]);
    let projection = config.backbone.channels() * width;
    layers.push(weighted("input_proj".to_owned(), Sort::InputProjection, projection, cells));
    let layer = config.layer();
    for n in 0..config.encoder_layers {
        layers.extend(encoder_layer(&format!("transformer.encoder.layers.{n}"), &layer, cells));
    }
    for n in 0..config.decoder_layers {
        layers.extend(decoder_layer(&format!("transformer.decoder.layers.{n}"), &layer, queries, cells));
    }
    layers.push(weighted("class_embed".to_owned(), Sort::Linear, width * (config.classes + 1), queries));
    for (n, outputs) in [width, width, 4].into_iter().enumerate() {
        layers.push(weighted(format!("bbox_embed.layers.{n}"), Sort::Linear, width * outputs, queries));
    }
    (layers, map)
}
