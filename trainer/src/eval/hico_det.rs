//! HICO-DET's mean average precision: Default and Known-Object, over all, rare and non-rare interactions.
//!
//! Detections are matched as [`super::interactions`] says; AP is the mean over recall 0, 0.1, .., 1 of the best precision at that
//! recall or more.

use serde::Serialize;

use super::interactions::{EvaluationError, InteractionEvaluator, TripletPrediction};
use crate::dataset::AnnotatedImage;
use crate::dataset::hico_det::{InteractionTable, KnownObjectImages};

/// Means of average precision in percent; `None` where no interaction of the group is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanPrecision {
    /// Over all interactions.
    pub full: Option<f64>,
    /// Over those with fewer than 10 training instances.
    pub rare: Option<f64>,
    /// Over the others.
    pub non_rare: Option<f64>,
    /// Over those that are not `no_interaction`.
    pub without_no_interaction: Option<f64>,
}

/// HICO-DET's scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HicoDetScores {
    /// Scored on all images.
    pub default: MeanPrecision,
    /// Each interaction scored on the images that contain its object; `None` where no lists were given.
    pub known_object: Option<MeanPrecision>,
    /// Average precision per interaction, in `[0, 1]`, Default; `None` where nothing is annotated.
    #[serde(skip)]
    pub per_interaction: Vec<Option<f64>>,
}

/// Collects predictions image by image and scores them.
#[derive(Debug)]
pub struct HicoDetEvaluator<'a> {
    table: &'a InteractionTable,
    known_objects: Option<&'a KnownObjectImages>,
    evaluator: InteractionEvaluator,
}

impl<'a> HicoDetEvaluator<'a> {
    /// An evaluator against `images`, whose annotation must be the published one (not merged).
    ///
    /// `seed` fixes how ties are broken; `known_objects` adds the Known-Object scores.
    pub fn new(
        table: &'a InteractionTable,
        images: &[AnnotatedImage],
        known_objects: Option<&'a KnownObjectImages>,
        seed: u64,
    ) -> Self {
        Self { table, known_objects, evaluator: InteractionEvaluator::new(table.classes().len(), images, seed) }
    }

    /// Takes all predictions of the image of that number. An image that is never given has none.
    ///
    /// # Errors
    /// [`EvaluationError`] when the image is unknown or was given before, or a prediction is no prediction. Nothing is taken then.
    pub fn add_image(&mut self, number: u64, predictions: &[TripletPrediction]) -> Result<(), EvaluationError> {
        self.evaluator.add_image(number, predictions)
    }

    /// The scores of all predictions given so far.
    pub fn finish(&mut self) -> HicoDetScores {
        let per_interaction = self.evaluator.average_precisions(|_, _| true);
        let known_object = self.known_objects.map(|known| {
            let precisions = self.evaluator.average_precisions(|k, number| known.contains(k, number));
            self.means(&precisions)
        });
        HicoDetScores { default: self.means(&per_interaction), known_object, per_interaction }
    }

    fn means(&self, precisions: &[Option<f64>]) -> MeanPrecision {
        let background = self.table.vocabulary().background();
        let mean = |wanted: &dyn Fn(usize) -> bool| {
            let group: Vec<f64> =
                precisions.iter().enumerate().filter(|(k, _)| wanted(*k)).filter_map(|(_, ap)| *ap).collect();
            (!group.is_empty()).then(|| 100.0 * group.iter().sum::<f64>() / group.len() as f64)
        };
        let classes = self.table.classes();
        MeanPrecision {
            full: mean(&|_| true),
            rare: mean(&|k| classes[k].rare),
            non_rare: mean(&|k| !classes[k].rare),
            without_no_interaction: mean(&|k| Some(classes[k].interaction.verb) != background),
        }
    }
}

#[cfg(test)]
mod tests;
