//! From a score to a probability.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FusionError, sigmoid};

/// Platt's calibration on the logarithm of a score `s`, which is a product: `sigma(slope ln s + offset)`, odds of `e^offset s^slope`.
///
/// It rises with the score, and never changes the order of what it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Positive.
    pub slope: f32,
    /// Log-odds of a score of 1.
    pub offset: f32,
}

impl Calibration {
    /// The probability of a score in `(0, 1]`; 0 for a score of 0.
    pub fn probability(&self, score: f32) -> f32 {
        sigmoid(self.slope * score.ln() + self.offset)
    }

    pub(super) fn check(&self) -> Result<(), FusionError> {
        let wrong = |key, reason| Err(FusionError::Key { key, reason });
        if !(self.slope.is_finite() && self.slope > 0.0) {
            return wrong("calibration.slope", format!("{} is not a positive number", self.slope));
        }
        if !self.offset.is_finite() {
            return wrong("calibration.offset", format!("{} is not a finite number", self.offset));
        }
        Ok(())
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.offset < 0.0 { '-' } else { '+' };
        write!(f, "sigma({:.3} ln s {sign} {:.3})", self.slope, self.offset.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let calibration = Calibration { slope: 0.5, offset: 2.0 };
        // Odds e^2 sqrt(s).
        for (score, odds) in [(1.0f32, 2f32.exp()), (0.25, 2f32.exp() / 2.0), (1e-4, 2f32.exp() / 100.0)] {
            let expected = odds / (1.0 + odds);
            assert!((calibration.probability(score) - expected).abs() < 1e-6, "{score}");
        }
        assert_eq!(calibration.probability(0.0), 0.0);
        assert!(calibration.probability(f32::MIN_POSITIVE) > 0.0);
        assert_eq!(calibration.to_string(), "sigma(0.500 ln s + 2.000)");
        assert_eq!(Calibration { slope: 1.0, offset: -0.25 }.to_string(), "sigma(1.000 ln s - 0.250)");
    }
}
