//! Integer (i8) kernels: dense and depthwise convolution, addition, and the steps between f32 planes and i8 pixels.
//!
//! Tensors of i8 are NHWC with the channels padded to a multiple of [`LANES`]. Every implementation of [`Kernels`] gives
//! exactly the results of the portable one, so a model's outputs do not depend on the machine.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions on raw pointers; every entry checks its lengths first")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions on raw pointers; every entry checks its lengths first")]
mod avx512;
mod check;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "vector instructions on raw pointers; every entry checks its lengths first")]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use self::check::agrees;

/// How many channels a stored tensor is padded to a multiple of.
pub const LANES: usize = 16;

/// Input channels that lie together in packed dense weights.
pub const GROUP: usize = 4;

/// An input pixel index of [`Rows::Indirect`] that stands for a pixel of zeros.
pub const PADDED: u32 = u32::MAX;

/// Where a dense convolution's results go, and in which form.
///
/// The value of output pixel `p` and stored channel `c` is written at `p * output_stride + c`; the elements between are
/// left as they are.
#[derive(Debug)]
pub enum Output<'a> {
    /// `clamp(round_ties_even(max(x, slope x)), low, high)` of `x = (acc + bias[c]) as f32 * multiplier[c]`.
    I8 {
        /// The output tensor.
        values: &'a mut [i8],
        /// The least value that is written.
        low: i8,
        /// The greatest value that is written, at least `low`.
        high: i8,
    },
    /// `max(x, slope x)` of `x = (acc + bias[c]) as f32 * multiplier[c]`, not clamped.
    F32 {
        /// The output tensor.
        values: &'a mut [f32],
    },
}

/// Which input pixels each output pixel of a dense convolution reads.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// A 1x1 convolution of stride 1: output pixel `p` reads input pixel `p`.
    Same {
        /// How many pixels there are.
        count: usize,
    },
    /// A table of input pixels.
    Indirect {
        /// `offsets[p * taps + t]`: the index of the input pixel that output pixel `p` reads at tap `t`. [`PADDED`] (and
        /// any index past the input's end) reads zeros.
        offsets: &'a [u32],
        /// Taps of the kernel.
        taps: usize,
    },
}

impl Rows<'_> {
    /// How many output pixels there are.
    fn count(&self) -> usize {
        match *self {
            Rows::Same { count } => count,
            Rows::Indirect { offsets, taps } => offsets.len().checked_div(taps).unwrap_or(0),
        }
    }
}

/// One dense (not grouped) convolution.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    /// The input pixels, `input_stride` bytes each.
    pub input: &'a [i8],
    /// Bytes from an input pixel to the next: a multiple of [`LANES`].
    pub input_stride: usize,
    /// Input channels that are read for each tap: those of the packed weights, at most `input_stride`.
    pub depth: usize,
    /// Which input pixels each output pixel reads.
    pub rows: Rows<'a>,
    /// The weights.
    pub weights: &'a PackedDense,
    /// Added to the integer sum: one entry a stored output channel.
    pub bias: &'a [i32],
    /// What the sum is multiplied by: one finite entry a stored output channel.
    pub multiplier: &'a [f32],
    /// What a negative product of sum and multiplier is multiplied by, 0 to 1: 1 leaves it as it is, less is a leaky ReLU.
    pub slope: f32,
    /// The caller's promise that no input value is negative. If it is broken the results are wrong, nothing else.
    pub nonnegative: bool,
    /// Elements from an output pixel to the next, at least the stored output channels.
    pub output_stride: usize,
}

/// One depthwise convolution, of dilation 1.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a> {
    /// The input, `[height, width, channels]`.
    pub input: &'a [i8],
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Stored channels of input and output: a multiple of [`LANES`].
    pub channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps down and to the right.
    pub stride: [usize; 2],
    /// Zeros around the input: top, left, bottom, right. Only the first two are read: the output's size says the rest.
    pub pads: [usize; 4],
    /// The weights.
    pub weights: &'a PackedDepthwise,
    /// Added to the integer sum: one entry a stored channel.
    pub bias: &'a [i32],
    /// What the sum is multiplied by: one finite entry a stored channel.
    pub multiplier: &'a [f32],
    /// What a negative product of sum and multiplier is multiplied by, 0 to 1: 1 leaves it as it is, less is a leaky ReLU.
    pub slope: f32,
    /// The least value that is written.
    pub low: i8,
    /// The greatest value that is written, at least `low`.
    pub high: i8,
    /// Rows of the output.
    pub output_height: usize,
    /// Columns of the output.
    pub output_width: usize,
    /// The caller's promise that no input value is negative. If it is broken the results are wrong, nothing else.
    pub nonnegative: bool,
}

/// Why weights could not be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackError {
    /// The number of weights is not the product of the dimensions, or a dimension is zero.
    Shape,
    /// A weight is -128: only -127..=127 are allowed.
    Range,
}

impl std::fmt::Display for PackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PackError::Shape => "the number of weights does not fit the dimensions",
            PackError::Range => "an i8 weight is -128; only -127 to 127 are allowed",
        })
    }
}

impl std::error::Error for PackError {}

/// Checks that there are as many weights as the dimensions say and that none is -128.
fn check_weights(weights: &[i8], dimensions: &[usize]) -> Result<(), PackError> {
    let product = dimensions.iter().try_fold(1usize, |product, &dimension| product.checked_mul(dimension));
    if product != Some(weights.len()) || weights.is_empty() {
        return Err(PackError::Shape);
    }
    if weights.contains(&i8::MIN) { Err(PackError::Range) } else { Ok(()) }
}

/// A dense convolution's weights in the order the kernels read them.
#[derive(Debug)]
pub struct PackedDense {
    /// Output channels, padded to a multiple of [`LANES`].
    stored: usize,
    /// Taps of the kernel.
    taps: usize,
    /// Input channels a tap, padded to a multiple of [`GROUP`].
    depth: usize,
    /// `[stored / 16][taps * depth / 4][16][4]`.
    weights: Vec<i8>,
    /// The sum of each stored output channel's weights.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    sums: Vec<i32>,
    /// What the AVX2 kernel reads in place of `weights`, for signed and for nonnegative inputs; made when first used.
    #[cfg(target_arch = "x86_64")]
    avx2: [OnceLock<avx2::Stream>; 2],
}

impl PackedDense {
    /// Packs `weights`, `[out][taps][depth]`, all in -127..=127.
    ///
    /// # Errors
    ///
    /// If there are not `out * taps * depth` weights, or none, or if a weight is -128.
    pub fn new(weights: &[i8], out: usize, taps: usize, depth: usize) -> Result<Self, PackError> {
        check_weights(weights, &[out, taps, depth])?;
        let stored = out.next_multiple_of(LANES);
        let padded = depth.next_multiple_of(GROUP);
        let groups = taps * padded / GROUP;
        let mut packed = vec![0i8; stored * taps * padded];
        let mut sums = vec![0i32; stored];
        for (channel, of_channel) in weights.chunks_exact(taps * depth).enumerate() {
            let block = channel / LANES * groups * LANES * GROUP + channel % LANES * GROUP;
            for (tap, of_tap) in of_channel.chunks_exact(depth).enumerate() {
                for (index, &weight) in of_tap.iter().enumerate() {
                    let k = tap * padded + index;
                    packed[block + k / GROUP * LANES * GROUP + k % GROUP] = weight;
                    sums[channel] += i32::from(weight);
                }
            }
        }
        Ok(Self {
            stored,
            taps,
            depth: padded,
            weights: packed,
            sums,
            #[cfg(target_arch = "x86_64")]
            avx2: Default::default(),
        })
    }

    /// Output channels, padded to a multiple of [`LANES`].
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Input channels a tap, padded to a multiple of [`GROUP`].
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Products summed for one output value.
    fn products(&self) -> usize {
        self.taps * self.depth
    }
}

/// A depthwise convolution's weights in the order the kernels read them.
#[derive(Debug)]
pub struct PackedDepthwise {
    /// Channels, padded to a multiple of [`LANES`].
    stored: usize,
    /// Rows and columns of the kernel.
    kernel: [usize; 2],
    /// `[taps][stored]`.
    weights: Vec<i8>,
    /// What the AVX2 kernel reads in place of `weights`, for signed and for nonnegative inputs; made when first used.
    #[cfg(target_arch = "x86_64")]
    avx2: [OnceLock<avx2::Plan>; 2],
}

impl PackedDepthwise {
    /// Packs `weights`, `[channels][kernel rows][kernel columns]`, all in -127..=127.
    ///
    /// # Errors
    ///
    /// If the number of weights does not fit, or is zero, or if a weight is -128.
    pub fn new(weights: &[i8], channels: usize, kernel: [usize; 2]) -> Result<Self, PackError> {
        check_weights(weights, &[channels, kernel[0], kernel[1]])?;
        let taps = kernel[0] * kernel[1];
        let stored = channels.next_multiple_of(LANES);
        let mut packed = vec![0i8; taps * stored];
        for (channel, of_channel) in weights.chunks_exact(taps).enumerate() {
            for (tap, &weight) in of_channel.iter().enumerate() {
                packed[tap * stored + channel] = weight;
            }
        }
        Ok(Self {
            stored,
            kernel,
            weights: packed,
            #[cfg(target_arch = "x86_64")]
            avx2: Default::default(),
        })
    }

    /// Channels, padded to a multiple of [`LANES`].
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// Rows and columns of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }
}

/// One machine's implementation. All give exactly the same results.
///
/// Every method panics if a slice is shorter than its shape asks, and in no other case.
pub trait Kernels: Send + Sync {
    /// The implementation's name: "portable", "avx2", "avx512-vnni", "neon" or "neon-dotprod".
    fn name(&self) -> &'static str;

    /// A dense convolution. The integer sums must fit an i32 (at most 131071 products do); they wrap otherwise.
    fn dense(&self, job: &Dense<'_>, output: Output<'_>);

    /// A depthwise convolution into `output`, `[output_height, output_width, channels]`:
    /// `clamp(round_ties_even(max(x, slope x)), low, high)` of `x = (acc + bias[c]) as f32 * multiplier[c]`.
    fn depthwise(&self, job: &Depthwise<'_>, output: &mut [i8]);

    /// `clamp(round_ties_even(a as f32 * ma + b as f32 * mb), low, high)` of each pair of values: two products, each
    /// rounded to f32, and then one sum. `ma` and `mb` are finite; `a`, `b` and `output` are equally long.
    #[allow(clippy::too_many_arguments)]
    fn add(&self, a: &[i8], ma: f32, b: &[i8], mb: f32, low: i8, high: i8, output: &mut [i8]);

    /// f32 `planes`, `[channels, pixels]`, to i8 `output`, `[pixels, stored]`:
    /// `clamp(round_ties_even(x / scale), -128, 127)`, and 0 for NaN and for the channels from `channels` to `stored`
    /// (a multiple of [`LANES`]).
    fn quantize(&self, planes: &[f32], channels: usize, pixels: usize, scale: f32, stored: usize, output: &mut [i8]);

    /// i8 `input`, `[pixels, stored]`, to f32 `planes`, `[channels, pixels]`: `q as f32 * scale`.
    fn dequantize(&self, input: &[i8], stored: usize, channels: usize, pixels: usize, scale: f32, planes: &mut [f32]);
}

/// The implementations that this CPU can run, the slowest (portable) first.
pub fn available() -> Vec<&'static dyn Kernels> {
    #[allow(unused_mut)]
    let mut kernels: Vec<&'static dyn Kernels> = vec![&portable::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(avx2::Avx2::get().map(|found| found as &dyn Kernels));
        kernels.extend(avx512::Avx512::get().map(|found| found as &dyn Kernels));
    }
    #[cfg(target_arch = "aarch64")]
    {
        kernels.extend(neon::Neon::get().map(|found| found as &dyn Kernels));
        kernels.extend(neon::Neon::get_dotprod().map(|found| found as &dyn Kernels));
    }
    kernels
}

/// The fastest implementation that this CPU can run and that gives, on small layers, what the portable one gives.
pub fn best() -> &'static dyn Kernels {
    static BEST: OnceLock<&'static dyn Kernels> = OnceLock::new();
    *BEST.get_or_init(|| available().into_iter().rev().find(|found| agrees(*found)).unwrap_or(&portable::Portable))
}

/// Asserts that a dense job's slices are as long as its shape says. Returns how many output pixels there are.
fn check_dense(job: &Dense<'_>, output: &Output<'_>) -> usize {
    let (stored, count) = (job.weights.stored, job.rows.count());
    assert!(
        job.depth == job.weights.depth && job.depth <= job.input_stride,
        "depth: that of the weights, in the stride"
    );
    match job.rows {
        Rows::Same { count } => {
            assert!(job.weights.taps == 1, "only one tap reads the same rows");
            assert!(fits(count, job.input_stride, job.depth, job.input.len()), "input: one row a pixel");
        }
        Rows::Indirect { taps, .. } => assert!(taps == job.weights.taps, "taps: those of the weights"),
    }
    assert!(job.bias.len() >= stored && job.multiplier.len() >= stored, "bias, multiplier: one a stored channel");
    let length = match output {
        Output::I8 { values, .. } => values.len(),
        Output::F32 { values } => values.len(),
    };
    assert!(job.output_stride >= stored && fits(count, job.output_stride, stored, length), "output: one row a pixel");
    count
}

/// Whether `count` rows, `used` elements of every `stride`, fit in `length` elements.
fn fits(count: usize, stride: usize, used: usize, length: usize) -> bool {
    let last = count.saturating_sub(1).checked_mul(stride).and_then(|start| start.checked_add(used));
    count == 0 || last.is_some_and(|end| end <= length)
}

/// Whether the product of `dimensions` is at most `length`.
fn holds(dimensions: &[usize], length: usize) -> bool {
    let product = dimensions.iter().try_fold(1usize, |product, &dimension| product.checked_mul(dimension));
    product.is_some_and(|product| product <= length)
}

/// Asserts that a depthwise job's slices are as long as its shape says.
fn check_depthwise(job: &Depthwise<'_>, output: &[i8]) {
    let channels = job.channels;
    assert!(channels == job.weights.stored && job.kernel == job.weights.kernel, "shape: that of the weights");
    let sane = |value: &usize| *value <= u16::MAX as usize;
    assert!(job.stride.iter().all(|stride| *stride > 0 && sane(stride)), "stride: 1 to 65535");
    assert!(job.pads.iter().all(sane), "pads: at most 65535");
    assert!(holds(&[job.height, job.width, channels], job.input.len()), "input: height x width x channels");
    assert!(holds(&[job.output_height, job.output_width, channels], output.len()), "output: height x width x channels");
    assert!(job.bias.len() >= channels && job.multiplier.len() >= channels, "bias, multiplier: one a stored channel");
}

/// Asserts that the tensors of a [`Kernels::quantize`] or [`Kernels::dequantize`] are as long as the shape says.
fn check_planes(planes: usize, channels: usize, pixels: usize, stored: usize, packed: usize) {
    assert!(channels <= stored && stored.is_multiple_of(LANES), "stored: at least the channels, a multiple of 16");
    assert!(
        holds(&[channels, pixels], planes) && holds(&[pixels, stored], packed),
        "planes, pixels: as the shape says"
    );
}

/// The taps `first..end` of a kernel of `kernel` taps at `position` (of the output) that lie inside an input of `size`.
#[inline]
fn inside(position: usize, stride: usize, pad: usize, kernel: usize, size: usize) -> (usize, usize) {
    let start = position * stride;
    let first = pad.saturating_sub(start).min(kernel);
    let end = (size + pad).saturating_sub(start).min(kernel);
    (first, end.max(first))
}

/// Copies what the output pixels from `first` on read to `tile`, one row of `stride` bytes a pixel, every byte xor `flip`.
/// A row holds `[tap][depth]`; its bytes past `taps * depth` are left as they are. Padding reads as zeros (xor `flip`).
#[inline(always)]
fn gather(job: &Dense<'_>, first: usize, tile: &mut [u8], stride: usize, flip: u8) {
    let rows = tile.chunks_exact_mut(stride);
    match job.rows {
        Rows::Same { .. } => {
            for (source, row) in job.input.chunks(job.input_stride).skip(first).zip(rows) {
                copy(source.get(..job.depth).unwrap_or(source), row, flip);
            }
        }
        Rows::Indirect { offsets, taps } => {
            for (offsets, row) in offsets.chunks_exact(taps).skip(first).zip(rows) {
                if job.depth == GROUP {
                    for (&offset, target) in offsets.iter().zip(row.as_chunks_mut::<GROUP>().0) {
                        let start = (offset as usize).saturating_mul(job.input_stride);
                        let source = job.input.get(start..).and_then(|source| source.first_chunk::<GROUP>());
                        *target = source.copied().unwrap_or_default().map(|value| value as u8 ^ flip);
                    }
                    continue;
                }
                for (&offset, target) in offsets.iter().zip(row.chunks_exact_mut(job.depth)) {
                    let start = (offset as usize).saturating_mul(job.input_stride);
                    match job.input.get(start..start.saturating_add(job.depth)) {
                        Some(source) => copy(source, target, flip),
                        None => target.fill(flip),
                    }
                }
            }
        }
    }
}

/// Copies `source`, a multiple of [`GROUP`] values, to the start of `target`, every byte xor `flip`.
#[inline(always)]
fn copy(source: &[i8], target: &mut [u8], flip: u8) {
    let (wide, rest) = source.as_chunks::<LANES>();
    let (wide_target, rest_target) = target.split_at_mut(wide.len() * LANES);
    for (source, target) in wide.iter().zip(wide_target.as_chunks_mut::<LANES>().0) {
        *target = source.map(|value| value as u8 ^ flip);
    }
    for (source, target) in rest.as_chunks::<GROUP>().0.iter().zip(rest_target.as_chunks_mut::<GROUP>().0) {
        *target = source.map(|value| value as u8 ^ flip);
    }
}
