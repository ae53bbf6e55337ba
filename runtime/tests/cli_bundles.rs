//! `hoi inspect`, `hoi bundle` and `hoi bench` as processes, and the texts of `--help`.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn hoi(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hoi")).args(args).current_dir(ROOT).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn inspect_shows_what_a_bundle_is_wants_and_gives() {
    for args in [&["inspect"][..], &["inspect", "models/nano"]] {
        let output = hoi(args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        for part in [
            "nano",
            "detector.onnx",
            "family ssd",
            "interactions",
            "[1, 3, 300, 300]",
            "spatial",
            "verb_logits",
            "licence",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
    let output = hoi(&["inspect", "--json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["manifest"]["schema"], "hoi.bundle/1");
    assert_eq!(object["graphs"]["interaction.onnx"]["outputs"][0]["name"], "verb_logits");
    let output = hoi(&["inspect", "models"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("manifest.json"));
}

#[test]
fn inspect_shows_taps_and_tokens() {
    let name = "deimv2_femto_416";
    let graph = Path::new(ROOT).join(format!("../shared/data/weights/{name}.onnx"));
    if !graph.exists() {
        println!("skipped: {} is not there", graph.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deim").display().to_string();
    let (graph, description) = (graph.display().to_string(), format!("models/detectors/{name}.json"));
    let output = hoi(&[
        "bundle",
        &out,
        "--name",
        "deim",
        "--description",
        "DEIM",
        "--detector",
        &graph,
        "--detector-description",
        &description,
        "--head",
        "models/heads/layout.onnx",
        "--head-description",
        "models/heads/layout.json",
        "--head-licence",
        "Apache-2.0",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&hoi(&["inspect", &out]).stdout);
    for part in ["family deim", "feature = /model/backbone/stages.2/", "entity_tokens [N, 96]", "layers.2/norm3"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let output = hoi(&["bench", "--bundle", &out, "--seconds", "1", "--crowd", "2,2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_committed_bundles_are_those_in_the_program() {
    let json = |args: &[&str]| -> Value { serde_json::from_slice(&hoi(args).stdout).unwrap() };
    for name in ["nano", "nano-int8"] {
        let (builtin, folder) = (format!("builtin:{name}"), format!("models/{name}"));
        let shown = json(&["inspect", &builtin, "--json"]);
        assert_eq!(shown["manifest"], json(&["inspect", &folder, "--json"])["manifest"]);
        assert_eq!((&shown["origin"], &shown["manifest"]["name"]), (&builtin.into(), &name.into()));
    }
    let output = hoi(&["inspect", "builtin:mega"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("builtin:mega: no such bundle") && said.contains("builtin:nano and builtin:nano-int8"),
        "{said}"
    );
}

#[test]
fn what_runs_by_default_is_the_faster_one() {
    let json = |args: &[&str]| -> Value { serde_json::from_slice(&hoi(args).stdout).unwrap() };
    let graphs = json(&["inspect", "builtin:nano-int8", "--json"])["graphs"].clone();
    let kernels = graphs["detector.onnx"]["integers"]["kernels"].as_str().unwrap().to_owned();
    let expected = if kernels == "portable" { "builtin:nano" } else { "builtin:nano-int8" };
    assert_eq!(json(&["inspect", "--json"])["origin"], expected, "{kernels} kernels");
    assert_eq!(json(&["bench", "--seconds", "1", "--json"])["bundle"], expected, "{kernels} kernels");
    let output = hoi(&["bench", "--seconds", "1", "--threads", "2", "--bundle", "builtin:nano"]);
    assert!(text(&output.stdout).starts_with("builtin:nano, 2 threads\n"), "{}", text(&output.stdout));
}

#[test]
fn a_bundle_is_made_with_the_same_detector_and_answers_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("again");
    let out = out.to_str().unwrap();
    // The base's own detector, with the taps that its head looks at.
    let manifest: Value =
        serde_json::from_slice(&fs::read(Path::new(ROOT).join("models/nano/manifest.json")).unwrap()).unwrap();
    let record = manifest["training"].as_array().unwrap().iter().find(|t| t["part"] == "detector").unwrap();
    let described = serde_json::json!({"detector": manifest["detector"], "precision": manifest["precision"]["detector.onnx"],
        "training": record});
    let description = folder.path().join("detector.json");
    fs::write(&description, described.to_string()).unwrap();
    let calibration = folder.path().join("calibration.json");
    fs::write(&calibration, manifest["fusion"]["calibration"].to_string()).unwrap();
    let mut calibrated: Vec<&str> = Vec::new();
    if !manifest["fusion"]["calibration"].is_null() {
        calibrated.extend(["--calibration", calibration.to_str().unwrap()]);
    }
    let made = [
        "bundle",
        out,
        "--name",
        "again",
        "--description",
        "the same again",
        "--detector",
        "models/nano/detector.onnx",
        "--detector-description",
        description.to_str().unwrap(),
    ];
    let output = hoi(&[&made[..], &calibrated].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let triplets = |args: &[&str]| -> Value {
        let frame: Value = serde_json::from_slice(&hoi(args).stdout).unwrap();
        frame["triplets"].clone()
    };
    let photo = "tests/photos/ride_bicycles.jpg";
    let made = triplets(&["detect", photo, "--json", "--bundle", out]);
    assert!(!made.as_array().unwrap().is_empty());
    assert_eq!(made, triplets(&["detect", photo, "--json", "--bundle", "builtin:nano"]));
    let manifest: Value = serde_json::from_slice(&fs::read(Path::new(out).join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["accuracy"], serde_json::json!([]), "figures of the base were not measured on it");
}

#[test]
fn a_bundle_that_does_not_run_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bad");
    let output = hoi(&[
        "bundle",
        out.to_str().unwrap(),
        "--name",
        "bad",
        "--description",
        "not a detector",
        "--detector",
        "models/nano/interaction.onnx",
        "--detector-description",
        "models/detectors/yolox_nano.json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("does not run"), "{}", text(&output.stderr));
    assert!(!out.exists());
    // A folder with something else in it is never replaced.
    fs::write(folder.path().join("diary.txt"), "mine").unwrap();
    let output = hoi(&["bundle", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(folder.path().join("diary.txt")).unwrap(), "mine");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for command in ["inspect", "bench --seconds 1 --crowd 2,4", "detect tests/photos/ride_horse.jpg"] {
        let pipe = format!("\"$0\" {command} | true; exit \"${{PIPESTATUS[0]}}\"");
        let output =
            Command::new("bash").args(["-c", &pipe, env!("CARGO_BIN_EXE_hoi")]).current_dir(ROOT).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn bench_measures_every_stage() {
    let output = hoi(&["bench", "--seconds", "1", "--json", "tests/photos/ride_horse.jpg"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    for stage in ["preprocess", "detector", "pairs", "head", "fusion", "after_detector", "total"] {
        let p50 = object["stages"][stage]["p50_ms"].as_f64().unwrap();
        assert!(p50 > 0.0 && p50 <= object["stages"][stage]["p99_ms"].as_f64().unwrap(), "{stage}");
    }
    assert!(object["frames"].as_u64().unwrap() >= 1);
    let output = hoi(&["bench", "--seconds", "1", "--json", "--crowd", "15,15", "--stage", "after-detector"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 15 people with 14 others and 15 objects each, and each of them alone.
    assert_eq!(object["pairs"], 15 * 29 + 15);
    assert_eq!(object["p50_ms"], object["stages"]["after_detector"]["p50_ms"]);
}

#[test]
fn help_is_as_documented() {
    for command in ["detect", "inspect", "bench", "bundle"] {
        let shown = text(&hoi(&[command, "--help"]).stdout);
        let path = Path::new(ROOT).join(format!("runtime/tests/help/{command}.txt"));
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(shown, expected, "if the change is meant, write it to {}", path.display());
    }
}
