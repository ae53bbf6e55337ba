//! One predicted action-role of one person.

use hoi_runtime::geometry::BBox;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dataset::v_coco::{ACTIONS, ActionRole};
use crate::eval::predictions::Prediction;

/// A predicted person with an action-role, boxes in 0-based continuous pixels of the original image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePrediction {
    /// Box of the person.
    pub human: BBox,
    /// The action and its role; without a role the prediction counts for the AP of the agent only. `hold obj`, `stand` in a file.
    #[serde(serialize_with = "write_verb", deserialize_with = "read_verb")]
    pub verb: ActionRole,
    /// Box in that role; `None` says that the role is absent, and so do four zeros.
    #[serde(deserialize_with = "Option::deserialize")]
    pub role: Option<BBox>,
    /// Any finite number; only the order counts.
    pub score: f32,
}

impl RolePrediction {
    /// Whether it says that the role is absent.
    pub fn is_role_empty(&self) -> bool {
        self.role.is_none_or(|b| [b.x1, b.y1, b.x2, b.y2] == [0.0; 4])
    }
}

impl Prediction for RolePrediction {
    fn not_finite(&self) -> Option<&'static str> {
        match self {
            p if !p.score.is_finite() => Some("score"),
            p if !(p.human.is_finite() && p.role.is_none_or(|b| b.is_finite())) => Some("box"),
            _ => None,
        }
    }
}

/// `hold obj` or, for the action without a role, `hold`. `None` where V-COCO has no such action or the action no such role.
pub fn action_role_named(name: &str) -> Option<ActionRole> {
    let action =
        ACTIONS.iter().position(|a| name.strip_prefix(a.name).is_some_and(|r| r.is_empty() || r.starts_with(' ')))?;
    let roles = (0..ACTIONS[action].roles.len()).map(Some);
    roles.chain([None]).map(|role| ActionRole { action, role }).find(|verb| verb.name() == name)
}

fn write_verb<S: Serializer>(verb: &ActionRole, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&verb.name())
}

fn read_verb<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ActionRole, D::Error> {
    let name = String::deserialize(deserializer)?;
    action_role_named(&name).ok_or_else(|| {
        D::Error::custom(format_args!(
            "verb `{name}` is unknown: expected one of V-COCO's actions with a role of its own, such as `hold obj` or `cut instr`, \
             or without, such as `stand`"
        ))
    })
}
