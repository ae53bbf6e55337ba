//! Sums of maps, and the steps between f32 planes and i8 pixels.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::super::LANES;
use super::{limits, narrow, widen};

/// Returns how many values are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has AVX2 and the slices are equally long.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add(a: &[i8], ma: f32, b: &[i8], mb: f32, [low, high]: [i8; 2], output: &mut [i8]) -> usize {
    let (limits, ma, mb) = (limits(low, high), _mm256_set1_ps(ma), _mm256_set1_ps(mb));
    let end = output.len() / LANES * LANES;
    for start in (0..end).step_by(LANES) {
        // SAFETY: sixteen values from `start` on lie before `end`.
        unsafe {
            let a = widen(_mm_loadu_si128(a.as_ptr().add(start).cast()));
            let b = widen(_mm_loadu_si128(b.as_ptr().add(start).cast()));
            let sum = from_fn(|half| _mm256_add_ps(_mm256_mul_ps(a[half], ma), _mm256_mul_ps(b[half], mb)));
            _mm_storeu_si128(output.as_mut_ptr().add(start).cast(), narrow(sum, limits));
        }
    }
    end
}

/// Sixteen rows of sixteen bytes, rows and columns swapped.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(mut rows: [__m128i; LANES]) -> [__m128i; LANES] {
    // Each pass turns the eight bits of a byte's place (row, column) by one.
    for _ in 0..4 {
        rows = from_fn(|index| {
            let (a, b) = (rows[index / 2], rows[index / 2 + 8]);
            if index % 2 == 0 { _mm_unpacklo_epi8(a, b) } else { _mm_unpackhi_epi8(a, b) }
        });
    }
    rows
}

/// Returns how many pixels are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has AVX2 and `check_planes` was passed.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn quantize(
    planes: &[f32],
    channels: usize,
    pixels: usize,
    scale: f32,
    stored: usize,
    output: &mut [i8],
) -> usize {
    let (limits, scale) = (limits(i8::MIN, i8::MAX), _mm256_set1_ps(scale));
    let end = pixels / LANES * LANES;
    for pixel in (0..end).step_by(LANES) {
        for channel in (0..stored).step_by(LANES) {
            let mut rows = [_mm_setzero_si128(); LANES];
            for (row, channel) in rows.iter_mut().zip(channel..channels) {
                // SAFETY: sixteen pixels from `pixel` on lie in the channel's plane.
                let values = unsafe {
                    let source = planes.as_ptr().add(channel * pixels + pixel);
                    [_mm256_loadu_ps(source), _mm256_loadu_ps(source.add(8))]
                };
                let values = values.map(|value| {
                    let value = _mm256_div_ps(value, scale);
                    _mm256_and_ps(value, _mm256_cmp_ps::<_CMP_ORD_Q>(value, value))
                });
                *row = narrow(values, limits);
            }
            for (index, row) in transpose(rows).into_iter().enumerate() {
                // SAFETY: the output has `pixels` rows of `stored`, of which these are sixteen.
                unsafe { _mm_storeu_si128(output.as_mut_ptr().add((pixel + index) * stored + channel).cast(), row) }
            }
        }
    }
    end
}

/// Returns how many pixels are done: all but fewer than sixteen.
///
/// # Safety
///
/// The CPU has AVX2 and `check_planes` was passed.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dequantize(
    input: &[i8],
    stored: usize,
    channels: usize,
    pixels: usize,
    scale: f32,
    planes: &mut [f32],
) -> usize {
    let scale = _mm256_set1_ps(scale);
    let end = pixels / LANES * LANES;
    for pixel in (0..end).step_by(LANES) {
        for channel in (0..channels).step_by(LANES) {
            // SAFETY: the input has `pixels` rows of `stored`, of which these are sixteen.
            let rows = from_fn(|index| unsafe {
                _mm_loadu_si128(input.as_ptr().add((pixel + index) * stored + channel).cast())
            });
            for (row, channel) in transpose(rows).into_iter().zip(channel..channels) {
                let [a, b] = widen(row).map(|value| _mm256_mul_ps(value, scale));
                // SAFETY: sixteen pixels from `pixel` on lie in the channel's plane.
                unsafe {
                    let target = planes.as_mut_ptr().add(channel * pixels + pixel);
                    _mm256_storeu_ps(target, a);
                    _mm256_storeu_ps(target.add(8), b);
                }
            }
        }
    }
    end
}
