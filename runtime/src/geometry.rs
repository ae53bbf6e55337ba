//! Boxes and sizes: the only box arithmetic of the workspace.
//!
//! Boxes are `xyxy`, `f32` pixels, origin at the top left, half-open. A box whose right edge is left of its left edge (or whose
//! bottom is above its top) has width (height) 0 and therefore area 0; negative extents are never multiplied.

use serde::{Deserialize, Serialize};

/// Width and height of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Pixels from the left to the right edge.
    pub width: u32,
    /// Pixels from the top to the bottom edge.
    pub height: u32,
}

impl Size {
    /// A size of `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// The box that covers the whole picture.
    pub fn bbox(self) -> BBox {
        BBox::new(0.0, 0.0, self.width as f32, self.height as f32)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// An axis-aligned box `[x1, y1, x2, y2]` in pixels; serialised as that array.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f32; 4]", into = "[f32; 4]")]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge (exclusive).
    pub x2: f32,
    /// Bottom edge (exclusive).
    pub y2: f32,
}

impl From<[f32; 4]> for BBox {
    fn from([x1, y1, x2, y2]: [f32; 4]) -> Self {
        Self { x1, y1, x2, y2 }
    }
}

impl From<BBox> for [f32; 4] {
    fn from(b: BBox) -> Self {
        [b.x1, b.y1, b.x2, b.y2]
    }
}

impl BBox {
    /// The box with these edges; no order is enforced.
    pub fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// The box around a centre.
    pub fn from_center(cx: f32, cy: f32, width: f32, height: f32) -> Self {
        Self::new(cx - width / 2.0, cy - height / 2.0, cx + width / 2.0, cy + height / 2.0)
    }

    /// Width in pixels, never negative.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height in pixels, never negative.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Area in square pixels, never negative.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre `(x, y)`.
    pub fn center(&self) -> (f32, f32) {
        ((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    /// Whether all four edges are finite numbers.
    pub fn is_finite(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|v| v.is_finite())
    }

    /// Area common to both boxes; 0 where they do not overlap or either has no area.
    pub fn intersection(&self, other: &BBox) -> f32 {
        if self.area() == 0.0 || other.area() == 0.0 {
            return 0.0;
        }
        let width = self.x2.min(other.x2) - self.x1.max(other.x1);
        let height = self.y2.min(other.y2) - self.y1.max(other.y1);
        width.max(0.0) * height.max(0.0)
    }

    /// Area covered by either box.
    pub fn union_area(&self, other: &BBox) -> f32 {
        self.area() + other.area() - self.intersection(other)
    }

    /// Intersection over union in `[0, 1]`; 0 when neither box has an area.
    pub fn iou(&self, other: &BBox) -> f32 {
        let intersection = self.intersection(other);
        let union = self.area() + other.area() - intersection;
        if union > 0.0 { (intersection / union).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The smallest box that encloses both.
    pub fn enclosing(&self, other: &BBox) -> BBox {
        BBox::new(self.x1.min(other.x1), self.y1.min(other.y1), self.x2.max(other.x2), self.y2.max(other.y2))
    }

    /// The part of the box inside a picture of `size`. A box outside becomes an empty box on the nearest edge.
    pub fn clip(&self, size: Size) -> BBox {
        let (w, h) = (size.width as f32, size.height as f32);
        BBox::new(self.x1.clamp(0.0, w), self.y1.clamp(0.0, h), self.x2.clamp(0.0, w), self.y2.clamp(0.0, h))
    }

    /// The box with x multiplied by `sx` and y by `sy`.
    pub fn scale(&self, sx: f32, sy: f32) -> BBox {
        BBox::new(self.x1 * sx, self.y1 * sy, self.x2 * sx, self.y2 * sy)
    }

    /// The box moved by `(dx, dy)`.
    pub fn translate(&self, dx: f32, dy: f32) -> BBox {
        BBox::new(self.x1 + dx, self.y1 + dy, self.x2 + dx, self.y2 + dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn b(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox::new(x1, y1, x2, y2)
    }

    #[test]
    fn iou_by_hand() {
        let cases = [
            (b(0., 0., 10., 10.), b(0., 0., 10., 10.), 1.0),
            (b(0., 0., 10., 10.), b(5., 0., 15., 10.), 1.0 / 3.0),
            (b(0., 0., 10., 10.), b(5., 5., 15., 15.), 25.0 / 175.0),
            (b(0., 0., 10., 10.), b(10., 0., 20., 10.), 0.0),
            (b(0., 0., 10., 10.), b(2., 2., 4., 4.), 0.04),
            // Zero area and inverted edges.
            (b(5., 5., 5., 9.), b(0., 0., 10., 10.), 0.0),
            (b(3., 3., 3., 3.), b(3., 3., 3., 3.), 0.0),
            (b(10., 10., 0., 0.), b(0., 0., 10., 10.), 0.0),
        ];
        for (p, q, want) in cases {
            assert!((p.iou(&q) - want).abs() < 1e-6, "{p:?} {q:?} {} {want}", p.iou(&q));
        }
    }

    #[test]
    fn negative_extents_have_no_area() {
        assert_eq!(b(10., 10., 0., 0.).area(), 0.0);
        assert_eq!(b(10., 0., 0., 10.).area(), 0.0);
    }

    #[test]
    fn enclosing_union_clip_by_hand() {
        assert_eq!(b(0., 0., 2., 2.).enclosing(&b(5., 1., 6., 9.)), b(0., 0., 6., 9.));
        assert_eq!(b(0., 0., 4., 4.).union_area(&b(2., 0., 6., 4.)), 24.0);
        assert_eq!(b(-3., 2., 700., 9.).clip(Size::new(640, 5)), b(0., 2., 640., 5.));
        assert_eq!(b(700., 2., 800., 4.).clip(Size::new(640, 480)).area(), 0.0);
        assert_eq!(b(1., 2., 3., 4.).scale(2.0, 3.0), b(2., 6., 6., 12.));
        assert_eq!(BBox::from_center(5., 6., 4., 2.), b(3., 5., 7., 7.));
    }

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(v in prop::array::uniform8(-50f32..700.0)) {
            let p = b(v[0], v[1], v[2], v[3]);
            let q = b(v[4], v[5], v[6], v[7]);
            prop_assert_eq!(p.iou(&q), q.iou(&p));
            prop_assert!((0.0..=1.0).contains(&p.iou(&q)));
        }

        #[test]
        fn clipped_box_lies_inside(v in prop::array::uniform4(-900f32..900.0)) {
            let c = b(v[0], v[1], v[2], v[3]).clip(Size::new(320, 240));
            prop_assert!(c.x1 >= 0.0 && c.x2 <= 320.0 && c.y1 >= 0.0 && c.y2 <= 240.0);
        }
    }
}
