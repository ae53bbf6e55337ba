use hoi_runtime::engine::{Dim, ElementType, Engine as _, GraphRequest, Halves, Tensor, TractEngine};
use ndarray::ArrayD;

use super::*;
use crate::compare::Comparison;
use crate::onnx::{GraphBuilder, GraphProto, ModelProto, attr_int, attr_ints, attr_string, data_type, to_bytes};

fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::Fixed(*d)).collect()
}

/// A convolution, a Clip without upper bound, a Resize, a reduction and what makes a constant of a shape.
fn network() -> ModelProto {
    let weights: Vec<f32> = (0..4 * 3 * 9).map(|i| (i as f32 * 1.7).sin() * 0.3).collect();
    let linear = ["asymmetric", "linear"].map(str::to_owned);
    GraphBuilder::new("g")
        .input("x", ElementType::F32, &dims(&[1, 3, 8, 8]))
        .initializer_f32("w", &[4, 3, 3, 3], &weights)
        .initializer_f32("b", &[4], &[0.1, -0.2, 0.3, 0.0])
        .initializer_f32("low", &[], &[0.0])
        .initializer_f32("high", &[], &[f32::MAX])
        .initializer_f32("twice", &[4], &[1.0, 1.0, 2.0, 2.0])
        .initializer_i64("shape", &[4], &[1, 4, 16, 16])
        .node("Conv", &["x", "w", "b"], &["c"], vec![attr_ints("pads", &[1; 4])])
        .node("Clip", &["c", "low", "high"], &["r"], vec![])
        .node(
            "Resize",
            &["r", "", "twice"],
            &["u"],
            vec![attr_string("coordinate_transformation_mode", &linear[0]), attr_string("mode", &linear[1])],
        )
        .node("ConstantOfShape", &["shape"], &["zeros"], vec![])
        .node("Add", &["u", "zeros"], &["s"], vec![])
        .node("Cast", &["s"], &["f"], vec![attr_int("to", data_type::FLOAT.into())])
        .node("Softmax", &["f"], &["y"], vec![attr_int("axis", 1)])
        .output("y", ElementType::F32, &dims(&[1, 4, 16, 16]))
        .output("r", ElementType::F32, &dims(&[1, 4, 8, 8]))
        .finish()
}

fn graph(model: &ModelProto) -> &GraphProto {
    model.graph.as_ref().unwrap()
}

fn converted(model: &ModelProto) -> ModelProto {
    let mut model = model.clone();
    compute_in_halves(&mut model).unwrap();
    model
}

#[test]
fn a_graph_computes_in_halves_and_keeps_its_interface() {
    let before = network();
    let mut after = before.clone();
    let conversion = compute_in_halves(&mut after).unwrap();
    let names: Vec<&str> = conversion.converted.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["w", "b", "low", "high", "twice"], "the copy that Resize reads stays");
    let stored = |name: &str| graph(&after).initializer_named(name).and_then(|t| t.data_type);
    let resize = graph(&after).node.iter().find(|n| n.op() == "Resize").unwrap();
    assert_eq!((stored("w"), stored(&resize.input[2])), (Some(data_type::FLOAT16), Some(data_type::FLOAT)));

    let bytes = [to_bytes(&before).unwrap(), to_bytes(&after).unwrap()];
    let compared = |native: bool| -> Comparison {
        let engine = TractEngine::new(1).with_native_halves(native);
        compare(&bytes[0], &bytes[1], &engine, RandomInputs::default()).unwrap()
    };
    // Rounding of the weights alone, and of everything.
    let [widened, native] = [false, true].map(compared);
    for (widened, native) in widened.outputs.iter().zip(&native.outputs) {
        assert!(widened.max_abs > 0.0 && widened.relative() < 1e-3, "{widened:?}");
        assert!(native.relative() < 5e-3 && native.max_abs != widened.max_abs, "{native:?} {widened:?}");
    }
}

#[test]
fn the_engine_says_how_it_computes_and_gives_f32() {
    let model = converted(&network());
    let request = GraphRequest { inputs: Vec::new(), outputs: vec!["u".to_owned(), "y".to_owned()] };
    let load = |model: &ModelProto, native: bool| {
        TractEngine::new(1).with_native_halves(native).load(&to_bytes(model).unwrap(), &request).unwrap()
    };
    assert_eq!(load(&network(), true).halves(), None);
    let mut stored = network();
    convert(&mut stored, 1);
    assert_eq!(load(&stored, true).halves(), None, "weights that are only stored so");
    for (native, halves) in [(true, Halves::Native), (false, Halves::Widened)] {
        let loaded = load(&model, native);
        assert_eq!(loaded.halves(), Some(halves));
        assert!(loaded.inputs().iter().chain(loaded.outputs()).all(|t| t.element == ElementType::F32));
        let x = ArrayD::from_shape_fn(vec![1, 3, 8, 8], |i| (i[1] * 64 + i[2] * 8 + i[3]) as f32 / 192.0);
        let outputs = loaded.run(vec![Tensor::F32(x)]).unwrap();
        let tap = outputs[0].as_f32().unwrap();
        assert!(tap.iter().all(|v| v.is_finite()) && tap.iter().any(|v| *v > 0.1), "a tensor inside, in f32");
    }
}

#[test]
fn what_cannot_compute_in_halves() {
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = network();
        change(&mut model);
        let before = model.clone();
        let error = compute_in_halves(&mut model).unwrap_err();
        assert_eq!(model, before);
        error
    };
    let node = |model: &mut ModelProto, op: &str| {
        model.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op() == op).unwrap().clone()
    };
    let error = refused(&|model| {
        let mut softmax = node(model, "Softmax");
        softmax.op_type = Some("GridSample".into());
        model.graph.as_mut().unwrap().node.push(softmax);
    });
    assert!(matches!(&error, NativeError::Operator { op, .. } if op == "GridSample"), "{error}");
    let error = refused(&|model| {
        let foreign = model.graph.as_mut().unwrap().node.iter_mut().find(|n| n.op() == "Softmax").unwrap();
        foreign.domain = Some("com.example".into());
    });
    assert!(matches!(&error, NativeError::Operator { op, .. } if op == "com.example.Softmax"), "{error}");
    let error = refused(&|model| {
        let graph = model.graph.as_mut().unwrap();
        let inner = GraphProto::default();
        graph.node[0].attribute.push(onnx::AttributeProto { g: Some(inner), ..Default::default() });
    });
    assert!(matches!(error, NativeError::Subgraph { .. }), "{error}");
    let error = refused(&|model| {
        let tensor = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name_or_empty() == "b").unwrap();
        *tensor = onnx::TensorProto::from_f32("b", &[4], &[0.0, 7e4, 0.0, 0.0]);
    });
    assert!(matches!(&error, NativeError::OutOfRange { tensor, position: 1, .. } if tensor == "b"), "{error}");
}

#[test]
fn a_real_detector_in_halves_says_the_same() {
    let bundle = hoi_runtime::bundle::ModelBundle::builtin().unwrap();
    let before = bundle.file(&bundle.manifest().detector.file).unwrap();
    let after = to_bytes(&converted(&onnx::from_bytes(before).unwrap())).unwrap();
    let engine = TractEngine::new(1).with_native_halves(false);
    let outputs =
        compare(before, &after, &engine, RandomInputs { draws: 1, ..RandomInputs::default() }).unwrap().outputs;
    assert!(outputs.len() >= 2 && outputs.iter().all(|o| o.relative() < 5e-3), "{outputs:?}");
}
