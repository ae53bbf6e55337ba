//! Scoring examples by the interactions they hold.

use hoi_runtime::vocabulary::Vocabulary;
use tch::Tensor;

use super::example::Example;
use super::model::{RmlrModel, predictions};
use crate::dataset::AnnotatedImage;
use crate::eval::interactions::{EvaluationError, InteractionEvaluator};

/// Pictures at a time.
const BATCH: usize = 32;

/// What predictions are scored against.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// Objects and verbs.
    pub vocabulary: &'a Vocabulary,
    /// `[class][verb]`: index of the interaction, where there is one.
    pub interactions: &'a [Vec<Option<usize>>],
    /// How many interactions there are.
    pub count: usize,
    /// The annotation, boxes in pixels of the original images.
    pub images: &'a [AnnotatedImage],
}

/// Average precision per interaction in `[0, 1]`, by HICO-DET's rule (11 points); `None` where nothing is annotated. `logits` gives
/// `[P, V]` for each of the examples it is shown.
///
/// # Errors
/// [`EvaluationError`] when an example is not in the annotation or comes twice.
pub fn average_precisions(
    truth: &Truth<'_>,
    examples: &[Example],
    mut logits: impl FnMut(&[&Example]) -> Vec<Tensor>,
) -> Result<Vec<Option<f64>>, EvaluationError> {
    let mut evaluator = InteractionEvaluator::new(truth.count, truth.images, 0);
    for chunk in examples.chunks(BATCH) {
        let chunk: Vec<&Example> = chunk.iter().collect();
        for (example, logits) in chunk.iter().zip(logits(&chunk)) {
            let found = predictions(example, &logits, truth.vocabulary, truth.interactions);
            evaluator.add_image(example.picture.number, &found)?;
        }
    }
    Ok(evaluator.average_precisions(|_, _| true))
}

/// Mean of those that are annotated, in percent.
pub fn mean_percent(precisions: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = precisions.iter().flatten().copied().collect();
    100.0 * known.iter().sum::<f64>() / known.len().max(1) as f64
}

/// Mean average precision of a model in percent.
///
/// # Errors
/// As [`average_precisions`].
pub fn mean_average_precision(
    model: &RmlrModel,
    truth: &Truth<'_>,
    examples: &[Example],
) -> Result<f64, EvaluationError> {
    Ok(mean_percent(&average_precisions(truth, examples, |chunk| model.logits(chunk))?))
}
