//! Names of parameters: from those of other libraries to ours, which are those of DETR's and torchvision's checkpoints.

/// Where a foreign parameter belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is ours under this name.
    Whole(String),
    /// It is the query's (0), key's (1) or value's (2) third of this one.
    Third(String, usize),
    /// It says nothing to us.
    Ignored,
}

/// Where a parameter of a detector belongs: DETR's own names stay, those of `DetrForObjectDetection` are translated, unknown ones
/// stay.
pub(super) fn detr_place(name: &str) -> Place {
    let whole = |name: String| Place::Whole(name);
    for body in ["model.backbone.conv_encoder.model.", "model.backbone.model.", "backbone.0.body."] {
        if let Some(rest) = name.strip_prefix(body) {
            return match resnet_place(rest) {
                Place::Whole(name) => whole(format!("backbone.0.body.{name}")),
                other => other,
            };
        }
    }
    for (theirs, ours) in [
        ("model.query_position_embeddings.", "query_embed."),
        ("model.input_projection.", "input_proj."),
        ("class_labels_classifier.", "class_embed."),
        ("bbox_predictor.", "bbox_embed."),
        ("model.decoder.layernorm.", "transformer.decoder.norm."),
    ] {
        if let Some(rest) = name.strip_prefix(theirs) {
            return whole(format!("{ours}{rest}"));
        }
    }
    for side in ["encoder", "decoder"] {
        let Some((number, rest)) =
            name.strip_prefix("model.").and_then(|n| n.strip_prefix(side)?.strip_prefix(".layers.")?.split_once('.'))
        else {
            continue;
        };
        let layer = format!("transformer.{side}.layers.{number}");
        return layer_place(&layer, rest, side == "decoder").unwrap_or_else(|| whole(name.to_owned()));
    }
    whole(name.to_owned())
}

/// Where a parameter of an EfficientNet-Lite belongs: names stay.
pub(super) fn efficientnet_lite_place(name: &str) -> Place {
    if name.ends_with(".num_batches_tracked") { Place::Ignored } else { Place::Whole(name.to_owned()) }
}

/// Within a transformer layer.
fn layer_place(layer: &str, rest: &str, decoder: bool) -> Option<Place> {
    let (part, rest) = rest.strip_prefix("mlp.").unwrap_or(rest).split_once('.')?;
    let attention = match part {
        "self_attn" => Some("self_attn"),
        "encoder_attn" => Some("multihead_attn"),
        _ => None,
    };
    if let Some(attention) = attention {
        let (projection, kind) = rest.split_once('.')?;
        let third = match projection {
            "q_proj" => 0,
            "k_proj" => 1,
            "v_proj" => 2,
            "out_proj" | "o_proj" => return Some(Place::Whole(format!("{layer}.{attention}.out_proj.{kind}"))),
            _ => return None,
        };
        return Some(Place::Third(format!("{layer}.{attention}.in_proj_{kind}"), third));
    }
    let part = match part {
        "self_attn_layer_norm" => "norm1",
        "encoder_attn_layer_norm" => "norm2",
        "final_layer_norm" => {
            if decoder {
                "norm3"
            } else {
                "norm2"
            }
        }
        "fc1" => "linear1",
        "fc2" => "linear2",
        _ => return None,
    };
    Some(Place::Whole(format!("{layer}.{part}.{rest}")))
}

/// Where a parameter of a residual network belongs: torchvision's (and timm's) names stay, those of `ResNetModel` are translated;
/// counters and the classifier say nothing to us.
pub(super) fn resnet_place(name: &str) -> Place {
    let name = name.strip_prefix("resnet.").unwrap_or(name);
    if name.ends_with(".num_batches_tracked") || name.starts_with("fc.") || name.starts_with("classifier.") {
        return Place::Ignored;
    }
    Place::Whole(stage_name(name).unwrap_or_else(|| name.to_owned()))
}

fn stage_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("embedder.embedder.") {
        let (part, kind) = rest.split_once('.')?;
        return Some(format!("{}1.{kind}", if part == "convolution" { "conv" } else { "bn" }));
    }
    let (stage, rest) = name.strip_prefix("encoder.stages.")?.split_once(".layers.")?;
    let (block, rest) = rest.split_once('.')?;
    let place = format!("layer{}.{block}", stage.parse::<u32>().ok()?.checked_add(1)?);
    let normalised = |part: &str| part == "normalization";
    if let Some(rest) = rest.strip_prefix("shortcut.") {
        let (part, kind) = rest.split_once('.')?;
        return Some(format!("{place}.downsample.{}.{kind}", u8::from(normalised(part))));
    }
    let (number, rest) = rest.strip_prefix("layer.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    let number = number.parse::<u32>().ok()?.checked_add(1)?;
    Some(format!("{place}.{}{number}.{kind}", if normalised(part) { "bn" } else { "conv" }))
}
