use hoi_runtime::engine::{Dim, ElementType, GraphRequest, TractEngine};
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::compare::{Comparison, OutputDifference};
use crate::onnx::{
    AttributeProto, GraphBuilder, ModelProto, NodeProto, TensorProto, attribute_type, data_type, to_bytes,
};

const N: usize = 32;

fn weights(n: usize) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    (0..n).map(|_| rng.random_range(-1.0..=1.0)).collect()
}

fn shape() -> [Dim; 2] {
    [Dim::Symbol("P".into()), Dim::Fixed(N)]
}

/// `y = x w + b`, `x` of `[P, 32]`, `w` of `[32, 32]`.
fn linear(w: &[f32]) -> ModelProto {
    GraphBuilder::new("linear")
        .input("x", ElementType::F32, &shape())
        .initializer_f32("w", &[N, N], w)
        .initializer_f32("b", &[N], &weights(N))
        .node("MatMul", &["x", "w"], &["m"], vec![])
        .node("Add", &["m", "b"], &["y"], vec![])
        .output("y", ElementType::F32, &shape())
        .finish()
}

fn initializer<'a>(model: &'a ModelProto, name: &str) -> Option<&'a TensorProto> {
    model.graph.as_ref()?.initializer.iter().find(|t| t.name_or_empty() == name)
}

fn reasons(conversion: &Conversion) -> Vec<(&str, KeepReason)> {
    conversion.kept.iter().map(|t| (t.name.as_str(), t.reason.clone())).collect()
}

/// What both versions give on the same inputs: that they load, and how far apart they are.
fn difference(before: &ModelProto, after: &ModelProto) -> OutputDifference {
    let bytes = |m| to_bytes(m).unwrap();
    let Comparison { outputs, .. } =
        compare(&bytes(before), &bytes(after), &TractEngine::new(1), RandomInputs::default()).unwrap();
    outputs[0].clone()
}

#[test]
fn a_weight_becomes_f16_behind_a_cast_and_nothing_else_changes() {
    let w = weights(N * N);
    let before = linear(&w);
    let mut after = before.clone();
    let conversion = convert(&mut after, LEAST_ELEMENTS);
    assert_eq!(conversion.converted.len(), 1);
    assert_eq!((conversion.converted[0].name.as_str(), conversion.converted[0].elements), ("w", N * N));
    assert_eq!(reasons(&conversion), [("b", KeepReason::TooSmall)]);

    let stored = initializer(&after, "w__f16").unwrap();
    assert_eq!((stored.data_type, stored.dims.as_slice()), (Some(data_type::FLOAT16), &[32, 32][..]));
    let halves: Vec<f32> =
        stored.raw_data.as_ref().unwrap().as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect();
    let worst = w.iter().zip(&halves).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst > 0.0 && worst <= 1.0 / 4096.0, "half a step below 1 is 2^-12, got {worst}");
    assert_eq!(conversion.converted[0].max_abs_error, worst);

    // The engine computes exactly what it computes from rounded f32 weights.
    assert_eq!(difference(&linear(&halves), &after).max_abs, 0.0);
    let y = difference(&before, &after);
    assert!(y.max_abs > 0.0 && y.relative() < 1e-3, "{y:?}");

    let mut graph = after.graph.clone().unwrap();
    let cast = graph.node.remove(0);
    assert_eq!(
        (cast.op_type.as_deref(), cast.input, cast.output),
        (Some("Cast"), vec!["w__f16".into()], vec!["w".into()])
    );
    assert_eq!(graph.node, before.graph.unwrap().node);
    let (small, large) = (to_bytes(&after).unwrap().len(), to_bytes(&linear(&w)).unwrap().len());
    assert!(small < large * 6 / 10, "{small} of {large} bytes");
}

#[test]
fn converting_twice_changes_nothing() {
    let mut once = linear(&weights(N * N));
    convert(&mut once, LEAST_ELEMENTS);
    let mut twice = once.clone();
    let conversion = convert(&mut twice, LEAST_ELEMENTS);
    assert_eq!(once, twice);
    assert_eq!((conversion.converted.len(), conversion.already_f16), (0, 1));
}

#[test]
fn values_that_f16_cannot_hold_stay() {
    let with = |at: usize, value: f32| {
        let mut w = weights(N * N);
        w[at] = value;
        let mut model = linear(&w);
        let conversion = convert(&mut model, LEAST_ELEMENTS);
        assert_eq!(model, linear(&w).clone(), "{value}");
        conversion.kept[0].reason.clone()
    };
    assert_eq!(with(3, f32::INFINITY), KeepReason::NonFinite { position: 3 });
    assert_eq!(with(7, -70000.0), KeepReason::OutOfRange { position: 7, value: -70000.0 });
    let mut model = linear(&vec![1e-6; N * N]);
    assert_eq!(reasons(&convert(&mut model, LEAST_ELEMENTS))[0].1, KeepReason::TooFine { largest: 1e-6 });
    let mut w = weights(N * N);
    w[0] = f32::NAN;
    assert_eq!(reasons(&convert(&mut linear(&w), LEAST_ELEMENTS))[0].1, KeepReason::NonFinite { position: 0 });
    // The largest f16, and an all-zero tensor, are fine.
    w[0] = 65504.0;
    assert_eq!(convert(&mut linear(&w), LEAST_ELEMENTS).converted[0].elements, N * N);
    assert_eq!(convert(&mut linear(&vec![0.0; N * N]), LEAST_ELEMENTS).converted[0].max_abs_error, 0.0);
}

#[test]
fn what_must_be_exact_stays() {
    for (op, position, exact) in [
        ("BatchNormalization", 4, true),
        ("Clip", 1, true),
        ("Clip", 0, false),
        ("Resize", 2, true),
        ("Pad", 2, true),
        ("DequantizeLinear", 1, true),
        ("GridSample", 1, true),
        ("GridSample", 0, false),
        ("Conv", 1, false),
    ] {
        let mut inputs = vec!["x"; 5];
        inputs[position] = "c";
        let mut model = GraphBuilder::new("g")
            .input("x", ElementType::F32, &shape())
            .initializer_f32("c", &[8], &weights(8))
            .node(op, &inputs, &["y"], vec![])
            .output("y", ElementType::F32, &shape())
            .finish();
        let conversion = convert(&mut model, 1);
        let expected = KeepReason::ReadExactly { op: op.to_owned(), input: position };
        assert_eq!(conversion.kept.first().is_some_and(|t| t.reason == expected), exact, "{op} {position}");
        assert_eq!(conversion.converted.len(), usize::from(!exact), "{op} {position}");
    }
}

#[test]
fn initializers_that_are_inputs_too() {
    let listed = |ir_version| {
        let mut model = linear(&weights(N * N));
        model.ir_version = Some(ir_version);
        let graph = model.graph.as_mut().unwrap();
        let declared = GraphBuilder::new("")
            .input("w", ElementType::F32, &[Dim::Fixed(N), Dim::Fixed(N)])
            .input("b", ElementType::F32, &[Dim::Fixed(N)])
            .finish();
        graph.input.extend(declared.graph.unwrap().input);
        model
    };
    // Since IR 4 the caller may replace it, so it must stay f32.
    let mut model = listed(8);
    assert_eq!(reasons(&convert(&mut model, LEAST_ELEMENTS))[0], ("w", KeepReason::DefaultOfInput));
    assert_eq!(model, listed(8));
    // Before, every initializer had to be listed: the list follows.
    let mut model = listed(3);
    assert_eq!(convert(&mut model, LEAST_ELEMENTS).converted.len(), 1);
    let names: Vec<_> = model.graph.as_ref().unwrap().input.iter().filter_map(|v| v.name.as_deref()).collect();
    assert_eq!(names, ["x", "w__f16", "b"]);
    assert!(difference(&listed(3), &model).relative() < 1e-3);
}

#[test]
fn constant_nodes_are_converted_in_place() {
    let constant = || {
        let tensor = linear(&weights(N * N)).graph.unwrap().initializer.swap_remove(0);
        AttributeProto {
            name: Some("value".into()),
            t: Some(tensor),
            r#type: Some(attribute_type::TENSOR),
            ..AttributeProto::default()
        }
    };
    let before = GraphBuilder::new("g")
        .input("x", ElementType::F32, &shape())
        .node("Relu", &["x"], &["r"], vec![])
        .node("Constant", &[], &["c"], vec![constant()])
        .node("MatMul", &["r", "c"], &["y"], vec![])
        .output("y", ElementType::F32, &shape())
        .finish();
    let mut after = before.clone();
    assert_eq!(convert(&mut after, LEAST_ELEMENTS).converted[0].name, "c");
    let ops = |m: &ModelProto| -> Vec<String> {
        m.graph.as_ref().unwrap().node.iter().filter_map(|n| n.op_type.clone()).collect()
    };
    assert_eq!(ops(&after), ["Relu", "Constant", "Cast", "MatMul"]);
    let y = difference(&before, &after);
    assert!(y.max_abs > 0.0 && y.relative() < 1e-3, "{y:?}");
}

/// `y = if true { x w } else { (x w) v }`, with `w` in the outer graph and `v` in the branch.
fn branching() -> ModelProto {
    let branch = |name: &str, own: bool| {
        let mut graph = GraphBuilder::new(name);
        graph.node("MatMul", &["x", "w"], &[&format!("{name}_m")], vec![]);
        if own {
            graph.initializer_f32("v", &[N, N], &weights(N * N));
            graph.node("MatMul", &[&format!("{name}_m"), "v"], &[&format!("{name}_y")], vec![]);
        } else {
            graph.node("Relu", &[&format!("{name}_m")], &[&format!("{name}_y")], vec![]);
        }
        graph.output(&format!("{name}_y"), ElementType::F32, &shape());
        graph.finish().graph
    };
    let attribute = |name: &str, own| AttributeProto {
        name: Some(name.into()),
        g: branch(name, own),
        r#type: Some(attribute_type::GRAPH),
        ..AttributeProto::default()
    };
    let mut model = GraphBuilder::new("outer")
        .input("x", ElementType::F32, &shape())
        .initializer_f32("w", &[N, N], &weights(N * N))
        .node("If", &["cond"], &["y"], vec![attribute("then_branch", true), attribute("else_branch", false)])
        .output("y", ElementType::F32, &shape())
        .finish();
    let cond = TensorProto {
        name: Some("cond".into()),
        data_type: Some(data_type::BOOL),
        raw_data: Some(vec![1]),
        ..TensorProto::default()
    };
    model.graph.as_mut().unwrap().initializer.push(cond);
    model
}

#[test]
fn subgraphs_keep_reading_outer_names_and_their_own() {
    let before = branching();
    let mut after = before.clone();
    let converted = convert(&mut after, LEAST_ELEMENTS).converted;
    let places: Vec<_> = converted.iter().map(|t| (t.graph.as_str(), t.name.as_str())).collect();
    assert_eq!(places, [("outer", "w"), ("then_branch", "v")]);
    let y = difference(&before, &after);
    assert!(y.max_abs > 0.0 && y.relative() < 1e-3, "{y:?}");
}

#[test]
fn exactness_is_seen_inside_subgraphs() {
    let mut model = branching();
    let node = &mut model.graph.as_mut().unwrap().node[0];
    let clip = NodeProto {
        op_type: Some("Clip".into()),
        input: vec!["else_branch_m".into(), "w".into()],
        output: vec!["clipped".into()],
        ..NodeProto::default()
    };
    node.attribute[1].g.as_mut().unwrap().node.push(clip);
    let conversion = convert(&mut model, LEAST_ELEMENTS);
    assert_eq!(reasons(&conversion), [("w", KeepReason::ReadExactly { op: "Clip".into(), input: 1 })]);
}

#[test]
fn new_names_avoid_the_old() {
    let mut before = linear(&weights(N * N));
    before.graph.as_mut().unwrap().node[0].output[0] = "w__f16".into();
    before.graph.as_mut().unwrap().node[1].input[0] = "w__f16".into();
    let mut after = before.clone();
    convert(&mut after, LEAST_ELEMENTS);
    assert!(initializer(&after, "w__f16_2").is_some());
    assert!(difference(&before, &after).relative() < 1e-3);
}

#[test]
fn a_real_detector_halves() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/weights/nanodet_g_416.onnx");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let job = Fp16Job {
        input: path,
        output: folder.path().join("out.onnx"),
        report: None,
        inputs: RandomInputs { draws: 1, ..RandomInputs::default() },
        tolerance: 0.005,
        native: false,
    };
    let report = run(&job, &TractEngine::new(1)).unwrap();
    assert!(report.within_tolerance, "{report}");
    assert!(report.bytes_after * 100 < report.bytes_before * 52, "{report}");
    assert_eq!(std::fs::metadata(&job.output).unwrap().len(), report.bytes_after as u64);
    let infinite = report.tensors.kept.iter().filter(|t| matches!(t.reason, KeepReason::NonFinite { .. }));
    assert_eq!(infinite.count(), 1, "the Pad with -inf before the MaxPool");

    // It is a graph that anything may load: its inputs are still what they were.
    let model = TractEngine::new(1).load(&std::fs::read(&job.output).unwrap(), &GraphRequest::default()).unwrap();
    assert_eq!(model.inputs().len(), 1);
}

#[test]
fn an_operator_set_without_numbered_casts_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = linear(&weights(N * N));
    model.opset_import[0].version = Some(5);
    let input = folder.path().join("in.onnx");
    onnx::write(&model, &input).unwrap();
    let job = Fp16Job {
        input,
        output: folder.path().join("out.onnx"),
        report: None,
        inputs: RandomInputs::default(),
        tolerance: DEFAULT_TOLERANCE,
        native: false,
    };
    let error = run(&job, &TractEngine::new(1)).unwrap_err();
    assert!(matches!(error, Fp16Error::OldOpset { version: 5, .. }), "{error}");
}
