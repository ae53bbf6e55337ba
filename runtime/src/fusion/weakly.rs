//! The rule `weakly` of Weakly-HOI: the pairs of a picture share its probability, times what the whole picture shows, times relatedness.

use std::collections::HashMap;

use ndarray::{Array1, Array2, ArrayView2, Zip};

use super::{Factors, FusionError, Scene, ScoredTriplet, sigmoid};
use crate::interaction::HeadOutput;
use crate::vocabulary::{ObjectClass, Verb, Vocabulary};

/// Which column of `image_logits` an interaction has.
#[derive(Clone, Debug)]
pub(super) struct ImageColumns {
    column: HashMap<(Verb, Option<ObjectClass>), usize>,
}

impl ImageColumns {
    /// Indexes the manifest's list.
    pub(super) fn new(interactions: &[(String, Option<String>)], vocabulary: &Vocabulary) -> Result<Self, FusionError> {
        let wrong = |reason| FusionError::Key { key: "interactions", reason };
        if interactions.is_empty() {
            return Err(wrong(
                "the list is empty: a [verb, object or null] for each column of `image_logits` is needed".into(),
            ));
        }
        let mut column = HashMap::with_capacity(interactions.len());
        for (i, (verb, object)) in interactions.iter().enumerate() {
            let unknown =
                |name: &str, list| wrong(format!("row {i} names `{name}`, which is not in vocabulary.{list}"));
            let v = vocabulary.verb(verb).ok_or_else(|| unknown(verb, "verbs"))?;
            let o = match object {
                Some(name) => Some(vocabulary.object(name).ok_or_else(|| unknown(name, "objects"))?),
                None => None,
            };
            if let Some(first) = column.insert((v, o), i) {
                let object = object.as_deref().unwrap_or("null");
                return Err(wrong(format!(
                    "row {i} says [{verb}, {object}] again, as row {first}: each interaction has one column"
                )));
            }
        }
        Ok(Self { column })
    }

    /// The number of columns, I.
    pub(super) fn len(&self) -> usize {
        self.column.len()
    }
}

/// Normalised pair scores `e [P, V]` of verb logits `z [P, V]`: `e[m, a] = sigma(max_m z[m, a]) softmax_m(z[:, a])` (Weakly-HOI 3.2.5).
///
/// For each verb they add up to its probability in the picture, `sigma(max_m z[m, a])`; a pair that is alone has all of it. All pairs of
/// the picture must be given: leaving some out changes the others.
pub fn normalised_pair_scores(verb_logits: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut largest = Array1::from_elem(verb_logits.ncols(), f32::NEG_INFINITY);
    for row in verb_logits.rows() {
        Zip::from(&mut largest).and(row).for_each(|m, &z| *m = m.max(z));
    }
    // The largest logit is taken off before the exponential, which then is at most 1.
    let mut scores = verb_logits.to_owned();
    let mut sum = Array1::<f32>::zeros(scores.ncols());
    for mut row in scores.rows_mut() {
        Zip::from(&mut row).and(&largest).and(&mut sum).for_each(|z, &m, s| {
            *z = (*z - m).exp();
            *s += *z;
        });
    }
    let factor = Zip::from(&largest).and(&sum).map_collect(|&m, &s| sigmoid(m) / s);
    scores *= &factor;
    scores
}

/// `(s_h s_o)^gamma sigma(g[(a, c_o)]) e[m, a] sigma(b[m])` for every pair `m` and every verb `a` that is valid for its object, in the order
/// of the pairs (Weakly-HOI eq. 3). With `columns`, only interactions that have one. Without an object `s_o` is 1.
pub(super) fn score(
    scene: &Scene<'_>,
    head: &HeadOutput,
    columns: Option<&ImageColumns>,
    gamma: f32,
) -> Result<Vec<ScoredTriplet>, FusionError> {
    let pairs = scene.pairs.len();
    if let Some(found) = head.relatedness.as_ref().map(Array1::len).filter(|n| *n != pairs) {
        let (found, expected) = (format!("[{found}]"), format!("[{pairs}], one for each pair"));
        return Err(FusionError::Output { output: "relatedness", found, expected });
    }
    let image = match (columns, &head.image_logits) {
        (None, None) => None,
        (Some(columns), Some(logits)) if logits.len() == columns.len() => Some((columns, logits)),
        (columns, logits) => {
            let describe = |n: Option<usize>| n.map_or_else(|| "missing".to_owned(), |n| format!("[{n}]"));
            let found = describe(logits.as_ref().map(Array1::len));
            let expected = match columns {
                Some(columns) => format!("[{}], one for each of `interactions`", columns.len()),
                None => "none, since the rule has no `interactions`".to_owned(),
            };
            return Err(FusionError::Output { output: "image_logits", found, expected });
        }
    };
    let pair_scores = normalised_pair_scores(head.verb_logits.view());
    let mut triplets = Vec::new();
    for (m, sides) in scene.sides().enumerate() {
        let prior = sides.detected.powf(gamma);
        let relatedness = head.relatedness.as_ref().map(|b| sigmoid(b[m]));
        for verb in scene.verbs(&sides) {
            let global = match image {
                None => None,
                Some((columns, logits)) => match columns.column.get(&(verb, sides.class)) {
                    Some(&column) => Some(sigmoid(logits[column])),
                    None => continue,
                },
            };
            let pair = pair_scores[[m, verb.0 as usize]];
            triplets.extend(sides.triplet(verb, Factors::Weakly { pair, global, relatedness, prior }));
        }
    }
    Ok(triplets)
}
