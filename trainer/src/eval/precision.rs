//! Average precision of a ranked list of detections, as each data set defines it.

/// HICO-DET's average precision at 11 recalls: the mean over t = 0, 0.1, .., 1 of the best precision where recall is at least t.
///
/// `hits` tells for each detection, by falling score, whether it is true. Recall is compared in integers, `10 tp >= t positives`:
/// floating point would cost up to 0.6 points. `None` without positives.
pub fn eleven_point_precision(hits: impl IntoIterator<Item = bool>, positives: usize) -> Option<f64> {
    if positives == 0 {
        return None;
    }
    let mut best = [0f64; 11];
    let mut true_positives = 0;
    for (seen, hit) in (1..).zip(hits) {
        // Between two hits precision only falls.
        if hit {
            true_positives += 1;
            let reached = (10 * true_positives / positives).min(10);
            best[reached] = best[reached].max(f64::from(true_positives as u32) / f64::from(seen));
        }
    }
    for t in (0..10).rev() {
        best[t] = best[t].max(best[t + 1]);
    }
    Some(best.iter().sum::<f64>() / 11.0)
}

/// V-COCO's average precision: the area under the precision envelope, `sum_r (r_i - r_(i-1)) max_(j >= i) precision_j` over all
/// recall steps (VOC 2010).
///
/// `hits` tells for each detection, by falling score, whether it is true. `None` without positives.
pub fn envelope_area(hits: impl IntoIterator<Item = bool>, positives: usize) -> Option<f64> {
    if positives == 0 {
        return None;
    }
    // Every hit is one step of 1 / positives in recall; its precision is the best at this recall or more.
    let mut at_hits = Vec::new();
    for (seen, hit) in (1u64..).zip(hits) {
        if hit {
            at_hits.push((at_hits.len() + 1) as f64 / seen as f64);
        }
    }
    let mut best = 0f64;
    let sum: f64 = at_hits
        .iter()
        .rev()
        .map(|&precision| {
            best = best.max(precision);
            best
        })
        .sum();
    Some(sum / positives as f64)
}

/// Average precision of a ranking without interpolation: the mean over the positives of the precision where each is reached,
/// `sum_n (r_n - r_(n-1)) p_n`. Equal scores are reached together. `None` without positives.
///
/// `ranked` holds (score, positive) in any order; a score that is no number comes last.
pub fn ranking_precision(ranked: &[(f32, bool)]) -> Option<f64> {
    let positives = ranked.iter().filter(|r| r.1).count();
    if positives == 0 {
        return None;
    }
    let key = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    let mut sorted: Vec<(f32, bool)> = ranked.iter().map(|&(score, hit)| (key(score), hit)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut hits, mut sum) = (0, 0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let new = tied.iter().filter(|r| r.1).count();
        seen += tied.len();
        hits += new;
        sum += new as f64 * hits as f64 / seen as f64;
    }
    Some(sum / positives as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rankings_by_hand() {
        assert_eq!(ranking_precision(&[(0.9, false)]), None);
        // Ranks 1 and 3 of 4 are positive: (1/1 + 2/3) / 2.
        let ranked = [(0.1, false), (0.9, true), (0.4, true), (0.5, false)];
        assert!((ranking_precision(&ranked).unwrap() - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        // All equal: the share of positives.
        assert!(
            (ranking_precision(&[(0.5, true), (0.5, false), (0.5, false), (0.5, true)]).unwrap() - 0.5).abs() < 1e-12
        );
        // No number is the worst of all.
        assert!((ranking_precision(&[(f32::NAN, true), (0.1, false)]).unwrap() - 0.5).abs() < 1e-12);
    }
}
