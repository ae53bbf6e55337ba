//! How long both bundles take.

use hoi_runtime::pipeline::Timings;
use serde::Serialize;

/// Times of a stage in one bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Median, in milliseconds.
    pub median_ms: f64,
    /// Least, in milliseconds.
    pub best_ms: f64,
}

impl Spread {
    /// Of any number of times; 0 where there are none.
    pub(super) fn new(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let middle = ms.len() / 2;
        let median = match (ms.len() % 2, ms.get(middle)) {
            (0, Some(upper)) => (ms[middle - 1] + upper) / 2.0,
            (_, Some(middle)) => *middle,
            (_, None) => 0.0,
        };
        Self { median_ms: median, best_ms: ms.first().copied().unwrap_or(0.0) }
    }
}

/// Times of a stage in both bundles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageTimes {
    /// The first bundle.
    pub a: Spread,
    /// The second bundle.
    pub b: Spread,
    /// Median of the second over median of the first: under 1 where the second is faster; `null` where the first took no time.
    pub ratio: Option<f64>,
}

impl StageTimes {
    fn new(samples: &[Vec<Timings>; 2], stage: impl Fn(&Timings) -> f64) -> Self {
        let [a, b] = samples.each_ref().map(|all| Spread::new(all.iter().map(&stage).collect()));
        Self { a, b, ratio: (a.median_ms > 0.0).then(|| b.median_ms / a.median_ms) }
    }
}

/// Times of both bundles, measured in turn on the same pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Runs of each bundle on each picture.
    pub rounds: usize,
    /// The detector's network and decoding of its boxes.
    pub detector: StageTimes,
    /// From the picture in memory to the triplets; reading the file is left out.
    pub frame: StageTimes,
}

impl Times {
    pub(super) fn new(samples: &[Vec<Timings>; 2], rounds: usize) -> Self {
        Self {
            rounds,
            detector: StageTimes::new(samples, |t| t.detector),
            frame: StageTimes::new(samples, |t| t.preprocess + t.detector + t.pairs + t.head + t.fusion),
        }
    }
}
