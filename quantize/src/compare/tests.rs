use hoi_runtime::engine::TractEngine;

use super::*;
use crate::onnx::{GraphBuilder, to_bytes};

/// `y = op(x, c)` with `x` of `[P, 2]`.
fn graph(op: &str, c: [f32; 2]) -> Vec<u8> {
    let shape = [Dim::Symbol("P".into()), Dim::Fixed(2)];
    let model = GraphBuilder::new("g")
        .input("x", ElementType::F32, &shape)
        .initializer_f32("c", &[2], &c)
        .node(op, &["x", "c"], &["y"], vec![])
        .output("y", ElementType::F32, &shape)
        .finish();
    to_bytes(&model).unwrap()
}

fn measure(before: &[u8], after: &[u8]) -> Result<Comparison, CompareError> {
    compare(before, after, &TractEngine::new(1), RandomInputs::default())
}

#[test]
fn the_largest_difference_over_all_draws() {
    let c = measure(&graph("Add", [0.0, 0.0]), &graph("Add", [0.25, -0.5])).unwrap();
    let y = &c.outputs[0];
    assert_eq!((y.name.as_str(), y.elements, y.non_finite_mismatches), ("y", 2 * SYMBOL_LENGTH, 0));
    assert!((y.max_abs - 0.5).abs() < 1e-6, "{y:?}");
    assert!(y.range > 1.5 && y.range <= 2.0, "inputs are uniform in [-1, 1]: {y:?}");
    assert!((y.relative() - y.max_abs / y.range).abs() < 1e-12);
    let same = measure(&graph("Add", [0.0, 0.0]), &graph("Add", [0.0, 0.0])).unwrap();
    assert_eq!((same.outputs[0].max_abs, same.outputs[0].relative()), (0.0, 0.0));
}

#[test]
fn seed_and_range_choose_the_inputs() {
    let (a, b) = (graph("Mul", [1.0, 1.0]), graph("Mul", [1.5, 1.0]));
    let measure = |inputs| compare(&a, &b, &TractEngine::new(1), inputs).unwrap().outputs[0].clone();
    let base = RandomInputs::default();
    assert_eq!(measure(base), measure(base));
    assert_ne!(measure(base), measure(RandomInputs { seed: 1, ..base }));
    let wide = measure(RandomInputs { range: [100.0, 101.0], ..base });
    assert!(wide.max_abs > 50.0 && wide.max_abs < 50.6 && wide.range <= 1.0, "{wide:?}");
    for range in [[1.0, 0.0], [f32::NAN, 1.0], [0.0, f32::INFINITY]] {
        let error = compare(&a, &b, &TractEngine::new(1), RandomInputs { range, ..base }).unwrap_err();
        assert!(matches!(error, CompareError::InputRange { .. }), "{error}");
    }
}

#[test]
fn infinities_count_as_mismatches_only_where_the_other_has_none() {
    let y = &measure(&graph("Add", [f32::INFINITY, 0.0]), &graph("Add", [f32::INFINITY, 0.0])).unwrap().outputs[0];
    assert_eq!((y.non_finite_mismatches, y.relative()), (0, 0.0));
    let y = &measure(&graph("Add", [f32::INFINITY, 0.0]), &graph("Add", [0.0, 0.0])).unwrap().outputs[0];
    assert_eq!((y.non_finite_mismatches, y.relative()), (3 * SYMBOL_LENGTH, f64::INFINITY));
    let y = &measure(&graph("Add", [f32::INFINITY, 0.0]), &graph("Add", [f32::NEG_INFINITY, 0.0])).unwrap().outputs[0];
    assert_eq!(y.non_finite_mismatches, 3 * SYMBOL_LENGTH);
}

#[test]
fn a_constant_output_that_changes_is_infinitely_far() {
    let y = &measure(&graph("Mul", [0.0, 0.0]), &graph("Mul", [0.0, 0.1])).unwrap().outputs[0];
    assert_eq!((y.range, y.relative()), (0.0, f64::INFINITY));
}

#[test]
fn what_cannot_be_compared() {
    let fixed = |name: &str, n: usize| {
        let shape = [Dim::Fixed(n)];
        let model = GraphBuilder::new("g")
            .input("x", ElementType::F32, &shape)
            .node("Relu", &["x"], &[name], vec![])
            .output(name, ElementType::F32, &shape)
            .finish();
        to_bytes(&model).unwrap()
    };
    let error = measure(&fixed("y", 3), &fixed("y", 4)).unwrap_err();
    assert!(matches!(&error, CompareError::DifferentInterface { what, .. } if what == "inputs"), "{error}");
    let error = measure(&fixed("y", 3), &fixed("z", 3)).unwrap_err();
    assert!(matches!(&error, CompareError::DifferentInterface { what, .. } if what == "outputs"), "{error}");
    let huge = fixed("y", MOST_INPUT_ELEMENTS + 1);
    assert!(matches!(measure(&huge, &huge).unwrap_err(), CompareError::TooLarge { .. }));
    let error = measure(&fixed("y", 3), &graph("Add", [f32::NAN, 0.0])).unwrap_err();
    assert!(matches!(error, CompareError::Engine { which: "converted", source: EngineError::NanWeight { .. } }));
}
