//! NEON, with the dot product instructions (`sdot`) where the CPU has them.

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};
use std::array::from_fn;

use super::portable::{Portable, dequantize_from, quantize_from};
use super::{
    Dense, Depthwise, GROUP, Kernels, LANES, Output, check_dense, check_depthwise, check_planes, gather, inside,
};

/// Output pixels whose sums are held in registers, without and with dot products.
const PLAIN_ROWS: usize = 2;
const DOT_ROWS: usize = 4;

/// Bytes of inputs that are worked on until all outputs are done: part of the first level cache.
const TILE: usize = 12 << 10;

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
        let end = output.len() / LANES * LANES;
        for start in (0..end).step_by(LANES) {
            // SAFETY: the CPU has NEON, or there were no `self`; sixteen values from `start` on lie before `end`.
            unsafe {
                let a = widen(vld1q_s8(a.as_ptr().add(start)));
                let b = widen(vld1q_s8(b.as_ptr().add(start)));
                let sum = from_fn(|part| vaddq_f32(vmulq_n_f32(a[part], ma), vmulq_n_f32(b[part], mb)));
                vst1q_s8(output.as_mut_ptr().add(start), narrow(sum, low, high));
            }
        }
        Portable.add(&a[end..], ma, &b[end..], mb, low, high, &mut output[end..]);
    }

    fn quantize(&self, planes: &[f32], channels: usize, pixels: usize, scale: f32, stored: usize, output: &mut [i8]) {
        check_planes(planes.len(), channels, pixels, stored, output.len());
        quantize_from(0, planes, channels, pixels, scale, stored, output);
    }

    fn dequantize(&self, input: &[i8], stored: usize, channels: usize, pixels: usize, scale: f32, planes: &mut [f32]) {
        check_planes(planes.len(), channels, pixels, stored, input.len());
        dequantize_from(0, input, stored, channels, pixels, scale, planes);
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

/// Sixteen values, clamped to `low..=high` and rounded, as i8.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(values: [float32x4_t; 4], low: i8, high: i8) -> int8x16_t {
    let (low, high) = (vdupq_n_f32(f32::from(low)), vdupq_n_f32(f32::from(high)));
    let [a, b, c, d] = values.map(|value| vqmovn_s32(vcvtnq_s32_f32(vminq_f32(vmaxq_f32(value, low), high))));
    vcombine_s8(vqmovn_s16(vcombine_s16(a, b)), vqmovn_s16(vcombine_s16(c, d)))
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
    from_fn(|part| unsafe {
        let bias = vld1q_s32(bias.as_ptr().add(channel + 4 * part));
        let multiplier = vld1q_f32(multiplier.as_ptr().add(channel + 4 * part));
        let value = vmulq_f32(vcvtq_f32_s32(vaddq_s32(sums[part], bias)), multiplier);
        vmaxq_f32(value, vmulq_n_f32(value, slope))
    })
}

/// All outputs, `ROWS` pixels and sixteen channels at a time.
///
/// # Safety
///
/// The CPU has NEON, and dot products if `DOT`; `check_dense` was passed, which gave `count`.
#[target_feature(enable = "neon")]
unsafe fn dense<const ROWS: usize, const DOT: bool>(job: &Dense<'_>, count: usize, output: &mut Output<'_>) {
    let products = job.weights.products();
    let height = (TILE / products).clamp(ROWS, 48) / ROWS * ROWS;
    let mut tile = vec![0u8; height * products];
    for first in (0..count).step_by(height) {
        let height = height.min(count - first);
        gather(job, first, &mut tile[..height * products], products, 0);
        for (block, weights) in job.weights.weights.chunks_exact(products * LANES).enumerate() {
            let (channel, weights) = (block * LANES, weights.as_chunks::<{ GROUP * LANES }>().0);
            for row in (0..height).step_by(ROWS) {
                let valid = ROWS.min(height - row);
                // SAFETY: the tile has `height` rows of all products, as many groups as there are of weights.
                let sums = unsafe {
                    let rows = from_fn(|index| tile.as_ptr().add((row + index.min(valid - 1)) * products).cast::<i8>());
                    if DOT { sum_dot::<ROWS>(rows, weights) } else { sum_plain::<ROWS>(rows, weights) }
                };
                for (index, &sums) in sums.iter().enumerate().take(valid) {
                    let start = (first + row + index) * job.output_stride + channel;
                    // SAFETY: the factors have an entry a stored channel, the output `count` rows of these.
                    unsafe {
                        let values = scale(sums, job.bias, job.multiplier, job.slope, channel);
                        match output {
                            Output::I8 { values: target, low, high } => {
                                vst1q_s8(target.as_mut_ptr().add(start), narrow(values, *low, *high));
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

/// Adds to each i32 the four products of i8 beside each other.
///
/// # Safety
///
/// The CPU has dot products.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dot(sum: int32x4_t, weights: int8x16_t, input: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: reads and writes only these registers; the caller promises the instruction.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {weights:v}.16b, {input:v}.16b",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            input = in(vreg) input,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
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
    for (group, weights) in weights.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let weights: [int8x16_t; 4] = from_fn(|part| vld1q_s8(weights.as_ptr().add(16 * part)));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let input = row.add(group * GROUP).cast::<i32>().read_unaligned();
                let input = vreinterpretq_s8_s32(vdupq_n_s32(input));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = dot(*sum, weights, input);
                }
            }
        }
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
    for (pair, weights) in weights.chunks(2).enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: the caller's promise.
            let input = |group: usize| unsafe {
                let input = row.add((2 * pair + group) * GROUP).cast::<i32>().read_unaligned();
                vreinterpret_s8_s32(vdup_n_s32(input))
            };
            // The second group, if there is one.
            let second = weights.get(1).map(|weights| (weights, input(1)));
            let first = input(0);
            for (part, sum) in sums.iter_mut().enumerate() {
                // SAFETY: eight weights of 64, eight times.
                let load = |weights: &[i8; GROUP * LANES]| unsafe { vld1_s8(weights.as_ptr().add(8 * part)) };
                // Two products of at most 127 * 128 fit an i16.
                let mut words = vmull_s8(load(&weights[0]), first);
                if let Some((weights, input)) = second {
                    words = vmlal_s8(words, load(weights), input);
                }
                *sum = vpadalq_s16(*sum, words);
            }
        }
    }
    sums.map(|sums| from_fn(|part| vpaddq_s32(sums[2 * part], sums[2 * part + 1])))
}

/// # Safety
///
/// The CPU has NEON and `check_depthwise` was passed.
#[target_feature(enable = "neon")]
unsafe fn depthwise(job: &Depthwise<'_>, output: &mut [i8]) {
    let ([rows, columns], [down, right], [top, left, ..]) = (job.kernel, job.stride, job.pads);
    let channels = job.channels;
    for y in 0..job.output_height {
        let (ky, ky_end) = inside(y, down, top, rows, job.height);
        for x in 0..job.output_width {
            let (kx, kx_end) = inside(x, right, left, columns, job.width);
            for channel in (0..channels).step_by(LANES) {
                let mut sums = [vdupq_n_s32(0); 4];
                for row in ky..ky_end {
                    for column in kx..kx_end {
                        let pixel = (y * down + row - top) * job.width + x * right + column - left;
                        let tap = row * columns + column;
                        // SAFETY: the tap lies inside the input, and has a weight a stored channel.
                        let (values, weights) = unsafe {
                            (
                                vld1q_s8(job.input.as_ptr().add(pixel * channels + channel)),
                                vld1q_s8(job.weights.weights.as_ptr().add(tap * channels + channel)),
                            )
                        };
                        let low = vmull_s8(vget_low_s8(values), vget_low_s8(weights));
                        let high = vmull_high_s8(values, weights);
                        sums = [
                            vaddw_s16(sums[0], vget_low_s16(low)),
                            vaddw_high_s16(sums[1], low),
                            vaddw_s16(sums[2], vget_low_s16(high)),
                            vaddw_high_s16(sums[3], high),
                        ];
                    }
                }
                // SAFETY: the factors have an entry a stored channel, and the output has these of each pixel.
                unsafe {
                    let values = scale(sums, job.bias, job.multiplier, job.slope, channel);
                    let start = (y * job.output_width + x) * channels + channel;
                    vst1q_s8(output.as_mut_ptr().add(start), narrow(values, job.low, job.high));
                }
            }
        }
    }
}
