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
