//! The implementation that every machine runs, and that says what the others must give.

use super::{
    Dense, Depthwise, GROUP, Kernels, LANES, Output, check_dense, check_depthwise, check_planes, gather, inside,
};

/// Plain Rust.
pub(super) struct Portable;

/// An integer sum, bias added, to its f32 value.
#[inline(always)]
pub(super) fn scale(sum: i32, bias: i32, multiplier: f32, slope: f32) -> f32 {
    let value = sum.wrapping_add(bias) as f32 * multiplier;
    value.max(value * slope)
}

/// Clamps to `low..=high` and rounds to the nearest integer, ties to even. NaN gives `low`.
#[inline(always)]
pub(super) fn round(value: f32, low: i8, high: i8) -> i8 {
    value.max(f32::from(low)).min(f32::from(high)).round_ties_even() as i8
}

impl Kernels for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn dense(&self, job: &Dense<'_>, mut output: Output<'_>) {
        let count = check_dense(job, &output);
        let products = job.weights.products();
        let mut row = vec![0u8; products];
        for pixel in 0..count {
            gather(job, pixel, &mut row, products, 0);
            for (block, weights) in job.weights.weights.chunks_exact(products * LANES).enumerate() {
                let mut sums = [0i32; LANES];
                for (x, w) in row.as_chunks::<GROUP>().0.iter().zip(weights.as_chunks::<{ GROUP * LANES }>().0) {
                    for (sum, w) in sums.iter_mut().zip(w.as_chunks::<GROUP>().0) {
                        for (&x, &w) in x.iter().zip(w) {
                            *sum = sum.wrapping_add(i32::from(x as i8) * i32::from(w));
                        }
                    }
                }
                let (channel, start) = (block * LANES, pixel * job.output_stride + block * LANES);
                let factors = job.bias[channel..].iter().zip(&job.multiplier[channel..]);
                match &mut output {
                    Output::I8 { values, low, high } => {
                        let targets = &mut values[start..start + LANES];
                        for ((target, &sum), (&bias, &multiplier)) in targets.iter_mut().zip(&sums).zip(factors) {
                            *target = round(scale(sum, bias, multiplier, job.slope), *low, *high);
                        }
                    }
                    Output::F32 { values } => {
                        let targets = &mut values[start..start + LANES];
                        for ((target, &sum), (&bias, &multiplier)) in targets.iter_mut().zip(&sums).zip(factors) {
                            *target = scale(sum, bias, multiplier, job.slope);
                        }
                    }
                }
            }
        }
    }

    fn depthwise(&self, job: &Depthwise<'_>, output: &mut [i8]) {
        check_depthwise(job, output);
        let ([rows, columns], channels) = (job.kernel, job.channels);
        for y in 0..job.output_height {
            let (top, bottom) = inside(y, job.stride[0], job.pads[0], rows, job.height);
            for x in 0..job.output_width {
                let (left, right) = inside(x, job.stride[1], job.pads[1], columns, job.width);
                for block in (0..channels).step_by(LANES) {
                    let mut sums = [0i32; LANES];
                    for ky in top..bottom {
                        let row = (y * job.stride[0] + ky - job.pads[0]) * job.width;
                        for kx in left..right {
                            let start = (row + x * job.stride[1] + kx - job.pads[1]) * channels + block;
                            let weights = (ky * columns + kx) * channels + block;
                            let values = job.input[start..start + LANES].iter();
                            let weights = &job.weights.weights[weights..weights + LANES];
                            for ((sum, &value), &weight) in sums.iter_mut().zip(values).zip(weights) {
                                *sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
                            }
                        }
                    }
                    let start = (y * job.output_width + x) * channels + block;
                    let factors = job.bias[block..].iter().zip(&job.multiplier[block..]);
                    let targets = &mut output[start..start + LANES];
                    for ((target, &sum), (&bias, &multiplier)) in targets.iter_mut().zip(&sums).zip(factors) {
                        *target = round(scale(sum, bias, multiplier, job.slope), job.low, job.high);
                    }
                }
            }
        }
    }

    fn add(&self, a: &[i8], ma: f32, b: &[i8], mb: f32, low: i8, high: i8, output: &mut [i8]) {
        assert!(a.len() == output.len() && b.len() == output.len(), "a, b, output: equally long");
        for ((target, &a), &b) in output.iter_mut().zip(a).zip(b) {
            *target = round(f32::from(a) * ma + f32::from(b) * mb, low, high);
        }
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

/// [`Kernels::quantize`] of the pixels from `first` on.
#[inline(always)]
pub(super) fn quantize_from(
    first: usize,
    planes: &[f32],
    channels: usize,
    pixels: usize,
    scale: f32,
    stored: usize,
    output: &mut [i8],
) {
    for pixel in first..pixels {
        let row = &mut output[pixel * stored..(pixel + 1) * stored];
        for (channel, target) in row.iter_mut().enumerate() {
            let value = if channel < channels { planes[channel * pixels + pixel] / scale } else { 0.0 };
            *target = if value.is_nan() { 0 } else { round(value, i8::MIN, i8::MAX) };
        }
    }
}

/// [`Kernels::dequantize`] of the pixels from `first` on.
#[inline(always)]
pub(super) fn dequantize_from(
    first: usize,
    input: &[i8],
    stored: usize,
    channels: usize,
    pixels: usize,
    scale: f32,
    planes: &mut [f32],
) {
    for pixel in first..pixels {
        for channel in 0..channels {
            planes[channel * pixels + pixel] = f32::from(input[pixel * stored + channel]) * scale;
        }
    }
}
