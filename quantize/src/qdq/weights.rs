//! Weights and biases as integers.

use crate::calibrate::LARGEST;

/// Largest magnitude of a quantized bias: half of i32's, so that the sum of products has room beside it.
const LARGEST_BIAS: f64 = (1 << 30) as f64;
/// Smallest scale of weights: its product with the scale of an input stays a normal f32.
const SMALLEST_SCALE: f32 = 1e-20;
/// Shares of the largest magnitude that are tried as the threshold of a channel.
const SHARES: std::ops::RangeInclusive<u32> = 60..=100;

/// Weights with a scale for each channel, and the bias to them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IntegerWeights {
    pub values: Vec<i8>,
    /// By channel along the axis.
    pub scales: Vec<f32>,
    /// The bias and its scales, one for each element.
    pub bias: Option<(Vec<i32>, Vec<f32>)>,
}

/// Quantizes weights of shape `dims` along `axis`.
///
/// The threshold of a channel is the share of its largest magnitude (0.60 to 1.00) with the smallest squared error. A channel that is all
/// zeros, or so small that the bias would not fit, gets a larger scale. With a grouped transposed convolution the bias has several elements
/// for each channel of the axis: element `m` has channel `m % dims[axis]`.
pub(super) fn integer_weights(
    values: &[f32],
    dims: &[i64],
    axis: usize,
    bias: Option<&[f32]>,
    input_scale: f32,
) -> IntegerWeights {
    let channels = usize::try_from(dims[axis]).unwrap_or_default().max(1);
    let inner: usize =
        dims[axis + 1..].iter().map(|d| usize::try_from(*d).unwrap_or_default()).product::<usize>().max(1);
    let mut by_channel: Vec<Vec<f32>> = vec![Vec::with_capacity(values.len() / channels); channels];
    for (i, v) in values.iter().enumerate() {
        by_channel[i / inner % channels].push(*v);
    }
    let mut scales: Vec<f32> = by_channel.iter().map(|v| channel_scale(v).max(SMALLEST_SCALE)).collect();
    for (m, b) in bias.into_iter().flatten().enumerate() {
        let least = f64::from(b.abs()) / LARGEST_BIAS / f64::from(input_scale);
        let scale = &mut scales[m % channels];
        *scale = scale.max((least * (1.0 + 1e-6)) as f32);
    }
    let level = |i: usize, v: f32| (v / scales[i / inner % channels]).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
    let values = values.iter().enumerate().map(|(i, v)| level(i, *v)).collect();
    let bias = bias.map(|bias| {
        let scales: Vec<f32> = (0..bias.len()).map(|m| input_scale * scales[m % channels]).collect();
        let level = |(b, s): (&f32, &f32)| (f64::from(*b) / f64::from(*s)).round_ties_even() as i32;
        (bias.iter().zip(&scales).map(level).collect(), scales)
    });
    IntegerWeights { values, scales, bias }
}

/// The scale with the smallest squared error among those tried; the larger of equals; 0 for a channel of zeros.
fn channel_scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let error = |scale: f32| -> f64 {
        let error = |v: &f32| f64::from(v - (v / scale).round_ties_even().clamp(-LARGEST, LARGEST) * scale).powi(2);
        values.iter().map(error).sum()
    };
    let mut best = (largest / LARGEST, f64::INFINITY);
    if best.0 < SMALLEST_SCALE {
        return best.0;
    }
    for share in SHARES.rev() {
        let scale = largest * share as f32 / 100.0 / LARGEST;
        let error = error(scale);
        if error < best.1 {
            best = (scale, error);
        }
    }
    best.0
}
