//! What a model would say of photos that it did not learn from: folds, and what is taken for what.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

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

/// A photo that was not learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredPhoto {
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

    /// Whether what is said first is shown.
    pub fn is_right(&self, least: f32) -> bool {
        self.said(least).is_some_and(|said| self.shown.contains(&said))
    }
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
    }

    #[test]
    fn what_is_said_first() {
        let photo = |scores: &[f32]| AnsweredPhoto { shown: vec![0], scores: scores.to_vec(), fold: 0 };
        assert_eq!(photo(&[0.2, 0.2]).said(0.05), Some(0));
        assert_eq!(photo(&[0.0, 0.0]).said(0.0), None);
        assert_eq!(photo(&[0.04, 0.01]).said(0.05), None);
        assert_eq!(photo(&[]).said(0.0), None);
    }
}
