//! Quantized graphs through the engine, against plain arithmetic in f64.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use hoi_quantize::onnx::{
    self, AttributeProto, GraphBuilder, TensorProto, attr_float, attr_int, attr_ints, attr_string,
};
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::{Dim, ElementType, Engine, GraphRequest, Model, Tensor, TractEngine};
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::{ImageLimits, open_image};
use ndarray::{Array4, ArrayD, Axis, concatenate, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// ONNX's numbers of element types.
const INT8: i32 = 3;
const INT32: i32 = 6;

/// A graph that grows together with what it must compute.
struct Quantized {
    graph: GraphBuilder,
    constants: Vec<TensorProto>,
    random: ChaCha8Rng,
    tensors: usize,
}

/// A tensor of the graph, dequantized, with its numbers.
#[derive(Clone)]
struct Value {
    name: String,
    scale: f64,
    numbers: Array4<f64>,
}

impl Quantized {
    fn new(seed: u64) -> Self {
        let graph = GraphBuilder::new("quantized");
        Self { graph, constants: Vec::new(), random: ChaCha8Rng::seed_from_u64(seed), tensors: 0 }
    }

    fn name(&mut self, what: &str) -> String {
        self.tensors += 1;
        format!("{what}.{}", self.tensors)
    }

    fn integers(&mut self, kind: i32, shape: &[usize], bytes: Vec<u8>) -> String {
        let name = self.name("constant");
        self.constants.push(TensorProto {
            name: Some(name.clone()),
            dims: shape.iter().map(|&n| n as i64).collect(),
            data_type: Some(kind),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        name
    }

    fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        let name = self.name("constant");
        self.graph.initializer_f32(&name, shape, values);
        name
    }

    /// `tensor`, whose numbers are given, through QuantizeLinear and DequantizeLinear.
    fn quantize(&mut self, tensor: &str, numbers: &Array4<f64>, scale: f32) -> Value {
        let (scale_name, zero) = (self.floats(&[], &[scale]), self.integers(INT8, &[], vec![0]));
        let (integers, name) = (self.name("q"), self.name("dq"));
        self.graph.node("QuantizeLinear", &[tensor, &scale_name, &zero], &[&integers], vec![]).node(
            "DequantizeLinear",
            &[&integers, &scale_name, &zero],
            &[&name],
            vec![],
        );
        let scale = f64::from(scale);
        let numbers = numbers.mapv(|x| (x / scale).round_ties_even().clamp(-128.0, 127.0) * scale);
        Value { name, scale, numbers }
    }

    /// A convolution with random weights; the result is not quantized.
    fn convolution(
        &mut self,
        input: &Value,
        outputs: usize,
        kernel: [usize; 2],
        stride: usize,
        pads: [usize; 4],
        depthwise: bool,
    ) -> (String, Array4<f64>) {
        let (_, channels, height, width) = input.numbers.dim();
        let depth = if depthwise { 1 } else { channels };
        let shape = [outputs, depth, kernel[0], kernel[1]];
        let weights: Vec<i8> = (0..shape.iter().product()).map(|_| self.random.random_range(-127..=127)).collect();
        let scales: Vec<f32> = (0..outputs).map(|_| self.random.random_range(0.001..0.01)).collect();
        let units: Vec<f32> = scales.iter().map(|s| s * input.scale as f32).collect();
        let bias: Vec<i32> = (0..outputs).map(|_| self.random.random_range(-3000..3000)).collect();
        let bytes = weights.iter().map(|&w| w as u8).collect();
        let (w, w_scale) = (self.integers(INT8, &shape, bytes), self.floats(&[outputs], &scales));
        let zeros = self.integers(INT8, &[outputs], vec![0; outputs]);
        let b = self.integers(INT32, &[outputs], bias.iter().flat_map(|b| b.to_le_bytes()).collect());
        let b_scale = self.floats(&[outputs], &units);
        let (w_real, b_real, name) = (self.name("w"), self.name("b"), self.name("conv"));
        let axis = || vec![attr_int("axis", 0)];
        let groups = if depthwise { outputs as i64 } else { 1 };
        let lengths = |values: &[usize]| values.iter().map(|&n| n as i64).collect::<Vec<_>>();
        self.graph
            .node("DequantizeLinear", &[&w, &w_scale, &zeros], &[&w_real], axis())
            .node("DequantizeLinear", &[&b, &b_scale], &[&b_real], axis())
            .node(
                "Conv",
                &[&input.name, &w_real, &b_real],
                &[&name],
                vec![
                    attr_ints("kernel_shape", &lengths(&kernel)),
                    attr_ints("strides", &[stride as i64; 2]),
                    attr_ints("pads", &lengths(&pads)),
                    attr_int("group", groups),
                ],
            );
        let rows = (height + pads[0] + pads[2] - kernel[0]) / stride + 1;
        let columns = (width + pads[1] + pads[3] - kernel[1]) / stride + 1;
        let at = |c: usize, y: usize, x: usize| {
            let (y, x) = (y.wrapping_sub(pads[0]), x.wrapping_sub(pads[1]));
            if y < height && x < width { (input.numbers[[0, c, y, x]] / input.scale).round() } else { 0.0 }
        };
        let sum = |o: usize, y: usize, x: usize| {
            let mut sum = f64::from(bias[o]);
            for c in 0..depth {
                for ky in 0..kernel[0] {
                    for kx in 0..kernel[1] {
                        let weight = weights[((o * depth + c) * kernel[0] + ky) * kernel[1] + kx];
                        let from = if depthwise { o } else { c };
                        sum += f64::from(weight) * at(from, y * stride + ky, x * stride + kx);
                    }
                }
            }
            sum * f64::from(scales[o]) * input.scale
        };
        let numbers = Array4::from_shape_fn((1, outputs, rows, columns), |(_, o, y, x)| sum(o, y, x));
        (name, numbers)
    }

    fn unary(
        &mut self,
        kind: &str,
        input: &str,
        attributes: Vec<AttributeProto>,
        numbers: &Array4<f64>,
        of: impl Fn(f64) -> f64,
    ) -> (String, Array4<f64>) {
        let name = self.name(kind);
        self.graph.node(kind, &[input], &[&name], attributes);
        (name, numbers.mapv(of))
    }

    /// The model whose outputs are these tensors, loaded.
    fn load(self, input: [usize; 4], outputs: &[(&str, [usize; 4])]) -> Box<dyn Model> {
        TractEngine::default().load(&self.bytes(input, outputs), &GraphRequest::default()).unwrap()
    }

    fn bytes(mut self, input: [usize; 4], outputs: &[(&str, [usize; 4])]) -> Vec<u8> {
        let shape = |lengths: [usize; 4]| lengths.map(Dim::Fixed);
        self.graph.input("input", ElementType::F32, &shape(input));
        for (name, lengths) in outputs {
            self.graph.output(name, ElementType::F32, &shape(*lengths));
        }
        let mut model = self.graph.finish();
        if let Some(graph) = &mut model.graph {
            graph.initializer.append(&mut self.constants);
        }
        onnx::to_bytes(&model).unwrap()
    }

    fn input(&mut self, shape: [usize; 4]) -> Array4<f64> {
        Array4::from_shape_fn(shape, |_| f64::from(self.random.random_range(-1.0f32..1.0)))
    }
}

fn run(model: &dyn Model, input: &Array4<f64>) -> Vec<ArrayD<f32>> {
    let outputs = model.run(vec![Tensor::F32(input.mapv(|x| x as f32).into_dyn())]).unwrap();
    outputs.iter().map(|output| output.as_f32().unwrap().clone()).collect()
}

fn shape(numbers: &Array4<f64>) -> [usize; 4] {
    let (n, c, h, w) = numbers.dim();
    [n, c, h, w]
}

/// Largest difference, in units of `scale`.
fn difference(found: &ArrayD<f32>, expected: &Array4<f64>, scale: f64) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() / scale).fold(0.0, f64::max)
}

/// A result is exact but where f32 rounds a half the other way: one unit.
const ONE_UNIT: f64 = 1.001;

#[test]
fn an_inverted_residual_block_in_integers() {
    for seed in 0..6 {
        let mut q = Quantized::new(seed);
        let picture = q.input([1, 3, 13, 11]);
        let x = q.quantize("input", &picture, 1.0 / 127.0);
        let (name, sums) = q.convolution(&x, 24, [3, 3], 2, [0, 0, 1, 1], false);
        let (low, high) = (q.floats(&[], &[0.0]), q.floats(&[], &[6.0]));
        let clipped = q.name("clip");
        q.graph.node("Clip", &[&name, &low, &high], &[&clipped], vec![]);
        let wide = q.quantize(&clipped, &sums.mapv(|x| x.clamp(0.0, 6.0)), 6.0 / 127.0);
        let stride = 1 + seed as usize % 2;
        let (name, sums) = q.convolution(&wide, 24, [3, 3], stride, [1, 1, 1, 1], true);
        let (name, relu) = q.unary("Relu", &name, vec![], &sums, |x| x.max(0.0));
        let deep = q.quantize(&name, &relu, 0.05);
        let (name, sums) = q.convolution(&deep, 24, [1, 1], 1, [0; 4], false);
        let narrow = q.quantize(&name, &sums, 0.07);
        let (last_name, last) = if stride == 1 {
            let sum = q.name("sum");
            q.graph.node("Add", &[&narrow.name, &wide.name], &[&sum], vec![]);
            let added = q.quantize(&sum, &(&narrow.numbers + &wide.numbers), 0.09);
            q.convolution(&added, 5, [1, 1], 1, [0; 4], false)
        } else {
            q.convolution(&narrow, 5, [1, 1], 1, [0; 4], false)
        };
        let outputs = [(narrow.name.as_str(), shape(&narrow.numbers)), (last_name.as_str(), shape(&last))];
        let model = q.load([1, 3, 13, 11], &outputs);
        let report = model.integers().unwrap();
        assert_eq!(report.integer["Conv"], 4, "{report:?}");
        assert!(report.float.is_empty(), "{report:?}");
        let found = run(&*model, &picture);
        assert!(difference(&found[0], &narrow.numbers, narrow.scale) < ONE_UNIT, "seed {seed}");
        let range = last.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        assert!(difference(&found[1], &last, range) < 0.02, "seed {seed}");
    }
}

#[test]
fn pooling_concat_and_tables_in_integers() {
    let mut q = Quantized::new(7);
    let picture = q.input([1, 5, 8, 8]);
    let x = q.quantize("input", &picture, 0.008);
    let most = q.name("pool");
    let pool =
        || vec![attr_ints("kernel_shape", &[3, 3]), attr_ints("strides", &[2, 2]), attr_ints("pads", &[1, 1, 1, 1])];
    q.graph.node("MaxPool", &[&x.name], &[&most], pool());
    let window = |y: usize, x: usize| {
        ((2 * y).saturating_sub(1)..(2 * y + 2).min(8), (2 * x).saturating_sub(1)..(2 * x + 2).min(8))
    };
    let numbers = Array4::from_shape_fn((1, 5, 4, 4), |(_, c, row, column)| {
        let (rows, columns) = window(row, column);
        x.numbers.slice(s![0, c, rows, columns]).iter().copied().fold(f64::MIN, f64::max)
    });
    let most = q.quantize(&most, &numbers, 0.008);
    let mean = q.name("pool");
    q.graph.node("AveragePool", &[&x.name], &[&mean], pool());
    let numbers = Array4::from_shape_fn((1, 5, 4, 4), |(_, c, row, column)| {
        let (rows, columns) = window(row, column);
        x.numbers.slice(s![0, c, rows, columns]).mean().unwrap()
    });
    let mean = q.quantize(&mean, &numbers, 0.005);
    let beside = q.name("concat");
    q.graph.node("Concat", &[&most.name, &mean.name], &[&beside], vec![attr_int("axis", 1)]);
    let numbers = concatenate(Axis(1), &[most.numbers.view(), mean.numbers.view()]).unwrap();
    let beside = q.quantize(&beside, &numbers, 0.009);
    let leaky = vec![attr_float("alpha", 0.1)];
    let (name, numbers) =
        q.unary("LeakyRelu", &beside.name, leaky, &beside.numbers, |x| if x < 0.0 { 0.1 * x } else { x });
    let leaky = q.quantize(&name, &numbers, 0.008);
    let (name, numbers) = q.unary("GlobalAveragePool", &leaky.name, vec![], &leaky.numbers, |x| x);
    let numbers = numbers.mean_axis(Axis(3)).unwrap().mean_axis(Axis(2)).unwrap();
    let numbers = numbers.insert_axis(Axis(2)).insert_axis(Axis(3));
    let all = q.quantize(&name, &numbers, 0.002);
    let outputs = [(leaky.name.as_str(), shape(&leaky.numbers)), (all.name.as_str(), shape(&all.numbers))];
    let model = q.load([1, 5, 8, 8], &outputs);
    let report = model.integers().unwrap();
    assert!(report.float.is_empty(), "{report:?}");
    let found = run(&*model, &picture);
    assert!(difference(&found[0], &leaky.numbers, leaky.scale) < ONE_UNIT);
    assert!(difference(&found[1], &all.numbers, all.scale) < ONE_UNIT);
}

/// What is not recognised stands between two parts, reads the first and feeds the second.
#[test]
fn float_nodes_between_integers_stay() {
    let mut q = Quantized::new(3);
    let picture = q.input([1, 4, 6, 6]);
    let x = q.quantize("input", &picture, 0.008);
    let (name, sums) = q.convolution(&x, 8, [3, 3], 1, [1; 4], false);
    let first = q.quantize(&name, &sums, 0.05);
    let (name, numbers) = q.unary("Exp", &first.name, vec![], &first.numbers, f64::exp);
    let scaled = q.quantize(&name, &numbers, 0.5);
    let (name, sums) = q.convolution(&scaled, 8, [1, 1], 1, [0; 4], false);
    let second = q.quantize(&name, &sums, 0.3);
    let sum = q.name("sum");
    q.graph.node("Add", &[&first.name, &second.name], &[&sum], vec![]);
    let last = q.quantize(&sum, &(&first.numbers + &second.numbers), 0.4);
    let outputs = [(last.name.as_str(), shape(&last.numbers))];
    let model = q.load([1, 4, 6, 6], &outputs);
    let report = model.integers().unwrap();
    assert_eq!((report.integer["Conv"], report.integer["Add"]), (2, 1), "{report:?}");
    assert_eq!(report.float.len(), 1, "{report:?}");
    assert!(difference(&run(&*model, &picture)[0], &last.numbers, last.scale) < 2.0 * ONE_UNIT);
}

/// A sum that broadcasts is no map of integers: the whole graph runs in float, right in each channel, and the report says why.
#[test]
fn what_integers_cannot_do_runs_in_float() {
    let mut q = Quantized::new(11);
    let picture = q.input([1, 4, 6, 6]);
    let x = q.quantize("input", &picture, 0.008);
    let (name, sums) = q.convolution(&x, 4, [1, 1], 1, [0; 4], false);
    let map = q.quantize(&name, &sums, 0.05);
    let (name, _) = q.unary("GlobalAveragePool", &map.name, vec![], &map.numbers, |x| x);
    let numbers = map.numbers.mean_axis(Axis(3)).unwrap().mean_axis(Axis(2)).unwrap();
    let mean = q.quantize(&name, &numbers.insert_axis(Axis(2)).insert_axis(Axis(3)), 0.01);
    let sum = q.name("sum");
    q.graph.node("Add", &[&map.name, &mean.name], &[&sum], vec![]);
    let last = q.quantize(&sum, &(&map.numbers + &mean.numbers), 0.06);
    let model = q.load([1, 4, 6, 6], &[(last.name.as_str(), shape(&last.numbers))]);
    let report = model.integers().unwrap();
    assert!(report.integer.is_empty() && report.float[0].contains("the sum of"), "{report:?}");
    assert!(difference(&run(&*model, &picture)[0], &last.numbers, last.scale) < ONE_UNIT);
}

/// Two runs at once do not share their maps.
#[test]
fn runs_at_once_are_apart() {
    let mut q = Quantized::new(5);
    // Large enough for threads to share it.
    let pictures: Vec<_> = (0..4).map(|_| q.input([1, 3, 64, 64])).collect();
    let x = q.quantize("input", &pictures[0], 0.008);
    let (name, sums) = q.convolution(&x, 16, [3, 3], 1, [1; 4], false);
    let first = q.quantize(&name, &sums, 0.05);
    let (name, last) = q.convolution(&first, 4, [1, 1], 1, [0; 4], false);
    let bytes = q.bytes([1, 3, 64, 64], &[(name.as_str(), shape(&last))]);
    let [one, three] = [1, 3].map(|n| TractEngine::new(n).load(&bytes, &GraphRequest::default()).unwrap());
    let alone: Vec<_> = pictures.iter().map(|picture| run(&*one, picture)).collect();
    for model in [&*one, &*three] {
        std::thread::scope(|scope| {
            for (picture, alone) in pictures.iter().zip(&alone) {
                scope.spawn(move || (0..20).for_each(|_| assert_eq!(run(model, picture), *alone)));
            }
        });
    }
}

/// The quantized bundle that ships: its convolutions run in integers, and it finds what `nano` finds.
#[test]
fn the_bundle_that_ships() {
    let folder = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let bundle = ModelBundle::load(&folder("models/nano-int8")).unwrap();
    let request =
        GraphRequest { inputs: vec![], outputs: vec!["boxes".into(), "logits".into(), "relation.map".into()] };
    let detector = bundle.file(&bundle.manifest().detector.file).unwrap();
    let model = TractEngine::default().load(detector, &request).unwrap();
    let report = model.integers().unwrap();
    assert_eq!((report.integer["Conv"], report.integer["Add"]), (88, 10), "{report:?}");
    let convolutions: Vec<_> = report.float.iter().filter(|node| node.starts_with("Conv ")).collect();
    assert_eq!(convolutions, ["Conv relation.map"]);
    let results = [bundle, ModelBundle::builtin().unwrap()].map(|bundle| {
        let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).unwrap();
        let frame = open_image(&folder("tests/photos/ride_bicycles.jpg"), &ImageLimits::default()).unwrap();
        pipeline.run(&frame).unwrap()
    });
    let [found, expected] = results.map(|result| result.detections);
    for sure in expected.iter().filter(|d| d.score > 0.4) {
        let same = |d: &&Detection| d.class == sure.class && d.bbox.iou(&sure.bbox) > 0.8;
        let score = found.iter().find(same).map(|d| d.score);
        assert!(score.is_some_and(|score| (score - sure.score).abs() < 0.15), "{sure:?}: {score:?}");
    }
}

#[test]
fn damaged_scales_and_endless_maps_are_refused() {
    for (scale, said) in
        [(0.0f32, "holds 0"), (f32::NAN, "holds NaN"), (-0.5, "holds -0.5"), (f32::INFINITY, "holds inf")]
    {
        let mut q = Quantized::new(1);
        let picture = q.input([1, 3, 4, 4]);
        let x = q.quantize("input", &picture, 0.01);
        let (name, sums) = q.convolution(&x, 4, [1, 1], 1, [0; 4], false);
        let last = q.quantize(&name, &sums, scale);
        let bytes = q.bytes([1, 3, 4, 4], &[(last.name.as_str(), [1, 4, 4, 4])]);
        let error = TractEngine::default().load(&bytes, &GraphRequest::default()).err().unwrap().to_string();
        assert!(error.contains(said) && error.contains("positive scales"), "{error}");
    }
    let mut q = Quantized::new(1);
    let picture = q.input([1, 3, 4, 4]);
    let x = q.quantize("input", &picture, 0.01);
    let name = q.name("pad");
    let pads = q.name("pads");
    q.graph.initializer_i64(&pads, &[8], &[0, 0, 0, 0, 0, 0, 100_000, 100_000]);
    q.graph.node("Pad", &[&x.name, &pads], &[&name], vec![]);
    let wide = q.quantize(&name, &x.numbers, 0.01);
    let bytes = q.bytes([1, 3, 4, 4], &[(wide.name.as_str(), [1, 3, 100_004, 100_004])]);
    // Nothing is allocated for it while loading.
    let model = TractEngine::default().load(&bytes, &GraphRequest::default());
    let report = model.as_ref().ok().and_then(|model| model.integers());
    assert!(report.is_none_or(|report| report.float[0].contains("is more than")), "{report:?}");
}

/// What ShuffleNet and a feature pyramid do: halves, groups of channels in turn, twice the size.
#[test]
fn channels_and_sizes_in_integers() {
    let mut q = Quantized::new(9);
    let picture = q.input([1, 3, 7, 5]);
    let x = q.quantize("input", &picture, 0.008);
    let (name, sums) = q.convolution(&x, 36, [3, 3], 1, [1; 4], false);
    let map = q.quantize(&name, &sums, 0.05);
    let halves = [q.name("half"), q.name("half")];
    q.graph.node("Split", &[&map.name], &[&halves[0], &halves[1]], vec![attr_int("axis", 1)]);
    let left = q.quantize(&halves[0], &map.numbers.slice(s![.., ..18, .., ..]).to_owned(), 0.05);
    let right = q.quantize(&halves[1], &map.numbers.slice(s![.., 18.., .., ..]).to_owned(), 0.05);
    let beside = q.name("concat");
    q.graph.node("Concat", &[&right.name, &left.name], &[&beside], vec![attr_int("axis", 1)]);
    let numbers = concatenate(Axis(1), &[right.numbers.view(), left.numbers.view()]).unwrap();
    let beside = q.quantize(&beside, &numbers, 0.05);
    let (apart, together) = (q.name("shape"), q.name("shape"));
    q.graph.initializer_i64(&apart, &[5], &[1, 2, 18, 7, 5]).initializer_i64(&together, &[4], &[1, 36, 7, 5]);
    let names = ["reshape", "transpose", "reshape"].map(|what| q.name(what));
    q.graph.node("Reshape", &[&beside.name, &apart], &[&names[0]], vec![]);
    let first = q.quantize(&names[0], &beside.numbers, 0.05);
    q.graph.node("Transpose", &[&first.name], &[&names[1]], vec![attr_ints("perm", &[0, 2, 1, 3, 4])]);
    let second = q.quantize(&names[1], &beside.numbers, 0.05);
    q.graph.node("Reshape", &[&second.name, &together], &[&names[2]], vec![]);
    let from = |c: usize| c % 2 * 18 + c / 2;
    let numbers = Array4::from_shape_fn((1, 36, 7, 5), |(_, c, y, x)| beside.numbers[[0, from(c), y, x]]);
    let shuffled = q.quantize(&names[2], &numbers, 0.05);
    let sized = q.name("resize");
    let scales = q.floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
    let attributes = vec![attr_string("mode", "linear"), attr_string("coordinate_transformation_mode", "half_pixel")];
    q.graph.node("Resize", &[&shuffled.name, "", &scales], &[&sized], attributes);
    let at = |n: usize, length: usize| {
        let place = ((n as f64 + 0.5) / 2.0 - 0.5).clamp(0.0, length as f64 - 1.0);
        (place.floor() as usize, (place.floor() as usize + 1).min(length - 1), place.fract())
    };
    let numbers = Array4::from_shape_fn((1, 36, 14, 10), |(_, c, y, x)| {
        let ((y0, y1, v), (x0, x1, u)) = (at(y, 7), at(x, 5));
        let of = |y: usize, x: usize| shuffled.numbers[[0, c, y, x]];
        (1.0 - v) * ((1.0 - u) * of(y0, x0) + u * of(y0, x1)) + v * ((1.0 - u) * of(y1, x0) + u * of(y1, x1))
    });
    let doubled = q.quantize(&sized, &numbers, 0.05);
    let outputs =
        [(shuffled.name.as_str(), shape(&shuffled.numbers)), (doubled.name.as_str(), shape(&doubled.numbers))];
    let model = q.load([1, 3, 7, 5], &outputs);
    let report = model.integers().unwrap();
    assert!(report.float.is_empty(), "{report:?}");
    let found = run(&*model, &picture);
    assert!(difference(&found[0], &shuffled.numbers, 0.05) < ONE_UNIT);
    assert!(difference(&found[1], &doubled.numbers, 0.05) < ONE_UNIT);
}
