//! Focal loss on prior-weighted log-odds (UPT; RmLR uses its constants).

use tch::{Kind, Tensor};

/// UPT: added to the odds, so that their logarithm is finite.
const ODDS_EPS: f64 = 1e-8;

/// UPT: added to the error before it is raised to a power.
const ERROR_EPS: f64 = 1e-6;

/// `sum |1 - y - beta| (|y - sigma(x)| + 1e-6)^gamma BCE(x, y) / n_pos` over the entries that count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FocalLoss {
    /// Weight of positives; negatives get `1 - beta`. UPT: 0.5.
    pub beta: f64,
    /// How much less an entry counts that is nearly right. UPT: 0.2.
    pub gamma: f64,
}

impl Default for FocalLoss {
    fn default() -> Self {
        Self { beta: 0.5, gamma: 0.2 }
    }
}

/// The logit of `pi sigma(z)`: `x = ln(pi / (1 + exp(-z) - pi) + 1e-8)`, without overflow or cancellation.
///
/// `logits` z `[P, V]`; `prior` pi in `(0, 1]`, `[P, 1]`.
pub fn prior_weighted_log_odds(logits: &Tensor, prior: &Tensor) -> Tensor {
    // 1 + exp(-z) - pi = exp(ln(1 - pi)) + exp(-z); the first is -inf for pi = 1, which logaddexp takes.
    let rest = (prior.neg() + 1.0).log();
    let odds = prior.log() - rest.logaddexp(&logits.neg());
    odds.logaddexp(&Tensor::from(ODDS_EPS.ln()).to_kind(logits.kind()).to_device(logits.device()))
}

impl FocalLoss {
    /// The loss of a batch, a scalar.
    ///
    /// `logits` `[P, V]`; `labels` 0 or 1, `[P, V]`; `prior` pi = s_h s_o, `[P, 1]`; `valid` 1 where the verb occurs with the pair's
    /// object class, else 0, `[P, V]`. Entries that are not valid or whose prior is 0 do not count. The sum is divided by the number
    /// of positive entries that count, at least 1.
    pub fn forward(&self, logits: &Tensor, labels: &Tensor, prior: &Tensor, valid: &Tensor) -> Tensor {
        let counts = valid * prior.gt(0.0).to_kind(Kind::Float);
        // The floor touches only entries that do not count.
        let x = prior_weighted_log_odds(logits, &prior.clamp_min(1e-30));
        let error = (labels - x.sigmoid()).abs() + ERROR_EPS;
        let weight = (labels.neg() + (1.0 - self.beta)).abs();
        // BCE with logit: softplus(x) - x y.
        let cross_entropy = x.softplus() - &x * labels;
        let positives = (labels * &counts).sum(Kind::Float).clamp_min(1.0);
        (counts * weight * error.pow_tensor_scalar(self.gamma) * cross_entropy).sum(Kind::Float) / positives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same loss one entry at a time, in double precision.
    fn slow(logits: &[f64], labels: &[f64], prior: &[f64], valid: &[bool], verbs: usize) -> f64 {
        let (beta, gamma) = (0.5f64, 0.2f64);
        let (mut sum, mut positives) = (0.0, 0.0);
        for i in 0..logits.len() {
            let pi = prior[i / verbs];
            if !valid[i] || pi <= 0.0 {
                continue;
            }
            let (z, y) = (logits[i], labels[i]);
            let x = (pi / (1.0 + (-z).exp() - pi) + 1e-8).ln();
            let p = 1.0 / (1.0 + (-x).exp());
            let bce = -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
            sum += (1.0 - y - beta).abs() * ((y - p).abs() + 1e-6).powf(gamma) * bce;
            positives += y;
        }
        sum / f64::max(positives, 1.0)
    }

    fn fast(logits: &[f64], labels: &[f64], prior: &[f64], valid: &[bool], verbs: i64) -> f64 {
        let f = |v: &[f64], columns: i64| Tensor::from_slice(v).to_kind(Kind::Float).view([-1, columns]);
        let valid = Tensor::from_slice(valid).to_kind(Kind::Float).view([-1, verbs]);
        FocalLoss::default().forward(&f(logits, verbs), &f(labels, verbs), &f(prior, 1), &valid).double_value(&[])
    }

    #[test]
    fn one_entry_by_hand() {
        // z = 0, pi = 1: x = ln(1 + 1e-8), p = 0.5, |y - p|^0.2 = 0.870551, ln 2 = 0.693147, halved.
        for y in [0.0, 1.0] {
            assert!((fast(&[0.0], &[y], &[1.0], &[true], 1) - 0.301707).abs() < 1e-5);
        }
        // pi = 0.5: q = 0.25. y = 0: 0.5 * 0.25^0.2 * -ln 0.75 = 0.109011; y = 1: 0.5 * 0.75^0.2 * -ln 0.25 = 0.654391.
        assert!((fast(&[0.0], &[0.0], &[0.5], &[true], 1) - 0.109011).abs() < 1e-5);
        assert!((fast(&[0.0], &[1.0], &[0.5], &[true], 1) - 0.654391).abs() < 1e-5);
    }

    #[test]
    fn only_valid_entries_with_a_prior_count() {
        let one = fast(&[0.0], &[1.0], &[1.0], &[true], 1);
        let four = fast(&[0.0, 5.0, 3.0, -2.0], &[1.0, 1.0, 1.0, 0.0], &[1.0, 0.0], &[true, false, true, true], 2);
        assert!((one - four).abs() < 1e-6, "{one} {four}");
        // Two positives: the mean, not the sum.
        assert!((fast(&[0.0, 0.0], &[1.0, 1.0], &[1.0], &[true, true], 2) - one).abs() < 1e-6);
        // No positive: divided by 1.
        assert!((fast(&[0.0, 0.0], &[0.0, 0.0], &[1.0], &[true, true], 2) - 2.0 * one).abs() < 1e-6);
        assert_eq!(fast(&[], &[], &[], &[], 3), 0.0);
    }

    #[test]
    fn agrees_with_the_slow_version() {
        let n = 200;
        let wave = |i: usize, step: f64| (i as f64 * step).sin();
        let logits: Vec<f64> = (0..n).map(|i| 8.0 * wave(i, 1.3)).collect();
        let labels: Vec<f64> = (0..n).map(|i| f64::from(u8::from(wave(i, 2.1) > 0.6))).collect();
        let prior: Vec<f64> = (0..n / 4).map(|i| 0.5 + 0.49 * wave(i, 0.7)).collect();
        let valid: Vec<bool> = (0..n).map(|i| wave(i, 0.4) > -0.7).collect();
        let (a, b) = (fast(&logits, &labels, &prior, &valid, 4), slow(&logits, &labels, &prior, &valid, 4));
        assert!((a - b).abs() < 1e-4 * b, "{a} {b}");
    }

    #[test]
    fn extreme_logits_give_finite_losses_and_gradients() {
        for z in [-1000.0, -90.0, 90.0, 1000.0] {
            for (y, pi) in [(0.0f32, 1.0f32), (1.0, 1.0), (0.0, 0.3), (1.0, 0.3), (1.0, 0.0)] {
                let logits = Tensor::from_slice(&[z as f32]).view([1, 1]).set_requires_grad(true);
                let one = Tensor::from_slice(&[1f32]).view([1, 1]);
                let loss = FocalLoss::default().forward(&logits, &(&one * f64::from(y)), &(&one * f64::from(pi)), &one);
                loss.backward();
                assert!(loss.double_value(&[]).is_finite(), "loss at z {z} y {y} pi {pi}");
                assert!(logits.grad().double_value(&[0, 0]).is_finite(), "gradient at z {z} y {y} pi {pi}");
            }
        }
    }
}
