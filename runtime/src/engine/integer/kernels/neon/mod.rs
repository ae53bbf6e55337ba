//! NEON, with the dot product instructions (`sdot`) where the CPU has them.

mod dense;
mod depthwise;
mod maps;

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;
use std::array::from_fn;

use self::dense::{DOT_ROWS, PLAIN_ROWS, dense};
use self::depthwise::depthwise;
use self::maps::{add, dequantize, quantize};
use super::portable::{Portable, dequantize_from, quantize_from};
use super::{Dense, Depthwise, Kernels, LANES, Output, check_dense, check_depthwise, check_planes};

/// A CPU with NEON. Only [`Neon::get`] and [`Neon::get_dotprod`] give one.
pub(super) struct Neon {
    /// Whether it has dot products.
    dotprod: bool,
}

impl Neon {
    /// The implementation without dot products, if this CPU can run it.
    pub(super) fn get() -> Option<&'static Self> {
        is_aarch64_feature_detected!("neon").then_some(&Self { dotprod: false })
    }

    /// The implementation with dot products, if this CPU can run it.
    pub(super) fn get_dotprod() -> Option<&'static Self> {
        (is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod"))
            .then_some(&Self { dotprod: true })
    }
}

impl Kernels for Neon {
    fn name(&self) -> &'static str {
        if self.dotprod { "neon-dotprod" } else { "neon" }
    }

    fn dense(&self, job: &Dense<'_>, mut output: Output<'_>) {
        let count = check_dense(job, &output);
        // SAFETY: the CPU has NEON (and dot products), or there were no such `self`; the lengths are checked.
        unsafe {
            if self.dotprod {
                dense::<DOT_ROWS, true>(job, count, &mut output);
            } else {
                dense::<PLAIN_ROWS, false>(job, count, &mut output);
            }
        }
    }

    fn depthwise(&self, job: &Depthwise<'_>, output: &mut [i8]) {
        check_depthwise(job, output);
        // SAFETY: the CPU has NEON, or there were no `self`; the lengths are checked.
        unsafe { depthwise(job, output) }
    }

    fn add(&self, a: &[i8], ma: f32, b: &[i8], mb: f32, low: i8, high: i8, output: &mut [i8]) {
        assert!(a.len() == output.len() && b.len() == output.len(), "a, b, output: equally long");
        // SAFETY: the CPU has NEON, or there were no `self`; the lengths are checked.
        let done = unsafe { add(a, ma, b, mb, [low, high], output) };
        Portable.add(&a[done..], ma, &b[done..], mb, low, high, &mut output[done..]);
    }

    fn quantize(&self, planes: &[f32], channels: usize, pixels: usize, scale: f32, stored: usize, output: &mut [i8]) {
        check_planes(planes.len(), channels, pixels, stored, output.len());
        // SAFETY: the CPU has NEON, or there were no `self`; the lengths are checked.
        let done = unsafe { quantize(planes, channels, pixels, scale, stored, output) };
        quantize_from(done, planes, channels, pixels, scale, stored, output);
    }

    fn dequantize(&self, input: &[i8], stored: usize, channels: usize, pixels: usize, scale: f32, planes: &mut [f32]) {
        check_planes(planes.len(), channels, pixels, stored, input.len());
        // SAFETY: the CPU has NEON, or there were no `self`; the lengths are checked.
        let done = unsafe { dequantize(input, stored, channels, pixels, scale, planes) };
        dequantize_from(done, input, stored, channels, pixels, scale, planes);
    }
}

/// Sixteen i8 as f32.
#[inline]
#[target_feature(enable = "neon")]
fn widen(values: int8x16_t) -> [float32x4_t; 4] {
    let (a, b) = (vmovl_s8(vget_low_s8(values)), vmovl_high_s8(values));
    [vmovl_s16(vget_low_s16(a)), vmovl_high_s16(a), vmovl_s16(vget_low_s16(b)), vmovl_high_s16(b)]
        .map(|part| vcvtq_f32_s32(part))
}

/// Sixteen values, rounded and clamped to `low..=high`, as i8; 0, clamped, for NaN.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(values: [float32x4_t; 4], [low, high]: [int8x16_t; 2]) -> int8x16_t {
    // Bounds are integers, so that clamping after rounding, which takes fewer instructions, is the same.
    let [a, b, c, d] = values.map(|value| vcvtnq_s32_f32(value));
    let (a, c) = (vqmovn_high_s32(vqmovn_s32(a), b), vqmovn_high_s32(vqmovn_s32(c), d));
    vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(a), c), low), high)
}

/// The bounds of [`narrow`].
#[inline]
#[target_feature(enable = "neon")]
fn limits(low: i8, high: i8) -> [int8x16_t; 2] {
    [vdupq_n_s8(low), vdupq_n_s8(high)]
}

/// The sums of sixteen channels, bias added, to f32 values.
///
/// # Safety
///
/// The CPU has NEON and there are at least `channel + 16` of each.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn scale(
    sums: [int32x4_t; 4],
    bias: &[i32],
    multiplier: &[f32],
    slope: f32,
    channel: usize,
) -> [float32x4_t; 4] {
    debug_assert!(bias.len().min(multiplier.len()) >= channel + LANES);
    // SAFETY: the caller's promise.
    let values = from_fn(|part| unsafe {
        let bias = vld1q_s32(bias.as_ptr().add(channel + 4 * part));
        let multiplier = vld1q_f32(multiplier.as_ptr().add(channel + 4 * part));
        vmulq_f32(vcvtq_f32_s32(vaddq_s32(sums[part], bias)), multiplier)
    });
    if slope == 1.0 {
        return values;
    }
    // As `f32::max`: the number, where one of both is NaN.
    values.map(|value| vmaxnmq_f32(value, vmulq_n_f32(value, slope)))
}
