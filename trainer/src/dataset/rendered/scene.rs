//! A scene: a layout, what everybody does in it, and its picture.

use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::{ObjectClass, Verb};
use image::RgbImage;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

use super::background;
use super::body::{Deed, Looks, Needs};
use super::layout::{Layout, Placed, unit};
use super::object::object;
use super::person::person;
use super::shape::Drawing;
use super::vocabulary::{Act, Kind, verb_sets};
use crate::dataset::{AnnotatedPicture, EntityLabel, PairLabel};

/// How often a person who stands right for it does something.
const ACTIVE: f64 = 0.54;

/// A person that does something to an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ActingPair {
    pub(super) human: usize,
    pub(super) object: usize,
    pub(super) acts: Vec<Act>,
}

/// A scene before it is drawn.
///
/// Entities and pairs are in the order of [`AnnotatedPicture::entities`] and of the pairs there.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedScene {
    pub(super) layout: Layout,
    pub(super) pairs: Vec<ActingPair>,
    /// Seed of background, clutter and noise.
    pub(super) backdrop: u64,
    /// The last entity, where it is neither drawn nor annotated.
    pub(super) hidden: Option<usize>,
}

impl RenderedScene {
    /// Draws a scene: first the layout, then verbs, then looks.
    pub(super) fn compose(size: Size, rng: &mut ChaCha8Rng) -> Self {
        let layout = loop {
            let layout = Layout::draw(size, rng);
            if layout.persons() > 0 && !layout.candidates.is_empty() {
                break layout;
            }
        };
        let pairs = assign(&layout, rng);
        Self { layout, pairs, backdrop: rng.random(), hidden: None }
    }

    /// Size of its picture.
    pub fn size(&self) -> Size {
        self.layout.size
    }

    /// All persons and objects, each once. The boxes are tight around what is drawn of each, hidden parts included.
    pub fn entities(&self) -> Vec<EntityLabel> {
        self.shown().map(|p| EntityLabel { bbox: p.bbox, class: ObjectClass(p.kind as u16) }).collect()
    }

    /// One label per pair and verb.
    pub fn pairs(&self) -> Vec<PairLabel> {
        let mut labels = Vec::new();
        for pair in self.shown_pairs() {
            let object = &self.layout.placed[pair.object];
            let human = self.layout.placed[pair.human].bbox;
            labels.extend(pair.acts.iter().map(|&act| PairLabel {
                human,
                object: object.bbox,
                class: ObjectClass(object.kind as u16),
                verb: Verb(act as u16),
            }));
        }
        labels
    }

    /// Positions (human, object) in [`Self::entities`] of the pairs that carry verbs.
    pub fn acting(&self) -> Vec<(usize, usize)> {
        self.shown_pairs().map(|p| (p.human, p.object)).collect()
    }

    /// The scene without its last entity, whose picture differs in nothing else: a person that held it stands there as before.
    pub(super) fn without_last(&self) -> Self {
        Self { hidden: self.layout.placed.len().checked_sub(1), ..self.clone() }
    }

    fn shown(&self) -> impl Iterator<Item = &Placed> {
        self.layout.placed.iter().enumerate().filter(|(i, _)| Some(*i) != self.hidden).map(|(_, p)| p)
    }

    fn shown_pairs(&self) -> impl Iterator<Item = &ActingPair> {
        self.pairs.iter().filter(|p| Some(p.object) != self.hidden && Some(p.human) != self.hidden)
    }

    /// The drawing of one entity, exactly as large as its box.
    pub(super) fn drawing(&self, index: usize) -> Drawing {
        let Placed { kind, bbox, facing, looks, .. } = &self.layout.placed[index];
        let mut rng = ChaCha8Rng::seed_from_u64(*looks);
        if *kind != Kind::Person {
            return object(*kind, bbox, *facing, unit(self.layout.size), &mut rng);
        }
        let deeds: Vec<Deed> = self
            .pairs
            .iter()
            .filter(|p| p.human == index)
            .map(|p| Deed { acts: p.acts.clone(), object: self.layout.placed[p.object].bbox })
            .collect();
        person(bbox, *facing, &deeds, &Looks::draw(&mut rng))
    }

    /// Positions of the entities from the farthest to the nearest.
    pub fn depth_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.layout.placed.len()).filter(|&i| Some(i) != self.hidden).collect();
        order.sort_by(|&a, &b| self.layout.placed[a].depth.total_cmp(&self.layout.placed[b].depth).then(a.cmp(&b)));
        order
    }

    /// Draws the picture.
    pub fn draw(&self) -> RgbImage {
        let size = self.layout.size;
        let mut rng = ChaCha8Rng::seed_from_u64(self.backdrop);
        let Some(mut pixmap) = Pixmap::new(size.width, size.height) else {
            return RgbImage::new(size.width, size.height);
        };
        background::draw(&mut pixmap, unit(size), &mut rng);
        for index in self.depth_order() {
            self.drawing(index).draw(&mut pixmap, unit(size));
        }
        background::picture(&pixmap, &mut rng)
    }

    /// Draws one entity alone on nothing: its coverage of every pixel, row by row, 0 to 255.
    pub fn coverage(&self, entity: usize) -> Vec<u8> {
        let size = self.layout.size;
        let Some(mut pixmap) = Pixmap::new(size.width, size.height) else { return Vec::new() };
        self.drawing(entity).draw(&mut pixmap, unit(size));
        pixmap.pixels().iter().map(|p| p.alpha()).collect()
    }

    /// The picture with its annotation.
    pub fn annotated(&self, name: String, number: u64) -> AnnotatedPicture {
        AnnotatedPicture { name, number, pixels: self.draw(), entities: self.entities(), pairs: self.pairs() }
    }
}

/// Verbs for a layout. Whether and what a person does depends on the classes alone, never on where things are.
fn assign(layout: &Layout, rng: &mut ChaCha8Rng) -> Vec<ActingPair> {
    let mut pairs: Vec<ActingPair> = Vec::new();
    let mut candidates = layout.candidates.clone();
    candidates.shuffle(rng);
    for (human, object) in candidates {
        if !rng.random_bool(ACTIVE) {
            continue;
        }
        let taken: Vec<Act> = pairs.iter().filter(|p| p.human == human).flat_map(|p| p.acts.clone()).collect();
        if let Some(acts) = draw_verbs(layout.placed[object].kind, &taken, rng) {
            pairs.push(ActingPair { human, object, acts: acts.to_vec() });
        }
    }
    pairs.sort_by_key(|p| (p.human, p.object));
    pairs
}

/// A set of verbs by weight among those that a body already doing `taken` can do too.
pub(super) fn draw_verbs(kind: Kind, taken: &[Act], rng: &mut ChaCha8Rng) -> Option<&'static [Act]> {
    let taken = Needs::of(taken);
    let sets: Vec<_> = verb_sets(kind).iter().filter(|(set, _)| Needs::of(set).goes_with(taken)).collect();
    let total: u32 = sets.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut lot = rng.random_range(0..total);
    for (set, weight) in sets {
        if lot < *weight {
            return Some(set);
        }
        lot -= weight;
    }
    None
}
