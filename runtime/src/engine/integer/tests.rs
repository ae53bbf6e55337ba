//! A network gives the same on any number of threads, by any kernels.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tract_onnx::prelude::multithread::Executor;

use super::kernels::{Kernels, PackedDense, PackedDepthwise, available};
use super::network::{Bounds, Convolution, FloatOutput, MapShape, Network, Operator, Pick, Step, Window};
use super::run::ReadyNetwork;
use super::workers::Workers;

const CHANNELS: usize = 40;
const SHAPE: MapShape = MapShape { height: 61, width: 53, channels: CHANNELS };

/// Numbers that look random.
fn numbers(count: usize, seed: u32) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) as u8).max(1).wrapping_sub(128) as i8
    };
    (0..count).map(|_| next()).collect()
}

fn window(side: usize, stride: usize) -> Window {
    Window { kernel: [side; 2], stride: [stride; 2], pads: [side / 2; 4], dilation: [1; 2] }
}

fn factors<W>(weights: W, window: Window, channels: [usize; 2], bounds: Option<Bounds>) -> Convolution<W> {
    let stored = channels[1].next_multiple_of(16);
    let bias = numbers(stored, 5).into_iter().map(i32::from).collect();
    let [inputs, outputs] = channels;
    Convolution { weights, window, inputs, outputs, bias, multiplier: vec![0.0007; stored], slope: 0.5, bounds }
}

fn dense(window: Window, channels: [usize; 2], bounds: Option<Bounds>) -> Operator {
    let weights = numbers(channels[0] * channels[1] * window.taps(), 7);
    let packed = PackedDense::new(&weights, channels[1], window.taps(), channels[0]).unwrap();
    Operator::Dense(Arc::new(factors(packed, window, channels, bounds)))
}

fn depthwise(window: Window) -> Operator {
    let packed = PackedDepthwise::new(&numbers(CHANNELS * window.taps(), 9), CHANNELS, window.kernel).unwrap();
    Operator::Depthwise(Arc::new(factors(packed, window, [1, CHANNELS], Some(Bounds { low: 0, high: 100 }))))
}

/// Every operator; each step's result leaves the network.
fn network() -> Network {
    let all = Some(Bounds::ALL);
    let table = std::array::from_fn(|byte| (byte as u8 as i8).wrapping_mul(3));
    let operators = [
        (Operator::Quantize { slot: 0, scale: 0.01 }, vec![]),
        (dense(window(3, 1), [CHANNELS, CHANNELS], all), vec![0]),
        (depthwise(window(3, 1)), vec![1]),
        (depthwise(window(5, 2)), vec![1]),
        (Operator::Add { factors: [0.75, 0.5], bounds: Bounds::ALL }, vec![1, 2]),
        (Operator::Concat { factors: vec![1.0, 0.8] }, vec![1, 4]),
        (Operator::MaxPool(window(3, 2)), vec![1]),
        (Operator::AveragePool { window: window(3, 1), factor: 1.1, padding_counts: false }, vec![1]),
        (Operator::AveragePool { window: window(3, 1), factor: 1.1, padding_counts: true }, vec![1]),
        (Operator::GlobalAverage { factor: 2.0 }, vec![1]),
        (Operator::Repeat { times: [2, 2] }, vec![1]),
        (Operator::Double, vec![1]),
        (Operator::Channels(Pick::Shuffle { groups: 2 }), vec![5]),
        (Operator::Channels(Pick::Shuffle { groups: 5 }), vec![5]),
        (Operator::Channels(Pick::Range { first: 7, count: 55 }), vec![5]),
        (Operator::Channels(Pick::Share { part: 1, of: 2 }), vec![5]),
        (Operator::Table(Box::new(table)), vec![1]),
        (Operator::Pad([1, 2, 3, 4]), vec![1]),
        (dense(window(1, 1), [2 * CHANNELS, 70], all), vec![5]),
        (dense(window(1, 1), [2 * CHANNELS, 70], None), vec![5]),
        (dense(window(3, 2), [CHANNELS, 33], None), vec![2]),
    ];
    let steps: Vec<Step> = operators
        .into_iter()
        .enumerate()
        .map(|(n, (operator, inputs))| Step { name: n.to_string(), operator, inputs })
        .collect();
    let outputs = (0..steps.len()).map(|step| FloatOutput { step, scale: 0.01 }).collect();
    Network { steps, outputs }
}

fn results(network: &Arc<Network>, kernels: &'static dyn Kernels, executor: &Executor) -> Vec<Vec<f32>> {
    let ready = ReadyNetwork::new(Arc::clone(network), &[SHAPE], kernels).unwrap();
    let picture: Vec<f32> = numbers(SHAPE.pixels() * CHANNELS, 3).into_iter().map(|x| f32::from(x) * 0.0123).collect();
    let mut outputs = vec![Vec::new(); network.outputs.len()];
    // The second run finds the buffers of the first.
    for _ in 0..2 {
        ready.run(&[&picture], &mut outputs, Workers::new(executor));
    }
    outputs
}

#[test]
fn results_do_not_depend_on_threads() {
    let network = Arc::new(network());
    let kernels = available();
    let expected = results(&network, kernels[0], &Executor::SingleThread);
    let different = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<BTreeSet<_>>().len();
    assert!(expected.iter().all(|values| different(values) > 9));
    for kernels in kernels {
        for threads in [1, 2, 3, 7] {
            let found = results(&network, kernels, &Executor::multithread(threads));
            for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let wrong =
                    found.iter().zip(expected).position(|(found, expected)| found.to_bits() != expected.to_bits());
                assert_eq!(wrong, None, "step {n}, {} kernels, {threads} threads", kernels.name());
            }
        }
    }
}

/// Which rows came in which piece, `(first, rows)` in their order.
fn pieces(executor: &Executor, rows: usize, work: usize, block: usize) -> BTreeSet<(usize, usize)> {
    let mut values = vec![0u8; rows * 16];
    let seen = Mutex::new(BTreeSet::new());
    Workers::new(executor).rows(&mut values, 16, work, block, |first, values| {
        values.iter_mut().for_each(|value| *value += 1);
        seen.lock().unwrap().insert((first, values.len() / 16));
    });
    assert!(values.iter().all(|&value| value == 1), "a row was not done once");
    seen.into_inner().unwrap()
}

#[test]
fn rows_are_shared_where_it_pays() {
    let two = Executor::multithread(2);
    for alone in
        [pieces(&Executor::SingleThread, 1000, 1 << 20, 48), pieces(&two, 1000, 10, 48), pieces(&two, 1, 1 << 30, 48)]
    {
        assert_eq!(alone.len(), 1, "{alone:?}");
    }
    assert_eq!(pieces(&two, 0, 1 << 30, 48).len(), 1);
    // Full blocks where there are many, a share for each thread where there are few.
    let many = pieces(&two, 1000, 1 << 20, 48);
    assert_eq!(
        many.iter().map(|&(first, _)| first).collect::<Vec<_>>(),
        [0, 96, 192, 288, 384, 480, 576, 672, 768, 864, 960]
    );
    assert_eq!(pieces(&two, 81, 1 << 20, 48).into_iter().collect::<Vec<_>>(), [(0, 42), (42, 39)]);
    assert_eq!(pieces(&two, 13, 1 << 20, 1).into_iter().map(|(_, rows)| rows).sum::<usize>(), 13);
}
