//! A trial of an implementation before it is trusted: one may be chosen on a kind of CPU on which nobody has run it.

use super::portable::Portable;
use super::{Dense, Depthwise, Kernels, LANES, Output, PackedDense, PackedDepthwise, Rows};

/// Side of the trial's maps.
const SIDE: usize = 9;
/// Channels that go in: not a multiple of [`LANES`].
const DEPTH: usize = 36;
/// Channels that come out of the dense layer.
const OUTPUTS: usize = 20;

/// Whether an implementation gives what the portable one gives on small layers of both kinds, for inputs of both kinds.
pub(super) fn agrees(kernels: &dyn Kernels) -> bool {
    [false, true].into_iter().all(|nonnegative| {
        let expected = results(&Portable, nonnegative);
        expected.is_some() && results(kernels, nonnegative) == expected
    })
}

/// Numbers that look random, every i8 but -128 among them.
fn numbers(count: usize, seed: u32) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) as u8).max(1).wrapping_sub(128) as i8
    };
    (0..count).map(|_| next()).collect()
}

fn results(kernels: &dyn Kernels, nonnegative: bool) -> Option<(Vec<i8>, Vec<i8>)> {
    let stored = DEPTH.next_multiple_of(LANES);
    let input: Vec<i8> = numbers(SIDE * SIDE * stored, 1);
    let input: Vec<i8> = input.into_iter().map(|x| if nonnegative { x.max(0) } else { x }).collect();
    let dense = PackedDense::new(&numbers(OUTPUTS * DEPTH, 2), OUTPUTS, 1, DEPTH).ok()?;
    let outputs = dense.stored();
    let mut narrow = vec![0; SIDE * SIDE * outputs];
    let job = Dense {
        input: &input,
        input_stride: stored,
        depth: dense.depth(),
        rows: Rows::Same { count: SIDE * SIDE },
        weights: &dense,
        bias: &vec![37; outputs],
        multiplier: &vec![0.001; outputs],
        slope: 0.25,
        nonnegative,
        output_stride: outputs,
    };
    kernels.dense(&job, Output::I8 { values: &mut narrow, low: -100, high: 101 });
    let depthwise = PackedDepthwise::new(&numbers(DEPTH * 9, 3), DEPTH, [3, 3]).ok()?;
    let mut same = vec![0; SIDE * SIDE * stored];
    let job = Depthwise {
        input: &input,
        height: SIDE,
        width: SIDE,
        channels: stored,
        kernel: [3, 3],
        stride: [1, 1],
        pads: [1; 4],
        weights: &depthwise,
        bias: &vec![-21; stored],
        multiplier: &vec![0.004; stored],
        slope: 1.0,
        low: -128,
        high: 127,
        output_height: SIDE,
        output_width: SIDE,
        nonnegative,
    };
    kernels.depthwise(&job, &mut same);
    Some((narrow, same))
}
