//! What entities are drawn from, and how a drawing is fitted to a box.

use hoi_runtime::geometry::BBox;
use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

/// Edge of every part, in pixels of a picture whose short side is 160; it is darker than the part and drawn inside its extent.
const EDGE: f32 = 0.8;

/// An 8-bit colour.
pub type Rgb = [u8; 3];

/// The colour with every channel multiplied.
pub fn shade(colour: Rgb, factor: f32) -> Rgb {
    colour.map(|c| (f32::from(c) * factor).clamp(0.0, 255.0) as u8)
}

/// A place in the picture, pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

/// A place in the picture, pixels.
pub fn at(x: f32, y: f32) -> Point {
    Point { x, y }
}

impl Point {
    /// The place moved.
    pub fn plus(self, x: f32, y: f32) -> Point {
        at(self.x + x, self.y + y)
    }

    /// Part of the way to another place: 0 stays, 1 arrives.
    pub fn towards(self, other: Point, share: f32) -> Point {
        at(self.x + (other.x - self.x) * share, self.y + (other.y - self.y) * share)
    }

    /// Distance in pixels.
    pub fn distance(self, other: Point) -> f32 {
        (other.x - self.x).hypot(other.y - self.y)
    }
}

/// Outline of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line with round ends and corners; fitting moves its points and keeps its radius.
    Line {
        /// Corners.
        points: Vec<Point>,
        /// Half its width, pixels.
        radius: f32,
    },
    /// A filled polygon.
    Polygon {
        /// Corners.
        points: Vec<Point>,
    },
    /// A filled ellipse, fitted with the drawing.
    Ellipse {
        /// Centre.
        center: Point,
        /// Half its width.
        rx: f32,
        /// Half its height.
        ry: f32,
    },
    /// An ellipse drawn as a line.
    Ring {
        /// Centre.
        center: Point,
        /// Half its width, to the middle of the line.
        rx: f32,
        /// Half its height, to the middle of the line.
        ry: f32,
        /// Half the width of the line, pixels.
        radius: f32,
    },
}

/// A part of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its outline.
    pub shape: Shape,
    /// Its colour.
    pub colour: Rgb,
}

impl Part {
    /// A line with round ends.
    pub fn line(points: &[Point], radius: f32, colour: Rgb) -> Self {
        Self { shape: Shape::Line { points: points.to_vec(), radius }, colour }
    }

    /// A disc whose size fitting keeps.
    pub fn disc(center: Point, radius: f32, colour: Rgb) -> Self {
        Self::line(&[center, center], radius, colour)
    }

    /// A filled polygon.
    pub fn polygon(points: &[Point], colour: Rgb) -> Self {
        Self { shape: Shape::Polygon { points: points.to_vec() }, colour }
    }

    /// A filled ellipse.
    pub fn ellipse(center: Point, rx: f32, ry: f32, colour: Rgb) -> Self {
        Self { shape: Shape::Ellipse { center, rx, ry }, colour }
    }

    /// An ellipse drawn as a line.
    pub fn ring(center: Point, rx: f32, ry: f32, radius: f32, colour: Rgb) -> Self {
        Self { shape: Shape::Ring { center, rx, ry, radius }, colour }
    }

    /// Calls `f(low, high, pad)` for what bounds the part along x (or y): it reaches from `low - pad` to `high + pad`.
    fn extents(&self, vertical: bool, mut f: impl FnMut(f32, f32, f32)) {
        let along = |p: &Point| if vertical { p.y } else { p.x };
        match &self.shape {
            Shape::Line { points, radius } => points.iter().for_each(|p| f(along(p), along(p), *radius)),
            Shape::Polygon { points } => points.iter().for_each(|p| f(along(p), along(p), 0.0)),
            Shape::Ellipse { center, rx, ry } => {
                let r = if vertical { *ry } else { *rx };
                f(along(center) - r, along(center) + r, 0.0);
            }
            Shape::Ring { center, rx, ry, radius } => {
                let r = if vertical { *ry } else { *rx };
                f(along(center) - r, along(center) + r, *radius);
            }
        }
    }

    fn map(&mut self, fit: &Fit) {
        match &mut self.shape {
            Shape::Line { points, .. } | Shape::Polygon { points } => {
                points.iter_mut().for_each(|p| *p = fit.apply(*p));
            }
            Shape::Ellipse { center, rx, ry } | Shape::Ring { center, rx, ry, .. } => {
                *center = fit.apply(*center);
                *rx *= fit.scale.x;
                *ry *= fit.scale.y;
            }
        }
    }

    /// Draws it with a dark edge of that many pixels.
    fn draw(&self, pixmap: &mut Pixmap, edge: f32) {
        let dark = if edge > 0.0 { shade(self.colour, 0.45) } else { self.colour };
        match &self.shape {
            Shape::Line { points, radius } => {
                if let Some(path) = polyline(points, false) {
                    stroke(pixmap, &path, 2.0 * radius, dark);
                    if edge > 0.0 {
                        stroke(pixmap, &path, 2.0 * (radius - edge), self.colour);
                    }
                }
            }
            Shape::Polygon { points } => {
                if let Some(path) = polyline(points, true) {
                    pixmap.fill_path(&path, &paint(dark), FillRule::Winding, Transform::identity(), None);
                    if let Some(path) = polyline(&shrunk(points, edge), true).filter(|_| edge > 0.0) {
                        pixmap.fill_path(&path, &paint(self.colour), FillRule::Winding, Transform::identity(), None);
                    }
                }
            }
            Shape::Ellipse { center, rx, ry } => {
                fill_oval(pixmap, *center, *rx, *ry, dark);
                if edge > 0.0 {
                    fill_oval(pixmap, *center, rx - edge, ry - edge, self.colour);
                }
            }
            Shape::Ring { center, rx, ry, radius } => {
                if let Some(path) = oval(*center, *rx, *ry) {
                    stroke(pixmap, &path, 2.0 * radius, self.colour);
                }
            }
        }
    }
}

fn centroid(points: &[Point]) -> Point {
    let n = points.len().max(1) as f32;
    at(points.iter().map(|p| p.x).sum::<f32>() / n, points.iter().map(|p| p.y).sum::<f32>() / n)
}

/// The polygon with its corners moved towards the middle, so that about `edge` of it is left over all around.
fn shrunk(points: &[Point], edge: f32) -> Vec<Point> {
    let middle = centroid(points);
    points.iter().map(|p| p.towards(middle, (1.3 * edge / p.distance(middle).max(1e-3)).min(0.9))).collect()
}

fn paint([r, g, b]: Rgb) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(r, g, b, 255));
    paint
}

fn polyline(points: &[Point], close: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut path = PathBuilder::new();
    path.move_to(first.x, first.y);
    rest.iter().for_each(|p| path.line_to(p.x, p.y));
    if close {
        path.close();
    }
    path.finish()
}

fn oval(center: Point, rx: f32, ry: f32) -> Option<Path> {
    PathBuilder::from_oval(Rect::from_ltrb(center.x - rx, center.y - ry, center.x + rx, center.y + ry)?)
}

fn fill_oval(pixmap: &mut Pixmap, center: Point, rx: f32, ry: f32, colour: Rgb) {
    if let Some(path) = oval(center, rx, ry) {
        pixmap.fill_path(&path, &paint(colour), FillRule::Winding, Transform::identity(), None);
    }
}

fn stroke(pixmap: &mut Pixmap, path: &Path, width: f32, colour: Rgb) {
    let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
    pixmap.stroke_path(path, &paint(colour), &stroke, Transform::identity(), None);
}

/// A drawing: parts from back to front.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Drawing {
    /// Its parts, the last one in front.
    pub parts: Vec<Part>,
}

impl Drawing {
    /// Stretches and moves the drawing so that its tight box is `target`; widths of lines are kept.
    pub fn fit(&mut self, target: &BBox) -> Fit {
        let (sx, dx) = self.fit_axis(false, target.x1, target.x2);
        let (sy, dy) = self.fit_axis(true, target.y1, target.y2);
        let fit = Fit { scale: at(sx, sy), shift: at(dx, dy) };
        self.parts.iter_mut().for_each(|p| p.map(&fit));
        fit
    }

    /// The scale and shift of one axis. The width as a function of the scale rises piecewise linearly, so bisection finds it.
    fn fit_axis(&self, vertical: bool, low: f32, high: f32) -> (f32, f32) {
        let ends = |scale: f32| {
            let mut end = [f32::INFINITY, f32::NEG_INFINITY];
            for part in &self.parts {
                part.extents(vertical, |a, b, pad| {
                    end = [end[0].min(scale * a - pad), end[1].max(scale * b + pad)];
                });
            }
            end
        };
        let (mut small, mut large) = (0.0, 1.0);
        let width = |scale: f32| {
            let [a, b] = ends(scale);
            b - a
        };
        while width(large) < high - low && large < 1e4 {
            large *= 2.0;
        }
        for _ in 0..30 {
            let middle = (small + large) / 2.0;
            if width(middle) < high - low {
                small = middle;
            } else {
                large = middle;
            }
        }
        let [start, _] = ends(large);
        (large, low - start)
    }

    /// Draws it without dark edges.
    pub fn draw_flat(&self, pixmap: &mut Pixmap) {
        self.parts.iter().for_each(|p| p.draw(pixmap, 0.0));
    }

    /// Draws it; `unit` is the picture's short side over 160.
    pub fn draw(&self, pixmap: &mut Pixmap, unit: f32) {
        self.parts.iter().for_each(|p| p.draw(pixmap, EDGE * unit));
    }
}

/// How a drawing was stretched and moved: `scale * p + shift` on each axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Factors.
    pub scale: Point,
    /// Added after scaling, pixels.
    pub shift: Point,
}

impl Fit {
    /// Where a place goes.
    pub fn apply(&self, p: Point) -> Point {
        at(self.scale.x * p.x + self.shift.x, self.scale.y * p.y + self.shift.y)
    }

    /// Which place goes to `p`.
    pub fn invert(&self, p: Point) -> Point {
        at((p.x - self.shift.x) / self.scale.x, (p.y - self.shift.y) / self.scale.y)
    }
}
