//! Stanford-40 by a bundle of the runtime: which action a photo's person does, with the person's box given, with the person detected, and as
//! the pipeline says it by itself.

use std::collections::BTreeMap;

use hoi_runtime::detector::Detection;
use hoi_runtime::fusion::sigmoid;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pairing::select_entities;
use hoi_runtime::pipeline::{HoiPipeline, HoiTriplet, PipelineError};
use hoi_runtime::preprocess::prepare;
use hoi_runtime::source::Frame;
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary};
use image::RgbImage;

use super::precision::ranking_precision;
use crate::dataset::stanford40::ACTIONS;

/// A person of a photo is the annotated one from this IoU on.
const SAME_PERSON: f32 = 0.5;

/// How the actions map to a bundle's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionMap {
    /// Verb and object of each of [`ACTIONS`].
    actions: Vec<(Verb, Option<ObjectClass>)>,
}

/// Why a bundle cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActionMapError {
    /// It has no table.
    #[error(
        "the manifest has no `evaluation.stanford40`: it does not say what the set's actions are in its vocabulary"
    )]
    NoTable,
    /// An action is missing.
    #[error("evaluation.stanford40 has no action `{action}`; all 40 are needed")]
    NoAction {
        /// The action.
        action: &'static str,
    },
    /// A name that the vocabulary does not have.
    #[error("evaluation.stanford40: `{name}` of the action `{action}` is not in the bundle's vocabulary")]
    Unknown {
        /// The action.
        action: &'static str,
        /// The name.
        name: String,
    },
}

impl ActionMap {
    /// Resolves a manifest's table.
    ///
    /// # Errors
    /// [`ActionMapError`].
    pub fn new(
        evaluation: &BTreeMap<String, BTreeMap<String, (String, Option<String>)>>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, ActionMapError> {
        let table = evaluation.get("stanford40").ok_or(ActionMapError::NoTable)?;
        let resolve = |&(action, ..): &(&'static str, &str, Option<&str>)| {
            let (verb, object) = table.get(action).ok_or(ActionMapError::NoAction { action })?;
            let unknown = |name: &str| ActionMapError::Unknown { action, name: name.to_owned() };
            let verb = vocabulary.verb(verb).ok_or_else(|| unknown(verb))?;
            match object {
                None => Ok((verb, None)),
                Some(name) => Ok((verb, Some(vocabulary.object(name).ok_or_else(|| unknown(name))?))),
            }
        };
        Ok(Self { actions: ACTIONS.iter().map(resolve).collect::<Result<_, _>>()? })
    }

    /// The best score of each action among triplets of one person; 0 for those that are not said.
    fn best<'t>(&self, triplets: impl Iterator<Item = &'t HoiTriplet> + Clone) -> Vec<f32> {
        let said = |action: &(Verb, Option<ObjectClass>)| {
            let own = triplets.clone().filter(|t| (t.verb, t.object.as_ref().map(|o| o.class)) == *action);
            own.map(|t| t.score).fold(0.0, f32::max)
        };
        self.actions.iter().map(said).collect()
    }
}

/// What a bundle says of a photo: a score for each of [`ACTIONS`].
#[derive(Clone, Debug, PartialEq)]
pub struct PhotoScores {
    /// With the annotated box as the person.
    pub given: Vec<f32>,
    /// With the detected person that overlaps it most, at least half; `None` where there is none.
    pub detected: Option<Vec<f32>>,
    /// By the pipeline's own triplets of a person that overlaps the annotated one at least half: an action with an object needs that object
    /// found.
    pub said: Vec<f32>,
    /// The triplets that the pipeline says of that person, by falling score.
    pub triplets: Vec<HoiTriplet>,
}

/// Asks a pipeline about photos.
pub struct ActionScorer<'a> {
    /// The pipeline.
    pub pipeline: &'a HoiPipeline,
    /// Its vocabulary's names of the actions.
    pub map: &'a ActionMap,
}

impl ActionScorer<'_> {
    /// Scores the actions of a photo's person.
    ///
    /// Where the head answers for objects that were not found, `given` and `detected` are these answers; otherwise they are the best
    /// triplets that the pipeline says of that person.
    ///
    /// # Errors
    /// [`PipelineError`] when a network fails.
    pub fn score(&self, pixels: &RgbImage, person: &BBox) -> Result<PhotoScores, PipelineError> {
        let pipeline = self.pipeline;
        let human = pipeline.vocabulary().human();
        let size = Size::new(pixels.width(), pixels.height());
        let (input, transform) = prepare(pixels, &pipeline.detector().spec().input);
        let found = pipeline.detector().detect(input, &transform, size)?;
        let entities = select_entities(&found.detections, human, pipeline.pairing());
        let own = |b: &BBox| b.iou(person) >= SAME_PERSON;
        let persons = entities.iter().filter(|e| e.class == human && own(&e.bbox));
        let detected = persons.max_by(|a, b| a.bbox.iou(person).total_cmp(&b.bbox.iou(person))).cloned();
        let given = Detection { bbox: *person, class: human, score: 1.0 };
        let of_person = |who: &Detection| -> Result<Vec<f32>, PipelineError> {
            if pipeline.head().answers_unplaced() {
                let questions: Vec<(usize, ObjectClass)> =
                    self.map.actions.iter().map(|(_, object)| (0, object.unwrap_or(human))).collect();
                let logits = pipeline.head().ask(std::slice::from_ref(who), &questions, size, &found.features)?;
                let own = self.map.actions.iter().zip(logits.rows());
                return Ok(own.map(|((verb, _), row)| sigmoid(row[usize::from(verb.0)])).collect());
            }
            let others = found.detections.iter().filter(|d| d.class != human).cloned();
            let all: Vec<Detection> = [who.clone()].into_iter().chain(others).collect();
            let features: Vec<_> =
                found.features.iter().filter(|(name, _)| name.starts_with("feature")).cloned().collect();
            let result = pipeline.interactions(&all, &features, size)?;
            Ok(self.map.best(result.triplets.iter()))
        };
        let frame = Frame { pixels: pixels.clone(), source: String::new(), index: 0, decode_ms: 0.0 };
        let mut triplets = pipeline.run(&frame)?.triplets;
        triplets.retain(|t| own(&t.human.bbox));
        Ok(PhotoScores {
            given: of_person(&given)?,
            detected: detected.as_ref().map(of_person).transpose()?,
            said: self.map.best(triplets.iter()),
            triplets,
        })
    }

    /// The triplets of a photo that are actions of the set, with their scores, and whether the photo shows them.
    pub fn said_and_true(&self, scores: &PhotoScores, action: usize) -> Vec<(f32, bool)> {
        let number = |t: &HoiTriplet| {
            let own = (t.verb, t.object.as_ref().map(|o| o.class));
            self.map.actions.iter().position(|a| *a == own)
        };
        scores.triplets.iter().filter_map(|t| Some((t.score, number(t)? == action))).collect()
    }
}

/// Mean average precision, in percent, and that of each action, of photos whose actions and scores stand side by side. A photo without scores comes last
/// in every ranking.
pub fn action_precisions(actions: &[usize], scores: &[Option<&[f32]>]) -> (Option<f64>, Vec<Option<f64>>) {
    let ranked = (0..ACTIONS.len()).map(|a| {
        let list: Vec<(f32, bool)> =
            actions.iter().zip(scores).map(|(own, s)| (s.map_or(-1.0, |s| s[a]), *own == a)).collect();
        ranking_precision(&list).map(|ap| 100.0 * ap)
    });
    let each: Vec<Option<f64>> = ranked.collect();
    let there: Vec<f64> = each.iter().flatten().copied().collect();
    let mean = (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64);
    (mean, each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::stanford40::vocabulary;

    #[test]
    fn every_action_must_be_named() {
        let vocabulary = vocabulary().unwrap();
        let mut table: BTreeMap<String, (String, Option<String>)> =
            ACTIONS.iter().map(|(a, v, o)| ((*a).to_owned(), ((*v).to_owned(), o.map(str::to_owned)))).collect();
        let map = |table: &BTreeMap<String, (String, Option<String>)>| {
            ActionMap::new(&BTreeMap::from([("stanford40".to_owned(), table.clone())]), &vocabulary)
        };
        assert_eq!(map(&table).unwrap().actions.len(), 40);
        assert_eq!(ActionMap::new(&BTreeMap::new(), &vocabulary), Err(ActionMapError::NoTable));
        table.insert("running".into(), ("run".into(), Some("sofa".into())));
        assert!(map(&table).unwrap_err().to_string().contains("`sofa` of the action `running`"));
        table.remove("running");
        assert_eq!(map(&table), Err(ActionMapError::NoAction { action: "running" }));
    }

    #[test]
    fn precisions_by_hand() {
        let row = |of_0: f32| {
            let mut row = vec![0.0; 40];
            row[0] = of_0;
            row
        };
        let rows = [row(0.9), row(0.8), row(0.7)];
        let scores = [Some(rows[0].as_slice()), Some(rows[1].as_slice()), Some(rows[2].as_slice()), None];
        // Action 0 at ranks 1 and 3, and a photo without scores at 4: (1 + 2/3 + 3/4) / 3.
        let (mean, each) = action_precisions(&[0, 1, 0, 0], &scores);
        assert!((each[0].unwrap() - 100.0 * (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-9);
        assert_eq!(each[2], None);
        assert!((mean.unwrap() - (each[0].unwrap() + each[1].unwrap()) / 2.0).abs() < 1e-9);
    }
}
