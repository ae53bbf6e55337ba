//! Parameters and multiply-accumulates, against published figures and by hand.

use std::process::Command;

use hoi_runtime::geometry::Size;
use hoi_trainer::network::count::{Count, RmlrSizes, Totals, count_detr, count_rmlr};
use hoi_trainer::network::detr::DetrConfig;
use hoi_trainer::network::resnet::{Norm, ResNetConfig};

const SQUARE: Size = Size { width: 800, height: 800 };

/// In millions (or billions), to two places.
fn rounded(count: i64, unit: f64) -> f64 {
    (count as f64 / unit * 100.0).round() / 100.0
}

fn part(count: &Count, name: &str) -> Totals {
    count.parts().iter().find(|p| p.name == name).unwrap().totals
}

/// Parts and layers are the whole.
fn assert_complete(count: &Count) {
    let parts = count.parts();
    assert_eq!(parts.iter().map(|p| p.totals.parameters).sum::<i64>(), count.totals().parameters);
    assert_eq!(parts.iter().map(|p| p.totals.macs).sum::<i64>(), count.totals().macs);
}

#[test]
fn detr_of_full_size() {
    let expected = [
        (ResNetConfig::resnet50(), 41.52, Some(41.58), 60.17, 36_590_016, 57.021),
        (ResNetConfig::resnet101(), 60.46, None, 107.52, 55_529_920, 104.371),
    ];
    for (backbone, parameters, with_norms, macs, rule_parameters, rule_macs) in expected {
        let count = count_detr(&DetrConfig::full(backbone, 91), SQUARE).unwrap();
        assert_complete(&count);
        assert_eq!(rounded(count.totals().parameters, 1e6), parameters);
        assert!(with_norms.is_none_or(|expected| rounded(count.parameters_with_norms(), 1e6) == expected));
        assert_eq!(rounded(count.totals().macs, 1e9), macs);
        let rule = count.under_table4_rule();
        assert_eq!(rule.parameters, rule_parameters);
        assert_eq!((rule.macs as f64 / 1e6).round() / 1e3, rule_macs);
    }
}

#[test]
fn rmlr_of_full_size() {
    let config = DetrConfig::full(ResNetConfig::resnet50(), 80);
    let count = count_rmlr(&config, &RmlrSizes::full(117), SQUARE).unwrap();
    assert_complete(&count);
    assert_eq!(RmlrSizes::full(117).pairs, 435);
    let mut head = Totals::default();
    for (name, millions) in [
        ("projection of the map", 0.52),
        ("interactive relation encoder", 2.63),
        ("context", 1.05),
        ("masked RoI", 0.0),
        ("cue", 0.13),
        ("tokens", 0.13),
        ("pair", 2.10),
        ("interaction reasoning module", 8.40),
        ("verbs", 0.12),
    ] {
        let totals = part(&count, name);
        assert_eq!(rounded(totals.parameters, 1e6), millions, "{name}");
        head.parameters += totals.parameters;
        head.macs += totals.macs;
    }
    assert_eq!(head.parameters, 15_084_917);
    let macs = |names: &[&str]| rounded(names.iter().map(|name| part(&count, name).macs).sum(), 1e9);
    assert_eq!(macs(&["projection of the map", "interactive relation encoder", "context"]), 2.37);
    assert_eq!(macs(&["cue", "tokens", "pair", "interaction reasoning module", "verbs"]), 5.06);
    assert_eq!(part(&count, "masked RoI").macs, 435 * 625 * 256);
    assert_eq!((count.totals().parameters as f64 / 1e5).round() / 10.0, 56.6);
    // The rule counts the detector in it alone.
    assert_eq!(count.under_table4_rule().parameters, 36_590_016);
}

/// A network small enough for pencil and paper, on a picture whose sides are no multiples of the stride.
#[test]
fn tiny_by_hand() {
    let backbone = ResNetConfig { depths: [1, 1, 1, 2], stem_width: 2, dilate_last: true, norm: Norm::FrozenBatch };
    let config = DetrConfig {
        width: 4,
        heads: 2,
        encoder_layers: 1,
        decoder_layers: 1,
        feed_forward: 3,
        queries: 5,
        ..DetrConfig::full(backbone, 2)
    };
    let count = count_detr(&config, Size::new(36, 20)).unwrap();
    assert_complete(&count);
    let macs = |key: &str| count.layers().iter().find(|l| l.key == key).unwrap().macs;
    // Rows and columns: stem 10 x 18, pooled 5 x 9, then 5 x 9, 3 x 5, 2 x 3, and the dilated layer keeps 2 x 3.
    let body = "backbone.0.body";
    assert_eq!(macs(&format!("{body}.conv1")), 10 * 18 * 3 * 2 * 49);
    assert_eq!(macs(&format!("{body}.layer1.0.downsample.0")), 5 * 9 * 2 * 8);
    assert_eq!(macs(&format!("{body}.layer2.0.conv1")), 5 * 9 * 8 * 4);
    assert_eq!(macs(&format!("{body}.layer2.0.conv2")), 3 * 5 * 4 * 4 * 9);
    assert_eq!(macs(&format!("{body}.layer4.0.conv1")), 2 * 3 * 32 * 16);
    assert_eq!(macs(&format!("{body}.layer4.1.conv2")), 2 * 3 * 16 * 16 * 9);
    assert_eq!(macs("input_proj"), 6 * 64 * 4);
    // Six cells: four projections, and two products of 6 x 6 over four channels.
    assert_eq!(macs("transformer.encoder.layers.0.self_attn"), 4 * 6 * 16 + 2 * 36 * 4);
    assert_eq!(macs("transformer.encoder.layers.0.linear1"), 6 * 4 * 3);
    // Query and result of five queries, key and value of six cells.
    assert_eq!(macs("transformer.decoder.layers.0.multihead_attn"), 2 * 5 * 16 + 2 * 6 * 16 + 2 * 30 * 4);
    assert_eq!(macs("class_embed"), 5 * 4 * 3);
    assert_eq!(macs("bbox_embed.layers.2"), 5 * 4 * 4);
    // The parameters of a layer are those really built.
    let parameters = |key: &str| count.layer_parameters(count.layers().iter().find(|l| l.key == key).unwrap());
    assert_eq!(parameters(&format!("{body}.layer4.1.conv2")), 16 * 16 * 9);
    assert_eq!(parameters("transformer.encoder.layers.0.self_attn"), 3 * 16 + 12 + 16 + 4);
    assert_eq!(part(&count, "queries"), Totals { parameters: 20, macs: 0 });
    assert!(count_detr(&DetrConfig { heads: 3, ..config }, SQUARE).is_err());
}

#[test]
fn command_counts() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hoi-train")).arg("count").args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, _) = run(&["rmlr-r50", "--json"]);
    assert_eq!(status, Some(0));
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(object["detector_under_table4_rule"]["parameters"], 36_590_016);
    assert_eq!(object["size"], "800x800");
    assert_eq!(object["pairs"], 435);
    assert_eq!(object["parts"].as_array().unwrap().len(), 15);
    let (status, out, _) = run(&["rmlr-r50", "--verbs", "24"]);
    assert_eq!(status, Some(0));
    for said in ["36590016", "57.021", "Nor is 36.98 M a count", "context (eq. 6, 2048 to 512) alone has 1.05 M"] {
        assert!(out.contains(said), "{said}: {out}");
    }
    let (status, _, error) = run(&["detr-r50", "--size", "800"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("expected width and height from 1 to 16384, as in 800x800"), "{error}");
}
