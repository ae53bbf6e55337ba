use hoi_runtime::engine::{Dim, ElementType, TractEngine};

use super::*;
use crate::compare::{RandomInputs, compare};
use crate::onnx::{GraphBuilder, TensorProto, attr_float, attr_int, attr_ints, attr_string, to_bytes};

fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::Fixed(*d)).collect()
}

/// A graph with the input `x` of `[1, 4, 6, 6]` and what `build` adds; outputs with their shapes.
fn graph(build: impl FnOnce(&mut GraphBuilder), outputs: &[(&str, &[usize])]) -> ModelProto {
    let mut graph = GraphBuilder::new("g");
    graph.input("x", ElementType::F32, &dims(&[1, 4, 6, 6]));
    build(&mut graph);
    for (name, shape) in outputs {
        graph.output(name, ElementType::F32, &dims(shape));
    }
    graph.finish()
}

fn weights(graph: &mut GraphBuilder, name: &str, shape: &[usize]) {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.7).sin()).collect();
    graph.initializer_f32(name, shape, &values);
}

fn operators(model: &ModelProto) -> Vec<String> {
    model.graph.iter().flat_map(|g| &g.node).map(|n| n.op().to_owned()).collect()
}

/// Runs `pass` and checks the count, the operators left, and that the outputs are what they were.
fn same(model: &ModelProto, pass: impl FnOnce(&mut ModelProto) -> usize, count: usize, left: &[&str]) -> ModelProto {
    let mut changed = model.clone();
    assert_eq!(pass(&mut changed), count);
    assert_eq!(operators(&changed), left);
    let engine = TractEngine::new(1);
    let (before, after) = (to_bytes(model).unwrap(), to_bytes(&changed).unwrap());
    let comparison = compare(&before, &after, &engine, RandomInputs::default()).unwrap();
    for output in &comparison.outputs {
        assert!(output.relative() < 1e-5, "{output:?}");
        assert!(output.range > 0.1, "{output:?}");
    }
    changed
}

const OUT: &[(&str, &[usize])] = &[("y", &[1, 8, 6, 6])];

#[test]
fn constant_nodes_and_half_weights_become_initializers() {
    let half = |v: f32| half::f16::from_f32(v).to_le_bytes();
    let mut model = graph(
        |g| {
            g.node("Cast", &["h"], &["w"], vec![attr_int("to", 1)])
                .node("Constant", &[], &["two"], vec![attr_float("value_float", 2.0)])
                .node("Conv", &["x", "w"], &["c"], vec![])
                .node("Mul", &["c", "two"], &["y"], vec![]);
        },
        OUT,
    );
    let raw = (0..32).flat_map(|i| half(i as f32 / 32.0)).collect();
    let stored =
        TensorProto { data_type: Some(10), raw_data: Some(raw), ..TensorProto::from_f32("h", &[8, 4, 1, 1], &[]) };
    model.graph.as_mut().unwrap().initializer.push(stored);
    let model = same(&model, constants_to_initializers, 1, &["Cast", "Conv", "Mul"]);
    let model = same(&model, |m| widen_half_weights(m, &[]), 1, &["Conv", "Mul"]);
    let w = model.graph.as_ref().unwrap().initializer_named("w").unwrap();
    assert_eq!(w.f32_values().unwrap()[31], 31.0 / 32.0);
    assert!(model.graph.unwrap().initializer_named("h").is_none());
}

#[test]
fn an_identity_goes_and_kept_names_stay() {
    let model = graph(
        |g| {
            weights(g, "w", &[8, 4, 1, 1]);
            g.node("Identity", &["x"], &["i"], vec![])
                .node("Conv", &["i", "w"], &["c"], vec![])
                .node("Relu", &["c"], &["r"], vec![])
                .node("Identity", &["r"], &["y"], vec![])
                .node("Identity", &["y"], &["z"], vec![]);
        },
        &[("y", &[1, 8, 6, 6]), ("z", &[1, 8, 6, 6])],
    );
    let changed = same(&model, |m| remove_identities(m, &[]), 2, &["Conv", "Relu", "Identity"]);
    assert_eq!(changed.graph.unwrap().node[1].output, ["y"]);
    let keep = ["r".to_owned()];
    same(&model, |m| remove_identities(m, &keep), 1, &["Conv", "Relu", "Identity", "Identity"]);
}

#[test]
fn batch_norms_fold_into_their_convolution_alone() {
    let build = |g: &mut GraphBuilder| {
        weights(g, "w", &[8, 4, 3, 3]);
        for (name, shift) in [("gamma", 1.5), ("beta", -0.3), ("mean", 0.2), ("variance", 2.0)] {
            let values: Vec<f32> = (0..8).map(|i| shift + 0.1 * (i as f32).cos()).collect();
            g.initializer_f32(name, &[8], &values);
        }
        g.node("Conv", &["x", "w"], &["c"], vec![attr_ints("pads", &[1, 1, 1, 1])]).node(
            "BatchNormalization",
            &["c", "gamma", "beta", "mean", "variance"],
            &["y"],
            vec![attr_float("epsilon", 0.01)],
        );
    };
    let changed = same(&graph(build, OUT), |m| fold_batch_norms(m, &[]), 1, &["Conv"]);
    let graph_after = changed.graph.unwrap();
    assert_eq!((&graph_after.node[0].output[0], graph_after.node[0].input.len()), (&"y".to_owned(), 3));
    // Another reader, or a name that is read from outside, forbids it.
    let twice = [("y", &[1, 8, 6, 6][..]), ("c", &[1, 8, 6, 6][..])];
    same(&graph(build, &twice), |m| fold_batch_norms(m, &[]), 0, &["Conv", "BatchNormalization"]);
    let keep = ["c".to_owned()];
    same(&graph(build, OUT), |m| fold_batch_norms(m, &keep), 0, &["Conv", "BatchNormalization"]);
}

#[test]
fn products_and_sums_of_channels_fold_into_any_convolution() {
    for (op, shape, group) in [
        ("Conv", [8, 4, 3, 3], 1),
        ("Conv", [8, 1, 3, 3], 4),
        ("ConvTranspose", [4, 8, 3, 3], 1),
        ("ConvTranspose", [4, 4, 3, 3], 2),
    ] {
        let model = graph(
            |g| {
                weights(g, "w", &shape);
                weights(g, "m", &[1, 8, 1, 1]);
                weights(g, "a", &[8, 1, 1]);
                g.initializer_f32("d", &[], &[3.0]);
                g.node(op, &["x", "w"], &["c"], vec![attr_ints("pads", &[1, 1, 1, 1]), attr_int("group", group)])
                    .node("Mul", &["m", "c"], &["p"], vec![])
                    .node("Div", &["p", "d"], &["q"], vec![])
                    .node("Add", &["q", "a"], &["y"], vec![]);
            },
            OUT,
        );
        same(&model, |m| fold_affine(m, &[]), 3, &[op]);
    }
}

#[test]
fn constants_along_another_axis_stay() {
    let model = graph(
        |g| {
            weights(g, "w", &[8, 4, 1, 1]);
            weights(g, "a", &[6]);
            g.node("Conv", &["x", "w"], &["c"], vec![]).node("Add", &["c", "a"], &["y"], vec![]);
        },
        OUT,
    );
    same(&model, |m| fold_affine(m, &[]), 0, &["Conv", "Add"]);
}

#[test]
fn shared_weights_are_copied_before_they_change() {
    let model = graph(
        |g| {
            weights(g, "w", &[8, 4, 1, 1]);
            weights(g, "m", &[8, 1, 1]);
            g.node("Conv", &["x", "w"], &["c"], vec![])
                .node("Conv", &["x", "w"], &["d"], vec![])
                .node("Mul", &["c", "m"], &["p"], vec![])
                .node("Add", &["p", "d"], &["y"], vec![]);
        },
        OUT,
    );
    same(&model, |m| fold_affine(m, &[]), 1, &["Conv", "Conv", "Add"]);
}

#[test]
fn a_bias_after_a_residual_sum_becomes_the_convolutions() {
    let model = graph(
        |g| {
            weights(g, "w", &[4, 4, 1, 1]);
            weights(g, "b", &[4, 1, 1]);
            g.node("Conv", &["x", "w"], &["c"], vec![]).node("Add", &["c", "x"], &["s"], vec![]).node(
                "Add",
                &["b", "s"],
                &["y"],
                vec![],
            );
        },
        &[("y", &[1, 4, 6, 6])],
    );
    let changed = same(&model, |m| move_biases_before_sums(m, &[]), 1, &["Conv", "Add"]);
    assert_eq!(changed.graph.unwrap().node[1].output, ["y"]);
}

#[test]
fn pads_become_part_of_what_follows() {
    let model = graph(
        |g| {
            weights(g, "w", &[8, 4, 3, 3]);
            g.initializer_i64("p", &[8], &[0, 0, 0, 1, 0, 0, 2, 1])
                .initializer_i64("q", &[8], &[0, 0, 1, 1, 0, 0, 1, 1])
                .initializer_f32("lowest", &[], &[f32::NEG_INFINITY])
                .node("Pad", &["x", "p"], &["a"], vec![])
                .node("Conv", &["a", "w"], &["c"], vec![attr_ints("pads", &[1, 0, 0, 0])])
                .node("Pad", &["c", "q", "lowest"], &["b"], vec![])
                .node("MaxPool", &["b"], &["y"], vec![attr_ints("kernel_shape", &[3, 3])]);
        },
        &[("y", &[1, 8, 7, 6])],
    );
    let changed = same(&model, |m| fold_pads(m, &[]), 2, &["Conv", "MaxPool"]);
    let nodes = &changed.graph.as_ref().unwrap().node;
    assert_eq!((nodes[0].ints("pads"), nodes[1].ints("pads")), (&[1, 1, 2, 1][..], &[1, 1, 1, 1][..]));
    // Zeros before a MaxPool are not nothing, and an edge repeated is no zero.
    let others = graph(
        |g| {
            weights(g, "w", &[8, 4, 3, 3]);
            g.initializer_i64("q", &[8], &[0, 0, 1, 1, 0, 0, 1, 1])
                .node("Pad", &["x", "q"], &["b"], vec![])
                .node("MaxPool", &["b"], &["m"], vec![attr_ints("kernel_shape", &[3, 3])])
                .node("Pad", &["m", "q"], &["e"], vec![attr_string("mode", "edge")])
                .node("Conv", &["e", "w"], &["y"], vec![]);
        },
        OUT,
    );
    same(&others, |m| fold_pads(m, &[]), 0, &["Pad", "MaxPool", "Pad", "Conv"]);
}

#[test]
fn a_transposed_convolution_that_interpolates_becomes_a_resize() {
    let build = |tent: [f32; 4]| {
        graph(
            |g| {
                let w: Vec<f32> = (0..64).map(|i| tent[i / 4 % 4] * tent[i % 4]).collect();
                g.initializer_f32("w", &[4, 1, 4, 4], &w)
                    .initializer_i64("p", &[8], &[0, 0, 1, 1, 0, 0, 1, 1])
                    .node("Pad", &["x", "p"], &["e"], vec![attr_string("mode", "edge")])
                    .node(
                        "ConvTranspose",
                        &["e", "w"],
                        &["y"],
                        vec![attr_int("group", 4), attr_ints("strides", &[2, 2]), attr_ints("pads", &[3, 3, 3, 3])],
                    );
            },
            &[("y", &[1, 4, 12, 12])],
        )
    };
    same(&build([0.25, 0.75, 0.75, 0.25]), |m| replace_upsampling(m, &[]), 1, &["Resize"]);
    same(&build([0.5, 0.75, 0.75, 0.25]), |m| replace_upsampling(m, &[]), 0, &["Pad", "ConvTranspose"]);
}

#[test]
fn clean_does_all_of_it_once() {
    let model = graph(
        |g| {
            weights(g, "w", &[8, 4, 1, 1]);
            weights(g, "b", &[8, 1, 1]);
            weights(g, "lonely", &[3]);
            g.node("Conv", &["x", "w"], &["c"], vec![])
                .node("Sigmoid", &["x"], &["nobody"], vec![])
                .node("Add", &["c", "b"], &["a"], vec![])
                .node("Identity", &["a"], &["y"], vec![]);
        },
        OUT,
    );
    let mut cleaned = Cleaned::default();
    let changed = same(
        &model,
        |m| {
            cleaned = clean(m, &[]);
            cleaned.affine
        },
        1,
        &["Conv"],
    );
    assert_eq!((cleaned.identities, cleaned.unused), (1, 3), "the Sigmoid, `lonely` and `b`");
    let mut again = changed.clone();
    assert_eq!(clean(&mut again, &[]), Cleaned::default());
    assert_eq!(again, changed);
}
