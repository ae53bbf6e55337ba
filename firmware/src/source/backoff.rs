//! How long a source that failed is left alone.

use std::time::Duration;

/// How long to wait before a source is started again: `first`, then twice as long each time up to `most`; from `first` again after the
/// source gave frames for `reset_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub most: Duration,
    /// How long a run of good frames makes up for earlier failures.
    pub reset_after: Duration,
}

impl Default for Backoff {
    /// 0.25 s, doubling to 10 s, reset after 10 s of good frames.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(10), reset_after: Duration::from_secs(10) }
    }
}

/// The waits of one source.
#[derive(Debug)]
pub(super) struct Delays {
    backoff: Backoff,
    next: Duration,
}

impl Delays {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, next: backoff.first }
    }

    /// The wait after a failure; the source had given frames for `good_for` before it.
    pub(super) fn after(&mut self, good_for: Duration) -> Duration {
        if good_for >= self.backoff.reset_after {
            self.next = self.backoff.first;
        }
        let wait = self.next.min(self.backoff.most);
        self.next = wait.saturating_mul(2).min(self.backoff.most);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_most_and_begin_anew_after_good_frames() {
        let mut delays = Delays::new(Backoff::default());
        let waits: Vec<u128> = (0..8).map(|_| delays.after(Duration::from_secs(9)).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(delays.after(Duration::from_secs(10)).as_millis(), 250);
        assert_eq!(delays.after(Duration::ZERO).as_millis(), 500);
    }
}
