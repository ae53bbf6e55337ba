//! How far scores are probabilities, and how they become so.

use hoi_runtime::fusion::Calibration;

/// Newton steps at most.
const STEPS: usize = 100;

/// Fits Platt's `sigma(slope ln s + offset)` to scores in `(0, 1]` and whether what was said is true, by maximum likelihood.
///
/// Targets are Platt's: `(N+ + 1) / (N+ + 2)` for true and `1 / (N- + 2)` for false, so that the fit is finite where scores separate the two.
/// Scores that are not positive say nothing and are left out. `None` without true or false ones, where all scores are the same, or where truth
/// does not rise with them.
pub fn fit_calibration(said: &[(f32, bool)]) -> Option<Calibration> {
    let said: Vec<(f64, bool)> =
        said.iter().filter(|s| s.0 > 0.0 && s.0.is_finite()).map(|s| (f64::from(s.0).ln(), s.1)).collect();
    let positives = said.iter().filter(|s| s.1).count() as f64;
    let negatives = said.len() as f64 - positives;
    let [least, most] = said.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], s| [a.min(s.0), b.max(s.0)]);
    if positives == 0.0 || negatives == 0.0 || most - least < 1e-9 {
        return None;
    }
    let target = |hit: bool| if hit { (positives + 1.0) / (positives + 2.0) } else { 1.0 / (negatives + 2.0) };
    // Log-likelihood lost, with its gradient and Hessian; softplus written so that nothing overflows.
    let loss = |a: f64, b: f64| -> f64 {
        said.iter()
            .map(|&(x, hit)| (a * x + b, target(hit)))
            .map(|(z, t)| z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z)
            .sum()
    };
    let (mut slope, mut offset) = (0.0, ((positives + 1.0) / (negatives + 1.0)).ln());
    let mut lost = loss(slope, offset);
    for _ in 0..STEPS {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for &(x, hit) in &said {
            let p = 1.0 / (1.0 + (-(slope * x + offset)).exp());
            let (d, w) = (p - target(hit), p * (1.0 - p));
            ga += d * x;
            gb += d;
            haa += w * x * x;
            hab += w * x;
            hbb += w;
        }
        if ga.abs().max(gb.abs()) < 1e-9 * said.len() as f64 {
            break;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant);
        let mut step = 1.0;
        let improved = loop {
            let (a, b) = (slope - step * da, offset - step * db);
            let new = loss(a, b);
            if new < lost {
                break Some((a, b, new));
            }
            step /= 2.0;
            if step < 1e-10 {
                break None;
            }
        };
        let Some((a, b, new)) = improved else { break };
        (slope, offset, lost) = (a, b, new);
    }
    let found = Calibration { slope: slope as f32, offset: offset as f32 };
    (found.slope > 0.0 && found.slope.is_finite() && found.offset.is_finite()).then_some(found)
}

/// Expected calibration error: over `bins` equal parts of `[0, 1]`, the mean difference of mean score and share of true ones, weighted by how
/// many lie there. `None` for nothing.
pub fn expected_calibration_error(said: &[(f32, bool)], bins: usize) -> Option<f64> {
    let bins = reliability(said, bins);
    let all: usize = bins.iter().map(|b| b.count).sum();
    let sum: f64 = bins.iter().filter(|b| b.count > 0).map(|b| b.count as f64 * (b.score - b.share).abs()).sum();
    (all > 0).then(|| sum / all as f64)
}

/// What lies in one part of `[0, 1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ReliabilityBin {
    /// How many.
    pub count: usize,
    /// Their mean score.
    pub score: f64,
    /// Share of true ones.
    pub share: f64,
}

/// The `bins` equal parts of `[0, 1]`, a score of 1 in the last; scores that are no number are left out.
pub fn reliability(said: &[(f32, bool)], bins: usize) -> Vec<ReliabilityBin> {
    let mut parts = vec![ReliabilityBin::default(); bins.max(1)];
    let last = parts.len() - 1;
    for &(score, hit) in said.iter().filter(|s| !s.0.is_nan()) {
        // In f32, so that 0.9 begins the last of ten.
        let bin = &mut parts[((score * (last + 1) as f32) as usize).min(last)];
        bin.count += 1;
        bin.score += f64::from(score);
        bin.share += f64::from(u8::from(hit));
    }
    for bin in parts.iter_mut().filter(|b| b.count > 0) {
        bin.score /= bin.count as f64;
        bin.share /= bin.count as f64;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odds of truth of `e s^0.5`: a hundred times each of a few scores.
    #[test]
    fn a_known_calibration_is_found_again() {
        let truth = Calibration { slope: 0.5, offset: 1.0 };
        let mut said = Vec::new();
        for score in [1e-6f32, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.7] {
            let hits = (20_000.0 * truth.probability(score)).round() as usize;
            said.extend((0..20_000).map(|i| (score, i < hits)));
        }
        let found = fit_calibration(&said).unwrap();
        assert!((found.slope - 0.5).abs() < 5e-3 && (found.offset - 1.0).abs() < 2e-2, "{found}");
        let calibrated: Vec<_> = said.iter().map(|&(s, hit)| (found.probability(s), hit)).collect();
        let error = |list: &[_]| expected_calibration_error(list, 10).unwrap();
        assert!(error(&calibrated) < 0.01 && error(&said) > 0.1, "{} {}", error(&calibrated), error(&said));
    }

    #[test]
    fn separated_scores_stay_finite_and_senseless_ones_are_refused() {
        let separated = [(0.9, true), (0.8, true), (0.1, false), (0.2, false)];
        let found = fit_calibration(&separated).unwrap();
        assert!(found.slope > 0.0 && found.probability(0.9) > 0.6 && found.probability(0.1) < 0.4, "{found}");
        assert_eq!(fit_calibration(&separated.map(|(s, hit)| (s, !hit))), None);
        assert_eq!(fit_calibration(&[(0.5, true), (0.4, true)]), None);
        assert_eq!(fit_calibration(&[(0.5, true), (0.0, false), (f32::NAN, false)]), None);
        assert_eq!(fit_calibration(&[]), None);
        // The same score for all: nothing rises.
        assert_eq!(fit_calibration(&[(1.0, true), (1.0, false)]), None);
        assert_eq!(fit_calibration(&[(0.5, true), (0.5, false), (0.5, false), (0.5, false)]), None);
    }

    #[test]
    fn the_error_by_hand() {
        // Two in 0.8..0.9 of which one is true, one in 0.1..0.2 that is false.
        let said = [(0.85, true), (0.81, false), (0.12, false)];
        let expected = (2.0 * (0.83f64 - 0.5).abs() + 0.12) / 3.0;
        assert!((expected_calibration_error(&said, 10).unwrap() - expected).abs() < 1e-6);
        assert_eq!(expected_calibration_error(&[], 10), None);
        let bins = reliability(&[(1.0, true), (0.0, false)], 4);
        assert_eq!((bins[3].count, bins[0].count, bins[3].share), (1, 1, 1.0));
    }
}
