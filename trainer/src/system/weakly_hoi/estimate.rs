//! What a model would say of photos that it did not learn from: folds, and what is taken for what.

use hoi_runtime::fusion::Calibration;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::eval::calibration::{ReliabilityBin, expected_calibration_error, fit_calibration, reliability};
use crate::eval::precision::ranking_precision;

/// The fold of each photo, 0 to `count` - 1. Photos of an interaction (the first of theirs) are dealt out evenly, in an order that `seed`
/// decides.
pub fn folds(labels: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let count = count.max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.shuffle(&mut rng);
    let mut fold = vec![0; labels.len()];
    // Each interaction begins where the one before it ended: folds are even in sum, too.
    let mut next = 0;
    for label in 0..labels.iter().max().map_or(0, |m| m + 1) {
        for &photo in order.iter().filter(|&&p| labels[p] == label) {
            fold[photo] = next % count;
            next += 1;
        }
    }
    fold
}

/// Parts of `[0, 1]` in which scores are compared with how often they are right.
const BINS: usize = 10;

/// A photo that was not learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredPhoto {
    /// Its index.
    pub photo: usize,
    /// Interactions that it shows.
    pub shown: Vec<usize>,
    /// Best score of each interaction; 0 where no triplet says it.
    pub scores: Vec<f32>,
    /// Its fold.
    pub fold: usize,
}

impl AnsweredPhoto {
    /// The interaction that is said first; `None` where nothing reaches `least`.
    pub fn said(&self, least: f32) -> Option<usize> {
        let best = (0..self.scores.len()).max_by(|&a, &b| self.scores[a].total_cmp(&self.scores[b]).then(b.cmp(&a)))?;
        (self.scores[best] >= least && self.scores[best] > 0.0).then_some(best)
    }

    /// Each positive score, and whether the photo shows that interaction.
    fn said_and_shown(&self) -> impl Iterator<Item = (f32, bool)> {
        let scores = self.scores.iter().enumerate().filter(|(_, s)| **s > 0.0);
        scores.map(|(i, &s)| (s, self.shown.contains(&i)))
    }

    /// Whether what is said first is shown.
    pub fn is_right(&self, least: f32) -> bool {
        self.said(least).is_some_and(|said| self.shown.contains(&said))
    }
}

/// Makes scores the probabilities that the photo shows the interaction: those of a fold by what the photos of the other folds say. Returns the
/// calibration by all of them, for a model that learns from all.
///
/// Where a calibration cannot be had (a single fold, too few right or wrong scores, scores that do not rise with the truth) nothing changes, and
/// there is none.
pub fn calibrate(photos: &mut [AnsweredPhoto]) -> Option<Calibration> {
    let fit = |but: Option<usize>| {
        let others = photos.iter().filter(|p| Some(p.fold) != but);
        let said: Vec<(f32, bool)> = others.flat_map(AnsweredPhoto::said_and_shown).collect();
        fit_calibration(&said)
    };
    let all = fit(None)?;
    let folds = photos.iter().map(|p| p.fold + 1).max().unwrap_or(0);
    let each: Vec<Calibration> = (0..folds).map(|fold| fit(Some(fold))).collect::<Option<_>>()?;
    for photo in photos {
        let by = each[photo.fold];
        photo.scores.iter_mut().filter(|s| **s > 0.0).for_each(|s| *s = by.probability(*s));
    }
    Some(all)
}

/// What is expected of a model, by photos that it did not learn from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Photos.
    pub photos: usize,
    /// Photos of which a shown interaction is said first.
    pub right: usize,
    /// Photos of which nothing is said.
    pub silent: usize,
    /// Share of right photos in each fold.
    pub by_fold: Vec<f64>,
    /// Average precision of each interaction in `[0, 1]`.
    pub precisions: Vec<Option<f64>>,
    /// Scores over the least in tenths of `[0, 1]`: how many, their mean, and how often the photo shows what they are of.
    pub reliability: Vec<ReliabilityBin>,
    /// Mean difference of the two; `None` where nothing is said.
    pub calibration_error: Option<f64>,
    /// Photos of an interaction (row) of which an interaction (column), or in the last column nothing, is said first. Where a shown one is
    /// said, the photo counts in that row alone.
    pub confusion: Vec<Vec<usize>>,
}

impl Estimate {
    /// Counts; what scores less than `least` is not said.
    pub fn new(photos: &[AnsweredPhoto], interactions: usize, least: f32) -> Self {
        let mut confusion = vec![vec![0; interactions + 1]; interactions];
        for photo in photos {
            let said = photo.said(least);
            match said.filter(|s| photo.shown.contains(s)) {
                Some(right) => confusion[right][right] += 1,
                None => photo.shown.iter().for_each(|&row| confusion[row][said.unwrap_or(interactions)] += 1),
            }
        }
        let precisions = (0..interactions)
            .map(|i| {
                let ranked: Vec<_> = photos.iter().map(|p| (p.scores[i], p.shown.contains(&i))).collect();
                ranking_precision(&ranked)
            })
            .collect();
        let said: Vec<(f32, bool)> =
            photos.iter().flat_map(AnsweredPhoto::said_and_shown).filter(|s| s.0 >= least).collect();
        let folds = photos.iter().map(|p| p.fold + 1).max().unwrap_or(0);
        let by_fold = (0..folds).filter_map(|fold| {
            let own: Vec<_> = photos.iter().filter(|p| p.fold == fold).collect();
            let right = own.iter().filter(|p| p.is_right(least)).count();
            (!own.is_empty()).then(|| right as f64 / own.len() as f64)
        });
        Self {
            photos: photos.len(),
            right: photos.iter().filter(|p| p.is_right(least)).count(),
            silent: photos.iter().filter(|p| p.said(least).is_none()).count(),
            by_fold: by_fold.collect(),
            precisions,
            reliability: reliability(&said, BINS),
            calibration_error: expected_calibration_error(&said, BINS),
            confusion,
        }
    }

    /// Share of right photos, and the standard error of a share of so many.
    pub fn accuracy(&self) -> (f64, f64) {
        let n = self.photos.max(1) as f64;
        let share = self.right as f64 / n;
        (share, (share * (1.0 - share) / n).sqrt())
    }

    /// Pairs of interactions (shown, said) that are confused, most often first, with the number of photos.
    pub fn confused(&self) -> Vec<(usize, usize, usize)> {
        let n = self.confusion.len();
        let mut list: Vec<(usize, usize, usize)> = (0..n)
            .flat_map(|row| (0..n).filter(move |&column| column != row).map(move |column| (row, column)))
            .map(|(row, column)| (row, column, self.confusion[row][column]))
            .filter(|(_, _, count)| *count > 0)
            .collect();
        list.sort_by_key(|&(row, column, count)| (std::cmp::Reverse(count), row, column));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_even_for_every_interaction() {
        let labels: Vec<usize> = (0..47).map(|i| i % 3).collect();
        let fold = folds(&labels, 5, 7);
        for label in 0..3 {
            let mut counts = [0; 5];
            (0..47).filter(|&i| labels[i] == label).for_each(|i| counts[fold[i]] += 1);
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
        let sizes: Vec<usize> = (0..5).map(|f| fold.iter().filter(|&&g| g == f).count()).collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        assert_eq!(fold, folds(&labels, 5, 7));
        assert_ne!(fold, folds(&labels, 5, 8));
    }

    #[test]
    fn an_estimate_by_hand() {
        let photo = |shown: &[usize], scores: [f32; 3], fold| AnsweredPhoto {
            photo: 0,
            shown: shown.to_vec(),
            scores: scores.to_vec(),
            fold,
        };
        let photos = [
            photo(&[0], [0.9, 0.2, 0.0], 0),    // right
            photo(&[0], [0.3, 0.6, 0.0], 1),    // taken for 1
            photo(&[1], [0.0, 0.02, 0.0], 0),   // nothing said
            photo(&[1, 2], [0.1, 0.4, 0.5], 1), // right as 2
        ];
        let estimate = Estimate::new(&photos, 3, 0.05);
        assert_eq!((estimate.photos, estimate.right, estimate.silent), (4, 2, 1));
        assert_eq!(estimate.confusion, [vec![1, 1, 0, 0], vec![0, 0, 0, 1], vec![0, 0, 1, 0]]);
        assert_eq!(estimate.confused(), [(0, 1, 1)]);
        assert_eq!(estimate.by_fold, [0.5, 0.5]);
        // Interaction 1: 0.6 is wrong, 0.4 right, 0.2 wrong, 0.02 right: (1/2 + 2/4) / 2.
        assert!((estimate.precisions[1].unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(estimate.precisions[0], Some(1.0));
        let (share, error) = estimate.accuracy();
        assert!((share - 0.5).abs() < 1e-12 && (error - 0.25).abs() < 1e-12);
        // 0.9 right; 0.6 wrong, 0.5 right; 0.4 right; 0.3 right; 0.2 wrong; 0.1 wrong; what is under 0.05 is not said.
        let counts: Vec<usize> = estimate.reliability.iter().map(|b| b.count).collect();
        assert_eq!(counts, [0, 1, 1, 1, 1, 1, 1, 0, 0, 1]);
        let expected = (0.1 + 0.6 + 0.5 + 0.6 + 0.7 + 0.2 + 0.1) / 7.0;
        assert!((estimate.calibration_error.unwrap() - expected).abs() < 1e-6);
    }

    /// Small scores of which the larger is right four times in five become large ones; each fold by the others.
    #[test]
    fn scores_become_probabilities() {
        let made = |fold: usize| {
            (0..50).map(move |i| {
                let (first, second) = if i % 5 == 0 { (1e-4, 0.02) } else { (0.02, 1e-4) };
                AnsweredPhoto { photo: i, shown: vec![0], scores: vec![first, second, 0.0], fold }
            })
        };
        let mut photos: Vec<AnsweredPhoto> = (0..4).flat_map(made).collect();
        let before = Estimate::new(&photos, 3, 0.05);
        assert_eq!((before.silent, before.right), (200, 0));
        let found = calibrate(&mut photos).unwrap();
        assert!(
            (found.probability(0.02) - 0.8).abs() < 0.02 && (found.probability(1e-4) - 0.2).abs() < 0.02,
            "{found}"
        );
        let after = Estimate::new(&photos, 3, 0.05);
        assert_eq!((after.silent, after.right), (0, 160));
        assert!(after.calibration_error.unwrap() < 0.02);
        assert!(photos.iter().all(|p| p.scores[2] == 0.0));

        // One fold, or nothing ever wrong: left as it is.
        let mut one: Vec<AnsweredPhoto> = made(0).collect();
        let was = one.clone();
        assert_eq!((calibrate(&mut one), one == was), (None, true));
        assert_eq!(calibrate(&mut []), None);
    }

    #[test]
    fn what_is_said_first() {
        let photo = |scores: &[f32]| AnsweredPhoto { photo: 0, shown: vec![0], scores: scores.to_vec(), fold: 0 };
        assert_eq!(photo(&[0.2, 0.2]).said(0.05), Some(0));
        assert_eq!(photo(&[0.0, 0.0]).said(0.0), None);
        assert_eq!(photo(&[0.04, 0.01]).said(0.05), None);
        assert_eq!(photo(&[]).said(0.0), None);
    }
}
