//! Scores: average precision of interactions with their boxes, and who uses an object.

use hoi_runtime::detector::Detection;
use hoi_runtime::fusion::ScoredTriplet;
use hoi_runtime::vocabulary::Vocabulary;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::example::WeakExample;
use super::model::WeaklyModel;
use super::train::WeaklyError;
use crate::dataset::augment::Augmentation;
use crate::dataset::rendered::{SceneList, UsedObject};
use crate::dataset::{EntityLabel, PictureSet};
use crate::eval::interactions::{InteractionEvaluator, TripletPrediction};
use crate::system::rmlr::{DetectError, DetectOptions, FrozenDetector, MATCH_IOU, Truth, detect_set};

/// Pictures at a time.
const BATCH: usize = 32;

/// Triplets of an example that have an interaction of a set, boxes in pixels of the original image. `interactions[class][verb]` is its
/// index. Those without an object are left out: a prediction needs two boxes.
pub fn predictions(
    example: &WeakExample,
    triplets: &[ScoredTriplet],
    interactions: &[Vec<Option<usize>>],
) -> Vec<TripletPrediction> {
    let entities = &example.picture.entities;
    let prediction = |t: &ScoredTriplet| {
        let object = &entities[t.object?];
        let interaction = interactions[usize::from(object.class.0)][usize::from(t.verb.0)]?;
        Some(TripletPrediction {
            human: example.picture.in_original(&entities[t.human].bbox),
            object: example.picture.in_original(&object.bbox),
            interaction,
            score: t.score,
        })
    };
    triplets.iter().filter_map(prediction).collect()
}

/// Average precision per interaction in `[0, 1]`, by HICO-DET's rule (11 points); `None` where nothing is annotated. Interactions without
/// an object are not scored here: the rule needs two boxes.
///
/// # Errors
/// [`WeaklyError`] when an example is not in the annotation or comes twice, or the vocabulary is not the model's.
pub fn average_precisions(
    model: &WeaklyModel,
    truth: &Truth<'_>,
    examples: &[WeakExample],
) -> Result<Vec<Option<f64>>, WeaklyError> {
    let mut evaluator = InteractionEvaluator::new(truth.count, truth.images, 0);
    for chunk in examples.chunks(BATCH) {
        let chunk: Vec<&WeakExample> = chunk.iter().collect();
        for (example, triplets) in chunk.iter().zip(model.triplets(&chunk, truth.vocabulary)?) {
            evaluator.add_image(example.picture.number, &predictions(example, &triplets, truth.interactions))?;
        }
    }
    Ok(evaluator.average_precisions(|_, _| true))
}

/// Who uses an object, of two persons that both could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Scenes in which both persons and the object were detected.
    pub scenes: usize,
    /// Scenes in which one of them was not.
    pub missed: usize,
    /// Scenes in which the best triplet with the object has the right person.
    pub right: usize,
    /// Scenes in which the most related pair with the object has the right person; `None` without relatedness.
    pub related: Option<usize>,
    /// Scenes in which the person with the nearest centre is the right one.
    pub nearest: usize,
}

/// The detection of an annotated entity: that of its class with the largest IoU of at least 0.5.
fn detection_of(entities: &[Detection], label: &EntityLabel) -> Option<usize> {
    let same = entities.iter().enumerate().filter(|(_, e)| e.class == label.class);
    let overlap = same.map(|(i, e)| (i, e.bbox.iou(&label.bbox)));
    overlap.filter(|(_, iou)| *iou >= MATCH_IOU).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i)
}

/// Asks a model who uses the object in each scene.
///
/// # Errors
/// [`WeaklyError`] when the detector fails or the vocabulary is not the model's.
pub fn users(
    model: &WeaklyModel,
    detector: &dyn FrozenDetector,
    scenes: &[UsedObject],
    vocabulary: &Vocabulary,
) -> Result<Users, WeaklyError> {
    let Some(size) = scenes.first().map(|s| s.scene.size()) else { return Ok(Users::default()) };
    let set = SceneList::new(scenes.iter().map(|s| s.scene.clone()).collect(), vocabulary.clone());
    let indices: Vec<usize> = (0..set.len()).collect();
    let (augmentation, progress) = (Augmentation::exact(size, 0.0), ProgressBar::hidden());
    let options =
        DetectOptions { augmentation: &augmentation, batch: 16, threads: 1, skip_limit: 0, progress: &progress };
    let mut examples = Vec::with_capacity(scenes.len());
    detect_set::<DetectError>(detector, &set, &indices, &options, |found| {
        examples.push(WeakExample::new(found.picture, Vec::new(), vocabulary));
        Ok(())
    })?;
    let mut users = Users { related: model.config().parts.relatedness.then_some(0), ..Users::default() };
    for (chunk, scenes) in examples.chunks(BATCH).zip(scenes.chunks(BATCH)) {
        let chunk: Vec<&WeakExample> = chunk.iter().collect();
        let (outputs, triplets) = (model.outputs(&chunk), model.triplets(&chunk, vocabulary)?);
        for (((example, scene), head), triplets) in chunk.iter().zip(scenes).zip(&outputs).zip(&triplets) {
            let labels = scene.scene.entities();
            let entity = |i: usize| detection_of(&example.picture.entities, &labels[i]);
            let (Some(user), Some(other), Some(object)) =
                (entity(scene.user), entity(scene.other), entity(scene.object))
            else {
                users.missed += 1;
                continue;
            };
            users.scenes += 1;
            users.nearest += usize::from(scene.nearest() == scene.user);
            let either = |human: usize| human == user || human == other;
            let best = triplets.iter().find(|t| t.object == Some(object) && either(t.human));
            users.right += usize::from(best.is_some_and(|t| t.human == user));
            if let (Some(count), Some(related)) = (&mut users.related, &head.relatedness) {
                let pairs = example.pairs.iter().zip(related).filter(|(p, _)| p.object == object && either(p.human));
                let most = pairs.max_by(|a, b| a.1.total_cmp(b.1));
                *count += usize::from(most.is_some_and(|(p, _)| p.human == user));
            }
        }
    }
    Ok(users)
}
