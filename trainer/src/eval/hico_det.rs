//! HICO-DET's mean average precision: Default and Known-Object, over all, rare and non-rare interactions.
//!
//! Per interaction: all its detections over all images, by falling score. A detection is compared with the annotated pair of that
//! interaction in its image with the largest min(IoU_human, IoU_object); it is true if that is at least 0.5 and the pair is not yet
//! taken, else false: it does not fall back to another pair. AP is the mean over recall 0, 0.1, .., 1 of the best precision at that
//! recall or more.

use std::collections::HashMap;

use hoi_runtime::geometry::BBox;
use serde::Serialize;

use crate::dataset::AnnotatedImage;
use crate::dataset::hico_det::{InteractionTable, KnownObjectImages};

/// Both boxes must overlap the annotated ones by at least this.
pub const MATCH_IOU: f32 = 0.5;

/// A predicted interaction of a pair, boxes in 0-based continuous pixels of the original image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletPrediction {
    /// Box of the human.
    pub human: BBox,
    /// Box of the object.
    pub object: BBox,
    /// Index of the interaction, 0-based.
    pub interaction: usize,
    /// Any finite number; only the order counts.
    pub score: f32,
}

/// Why predictions were refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// An image that is not annotated.
    #[error("image {number} is not in the annotation that is scored against")]
    UnknownImage {
        /// Its number.
        number: u64,
    },
    /// An image whose predictions came before.
    #[error("image {number} was given twice")]
    ImageTwice {
        /// Its number.
        number: u64,
    },
    /// No such interaction.
    #[error("image {number}, prediction {index}: interaction {interaction} is unknown: expected 0 to {last}", last = count.saturating_sub(1))]
    UnknownInteraction {
        /// The image.
        number: u64,
        /// Position in the image's list.
        index: usize,
        /// What was given.
        interaction: usize,
        /// How many there are.
        count: usize,
    },
    /// A score or box that is not a finite number.
    #[error("image {number}, prediction {index}: its {what} is not a finite number")]
    NotFinite {
        /// The image.
        number: u64,
        /// Position in the image's list.
        index: usize,
        /// `score` or `box`.
        what: &'static str,
    },
}

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

/// A detection as far as ranking and matching need it.
#[derive(Clone, Copy)]
struct Ranked {
    score: f32,
    /// Breaks ties at random, and always in the same way.
    lot: u64,
    image: u32,
    /// Position of the best annotated pair in its interaction's list, where it overlaps enough.
    pair: Option<u32>,
}

/// Collects predictions image by image and scores them.
pub struct HicoDetEvaluator<'a> {
    table: &'a InteractionTable,
    known_objects: Option<&'a KnownObjectImages>,
    images: HashMap<u64, Truth>,
    /// `[interaction]`: image numbers of the annotated pairs.
    annotated: Vec<Vec<u64>>,
    detections: Vec<Vec<Ranked>>,
    numbers: Vec<u64>,
    seed: u64,
}

struct Truth {
    /// (interaction, position in the interaction's list, human, object)
    pairs: Vec<(usize, u32, BBox, BBox)>,
    given: bool,
}

/// SplitMix64: a lot per detection that depends on nothing but its place.
fn lot(seed: u64, image: u64, index: u64) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    [image, index].into_iter().fold(seed, |z, part| mix(z.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(part)))
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
        let count = table.classes().len();
        let mut annotated = vec![Vec::new(); count];
        let mut truths = HashMap::with_capacity(images.len());
        for image in images {
            let pairs = image.pairs.iter().map(|p| {
                let list: &mut Vec<u64> = &mut annotated[p.interaction];
                list.push(image.number);
                (p.interaction, list.len() as u32 - 1, p.human, p.object)
            });
            truths.insert(image.number, Truth { pairs: pairs.collect(), given: false });
        }
        let detections = (0..count).map(|_| Vec::new()).collect();
        Self { table, known_objects, images: truths, annotated, detections, numbers: Vec::new(), seed }
    }

    /// Takes all predictions of the image of that number. An image that is never given has none.
    ///
    /// # Errors
    /// [`EvaluationError`] when the image is unknown or was given before, or a prediction is no prediction. Nothing is taken then.
    pub fn add_image(&mut self, number: u64, predictions: &[TripletPrediction]) -> Result<(), EvaluationError> {
        let count = self.table.classes().len();
        for (index, p) in predictions.iter().enumerate() {
            if p.interaction >= count {
                let interaction = p.interaction;
                return Err(EvaluationError::UnknownInteraction { number, index, interaction, count });
            }
            if !p.score.is_finite() {
                return Err(EvaluationError::NotFinite { number, index, what: "score" });
            }
            if !(p.human.is_finite() && p.object.is_finite()) {
                return Err(EvaluationError::NotFinite { number, index, what: "box" });
            }
        }
        let truth = self.images.get_mut(&number).ok_or(EvaluationError::UnknownImage { number })?;
        if std::mem::replace(&mut truth.given, true) {
            return Err(EvaluationError::ImageTwice { number });
        }
        let image = self.numbers.len() as u32;
        self.numbers.push(number);
        for (index, p) in predictions.iter().enumerate() {
            let mut best: Option<(f32, u32)> = None;
            for (_, pair, human, object) in truth.pairs.iter().filter(|t| t.0 == p.interaction) {
                let overlap = human.iou(&p.human).min(object.iou(&p.object));
                if best.is_none_or(|(most, _)| overlap > most) {
                    best = Some((overlap, *pair));
                }
            }
            self.detections[p.interaction].push(Ranked {
                score: p.score,
                lot: lot(self.seed, number, index as u64),
                image,
                pair: best.filter(|(overlap, _)| *overlap >= MATCH_IOU).map(|(_, pair)| pair),
            });
        }
        Ok(())
    }

    /// The scores of all predictions given so far.
    pub fn finish(&mut self) -> HicoDetScores {
        for list in &mut self.detections {
            list.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.lot.cmp(&b.lot)));
        }
        let per_interaction: Vec<_> = (0..self.detections.len()).map(|k| self.average_precision(k, |_| true)).collect();
        let known_object = self.known_objects.map(|known| {
            let precisions: Vec<_> = (0..self.detections.len())
                .map(|k| self.average_precision(k, |number| known.contains(k, number)))
                .collect();
            self.means(&precisions)
        });
        HicoDetScores { default: self.means(&per_interaction), known_object, per_interaction }
    }

    fn average_precision(&self, interaction: usize, counts: impl Fn(u64) -> bool) -> Option<f64> {
        let annotated = &self.annotated[interaction];
        let positives = annotated.iter().filter(|&&number| counts(number)).count();
        let mut taken = vec![false; annotated.len()];
        let ranked = self.detections[interaction].iter();
        let hits = ranked.filter(|d| counts(self.numbers[d.image as usize])).map(|d| match d.pair {
            Some(pair) => !std::mem::replace(&mut taken[pair as usize], true),
            None => false,
        });
        eleven_point_precision(hits, positives)
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

/// Average precision at 11 recalls: the mean over t = 0, 0.1, .., 1 of the best precision where recall is at least t.
///
/// `hits` tells for each detection, by falling score, whether it is true. Recall is compared in integers, `10 tp >= t positives`:
/// floating point would cost up to 0.6 points. `None` without positives.
pub fn eleven_point_precision(hits: impl IntoIterator<Item = bool>, positives: usize) -> Option<f64> {
    if positives == 0 {
        return None;
    }
    let mut best = [0f64; 11];
    let mut true_positives = 0;
    for (seen, hit) in (1..).zip(hits) {
        // Between two hits precision only falls.
        if hit {
            true_positives += 1;
            let reached = (10 * true_positives / positives).min(10);
            best[reached] = best[reached].max(f64::from(true_positives as u32) / f64::from(seen));
        }
    }
    for t in (0..10).rev() {
        best[t] = best[t].max(best[t + 1]);
    }
    Some(best.iter().sum::<f64>() / 11.0)
}

#[cfg(test)]
mod tests;
