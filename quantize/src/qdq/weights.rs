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

/// What belongs to the weights of one node.
pub(super) struct FloatWeights<'a> {
    pub values: &'a [f32],
    pub dims: &'a [i64],
    /// The axis of output channels.
    pub axis: usize,
    pub bias: Option<&'a [f32]>,
    pub input_scale: f32,
    /// Mean of each channel of the input, where the bias is to make up for the rounding of the weights (Nagel et al. 2019, section 4.2).
    pub means: Option<&'a [f64]>,
}

/// Quantizes weights along their axis of output channels.
///
/// The threshold of a channel is the share of its largest magnitude (0.60 to 1.00) with the smallest squared error. A channel that is all
/// zeros, or so small that the bias would not fit, gets a larger scale. With a grouped transposed convolution the bias has several elements
/// for each channel of the axis: element `m` has channel `m % dims[axis]`.
///
/// Weights of one kernel window are rounded so that their sum stays within half a step: what lies under a window is much alike, so that it
/// is the sum that counts (a depthwise kernel that finds edges has to give 0 where there is none).
pub(super) fn integer_weights(weights: &FloatWeights<'_>) -> IntegerWeights {
    let FloatWeights { values, dims, axis, bias, input_scale, means } = *weights;
    let side = |d: &i64| usize::try_from(*d).unwrap_or_default();
    let channels = side(&dims[axis]).max(1);
    let inner = dims[axis + 1..].iter().map(side).product::<usize>().max(1);
    let window = dims.get(2..).unwrap_or_default().iter().map(side).product::<usize>().max(1);
    let channel = |i: usize| i / inner % channels;
    let mut by_channel: Vec<Vec<f32>> = vec![Vec::with_capacity(values.len() / channels); channels];
    for (i, v) in values.iter().enumerate() {
        by_channel[channel(i)].push(*v);
    }
    let mut scales: Vec<f32> = by_channel.iter().map(|v| channel_scale(v).max(SMALLEST_SCALE)).collect();
    for (m, b) in bias.into_iter().flatten().enumerate() {
        let least = f64::from(b.abs()) / LARGEST_BIAS / f64::from(input_scale);
        let scale = &mut scales[m % channels];
        *scale = scale.max((least * (1.0 + 1e-6)) as f32);
    }
    let mut integers = Vec::with_capacity(values.len());
    for (k, kernel) in values.chunks(window).enumerate() {
        integers.extend(rounded(kernel, scales[channel(k * window)]));
    }
    let corrected = means.filter(|_| axis == 0).and_then(|means| {
        let back = integers.iter().enumerate().map(|(i, q)| f32::from(*q) * scales[channel(i)]);
        let lost: Vec<f64> = values.iter().zip(back).map(|(v, q)| f64::from(*v) - f64::from(q)).collect();
        let shifts = shifts(&lost, channels, side(&dims[1]), window, means)?;
        let bias = bias.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec);
        Some(bias.iter().zip(shifts).map(|(b, s)| (f64::from(*b) + s) as f32).collect::<Vec<f32>>())
    });
    let bias = corrected.or_else(|| bias.map(<[f32]>::to_vec));
    let bias = bias.map(|bias| {
        let scales: Vec<f32> = (0..bias.len()).map(|m| input_scale * scales[m % channels]).collect();
        let level = |(b, s): (&f32, &f32)| (f64::from(*b) / f64::from(*s)).round_ties_even() as i32;
        (bias.iter().zip(&scales).map(level).collect(), scales)
    });
    IntegerWeights { values: integers, scales, bias }
}

/// Rounds the weights of one window so that their sum is within half a step of what it was.
fn rounded(kernel: &[f32], scale: f32) -> Vec<i8> {
    let exact: Vec<f32> = kernel.iter().map(|v| (v / scale).clamp(-LARGEST, LARGEST)).collect();
    let mut levels: Vec<f32> = exact.iter().map(|v| v.round_ties_even()).collect();
    let mut lost: f32 = exact.iter().zip(&levels).map(|(v, q)| v - q).sum();
    while kernel.len() > 1 && lost.abs() > 0.5 {
        let step = lost.signum();
        let gain = |i: usize| (exact[i] - levels[i]) * step;
        let may_move = |i: &usize| (levels[*i] + step).abs() <= LARGEST && gain(*i) > 0.0;
        let Some(best) = (0..levels.len()).filter(may_move).max_by(|a, b| gain(*a).total_cmp(&gain(*b))) else { break };
        levels[best] += step;
        lost -= step;
    }
    levels.into_iter().map(|q| q as i8).collect()
}

/// What rounding takes from the mean of each output channel: lost weights times the means of the inputs under them. `None` where the means
/// are not those of the input.
fn shifts(lost: &[f64], channels: usize, in_group: usize, window: usize, means: &[f64]) -> Option<Vec<f64>> {
    let groups = means.len() / in_group.max(1);
    if groups == 0 || groups * in_group != means.len() || !channels.is_multiple_of(groups) {
        return None;
    }
    let mut shifts = vec![0.0; channels];
    for (k, kernel) in lost.chunks(window).enumerate() {
        let (m, j) = (k / in_group, k % in_group);
        let input = m / (channels / groups) * in_group + j;
        shifts[m] += kernel.iter().sum::<f64>() * means[input];
    }
    Some(shifts)
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
