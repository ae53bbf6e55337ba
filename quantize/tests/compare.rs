//! The command `hoi-quantize compare`, run as a process.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use serde_json::{Value, json};

fn in_repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}

/// Runs `hoi-quantize compare` inside `folder`.
fn compare(folder: &Path, arguments: &[&str]) -> Output {
    let all = ["compare"].iter().chain(arguments);
    Command::new(env!("CARGO_BIN_EXE_hoi-quantize")).args(all).current_dir(folder).output().unwrap()
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

/// The default bundle, changed, in `folder/name`.
fn changed(folder: &Path, name: &str, change: impl FnOnce(&mut BundleParts)) {
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    change(&mut parts);
    write_bundle(&folder.join(name), parts).unwrap();
}

#[test]
fn a_bundle_agrees_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (nano, photos) = (in_repository("models/nano"), in_repository("tests/photos"));
    let arguments = [&nano, &nano, "--images", &photos, "--count", "4", "--report", "out"];
    let output = compare(folder.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert_eq!(said.matches("100.0 %").count(), 4, "{said}");
    for words in ["detections of A over 0.4 that B has over 0.3", "picture to triplets", "B / A", "written   out"] {
        assert!(said.contains(words), "`{words}` in:\n{said}");
    }
    assert!(!said.contains("Lost") && !said.contains("New"), "{said}");
    assert_eq!(
        listing(&folder.path().join("out")),
        ["report.html", "report.json", "report.md"].map(PathBuf::from),
        "no picture differs"
    );
    assert_eq!(listing(folder.path()), [PathBuf::from("out")]);
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("out/report.json")).unwrap()).unwrap();
    assert_eq!(report["schema"], "hoi.compare/1");
    assert_eq!((&report["images"]["compared"], &report["images"]["chosen"]), (&4.into(), &4.into()));
    for what in ["detections", "triplets"] {
        let found = &report[what];
        assert!(found["a_in_b"]["count"].as_u64().unwrap() > 0, "{what}: {found}");
        assert_eq!((&found["a_in_b"]["share"], &found["b_in_a"]["share"]), (&json!(1.0), &json!(1.0)));
        assert_eq!((&found["lost"], &found["new"]), (&json!([]), &json!([])));
    }
    for stage in ["detector", "frame"] {
        let times = &report["times"][stage];
        assert!(times["ratio"].as_f64().unwrap() > 0.0, "{times}");
        assert!(times["a"]["best_ms"].as_f64().unwrap() <= times["a"]["median_ms"].as_f64().unwrap(), "{times}");
    }
    assert_eq!(report["a"]["bytes"], report["b"]["bytes"]);

    // The folder is in use now.
    let output = compare(folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("out: there is something already"), "{}", stderr(&output));
}

#[test]
fn bundles_that_differ() {
    let folder = tempfile::tempdir().unwrap();
    let (nano, photos) = (in_repository("models/nano"), in_repository("tests/photos"));
    // The second bundle calls bicycles velocipedes, so that they are lost and new.
    changed(folder.path(), "renamed", |parts| {
        let rename = |name: &mut String| {
            if name == "bicycle" {
                "velocipede".clone_into(name);
            }
        };
        let vocabulary = &mut parts.manifest.vocabulary;
        vocabulary.objects.iter_mut().for_each(rename);
        let verbs = vocabulary.valid.remove("bicycle").unwrap();
        vocabulary.valid.insert("velocipede".into(), verbs);
        parts.manifest.detector.classes.iter_mut().for_each(rename);
        parts.manifest.evaluation.clear();
    });
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    for name in ["ride_bicycles.jpg", "hug_dog.jpg"] {
        std::fs::copy(Path::new(&photos).join(name), folder.path().join("photos").join(name)).unwrap();
    }
    std::fs::write(folder.path().join("photos/broken.jpg"), b"no picture").unwrap();
    std::fs::write(folder.path().join("list"), "hug_dog.jpg\nnobody.jpg\n").unwrap();
    let arguments =
        [&nano, "renamed", "--images", "photos", "--leave-out", "list", "--rounds", "2", "--report", "out", "--json"];
    let output = compare(folder.path(), &arguments);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    for words in ["broken.jpg", "1 of its 2 names", "nobody.jpg", "`bicycle`"] {
        assert!(said.contains(words), "`{words}` in: {said}");
    }
    assert_eq!(stdout(&output).lines().count(), 1, "one object");
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let written = std::fs::read(folder.path().join("out/report.json")).unwrap();
    assert_eq!(report, serde_json::from_slice::<Value>(&written).unwrap());
    assert_eq!(report["images"], json!({"folder": "photos", "left_out": 1, "chosen": 2, "compared": 1}));
    assert_eq!(report["times"]["rounds"], 2);
    let whats = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|m| m["what"].as_str().unwrap().to_owned()).collect()
    };
    let (lost, new) = (whats(&report["detections"]["lost"]), whats(&report["detections"]["new"]));
    assert!(!lost.is_empty() && lost.iter().all(|w| w == "bicycle"), "{lost:?}");
    assert!(new.len() == lost.len() && new.iter().all(|w| w == "velocipede"), "{new:?}");
    let triplets = whats(&report["triplets"]["lost"]);
    assert!(triplets.iter().any(|w| w == "ride bicycle"), "{triplets:?}");
    assert!(report["detections"]["a_in_b"]["share"].as_f64().unwrap() < 1.0);
    assert_eq!(report["worst"][0]["pictures"], json!(["01-a.png", "01-b.png"]));
    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    for name in ["01-a.png", "01-b.png"] {
        assert!(page.contains(&format!("src=\"{name}\"")), "{page}");
        let picture = image::open(folder.path().join("out").join(name)).unwrap();
        assert!(picture.width().max(picture.height()) <= 800);
    }
    let text = std::fs::read_to_string(folder.path().join("out/report.md")).unwrap();
    assert!(text.contains("| ride_bicycles.jpg | bicycle |") && text.contains("![A](01-a.png)"), "{text}");
}

#[test]
fn what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let (nano, photos) = (in_repository("models/nano"), in_repository("tests/photos"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::fs::create_dir(folder.path().join("broken")).unwrap();
    std::fs::write(folder.path().join("broken/one.jpg"), b"no picture").unwrap();
    std::fs::write(folder.path().join("all"), "one.jpg\n").unwrap();
    changed(folder.path(), "unfit", |parts| {
        let file = parts.manifest.detector.file.clone();
        parts.files.insert(file, b"no graph".to_vec());
    });
    let before = listing(folder.path());
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&[&nano, &nano, "--images", "empty"], 1, &["empty: no pictures"]),
        (&[&nano, &nano, "--images", "none"], 1, &["none"]),
        (&[&nano, &nano, "--images", "broken"], 1, &["none of the 1 pictures", "one.jpg"]),
        (&[&nano, &nano, "--images", "broken", "--leave-out", "all"], 1, &["all 1 pictures in it are left out"]),
        (&[&nano, &nano, "--images", &photos, "--leave-out", "list"], 1, &["leave out: list"]),
        (&[&nano, "empty", "--images", &photos], 1, &["empty", "manifest.json"]),
        (&["none", &nano, "--images", &photos], 1, &["none", "manifest.json"]),
        (&[&nano, "unfit", "--images", &photos], 1, &["bundle unfit", "detector.onnx"]),
        (&[&nano, &nano], 2, &["--images"]),
        (&[&nano, "--images", &photos], 2, &["<B>"]),
        (&[&nano, &nano, "--images", &photos, "--count", "0"], 2, &["--count"]),
        (&[&nano, &nano, "--images", &photos, "--iou", "-1"], 2, &["--iou"]),
        (&[&nano, &nano, "--images", &photos, "--score", "0.2"], 2, &["detections", "over 0.2", "over 0.3"]),
        (&[&nano, &nano, "--images", &photos, "--report", "broken"], 2, &["broken: there is something already"]),
    ];
    for (arguments, status, words) in cases {
        let mut all = arguments.to_vec();
        if !arguments.contains(&"--report") {
            all.extend(["--report", "out"]);
        }
        let output = compare(folder.path(), &all);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: `{word}` in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(listing(folder.path()), before, "{arguments:?}");
    }
}
