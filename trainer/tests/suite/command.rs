//! The command as a process.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::tiny::TinyData;

pub fn hoi_train(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hoi-train")).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn trains_and_scores() {
    let tiny = TinyData::write();
    let root = tiny.root();
    let out = tiny.folder.path().join("run");
    let train = [
        "layout",
        "--root",
        path(&root),
        "--out",
        path(&out),
        "--epochs",
        "3",
        "--batch-images",
        "8",
        "--hidden",
        "16",
        "--embedding",
        "4",
    ];
    let done = hoi_train(&train);
    assert!(done.status.success(), "{}", text(&done.stderr));
    for file in ["interaction.onnx", "head.json", "checkpoint.json", "checkpoint.3.safetensors", "log.csv"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let head: Value = serde_json::from_slice(&std::fs::read(out.join("head.json")).unwrap()).unwrap();
    assert!(head["training"]["command"].as_str().unwrap().starts_with("hoi-train layout --root"));

    let (onnx, description) = (out.join("interaction.onnx"), out.join("head.json"));
    let eval = ["eval", "hico-det", "--head", path(&onnx), "--head-json", path(&description), "--root", path(&root)];
    let scored = hoi_train(&[&eval[..], &["--setting", "open", "--json"]].concat());
    assert!(scored.status.success(), "{}", text(&scored.stderr));
    let last: Value = serde_json::from_str(text(&scored.stdout).lines().last().unwrap()).unwrap();
    for mode in ["default", "known_object"] {
        for group in ["full", "rare", "non_rare", "without_no_interaction"] {
            let value = last[mode][group].as_f64().unwrap();
            assert!((0.0..=100.0).contains(&value), "{mode} {group} {value}");
        }
    }
    assert!(last["boxes"].as_str().unwrap().contains("not a detection result"));
    let again = hoi_train(&[&eval[..], &["--setting", "open", "--json"]].concat());
    assert_eq!(scored.stdout, again.stdout, "the same seed gives the same numbers");

    let table = text(&hoi_train(&eval).stdout);
    assert_eq!(table.matches("not a detection result").count(), 3, "{table}");
    assert_eq!(table.matches("Known-Object").count(), 3, "{table}");

    // What perfect verbs reach on boxes that are the annotation's own.
    let perfect =
        hoi_train(&["eval", "hico-det", "--root", path(&root), "--scorer", "perfect", "--setting", "merged", "--json"]);
    let perfect: Value = serde_json::from_slice(&perfect.stdout).unwrap();
    assert_eq!(perfect["default"]["full"], 100.0);
}

#[test]
fn holds_out_stops_and_resumes() {
    let tiny = TinyData::write();
    let root = tiny.root();
    let out = tiny.folder.path().join("run");
    let arguments = [
        "layout",
        "--root",
        path(&root),
        "--out",
        path(&out),
        "--epochs",
        "2",
        "--hidden",
        "8",
        "--embedding",
        "4",
        "--holdout",
        "--json",
    ];
    let stopped = hoi_train(&[&arguments[..], &["--stop-after", "1"]].concat());
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    assert!(!out.join("interaction.onnx").exists());
    let anew = hoi_train(&arguments);
    assert_eq!(anew.status.code(), Some(1));
    assert!(text(&anew.stderr).contains("--resume"), "{}", text(&anew.stderr));
    let resumed = hoi_train(&[&arguments[..], &["--resume"]].concat());
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let lines: Vec<Value> = text(&resumed.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["finished"], true);
    assert_eq!(lines[2]["setting"], "open");
    assert!(lines[2]["default"]["full"].is_number());
    assert_eq!(lines[2]["images"], 12);
}

#[test]
fn failures_say_what_and_where() {
    let tiny = TinyData::write();
    let root = tiny.root();
    let absent = root.join("absent");
    let missing = hoi_train(&["layout", "--root", path(&absent), "--out", path(&root.join("o"))]);
    assert_eq!(missing.status.code(), Some(1));
    let stderr = text(&missing.stderr);
    assert!(stderr.contains("absent") && stderr.matches("hoi-train:").count() == 1, "{stderr}");

    std::fs::write(root.join("head.json"), "{}").unwrap();
    let (graph, description) = (root.join("none.onnx"), root.join("head.json"));
    let wrong = hoi_train(&[
        "eval",
        "hico-det",
        "--root",
        path(&root),
        "--head",
        path(&graph),
        "--head-json",
        path(&description),
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("does not describe a head"), "{}", text(&wrong.stderr));

    // The built-in vocabulary is the published one, not this one's.
    for bad in [
        &["layout"][..],
        &["layout", "--root", "x", "--out", "y", "--setting", "closed"],
        &["layout", "--root", "x", "--out", "y", "--epochs", "many"],
        &["eval", "hico-det", "--head", "x"],
        &["eval", "imagenet"],
        &["fly"],
        &[],
    ] {
        let refused = hoi_train(bad);
        assert_eq!(refused.status.code(), Some(2), "{bad:?}");
        assert!(refused.stdout.is_empty(), "{bad:?}");
    }
}
