//! Bundles with the fusion rule `weakly` and verbs without an object: on photos, through `hoi detect --explain`, and damaged.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hoi_quantize::onnx::{self, GraphBuilder, attr_int, attr_ints};
use hoi_runtime::bundle::{BundleError, BundleParts, ModelBundle, write_bundle};
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::{Dim, ElementType, TensorSpec, TractEngine};
use hoi_runtime::fusion::{Calibration, Factors, FusionSpec};
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::interaction::InteractionHead;
use hoi_runtime::pipeline::{HoiPipeline, HoiTriplet};
use serde_json::{Value, json};

const VERBS: usize = 117;
const PICTURE: Size = Size { width: 640, height: 480 };

/// What `image_logits` has columns for; `run` stands in `alone` as well and has none.
fn interactions() -> Vec<(String, Option<String>)> {
    [("ride", Some("bicycle")), ("wave", None), ("hold", Some("bicycle"))]
        .map(|(verb, object)| (verb.to_owned(), object.map(str::to_owned)))
        .to_vec()
}

/// A linear map of the spatial values for each of the three outputs; `image_logits [columns]` is the mean over the pairs.
fn head(columns: usize) -> Vec<u8> {
    let mut g = GraphBuilder::new("head");
    let p = || Dim::Symbol("P".into());
    let weights = |n: usize, step: f32| (0..36 * n).map(|i| (i as f32 * step).sin() * 0.05).collect::<Vec<_>>();
    g.input("spatial", ElementType::F32, &[p(), Dim::Fixed(36)]);
    g.output("verb_logits", ElementType::F32, &[p(), Dim::Fixed(VERBS)]);
    g.output("relatedness", ElementType::F32, &[p()]);
    g.output("image_logits", ElementType::F32, &[Dim::Fixed(columns)]);
    g.initializer_f32("verbs", &[36, VERBS], &weights(VERBS, 1.7));
    g.initializer_f32("related", &[36, 1], &weights(1, 2.3));
    g.initializer_f32("image", &[36, columns], &weights(columns, 0.9));
    g.initializer_i64("last", &[1], &[1]);
    g.node("MatMul", &["spatial", "verbs"], &["verb_logits"], vec![]);
    g.node("MatMul", &["spatial", "related"], &["related.column"], vec![]);
    g.node("Squeeze", &["related.column", "last"], &["relatedness"], vec![]);
    g.node("MatMul", &["spatial", "image"], &["image.rows"], vec![]);
    let mean = vec![attr_ints("axes", &[0]), attr_int("keepdims", 0)];
    g.node("ReduceMean", &["image.rows"], &["image_logits"], mean);
    onnx::to_bytes(&g.finish()).unwrap()
}

/// The default bundle without what its own head looks at, and with HICO-DET's verbs alone.
fn layout_base() -> BundleParts {
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
    let manifest = &mut parts.manifest;
    manifest.detector.taps.clear();
    manifest.head.answers_unplaced = false;
    manifest.evaluation.clear();
    manifest.fusion = manifest.fusion.clone().calibrated(None);
    let vocabulary = &mut manifest.vocabulary;
    vocabulary.verbs.truncate(VERBS);
    vocabulary.alone.clear();
    vocabulary.valid.values_mut().for_each(|list| list.retain(|verb| vocabulary.verbs.contains(verb)));
    parts
}

/// The default detector under [`head`], written into `folder`.
fn weakly_bundle(folder: &Path) -> PathBuf {
    let mut parts = layout_base();
    let manifest = &mut parts.manifest;
    let p = || Dim::Symbol("P".into());
    manifest.head.inputs = vec![TensorSpec::f32("spatial", vec![p(), Dim::Fixed(36)])];
    manifest.head.outputs = vec![
        TensorSpec::f32("image_logits", vec![Dim::Fixed(3)]),
        TensorSpec::f32("verb_logits", vec![p(), Dim::Fixed(VERBS)]),
        TensorSpec::f32("relatedness", vec![p()]),
    ];
    manifest.vocabulary.alone = vec!["wave".into(), "run".into()];
    manifest.fusion = FusionSpec::Weakly {
        gamma: 2.8,
        triplet_nms: None,
        max_triplets: 100,
        interactions: Some(interactions()),
        calibration: None,
    };
    parts.files.insert(manifest.head.file.clone(), head(3));
    let out = folder.join("bundle");
    write_bundle(&out, parts).unwrap();
    out
}

fn hoi(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_hoi")).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn frame(args: &[&str]) -> Value {
    serde_json::from_slice(&hoi(args).stdout).unwrap()
}

fn photo(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/photos").join(name).display().to_string()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The factors' product, with every factor between 0 and 1.
fn product(triplet: &Value) -> f64 {
    let factors: Vec<f64> = triplet["factors"].as_object().unwrap().values().map(number).collect();
    assert!(factors.iter().all(|f| (0.0..=1.0).contains(f)), "{triplet}");
    factors.iter().product()
}

#[test]
fn a_photo_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = weakly_bundle(folder.path()).display().to_string();
    let (photo, picture) = (photo("ride_bicycles.jpg"), folder.path().join("seen.png").display().to_string());
    let common = ["detect", &photo, "--bundle", &bundle, "--min-score", "0"];
    let explained = frame(&[&common[..], &["--json", "--explain"]].concat());
    let triplets = explained["triplets"].as_array().unwrap();
    let humans = explained["detections"].as_array().unwrap().iter().filter(|d| d["class"] == "person").count();
    assert!(humans >= 2, "two people ride in this photo");
    for t in triplets {
        let keys: Vec<&String> = t["factors"].as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 4, "{t}");
        for key in ["pair", "global", "relatedness", "prior"] {
            assert!(t["factors"][key].is_f64(), "{key} in {t}");
        }
        assert!((product(t) - number(&t["score"])).abs() < 1e-5, "{t}");
        let said = (t["verb"].as_str().unwrap().to_owned(), t["object"]["class"].as_str().map(str::to_owned));
        assert!(interactions().contains(&said), "{t} has no column");
        let object = if t["object"].is_null() { 1.0 } else { number(&t["object"]["score"]) };
        let prior = (number(&t["human"]["score"]) * object).powf(2.8);
        assert!((number(&t["factors"]["prior"]) - prior).abs() < 1e-5, "{t}");
        // What the whole picture shows is the same for every pair, relatedness the same for every verb of a pair.
        for other in triplets {
            if (&other["verb"], &other["object"]["class"]) == (&t["verb"], &t["object"]["class"]) {
                assert_eq!(other["factors"]["global"], t["factors"]["global"]);
            }
            if (&other["human"], &other["object"]) == (&t["human"], &t["object"]) {
                assert_eq!(other["factors"]["relatedness"], t["factors"]["relatedness"]);
            }
        }
    }
    assert_eq!(triplets.iter().filter(|t| t["verb"] == "wave" && t["object"].is_null()).count(), humans);
    assert!(triplets.iter().any(|t| t["verb"] == "ride" && t["object"]["class"] == "bicycle"));
    assert!(triplets.iter().all(|t| t["verb"] != "wave" || t["object"].is_null()));

    // The same answer without factors where they are not asked for.
    let plain = frame(&[&common[..], &["--json"]].concat());
    let mut without = explained["triplets"].clone();
    without.as_array_mut().unwrap().iter_mut().for_each(|t| drop(t.as_object_mut().unwrap().remove("factors")));
    assert_eq!(plain["triplets"], without);

    // And as a table with a line under each triplet, and a picture.
    let output = hoi(&["detect", &photo, &picture, "--bundle", &bundle, "--min-score", "0", "--explain"]);
    let table = String::from_utf8(output.stdout).unwrap();
    let lines = |part: &str| table.lines().filter(|l| l.trim_start().starts_with(part)).count();
    assert_eq!(lines("= pair 0."), triplets.len(), "{table}");
    assert_eq!(lines("person wave "), humans, "{table}");
    assert!(fs::metadata(&picture).unwrap().len() > 0);

    let shown = String::from_utf8(hoi(&["inspect", &bundle]).stdout).unwrap();
    for part in ["weakly, gamma 2.8, 3 interactions", "2 verbs without an object", "relatedness", "image_logits"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn a_calibrated_score_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let raw = weakly_bundle(folder.path());
    let mut parts = BundleParts::from_bundle(&ModelBundle::load(&raw).unwrap());
    let calibration = Calibration { slope: 0.5, offset: 1.0 };
    parts.manifest.fusion = parts.manifest.fusion.calibrated(Some(calibration));
    let calibrated = folder.path().join("calibrated");
    write_bundle(&calibrated, parts).unwrap();
    let (photo, calibrated) = (photo("ride_bicycles.jpg"), calibrated.display().to_string());
    let detect = |bundle: &str, more: &[&str]| {
        hoi(&[&["detect", &photo, "--bundle", bundle, "--min-score", "0", "--explain"][..], more].concat()).stdout
    };
    let frame = |bundle: &str| serde_json::from_slice::<Value>(&detect(bundle, &["--json"])).unwrap();
    let (was, is) = (frame(&raw.display().to_string()), frame(&calibrated));
    let (was, is_now) = (was["triplets"].as_array().unwrap(), is["triplets"].as_array().unwrap());
    assert!(!was.is_empty() && was.len() == is_now.len());
    let interaction = |t: &Value| (t["verb"].clone(), t["object"]["class"].clone());
    for t in is_now {
        assert!(was.iter().any(|w| w["factors"] == t["factors"] && w["human"] == t["human"] && w["verb"] == t["verb"]));
        let all = is_now.iter().filter(|o| interaction(o) == interaction(t)).map(product);
        let best = all.fold(0f64, f64::max);
        let expected = f64::from(calibration.probability(best as f32)) * product(t) / best;
        assert!((number(&t["score"]) - expected).abs() < 1e-5, "{t}");
        assert!((number(&t["product"]) - product(t)).abs() < 1e-6, "{t}");
    }
    let table = String::from_utf8(detect(&calibrated, &[])).unwrap();
    let lines = table.lines().filter(|l| l.starts_with("    calibrated from ") && l.contains(" = pair 0.")).count();
    assert_eq!(lines, is["triplets"].as_array().unwrap().len(), "{table}");
    let shown = String::from_utf8(hoi(&["inspect", &calibrated]).stdout).unwrap();
    assert!(shown.contains("calibrated sigma(0.500 ln s + 1.000)"), "{shown}");

    // What was fitted to one head is not taken to another.
    let graph = folder.path().join("interaction.onnx");
    fs::write(&graph, head(3)).unwrap();
    let manifest = ModelBundle::load(&raw).unwrap().manifest().clone();
    let training = json!({"data": "made up", "command": "a test"});
    let description = folder.path().join("head.json");
    let text = json!({"vocabulary": manifest.vocabulary, "head": manifest.head, "training": training});
    fs::write(&description, text.to_string()).unwrap();
    let other = folder.path().join("other").display().to_string();
    let (graph, description) = (graph.display().to_string(), description.display().to_string());
    let told = ["--name", "other", "--description", "made up", "--head-licence", "none"];
    let own = ["bundle", &other, "--base", &calibrated, "--head", &graph, "--head-description", &description];
    let said = hoi(&[&own[..], &told].concat());
    assert!(String::from_utf8_lossy(&said.stderr).contains("calibration is left out"));
    assert_eq!(ModelBundle::load(Path::new(&other)).unwrap().manifest().fusion.calibration(), None);
}

#[test]
fn the_prior_rule_is_explained_too() {
    let explained = frame(&["detect", &photo("ride_horse.jpg"), "--json", "--explain"]);
    let calibration = ModelBundle::builtin().unwrap().manifest().fusion.calibration().unwrap();
    let triplets = explained["triplets"].as_array().unwrap();
    assert!(!triplets.is_empty());
    for t in triplets {
        assert_eq!(t["factors"].as_object().unwrap().len(), 2, "{t}");
        assert!(t["factors"]["verb"].is_f64() && t["factors"]["prior"].is_f64());
        assert!((product(t) - number(&t["product"])).abs() < 1e-5, "{t}");
        let probability = calibration.probability(number(&t["product"]) as f32);
        assert!((f64::from(probability) - number(&t["score"])).abs() < 1e-5, "{t}");
    }
}

fn pipeline(folder: &Path) -> HoiPipeline {
    HoiPipeline::new(&ModelBundle::load(folder).unwrap(), &TractEngine::default()).unwrap()
}

fn detection(pipeline: &HoiPipeline, class: &str, x: f32, score: f32) -> Detection {
    let class = pipeline.vocabulary().object(class).unwrap();
    Detection { bbox: BBox::new(x, 20.0, x + 60.0, 200.0), class, score }
}

#[test]
fn one_person_and_nothing_else_waves() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(&weakly_bundle(folder.path()));
    let person = detection(&pipeline, "person", 10.0, 0.9);
    let result = pipeline.interactions(std::slice::from_ref(&person), &[], PICTURE).unwrap();
    let [t] = result.triplets.as_slice() else { panic!("{:?}", result.triplets) };
    assert_eq!((pipeline.vocabulary().verb_name(t.verb), &t.human, &t.object), (Some("wave"), &person, &None));
    let Factors::Weakly { prior, .. } = t.factors else { panic!("{:?}", t.factors) };
    assert!((prior - 0.9f32.powf(2.8)).abs() < 1e-6);
    for nothing in [vec![], vec![detection(&pipeline, "cup", 10.0, 0.9)]] {
        assert!(pipeline.interactions(&nothing, &[], PICTURE).unwrap().triplets.is_empty());
    }
}

#[test]
fn verbs_without_an_object_leave_the_other_triplets_alone() {
    // This head looks at each pair by itself, so that pairs of one human may not change what the others say.
    let triplets = |alone: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = layout_base();
        let p = || Dim::Symbol("P".into());
        parts.manifest.head.inputs = vec![TensorSpec::f32("spatial", vec![p(), Dim::Fixed(36)])];
        parts.manifest.head.outputs = vec![TensorSpec::f32("verb_logits", vec![p(), Dim::Fixed(VERBS)])];
        parts.files.insert(parts.manifest.head.file.clone(), head(3));
        parts.manifest.vocabulary.alone = alone.iter().map(|v| v.to_string()).collect();
        if let FusionSpec::DetrPrior { max_triplets, .. } = &mut parts.manifest.fusion {
            *max_triplets = 10_000;
        }
        write_bundle(&folder.path().join("bundle"), parts).unwrap();
        let pipeline = pipeline(&folder.path().join("bundle"));
        let seen = [("person", 10.0, 0.9), ("person", 300.0, 0.8), ("bicycle", 40.0, 0.7), ("cup", 90.0, 0.6)];
        let seen = seen.map(|(class, x, score)| detection(&pipeline, class, x, score));
        pipeline.interactions(&seen, &[], PICTURE).unwrap().triplets
    };
    let (before, after) = (triplets(&[]), triplets(&["wave", "no_interaction"]));
    let (alone, rest): (Vec<&HoiTriplet>, Vec<&HoiTriplet>) = after.iter().partition(|t| t.object.is_none());
    assert_eq!(alone.len(), 2, "each person waves; the background verb is never said");
    assert!(before.len() > 10 && before.iter().all(|t| t.object.is_some()));
    assert_eq!(rest.len(), before.len());
    for t in &before {
        let same = |o: &&&HoiTriplet| (&o.human, o.verb, &o.object) == (&t.human, t.verb, &t.object);
        let found = rest.iter().find(same).unwrap_or_else(|| panic!("{t:?} is missing"));
        assert!((found.score - t.score).abs() < 1e-6);
    }
}

/// The bundle with `change` made to its manifest, hashes untouched.
fn changed(change: impl Fn(&mut Value)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = weakly_bundle(folder.path());
    let path = bundle.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    (folder, bundle)
}

fn output<'a>(manifest: &'a mut Value, name: &str) -> &'a mut Value {
    let outputs = manifest["head"]["outputs"].as_array_mut().unwrap();
    outputs.iter_mut().find(|o| o["name"] == name).unwrap()
}

fn drop_output(manifest: &mut Value, name: &str) {
    manifest["head"]["outputs"].as_array_mut().unwrap().retain(|o| o["name"] != name);
}

fn drop_interactions(manifest: &mut Value) {
    manifest["fusion"].as_object_mut().unwrap().remove("interactions");
}

type Change = fn(&mut Value);

#[test]
fn manifests_that_contradict_themselves() {
    let cases: [(Change, &str, &str); 11] = [
        (|m| m["fusion"]["gamma"] = json!(0.0), "fusion.gamma", "not a positive number"),
        (|m| m["fusion"]["gamma"] = json!(-2.8), "fusion.gamma", "-2.8"),
        (|m| m["fusion"]["max_triplets"] = json!(0), "fusion.max_triplets", "10000"),
        (|m| m["fusion"]["calibration"] = json!({"slope": -1, "offset": 0}), "fusion.calibration.slope", "positive"),
        (|m| m["fusion"]["interactions"][0][0] = json!("levitate"), "fusion.interactions", "row 0 names `levitate`"),
        (|m| m["fusion"]["interactions"][2][1] = json!("unicorn"), "fusion.interactions", "row 2 names `unicorn`"),
        (
            |m| m["fusion"]["interactions"][2] = json!(["ride", "bicycle"]),
            "fusion.interactions",
            "row 2 says [ride, bicycle] again, as row 0",
        ),
        (|m| m["fusion"]["interactions"] = json!([]), "fusion.interactions", "empty"),
        (drop_interactions, "fusion.interactions", "head.outputs has `image_logits`"),
        (|m| drop_output(m, "image_logits"), "fusion.interactions", "head.outputs has no `image_logits`"),
        (
            |m| m["fusion"]["triplet_nms"] = json!({"iou": 2.0, "human_power": 1.0, "object_power": 0.5}),
            "fusion.triplet_nms.iou",
            "between 0 and 1",
        ),
    ];
    for (change, wanted, words) in cases {
        let (_folder, bundle) = changed(change);
        match ModelBundle::load(&bundle) {
            Err(BundleError::Key { key, reason, .. }) => {
                assert!(key == wanted && reason.contains(words), "{wanted}, {words}: {key}, {reason}");
            }
            Err(other) => panic!("{wanted}, {words}: {other}"),
            Ok(_) => panic!("{wanted}, {words}: the bundle must be refused"),
        }
    }
    let (_folder, bundle) = changed(|m| m["vocabulary"]["alone"] = json!(["wave", "levitate"]));
    let error = ModelBundle::load(&bundle).unwrap_err();
    assert!(matches!(error, BundleError::Vocabulary { .. }), "{error}");
    assert!(error.to_string().contains("vocabulary.alone names `levitate`"), "{error}");
    let unreadable: [Change; 3] = [
        |m| m["fusion"]["lambda"] = json!(2.8),
        |m| m["fusion"]["interactions"][0] = json!(["ride"]),
        |m| drop(m["fusion"].as_object_mut().unwrap().remove("gamma")),
    ];
    for change in unreadable {
        let (_folder, bundle) = changed(change);
        assert!(matches!(ModelBundle::load(&bundle), Err(BundleError::Json { .. })));
    }
}

#[test]
fn outputs_that_do_not_fit() {
    let cases: [(Change, [&str; 2]); 8] = [
        (
            |m| output(m, "image_logits")["shape"] = json!([4]),
            ["f32 [4]", "f32 [3], one for each of fusion.interactions"],
        ),
        (|m| output(m, "image_logits")["shape"] = json!(["I"]), ["f32 [I]", "f32 [3]"]),
        (|m| output(m, "relatedness")["shape"] = json!(["P", 1]), ["f32 [P, 1]", "f32 [P], one for each pair"]),
        (|m| output(m, "relatedness")["type"] = json!("i64"), ["i64 [P]", "f32 [P]"]),
        (|m| drop_output(m, "verb_logits"), ["`verb_logits` is missing", "[P, 117], a column for each verb"]),
        (
            |m| {
                let again = output(m, "relatedness").clone();
                m["head"]["outputs"].as_array_mut().unwrap().push(again);
            },
            ["`relatedness`", "is listed twice"],
        ),
        (
            |m| {
                m["fusion"]["interactions"].as_array_mut().unwrap().push(json!(["sit_on", "bicycle"]));
                output(m, "image_logits")["shape"] = json!([4]);
            },
            ["f32 [3] in the graph", "f32 [4]"],
        ),
        (
            |m| {
                let nms = json!({"iou": 0.7, "human_power": 1.0, "object_power": 0.5});
                m["fusion"] = json!({"rule": "detr_prior", "lambda": 2.8, "triplet_nms": nms, "max_triplets": 100});
                drop_output(m, "image_logits");
            },
            ["`relatedness` is listed as an output", "verb_logits alone: the fusion rule `detr_prior` uses no other"],
        ),
    ];
    for (change, words) in cases {
        let (_folder, folder) = changed(change);
        let bundle = ModelBundle::load(&folder).unwrap();
        let error = match InteractionHead::load(&TractEngine::default(), &bundle) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{words:?}: the head must be refused"),
        };
        assert!(error.contains("interaction.onnx"), "{error}");
        assert!(words.iter().all(|w| error.contains(w)), "{words:?}: {error}");
    }
}

#[test]
fn heads_with_fewer_outputs_leave_factors_out() {
    let without_image: Change = |m| {
        drop_output(m, "image_logits");
        drop_interactions(m);
    };
    let cases: [(Change, &[&str]); 2] = [
        (|m| drop_output(m, "relatedness"), &["pair", "global", "prior"]),
        (without_image, &["pair", "relatedness", "prior"]),
    ];
    for (change, names) in cases {
        let (_folder, folder) = changed(change);
        let pipeline = pipeline(&folder);
        let seen = [detection(&pipeline, "person", 10.0, 0.9), detection(&pipeline, "bicycle", 40.0, 0.8)];
        let triplets = pipeline.interactions(&seen, &[], PICTURE).unwrap().triplets;
        assert!(triplets.iter().any(|t| t.object.is_some()) && triplets.iter().any(|t| t.object.is_none()));
        for t in &triplets {
            assert_eq!(t.factors.named().map(|(name, _)| name).collect::<Vec<_>>(), names);
            assert!((t.factors.product() - t.score).abs() < 1e-6);
        }
    }
}
