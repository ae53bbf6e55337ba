//! Dense convolutions.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::super::{Dense, GROUP, LANES, Output, PackedDense, Rows, gather};
use super::{Factors, Line, Size, limits, line, narrow};

/// Output pixels whose sums the dense kernels hold in registers: summing units, and words.
const UNIT_ROWS: usize = 3;
const WORD_ROWS: usize = 6;

/// Bytes of inputs that a dense kernel works on until all outputs are done: part of the first level cache.
const TILE: usize = 12 << 10;

/// Dense weights as the kernel reads them, for inputs of one sign.
#[derive(Debug)]
pub(in crate::engine::integer::kernels) struct Stream {
    /// For nonnegative inputs: of each unit two lines of centers and two of weights for each group, block of outputs after
    /// block. For signed inputs: the weights as words, `[block][products / 2][16][2]`.
    lines: Vec<Line>,
    /// How many groups (4, 2 or 1) each unit sums in i16, block after block; those of a block are all its groups. For signed
    /// inputs there are none.
    units: Vec<u8>,
    /// Where each block's lines and units start, and the end.
    starts: Vec<[usize; 2]>,
    /// What to add to the sum of each stored output channel.
    correction: Vec<i32>,
}

impl Stream {
    /// For nonnegative inputs.
    fn units(packed: &PackedDense) -> Self {
        let mut stream =
            Self { lines: Vec::new(), units: Vec::new(), starts: vec![[0; 2]], correction: vec![0; packed.stored] };
        for (block, weights) in packed.weights.chunks_exact(packed.products() * LANES).enumerate() {
            let mut groups = weights.as_chunks::<{ GROUP * LANES }>().0;
            while !groups.is_empty() {
                let sizes = [4, 2, 1].into_iter().filter(|&size| size <= groups.len());
                // One group alone always fits.
                let found = sizes.filter_map(|size| Some((size, centers(&groups[..size])?))).next();
                let (size, centers) = found.unwrap_or((1, [0; 2 * LANES]));
                let (unit, rest) = groups.split_at(size);
                for (lane, center) in centers.iter().enumerate() {
                    stream.correction[block * LANES + lane / 2] -= center;
                }
                stream.lines.push(line(from_fn(|index| centers[index] as i16)));
                stream.lines.push(line(from_fn(|index| centers[LANES + index] as i16)));
                for group in unit {
                    stream.lines.extend([0, 32].map(|start| Line(from_fn(|index| group[start + index]))));
                }
                stream.units.push(size as u8);
                groups = rest;
            }
            stream.starts.push([stream.lines.len(), stream.units.len()]);
        }
        stream
    }

    /// For signed inputs.
    fn words(packed: &PackedDense) -> Self {
        let of_group = |group: &[i8; GROUP * LANES]| -> [Line; 4] {
            from_fn(|index| {
                let (pair, half) = (index / 2, index % 2);
                line(from_fn(|word| i16::from(group[(half * 8 + word / 2) * GROUP + 2 * pair + word % 2])))
            })
        };
        let lines = packed.weights.as_chunks::<{ GROUP * LANES }>().0.iter().flat_map(of_group).collect();
        let starts = (0..=packed.stored / LANES).map(|block| [block * packed.products(), 0]).collect();
        Self { lines, units: Vec::new(), starts, correction: vec![0; packed.stored] }
    }
}

/// The size of the weights that are summed in an i16 lane: two of each group.
fn lane_size(groups: &[[i8; GROUP * LANES]], lane: usize) -> Size {
    Size::of(groups.iter().flat_map(|group| [group[2 * lane], group[2 * lane + 1]]))
}

/// The centers of each lane's sum over `groups` and nonnegative inputs; `None` if a sum may not fit.
fn centers(groups: &[[i8; GROUP * LANES]]) -> Option<[i32; 2 * LANES]> {
    let mut centers = [0; 2 * LANES];
    for (lane, center) in centers.iter_mut().enumerate() {
        *center = lane_size(groups, lane).center(true)?;
    }
    Some(centers)
}

/// # Safety
///
/// The CPU has AVX2 and `check_dense` was passed, which gave `count`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dense(job: &Dense<'_>, count: usize, output: &mut Output<'_>) {
    let packed = job.weights;
    let [signed, nonnegative] = &packed.avx2;
    // SAFETY: the caller's promise; the stream is that of the weights and of the inputs' sign.
    unsafe {
        if job.nonnegative {
            let stream = nonnegative.get_or_init(|| Stream::units(packed));
            dense_tiles::<UNIT_ROWS, false>(job, stream, count, output);
        } else {
            let stream = signed.get_or_init(|| Stream::words(packed));
            dense_tiles::<WORD_ROWS, true>(job, stream, count, output);
        }
    }
}

/// All outputs, `ROWS` pixels and sixteen channels at a time.
///
/// # Safety
///
/// The CPU has AVX2, `check_dense` was passed and gave `count`, and `stream` is that of the weights: words if `WORDS`.
#[target_feature(enable = "avx2,fma")]
unsafe fn dense_tiles<const ROWS: usize, const WORDS: bool>(
    job: &Dense<'_>,
    stream: &Stream,
    count: usize,
    output: &mut Output<'_>,
) {
    let (packed, products) = (job.weights, job.weights.products());
    let direct = !WORDS && matches!(job.rows, Rows::Same { .. });
    let stride = if direct { job.input_stride } else { products.next_multiple_of(32) };
    let used = products.next_multiple_of(32) * if WORDS { 2 } else { 1 };
    let height = (TILE / used).clamp(ROWS, 48) / ROWS * ROWS;
    let mut copied = vec![0u8; if direct { 0 } else { height * stride }];
    let mut words = vec![0i16; if WORDS { height * stride } else { 0 }];
    for first in (0..count).step_by(height) {
        let height = height.min(count - first);
        let source = if direct {
            // SAFETY: the input has `count` rows.
            unsafe { job.input.as_ptr().cast::<u8>().add(first * stride) }
        } else {
            gather(job, first, &mut copied[..height * stride], stride, 0);
            if WORDS {
                for (word, &byte) in words.iter_mut().zip(&copied[..height * stride]) {
                    *word = i16::from(byte as i8);
                }
                words.as_ptr().cast()
            } else {
                copied.as_ptr()
            }
        };
        let stride = if WORDS { 2 * stride } else { stride };
        for block in 0..packed.stored / LANES {
            let channel = block * LANES;
            let ([lines, units], [lines_end, units_end]) = (stream.starts[block], stream.starts[block + 1]);
            let (lines, units) = (&stream.lines[lines..lines_end], &stream.units[units..units_end]);
            // SAFETY: all have an entry a stored channel.
            let factors = unsafe { Factors::load(job.bias, &stream.correction, job.multiplier, job.slope, channel) };
            for row in (0..height).step_by(ROWS) {
                let valid = ROWS.min(height - row);
                // SAFETY: rows of `source` up to `height`, each of all products; the lines are those of the block.
                let sums = unsafe {
                    let rows: [*const u8; ROWS] = from_fn(|index| source.add((row + index.min(valid - 1)) * stride));
                    if WORDS {
                        sum_words(rows, lines, factors.bias)
                    } else {
                        sum_units(rows, lines.as_ptr().cast(), units, factors.bias)
                    }
                };
                let start = (first + row) * job.output_stride + channel;
                match output {
                    Output::I8 { values, low, high } => {
                        let limits = limits(*low, *high);
                        for (index, &sums) in sums.iter().enumerate().take(valid) {
                            let bytes = narrow(factors.scale(sums), limits);
                            // SAFETY: the output has `count` rows of all stored channels.
                            unsafe {
                                let target = values.as_mut_ptr().add(start + index * job.output_stride);
                                _mm_storeu_si128(target.cast(), bytes);
                            }
                        }
                    }
                    Output::F32 { values } => {
                        for (index, &sums) in sums.iter().enumerate().take(valid) {
                            let [a, b] = factors.scale(sums);
                            // SAFETY: the output has `count` rows of all stored channels.
                            unsafe {
                                let target = values.as_mut_ptr().add(start + index * job.output_stride);
                                _mm256_storeu_ps(target, a);
                                _mm256_storeu_ps(target.add(8), b);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The sums of sixteen output channels (eight a register) for each of the rows of words, from `start` on.
///
/// # Safety
///
/// The CPU has AVX2, the lines are those of whole groups, and at each row a pair of words can be read for every two lines.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_words<const ROWS: usize>(
    rows: [*const u8; ROWS],
    lines: &[Line],
    start: [__m256i; 2],
) -> [[__m256i; 2]; ROWS] {
    let mut sums = [start; ROWS];
    let mut at = 0usize;
    // A group at a time: with less in the loop the compiler moves the sums from register to register, which takes half of the time.
    for lines in lines.as_chunks::<GROUP>().0 {
        for (pair, lines) in lines.as_chunks::<2>().0.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = lines.each_ref().map(|line| _mm256_load_si256((&raw const *line).cast()));
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let input = _mm256_set1_epi32(row.add(at.wrapping_add(4 * pair)).cast::<i32>().read_unaligned());
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(input, weights));
                    }
                }
            }
        }
        at = at.wrapping_add(2 * GROUP);
    }
    sums
}

/// The sums of sixteen output channels (eight a register) for each of the rows, from `start` on.
///
/// # Safety
///
/// The CPU has AVX2, `lines` are those of `units`, and at each row as many inputs as these have can be read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_units<const ROWS: usize>(
    mut rows: [*const u8; ROWS],
    mut lines: *const __m256i,
    units: &[u8],
    start: [__m256i; 2],
) -> [[__m256i; 2]; ROWS] {
    let mut sums = [start; ROWS];
    for &unit in units {
        // SAFETY: the caller's promise.
        unsafe {
            lines = match unit {
                4 => sum_unit::<ROWS, 4>(&mut sums, &mut rows, lines),
                2 => sum_unit::<ROWS, 2>(&mut sums, &mut rows, lines),
                _ => sum_unit::<ROWS, 1>(&mut sums, &mut rows, lines),
            };
        }
    }
    sums
}

/// Adds a unit of `GROUPS` groups. Moves the rows past its inputs and returns the lines after its own.
///
/// # Safety
///
/// The CPU has AVX2, the lines are those of the unit, and its inputs can be read at each row.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum_unit<const ROWS: usize, const GROUPS: usize>(
    sums: &mut [[__m256i; 2]; ROWS],
    rows: &mut [*const u8; ROWS],
    lines: *const __m256i,
) -> *const __m256i {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's promise.
    unsafe {
        let centers = [_mm256_load_si256(lines), _mm256_load_si256(lines.add(1))];
        let mut words = [centers; ROWS];
        for group in 0..GROUPS {
            let weights = [_mm256_load_si256(lines.add(2 + 2 * group)), _mm256_load_si256(lines.add(3 + 2 * group))];
            for (words, row) in words.iter_mut().zip(*rows) {
                let input = _mm256_set1_epi32(row.add(GROUP * group).cast::<i32>().read_unaligned());
                for (word, weight) in words.iter_mut().zip(weights) {
                    *word = _mm256_add_epi16(*word, _mm256_maddubs_epi16(input, weight));
                }
            }
        }
        for (sums, words) in sums.iter_mut().zip(words) {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(word, ones));
            }
        }
        for row in rows.iter_mut() {
            *row = row.wrapping_add(GROUP * GROUPS);
        }
        lines.add(2 + 2 * GROUPS)
    }
}
