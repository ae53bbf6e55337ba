//! `hoi-train data check` as a process.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::tiny::TinyData;

fn check(set: &str, root: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoi-train"));
    command.args(["data", "check", set, "--root"]).arg(root).args(more).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn finding<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    lines.iter().find(|line| line["what"] == what).unwrap()
}

fn counts(finding: &Value) -> Vec<(&str, Option<u64>, u64)> {
    finding["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["what"].as_str().unwrap(), c["expected"].as_u64(), c["found"].as_u64().unwrap()))
        .collect()
}

#[test]
fn a_folder_with_other_counts_fails() {
    let tiny = TinyData::write();
    let output = check("hico-det", &tiny.root(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let train = finding(&lines, "annotation, train");
    assert_eq!(train["state"], "failed");
    assert_eq!(counts(train)[0], ("images", Some(38_118), 61));
    assert_eq!(finding(&lines, "labels of whole images")["state"], "absent");
    assert_eq!(lines.last().unwrap()["fine"], false);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("annotation, train") && error.contains("not as published"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let text = String::from_utf8(check("v-coco", empty.path(), &[]).stdout).unwrap();
    assert!(text.contains("FAILED  annotation, test: ") && text.contains("instances_vcoco_test.json"), "{text}");
    let nowhere = check("hico-det", &empty.path().join("nowhere"), &["--json"]);
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn the_published_annotation_is_found_and_pictures_are_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/v-coco");
    if !root.is_dir() {
        println!("skipped: ../shared/data/v-coco is not here");
        return;
    }
    let output = check("v-coco", &root, &["--json", "--decode"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let read = lines(&output);
    assert_eq!(counts(finding(&read, "annotation, test"))[2], ("pairs of 24 action-roles", Some(12_402), 12_402));
    let labels = finding(&read, "official labels, val");
    assert_eq!(counts(labels)[1], ("persons that hold", Some(2_163), 2_163));
    assert_eq!(counts(labels).len(), 27);
    let pictures = ["trainval", "test"].map(|split| counts(finding(&read, &format!("pictures, {split}")))[0].2);
    assert_eq!(pictures.iter().sum::<u64>(), 8);
    assert_eq!(read.last().unwrap()["fine"], true);
    let needed = check("v-coco", &root, &["--need-pictures"]);
    assert_eq!(needed.status.code(), Some(1));
    assert!(String::from_utf8(needed.stderr).unwrap().contains("pictures, test"));
}
