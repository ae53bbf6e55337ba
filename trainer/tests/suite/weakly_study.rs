//! `hoi-train study weakly`: rows that are trained alike are trained once.

use hoi_runtime::geometry::Size;
use hoi_trainer::dataset::PictureSet;
use hoi_trainer::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use serde_json::Value;

use crate::command::{hoi_train, path, text};
use crate::rmlr_photos::{SIDE, detector, refused};
use crate::weakly_photos::text_encoder;

const FEW: &str = "--epochs 1 --scenes 8 --score-scenes 4 --device cpu";

#[test]
fn rows_that_are_trained_alike_share_weights() {
    let Some(encoder) = text_encoder() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let size = Size::new(SIDE, SIDE);
    let scenes = RenderedScenes::new(RenderedConfig { size, seed: 0, split: Split::Train, count: 1 }).unwrap();
    let found = detector(&at("detector"), scenes.vocabulary().clone());
    let out = at("runs");
    let base = ["--detector", path(&found), "--text-encoder", path(&encoder)];
    let study = ["study", "weakly", "--out", path(&out), "--seeds", "1", "--jobs", "2", "--with", FEW];
    let done = hoi_train(&[&study[..], &base, &["--rows", "exp3,exp4,exp3"]].concat());
    let report = text(&done.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stderr).lines().count(), 2, "a line a run: {}", text(&done.stderr));
    for line in ["| + KTN |", "| + score fusion |", "Not trained: + score fusion has the weights"] {
        assert!(report.contains(line), "`{line}` is missing in {report}");
    }
    let result = |row: &str| -> Value {
        serde_json::from_slice(&std::fs::read(out.join(row).join("result.json")).unwrap()).unwrap()
    };
    let weights = |row: &str| std::fs::read(out.join(row).join("model.safetensors")).unwrap();
    assert!(weights("exp3-0") == weights("exp4-0"));
    assert_eq!(result("exp4-0")["epochs"], result("exp3-0")["epochs"]);
    assert!(result("exp4-0")["trained"].as_str().unwrap().ends_with("exp3-0") && result("exp3-0")["trained"].is_null());
    let configured = std::fs::read_to_string(out.join("exp4-0/config.json")).unwrap();
    assert!(configured.contains("\"score_fusion\": true"), "{configured}");

    // Weights that were trained otherwise: another row, another seed, other scenes; and none.
    let trained = at("runs/exp3-0");
    let mut base: Vec<&str> = [&["weakly"][..], &base, &["--trained", path(&trained)]].concat();
    base.extend(FEW.split(' '));
    for (more, expected) in [
        (&["--row", "full"][..], &["exp3-0", "trained otherwise"][..]),
        (&["--row", "exp4", "--seed", "1"], &["exp3-0", "its config is", "\"seed\":1"]),
        (&["--row", "exp4", "--scene-seed", "5"], &["exp3-0", "its data is", "scene seed 5"]),
    ] {
        let other = at("other");
        refused(hoi_train(&[&base[..], more, &["--out", path(&other)]].concat()), expected);
    }
    let whole = |out: &str| hoi_train(&[&base[..], &["--row", "exp4", "--out", path(&at(out))]].concat());
    refused(whole("runs/exp3-0"), &["--out", "trained there already"]);
    let kept: Value = serde_json::from_slice(&std::fs::read(trained.join("config.json")).unwrap()).unwrap();
    assert_eq!(kept["config"]["parts"]["score_fusion"], false);
    let nothing = at("nothing");
    let arguments: Vec<&str> = base.iter().map(|a| if *a == path(&trained) { path(&nothing) } else { *a }).collect();
    let other = at("other");
    refused(hoi_train(&[&arguments[..], &["--row", "exp4", "--out", path(&other)]].concat()), &["nothing"]);
}
