//! Labels that the model makes for itself: which pairs are related (section 3.2.4).

/// What an image says and its pairs can carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positives {
    /// Verbs of the image, A*, each once.
    pub verbs: Vec<usize>,
    /// For each of them, the pairs that may carry it, in their order.
    pub allowed: Vec<Vec<usize>>,
}

/// b of each pair: true for the `positives` best pairs of every verb of the image among those allowed for it.
///
/// `logits` is `[P, A]` row by row. Only allowed pairs compete, so that a masked 0 never beats a negative logit; among equal logits the
/// pair that comes first wins; two verbs may choose one pair. A verb without an allowed pair chooses none.
///
/// # Panics
/// When `logits` has not `pairs * verbs` values, or an index lies outside.
pub fn pseudo_labels(logits: &[f32], pairs: usize, verbs: usize, image: &Positives, positives: usize) -> Vec<bool> {
    assert_eq!(logits.len(), pairs * verbs, "logits are [pairs, verbs]");
    let mut chosen = vec![false; pairs];
    for (&verb, allowed) in image.verbs.iter().zip(&image.allowed) {
        let mut order = allowed.clone();
        order.sort_by(|&a, &b| logits[b * verbs + verb].total_cmp(&logits[a * verbs + verb]).then(a.cmp(&b)));
        for &pair in order.iter().take(positives) {
            chosen[pair] = true;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three pairs, two verbs, every logit negative.
    const LOGITS: [f32; 6] = [-3.0, -1.0, -2.0, -4.0, -0.5, -2.0];

    fn image(verbs: &[usize], allowed: &[&[usize]]) -> Positives {
        Positives { verbs: verbs.to_vec(), allowed: allowed.iter().map(|a| a.to_vec()).collect() }
    }

    #[test]
    fn the_best_allowed_pair_is_chosen_by_hand() {
        // Pair 2 has the best logit of verb 0 and carries another object: among 0 and 1, pair 1 (-2) beats pair 0 (-3).
        assert_eq!(pseudo_labels(&LOGITS, 3, 2, &image(&[0], &[&[0, 1]]), 1), [false, true, false]);
        // Verb 1: pair 0 (-1). Both verbs: two pairs.
        assert_eq!(pseudo_labels(&LOGITS, 3, 2, &image(&[0, 1], &[&[0, 1], &[0, 1]]), 1), [true, true, false]);
        // All allowed: verb 0 chooses pair 2, verb 1 pair 0.
        assert_eq!(pseudo_labels(&LOGITS, 3, 2, &image(&[0, 1], &[&[0, 1, 2], &[0, 1, 2]]), 1), [true, false, true]);
    }

    #[test]
    fn ties_nothing_allowed_and_more_positives_than_pairs() {
        let tie = [-1.0, -1.0, -1.0];
        assert_eq!(pseudo_labels(&tie, 3, 1, &image(&[0], &[&[1, 2]]), 1), [false, true, false]);
        assert_eq!(pseudo_labels(&tie, 3, 1, &image(&[0], &[&[]]), 1), [false; 3]);
        assert_eq!(pseudo_labels(&tie, 3, 1, &image(&[0], &[&[2]]), 2), [false, false, true]);
        assert_eq!(pseudo_labels(&tie, 3, 1, &image(&[], &[]), 1), [false; 3]);
        // Two verbs may choose one pair.
        assert_eq!(pseudo_labels(&[5.0, 5.0, 0.0, 0.0], 2, 2, &image(&[0, 1], &[&[0, 1], &[0, 1]]), 1), [true, false]);
    }
}
