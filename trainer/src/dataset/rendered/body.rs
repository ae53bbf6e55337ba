//! What verbs ask of a body, and what a person looks like.

use hoi_runtime::geometry::BBox;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::object::vivid;
use super::shape::{Rgb, shade};
use super::vocabulary::Act;

/// Parts of the body that a set of verbs needs; two sets go together when they share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    arms: u8,
    legs: bool,
    torso: bool,
}

impl Needs {
    /// What a set of verbs needs of the body.
    pub(super) fn of(acts: &[Act]) -> Self {
        let mut needs = Self { arms: 0, legs: false, torso: false };
        for act in acts {
            let (arms, legs, torso) = match act {
                Act::Hold => (1, false, false),
                Act::DrinkWith | Act::TalkOn | Act::WaveAt => (1, false, false),
                Act::PointAt => (2, false, false),
                Act::Hug => (1, false, true),
                Act::Kick => (0, true, true),
                Act::SitOn => (0, true, false),
                Act::Lift => (1, true, true),
                Act::Throw => (1, true, true),
                Act::Push | Act::Pull | Act::Ride => (1, true, true),
            };
            needs.arms += arms;
            needs.legs |= legs;
            needs.torso |= torso;
        }
        needs
    }

    /// Whether one body can do both.
    pub(super) fn goes_with(self, other: Self) -> bool {
        self.arms + other.arms <= 2 && !(self.legs && other.legs) && !(self.torso && other.torso)
    }
}

/// What a person does to one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Deed {
    /// The verbs; none for a person who only stands there.
    pub(super) acts: Vec<Act>,
    /// Box of the object in the picture.
    pub(super) object: BBox,
}

/// Colours and proportions of a person.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Looks {
    pub(super) skin: Rgb,
    pub(super) hair: Rgb,
    pub(super) shirt: Rgb,
    pub(super) trousers: Rgb,
    /// Bare arms, or sleeves to the wrist.
    pub(super) bare: bool,
    /// Thickness of the limbs, 1 on average.
    pub(super) build: f32,
    /// Small deviations of joints, in heights.
    pub(super) jitter: [f32; 16],
    /// Which of the idle poses arms and legs take where no verb asks for them.
    pub(super) idle: [u8; 3],
}

/// Skin from light to dark.
const SKIN: [Rgb; 6] = [[255, 219, 185], [240, 194, 150], [222, 167, 120], [186, 126, 84], [140, 88, 56], [96, 60, 40]];
const HAIR: [Rgb; 6] = [[30, 24, 20], [70, 44, 26], [120, 76, 40], [190, 150, 80], [150, 60, 30], [150, 150, 155]];

impl Looks {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Self {
        Self {
            skin: SKIN[rng.random_range(0..SKIN.len())],
            hair: HAIR[rng.random_range(0..HAIR.len())],
            shirt: vivid(rng),
            trousers: shade(vivid(rng), 0.62),
            bare: rng.random_bool(0.5),
            build: rng.random_range(0.92..1.1),
            jitter: std::array::from_fn(|_| rng.random_range(-0.018..0.018)),
            idle: std::array::from_fn(|_| rng.random_range(0..8)),
        }
    }
}
