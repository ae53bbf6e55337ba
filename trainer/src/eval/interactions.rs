//! Class-wise matching of predicted interactions with annotated pairs, for any list of interactions: HICO-DET's 600, a zero-shot
//! split's, the rendered scenes'.
//!
//! Per interaction: all its detections over all images, by falling score. A detection is compared with the annotated pair of that
//! interaction in its image with the largest min(IoU_human, IoU_object); it is true if that is at least 0.5 and the pair is not yet
//! taken, else false: it does not fall back to another pair.

use std::collections::HashMap;

use hoi_runtime::geometry::BBox;
use serde::{Deserialize, Serialize};

use super::precision::eleven_point_precision;
use super::predictions::Prediction;
use crate::dataset::AnnotatedImage;

/// Both boxes must overlap the annotated ones by at least this.
pub const MATCH_IOU: f32 = 0.5;

/// A predicted interaction of a pair, boxes in 0-based continuous pixels of the original image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Prediction for TripletPrediction {
    fn not_finite(&self) -> Option<&'static str> {
        match self {
            p if !p.score.is_finite() => Some("score"),
            p if !(p.human.is_finite() && p.object.is_finite()) => Some("box"),
            _ => None,
        }
    }
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
    /// No such action, or no such role of it.
    #[error("image {number}, prediction {index}: action {action} with role {role:?} is none of V-COCO's")]
    UnknownActionRole {
        /// The image.
        number: u64,
        /// Position in the image's list.
        index: usize,
        /// Index of the action.
        action: usize,
        /// Index of the role.
        role: Option<usize>,
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

/// A detection as far as ranking and matching need it.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    score: f32,
    /// Breaks ties at random, and always in the same way.
    lot: u64,
    image: u32,
    /// Position of the best annotated pair in its interaction's list, where it overlaps enough.
    pair: Option<u32>,
}

/// Collects predictions image by image, matches them, and ranks them per interaction.
#[derive(Clone, Debug)]
pub struct InteractionEvaluator {
    images: HashMap<u64, Truth>,
    /// `[interaction]`: image numbers of the annotated pairs.
    annotated: Vec<Vec<u64>>,
    detections: Vec<Vec<Ranked>>,
    /// Number of the image that was given as the i-th.
    numbers: Vec<u64>,
    ranked: bool,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Truth {
    /// (interaction, position in the interaction's list, human, object)
    pairs: Vec<(usize, u32, BBox, BBox)>,
    given: bool,
}

/// SplitMix64: a lot per detection that depends on nothing but its place.
pub(super) fn lot(seed: u64, image: u64, index: u64) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    [image, index].into_iter().fold(seed, |z, part| mix(z.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(part)))
}

impl InteractionEvaluator {
    /// An evaluator of `classes` interactions against `images`, whose annotation must be the published one (not merged).
    ///
    /// `seed` fixes how ties are broken.
    ///
    /// # Panics
    /// When a pair's interaction is not below `classes`.
    pub fn new(classes: usize, images: &[AnnotatedImage], seed: u64) -> Self {
        let mut annotated = vec![Vec::new(); classes];
        let mut truths = HashMap::with_capacity(images.len());
        for image in images {
            let pairs = image.pairs.iter().map(|p| {
                assert!(p.interaction < classes, "interaction {} of {classes} in image {}", p.interaction, image.name);
                let list: &mut Vec<u64> = &mut annotated[p.interaction];
                list.push(image.number);
                (p.interaction, list.len() as u32 - 1, p.human, p.object)
            });
            truths.insert(image.number, Truth { pairs: pairs.collect(), given: false });
        }
        let detections = (0..classes).map(|_| Vec::new()).collect();
        Self { images: truths, annotated, detections, numbers: Vec::new(), ranked: true, seed }
    }

    /// Number of interactions.
    pub fn classes(&self) -> usize {
        self.detections.len()
    }

    /// Takes all predictions of the image of that number. An image that is never given has none.
    ///
    /// # Errors
    /// [`EvaluationError`] when the image is unknown or was given before, or a prediction is no prediction. Nothing is taken then.
    pub fn add_image(&mut self, number: u64, predictions: &[TripletPrediction]) -> Result<(), EvaluationError> {
        let count = self.detections.len();
        for (index, p) in predictions.iter().enumerate() {
            if p.interaction >= count {
                let interaction = p.interaction;
                return Err(EvaluationError::UnknownInteraction { number, index, interaction, count });
            }
            if let Some(what) = p.not_finite() {
                return Err(EvaluationError::NotFinite { number, index, what });
            }
        }
        let truth = self.images.get_mut(&number).ok_or(EvaluationError::UnknownImage { number })?;
        if std::mem::replace(&mut truth.given, true) {
            return Err(EvaluationError::ImageTwice { number });
        }
        self.ranked = false;
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

    /// Average precision at 11 recalls in `[0, 1]` of every interaction, over all predictions given so far; `None` where nothing
    /// that counts is annotated.
    ///
    /// `counts(interaction, image number)` says whether the image is scored for this interaction: detections and annotated pairs on
    /// the others are left out (HICO-DET's Known-Object mode).
    pub fn average_precisions(&mut self, counts: impl Fn(usize, u64) -> bool) -> Vec<Option<f64>> {
        if !std::mem::replace(&mut self.ranked, true) {
            for list in &mut self.detections {
                list.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.lot.cmp(&b.lot)));
            }
        }
        (0..self.detections.len()).map(|k| self.average_precision(k, |number| counts(k, number))).collect()
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
}
