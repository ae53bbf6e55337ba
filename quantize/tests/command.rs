//! The command `hoi-quantize`, run as a process.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoi_quantize::onnx::{self, GraphBuilder, ModelProto, StringStringEntryProto, data_location};
use hoi_runtime::engine::{Dim, ElementType};
use serde_json::Value;
use tempfile::TempDir;

/// `y = x w` with `w` of `[32, 64]`.
fn linear() -> ModelProto {
    let shape = |n| [Dim::Symbol("P".into()), Dim::Fixed(n)];
    let w: Vec<f32> = (0..32 * 64).map(|i| (i as f32).sin()).collect();
    GraphBuilder::new("linear")
        .input("x", ElementType::F32, &shape(32))
        .initializer_f32("w", &[32, 64], &w)
        .initializer_f32("b", &[64], &w[..64])
        .node("MatMul", &["x", "w"], &["m"], vec![])
        .node("Add", &["m", "b"], &["y"], vec![])
        .output("y", ElementType::F32, &shape(64))
        .finish()
}

/// A folder with `in.onnx`.
fn folder(bytes: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.onnx"), bytes).unwrap();
    folder
}

/// Runs `hoi-quantize` inside `folder`.
fn quantize(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hoi-quantize")).args(arguments).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into()).collect();
    names.sort();
    names
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// `fp16` on these bytes must fail with exit status `status` and these words, once, and leave nothing behind.
fn refused(bytes: &[u8], status: i32, words: &[&str]) {
    let folder = folder(bytes);
    let output = quantize(folder.path(), &["fp16", "in.onnx", "out.onnx", "--report", "report.json"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert_eq!(said.matches(word).count(), 1, "`{word}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(listing(folder.path()), [Path::new("in.onnx")]);
    assert_eq!(std::fs::read(folder.path().join("in.onnx")).unwrap(), bytes);
}

#[test]
fn a_graph_becomes_smaller_and_says_so() {
    let folder = folder(&onnx::to_bytes(&linear()).unwrap());
    let output = quantize(folder.path(), &["fp16", "in.onnx", "out.onnx"]);
    let said = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for words in ["converted  1 tensors, 2048 elements", "kept f32   1 tensors, 1 of them small", "written    out.onnx"]
    {
        assert!(said.contains(words), "`{words}` in:\n{said}");
    }
    assert_eq!(listing(folder.path()), [Path::new("in.onnx"), Path::new("out.onnx")]);
    let size = |name| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(said.contains(&format!("{} -> {} bytes", size("in.onnx"), size("out.onnx"))), "{said}");
    assert!(size("out.onnx") * 10 < size("in.onnx") * 6);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("in.onnx"), mode("out.onnx"), "as readable as any new file");
    }

    // Once more: nothing to do, said, and the bytes stay.
    let output = quantize(folder.path(), &["fp16", "out.onnx", "again.onnx"]);
    assert!(output.status.success() && stdout(&output).contains("nothing to do"), "{}", stdout(&output));
    let bytes = |name| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(bytes("out.onnx"), bytes("again.onnx"));
}

#[test]
fn the_json_report() {
    let folder = folder(&onnx::to_bytes(&linear()).unwrap());
    let arguments =
        ["fp16", "in.onnx", "out.onnx", "--json", "--report", "report.json", "--seed", "5", "--input-range", "-2", "2"];
    let output = quantize(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1, "one object a line");
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let written = std::fs::read(folder.path().join("report.json")).unwrap();
    assert_eq!(report, serde_json::from_slice::<Value>(&written).unwrap());

    let mut top = keys(&report);
    top.sort_unstable();
    assert_eq!(
        top,
        [
            "bytes_after",
            "bytes_before",
            "comparison",
            "input",
            "native",
            "output",
            "schema",
            "tensors",
            "tolerance",
            "within_tolerance"
        ]
    );
    assert_eq!((&report["schema"], &report["within_tolerance"]), (&"hoi.fp16/1".into(), &true.into()));
    let sorted = |value: &Value| {
        let mut all: Vec<String> = keys(value).iter().map(|&k| k.to_owned()).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(sorted(&report["tensors"]), "already_f16 converted kept");
    assert_eq!(sorted(&report["tensors"]["converted"][0]), "elements graph max_abs_error name");
    assert_eq!(sorted(&report["tensors"]["kept"][0]), "elements graph name reason");
    assert_eq!(report["tensors"]["kept"][0]["reason"], "too_small");
    assert_eq!(sorted(&report["comparison"]), "engine inputs outputs");
    assert_eq!(report["comparison"]["inputs"], serde_json::json!({"seed": 5, "draws": 3, "range": [-2.0, 2.0]}));
    assert_eq!(sorted(&report["comparison"]["outputs"][0]), "elements max_abs name non_finite_mismatches range");
    let difference = report["comparison"]["outputs"][0]["max_abs"].as_f64().unwrap();
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
}

#[test]
fn a_graph_that_computes_in_f16() {
    let folder = folder(&onnx::to_bytes(&linear()).unwrap());
    let output = quantize(folder.path(), &["fp16", "in.onnx", "out.onnx", "--native"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("computes in f16"), "{}", stdout(&output));
    let model = onnx::read(&folder.path().join("out.onnx")).unwrap();
    let nodes = model.graph.unwrap().node;
    let casts = nodes.iter().filter(|n| n.op() == "Cast").count();
    assert_eq!((nodes[0].op(), nodes[nodes.len() - 1].op(), casts), ("Cast", "Cast", 2), "at the borders only");
    // It holds casts that --native would only double; what it computes stays the same.
    let output = quantize(folder.path(), &["fp16", "out.onnx", "again.onnx", "--native", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["native"], report["tensors"]["converted"].as_array().unwrap().len()), (&true.into(), 0));
}

#[test]
fn beyond_the_tolerance_nothing_is_written() {
    let folder = folder(&onnx::to_bytes(&linear()).unwrap());
    let output = quantize(
        folder.path(),
        &["fp16", "in.onnx", "out.onnx", "--tolerance", "0", "--json", "--report", "report.json"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["within_tolerance"], false);
    assert_eq!(listing(folder.path()), [Path::new("in.onnx")]);
}

#[test]
fn files_that_are_no_onnx() {
    refused(b"", 1, &["in.onnx", "empty"]);
    refused(b"\x89PNG\r\n\x1a\n and more", 1, &["in.onnx", "not an ONNX file"]);
    let bytes = onnx::to_bytes(&linear()).unwrap();
    refused(&bytes[..bytes.len() / 2], 1, &["in.onnx", "truncated"]);
    refused(&bytes[..2], 1, &["in.onnx", "it has no graph"]);
}

#[test]
fn weights_in_other_files_are_refused() {
    let mut model = linear();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    tensor.raw_data = None;
    tensor.data_location = Some(data_location::EXTERNAL);
    let location = StringStringEntryProto { key: Some("location".into()), value: Some("../secret.bin".into()) };
    tensor.external_data = vec![location];
    refused(&prost::Message::encode_to_vec(&model), 1, &["in.onnx", "`w`", "`../secret.bin`"]);
}

#[test]
fn nan_weights_are_refused() {
    for (tensor, position) in [(0, 1500), (1, 7)] {
        let mut model = linear();
        let raw = model.graph.as_mut().unwrap().initializer[tensor].raw_data.as_mut().unwrap();
        raw[4 * position..4 * position + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        refused(&onnx::to_bytes(&model).unwrap(), 1, &["the original graph", "NaN", &format!("position {position}")]);
    }
}

#[test]
fn a_graph_that_does_not_run_is_refused() {
    let mut model = linear();
    model.graph.as_mut().unwrap().node[0].op_type = Some("NoSuchOperator".into());
    refused(&onnx::to_bytes(&model).unwrap(), 1, &["the original graph"]);
}

#[test]
fn paths_that_do_not_fit() {
    let bytes = onnx::to_bytes(&linear()).unwrap();
    let folder = folder(&bytes);
    std::fs::create_dir(folder.path().join("dir")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("in.onnx", folder.path().join("link.onnx")).unwrap();
    let before = listing(folder.path());
    let mut cases: Vec<(&[&str], i32, &str)> = vec![
        (&["fp16", "in.onnx", "in.onnx"], 2, "same file"),
        (&["fp16", "in.onnx", "dir/../in.onnx"], 2, "same file"),
        (&["fp16", "in.onnx", "out.onnx", "--report", "in.onnx"], 2, "same file"),
        (&["fp16", "in.onnx", "out.onnx", "--report", "out.onnx"], 2, "same file"),
        (&["fp16", "in.onnx", "out.onnx", "--input-range", "1", "0"], 2, "the smaller first"),
        (&["fp16", "in.onnx", "out.onnx", "--tolerance", "-1"], 2, "tolerance"),
        (&["fp16", "in.onnx"], 2, "<OUTPUT>"),
        (&[], 2, "Usage"),
        (&["fp16", "dir", "out.onnx"], 1, "not a regular file"),
        (&["fp16", "none.onnx", "out.onnx"], 1, "none.onnx"),
        (&["fp16", "in.onnx", "dir"], 1, "dir"),
        (&["fp16", "in.onnx", "none/out.onnx"], 1, "none/out.onnx"),
        (&["fp16", "in.onnx", "out.onnx", "--report", "none/report.json"], 1, "none/report.json"),
    ];
    if cfg!(unix) {
        cases.push((&["fp16", "in.onnx", "link.onnx"], 2, "same file"));
    }
    for (arguments, status, words) in cases {
        let output = quantize(folder.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(listing(folder.path()), before, "{arguments:?}");
        assert_eq!(std::fs::read(folder.path().join("in.onnx")).unwrap(), bytes, "{arguments:?}");
    }
}

#[test]
fn help_names_every_option() {
    let folder = tempfile::tempdir().unwrap();
    let output = quantize(folder.path(), &["fp16", "--help"]);
    assert!(output.status.success());
    let said = stdout(&output);
    for option in [
        "<INPUT>",
        "<OUTPUT>",
        "--report",
        "--json",
        "--native",
        "--seed",
        "--input-range",
        "--tolerance",
        "[default: 0.02]",
    ] {
        assert!(said.contains(option), "`{option}` in:\n{said}");
    }
}
