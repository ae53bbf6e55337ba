//! How objects lie beside persons, for each class: the same whatever is done to them.

use hoi_runtime::geometry::BBox;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::vocabulary::Kind;

/// Heights of persons, pixels in a picture whose short side is 160.
const PERSON_HEIGHT: std::ops::Range<f32> = 56.0..108.0;

/// Width of persons in their heights.
const PERSON_ASPECT: std::ops::Range<f32> = 0.54..0.72;

/// Weight of each class among the objects of persons, as [`Kind::ALL`].
const CLASS_WEIGHT: [u32; 8] = [45, 14, 13, 11, 14, 12, 12, 12];

/// How an object of a class lies at the edge of a person's box.
struct Zone {
    /// Height in heights of the person.
    height: [f32; 2],
    /// Width in heights of the object.
    aspect: [f32; 2],
    /// Share of its width that lies inside the person's box.
    overlap: [f32; 2],
    /// Its centre below the person's top edge, in heights of the person.
    middle: [f32; 2],
}

fn zone(kind: Kind) -> Zone {
    let (height, aspect, overlap, middle) = match kind {
        Kind::Person => ([0.9, 1.1], [0.54, 0.72], [-0.05, 0.25], [0.45, 0.55]),
        Kind::Ball => ([0.2, 0.3], [1.0, 1.0], [0.05, 0.45], [0.5, 0.8]),
        Kind::Cup => ([0.2, 0.28], [0.95, 1.15], [0.05, 0.45], [0.2, 0.5]),
        Kind::Umbrella => ([0.42, 0.6], [0.95, 1.15], [0.1, 0.4], [0.15, 0.45]),
        Kind::Box => ([0.3, 0.45], [0.95, 1.3], [0.05, 0.4], [0.6, 0.8]),
        Kind::Dog => ([0.32, 0.44], [1.25, 1.55], [0.05, 0.35], [0.6, 0.8]),
        Kind::Phone => ([0.2, 0.28], [0.5, 0.6], [0.1, 0.5], [0.18, 0.5]),
        Kind::Bicycle => ([0.45, 0.58], [1.35, 1.6], [0.15, 0.4], [0.62, 0.75]),
    };
    Zone { height, aspect, overlap, middle }
}

fn between(rng: &mut ChaCha8Rng, [low, high]: [f32; 2]) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

pub(super) fn draw_class(rng: &mut ChaCha8Rng, allowed: impl Fn(Kind) -> bool) -> Kind {
    let weight = |i: usize| if allowed(Kind::ALL[i]) { CLASS_WEIGHT[i] } else { 0 };
    let mut lot = rng.random_range(0..(0..CLASS_WEIGHT.len()).map(weight).sum::<u32>().max(1));
    for (i, &kind) in Kind::ALL.iter().enumerate() {
        if lot < weight(i) {
            return kind;
        }
        lot -= weight(i);
    }
    Kind::Ball
}

pub(super) fn coin(rng: &mut ChaCha8Rng) -> f32 {
    if rng.random_bool(0.5) { 1.0 } else { -1.0 }
}

/// A person's box of usual height, at the origin.
pub(super) fn person_box(rng: &mut ChaCha8Rng, unit: f32) -> BBox {
    let height = unit * rng.random_range(PERSON_HEIGHT);
    BBox::new(0.0, 0.0, height * rng.random_range(PERSON_ASPECT), height)
}

/// An object's box at the edge of a person's, on the side `facing`.
pub(super) fn beside(rng: &mut ChaCha8Rng, person: &BBox, facing: f32, kind: Kind) -> BBox {
    let zone = zone(kind);
    let height = person.height() * between(rng, zone.height);
    let width = height * between(rng, zone.aspect);
    let inside = width * between(rng, zone.overlap);
    let y = person.y1 + person.height() * between(rng, zone.middle);
    let x = if facing > 0.0 { person.x2 - inside } else { person.x1 + inside - width };
    BBox::new(x, y - height / 2.0, x + width, y + height / 2.0)
}

/// A person's box of which an object that has a place lies on the side `facing`; the inverse of [`beside`].
pub(super) fn around(rng: &mut ChaCha8Rng, object: &BBox, facing: f32, kind: Kind, unit: f32) -> Option<BBox> {
    let zone = zone(kind);
    let height = object.height() / between(rng, zone.height);
    if !PERSON_HEIGHT.contains(&(height / unit)) {
        return None;
    }
    let width = height * rng.random_range(PERSON_ASPECT);
    let inside = object.width() * between(rng, zone.overlap);
    let y = object.center().1 - height * between(rng, zone.middle);
    let x = if facing > 0.0 { object.x1 + inside - width } else { object.x2 - inside };
    Some(BBox::new(x, y, x + width, y + height))
}

/// On which side of a person an object lies as [`beside`] could have put it; `None` when it does not.
pub(super) fn side_of(person: &BBox, object: &BBox, kind: Kind) -> Option<f32> {
    let zone = zone(kind);
    let within = |value: f32, [low, high]: [f32; 2]| low <= value && value <= high;
    let high = within(object.height() / person.height(), zone.height)
        && within((object.center().1 - person.y1) / person.height(), zone.middle);
    let inside = [(1.0, person.x2 - object.x1), (-1.0, object.x2 - person.x1)];
    let found = inside.into_iter().find(|(_, inside)| within(inside / object.width(), zone.overlap));
    found.map(|(side, _)| side).filter(|_| high)
}
