use std::collections::{BTreeMap, HashMap};

use hoi_runtime::engine::{Dim, ElementType, Engine as _, GraphRequest, Tensor, TractEngine};
use ndarray::ArrayD;

use super::*;
use crate::calibrate::{Histogram, LARGEST, Method};
use crate::onnx::{
    GraphBuilder, GraphProto, ModelProto, NodeProto, attr_float, attr_int, attr_ints, attr_string, data_type, to_bytes,
};

fn dims(shape: &[usize]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::Fixed(*d)).collect()
}

/// A graph with the input `x` of `[1, 4, 6, 6]` and the output `y`.
fn graph(shape: &[usize], build: impl FnOnce(&mut GraphBuilder)) -> ModelProto {
    let mut graph = GraphBuilder::new("g");
    graph.input("x", ElementType::F32, &dims(&[1, 4, 6, 6])).initializer_f32("zero", &[], &[0.0]);
    graph.initializer_f32("six", &[], &[6.0]);
    build(&mut graph);
    graph.output("y", ElementType::F32, &dims(shape)).finish()
}

/// A convolution of `shape` with bias; 3x3 ones keep width and height.
fn conv(g: &mut GraphBuilder, input: &str, output: &str, shape: [usize; 4], group: i64) {
    let (w, b) = (format!("{output}.w"), format!("{output}.b"));
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * 1.3).sin() * 0.5).collect();
    let bias: Vec<f32> = (0..shape[0]).map(|i| (i as f32).cos()).collect();
    let pads = [shape[2] as i64 / 2; 4];
    g.initializer_f32(&w, &shape, &values).initializer_f32(&b, &shape[..1], &bias).node(
        "Conv",
        &[input, &w, &b],
        &[output],
        vec![attr_int("group", group), attr_ints("pads", &pads)],
    );
}

fn picture(seed: usize) -> ArrayD<f32> {
    ArrayD::from_shape_fn(vec![1, 4, 6, 6], |i| ((seed + i[1] * 36 + i[2] * 6 + i[3]) as f32 * 0.9).sin())
}

fn run(model: &ModelProto, outputs: &[String], input: ArrayD<f32>) -> Vec<ArrayD<f32>> {
    let request = GraphRequest { inputs: Vec::new(), outputs: outputs.to_vec() };
    let loaded = TractEngine::new(1).load(&to_bytes(model).unwrap(), &request).unwrap();
    let outputs = loaded.run(vec![Tensor::F32(input)]).unwrap();
    outputs.iter().map(|t| t.as_f32().unwrap().clone()).collect()
}

struct Quantized {
    model: ModelProto,
    /// The model before what nobody reads was dropped.
    complete: ModelProto,
    plan: Plan,
    scales: HashMap<String, f32>,
    written: Written,
    /// Signal to noise of `y`.
    decibel: f64,
}

fn quantize(model: &ModelProto, options: &PlanOptions) -> Quantized {
    let names = candidates(model, &[]).unwrap();
    let mut statistics: BTreeMap<String, Histogram> = BTreeMap::new();
    let mut shapes = HashMap::from([("x".to_owned(), vec![1, 4, 6, 6])]);
    for seed in 0..8 {
        statistics.entry("x".into()).or_default().add_tensor(picture(seed).as_slice().unwrap(), &[1, 4, 6, 6]);
        for (name, values) in names.iter().zip(run(model, &names, picture(seed))) {
            shapes.insert(name.clone(), values.shape().to_vec());
            let values = values.as_standard_layout().into_owned();
            statistics.entry(name.clone()).or_default().add_tensor(values.as_slice().unwrap(), values.shape());
        }
    }
    let plan = plan(model, &[], &shapes, options).unwrap();
    let (scales, _) = scales(model, &plan, &statistics, Method::MinMax, &HashMap::new()).unwrap();
    let mut quantized = model.clone();
    let means = statistics.iter().map(|(n, h)| (n.clone(), h.channel_means())).collect();
    let written = write(&mut quantized, &plan, &scales, &means).unwrap();
    let complete = quantized.clone();
    crate::passes::drop_unused(&mut quantized, &[]);
    let (mut signal, mut noise) = (0.0, 0.0);
    for seed in 0..4 {
        let [a, b] = [model, &quantized].map(|m| run(m, &["y".to_owned()], picture(seed)).remove(0));
        signal += a.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        noise += a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    }
    Quantized { model: quantized, complete, plan, scales, written, decibel: 10.0 * (signal / noise).log10() }
}

impl Quantized {
    fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().unwrap()
    }

    fn giving(&self, name: &str) -> &NodeProto {
        self.graph().node.iter().find(|n| n.output[0] == name).unwrap()
    }

    fn tensors(&self) -> Vec<&str> {
        self.plan.tensors.iter().map(|(n, _)| n.as_str()).collect()
    }

    /// Checks what holds for every file: symmetric, one scale for both halves, no quantized node reads a tensor that has a dequantized form,
    /// and nobody one that comes out of integers.
    fn check(&self) {
        let graph = self.graph();
        let operators: Vec<&str> = graph.node.iter().map(NodeProto::op).collect();
        for (name, _) in &self.plan.tensors {
            let (q, dq) = (self.giving(&format!("{name}.q")), self.giving(&format!("{name}.dq")));
            assert_eq!((q.op(), dq.op()), ("QuantizeLinear", "DequantizeLinear"));
            assert_eq!((q.input[0].as_str(), &q.input[1..]), (name.as_str(), &dq.input[1..]));
            let readers = graph.node.iter().filter(|n| n.input.contains(name)).count();
            let integer = self.written.dequantized.contains_key(name);
            assert!(readers == 1 || !integer, "{name}: only its QuantizeLinear reads it: {operators:?}");
        }
        for node in graph.node.iter().filter(|n| n.op().ends_with("eLinear")) {
            let zero = graph.initializer_named(&node.input[2]).unwrap();
            assert!(zero.raw_data.as_ref().unwrap().iter().all(|b| *b == 0), "{}", node.label());
            assert!([data_type::INT8, data_type::INT32].contains(&zero.data_type.unwrap()));
            let scale = graph.initializer_named(&node.input[1]).unwrap();
            assert_eq!(scale.dims, zero.dims);
            assert!(scale.f32_values().unwrap().iter().all(|s| s.is_normal() && *s > 0.0));
        }
        let weights = graph.initializer.iter().filter(|t| t.data_type == Some(data_type::INT8));
        assert!(weights.flat_map(|t| t.raw_data.as_ref().unwrap()).all(|b| b.cast_signed() >= -127));
    }
}

#[test]
fn a_convolution_with_its_activation() {
    let model = graph(&[1, 4, 6, 6], |g| {
        conv(g, "x", "a", [8, 4, 3, 3], 1);
        g.node("Clip", &["a", "zero", "six"], &["b"], vec![]);
        conv(g, "b", "c", [8, 1, 3, 3], 8);
        g.node("LeakyRelu", &["c"], &["d"], vec![attr_float("alpha", 0.1)]);
        conv(g, "d", "y", [4, 8, 1, 1], 1);
    });
    let q = quantize(&model, &PlanOptions::default());
    q.check();
    assert_eq!(q.tensors(), ["x", "b", "d"], "neither between convolution and activation nor the output");
    let weight = q.giving("c.w.dq");
    let stored = q.graph().initializer_named("c.w.q").unwrap();
    assert_eq!((weight.int("axis"), &stored.dims[..]), (Some(0), &[8, 1, 3, 3][..]));
    assert_eq!(q.giving("c").input, ["b.dq", "c.w.dq", "c.b.dq"]);
    let scales = |name| q.graph().initializer_named(name).unwrap().f32_values().unwrap();
    let of_bias: Vec<f32> = scales("c.w.scale").iter().map(|s| s * q.scales["b"]).collect();
    assert_eq!(scales("c.b.scale"), of_bias);
    assert!(q.graph().initializer_named("c.w").is_none(), "float weights are gone");
    assert!(q.decibel > 32.0, "{}", q.decibel);
    // The last result feeds nothing but an output; asked for, it is still that output's float value.
    let all = quantize(&model, &PlanOptions { results: true, ..PlanOptions::default() });
    assert_eq!(all.tensors(), ["x", "b", "d"]);
}

#[test]
fn a_residual_sum_and_what_reads_it() {
    let model = graph(&[1, 4, 6, 6], |g| {
        conv(g, "x", "a", [4, 4, 3, 3], 1);
        conv(g, "a", "b", [4, 4, 3, 3], 1);
        g.node("Add", &["a", "b"], &["s"], vec![]).node("Relu", &["s"], &["r"], vec![]);
        conv(g, "r", "c", [4, 4, 3, 3], 1);
        g.node("Softmax", &["r"], &["f"], vec![]).node("Mul", &["f", "c"], &["y"], vec![]);
    });
    let q = quantize(&model, &PlanOptions::default());
    q.check();
    assert_eq!(q.tensors(), ["x", "a", "b", "s", "r"]);
    assert_eq!(q.giving("s").input, ["a.dq", "b.dq"]);
    assert_eq!(q.giving("f").input, ["r.dq"], "float operators read the dequantized tensor");
    assert_eq!(q.giving("y").input, ["f", "c"], "a result that only float operators read stays float");
    assert_eq!(q.scales["s"], q.scales["r"], "what a Relu cuts off needs no range");
    assert!(q.scales["a"] != q.scales["s"]);
    assert!(q.decibel > 28.0, "{}", q.decibel);
    let results = quantize(&model, &PlanOptions { results: true, ..PlanOptions::default() });
    assert_eq!(results.tensors(), ["x", "a", "b", "s", "r", "c"]);
    let kept = quantize(&model, &PlanOptions { keep_float: vec!["b".into(), "r*".into()], ..PlanOptions::default() });
    kept.check();
    assert_eq!(kept.tensors(), ["x", "r"], "the convolution of b and its sum stay float: {:?}", kept.plan);
}

#[test]
fn joined_moved_pooled_and_resized_values_share_a_scale() {
    let model = graph(&[1, 4, 6, 6], |g| {
        g.initializer_i64("halves", &[2], &[4, 4]).initializer_f32("twice", &[4], &[1.0, 1.0, 2.0, 2.0]);
        g.initializer_i64("shuffle", &[5], &[1, 2, 4, 6, 6]).initializer_i64("back", &[4], &[1, 8, 6, 6]);
        let nearest =
            [("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor"), ("mode", "nearest")];
        let nearest = nearest.map(|(name, value)| attr_string(name, value)).to_vec();
        conv(g, "x", "a", [4, 4, 3, 3], 1);
        conv(g, "x", "b", [4, 4, 1, 1], 1);
        g.node("Concat", &["a", "b"], &["j"], vec![attr_int("axis", 1)])
            .node("Reshape", &["j", "shuffle"], &["r"], vec![])
            .node("Transpose", &["r"], &["t"], vec![attr_ints("perm", &[0, 2, 1, 3, 4])])
            .node("Reshape", &["t", "back"], &["u"], vec![])
            .node("Split", &["u", "halves"], &["l", "h"], vec![attr_int("axis", 1)])
            .node("MaxPool", &["l"], &["p"], vec![attr_ints("kernel_shape", &[2, 2]), attr_ints("strides", &[2, 2])])
            .node("Resize", &["p", "", "twice"], &["z"], nearest);
        conv(g, "z", "c", [4, 4, 1, 1], 1);
        conv(g, "h", "d", [4, 4, 1, 1], 1);
        g.node("Add", &["c", "d"], &["y"], vec![]);
    });
    let q = quantize(&model, &PlanOptions::default());
    q.check();
    assert_eq!(q.tensors(), ["x", "a", "b", "j", "r", "t", "u", "l", "h", "p", "z"]);
    let groups = q.plan.groups();
    assert_eq!((groups.len(), groups[1].len()), (2, 10), "{groups:?}");
    assert_eq!(q.scales["a"], q.scales["z"]);
    assert!(q.decibel > 30.0, "{}", q.decibel);
}

#[test]
fn what_stands_before_the_first_convolution_stays_float() {
    let model = graph(&[1, 4, 6, 6], |g| {
        let half = vec![attr_string("mode", "linear")];
        g.initializer_f32("factor", &[], &[0.1]).initializer_f32("half", &[4], &[1.0, 1.0, 0.5, 0.5]);
        g.initializer_f32("twice", &[4], &[1.0, 1.0, 2.0, 2.0]);
        conv(g, "x", "a", [4, 4, 3, 3], 1);
        g.node("Mul", &["x", "factor"], &["m"], vec![]).node("Resize", &["m", "", "half"], &["r"], half.clone());
        g.node("MaxPool", &["r"], &["p"], vec![attr_ints("kernel_shape", &[1, 1])]);
        conv(g, "p", "b", [4, 4, 1, 1], 1);
        g.node("Resize", &["b", "", "twice"], &["u"], half).node(
            "Concat",
            &["a", "u", "x"],
            &["j"],
            vec![attr_int("axis", 1)],
        );
        conv(g, "j", "y", [4, 12, 1, 1], 1);
    });
    let q = quantize(&model, &PlanOptions::default());
    q.check();
    assert_eq!(q.tensors(), ["x", "a", "p", "b", "u", "j"], "neither m nor r");
    assert_eq!(q.giving("m").input, ["x", "factor"], "float reads the picture as it is");
    assert_eq!((q.giving("r").input[0].as_str(), q.giving("p").input[0].as_str()), ("m", "r"));
    assert_eq!((q.giving("a").input[0].as_str(), q.giving("b").input[0].as_str()), ("x.dq", "p.dq"));
    assert_eq!(q.giving("j").input, ["a.dq", "u.dq", "x.dq"], "a sum or join with one integer part is one of integers");
    let mut integer: Vec<&str> = q.written.dequantized.keys().map(String::as_str).collect();
    integer.sort_unstable();
    assert_eq!(integer, ["a", "b", "j", "u"], "what is read from outside changes its name only there");
    assert!(q.decibel > 30.0, "{}", q.decibel);
    // Without the convolution of `b` nothing before the join is to be had in integers but `a`.
    let kept = quantize(&model, &PlanOptions { keep_float: vec!["b".into()], ..PlanOptions::default() });
    kept.check();
    assert_eq!(kept.tensors(), ["x", "a", "u", "j"]);
    assert_eq!((kept.giving("b").input[0].as_str(), kept.giving("u").input[0].as_str()), ("p", "b"));
}

#[test]
fn after_a_root_small_values_matter() {
    let model = graph(&[1, 4, 6, 6], |g| {
        conv(g, "x", "a", [4, 4, 3, 3], 1);
        g.node("Relu", &["a"], &["b"], vec![]);
        conv(g, "b", "c", [4, 4, 1, 1], 1);
        g.node("Sqrt", &["b"], &["r"], vec![]).node("Concat", &["r", "r"], &["j"], vec![attr_int("axis", 1)]);
        conv(g, "j", "d", [4, 8, 1, 1], 1);
        g.node("Add", &["c", "d"], &["y"], vec![]);
    });
    let q = quantize(&model, &PlanOptions::default());
    q.check();
    assert_eq!(q.tensors(), ["x", "b"]);
    assert_eq!(q.giving("d").input, ["j", "d.w", "d.b"]);
}

#[test]
fn weights_of_zeros_and_large_biases() {
    let mut weights = vec![0.0f32; 4 * 4];
    weights[12] = 1e-12;
    let dims = [4, 4, 1, 1];
    let bias = [0.0f32, 3.0, -2.0, 1e6];
    let float = weights::FloatWeights {
        values: &weights,
        dims: &dims,
        axis: 0,
        bias: Some(&bias),
        input_scale: 0.05,
        means: None,
    };
    let integers = weights::integer_weights(&float);
    let (levels, scales) = integers.bias.unwrap();
    for ((b, level), scale) in bias.iter().zip(levels).zip(scales) {
        assert!(scale.is_normal() && level.unsigned_abs() <= 1 << 30, "{b}: {level} of {scale}");
        assert!((f64::from(level) * f64::from(scale) - f64::from(*b)).abs() <= 1e-6 * f64::from(b.abs()), "{b}");
    }
    assert!(integers.scales.iter().all(|s| s.is_normal()));
}

#[test]
fn a_window_keeps_its_sum_and_the_bias_makes_up_for_the_rest() {
    // Two channels in one group. Steps of 1/127; the first window's values all round down, its sum is 9 * 0.4 = 3.6 steps too small.
    let step = 1.0 / LARGEST;
    let mut values = vec![10.4 * step; 9];
    values.extend([1.0, 0.3 * step, 0.3 * step]);
    values.extend([0.0; 6]);
    let float = weights::FloatWeights {
        values: &values,
        dims: &[1, 2, 3, 3],
        axis: 0,
        bias: None,
        input_scale: 1.0,
        means: Some(&[0.5, 2.0]),
    };
    let integers = weights::integer_weights(&float);
    if (integers.scales[0] - step).abs() < 1e-9 {
        assert_eq!(integers.values[..9].iter().map(|v| i32::from(*v)).sum::<i32>(), 94, "93.6 steps");
    }
    let lost = |from: usize, to: usize| -> f64 {
        let exact: f64 = values[from..to].iter().map(|v| f64::from(*v)).sum();
        let stored: f64 = integers.values[from..to].iter().map(|v| f64::from(*v) * f64::from(integers.scales[0])).sum();
        exact - stored
    };
    let (levels, scales) = integers.bias.clone().unwrap();
    let bias = f64::from(levels[0]) * f64::from(scales[0]);
    let wanted = 0.5 * lost(0, 9) + 2.0 * lost(9, 18);
    assert!((bias - wanted).abs() <= f64::from(scales[0]), "{bias} for {wanted}");
}

#[test]
fn equalisation_changes_no_result() {
    let model = graph(&[1, 8, 6, 6], |g| {
        conv(g, "x", "a", [8, 4, 1, 1], 1);
        g.node("Clip", &["a", "zero", "six"], &["b"], vec![]);
        conv(g, "b", "y", [8, 1, 3, 3], 8);
    });
    let mut statistics: BTreeMap<String, Histogram> = BTreeMap::new();
    for seed in 0..8 {
        let b = run(&model, &["b".to_owned()], picture(seed)).remove(0);
        statistics.entry("b".into()).or_default().add_tensor(b.as_standard_layout().as_slice().unwrap(), b.shape());
    }
    let plan = plan(&model, &[], &HashMap::new(), &PlanOptions::default()).unwrap();
    let mut changed = model.clone();
    let thresholds = equalize(&mut changed, &[], &plan, &mut statistics);
    assert_eq!(thresholds, HashMap::from([("b".to_owned(), 6.0)]));
    assert_ne!(changed, model);
    for seed in 0..8 {
        let [a, b] = [&model, &changed].map(|m| run(m, &["y".to_owned()], picture(seed)).remove(0));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
        let b = run(&changed, &["b".to_owned()], picture(seed)).remove(0);
        assert!(b.iter().all(|v| *v <= 6.0 / 1.09));
    }
    // A tensor that is read from outside stays as it is.
    assert!(equalize(&mut model.clone(), &["b".to_owned()], &plan, &mut statistics).is_empty());
}

#[test]
fn products_with_constant_weights_when_asked() {
    let model = graph(&[1, 3], |g| {
        g.initializer_f32("w", &[144, 3], &(0..432).map(|i| (i as f32 * 0.3).sin()).collect::<Vec<_>>());
        g.node("Flatten", &["x"], &["f"], vec![]).node("MatMul", &["f", "w"], &["y"], vec![]);
    });
    assert!(matches!(plan(&model, &[], &HashMap::new(), &PlanOptions::default()), Err(QdqError::Nothing)));
    let q = quantize(&model, &PlanOptions { products: true, ..PlanOptions::default() });
    q.check();
    assert_eq!((q.tensors(), q.giving("w.dq").int("axis")), (vec!["f"], Some(1)));
    assert!(q.decibel > 30.0, "{}", q.decibel);
}

#[test]
fn what_cannot_be_quantized() {
    let good = || {
        graph(&[1, 4, 6, 6], |g| {
            conv(g, "x", "a", [4, 4, 1, 1], 1);
            conv(g, "a", "y", [4, 4, 1, 1], 1);
        })
    };
    let attempt = |model: &ModelProto| plan(model, &[], &HashMap::new(), &PlanOptions::default());
    assert!(attempt(&good()).is_ok());
    let mut old = good();
    old.opset_import[0].version = Some(12);
    assert!(matches!(attempt(&old), Err(QdqError::OldOpset { version: 12 })));
    for value in [f32::NAN, f32::INFINITY] {
        let mut model = good();
        let tensor = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name_or_empty() == "y.w").unwrap();
        tensor.raw_data.as_mut().unwrap()[8..12].copy_from_slice(&value.to_le_bytes());
        let error = attempt(&model).unwrap_err();
        assert!(matches!(&error, QdqError::NonFiniteWeight { tensor, position: 2, .. } if tensor == "y.w"), "{error}");
    }
    let quantized = quantize(&good(), &PlanOptions::default()).model;
    assert!(matches!(attempt(&quantized), Err(QdqError::AlreadyQuantized { .. })));
    let named = PlanOptions { keep_float: vec!["nobody".into()], ..PlanOptions::default() };
    assert!(matches!(plan(&good(), &[], &HashMap::new(), &named), Err(QdqError::NoSuchName { .. })));
}

#[test]
fn a_layer_alone_shows_its_own_noise() {
    // A channel of `b` is always 0, and the weights that read it are so large that those beside them round to nothing.
    let model = graph(&[1, 4, 6, 6], |g| {
        conv(g, "x", "a", [4, 4, 3, 3], 1);
        g.initializer_f32("b.w", &[4, 1, 1, 1], &[0.0, 1.0, 0.8, -0.7]).initializer_f32(
            "b.b",
            &[4],
            &[0.0, 0.1, 0.0, 0.0],
        );
        g.node("Conv", &["a", "b.w", "b.b"], &["b"], vec![attr_int("group", 4)]).node("Relu", &["b"], &["r"], vec![]);
        let weights: Vec<f32> = (0..16).map(|i| if i % 4 == 0 { 300.0 } else { (i as f32).sin() }).collect();
        g.initializer_f32("c.w", &[4, 4, 1, 1], &weights).node("Conv", &["r", "c.w"], &["c"], vec![]);
        g.node("LeakyRelu", &["c"], &["l"], vec![attr_float("alpha", 0.1)]);
        conv(g, "l", "y", [4, 4, 3, 3], 1);
    });
    let q = quantize(&model, &PlanOptions::default());
    let layers = q.plan.layers(&model);
    let named: Vec<[&str; 3]> =
        layers.iter().map(|l| [l.name.as_str(), l.operator.as_str(), l.result.as_str()]).collect();
    assert_eq!(named, [["a", "Conv", "a"], ["b", "Conv", "r"], ["c", "Conv", "l"], ["y", "Conv", "y"]]);
    let (beside, results) = alone(&model, &q.complete, &q.plan);
    assert_eq!(results, ["a.alone.dq", "r.alone.dq", "l.alone.dq", "y.alone"], "the last result is not quantized");
    let names: Vec<String> = layers.iter().map(|l| l.result.clone()).chain(results).collect();
    let decibel = |names: &[String], model: &ModelProto, other: &ModelProto, others: &[String]| -> Vec<f64> {
        let (a, b) = (run(model, names, picture(3)), run(other, others, picture(3)));
        let power = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let each = |(a, b): (&ArrayD<f32>, &ArrayD<f32>)| {
            10.0 * (power(&mut a.iter().copied()) / power(&mut a.iter().zip(b).map(|(a, b)| a - b))).log10()
        };
        a.iter().zip(&b).map(each).collect()
    };
    assert_eq!(run(&beside, &names[..4], picture(3)), run(&model, &names[..4], picture(3)), "the float part stays");
    let own = decibel(&names[..4], &beside, &beside, &names[4..]);
    assert!(own[2] < 10.0 && [0, 1, 3].iter().all(|&i| own[i] > 30.0), "{own:?}");
    let through = ["a.dq", "r.dq", "l.dq", "y"].map(str::to_owned);
    let whole = decibel(&names[..4], &model, &q.model, &through);
    assert!(whole[2] < 10.0 && whole[3] < 20.0, "what comes after it suffers: {whole:?}");
}

#[test]
fn channels_of_sums_come_closer_and_no_result_changes() {
    let model = graph(&[1, 4, 6, 6], |g| {
        conv(g, "x", "a", [4, 4, 1, 1], 1);
        conv(g, "a", "b", [4, 4, 3, 3], 1);
        g.node("Add", &["a", "b"], &["s"], vec![]);
        conv(g, "s", "y", [4, 4, 3, 3], 1);
    });
    let names = ["a", "b", "s"].map(str::to_owned);
    let mut statistics: BTreeMap<String, Histogram> = BTreeMap::new();
    let mut shapes = HashMap::new();
    for seed in 0..8 {
        for (name, values) in names.iter().zip(run(&model, &names, picture(seed))) {
            shapes.insert(name.clone(), values.shape().to_vec());
            let values = values.as_standard_layout().into_owned();
            statistics.entry(name.clone()).or_default().add_tensor(values.as_slice().unwrap(), values.shape());
        }
    }
    let plan = plan(&model, &[], &shapes, &PlanOptions::default()).unwrap();
    let before = statistics["s"].channel_max.clone();
    let mut changed = model.clone();
    let thresholds = equalize_sums(&mut changed, &[], &plan, &mut statistics);
    assert_eq!(thresholds.len(), 3);
    let spread = |m: &[f32]| m.iter().fold(0f32, |a, b| a.max(*b)) / m.iter().fold(f32::MAX, |a, b| a.min(*b));
    let after = &statistics["s"].channel_max;
    assert!(spread(after) < spread(&before), "{before:?} {after:?}");
    assert_eq!(thresholds["s"], after.iter().fold(0f32, |a, b| a.max(*b)));
    for seed in 0..4 {
        let [a, b] = [&model, &changed].map(|m| run(m, &["y".to_owned()], picture(seed)).remove(0));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    assert!(equalize_sums(&mut model.clone(), &["s".to_owned()], &plan, &mut statistics).is_empty());
}
