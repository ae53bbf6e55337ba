//! Scoring a pair scorer on HICO-DET's annotation with the boxes given: no picture, no detector.

use std::error::Error;

use hoi_runtime::vocabulary::ObjectClass;
use serde::Serialize;

use super::hico_det::{HicoDetEvaluator, HicoDetScores};
use super::interactions::{EvaluationError, TripletPrediction};
use crate::dataset::AnnotatedImage;
use crate::dataset::hico_det::{InteractionTable, KnownObjectImages};
use crate::dataset::layout::{Draw, LayoutSample, SceneSet, Setting};

/// The annotation that pairs are scored against.
#[derive(Clone, Copy, Debug)]
pub struct LayoutTruth<'a> {
    /// Interactions and vocabulary.
    pub table: &'a InteractionTable,
    /// The annotation as published.
    pub images: &'a [AnnotatedImage],
    /// The same images with their boxes merged.
    pub scenes: &'a SceneSet,
    /// Image lists of the Known-Object mode, where there are.
    pub known_objects: Option<&'a KnownObjectImages>,
}

/// Scores of a setting, and what they were measured on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayoutScores {
    /// What surrounded the annotated boxes.
    pub setting: Setting,
    /// Mean average precisions.
    #[serde(flatten)]
    pub scores: HicoDetScores,
    /// Images scored.
    pub images: usize,
    /// Pairs scored.
    pub pairs: usize,
    /// Pairs left out because their image had more than the cap.
    pub pairs_left_out: usize,
    /// Images in which that happened.
    pub images_capped: usize,
}

/// Why scoring failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutScoreError {
    /// The scorer failed.
    #[error("image {number} could not be scored")]
    Scorer {
        /// The image.
        number: u64,
        /// The scorer's own error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The scorer gave another number of values than pairs times verbs.
    #[error("image {number}: the scorer gave {found} values for {pairs} pairs of {verbs} verbs")]
    WrongLength {
        /// The image.
        number: u64,
        /// Values given.
        found: usize,
        /// Pairs.
        pairs: usize,
        /// Verbs.
        verbs: usize,
    },
    /// The predictions were refused.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

/// Draws every scene once, lets `scorer` give a value per pair and verb (`[P, V]` row by row; only the order counts), and scores
/// the verbs valid for each pair's object by the official rule against the published annotation.
///
/// # Errors
/// [`LayoutScoreError`], naming the image.
pub fn score_layout<E: Into<Box<dyn Error + Send + Sync>>>(
    truth: &LayoutTruth<'_>,
    setting: Setting,
    seed: u64,
    mut scorer: impl FnMut(&LayoutSample) -> Result<Vec<f32>, E>,
) -> Result<LayoutScores, LayoutScoreError> {
    let LayoutTruth { table, images, scenes, known_objects } = *truth;
    let interactions = table.index();
    let vocabulary = table.vocabulary();
    let verbs = vocabulary.verb_count();
    let mut evaluator = HicoDetEvaluator::new(table, images, known_objects, seed);
    let draw = Draw { setting, seed, epoch: 0, flip: false };
    let (mut pairs, mut pairs_left_out, mut images_capped) = (0, 0, 0);
    for (index, scene) in scenes.scenes().iter().enumerate() {
        let number = scene.number;
        let sample = scenes.draw(index, &draw);
        let values = scorer(&sample).map_err(|e| LayoutScoreError::Scorer { number, source: e.into() })?;
        if values.len() != sample.pairs.len() * verbs {
            let (found, pairs) = (values.len(), sample.pairs.len());
            return Err(LayoutScoreError::WrongLength { number, found, pairs, verbs });
        }
        let mut predictions = Vec::new();
        for (row, pair) in sample.pairs.iter().enumerate() {
            let (human, object) = (&sample.entities[pair.human], &sample.entities[pair.object]);
            let ObjectClass(class) = object.class;
            for verb in vocabulary.valid_verbs(object.class) {
                let verb = verb.0 as usize;
                let Some(interaction) = interactions[class as usize][verb] else { continue };
                let score = values[row * verbs + verb];
                predictions.push(TripletPrediction { human: human.bbox, object: object.bbox, interaction, score });
            }
        }
        evaluator.add_image(number, &predictions)?;
        pairs += sample.pairs.len();
        pairs_left_out += sample.left_out;
        images_capped += usize::from(sample.left_out > 0);
    }
    let scores = evaluator.finish();
    Ok(LayoutScores { setting, scores, images: scenes.scenes().len(), pairs, pairs_left_out, images_capped })
}
