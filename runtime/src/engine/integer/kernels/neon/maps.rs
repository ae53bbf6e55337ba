//! Sums of maps, and the steps between f32 planes and i8 pixels.

use std::arch::aarch64::*;
use std::array::from_fn;

use super::super::LANES;
use super::{limits, narrow, widen};

/// Returns how many values are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has NEON and the slices are equally long.
#[target_feature(enable = "neon")]
pub(super) unsafe fn add(a: &[i8], ma: f32, b: &[i8], mb: f32, [low, high]: [i8; 2], output: &mut [i8]) -> usize {
    let (limits, least) = (limits(low, high), vdupq_n_f32(f32::from(low)));
    let end = output.len() / LANES * LANES;
    for start in (0..end).step_by(LANES) {
        // SAFETY: sixteen values from `start` on lie before `end`.
        unsafe {
            let a = widen(vld1q_s8(a.as_ptr().add(start)));
            let b = widen(vld1q_s8(b.as_ptr().add(start)));
            // The sum of two infinities is NaN, which gives `low`.
            let sum = from_fn(|part| vmaxnmq_f32(vaddq_f32(vmulq_n_f32(a[part], ma), vmulq_n_f32(b[part], mb)), least));
            vst1q_s8(output.as_mut_ptr().add(start), narrow(sum, limits));
        }
    }
    end
}

/// Sixteen rows of sixteen bytes, rows and columns swapped.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(mut rows: [int8x16_t; LANES]) -> [int8x16_t; LANES] {
    // Each pass turns the eight bits of a byte's place (row, column) by one.
    for _ in 0..4 {
        rows = from_fn(|index| {
            let (a, b) = (rows[index / 2], rows[index / 2 + 8]);
            if index % 2 == 0 { vzip1q_s8(a, b) } else { vzip2q_s8(a, b) }
        });
    }
    rows
}

/// Returns how many pixels are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has NEON and `check_planes` was passed.
#[target_feature(enable = "neon")]
pub(super) unsafe fn quantize(
    planes: &[f32],
    channels: usize,
    pixels: usize,
    scale: f32,
    stored: usize,
    output: &mut [i8],
) -> usize {
    let (limits, scale) = (limits(i8::MIN, i8::MAX), vdupq_n_f32(scale));
    let end = pixels / LANES * LANES;
    for pixel in (0..end).step_by(LANES) {
        for channel in (0..stored).step_by(LANES) {
            let mut rows = [vdupq_n_s8(0); LANES];
            for (row, channel) in rows.iter_mut().zip(channel..channels) {
                // SAFETY: sixteen pixels from `pixel` on lie in the channel's plane.
                let values = from_fn(|part| unsafe {
                    vdivq_f32(vld1q_f32(planes.as_ptr().add(channel * pixels + pixel + 4 * part)), scale)
                });
                *row = narrow(values, limits);
            }
            for (index, row) in transpose(rows).into_iter().enumerate() {
                // SAFETY: the output has `pixels` rows of `stored`, of which these are sixteen.
                unsafe { vst1q_s8(output.as_mut_ptr().add((pixel + index) * stored + channel), row) }
            }
        }
    }
    end
}

/// Returns how many pixels are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has NEON and `check_planes` was passed.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dequantize(
    input: &[i8],
    stored: usize,
    channels: usize,
    pixels: usize,
    scale: f32,
    planes: &mut [f32],
) -> usize {
    let end = pixels / LANES * LANES;
    for pixel in (0..end).step_by(LANES) {
        for channel in (0..channels).step_by(LANES) {
            // SAFETY: the input has `pixels` rows of `stored`, of which these are sixteen.
            let rows = from_fn(|index| unsafe { vld1q_s8(input.as_ptr().add((pixel + index) * stored + channel)) });
            for (row, channel) in transpose(rows).into_iter().zip(channel..channels) {
                for (part, value) in widen(row).into_iter().enumerate() {
                    // SAFETY: sixteen pixels from `pixel` on lie in the channel's plane.
                    unsafe {
                        let target = planes.as_mut_ptr().add(channel * pixels + pixel + 4 * part);
                        vst1q_f32(target, vmulq_n_f32(value, scale));
                    }
                }
            }
        }
    }
    end
}
