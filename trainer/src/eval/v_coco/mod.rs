//! V-COCO's official average precision: per action-role in two scenarios, and per action for the person alone.
//!
//! Almost every rule differs from HICO-DET's:
//!
//! - Average precision is the area under the precision envelope ([`envelope_area`]), not a mean over 11 recalls.
//! - Boxes end on inclusive pixels: width and height in the IoU are `x2 - x1 + 1` and `y2 - y1 + 1`. An annotated box `x, y, w, h`
//!   becomes `x, y, x + max(0, w - 1), y + max(0, h - 1)`, clipped to the image; without area it is dropped. Predicted boxes are
//!   taken as they are.
//! - Per image and action-role, by falling score, a detection belongs to the annotated person with the largest IoU to its person,
//!   whatever that IoU is. If V-COCO says nothing about that person, the detection is skipped: neither right nor wrong. So are all
//!   detections in an image without persons.
//! - Else it is right if the person does the action, the persons' IoU is at least 0.5, the role is right, and no detection before
//!   it was right for this person and action-role. There is no second choice of a person.
//! - The role is right if the boxes' IoU is at least 0.5. Where the person's role is not annotated: scenario 1 wants an empty
//!   prediction (none, or all zeros), scenario 2 takes anything.
//! - Recall counts all persons who do the action, with or without the role.

mod evaluator;
mod prediction;

use serde::Serialize;

pub use super::precision::envelope_area;
pub use evaluator::{TruthError, VCocoEvaluator};
pub use prediction::{RolePrediction, action_role_named};

/// The action that most papers leave out of the mean: 31 persons in the test split.
pub const LEFT_OUT: &str = "point";

/// `[action]`: persons who do it in the test split, as the official evaluation counts them. An annotation with other counts gives
/// other scores.
pub const TEST_POSITIVES: [usize; 26] = [
    3608, 4118, 1916, 556, 597, 3347, 349, 521, 635, 387, 285, 472, 244, 246, 269, 687, 410, 424, 486, 417, 1415, 82,
    180, 31, 111, 277,
];

/// V-COCO's scores, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VCocoScores {
    /// Mean role AP of scenario 1 over the 24 action-roles without `point`, those that somebody does: what UPT-style papers quote.
    pub scenario_1: Option<f64>,
    /// The same of scenario 2.
    pub scenario_2: Option<f64>,
    /// The same means with `point`: all 25 action-roles.
    pub with_point: ScenarioMeans,
    /// Mean AP of the 26 actions without any role; `None` where no such prediction was given.
    pub agent: Option<f64>,
    /// Every action-role, in the official order.
    pub roles: Vec<RoleScore>,
    /// Every action, in the official order; empty where no prediction without a role was given.
    pub agents: Vec<AgentScore>,
    /// Predictions that were neither right nor wrong, since V-COCO says nothing about their person.
    pub skipped: usize,
}

/// Means of both scenarios in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScenarioMeans {
    /// An absent role must be predicted absent.
    pub scenario_1: Option<f64>,
    /// Any prediction will do for an absent role.
    pub scenario_2: Option<f64>,
}

/// Average precision of an action-role in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleScore {
    /// `hold obj`.
    pub verb: String,
    /// Persons who do the action, with or without this role.
    pub positives: usize,
    /// AP of scenario 1; `None` without positives.
    pub scenario_1: Option<f64>,
    /// AP of scenario 2.
    pub scenario_2: Option<f64>,
}

/// Average precision of an action, whatever its roles, in percent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgentScore {
    /// `stand`.
    pub verb: String,
    /// Persons who do the action.
    pub positives: usize,
    /// AP; `None` without positives.
    pub average_precision: Option<f64>,
}
