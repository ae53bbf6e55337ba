//! A person: what limbs, torso and head do, and the figure drawn from it.
//!
//! A pose is put together from states of arms, legs and torso, and every verb asks for some of them: `hold` for an arm with a low
//! elbow, `kick` for a raised leg, and so on, whatever the object. The finished figure is stretched to the person's box, so a box says
//! nothing about the pose in it.

use hoi_runtime::geometry::BBox;

use super::body::{Deed, Looks};
use super::shape::{Drawing, Part, Point, Shape, at, shade};
use super::vocabulary::Act;

/// What an arm does. Targets are in the person's frame: pixels from the top left of its box, facing right.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arm {
    /// Hangs.
    Rest,
    /// Hand on the hip, elbow out.
    Hip,
    /// Hand at the target, elbow below the line to it.
    BentLow(Point),
    /// Hand at the target, elbow above the line to it.
    BentUp(Point),
    /// Straight to the target.
    Straight(Point),
    /// Upper arm back, forearm up.
    Cocked,
    /// Straight up.
    Up,
    /// Stretched backwards.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Legs {
    Stand,
    Apart,
    /// A step against a load ahead.
    BraceForward,
    /// Heels dug in against a load ahead.
    BraceBack,
    /// One leg raised straight to the target.
    Kick(Point),
    /// Thighs level, to the right (1) or left (-1).
    Sit(f32),
    /// Knees out.
    Squat,
    /// One thigh level.
    KneeUp,
}

/// Where the torso leans, in the facing direction: -1 back, 0 upright, 1 forward.
type Lean = f32;

/// What the body does.
#[derive(Clone, Debug, PartialEq)]
struct Pose {
    arms: [Arm; 2],
    legs: Legs,
    lean: Lean,
    /// Shift of the head along the facing direction, in heights.
    head: f32,
}

/// A person's drawing, exactly as large as its box.
///
/// `facing` is 1 for right and -1 for left; the first deed decides where the torso leans.
pub(super) fn person(bbox: &BBox, facing: f32, deeds: &[Deed], looks: &Looks) -> Drawing {
    let (width, height) = (bbox.width(), bbox.height());
    let local = |x: f32, y: f32| at(if facing > 0.0 { x - bbox.x1 } else { bbox.x2 - x }, y - bbox.y1);
    let targets: Vec<(Vec<Act>, [Point; 2])> = deeds
        .iter()
        .map(|d| {
            let (a, b) = (local(d.object.x1, d.object.y1), local(d.object.x2, d.object.y2));
            (d.acts.clone(), [at(a.x.min(b.x), a.y), at(a.x.max(b.x), b.y)])
        })
        .collect();
    let frame = BBox::new(0.0, 0.0, width, height);
    // The fit moves hands off their targets: the second round aims where the fit brings them back.
    let pose = Pose::of(&targets, width, height, looks);
    let mut first = pose.figure(width, height, looks);
    let fit = first.fit(&frame);
    let mut drawing = pose.aimed(|p| fit.invert(p)).figure(width, height, looks);
    drawing.fit(&frame);
    for part in &mut drawing.parts {
        if let Shape::Line { points, .. } | Shape::Polygon { points } = &mut part.shape {
            for p in points {
                *p = at(if facing > 0.0 { bbox.x1 + p.x } else { bbox.x2 - p.x }, bbox.y1 + p.y);
            }
        }
    }
    drawing
}

impl Pose {
    fn of(targets: &[(Vec<Act>, [Point; 2])], width: f32, height: f32, looks: &Looks) -> Self {
        let idle_arm = |i: u8| match i {
            0 | 1 => Arm::Hip,
            _ => Arm::Rest,
        };
        let (mut arms, mut legs, mut lean, mut head) = ([None::<Arm>; 2], None, None, 0.0);
        for (acts, [low, high]) in targets {
            let has = |a: Act| acts.contains(&a);
            let right = low.x + high.x > width;
            // Hands go to the edge of the person's box where the object lies, at the object's height.
            let hand = at(if right { width } else { 0.0 }, height * 0.3);
            let reach = |share: f32| at(hand.x, hand.y.clamp(low.y + share * (high.y - low.y), high.y));
            let mut give = |arm: Arm, first: usize| {
                let free = if arms[first].is_none() { first } else { 1 - first };
                if arms[free].is_none() {
                    arms[free] = Some(arm);
                }
            };
            let both = has(Act::Push) || has(Act::Pull) || has(Act::Lift) || has(Act::Ride);
            if has(Act::DrinkWith) || has(Act::TalkOn) || has(Act::Hug) {
                give(Arm::BentUp(reach(0.25)), 0);
            }
            if has(Act::Hold) {
                give(Arm::BentLow(reach(0.45)), 0);
            } else if both {
                give(Arm::Straight(reach(0.2)), 0);
            }
            if both {
                give(Arm::Straight(reach(0.6)), 1);
            }
            if has(Act::Hug) && !has(Act::Hold) {
                give(Arm::Straight(reach(0.6)), 1);
            }
            if has(Act::Throw) {
                give(Arm::Cocked, 1);
                if !has(Act::Hold) {
                    give(Arm::Straight(reach(0.35)), 0);
                }
            }
            if has(Act::PointAt) {
                give(Arm::Straight(reach(0.4)), 0);
                give(Arm::Hip, 1);
            }
            if has(Act::WaveAt) {
                give(Arm::Up, 1);
            }
            if has(Act::Kick) {
                let y = ((low.y + high.y) / 2.0).clamp(0.6 * height, 0.8 * height);
                legs = Some(Legs::Kick(at(hand.x, y)));
                lean = lean.or(Some(-0.6));
            }
            if has(Act::SitOn) {
                legs = Some(Legs::Sit(if right { 1.0 } else { -1.0 }));
            } else if has(Act::Ride) {
                legs = Some(Legs::KneeUp);
            } else if has(Act::Push) {
                legs = Some(Legs::BraceForward);
            } else if has(Act::Pull) {
                legs = Some(Legs::BraceBack);
            } else if has(Act::Lift) {
                legs = Some(Legs::Squat);
            } else if has(Act::Throw) {
                legs = Some(Legs::Apart);
            }
            let side = if right { 1.0 } else { -1.0 };
            if has(Act::Push) || has(Act::Ride) || has(Act::Hug) {
                lean = Some(side);
            } else if has(Act::Pull) {
                lean = Some(-side);
            }
            if has(Act::DrinkWith) || has(Act::TalkOn) {
                head = -0.05 * side;
            }
        }
        let kicks = matches!(legs, Some(Legs::Kick(_)));
        let idle = |i: usize| if kicks { Arm::Back } else { idle_arm(looks.idle[i]) };
        Self {
            arms: [arms[0].unwrap_or_else(|| idle(0)), arms[1].unwrap_or_else(|| idle(1))],
            legs: legs.unwrap_or(if looks.idle[2] < 2 { Legs::Apart } else { Legs::Stand }),
            lean: lean.unwrap_or(0.0),
            head,
        }
    }

    fn aimed(&self, aim: impl Fn(Point) -> Point) -> Self {
        let arm = |a: Arm| match a {
            Arm::BentLow(p) => Arm::BentLow(aim(p)),
            Arm::BentUp(p) => Arm::BentUp(aim(p)),
            Arm::Straight(p) => Arm::Straight(aim(p)),
            other => other,
        };
        let legs = match self.legs {
            Legs::Kick(p) => Legs::Kick(aim(p)),
            other => other,
        };
        Self { arms: self.arms.map(arm), legs, ..self.clone() }
    }

    /// The figure in the person's frame, not yet fitted.
    fn figure(&self, width: f32, height: f32, looks: &Looks) -> Drawing {
        let h = height;
        let j = |i: usize| looks.jitter[i] * h;
        let arm_radius = 0.046 * h * looks.build;
        let leg_radius = 0.055 * h * looks.build;
        let low = matches!(self.legs, Legs::Sit(_) | Legs::Squat);
        let hip = at(0.42 * width, if low { 0.66 } else { 0.57 } * h);
        let neck = hip.plus(self.lean * 0.17 * h + j(0), -0.32 * h);
        let head = neck.plus((self.head + 0.04 * self.lean) * h, -0.125 * h);
        let limb = |from: Point, joints: &[(f32, f32)]| -> Vec<Point> {
            std::iter::once(from).chain(joints.iter().map(|&(x, y)| from.plus(x * h, y * h))).collect()
        };
        let sleeve = if looks.bare { looks.skin } else { shade(looks.shirt, 0.8) };
        let mut parts = Vec::with_capacity(12);
        let arm = |i: usize, parts: &mut Vec<Part>| {
            let shoulder = neck.plus(if i == 0 { 0.02 } else { -0.02 } * h, 0.05 * h);
            let points =
                self.arm(self.arms[i], shoulder, h, if i == 0 { 1.0 } else { -1.0 }, [j(2 + 2 * i), j(3 + 2 * i)]);
            let hand = points[points.len() - 1];
            parts.push(Part::line(&points, arm_radius, sleeve));
            parts.push(Part::disc(hand, arm_radius, looks.skin));
        };
        arm(1, &mut parts);
        let dark = shade(looks.trousers, 0.82);
        let (far, near) = self.legs(hip, h, &limb, [j(8), j(9)]);
        for (points, colour) in [(far, dark), (near, looks.trousers)] {
            let foot = points[points.len() - 1];
            parts.push(Part::line(&points, leg_radius, colour));
            parts.push(Part::line(&[foot, foot], leg_radius, [40, 36, 34]));
        }
        parts.push(Part::line(&[hip, neck.plus(0.0, 0.06 * h)], 0.088 * h * looks.build, looks.shirt));
        parts.push(Part::disc(head, 0.098 * h, looks.skin));
        parts.push(Part::line(
            &[head.plus(-0.05 * h, -0.045 * h), head.plus(0.05 * h, -0.045 * h)],
            0.05 * h,
            looks.hair,
        ));
        arm(0, &mut parts);
        Drawing { parts }
    }

    fn arm(&self, arm: Arm, shoulder: Point, h: f32, side: f32, [jx, jy]: [f32; 2]) -> Vec<Point> {
        let go = |joints: &[(f32, f32)]| -> Vec<Point> {
            std::iter::once(shoulder)
                .chain(joints.iter().map(|&(x, y)| shoulder.plus(x * h + jx, y * h + jy)))
                .collect()
        };
        let bent = |target: Point, low: bool| {
            let distance = shoulder.distance(target).max(1e-3);
            let length = (0.7 * distance).max(0.25 * h);
            let off = (length * length - distance * distance / 4.0).max(0.0).sqrt();
            // The normal that points down (screen) for a low elbow.
            let (dx, dy) = ((target.x - shoulder.x) / distance, (target.y - shoulder.y) / distance);
            let sign = if (dx >= 0.0) == low { 1.0 } else { -1.0 };
            let elbow = shoulder.towards(target, 0.5).plus(-dy * off * sign, dx * off * sign);
            vec![shoulder, elbow, target.plus(0.0, jy)]
        };
        match arm {
            Arm::Rest => go(&[(0.06 * side, 0.18), (0.09 * side, 0.35)]),
            Arm::Hip => go(&[(0.23 * side, 0.13), (0.07 * side, 0.29)]),
            Arm::BentLow(target) => bent(target, true),
            Arm::BentUp(target) => bent(target, false),
            Arm::Straight(target) => vec![shoulder, target.plus(0.0, jy)],
            Arm::Cocked => go(&[(-0.25, -0.03), (-0.2, -0.3)]),
            Arm::Up => go(&[(-0.1, -0.17), (-0.14, -0.38)]),
            Arm::Back => go(&[(-0.18, 0.06), (-0.36, 0.02 + 0.08 * side)]),
        }
    }

    /// Far and near leg.
    fn legs(
        &self,
        hip: Point,
        h: f32,
        limb: &impl Fn(Point, &[(f32, f32)]) -> Vec<Point>,
        [ja, jb]: [f32; 2],
    ) -> (Vec<Point>, Vec<Point>) {
        let (ja, jb) = (ja / h, jb / h);
        match self.legs {
            Legs::Stand => (limb(hip, &[(-0.06 + ja, 0.37)]), limb(hip, &[(0.06 + jb, 0.37)])),
            Legs::Apart => (limb(hip, &[(-0.19 + ja, 0.36)]), limb(hip, &[(0.19 + jb, 0.36)])),
            Legs::BraceForward => (
                limb(hip, &[(-0.3 * self.lean + ja, 0.36)]),
                limb(hip, &[(0.15 * self.lean + jb, 0.16), (0.1 * self.lean, 0.37)]),
            ),
            Legs::BraceBack => (
                limb(hip, &[(-0.17 * self.lean + ja, 0.14), (0.02 * self.lean, 0.37)]),
                limb(hip, &[(-0.33 * self.lean + jb, 0.36)]),
            ),
            Legs::Kick(target) => (limb(hip, &[(-0.05 + ja, 0.37)]), vec![hip, target.plus(0.0, jb * h)]),
            Legs::Sit(side) => (
                limb(hip, &[(0.22 * side + ja, -0.02), (0.2 * side, 0.29)]),
                limb(hip, &[(0.27 * side + jb, 0.03), (0.3 * side, 0.3)]),
            ),
            Legs::Squat => {
                (limb(hip, &[(-0.25 + ja, 0.04), (-0.13, 0.29)]), limb(hip, &[(0.25 + jb, 0.04), (0.13, 0.29)]))
            }
            Legs::KneeUp => {
                let side = if self.lean < 0.0 { -1.0 } else { 1.0 };
                (limb(hip, &[(-0.05 * side + ja, 0.37)]), limb(hip, &[(0.25 * side + jb, -0.03), (0.2 * side, 0.2)]))
            }
        }
    }
}
