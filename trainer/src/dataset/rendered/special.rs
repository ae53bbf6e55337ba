//! Scenes in sets of two and three, for what a method claims about place, action and neighbours.

use hoi_runtime::geometry::{BBox, Size};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::layout::{Layout, unit};
use super::scene::{ActingPair, RenderedScene, draw_verbs};
use super::vocabulary::{Act, Kind};
use super::zone::{beside, coin, draw_class, person_box};
use super::{RenderedError, check_size, generator};

/// Purposes of generators, beyond those of the splits.
const SAME_PLACE: u64 = 100;
const INTERFERENCE: u64 = 101;
const USED_OBJECT: u64 = 102;

/// One person with one object, three times.
///
/// In every scene the person is entity 0, the object entity 1, and they are the only acting pair.
#[derive(Clone, Debug, PartialEq)]
pub struct SamePlace {
    /// The scene that the others are compared with.
    pub anchor: RenderedScene,
    /// The same boxes and class; no verb in common with the anchor. Looks and background are others.
    pub other_action: RenderedScene,
    /// The same class and verbs, in boxes whose IoU with the anchor's is below 0.2. Looks and background are others.
    pub other_place: RenderedScene,
}

impl SamePlace {
    /// Position of the person in the entities of each scene.
    pub const HUMAN: usize = 0;
    /// Position of the object.
    pub const OBJECT: usize = 1;
}

/// A pair with and without a neighbour's object between human and object; everything else is the same, pixel by pixel.
///
/// In both scenes the person is entity 0, its object entity 1, the neighbour entity 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Interference {
    /// The scene with the neighbour's object, which is the last entity.
    pub with: RenderedScene,
    /// The scene without it.
    pub without: RenderedScene,
}

impl Interference {
    /// Position of the person in the entities of both scenes.
    pub const HUMAN: usize = 0;
    /// Position of its object.
    pub const OBJECT: usize = 1;
    /// Position of the neighbour.
    pub const NEIGHBOUR: usize = 2;
    /// Position of the neighbour's object in [`Self::with`]. It lies inside the box enclosing human and object and outside both.
    pub const INTRUDER: usize = 3;
}

/// Two persons, each placed as if it might use the same object; one of them does.
#[derive(Clone, Debug, PartialEq)]
pub struct UsedObject {
    /// The scene. Whatever else lies in it is used by nobody.
    pub scene: RenderedScene,
    /// Position in its entities of the person that uses the object.
    pub user: usize,
    /// Position of the other person.
    pub other: usize,
    /// Position of the object, which is no person.
    pub object: usize,
}

impl UsedObject {
    /// The person whose box has its centre nearest to the object's.
    pub fn nearest(&self) -> usize {
        let entities = self.scene.entities();
        let distance = |i: usize| {
            let ((x, y), (u, v)) = (entities[i].bbox.center(), entities[self.object].bbox.center());
            (x - u).hypot(y - v)
        };
        if distance(self.other) < distance(self.user) { self.other } else { self.user }
    }
}

/// `n` scenes in which only the picture tells which of two persons uses an object (Weakly-HOI: relatedness).
///
/// # Errors
/// [`RenderedError::TooSmall`] as for a set.
pub fn used_object(size: Size, seed: u64, n: usize) -> Result<Vec<UsedObject>, RenderedError> {
    check_size(size)?;
    Ok((0..n).map(|i| draw_used_object(size, &mut generator(seed, USED_OBJECT, i as u64))).collect())
}

fn draw_used_object(size: Size, rng: &mut ChaCha8Rng) -> UsedObject {
    loop {
        let scene = RenderedScene::compose(size, rng);
        let kind = |i: usize| scene.layout.placed[i].kind;
        let persons: Vec<usize> = (0..scene.layout.placed.len()).filter(|&i| kind(i) == Kind::Person).collect();
        let ([pair], &[a, b]) = (scene.pairs.as_slice(), persons.as_slice()) else { continue };
        let (user, object) = (pair.human, pair.object);
        let other = if user == a { b } else { a };
        if kind(object) != Kind::Person && scene.layout.candidates.contains(&(other, object)) {
            return UsedObject { user, other, object, scene };
        }
    }
}

/// `n` triples for "same place, other action" against "other place, same action" (RmLR: Figure 1).
///
/// # Errors
/// [`RenderedError::TooSmall`] as for a set.
pub fn same_place(size: Size, seed: u64, n: usize) -> Result<Vec<SamePlace>, RenderedError> {
    check_size(size)?;
    Ok((0..n).map(|i| draw_same_place(size, &mut generator(seed, SAME_PLACE, i as u64))).collect())
}

/// `n` scenes with and without a neighbour's object between human and object (RmLR: Figure 4).
///
/// # Errors
/// [`RenderedError::TooSmall`] as for a set.
pub fn interference(size: Size, seed: u64, n: usize) -> Result<Vec<Interference>, RenderedError> {
    check_size(size)?;
    Ok((0..n).map(|i| draw_interference(size, &mut generator(seed, INTERFERENCE, i as u64))).collect())
}

/// A layout of one person and one object of a class.
fn couple(size: Size, kind: Kind, rng: &mut ChaCha8Rng) -> Layout {
    loop {
        let mut layout = Layout::new(size);
        let person = person_box(rng, unit(size));
        let facing = coin(rng);
        let object = beside(rng, &person, facing, kind);
        let Some((dx, dy)) = layout.somewhere(rng, &person.enclosing(&object)) else { continue };
        if place(&mut layout, rng, person.translate(dx, dy), object.translate(dx, dy), kind, facing) {
            return layout;
        }
    }
}

fn place(layout: &mut Layout, rng: &mut ChaCha8Rng, person: BBox, object: BBox, kind: Kind, facing: f32) -> bool {
    let human = layout.person(rng, person, facing);
    let depth = human.depth;
    let thing = layout.thing(rng, kind, object, facing, Some(depth));
    let Some(first) = layout.add(vec![human, thing]) else { return false };
    layout.candidates.push((first, first + 1));
    true
}

fn acting(layout: Layout, acts: &[Act], rng: &mut ChaCha8Rng) -> RenderedScene {
    let pairs = vec![ActingPair { human: 0, object: 1, acts: acts.to_vec() }];
    RenderedScene { layout, pairs, backdrop: rng.random(), hidden: None }
}

fn draw_same_place(size: Size, rng: &mut ChaCha8Rng) -> SamePlace {
    let kind = draw_class(rng, |k| k != Kind::Person);
    let here = couple(size, kind, rng);
    let (first, second) = loop {
        let (Some(first), Some(second)) = (draw_verbs(kind, &[], rng), draw_verbs(kind, &[], rng)) else { continue };
        if !first.iter().any(|a| second.contains(a)) {
            break (first, second);
        }
    };
    let there = loop {
        let there = couple(size, kind, rng);
        if there.placed[0].bbox.iou(&here.placed[0].bbox) < 0.2 {
            break there;
        }
    };
    let mut again = here.clone();
    again.placed.iter_mut().for_each(|p| p.looks = rng.random());
    SamePlace {
        anchor: acting(here, first, rng),
        other_action: acting(again, second, rng),
        other_place: acting(there, first, rng),
    }
}

fn draw_interference(size: Size, rng: &mut ChaCha8Rng) -> Interference {
    loop {
        let kind = draw_class(rng, |k| !matches!(k, Kind::Person | Kind::Bicycle));
        let mut layout = couple(size, kind, rng);
        let [human, object] = [layout.placed[0].bbox, layout.placed[1].bbox];
        let facing = layout.placed[0].facing;
        let intruder = draw_class(rng, |k| matches!(k, Kind::Ball | Kind::Cup | Kind::Phone) && k != kind);
        let neighbour = person_box(rng, unit(size));
        let thing = beside(rng, &neighbour, -facing, intruder);
        // The corner of the enclosing box above (or below) the object is outside both boxes.
        let corner = corner(&human, &object, facing);
        let (width, height) = (corner.width() - thing.width(), corner.height() - thing.height());
        if width < 0.0 || height < 0.0 {
            continue;
        }
        let x = corner.x1 + width * rng.random::<f32>();
        let y = corner.y1 + height * rng.random::<f32>();
        let (dx, dy) = (x - thing.x1, y - thing.y1);
        let (neighbour, thing) = (neighbour.translate(dx, dy), thing.translate(dx, dy));
        // Nothing of the neighbour may hide the pair, or the two scenes would not differ by the object alone.
        if neighbour.intersection(&human) > 0.0 || neighbour.intersection(&object) > 0.25 * object.area() {
            continue;
        }
        if !place(&mut layout, rng, neighbour, thing, intruder, -facing) {
            continue;
        }
        let (Some(first), Some(second)) = (draw_verbs(kind, &[], rng), draw_verbs(intruder, &[], rng)) else {
            continue;
        };
        let pairs = vec![
            ActingPair { human: 0, object: 1, acts: first.to_vec() },
            ActingPair { human: 2, object: 3, acts: second.to_vec() },
        ];
        let with = RenderedScene { layout, pairs, backdrop: rng.random(), hidden: None };
        let without = with.without_last();
        return Interference { with, without };
    }
}

/// The larger of the two parts of the enclosing box that lie beside the human, above or below the object.
fn corner(human: &BBox, object: &BBox, facing: f32) -> BBox {
    let all = human.enclosing(object);
    let (x1, x2) = if facing > 0.0 { (human.x2, all.x2) } else { (all.x1, human.x1) };
    if object.y1 - all.y1 > all.y2 - object.y2 {
        BBox::new(x1, all.y1, x2, object.y1)
    } else {
        BBox::new(x1, object.y2, x2, all.y2)
    }
}
