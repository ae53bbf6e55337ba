//! AVX2.
//!
//! Products of i8 are summed in i16 lanes as far as the weights allow, which is decided when they are packed, and only then
//! widened to i32. Sums in i16 wrap, so a sum is exact as long as its final value fits; a constant added to each (its
//! `center`, taken off again through the bias) moves the range of possible values around zero and so allows twice as much.
//!
//! Dense: `vpmaddubsw` multiplies unsigned inputs, which nonnegative ones are, with signed weights. For signed inputs, both
//! are widened to i16 (words) before they are multiplied.

mod dense;
mod depthwise;
mod maps;

use std::arch::x86_64::*;
use std::array::from_fn;

use self::dense::dense;
use self::depthwise::depthwise;
use self::maps::{add, dequantize, quantize};
use super::portable::{Portable, dequantize_from, quantize_from};
use super::{Dense, Depthwise, Kernels, LANES, Output, check_dense, check_depthwise, check_planes};

pub(super) use self::dense::Stream;
pub(super) use self::depthwise::Plan;

/// A CPU with AVX2. Only [`Avx2::get`] gives one.
pub(super) struct Avx2(());

impl Avx2 {
    /// The implementation, if this CPU can run it.
    pub(super) fn get() -> Option<&'static Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(&Self(()))
    }
}

impl Kernels for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn dense(&self, job: &Dense<'_>, mut output: Output<'_>) {
        let count = check_dense(job, &output);
        // SAFETY: the CPU has AVX2, or there were no `self`; the lengths are checked.
        unsafe { dense(job, count, &mut output) }
    }

    fn depthwise(&self, job: &Depthwise<'_>, output: &mut [i8]) {
        check_depthwise(job, output);
        // SAFETY: the CPU has AVX2, or there were no `self`; the lengths are checked.
        unsafe { depthwise(job, output) }
    }

    fn add(&self, a: &[i8], ma: f32, b: &[i8], mb: f32, low: i8, high: i8, output: &mut [i8]) {
        assert!(a.len() == output.len() && b.len() == output.len(), "a, b, output: equally long");
        // SAFETY: the CPU has AVX2, or there were no `self`; the lengths are checked.
        let done = unsafe { add(a, ma, b, mb, [low, high], output) };
        Portable.add(&a[done..], ma, &b[done..], mb, low, high, &mut output[done..]);
    }

    fn quantize(&self, planes: &[f32], channels: usize, pixels: usize, scale: f32, stored: usize, output: &mut [i8]) {
        check_planes(planes.len(), channels, pixels, stored, output.len());
        // SAFETY: the CPU has AVX2, or there were no `self`; the lengths are checked.
        let done = unsafe { quantize(planes, channels, pixels, scale, stored, output) };
        quantize_from(done, planes, channels, pixels, scale, stored, output);
    }

    fn dequantize(&self, input: &[i8], stored: usize, channels: usize, pixels: usize, scale: f32, planes: &mut [f32]) {
        check_planes(planes.len(), channels, pixels, stored, input.len());
        // SAFETY: the CPU has AVX2, or there were no `self`; the lengths are checked.
        let done = unsafe { dequantize(input, stored, channels, pixels, scale, planes) };
        dequantize_from(done, input, stored, channels, pixels, scale, planes);
    }
}

/// The positive and the negative part of a sum of weights, both as sizes.
#[derive(Clone, Copy, Default)]
struct Size {
    plus: i32,
    minus: i32,
}

impl Size {
    fn of(weights: impl Iterator<Item = i8>) -> Self {
        weights.fold(Self::default(), |size, weight| Self {
            plus: size.plus + i32::from(weight).max(0),
            minus: size.minus - i32::from(weight).min(0),
        })
    }

    /// What to add to the sum of products for it to fit an i16 whatever the inputs are, if anything does.
    fn center(self, nonnegative: bool) -> Option<i32> {
        let (low, high) = if nonnegative { (0, 127) } else { (-128, 127) };
        let least = low * self.plus - high * self.minus;
        let greatest = high * self.plus - low * self.minus;
        (greatest - least <= 65534).then(|| -(least + greatest).div_euclid(2))
    }
}

/// 32 bytes, aligned: what one register holds.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Line([i8; 32]);

/// Of i16 values.
fn line(values: [i16; LANES]) -> Line {
    Line(from_fn(|index| values[index / 2].to_le_bytes()[index % 2] as i8))
}

/// The factors of sixteen output channels.
#[derive(Clone, Copy)]
struct Factors {
    bias: [__m256i; 2],
    multiplier: [__m256; 2],
    slope: __m256,
}

impl Factors {
    /// # Safety
    ///
    /// The CPU has AVX2 and there are at least `channel + 16` of each.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load(bias: &[i32], correction: &[i32], multiplier: &[f32], slope: f32, channel: usize) -> Self {
        debug_assert!(bias.len().min(correction.len()).min(multiplier.len()) >= channel + LANES);
        // SAFETY: the caller's promise.
        unsafe {
            let bias = bias.as_ptr().add(channel).cast::<__m256i>();
            let correction = correction.as_ptr().add(channel).cast::<__m256i>();
            let multiplier = multiplier.as_ptr().add(channel);
            let sum =
                |half| _mm256_add_epi32(_mm256_loadu_si256(bias.add(half)), _mm256_loadu_si256(correction.add(half)));
            Self {
                bias: [sum(0), sum(1)],
                multiplier: [_mm256_loadu_ps(multiplier), _mm256_loadu_ps(multiplier.add(8))],
                slope: _mm256_set1_ps(slope),
            }
        }
    }

    /// Sums (which started from the bias) to f32 values.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn scale(&self, sums: [__m256i; 2]) -> [__m256; 2] {
        from_fn(|half| {
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[half]), self.multiplier[half]);
            _mm256_max_ps(value, _mm256_mul_ps(value, self.slope))
        })
    }
}

/// Sixteen values, clamped to `low..=high` and rounded, as i8.
///
/// The upper limit is applied before rounding: what exceeds an i32 would become the least one. What is below it does so too,
/// which is right, so that the lower limit can be applied last, to all sixteen at once.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn narrow(values: [__m256; 2], (low, high): (__m128i, __m256)) -> __m128i {
    let [a, b] = values.map(|value| _mm256_cvtps_epi32(_mm256_min_ps(value, high)));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
    let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm_max_epi8(bytes, low)
}

/// Sixteen i8 as f32.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn widen(values: __m128i) -> [__m256; 2] {
    [values, _mm_unpackhi_epi64(values, values)].map(|half| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half)))
}

/// The limits of a clamp.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn limits(low: i8, high: i8) -> (__m128i, __m256) {
    (_mm_set1_epi8(low), _mm256_set1_ps(f32::from(high)))
}
