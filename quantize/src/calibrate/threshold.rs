//! How large a magnitude 127 shall stand for.

use serde::{Deserialize, Serialize};

use super::Histogram;
use super::histogram::BINS;

/// Largest magnitude of a quantized value: values are in -127..=127.
pub const LARGEST: f32 = 127.0;

/// How thresholds are chosen. A value beyond the threshold is clipped; a lower threshold means finer steps below it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Method {
    /// The largest magnitude: nothing is clipped.
    MinMax,
    /// So that `percent` of all values, zeros included, are not clipped.
    Percentile {
        /// Above 0 and at most 100.
        percent: f64,
    },
    /// The threshold whose 128 levels tell least false of the distribution of magnitudes (smallest Kullback-Leibler divergence; zeros,
    /// which are exact anyway, are left out).
    Entropy,
    /// The smallest mean squared error of clipping and rounding together.
    Mse,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("min-max"),
            Self::Percentile { percent } => write!(f, "percentile {percent}"),
            Self::Entropy => f.write_str("entropy"),
            Self::Mse => f.write_str("mse"),
        }
    }
}

/// Bins that a threshold takes in at the least, where it is searched: one for each positive level and 0.
const FEWEST_BINS: usize = LARGEST as usize + 1;

impl Histogram {
    /// The threshold by `method`: more than 0 and at most the largest magnitude; 0 for a tensor that never was anything but 0.
    pub fn threshold(&self, method: Method) -> f32 {
        let largest = self.largest();
        let bins = match method {
            Method::MinMax => return largest,
            Method::Percentile { percent } => self.percentile(percent),
            Method::Entropy => self.least(|taken| self.divergence(taken)),
            Method::Mse => self.least(|taken| self.squared_error(taken)),
        };
        bins.map_or(largest, |n| ((n as f64 * self.width) as f32).min(largest))
    }

    /// The number of bins that hold, with the zeros, `percent` of all values; `None` where the zeros alone do.
    fn percentile(&self, percent: f64) -> Option<usize> {
        let wanted = (self.finite() as f64 * percent / 100.0).ceil() as u64;
        let mut sum = self.zeros;
        let enough = self.bins.iter().position(|n| {
            sum += n;
            sum >= wanted && sum > self.zeros
        });
        enough.filter(|_| self.zeros < wanted).map(|i| i + 1)
    }

    /// The number of bins with the smallest cost; the larger of equals.
    fn least(&self, cost: impl Fn(usize) -> f64) -> Option<usize> {
        let used = self.bins.iter().rposition(|n| *n > 0)? + 1;
        let mut best: Option<(usize, f64)> = None;
        for taken in (FEWEST_BINS.min(used)..=used).rev() {
            let cost = cost(taken);
            if best.is_none_or(|(_, b)| cost < b) {
                best = Some((taken, cost));
            }
        }
        best.map(|(taken, _)| taken)
    }

    /// Sum over all values of the squared error when the upper edge of bin `taken - 1` becomes 127; each value counts as the centre of
    /// its bin.
    fn squared_error(&self, taken: usize) -> f64 {
        let step = taken as f64 / f64::from(LARGEST); // In bins.
        let error = |(i, n): (usize, &u64)| {
            let centre = i as f64 + 0.5;
            let level = (centre / step).round().min(LARGEST.into());
            *n as f64 * (centre - level * step).powi(2)
        };
        self.bins.iter().enumerate().filter(|(_, n)| **n > 0).map(error).sum()
    }

    /// Kullback-Leibler divergence of the distribution clipped after `taken` bins (what lies beyond counts in the last) from the same one
    /// with all non-empty bins of a level at their mean (TensorRT: 8-bit inference with TensorRT, 2017).
    fn divergence(&self, taken: usize) -> f64 {
        let clipped: u64 = self.bins[taken..].iter().sum();
        let inside = &self.bins[..taken];
        let total = (inside.iter().sum::<u64>() + clipped) as f64;
        let kept: f64 = inside.iter().sum::<u64>() as f64;
        if total == 0.0 || kept == 0.0 {
            return f64::INFINITY;
        }
        let levels = FEWEST_BINS.min(taken);
        let mut sum = 0.0;
        for level in 0..levels {
            let from = level * taken / levels;
            let to = (level + 1) * taken / levels;
            let used = inside[from..to].iter().filter(|n| **n > 0).count();
            let mean = inside[from..to].iter().sum::<u64>() as f64 / used.max(1) as f64 / kept;
            for (i, n) in inside.iter().enumerate().take(to).skip(from) {
                let n = n + if i + 1 == taken { clipped } else { 0 };
                let p = n as f64 / total;
                if p > 0.0 {
                    // A last bin that only holds what was clipped has no counterpart: as far as can be.
                    let q = if inside[i] > 0 { mean } else { f64::MIN_POSITIVE };
                    sum += p * (p / q).ln();
                }
            }
        }
        sum
    }
}

/// The scale of a threshold; that of a tensor that never was anything but 0 is the one of threshold 1.
pub fn scale(threshold: f32) -> f32 {
    let scale = threshold / LARGEST;
    if scale.is_normal() { scale } else { 1.0 / LARGEST }
}

// The last bin of a histogram is a whole number of levels away from 0.
const _: () = assert!(BINS.is_multiple_of(FEWEST_BINS));
