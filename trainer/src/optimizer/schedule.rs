//! Learning rates.

/// Linear warm-up, then half a cosine down to zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineSchedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// All steps, warm-up included.
    pub total_steps: u64,
}

impl CosineSchedule {
    /// The learning rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let rest = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let done = ((step - self.warmup_steps) as f64 / rest).min(1.0);
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

/// Multiplied by a factor after some epochs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSchedule<'a> {
    /// The learning rate of the first epoch.
    pub peak: f64,
    /// Epochs, counted from 1, after which the rate drops.
    pub after: &'a [usize],
    /// What it is multiplied by.
    pub factor: f64,
}

impl StepSchedule<'_> {
    /// The learning rate of an epoch, counted from 0.
    pub fn rate(&self, epoch: usize) -> f64 {
        let drops = self.after.iter().filter(|&&after| epoch >= after).count();
        self.peak * self.factor.powi(drops.min(i32::MAX as usize) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand() {
        let schedule = StepSchedule { peak: 2.0, after: &[1, 3], factor: 0.5 };
        assert_eq!([0, 1, 2, 3, 9].map(|epoch| schedule.rate(epoch)), [2.0, 1.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn by_hand() {
        let schedule = CosineSchedule { peak: 2.0, warmup_steps: 4, total_steps: 12 };
        assert_eq!(schedule.rate(0), 0.5);
        assert_eq!(schedule.rate(3), 2.0);
        assert_eq!(schedule.rate(4), 2.0);
        assert!((schedule.rate(8) - 1.0).abs() < 1e-12);
        assert!(schedule.rate(12).abs() < 1e-12 && schedule.rate(99).abs() < 1e-12);
    }
}
