//! Depthwise convolutions.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::super::{Depthwise, LANES, PackedDepthwise, inside};
use super::{Factors, Line, Size, limits, line, narrow};

/// Output pixels whose sums a depthwise kernel holds in registers.
const COLUMNS: usize = 4;

/// Taps of sixteen channels that are summed in i16: whole rows of the kernel if each of these fits.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The tap after the last.
    end: usize,
    /// Where the sums start.
    center: Line,
}

/// Depthwise weights as the kernel reads them, for inputs of one sign.
#[derive(Debug)]
pub(in crate::engine::integer::kernels) struct Plan {
    /// The spans of each block of sixteen channels.
    spans: Vec<Vec<Span>>,
    /// Whether all spans are of whole rows.
    whole: bool,
    /// `[block][tap]`: i16.
    weights: Vec<Line>,
    /// What to add to the sum of each stored channel.
    correction: Vec<i32>,
}

impl Plan {
    fn new(packed: &PackedDepthwise, nonnegative: bool) -> Self {
        let ([rows, columns], stored) = (packed.kernel, packed.stored);
        let taps = rows * columns;
        let weight = |tap: usize, channel: usize| packed.weights[tap * stored + channel];
        let center = |start: usize, end: usize, channel: usize| {
            Size::of((start..end).map(|tap| weight(tap, channel))).center(nonnegative)
        };
        let whole = (0..rows)
            .all(|row| (0..stored).all(|channel| center(row * columns, (row + 1) * columns, channel).is_some()));
        let step = if whole { columns } else { 1 };
        let mut plan = Self { spans: Vec::new(), whole, weights: Vec::new(), correction: vec![0; stored] };
        for (block, correction) in plan.correction.chunks_exact_mut(LANES).enumerate() {
            let channel = block * LANES;
            plan.weights.extend((0..taps).map(|tap| line(from_fn(|lane| i16::from(weight(tap, channel + lane))))));
            let mut spans = Vec::new();
            let mut start = 0;
            while start < taps {
                let centers = |end: usize| {
                    let mut centers = [0; LANES];
                    for (lane, target) in centers.iter_mut().enumerate() {
                        *target = center(start, end, channel + lane)?;
                    }
                    Some(centers)
                };
                // A row, or else one tap, alone always fits.
                let (end, centers) = (start + step..=taps)
                    .step_by(step)
                    .map_while(|end| Some((end, centers(end)?)))
                    .last()
                    .unwrap_or((start + step, [0; LANES]));
                for (correction, center) in correction.iter_mut().zip(centers) {
                    *correction -= center;
                }
                spans.push(Span { end, center: line(centers.map(|center| center as i16)) });
                start = end;
            }
            plan.spans.push(spans);
        }
        plan
    }
}

/// # Safety
///
/// The CPU has AVX2 and `check_depthwise` was passed.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn depthwise(job: &Depthwise<'_>, output: &mut [i8]) {
    let plan = job.weights.avx2[usize::from(job.nonnegative)].get_or_init(|| Plan::new(job.weights, job.nonnegative));
    let ([rows, columns], [down, right], [top, left, ..]) = (job.kernel, job.stride, job.pads);
    // Output columns whose taps all lie inside.
    let first = left.div_ceil(right.max(1)).min(job.output_width);
    let end = match (job.width + left).checked_sub(columns) {
        Some(last) => (last / right.max(1) + 1).clamp(first, job.output_width),
        None => first,
    };
    let mut taps = vec![0usize; rows * columns];
    for y in 0..job.output_height {
        let (ky, ky_end) = inside(y, down, top, rows, job.height);
        let mut x = 0;
        while x < job.output_width {
            let full = x >= first && x < end;
            let (kx, kx_end) = if full { (0, columns) } else { inside(x, right, left, columns, job.width) };
            // The last pixels of a row are done again rather than one by one.
            let several = full && end - first >= COLUMNS;
            if several {
                x = x.min(end - COLUMNS);
            }
            for (tap, offset) in taps.iter_mut().enumerate() {
                let (row, column) = (tap / columns, tap % columns);
                let used = row >= ky && row < ky_end && column >= kx && column < kx_end;
                *offset = if used {
                    ((y * down + row - top) * job.width + x * right + column - left) * job.channels
                } else {
                    usize::MAX
                };
            }
            let start = (y * job.output_width + x) * job.channels;
            // SAFETY: the taps lie inside the input, for all of the output pixels; so do these in the output.
            unsafe {
                let target = output.as_mut_ptr().add(start);
                if several {
                    match (columns, right) {
                        (3, 1) if plan.whole => sum_taps::<COLUMNS, 3, 1, 6>(job, plan, &taps, target),
                        (3, 2) if plan.whole => sum_taps::<COLUMNS, 3, 2, 9>(job, plan, &taps, target),
                        (5, 1) if plan.whole => sum_taps::<COLUMNS, 5, 1, 8>(job, plan, &taps, target),
                        _ => sum_taps::<COLUMNS, 0, 0, 0>(job, plan, &taps, target),
                    }
                    x += COLUMNS;
                } else {
                    sum_taps::<1, 0, 0, 0>(job, plan, &taps, target);
                    x += 1;
                }
            }
        }
    }
}

/// The outputs of all channels of `PIXELS` pixels that lie in one row. If `WIDTH` is not 0, it is the columns of the kernel
/// and `STEP` the stride to the right, all spans are of whole rows, and of a row's taps all or none are used: then a value is
/// read once for all the pixels that use it, `READ` values a row.
///
/// # Safety
///
/// The CPU has AVX2, the lengths are checked, each of `taps` but `usize::MAX` is where the first pixel's tap starts in the
/// input, the other pixels' taps (a stride to the right) lie inside too, and so do the pixels at `target`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_taps<const PIXELS: usize, const WIDTH: usize, const STEP: usize, const READ: usize>(
    job: &Depthwise<'_>,
    plan: &Plan,
    taps: &[usize],
    target: *mut i8,
) {
    let limits = limits(job.low, job.high);
    let step = job.stride[1] * job.channels;
    let input = job.input.as_ptr();
    for (block, spans) in plan.spans.iter().enumerate() {
        let channel = block * LANES;
        let weights = &plan.weights[block * taps.len()..(block + 1) * taps.len()];
        let mut start = 0;
        // SAFETY: the caller's promise.
        unsafe {
            let factors = Factors::load(job.bias, &plan.correction, job.multiplier, job.slope, channel);
            let mut sums = [factors.bias; PIXELS];
            for span in spans {
                let mut words = [_mm256_load_si256((&raw const span.center).cast()); PIXELS];
                let (taps, weights) = (&taps[start..span.end], &weights[start..span.end]);
                if WIDTH > 0 {
                    for (taps, weights) in taps.chunks_exact(WIDTH).zip(weights.chunks_exact(WIDTH)) {
                        if taps[0] != usize::MAX {
                            let source = input.add(taps[0] + channel);
                            words = add_row::<PIXELS, WIDTH, STEP, READ>(
                                words,
                                source,
                                job.channels,
                                weights.as_ptr().cast(),
                            );
                        }
                    }
                } else {
                    for (&tap, weight) in taps.iter().zip(weights) {
                        if tap == usize::MAX {
                            continue;
                        }
                        let weight = _mm256_load_si256((&raw const *weight).cast());
                        let source = input.add(tap + channel);
                        for (index, word) in words.iter_mut().enumerate() {
                            let values = _mm256_cvtepi8_epi16(_mm_loadu_si128(source.add(index * step).cast()));
                            *word = _mm256_add_epi16(*word, _mm256_mullo_epi16(values, weight));
                        }
                    }
                }
                for (sums, word) in sums.iter_mut().zip(words) {
                    let halves = [_mm256_castsi256_si128(word), _mm256_extracti128_si256::<1>(word)];
                    for (sum, half) in sums.iter_mut().zip(halves) {
                        *sum = _mm256_add_epi32(*sum, _mm256_cvtepi16_epi32(half));
                    }
                }
                start = span.end;
            }
            for (index, &sums) in sums.iter().enumerate() {
                let bytes = narrow(factors.scale(sums), limits);
                _mm_storeu_si128(target.add(index * job.channels + channel).cast(), bytes);
            }
        }
    }
}

/// Adds a kernel row's taps of sixteen channels to the sums of each pixel, with `READ = (PIXELS - 1) * STEP + WIDTH` reads.
///
/// # Safety
///
/// The CPU has AVX2, there are `WIDTH` registers of weights, and all reads, `channels` bytes apart, lie inside the input.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_row<const PIXELS: usize, const WIDTH: usize, const STEP: usize, const READ: usize>(
    mut words: [__m256i; PIXELS],
    source: *const i8,
    channels: usize,
    weights: *const __m256i,
) -> [__m256i; PIXELS] {
    // SAFETY: the caller's promise.
    unsafe {
        let values: [__m256i; READ] =
            from_fn(|index| _mm256_cvtepi8_epi16(_mm_loadu_si128(source.add(index * channels).cast())));
        for column in 0..WIDTH {
            let weight = _mm256_load_si256(weights.add(column));
            for (index, word) in words.iter_mut().enumerate() {
                *word = _mm256_add_epi16(*word, _mm256_mullo_epi16(values[index * STEP + column], weight));
            }
        }
    }
    words
}
