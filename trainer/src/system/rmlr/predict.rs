//! A model's answer to a whole set of pictures.

use hoi_runtime::vocabulary::Vocabulary;

use super::detect::{DetectError, DetectOptions, FrozenDetector};
use super::example::Example;
use super::model::{RmlrModel, predictions};
use crate::dataset::PictureSet;
use crate::dataset::loader::{LoaderError, LoaderOptions, Target, batches};
use crate::eval::interactions::TripletPrediction;
use crate::eval::v_coco::{RolePrediction, action_role_named};

/// Shows the pictures `indices` of a set to detector and head, in order, and hands every pair with every valid verb to `sink`, boxes in
/// pixels of the original picture. `interactions[class][verb]` is the number of the interaction ([`predictions`]). Returns the
/// names of pictures that could not be read.
///
/// # Errors
/// What `sink` says, or [`DetectError`].
pub fn predict_set<E: From<DetectError> + std::fmt::Display>(
    model: &RmlrModel,
    detector: &dyn FrozenDetector,
    set: &dyn PictureSet,
    indices: &[usize],
    options: &DetectOptions<'_>,
    interactions: &[Vec<Option<usize>>],
    mut sink: impl FnMut(&Target, &[TripletPrediction]) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let DetectOptions { augmentation, batch, threads, skip_limit, progress } = *options;
    let loader = LoaderOptions { batch, threads, seed: 0, epoch: 0, shuffle: false, skip_limit };
    let (vocabulary, pooling) = (set.vocabulary(), model.config().shape.pooling);
    let report = batches(set, indices, augmentation, &loader, |pictures| {
        let found = detector.detect(&pictures)?;
        let examples: Vec<Example> = found.into_iter().map(|p| Example::new(p, &[], vocabulary, pooling)).collect();
        let logits = model.logits(&examples.iter().collect::<Vec<_>>());
        for ((example, logits), target) in examples.iter().zip(&logits).zip(&pictures.targets) {
            sink(target, &predictions(example, logits, vocabulary, interactions))?;
        }
        progress.inc(examples.len() as u64);
        Ok(())
    })
    .map_err(|e| match e {
        LoaderError::Consumer(e) => e,
        other => E::from(DetectError::from_loader(&other)),
    })?;
    Ok(report.skipped.into_iter().map(|s| s.name).collect())
}

/// A table for [`predictions`] in which the number of an interaction is that of its verb, for sets that are scored by verbs.
pub fn verb_numbers(vocabulary: &Vocabulary) -> Vec<Vec<Option<usize>>> {
    vec![(0..vocabulary.verb_count()).map(Some).collect(); vocabulary.object_count()]
}

/// V-COCO's form of predictions whose interaction is the number of a verb ([`verb_numbers`]) of V-COCO's vocabulary. The object is
/// the box of the verb's role; verbs that are no action with a role are left out.
pub fn role_predictions(found: &[TripletPrediction], vocabulary: &Vocabulary) -> Vec<RolePrediction> {
    let role = |p: &TripletPrediction| {
        let name = vocabulary.spec().verbs.get(p.interaction)?;
        let verb = action_role_named(name)?;
        verb.role?;
        Some(RolePrediction { human: p.human, verb, role: Some(p.object), score: p.score })
    };
    found.iter().filter_map(role).collect()
}
