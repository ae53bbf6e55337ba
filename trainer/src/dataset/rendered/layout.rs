//! Where persons and objects stand. Nothing here knows a verb: layouts come first, verbs and poses after.

use hoi_runtime::geometry::{BBox, Size};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::vocabulary::Kind;
use super::zone::{around, beside, coin, draw_class, person_box, side_of};

/// Distance kept to the picture's edge, pixels at 160.
const MARGIN: f32 = 1.5;

/// Share of an entity that must stay uncovered by [`Layout::uncovered`]'s careful estimate.
const LEAST_UNCOVERED: f32 = 0.6;

/// Entities of a class may overlap by less than this.
const MOST_IOU: f32 = 0.4;

/// How often a further object in a group lies beside one person only.
const ASIDE: f64 = 0.15;

/// A person or an object that has a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) kind: Kind,
    pub(super) bbox: BBox,
    /// 1 for right, -1 for left.
    pub(super) facing: f32,
    /// What has more of it is nearer to the eye.
    pub(super) depth: f32,
    /// Seed of its looks.
    pub(super) looks: u64,
}

/// All places of a scene.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) size: Size,
    pub(super) placed: Vec<Placed>,
    /// (person, object) that lie as if the person might do something to the object, in the order of drawing.
    pub(super) candidates: Vec<(usize, usize)>,
}

/// Short side over 160.
pub(super) fn unit(size: Size) -> f32 {
    size.width.min(size.height) as f32 / 160.0
}

impl Layout {
    pub(super) fn new(size: Size) -> Self {
        Self { size, placed: Vec::new(), candidates: Vec::new() }
    }

    /// Draws 1 to 4 persons with 1 to 5 objects.
    pub(super) fn draw(size: Size, rng: &mut ChaCha8Rng) -> Self {
        let mut layout = Self::new(size);
        let persons = match rng.random_range(0..100) {
            0..44 => 1,
            44..82 => 2,
            82..95 => 3,
            _ => 4,
        };
        let mut tries = 0;
        while layout.persons() < persons && tries < 40 {
            tries += 1;
            let left = persons - layout.persons();
            if layout.persons() > 0 && rng.random_bool(0.75) {
                layout.join(rng);
            } else {
                layout.settle(rng, left);
            }
        }
        layout.fill(rng);
        layout.complete();
        layout
    }

    pub(super) fn persons(&self) -> usize {
        self.placed.iter().filter(|p| p.kind == Kind::Person).count()
    }

    pub(super) fn objects(&self) -> usize {
        self.placed.len() - self.persons()
    }

    /// More objects. A lone person gets more of them than a group, and most lie beside somebody: where two things lie says little about
    /// whether anything is done.
    fn fill(&mut self, rng: &mut ChaCha8Rng) {
        let persons: Vec<usize> = (0..self.placed.len()).filter(|&i| self.placed[i].kind == Kind::Person).collect();
        let extra = if persons.len() == 1 { rng.random_range(0..4) } else { rng.random_range(0..2) };
        for _ in 0..extra {
            if !persons.is_empty() && rng.random_bool(0.9) {
                let person = persons[rng.random_range(0..persons.len())];
                self.second(rng, person);
            } else {
                self.distract(rng);
            }
        }
    }

    /// A person with an object, or two, somewhere.
    fn settle(&mut self, rng: &mut ChaCha8Rng, left: usize) {
        let person = person_box(rng, unit(self.size));
        let facing = coin(rng);
        let room = self.objects() < 5;
        let kind = draw_class(rng, |k| if k == Kind::Person { left >= 2 } else { room });
        let object = beside(rng, &person, facing, kind);
        let Some((dx, dy)) = self.somewhere(rng, &person.enclosing(&object)) else { return };
        let (person, object) = (person.translate(dx, dy), object.translate(dx, dy));
        let human = self.person(rng, person, facing);
        let other = self.thing(rng, kind, object, facing, Some(human.depth));
        let Some(first) = self.add(vec![human, other]) else { return };
        self.candidates.push((first, first + 1));
        if kind == Kind::Person {
            self.candidates.push((first + 1, first));
            if rng.random_bool(0.4) {
                self.second(rng, first + 1);
            }
        }
        if rng.random_bool(0.25) {
            self.second(rng, first);
        }
    }

    /// One more object for a person, rather one that lies beside another person too.
    fn second(&mut self, rng: &mut ChaCha8Rng, person: usize) {
        if self.objects() >= 5 {
            return;
        }
        let kind = draw_class(rng, |k| k != Kind::Person);
        let Placed { bbox, depth, .. } = self.placed[person];
        let alone = self.persons() == 1 || rng.random_bool(ASIDE);
        for _ in 0..if alone { 6 } else { 24 } {
            let side = coin(rng);
            let object = beside(rng, &bbox, side, kind);
            let shared = (0..self.placed.len()).any(|i| i != person && self.side(i, &object, kind).is_some());
            if self.contested(person, &object, side) || !(alone || shared) {
                continue;
            }
            let thing = self.thing(rng, kind, object, side, Some(depth));
            if let Some(index) = self.add(vec![thing]) {
                self.candidates.push((person, index));
                return;
            }
        }
    }

    /// On which side of a person an object lies as [`beside`] could have put it; `None` when it does not, or for no person.
    fn side(&self, person: usize, object: &BBox, kind: Kind) -> Option<f32> {
        let Placed { kind: Kind::Person, bbox, .. } = &self.placed[person] else { return None };
        side_of(bbox, object, kind)
    }

    /// Makes candidates of the pairs that came to lie like one.
    fn complete(&mut self) {
        for person in 0..self.placed.len() {
            for object in 0..self.placed.len() {
                if person == object || self.candidates.contains(&(person, object)) {
                    continue;
                }
                let Placed { kind, bbox, .. } = self.placed[object];
                if let Some(side) = self.side(person, &bbox, kind)
                    && !self.contested(person, &bbox, side)
                {
                    self.candidates.push((person, object));
                }
            }
        }
    }

    /// Whether a hand at the object could as well be at another object of the person: nobody could tell which of the two is meant.
    fn contested(&self, person: usize, object: &BBox, side: f32) -> bool {
        let middle = self.placed[person].bbox.center().0;
        let others = self.candidates.iter().filter(|c| c.0 == person).map(|c| &self.placed[c.1].bbox);
        others.filter(|o| (o.center().0 - middle) * side > 0.0).any(|o| {
            let common = o.y2.min(object.y2) - o.y1.max(object.y1);
            common > 0.25 * o.height().min(object.height())
        })
    }

    /// One more person at an object that somebody else stands at.
    fn join(&mut self, rng: &mut ChaCha8Rng) {
        let objects: Vec<usize> = (0..self.placed.len()).filter(|&i| self.placed[i].kind != Kind::Person).collect();
        if objects.is_empty() {
            return;
        }
        for _ in 0..6 {
            let object = objects[rng.random_range(0..objects.len())];
            let facing = coin(rng);
            let Placed { kind, bbox, .. } = self.placed[object];
            let Some(person) = around(rng, &bbox, facing, kind, unit(self.size)) else { continue };
            let person = self.person(rng, person, facing);
            let Some(index) = self.add(vec![person]) else { continue };
            self.candidates.push((index, object));
            if rng.random_bool(0.25) {
                self.second(rng, index);
            }
            return;
        }
    }

    /// An object that belongs to nobody.
    fn distract(&mut self, rng: &mut ChaCha8Rng) {
        if self.objects() >= 5 {
            return;
        }
        let kind = draw_class(rng, |k| k != Kind::Person);
        let person = person_box(rng, unit(self.size));
        let object = beside(rng, &person, 1.0, kind);
        let facing = coin(rng);
        let Some((dx, dy)) = self.somewhere(rng, &object) else { return };
        let thing = self.thing(rng, kind, object.translate(dx, dy), facing, None);
        self.add(vec![thing]);
    }

    /// A shift that brings the box somewhere into the picture.
    pub(super) fn somewhere(&self, rng: &mut ChaCha8Rng, bbox: &BBox) -> Option<(f32, f32)> {
        let margin = MARGIN * unit(self.size);
        let mut shift = |low: f32, high: f32, limit: u32| {
            let room = limit as f32 - 2.0 * margin - (high - low);
            (room >= 0.0).then(|| margin - low + room * rng.random::<f32>())
        };
        Some((shift(bbox.x1, bbox.x2, self.size.width)?, shift(bbox.y1, bbox.y2, self.size.height)?))
    }

    pub(super) fn person(&self, rng: &mut ChaCha8Rng, bbox: BBox, facing: f32) -> Placed {
        Placed { kind: Kind::Person, bbox, facing, depth: bbox.y2, looks: rng.random() }
    }

    /// An entity at the depth of its owner: small things are held before the body, large ones stand behind it.
    pub(super) fn thing(
        &self,
        rng: &mut ChaCha8Rng,
        kind: Kind,
        bbox: BBox,
        facing: f32,
        owner: Option<f32>,
    ) -> Placed {
        let depth = match (kind, owner) {
            (Kind::Person, _) | (_, None) => bbox.y2,
            (Kind::Ball | Kind::Cup | Kind::Phone, Some(depth)) => depth + 0.01,
            (_, Some(depth)) => depth - 0.01,
        };
        Placed { kind, bbox, facing, depth, looks: rng.random() }
    }

    /// Adds entities if they lie in the picture and everything stays visible. Returns the index of the first.
    pub(super) fn add(&mut self, new: Vec<Placed>) -> Option<usize> {
        let first = self.placed.len();
        self.placed.extend(new);
        let picture = self.size.bbox();
        let inside = |b: &BBox| b.x1 >= picture.x1 && b.y1 >= picture.y1 && b.x2 <= picture.x2 && b.y2 <= picture.y2;
        let twins = |i: usize| {
            self.placed
                .iter()
                .enumerate()
                .any(|(k, p)| k != i && p.kind == self.placed[i].kind && p.bbox.iou(&self.placed[i].bbox) >= MOST_IOU)
        };
        let fits = (first..self.placed.len()).all(|i| inside(&self.placed[i].bbox) && !twins(i))
            && (0..self.placed.len()).all(|i| self.uncovered(i) >= LEAST_UNCOVERED);
        if fits {
            Some(first)
        } else {
            self.placed.truncate(first);
            None
        }
    }

    /// Share of an entity's box that no nearer entity covers. Poses play no part: a person counts as a column of its box, a narrow one
    /// before other persons, nearly the whole box before an object that one arm could hide.
    fn uncovered(&self, index: usize) -> f32 {
        let Placed { kind, bbox, depth, .. } = &self.placed[index];
        let solid: Vec<BBox> = self
            .placed
            .iter()
            .enumerate()
            .filter(|&(k, p)| k != index && (p.depth, k) > (*depth, index) && p.bbox.intersection(bbox) > 0.0)
            .map(|(_, p)| solid(p, if *kind == Kind::Person { 0.6 } else { 0.95 }))
            .collect();
        if solid.is_empty() {
            return 1.0;
        }
        let body = if *kind == Kind::Person { column(bbox, 0.5) } else { *bbox };
        let (mut free, mut all) = (0, 0);
        for row in 0..8 {
            for column in 0..8 {
                let x = body.x1 + body.width() * (column as f32 + 0.5) / 8.0;
                let y = body.y1 + body.height() * (row as f32 + 0.5) / 8.0;
                all += 1;
                free += i32::from(!solid.iter().any(|s| s.x1 <= x && x < s.x2 && s.y1 <= y && y < s.y2));
            }
        }
        free as f32 / all as f32
    }
}

fn column(bbox: &BBox, share: f32) -> BBox {
    let cut = bbox.width() * (1.0 - share) / 2.0;
    BBox::new(bbox.x1 + cut, bbox.y1, bbox.x2 - cut, bbox.y2)
}

/// The part of an entity's box that hides what is behind it.
fn solid(placed: &Placed, share: f32) -> BBox {
    let b = &placed.bbox;
    match placed.kind {
        Kind::Person => column(b, share),
        Kind::Umbrella => BBox::new(b.x1, b.y1, b.x2, b.y1 + 0.55 * b.height()),
        Kind::Bicycle => column(b, 0.2),
        _ => *b,
    }
}
