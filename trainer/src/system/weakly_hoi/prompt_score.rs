//! Scores with what the prompts say of a pair without training (Table 3, Abl 1 and Abl 3).

use std::collections::HashMap;

use hoi_runtime::fusion::{Factors, ScoredTriplet};
use ndarray::ArrayView2;

use super::config::PromptScore;
use super::example::{InteractionTable, WeakExample};
use crate::dataset::ImageLabel;

/// The triplets of an example with `asked` `[P, N]`, best first: alone with the detector's prior, or as a factor more in the place of the
/// picture's. Triplets of interactions that the table does not have are dropped.
pub(super) fn rescored(
    triplets: Vec<ScoredTriplet>,
    example: &WeakExample,
    table: &InteractionTable,
    asked: ArrayView2<'_, f32>,
    mode: PromptScore,
) -> Vec<ScoredTriplet> {
    let rows: HashMap<ImageLabel, usize> =
        table.entries().iter().enumerate().map(|(row, &label)| (label, row)).collect();
    let pairs: HashMap<(usize, Option<usize>), usize> = example
        .pairs
        .iter()
        .enumerate()
        .map(|(p, pair)| ((pair.human, (!pair.is_alone()).then_some(pair.object)), p))
        .collect();
    let mut scored: Vec<ScoredTriplet> = triplets
        .into_iter()
        .filter_map(|triplet| {
            let object = triplet.object.map(|o| example.picture.entities[o].class);
            let row = *rows.get(&ImageLabel { verb: triplet.verb, object })?;
            let said = asked[[*pairs.get(&(triplet.human, triplet.object))?, row]];
            let Factors::Weakly { pair, relatedness, prior, .. } = triplet.factors else { return None };
            let factors = match mode {
                PromptScore::Alone => Factors::Weakly { pair: said, global: None, relatedness: None, prior },
                PromptScore::Factor => Factors::Weakly { pair, global: Some(said), relatedness, prior },
            };
            Some(ScoredTriplet { score: factors.product(), factors, ..triplet })
        })
        .collect();
    scored.sort_by(|a, b| b.score.total_cmp(&a.score));
    scored
}
