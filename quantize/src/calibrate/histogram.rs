//! What is remembered of a tensor: extremes and a histogram of magnitudes.

use serde::{Deserialize, Serialize};

/// Bins of a histogram.
pub const BINS: usize = 2048;

/// Smallest and largest value of a tensor over all images, and a histogram of the magnitudes of its values other than 0.
///
/// The bins have equal width from 0 on. When a larger magnitude comes than they reach, the width doubles and neighbours are merged, so
/// that memory stays the same whatever comes. Values that are not finite are counted and otherwise ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Smallest finite value.
    pub min: f32,
    /// Largest finite value.
    pub max: f32,
    /// How many values are exactly 0; they are in no bin.
    pub zeros: u64,
    /// How many values are infinite or NaN.
    pub non_finite: u64,
    /// Width of a bin; 0 while nothing but 0 has come.
    pub width: f64,
    /// How many magnitudes lie in `[i width, (i + 1) width)`; the last bin has its upper edge, too. Bins that are left out at the end are
    /// empty.
    pub bins: Vec<u64>,
    /// Sum of the finite values of each channel (second axis); empty where there is none.
    #[serde(default)]
    pub channel_sums: Vec<f64>,
    /// How many values each of them would have if all were finite.
    #[serde(default)]
    pub channel_values: u64,
    /// Largest finite magnitude of each channel.
    #[serde(default)]
    pub channel_max: Vec<f32>,
}

impl Histogram {
    /// Adds a tensor, row-major, whose dimensions are `shape`.
    pub fn add_tensor(&mut self, values: &[f32], shape: &[usize]) {
        self.add(values);
        let [batch, channels, ..] = *shape else { return };
        let plane = values.len() / (batch * channels).max(1);
        if plane == 0 {
            return;
        }
        self.channel_sums.resize(channels, 0.0);
        self.channel_max.resize(channels, 0.0);
        for (i, values) in values.chunks(plane).enumerate() {
            let largest = &mut self.channel_max[i % channels];
            let mut sum = 0.0;
            for v in values.iter().filter(|v| v.is_finite()) {
                sum += f64::from(*v);
                *largest = largest.max(v.abs());
            }
            self.channel_sums[i % channels] += sum;
        }
        self.channel_values += (batch * plane) as u64;
    }

    /// Mean of each channel.
    pub fn channel_means(&self) -> Vec<f64> {
        self.channel_sums.iter().map(|sum| sum / self.channel_values.max(1) as f64).collect()
    }

    /// Adds values.
    pub fn add(&mut self, values: &[f32]) {
        let seen = self.finite() > 0;
        let (mut low, mut high) = if seen { (self.min, self.max) } else { (f32::INFINITY, f32::NEG_INFINITY) };
        for &v in values.iter().filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            self.non_finite += values.len() as u64;
            return;
        }
        (self.min, self.max) = (low, high);
        self.reach(self.largest().into());
        let per_width = if self.width > 0.0 { 1.0 / self.width } else { 0.0 };
        for &v in values {
            if v == 0.0 {
                self.zeros += 1;
            } else if v.is_finite() {
                let bin = (f64::from(v.abs()) * per_width) as usize;
                self.bins[bin.min(BINS - 1)] += 1;
            } else {
                self.non_finite += 1;
            }
        }
    }

    /// Makes the bins reach `magnitude`.
    fn reach(&mut self, magnitude: f64) {
        self.bins.resize(BINS, 0);
        if magnitude == 0.0 {
            return;
        }
        if self.width == 0.0 {
            self.width = magnitude / BINS as f64;
        }
        while magnitude > self.width * BINS as f64 {
            for i in 0..BINS / 2 {
                self.bins[i] = self.bins[2 * i] + self.bins[2 * i + 1];
            }
            self.bins[BINS / 2..].fill(0);
            self.width *= 2.0;
        }
    }

    /// Largest magnitude; 0 when nothing finite has come.
    pub fn largest(&self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// How many finite values have come.
    pub fn finite(&self) -> u64 {
        self.zeros + self.bins.iter().sum::<u64>()
    }

    /// Drops empty bins at the end, for writing.
    pub(super) fn trimmed(mut self) -> Self {
        let used = self.bins.iter().rposition(|n| *n > 0).map_or(0, |i| i + 1);
        self.bins.truncate(used);
        self
    }

    /// Whether a histogram that was read makes sense.
    pub(super) fn is_sound(&self) -> bool {
        let extremes = self.min.is_finite() && self.max.is_finite() && self.min <= self.max;
        let width = self.width.is_finite() && self.width >= 0.0 && (self.width > 0.0) == (self.largest() > 0.0);
        let reach = f64::from(self.largest()) <= self.width * BINS as f64 * (1.0 + 1e-9);
        let countable = self.bins.iter().try_fold(self.zeros, |sum, n| sum.checked_add(*n)).is_some();
        let sums = self.channel_sums.iter().all(|s| s.is_finite()) && self.channel_max.iter().all(|m| *m >= 0.0);
        sums && extremes && width && reach && countable && self.bins.len() <= BINS
    }
}
