//! Depthwise convolutions.

use std::arch::aarch64::*;

use super::super::{Depthwise, LANES, inside};
use super::{limits, narrow, scale};

/// # Safety
///
/// The CPU has NEON and `check_depthwise` was passed.
#[target_feature(enable = "neon")]
pub(super) unsafe fn depthwise(job: &Depthwise<'_>, output: &mut [i8]) {
    let ([rows, columns], [down, right], [top, left, ..]) = (job.kernel, job.stride, job.pads);
    let channels = job.channels;
    // What a tap that lies outside reads.
    let zeros = vec![0i8; channels];
    let mut taps = vec![zeros.as_ptr(); rows * columns];
    let mut pixels = output.chunks_exact_mut(channels);
    for y in 0..job.output_height {
        let (ky, ky_end) = inside(y, down, top, rows, job.height);
        // Whether the pixel before lay inside with all its columns.
        let mut whole = false;
        for (x, pixel) in (0..job.output_width).zip(&mut pixels) {
            let (kx, kx_end) = inside(x, right, left, columns, job.width);
            let is_whole = kx == 0 && kx_end == columns;
            for (index, row) in taps.chunks_exact_mut(columns).enumerate() {
                if !(ky..ky_end).contains(&index) {
                    row.fill(zeros.as_ptr());
                } else if whole && is_whole {
                    // The same taps, one step to the right.
                    row.iter_mut().for_each(|tap| *tap = tap.wrapping_add(right * channels));
                } else {
                    let above = (y * down + index - top) * job.width;
                    for (column, tap) in row.iter_mut().enumerate() {
                        *tap = if (kx..kx_end).contains(&column) {
                            job.input[(above + x * right + column - left) * channels..].as_ptr()
                        } else {
                            zeros.as_ptr()
                        };
                    }
                }
            }
            whole = is_whole;
            // SAFETY: at each tap there are the stored channels of a pixel inside the input, or as many zeros.
            unsafe {
                if taps.len() == 9 {
                    one_pixel::<9>(job, &taps, pixel);
                } else {
                    one_pixel::<0>(job, &taps, pixel);
                }
            }
        }
    }
}

/// All channels of an output pixel. `TAPS` is how many taps there are, or 0 for any number.
///
/// # Safety
///
/// The CPU has NEON, `check_depthwise` was passed, and at each of the job's `taps` all stored channels can be read.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn one_pixel<const TAPS: usize>(job: &Depthwise<'_>, taps: &[*const i8], output: &mut [i8]) {
    let count = if TAPS == 0 { taps.len() } else { TAPS };
    assert!(taps.len() >= count && output.len() >= job.channels, "taps, output: as the job says");
    let limits = limits(job.low, job.high);
    for channel in (0..job.channels).step_by(LANES) {
        let mut sums = [vdupq_n_s32(0); 4];
        // SAFETY: the caller's promise; there is a weight a tap and stored channel.
        let read = |tap: usize| unsafe {
            let weights = job.weights.weights.as_ptr().add(channel).wrapping_add(tap.wrapping_mul(job.channels));
            (vld1q_s8(taps.get_unchecked(tap).add(channel)), vld1q_s8(weights))
        };
        let mut tap = 0;
        while tap < count {
            let (values, weights) = read(tap);
            let mut low = vmull_s8(vget_low_s8(values), vget_low_s8(weights));
            let mut high = vmull_high_s8(values, weights);
            if tap + 1 < count {
                // Two products of at most 127 * 128 fit an i16.
                let (values, weights) = read(tap + 1);
                low = vmlal_s8(low, vget_low_s8(values), vget_low_s8(weights));
                high = vmlal_high_s8(high, values, weights);
            }
            sums = [
                vaddw_s16(sums[0], vget_low_s16(low)),
                vaddw_high_s16(sums[1], low),
                vaddw_s16(sums[2], vget_low_s16(high)),
                vaddw_high_s16(sums[3], high),
            ];
            tap += 2;
        }
        // SAFETY: the factors have an entry a stored channel, and so has the output's pixel.
        unsafe {
            let values = scale(sums, job.bias, job.multiplier, job.slope, channel);
            vst1q_s8(output.as_mut_ptr().add(channel), narrow(values, limits));
        }
    }
}
