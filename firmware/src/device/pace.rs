//! Frames a second, lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames that are looked back at.
const FRAMES: usize = 16;

/// A pace that is older than this is no pace.
const LATELY: Duration = Duration::from_secs(5);

/// When the last frames were answered.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Instant>);

impl Pace {
    /// Counts a frame that was answered at `now`.
    pub(super) fn count(&mut self, now: Instant) {
        if self.0.len() == FRAMES {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// Frames a second at `now`, from the frames of the last seconds; `None` where there are fewer than two of them.
    pub(super) fn frames_per_second(&self, now: Instant) -> Option<f32> {
        let recent: Vec<Instant> =
            self.0.iter().copied().filter(|&at| now.saturating_duration_since(at) < LATELY).collect();
        let (first, last) = (recent.first()?, recent.last()?);
        let seconds = last.duration_since(*first).as_secs_f32();
        (seconds > 0.0).then(|| (recent.len() - 1) as f32 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_frames_and_ends_with_them() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.frames_per_second(start), None);
        // Slow frames first, which are forgotten.
        for i in 0..5 {
            pace.count(at(i * 1000));
        }
        assert_eq!(pace.frames_per_second(at(4000)), Some(1.0));
        for i in 0..16 {
            pace.count(at(4000 + i * 100));
        }
        let fps = pace.frames_per_second(at(5500)).unwrap();
        assert!((fps - 10.0).abs() < 1e-3, "{fps}");
        assert_eq!(pace.frames_per_second(at(20_000)), None);
    }
}
