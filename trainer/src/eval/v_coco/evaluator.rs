//! Matching by the person, and the two scenarios.

use std::collections::HashMap;

use hoi_runtime::geometry::{BBox, Size};

use super::{AgentScore, LEFT_OUT, RolePrediction, RoleScore, ScenarioMeans, VCocoScores, envelope_area};
use crate::dataset::v_coco::{ACTIONS, ActionRole, VCocoAction, VCocoImage};
use crate::eval::interactions::{EvaluationError, MATCH_IOU, lot};
use crate::eval::predictions::Prediction;

/// Why an annotation cannot be scored against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TruthError {
    /// Two images of one number.
    #[error("image {number} is annotated twice")]
    ImageTwice {
        /// Their number.
        number: u64,
    },
    /// An index that is not one of the 26 actions.
    #[error("image {number}, person {person}: action {action} is unknown: expected 0 to 25")]
    UnknownAction {
        /// The image.
        number: u64,
        /// Position in its list of persons.
        person: usize,
        /// What was given.
        action: usize,
    },
    /// An action that one person does twice.
    #[error("image {number}, person {person}: action `{}` is listed twice", ACTIONS[*action].name)]
    ActionTwice {
        /// The image.
        number: u64,
        /// Position in its list of persons.
        person: usize,
        /// The action.
        action: usize,
    },
    /// Not as many role boxes as the action has roles.
    #[error(
        "image {number}, person {person}: action `{}` has {found} role boxes, expected {}",
        ACTIONS[*action].name,
        ACTIONS[*action].roles.len()
    )]
    RoleCount {
        /// The image.
        number: u64,
        /// Position in its list of persons.
        person: usize,
        /// The action.
        action: usize,
        /// Role boxes given.
        found: usize,
    },
}

/// A detection as far as ranking needs it.
#[derive(Clone, Copy, Debug)]
struct Ranked {
    score: f32,
    /// Breaks ties at random, and always in the same way.
    lot: u64,
    /// In scenario 1 and 2.
    right: [bool; 2],
}

#[derive(Clone, Debug)]
struct Truth {
    persons: Vec<Person>,
    given: bool,
}

/// Boxes end on inclusive pixels.
#[derive(Clone, Debug)]
struct Person {
    bbox: BBox,
    annotated: bool,
    /// `[action]`: the role boxes of what the person does.
    does: Vec<Option<Vec<Option<BBox>>>>,
}

/// Collects predictions image by image and scores them.
#[derive(Clone, Debug)]
pub struct VCocoEvaluator {
    images: HashMap<u64, Truth>,
    /// `[action]`: persons who do it.
    positives: Vec<usize>,
    /// What is scored: every action with each of its roles and without.
    slots: Vec<ActionRole>,
    /// `[slot]`
    detections: Vec<Vec<Ranked>>,
    skipped: usize,
    seed: u64,
}

/// The annotated box on inclusive pixels, clipped; `None` where nothing is left.
fn inclusive(bbox: &BBox, size: Option<Size>) -> Option<BBox> {
    let mut b = *bbox;
    b.x2 = b.x1 + (b.x2 - b.x1 - 1.0).max(0.0);
    b.y2 = b.y1 + (b.y2 - b.y1 - 1.0).max(0.0);
    if let Some(Size { width, height }) = size {
        b = b.clip(Size::new(width.saturating_sub(1), height.saturating_sub(1)));
    }
    (b.x2 > b.x1 && b.y2 > b.y1).then_some(b)
}

/// IoU of boxes that end on inclusive pixels.
fn pixel_iou(a: &BBox, b: &BBox) -> f32 {
    let open = |b: &BBox| BBox::new(b.x1, b.y1, b.x2 + 1.0, b.y2 + 1.0);
    open(a).iou(&open(b))
}

/// Every action with each of its roles and without, by action.
fn slots() -> Vec<ActionRole> {
    let roles = |action: usize| (0..ACTIONS[action].roles.len()).map(Some).chain([None]);
    (0..ACTIONS.len()).flat_map(|action| roles(action).map(move |role| ActionRole { action, role })).collect()
}

fn person(number: u64, index: usize, image: &VCocoImage) -> Result<Option<Person>, TruthError> {
    let person = &image.persons[index];
    let mut does = vec![None; ACTIONS.len()];
    for VCocoAction { action, roles } in &person.actions {
        let known = ACTIONS.get(*action).ok_or(TruthError::UnknownAction { number, person: index, action: *action })?;
        if roles.len() != known.roles.len() {
            let (action, found) = (*action, roles.len());
            return Err(TruthError::RoleCount { number, person: index, action, found });
        }
        let boxes = roles.iter().map(|role| role.and_then(|b| inclusive(&b, image.size))).collect();
        if does[*action].replace(boxes).is_some() {
            return Err(TruthError::ActionTwice { number, person: index, action: *action });
        }
    }
    let bbox = inclusive(&person.bbox, image.size);
    Ok(bbox.map(|bbox| Person { bbox, annotated: person.annotated, does }))
}

impl VCocoEvaluator {
    /// An evaluator against `images`. The persons of an image must be all that COCO has there, in COCO's order: the first of two
    /// with the same IoU is taken.
    ///
    /// `seed` fixes how ties of scores are broken.
    ///
    /// # Errors
    /// [`TruthError`], naming image and person.
    pub fn new(images: &[VCocoImage], seed: u64) -> Result<Self, TruthError> {
        let slots = slots();
        let mut positives = vec![0; ACTIONS.len()];
        let mut truths = HashMap::with_capacity(images.len());
        for image in images {
            let number = image.number;
            let mut persons = Vec::with_capacity(image.persons.len());
            for index in 0..image.persons.len() {
                persons.extend(person(number, index, image)?);
            }
            for person in persons.iter().filter(|p| p.annotated) {
                positives.iter_mut().zip(&person.does).for_each(|(n, does)| *n += usize::from(does.is_some()));
            }
            if truths.insert(number, Truth { persons, given: false }).is_some() {
                return Err(TruthError::ImageTwice { number });
            }
        }
        let detections = vec![Vec::new(); slots.len()];
        Ok(Self { images: truths, positives, slots, detections, skipped: 0, seed })
    }

    /// `[action]`: persons who do it, which is what recall counts.
    pub fn positives(&self) -> &[usize] {
        &self.positives
    }

    /// Takes all predictions of the image of that number. An image that is never given has none.
    ///
    /// # Errors
    /// [`EvaluationError`] when the image is unknown or was given before, or a prediction is no prediction. Nothing is taken then.
    pub fn add_image(&mut self, number: u64, predictions: &[RolePrediction]) -> Result<(), EvaluationError> {
        let mut ranked = Vec::with_capacity(predictions.len());
        for (index, p) in predictions.iter().enumerate() {
            let slot = self.slots.iter().position(|s| *s == p.verb).ok_or(EvaluationError::UnknownActionRole {
                number,
                index,
                action: p.verb.action,
                role: p.verb.role,
            })?;
            if let Some(what) = p.not_finite() {
                return Err(EvaluationError::NotFinite { number, index, what });
            }
            ranked.push((slot, lot(self.seed, number, index as u64), p));
        }
        let truth = self.images.get_mut(&number).ok_or(EvaluationError::UnknownImage { number })?;
        if std::mem::replace(&mut truth.given, true) {
            return Err(EvaluationError::ImageTwice { number });
        }
        ranked.sort_by(|(s, l, p), (t, m, q)| s.cmp(t).then(q.score.total_cmp(&p.score)).then(l.cmp(m)));
        for of_slot in ranked.chunk_by(|a, b| a.0 == b.0) {
            let mut taken = vec![[false; 2]; truth.persons.len()];
            for (slot, lot, p) in of_slot {
                match judge(&truth.persons, &mut taken, p) {
                    Some(right) => self.detections[*slot].push(Ranked { score: p.score, lot: *lot, right }),
                    None => self.skipped += 1,
                }
            }
        }
        Ok(())
    }

    /// The scores of all predictions given so far.
    pub fn finish(&mut self) -> VCocoScores {
        let (mut roles, mut agents) = (Vec::new(), Vec::new());
        for (verb, list) in self.slots.iter().zip(&mut self.detections) {
            list.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.lot.cmp(&b.lot)));
            let positives = self.positives[verb.action];
            let scenario = |s: usize| envelope_area(list.iter().map(|d| d.right[s]), positives).map(|ap| 100.0 * ap);
            let name = verb.name();
            if verb.role.is_some() {
                roles.push(RoleScore { verb: name, positives, scenario_1: scenario(0), scenario_2: scenario(1) });
            } else {
                agents.push(AgentScore { verb: name, positives, average_precision: scenario(0) });
            }
        }
        let alone = |(slot, list): (&ActionRole, &Vec<Ranked>)| slot.role.is_none() && !list.is_empty();
        if !self.slots.iter().zip(&self.detections).any(alone) {
            agents.clear();
        }
        let kept = |r: &&RoleScore| r.verb.split(' ').next() != Some(LEFT_OUT);
        VCocoScores {
            scenario_1: mean(roles.iter().filter(kept).map(|r| r.scenario_1)),
            scenario_2: mean(roles.iter().filter(kept).map(|r| r.scenario_2)),
            with_point: ScenarioMeans {
                scenario_1: mean(roles.iter().map(|r| r.scenario_1)),
                scenario_2: mean(roles.iter().map(|r| r.scenario_2)),
            },
            agent: mean(agents.iter().map(|a| a.average_precision)),
            roles,
            agents,
            skipped: self.skipped,
        }
    }
}

/// Whether the detection is right in scenario 1 and 2; `None` where it is skipped.
fn judge(persons: &[Person], taken: &mut [[bool; 2]], p: &RolePrediction) -> Option<[bool; 2]> {
    let mut best: Option<(f32, usize)> = None;
    for (index, person) in persons.iter().enumerate() {
        let overlap = pixel_iou(&person.bbox, &p.human);
        if best.is_none_or(|(most, _)| overlap > most) {
            best = Some((overlap, index));
        }
    }
    let (overlap, index) = best?;
    let person = &persons[index];
    if !person.annotated {
        return None;
    }
    let role_right = person.does[p.verb.action].as_ref().map(|boxes| match p.verb.role.map(|role| boxes[role]) {
        None => [true; 2],
        Some(None) => [p.is_role_empty(), true],
        Some(Some(annotated)) => [p.role.is_some_and(|b| pixel_iou(&annotated, &b) >= MATCH_IOU); 2],
    });
    let right = role_right.unwrap_or_default().map(|r| r && overlap >= MATCH_IOU);
    Some([0, 1].map(|s| right[s] && !std::mem::replace(&mut taken[index][s], true)))
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
