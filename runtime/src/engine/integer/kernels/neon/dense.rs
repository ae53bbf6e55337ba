//! Dense convolutions.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::super::{Dense, GROUP, LANES, Output, Rows, gather};
use super::{limits, narrow, scale};

/// Output pixels whose sums are held in registers, without and with dot products.
pub(super) const PLAIN_ROWS: usize = 2;
pub(super) const DOT_ROWS: usize = 4;

/// Bytes of inputs that are worked on until all outputs are done: part of the first level cache.
const TILE: usize = 12 << 10;

/// All outputs, `ROWS` pixels and sixteen channels at a time.
///
/// # Safety
///
/// The CPU has NEON, and dot products if `DOT`; `check_dense` was passed, which gave `count`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dense<const ROWS: usize, const DOT: bool>(job: &Dense<'_>, count: usize, output: &mut Output<'_>) {
    let products = job.weights.products();
    let height = (TILE / products).clamp(ROWS, 48) / ROWS * ROWS;
    // Pixels that are read where they lie need no tile.
    let in_place = matches!(job.rows, Rows::Same { .. });
    let mut tile = vec![0u8; if in_place { 0 } else { height * products }];
    for first in (0..count).step_by(height) {
        let height = height.min(count - first);
        let (inputs, stride) = if in_place {
            (job.input[first * job.input_stride..].as_ptr(), job.input_stride)
        } else {
            gather(job, first, &mut tile[..height * products], products, 0);
            (tile.as_ptr().cast::<i8>(), products)
        };
        for (block, weights) in job.weights.weights.chunks_exact(products * LANES).enumerate() {
            let (channel, weights) = (block * LANES, weights.as_chunks::<{ GROUP * LANES }>().0);
            for row in (0..height).step_by(ROWS) {
                let valid = ROWS.min(height - row);
                // SAFETY: from `inputs` on there are `height` rows of all products, as many groups as there are of weights.
                let sums = unsafe {
                    let rows = from_fn(|index| inputs.add((row + index.min(valid - 1)) * stride));
                    if DOT { sum_dot::<ROWS>(rows, weights) } else { sum_plain::<ROWS>(rows, weights) }
                };
                for (index, &sums) in sums.iter().enumerate().take(valid) {
                    let start = (first + row + index) * job.output_stride + channel;
                    // SAFETY: the factors have an entry a stored channel, the output `count` rows of these.
                    unsafe {
                        let values = scale(sums, job.bias, job.multiplier, job.slope, channel);
                        match output {
                            Output::I8 { values: target, low, high } => {
                                vst1q_s8(target.as_mut_ptr().add(start), narrow(values, limits(*low, *high)));
                            }
                            Output::F32 { values: target } => {
                                for (part, value) in values.into_iter().enumerate() {
                                    vst1q_f32(target.as_mut_ptr().add(start + 4 * part), value);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds to each i32 the products of four weights beside each other and four inputs, those of number `LANE`.
///
/// # Safety
///
/// The CPU has dot products.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot<const LANE: usize>(sum: int32x4_t, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: reads and writes only these registers; the caller promises the instruction.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {weights:v}.16b, {inputs:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            inputs = in(vreg) inputs,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Adds one group of inputs of each row, those of number `LANE`, to the sums of sixteen output channels.
///
/// # Safety
///
/// The CPU has NEON and dot products.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_group<const LANE: usize, const ROWS: usize>(
    sums: &mut [[int32x4_t; 4]; ROWS],
    weights: &[i8; GROUP * LANES],
    inputs: [int8x16_t; ROWS],
) {
    // SAFETY: the caller's promise; there are 64 weights.
    unsafe {
        let weights: [int8x16_t; 4] = from_fn(|part| vld1q_s8(weights.as_ptr().add(16 * part)));
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = dot::<LANE>(*sum, weights, inputs);
            }
        }
    }
}

/// The sums of sixteen output channels for each of the rows.
///
/// # Safety
///
/// The CPU has NEON and dot products; at each row a group of inputs can be read for each of weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sum_dot<const ROWS: usize>(
    rows: [*const i8; ROWS],
    weights: &[[i8; GROUP * LANES]],
) -> [[int32x4_t; 4]; ROWS] {
    let mut sums = [[vdupq_n_s32(0); 4]; ROWS];
    let (fours, rest) = weights.as_chunks::<4>();
    let mut start = 0;
    for weights in fours {
        // SAFETY: the caller's promise: these are four groups.
        unsafe {
            let inputs = rows.map(|row| vld1q_s8(row.add(start)));
            add_group::<0, ROWS>(&mut sums, &weights[0], inputs);
            add_group::<1, ROWS>(&mut sums, &weights[1], inputs);
            add_group::<2, ROWS>(&mut sums, &weights[2], inputs);
            add_group::<3, ROWS>(&mut sums, &weights[3], inputs);
        }
        start += 4 * GROUP;
    }
    for weights in rest {
        // SAFETY: the caller's promise.
        unsafe {
            let inputs =
                rows.map(|row| vreinterpretq_s8_s32(vdupq_n_s32(row.add(start).cast::<i32>().read_unaligned())));
            add_group::<0, ROWS>(&mut sums, weights, inputs);
        }
        start += GROUP;
    }
    sums
}

/// The sums of sixteen output channels for each of the rows.
///
/// # Safety
///
/// The CPU has NEON; at each row a group of inputs can be read for each of weights.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sum_plain<const ROWS: usize>(
    rows: [*const i8; ROWS],
    weights: &[[i8; GROUP * LANES]],
) -> [[int32x4_t; 4]; ROWS] {
    // Each holds two sums for each of two channels.
    let mut sums = [[vdupq_n_s32(0); 8]; ROWS];
    let (pairs, rest) = weights.as_chunks::<2>();
    // SAFETY: the caller's promise.
    let input = |row: *const i8, group: usize| unsafe {
        vreinterpretq_s8_s32(vdupq_n_s32(row.add(group * GROUP).cast::<i32>().read_unaligned()))
    };
    // SAFETY: of 64 weights, sixteen four times.
    let load = |weights: &[i8; GROUP * LANES], part: usize| unsafe { vld1q_s8(weights.as_ptr().add(16 * part)) };
    for (pair, [first, second]) in pairs.iter().enumerate() {
        let inputs = rows.map(|row| [input(row, 2 * pair), input(row, 2 * pair + 1)]);
        for part in 0..4 {
            let (first, second) = (load(first, part), load(second, part));
            for (sums, [one, other]) in sums.iter_mut().zip(inputs) {
                // Two products of at most 127 * 128 fit an i16.
                let low = vmull_s8(vget_low_s8(first), vget_low_s8(one));
                let low = vmlal_s8(low, vget_low_s8(second), vget_low_s8(other));
                let high = vmlal_high_s8(vmull_high_s8(first, one), second, other);
                sums[2 * part] = vpadalq_s16(sums[2 * part], low);
                sums[2 * part + 1] = vpadalq_s16(sums[2 * part + 1], high);
            }
        }
    }
    for last in rest {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let input = input(row, 2 * pairs.len());
            for part in 0..4 {
                let weights = load(last, part);
                let low = vmull_s8(vget_low_s8(weights), vget_low_s8(input));
                sums[2 * part] = vpadalq_s16(sums[2 * part], low);
                sums[2 * part + 1] = vpadalq_s16(sums[2 * part + 1], vmull_high_s8(weights, input));
            }
        }
    }
    sums.map(|sums| from_fn(|part| vpaddq_s32(sums[2 * part], sums[2 * part + 1])))
}
