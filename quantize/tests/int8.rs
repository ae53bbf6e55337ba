//! The command `hoi-quantize int8`, run as a process.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoi_quantize::onnx::{self, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, data_location};
use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::{ImageLimits, open_image};
use serde_json::Value;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn photos() -> String {
    in_repository("tests/photos").display().to_string()
}

/// Runs `hoi-quantize int8` inside `folder`.
fn int8(folder: &Path, arguments: &[&str]) -> Output {
    let all = ["int8"].iter().chain(arguments);
    Command::new(env!("CARGO_BIN_EXE_hoi-quantize")).args(all).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `int8` must fail with this exit status and these words and leave no `out`.
fn refused(folder: &Path, arguments: &[&str], status: i32, words: &[&str]) {
    let output = int8(folder, arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "`{word}` in: {said}");
    }
    assert!(!said.contains("panicked") && !folder.join("out").exists(), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().starts_with('.')), "{left:?}");
}

/// The default bundle with another detector file, in `folder/in`.
fn with_detector(folder: &Path, content: Vec<u8>) {
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    parts.files.insert(parts.manifest.detector.file.clone(), content);
    write_bundle(&folder.join("in"), parts).unwrap();
}

/// The default bundle's detector, changed, in `folder/in`.
fn changed(folder: &Path, change: impl FnOnce(&mut ModelProto)) {
    let bundle = ModelBundle::builtin().unwrap();
    let mut model = onnx::from_bytes(bundle.file(&bundle.manifest().detector.file).unwrap()).unwrap();
    change(&mut model);
    with_detector(folder, prost::Message::encode_to_vec(&model));
}

#[test]
fn the_default_bundle_becomes_a_bundle_that_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let nano = in_repository("models/nano").display().to_string();
    let arguments = [&nano, "out", "--images", &photos(), "--json", "--save-statistics", "s.json"];
    let output = int8(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("calibration images"), "so few get a warning: {}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["schema"], &report["method"]), (&"hoi.int8/1".into(), &"mse".into()));
    let convolutions = &report["operators"]["Conv"];
    assert_eq!(
        (&convolutions["quantized"], &convolutions["float_names"]),
        (&88.into(), &serde_json::json!(["relation.map"]))
    );
    let bytes = |key: &str| report[key].as_f64().unwrap();
    assert!(bytes("bytes_after") <= 0.30 * bytes("bytes_float"), "{report}");
    let logits = report["outputs"].as_array().unwrap().iter().find(|o| o["name"] == "logits").unwrap();
    assert!(logits["decibel"].as_f64().unwrap() > 24.0, "{logits}");

    // It is a bundle: it loads with its hashes, says what it is, and finds what the float one finds.
    let bundle = ModelBundle::load(&folder.path().join("out")).unwrap();
    let manifest = bundle.manifest();
    assert_eq!((manifest.name.as_str(), manifest.accuracy.len()), ("nano-int8", 0));
    assert!(manifest.precision["detector.onnx"].starts_with("int8"));
    let note = manifest.notes.last().unwrap();
    assert!(note.contains("hoi-quantize int8") && note.contains("method mse"), "{note}");
    let calibration = String::from_utf8(bundle.file("calibration.txt").unwrap().to_vec()).unwrap();
    let mut photographs: Vec<String> = std::fs::read_dir(photos())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "licenses.json")
        .collect();
    photographs.sort();
    assert_eq!(calibration.lines().collect::<Vec<_>>(), photographs, "the note names the list: {note}");
    assert!(note.ends_with("(calibration.txt)."), "{note}");
    assert!(["NOTICE", "LICENSE", "MODEL_CARD.md"].iter().all(|f| bundle.file(f).is_some()));
    let engine = TractEngine::new(2);
    let photo = open_image(&in_repository("tests/photos/ride_bicycles.jpg"), &ImageLimits::default()).unwrap();
    let people = |bundle: &ModelBundle| {
        let pipeline = HoiPipeline::new(bundle, &engine).unwrap();
        let found = pipeline.run(&photo).unwrap().detections;
        found.iter().filter(|d| d.class == pipeline.vocabulary().human() && d.score > 0.5).count()
    };
    assert_eq!(people(&bundle), people(&ModelBundle::builtin().unwrap()));

    // The statistics serve again, without an image, for another method; and only for this graph.
    let output = int8(folder.path(), &[&nano, "again", "--statistics", "s.json", "--method", "min-max"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("method min-max"), "{}", stdout(&output));
    let list = |name: &str| std::fs::read_to_string(folder.path().join(name).join("calibration.txt")).unwrap();
    assert_eq!(list("again"), calibration, "the statistics know their images");
    let output = int8(folder.path(), &["again", "twice", "--statistics", "s.json"]);
    assert!(
        stderr(&output).contains("quantized already") && !folder.path().join("twice").exists(),
        "{}",
        stderr(&output)
    );
    changed(folder.path(), |model| model.producer_name = Some("someone else".into()));
    let before = std::fs::read(folder.path().join("s.json")).unwrap();
    let output = int8(folder.path(), &["in", "third", "--statistics", "s.json"]);
    assert!(stderr(&output).contains("statistics of another graph"), "{}", stderr(&output));
    assert_eq!(std::fs::read(folder.path().join("s.json")).unwrap(), before);

    // A folder in use is refused before anything is done.
    let output = int8(folder.path(), &[&nano, "out", "--images", "/no/such/folder"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("out: there is something already"), "{}", stderr(&output));
}

#[test]
fn detectors_that_are_none() {
    let bundle = ModelBundle::builtin().unwrap();
    let bytes = bundle.file(&bundle.manifest().detector.file).unwrap();
    let photos = photos();
    let arguments = ["in", "out", "--images", &photos];
    let cases: [(Vec<u8>, &str); 3] = [
        (b"\x89PNG\r\n\x1a\n and more".to_vec(), "not an ONNX file"),
        (bytes[..bytes.len() / 2].to_vec(), "truncated"),
        (Vec::new(), "empty"),
    ];
    for (content, word) in cases {
        let folder = tempfile::tempdir().unwrap();
        with_detector(folder.path(), content);
        refused(folder.path(), &arguments, 1, &["detector.onnx", word]);
    }
}

#[test]
fn detectors_that_cannot_be_quantized() {
    let photos = photos();
    let arguments = ["in", "out", "--images", &photos];
    let case = |words: &[&str], change: &dyn Fn(&mut ModelProto)| {
        let folder = tempfile::tempdir().unwrap();
        changed(folder.path(), change);
        refused(folder.path(), &arguments, 1, words);
    };
    case(&["operator set 12"], &|model| model.opset_import[0].version = Some(12));
    case(&["operator set 99"], &|model| model.opset_import[0].version = Some(99));
    case(&["NaN", "position 0", "c_3"], &|model| {
        let tensor = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name_or_empty() == "c_3").unwrap();
        tensor.raw_data.as_mut().unwrap()[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    case(&["c_3", "`../secret.bin`"], &|model| {
        let tensor = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name_or_empty() == "c_3").unwrap();
        tensor.raw_data = None;
        tensor.data_location = Some(data_location::EXTERNAL);
        let location = StringStringEntryProto { key: Some("location".into()), value: Some("../secret.bin".into()) };
        tensor.external_data = vec![location];
    });
}

#[test]
fn images_and_arguments_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let nano = in_repository("models/nano").display().to_string();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::fs::create_dir(folder.path().join("broken")).unwrap();
    std::fs::write(folder.path().join("broken/one.jpg"), b"no picture").unwrap();
    let photos = photos();
    let cases: [(&[&str], i32, &str); 13] = [
        (&[&nano, "out", "--images", "empty"], 1, "no pictures"),
        (&[&nano, "out", "--images", "none"], 1, "none"),
        (&[&nano, "out", "--images", "broken"], 1, "one.jpg"),
        (&["empty", "out", "--images", "empty"], 1, "manifest.json"),
        (&[&nano, "out"], 2, "--images"),
        (&[&nano, "out", "--images", &photos, "--count", "0"], 2, "--count"),
        (&[&nano, "out", "--images", &photos, "--percentile", "-1"], 2, "--percentile"),
        (&[&nano, "out", "--images", &photos, "--method", "guess"], 2, "min-max"),
        (&[&nano, "out", "--images", &photos, "--keep-float", "nobody*"], 2, "nobody*"),
        (&[&nano, "out", "--statistics", "broken/one.jpg"], 1, "one.jpg"),
        (&[&nano, "out", "--images", &photos, "--max-drop", "100"], 2, "below 100"),
        (&[&nano, "out", "--statistics", "s.json", "--sensitivity"], 2, "--images"),
        (&[&nano, "out", "--images", &photos, "--report", "broken"], 2, "broken: there is something already"),
    ];
    for (arguments, status, words) in cases {
        refused(folder.path(), arguments, status, &[words]);
    }
}

/// The nodes behind each other: a depthwise convolution, its Clip and the convolution that alone reads it, in the middle of the network.
fn depthwise_and_its_reader(graph: &GraphProto) -> (NodeProto, NodeProto) {
    let reader_of = |name: &str| {
        let mut readers = graph.node.iter().filter(|n| n.input.iter().any(|i| i == name));
        readers.next().filter(|_| readers.next().is_none())
    };
    let depthwise = |n: &&NodeProto| n.op() == "Conv" && n.int("group").unwrap_or(1) > 1;
    let pairs = graph.node.iter().filter(depthwise).filter_map(|n| {
        let clip = reader_of(&n.output[0]).filter(|c| c.op() == "Clip")?;
        let dense = reader_of(&clip.output[0]).filter(|c| c.op() == "Conv" && c.int("group").unwrap_or(1) == 1)?;
        Some((n.clone(), dense.clone()))
    });
    let all: Vec<_> = pairs.collect();
    all[all.len() / 2].clone()
}

/// Changes a constant.
fn rewrite(graph: &mut GraphProto, name: &str, change: impl FnOnce(&[i64], &mut [f32])) {
    let tensor = graph.initializer.iter_mut().find(|t| t.name_or_empty() == name).unwrap();
    let mut values = tensor.f32_values().unwrap();
    change(&tensor.dims, &mut values);
    *tensor = TensorProto::from_f32(name, &tensor.dims, &values);
}

#[test]
fn a_layer_with_outliers_is_named_first_and_stays_float() {
    let folder = tempfile::tempdir().unwrap();
    let mut spoilt = String::new();
    // Channel 0 of a depthwise convolution is always 0, and the weights of the layer that reads it are so large there that the others round to
    // nothing: no float result changes by it.
    changed(folder.path(), |model| {
        let builtin = ModelBundle::builtin().unwrap();
        let taps: Vec<String> = builtin.manifest().detector.taps.values().cloned().collect();
        hoi_quantize::passes::clean(model, &taps);
        let graph = model.graph.as_mut().unwrap();
        let (depthwise, dense) = depthwise_and_its_reader(graph);
        rewrite(graph, &depthwise.input[1], |dims, values| {
            let window = values.len() / dims[0] as usize;
            values[..window].fill(0.0);
        });
        rewrite(graph, &depthwise.input[2], |_, values| values[0] = -1.0);
        rewrite(graph, &dense.input[1], |dims, values| {
            let row = (dims[1] * dims[2] * dims[3]) as usize;
            values.iter_mut().step_by(row).for_each(|v| *v = 300.0);
        });
        spoilt.clone_from(&dense.output[0]);
    });
    let photos = photos();
    let common = ["--images", &photos, "--candidates", "2", "--json"];
    let report = |arguments: &[&str]| -> Value {
        let output = int8(folder.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains("judged on calibration's"), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let listed = report(&[&["in", "listed", "--sensitivity"][..], &common].concat());
    let layers = listed["layers"].as_array().unwrap();
    let decibel = |layer: &Value| layer["alone"]["decibel"].as_f64().unwrap_or(f64::INFINITY);
    let worst = layers.iter().min_by(|a, b| decibel(a).total_cmp(&decibel(b))).unwrap();
    assert_eq!((layers.len(), &worst["name"]), (88, &spoilt.as_str().into()), "{worst}");
    let mixed = &listed["mixed"];
    let lost = |of: &Value| of["lost"].as_f64().unwrap();
    assert_eq!(mixed["sensitivity"][0]["layer"], spoilt.as_str(), "{mixed}");
    assert_eq!((&mixed["kept"], &mixed["max_drop"]), (&serde_json::json!([]), &Value::Null));
    let (with, without) = (lost(&mixed["before"]), lost(&mixed["sensitivity"][0]));
    assert!(with > 50.0 && without < 25.0, "{with} {without}");

    let bound = format!("{}", without + 1.0);
    let all = [&["in", "out", "--max-drop", &bound, "--report", "report"][..], &common].concat();
    let kept = report(&all);
    assert_eq!(kept["mixed"]["kept"], serde_json::json!([spoilt]), "{}", kept["mixed"]);
    let names = &kept["operators"]["Conv"]["float_names"];
    assert_eq!(names.as_array().unwrap().len(), 2, "that one and the map's: {names}");
    let bundle = ModelBundle::load(&folder.path().join("out")).unwrap();
    let note = bundle.manifest().notes.last().unwrap();
    assert!(note.contains(&format!("--keep-float {spoilt}`")), "{note}");
    let written: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("report/report.json")).unwrap()).unwrap();
    assert_eq!(written, kept);
    let page = std::fs::read_to_string(folder.path().join("report/report.md")).unwrap();
    let row = page.lines().find(|l| l.starts_with(&format!("| {spoilt} | Conv |"))).unwrap();
    assert!(row.ends_with("| float |") && page.contains("## Layers in float"), "{page}");
    // A report's folder in use is refused before anything is done.
    let output = int8(folder.path(), &[&["in", "more", "--report", "report"][..], &common].concat());
    assert_eq!((output.status.code(), folder.path().join("more").exists()), (Some(2), false), "{}", stderr(&output));
}
