//! AVX-512 with VNNI: `vpdpbusd` sums four products of unsigned inputs and signed weights to each i32.
//!
//! Inputs are copied with 128 added, and 128 times the sum of the weights is taken off the bias.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::avx2::Avx2;
use super::{Dense, Depthwise, GROUP, Kernels, LANES, Output, check_dense, gather};

/// Output pixels whose sums are held in registers.
const ROWS: usize = 12;

/// Bytes of inputs that are worked on until all outputs are done: part of the first level cache.
const TILE: usize = 16 << 10;

/// A CPU with AVX-512 and VNNI. Only [`Avx512::get`] gives one. All but dense convolution is done as [`Avx2`] does it.
pub(super) struct Avx512(&'static Avx2);

impl Avx512 {
    /// The implementation, if this CPU can run it.
    pub(super) fn get() -> Option<&'static Self> {
        static FOUND: std::sync::OnceLock<Option<Avx512>> = std::sync::OnceLock::new();
        let detect = || {
            let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
            Avx2::get().filter(|_| found).map(Avx512)
        };
        FOUND.get_or_init(detect).as_ref()
    }
}

impl Kernels for Avx512 {
    fn name(&self) -> &'static str {
        "avx512-vnni"
    }

    fn dense(&self, job: &Dense<'_>, mut output: Output<'_>) {
        let count = check_dense(job, &output);
        // SAFETY: the CPU has AVX-512 and VNNI, or there were no `self`; the lengths are checked.
        unsafe { dense(job, count, &mut output) }
    }

    fn depthwise(&self, job: &Depthwise<'_>, output: &mut [i8]) {
        self.0.depthwise(job, output);
    }

    fn add(&self, a: &[i8], ma: f32, b: &[i8], mb: f32, low: i8, high: i8, output: &mut [i8]) {
        self.0.add(a, ma, b, mb, low, high, output);
    }

    fn quantize(&self, planes: &[f32], channels: usize, pixels: usize, scale: f32, stored: usize, output: &mut [i8]) {
        self.0.quantize(planes, channels, pixels, scale, stored, output);
    }

    fn dequantize(&self, input: &[i8], stored: usize, channels: usize, pixels: usize, scale: f32, planes: &mut [f32]) {
        self.0.dequantize(input, stored, channels, pixels, scale, planes);
    }
}

/// # Safety
///
/// The CPU has AVX-512F and VNNI and `check_dense` was passed, which gave `count`.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dense(job: &Dense<'_>, count: usize, output: &mut Output<'_>) {
    let packed = job.weights;
    let products = packed.products();
    let height = (TILE / products).clamp(ROWS, 16 * ROWS) / ROWS * ROWS;
    let mut tile = vec![0u8; height * products];
    for first in (0..count).step_by(height) {
        let height = height.min(count - first);
        gather(job, first, &mut tile[..height * products], products, 128);
        for (block, weights) in packed.weights.chunks_exact(products * LANES).enumerate() {
            let channel = block * LANES;
            // SAFETY: bias, sums and multipliers have an entry a stored channel.
            let (bias, multiplier) = unsafe {
                let sums = _mm512_loadu_si512(packed.sums.as_ptr().add(channel).cast());
                let bias = _mm512_loadu_si512(job.bias.as_ptr().add(channel).cast());
                let multiplier = _mm512_loadu_ps(job.multiplier.as_ptr().add(channel));
                (_mm512_sub_epi32(bias, _mm512_slli_epi32::<7>(sums)), multiplier)
            };
            for row in (0..height).step_by(ROWS) {
                let valid = ROWS.min(height - row);
                // SAFETY: the tile has `height` rows of all products.
                let rows: [*const u8; ROWS] =
                    from_fn(|index| unsafe { tile.as_ptr().add((row + index.min(valid - 1)) * products) });
                let mut sums = [_mm512_setzero_si512(); ROWS];
                for (group, weights) in weights.as_chunks::<{ GROUP * LANES }>().0.iter().enumerate() {
                    // SAFETY: a group's weights fill a register; the rows have as many groups.
                    unsafe {
                        let weights = _mm512_loadu_si512(weights.as_ptr().cast());
                        for (sum, row) in sums.iter_mut().zip(rows) {
                            let input = _mm512_set1_epi32(row.add(group * GROUP).cast::<i32>().read_unaligned());
                            *sum = _mm512_dpbusd_epi32(*sum, input, weights);
                        }
                    }
                }
                for (index, &sum) in sums.iter().enumerate().take(valid) {
                    let values = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, bias)), multiplier);
                    let values = _mm512_max_ps(values, _mm512_mul_ps(values, _mm512_set1_ps(job.slope)));
                    let start = (first + row + index) * job.output_stride + channel;
                    match output {
                        Output::I8 { values: target, low, high } => {
                            let values = _mm512_max_ps(values, _mm512_set1_ps(f32::from(*low)));
                            let values = _mm512_min_ps(values, _mm512_set1_ps(f32::from(*high)));
                            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values));
                            // SAFETY: the output has `count` rows of all stored channels.
                            unsafe { _mm_storeu_si128(target.as_mut_ptr().add(start).cast(), bytes) }
                        }
                        Output::F32 { values: target } => {
                            // SAFETY: the output has `count` rows of all stored channels.
                            unsafe { _mm512_storeu_ps(target.as_mut_ptr().add(start), values) }
                        }
                    }
                }
            }
        }
    }
}
