//! Damaged, forged and misfitting bundles: each is refused with a typed error that names file and key.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use hoi_quantize::onnx::{self, GraphBuilder};
use hoi_runtime::bundle::{BundleError, ModelBundle};
use hoi_runtime::engine::{Dim, ElementType, EngineError, TractEngine};
use hoi_runtime::pipeline::{HoiPipeline, PipelineError};
use hoi_tests::BundleCopy;

fn refused(copy: &BundleCopy) -> BundleError {
    ModelBundle::load(&copy.path()).expect_err("the bundle must be refused")
}

fn not_run(copy: &BundleCopy) -> PipelineError {
    let bundle = ModelBundle::load(&copy.path()).unwrap();
    match HoiPipeline::new(&bundle, &TractEngine::default()) {
        Err(error) => error,
        Ok(_) => panic!("the bundle must not run"),
    }
}

#[test]
fn an_untouched_copy_loads() {
    let copy = BundleCopy::default();
    HoiPipeline::new(&ModelBundle::load(&copy.path()).unwrap(), &TractEngine::default()).unwrap();
}

#[test]
fn missing_files() {
    let copy = BundleCopy::default();
    fs::remove_file(copy.path().join("interaction.onnx")).unwrap();
    let error = refused(&copy);
    assert!(matches!(error, BundleError::Io { .. }) && error.to_string().contains("interaction.onnx"), "{error}");
    fs::remove_file(copy.path().join("manifest.json")).unwrap();
    assert!(refused(&copy).to_string().contains("manifest.json"));
    let error = ModelBundle::load(&copy.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, BundleError::Io { .. }), "{error}");
}

#[test]
fn changed_files() {
    let copy = BundleCopy::default();
    let path = copy.path().join("detector.onnx");
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, &content).unwrap();
    assert!(matches!(refused(&copy), BundleError::Hash { what: "sha256", .. }));
    content.truncate(middle);
    fs::write(&path, &content).unwrap();
    assert!(matches!(refused(&copy), BundleError::Hash { what: "length", .. }));
}

#[test]
fn manifests_that_are_none() {
    for (text, fragment) in
        [("", "EOF"), ("{", "EOF"), ("[]", "schema"), ("{\"schema\": \"hoi.bundle/9\"}", "hoi.bundle/9")]
    {
        let copy = BundleCopy::default();
        fs::write(copy.path().join("manifest.json"), text).unwrap();
        let error = refused(&copy).to_string();
        assert!(error.contains(fragment) && error.contains("manifest.json"), "{text}: {error}");
    }
}

#[test]
fn unknown_and_missing_keys_at_every_depth() {
    for (from, to, key) in [
        ("\"kind\":", "\"sort\": 1, \"kind\":", "sort"),
        ("\"nms_iou\":", "\"nms\": 1, \"nms_iou\":", "nms"),
        ("\"min_scale\":", "\"anchor\": 1, \"min_scale\":", "anchor"),
        ("\"rule\": \"detr_prior\"", "\"rule\": \"detr_prior\", \"mu\": 1", "mu"),
        ("\"rule\": \"detr_prior\"", "\"rule\": \"guess\"", "guess"),
        ("\"colour\"", "\"color\"", "color"),
        ("\"bytes\"", "\"size\"", "size"),
        ("\"family\": \"ssd\"", "\"family\": \"rcnn\"", "rcnn"),
    ] {
        let copy = BundleCopy::default();
        copy.edit_manifest(from, to);
        let error = refused(&copy);
        assert!(matches!(error, BundleError::Json { .. }), "{error:?}");
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn names_that_leave_the_folder() {
    for name in ["../interaction.onnx", "/etc/passwd", "a/../../b", "./../x", ""] {
        let copy = BundleCopy::default();
        copy.edit_manifest("\"interaction.onnx\": {", &format!("{name:?}: {{"));
        assert!(matches!(refused(&copy), BundleError::Outside { .. }), "{name}");
    }
    // A link that leads out, and one that stays inside.
    let copy = BundleCopy::default();
    let (link, outside) = (copy.path().join("interaction.onnx"), copy.path().join("../outside.onnx"));
    fs::rename(&link, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    assert!(matches!(refused(&copy), BundleError::Outside { .. }));
    fs::remove_file(&link).unwrap();
    fs::rename(&outside, copy.path().join("real.onnx")).unwrap();
    std::os::unix::fs::symlink("real.onnx", &link).unwrap();
    ModelBundle::load(&copy.path()).unwrap();
}

#[test]
fn values_that_do_not_fit() {
    for (from, to, key) in [
        ("\"kind\": \"two_stage\"", "\"kind\": \"query\"", "kind"),
        ("\"nms_iou\": 0.5", "\"nms_iou\": 1.5", "pairing.nms_iou"),
        ("\"max\": 15", "\"max\": 1000000", "pairing.humans"),
        ("\"logit_columns\": 91", "\"logit_columns\": 9", "detector.decoder.class_columns"),
        ("\"max_detections\": 300", "\"max_detections\": 0", "detector.max_detections"),
        ("\"logit_columns\": 91", "\"logit_columns\": 0", "detector.decoder.logit_columns"),
        ("\"lambda\": 1.0", "\"lambda\": -1", "fusion.lambda"),
        ("\"max_triplets\": 100", "\"max_triplets\": 0", "fusion.max_triplets"),
    ] {
        let copy = BundleCopy::default();
        copy.edit_manifest(from, to);
        match refused(&copy) {
            BundleError::Key { key: found, .. } => assert_eq!(found, key),
            other => panic!("{other}"),
        }
    }
    let copy = BundleCopy::default();
    copy.edit_manifest("\"human\": \"person\"", "\"human\": \"robot\"");
    assert!(matches!(refused(&copy), BundleError::Vocabulary { .. }));
}

#[test]
fn shapes_that_do_not_fit() {
    let copy = BundleCopy::default();
    let manifest = fs::read_to_string(copy.path().join("manifest.json")).unwrap();
    let wider = manifest.replace("\"feature_sides\": [\n        19", "\"feature_sides\": [\n        20");
    assert_ne!(wider, manifest);
    fs::write(copy.path().join("manifest.json"), wider).unwrap();
    let error = not_run(&copy);
    assert!(matches!(error, PipelineError::Detector(_)), "{error}");
    assert!(error.to_string().contains("detector.onnx") && error.to_string().contains("boxes"), "{error}");

    let copy = BundleCopy::with(|parts| parts.manifest.detector.input.shape = [1, 3, 320, 320]);
    let error = not_run(&copy).to_string();
    assert!(error.contains("input") && error.contains("320"), "{error}");

    let copy = BundleCopy::with(|parts| parts.manifest.detector.input.name = "picture".into());
    let error = not_run(&copy).to_string();
    assert!(error.contains("no input `picture`") && error.contains("input"), "{error}");
}

/// `verb_logits = MatMul(spatial, W)`: a head as small as can be, `[36, columns]` weights of `value`.
fn head(columns: usize, value: f32) -> Vec<u8> {
    let mut g = GraphBuilder::new("head");
    let p = Dim::Symbol("P".into());
    g.input("spatial", ElementType::F32, &[p.clone(), Dim::Fixed(36)]);
    g.input("object_class", ElementType::I64, std::slice::from_ref(&p));
    g.output("verb_logits", ElementType::F32, &[p, Dim::Fixed(columns)]);
    g.initializer_f32("weight", &[36, columns], &vec![value; 36 * columns]);
    g.initializer_f32("table", &[80, columns], &vec![0.0; 80 * columns]);
    g.node("MatMul", &["spatial", "weight"], &["moved"], vec![]);
    g.node("Gather", &["table", "object_class"], &["looked_up"], vec![]);
    g.node("Add", &["moved", "looked_up"], &["verb_logits"], vec![]);
    onnx::to_bytes(&g.finish()).unwrap()
}

fn with_head(head: Vec<u8>) -> BundleCopy {
    BundleCopy::with(|parts| {
        hoi_tests::layout_only(parts);
        parts.files.insert(parts.manifest.head.file.clone(), head);
    })
}

#[test]
fn heads_that_do_not_fit() {
    HoiPipeline::new(&ModelBundle::load(&with_head(head(117, 0.0)).path()).unwrap(), &TractEngine::default()).unwrap();
    let error = not_run(&with_head(head(116, 0.0))).to_string();
    assert!(error.contains("verb_logits") && error.contains("117"), "{error}");
    let error = not_run(&with_head(b"not a graph".to_vec())).to_string();
    assert!(error.contains("interaction.onnx") && error.contains("not a graph"), "{error}");
    let copy = BundleCopy::with(|parts| parts.manifest.head.inputs[0].name = "vibes".into());
    let error = not_run(&copy).to_string();
    assert!(error.contains("vibes") && error.contains("spatial"), "{error}");
    let copy = BundleCopy::with(|parts| {
        let first = parts.manifest.head.inputs[0].clone();
        parts.manifest.head.inputs.push(first);
    });
    let error = not_run(&copy).to_string();
    assert!(error.contains("listed twice"), "{error}");
    let copy = BundleCopy::with(|parts| {
        let mut made_up = parts.manifest.head.outputs[0].clone();
        made_up.name = "relatedness".into();
        parts.manifest.head.outputs.push(made_up);
    });
    let error = not_run(&copy).to_string();
    assert!(error.contains("relatedness"), "{error}");
}

#[test]
fn nan_weights() {
    let error = not_run(&with_head(head(117, f32::NAN)));
    let PipelineError::Interaction(hoi_runtime::interaction::InteractionError::Engine { cause, .. }) = &error else {
        panic!("{error}")
    };
    assert!(matches!(cause, EngineError::NanWeight { .. }), "{error}");
    // Infinite weights are legal (they pad pooling layers); a head that answers with them is refused when it answers.
    let bundle = ModelBundle::load(&with_head(head(117, f32::INFINITY)).path()).unwrap();
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).unwrap();
    let photo = hoi_tests::photos().join("ride_horse.jpg");
    let frame = hoi_runtime::source::open_image(&photo, &Default::default()).unwrap();
    let error = pipeline.run(&frame).unwrap_err().to_string();
    assert!(error.contains("interaction.onnx") && error.contains("damaged"), "{error}");
}

#[test]
fn graphs_that_read_other_files() {
    let mut model = onnx::from_bytes(&head(117, 0.0)).unwrap();
    let weight = &mut model.graph.as_mut().unwrap().initializer[0];
    weight.float_data.clear();
    weight.raw_data = None;
    weight.data_location = Some(1);
    weight.external_data = vec![onnx::StringStringEntryProto {
        key: Some("location".into()),
        value: Some("../../../../etc/passwd".into()),
    }];
    let bytes = prost::Message::encode_to_vec(&model);
    let error = not_run(&with_head(bytes)).to_string();
    assert!(error.contains("external data"), "{error}");
}
