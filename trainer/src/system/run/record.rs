//! What is known of an epoch, and the log as CSV.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// An epoch of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Steps of the optimizer so far.
    pub steps: u64,
    /// Highest learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
    /// Means of the parts of the loss over the batches that have them.
    pub parts: Vec<(String, f64)>,
    /// What was measured after the epoch.
    pub measured: Vec<(String, f64)>,
    /// Mean norm of the gradient before clipping.
    pub gradient: f64,
    /// Pictures seen.
    pub pictures: usize,
    /// Pictures that could not be read.
    pub skipped: usize,
    /// Duration of the epoch's steps.
    pub seconds: f64,
}

impl EpochRecord {
    /// Speed; 0 for an epoch without a step.
    pub fn images_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.pictures as f64 / self.seconds } else { 0.0 }
    }
}

/// Sums over the batches of an epoch that is under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sums {
    /// Batches behind us, those without a loss too.
    pub(super) batches: usize,
    pub(super) losses: usize,
    pub(super) loss: f64,
    /// Name, sum, count.
    pub(super) parts: Vec<(String, f64, usize)>,
    pub(super) gradient: f64,
    pub(super) optimizer_steps: usize,
    pub(super) pictures: usize,
    pub(super) skipped: usize,
    pub(super) seconds: f64,
}

fn mean(sum: f64, count: usize) -> f64 {
    sum / count.max(1) as f64
}

impl Sums {
    pub(super) fn add(&mut self, loss: f64, parts: &[(&'static str, f64)]) {
        self.losses += 1;
        self.loss += loss;
        for &(name, value) in parts {
            match self.parts.iter_mut().find(|(n, ..)| n == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.parts.push((name.to_owned(), value, 1)),
            }
        }
    }

    pub(super) fn record(
        &self,
        epoch: usize,
        steps: u64,
        learning_rate: f64,
        measured: Vec<(String, f64)>,
    ) -> EpochRecord {
        EpochRecord {
            epoch,
            steps,
            learning_rate,
            loss: mean(self.loss, self.losses),
            parts: self.parts.iter().map(|(name, sum, count)| (name.clone(), mean(*sum, *count))).collect(),
            measured,
            gradient: mean(self.gradient, self.optimizer_steps),
            pictures: self.pictures,
            skipped: self.skipped,
            seconds: self.seconds,
        }
    }
}

/// Every name of one kind of columns, in the order of first appearance.
pub(super) fn names(log: &[EpochRecord], of: impl Fn(&EpochRecord) -> &[(String, f64)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in log.iter().flat_map(of) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The value of that name.
pub(super) fn value(values: &[(String, f64)], name: &str) -> Option<f64> {
    values.iter().find(|(n, _)| n == name).map(|&(_, v)| v)
}

/// The log as CSV: a row an epoch, parts of the loss and measurements as columns of their own, empty where there was none.
pub(super) fn to_csv(log: &[EpochRecord]) -> String {
    let parts = names(log, |r| &r.parts);
    let measured = names(log, |r| &r.measured);
    let mut text = String::from("epoch,steps,learning_rate,loss");
    for name in parts.iter().chain(&measured) {
        text.push(',');
        text.push_str(name);
    }
    text.push_str(",gradient,pictures,skipped,images_per_second,seconds\n");
    for r in log {
        // Writing to a string cannot fail.
        let _ = write!(text, "{},{},{:.3e},{:.5}", r.epoch, r.steps, r.learning_rate, r.loss);
        for (names, values) in [(&parts, &r.parts), (&measured, &r.measured)] {
            for name in names {
                let _ = match value(values, name) {
                    Some(v) => write!(text, ",{v:.5}"),
                    None => write!(text, ","),
                };
            }
        }
        let (pictures, skipped, speed) = (r.pictures, r.skipped, r.images_per_second());
        let _ = writeln!(text, ",{:.4},{pictures},{skipped},{speed:.1},{:.2}", r.gradient, r.seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_columns_by_hand() {
        let mut sums = Sums { gradient: 6.0, optimizer_steps: 2, pictures: 8, seconds: 4.0, ..Sums::default() };
        sums.add(3.0, &[("a", 1.0)]);
        sums.add(1.0, &[("a", 2.0), ("b", 5.0)]);
        let first = sums.record(1, 2, 1e-3, vec![]);
        assert_eq!((first.loss, first.gradient, first.images_per_second()), (2.0, 3.0, 2.0));
        assert_eq!(first.parts, [("a".to_owned(), 1.5), ("b".to_owned(), 5.0)]);
        let second = Sums::default().record(2, 2, 0.0, vec![("map".to_owned(), 0.25)]);
        let csv = to_csv(&[first, second]);
        assert_eq!(
            csv.lines().collect::<Vec<_>>(),
            [
                "epoch,steps,learning_rate,loss,a,b,map,gradient,pictures,skipped,images_per_second,seconds",
                "1,2,1.000e-3,2.00000,1.50000,5.00000,,3.0000,8,0,2.0,4.00",
                "2,2,0.000e0,0.00000,,,0.25000,0.0000,0,0,0.0,0.00",
            ]
        );
    }
}
