//! What objects look like.

use hoi_runtime::geometry::BBox;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::shape::{Drawing, Part, Point, Rgb, at, shade};
use super::vocabulary::Kind;

/// A strong colour.
pub(super) fn vivid(rng: &mut ChaCha8Rng) -> Rgb {
    hsv(rng.random_range(0.0..6.0), rng.random_range(0.55..0.95), rng.random_range(0.55..0.95))
}

/// A colour by hue (0 to 6), saturation and value.
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Rgb {
    let channel = |n: f32| {
        let k = (n + hue) % 6.0;
        let c = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        (c * 255.0) as u8
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// An object's drawing, exactly as large as its box. `facing` -1 mirrors it; `unit` is the picture's short side over 160.
pub(super) fn object(kind: Kind, bbox: &BBox, facing: f32, unit: f32, rng: &mut ChaCha8Rng) -> Drawing {
    let (w, h) = (bbox.width(), bbox.height());
    // The position in shares of the box.
    let p = |x: f32, y: f32| at(bbox.x1 + w * if facing > 0.0 { x } else { 1.0 - x }, bbox.y1 + h * y);
    let colour = vivid(rng);
    let parts = match kind {
        Kind::Person => Vec::new(),
        Kind::Ball => ball(p, w, h, colour, rng),
        Kind::Cup => cup(p, w, unit, colour),
        Kind::Umbrella => umbrella(p, unit, colour, rng),
        Kind::Box => carton(p, colour, rng),
        Kind::Dog => dog(p, h, unit, rng),
        Kind::Phone => phone(p, rng),
        Kind::Bicycle => bicycle(p, w, h, unit, colour),
    };
    let mut drawing = Drawing { parts };
    drawing.fit(bbox);
    drawing
}

fn ball(p: impl Fn(f32, f32) -> Point, w: f32, h: f32, colour: Rgb, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let second = if rng.random_bool(0.5) { [245, 245, 240] } else { shade(colour, 0.55) };
    let mut parts = vec![Part::ellipse(p(0.5, 0.5), w / 2.0, h / 2.0, colour)];
    if rng.random_bool(0.5) {
        parts.push(Part::ellipse(p(0.5, 0.5), w / 4.5, h / 4.5, second));
    } else {
        parts.push(Part::line(&[p(0.16, 0.5), p(0.84, 0.5)], h * 0.09, second));
    }
    parts
}

fn cup(p: impl Fn(f32, f32) -> Point, w: f32, unit: f32, colour: Rgb) -> Vec<Part> {
    vec![
        Part::ring(p(0.76, 0.5), 0.17 * w, 0.17 * w, 1.3 * unit, shade(colour, 0.6)),
        Part::polygon(&[p(0.0, 0.0), p(0.78, 0.0), p(0.68, 1.0), p(0.1, 1.0)], colour),
        Part::polygon(&[p(0.03, 0.24), p(0.75, 0.24), p(0.72, 0.5), p(0.06, 0.5)], [248, 248, 244]),
    ]
}

fn umbrella(p: impl Fn(f32, f32) -> Point, unit: f32, colour: Rgb, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let rim = 0.52;
    let dome: Vec<Point> = (0..=12)
        .map(|i| {
            let angle = std::f32::consts::PI * (1.0 - i as f32 / 12.0);
            p(0.5 + 0.5 * angle.cos(), rim - rim * angle.sin())
        })
        .collect();
    let other = if rng.random_bool(0.5) { shade(colour, 0.7) } else { [246, 242, 230] };
    vec![
        Part::line(&[p(0.5, 0.1), p(0.5, 0.93), p(0.62, 0.97), p(0.66, 0.86)], 1.5 * unit, [70, 52, 40]),
        Part::polygon(&dome, colour),
        Part::polygon(&[p(0.5, 0.02), p(0.34, rim), p(0.66, rim)], other),
    ]
}

fn carton(p: impl Fn(f32, f32) -> Point, colour: Rgb, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let colour = if rng.random_bool(0.5) { [196, 152, 96] } else { shade(colour, 0.9) };
    let top = rng.random_range(0.14..0.24);
    vec![
        Part::polygon(&[p(0.0, top), p(0.82, top), p(0.82, 1.0), p(0.0, 1.0)], colour),
        Part::polygon(&[p(0.0, top), p(0.18, 0.0), p(1.0, 0.0), p(0.82, top)], shade(colour, 1.25)),
        Part::polygon(&[p(0.82, top), p(1.0, 0.0), p(1.0, 1.0 - top), p(0.82, 1.0)], shade(colour, 0.7)),
        Part::polygon(&[p(0.34, top), p(0.48, top), p(0.48, 1.0), p(0.34, 1.0)], shade(colour, 0.8)),
    ]
}

fn dog(p: impl Fn(f32, f32) -> Point, h: f32, unit: f32, rng: &mut ChaCha8Rng) -> Vec<Part> {
    const COATS: [Rgb; 5] = [[150, 100, 56], [70, 56, 48], [224, 206, 170], [176, 176, 180], [196, 128, 60]];
    let coat = COATS[rng.random_range(0..COATS.len())];
    let dark = shade(coat, 0.75);
    let leg = (0.07 * h).max(1.4 * unit);
    // The head is on the far side of the person.
    vec![
        Part::line(&[p(0.12, 0.45), p(0.02, 0.2)], leg, dark),
        Part::line(&[p(0.3, 0.6), p(0.32, 0.96)], leg, dark),
        Part::line(&[p(0.62, 0.6), p(0.64, 0.96)], leg, dark),
        Part::line(&[p(0.16, 0.6), p(0.16, 0.96)], leg, coat),
        Part::line(&[p(0.72, 0.6), p(0.74, 0.96)], leg, coat),
        Part::line(&[p(0.2, 0.5), p(0.66, 0.5)], 0.19 * h, coat),
        Part::line(&[p(0.68, 0.42), p(0.8, 0.2)], 0.12 * h, coat),
        Part::line(&[p(0.8, 0.2), p(0.95, 0.26)], 0.11 * h, coat),
        Part::line(&[p(0.72, 0.1), p(0.68, 0.34)], leg, dark),
    ]
}

fn phone(p: impl Fn(f32, f32) -> Point, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let body = hsv(rng.random_range(0.0..6.0), 0.25, rng.random_range(0.12..0.3));
    let screen = hsv(rng.random_range(2.6..3.8), rng.random_range(0.3..0.7), 0.95);
    vec![
        Part::polygon(&[p(0.0, 0.0), p(1.0, 0.0), p(1.0, 1.0), p(0.0, 1.0)], body),
        Part::polygon(&[p(0.16, 0.12), p(0.84, 0.12), p(0.84, 0.8), p(0.16, 0.8)], screen),
    ]
}

fn bicycle(p: impl Fn(f32, f32) -> Point, w: f32, h: f32, unit: f32, colour: Rgb) -> Vec<Part> {
    let tyre = (0.045 * h).max(1.2 * unit);
    let frame = (0.04 * h).max(1.2 * unit);
    let (rx, ry) = (0.23 * w, 0.3 * h);
    let black = [36, 36, 40];
    vec![
        Part::ring(p(0.23, 0.7), rx, ry, tyre, black),
        Part::ring(p(0.77, 0.7), rx, ry, tyre, black),
        Part::line(&[p(0.23, 0.7), p(0.36, 0.25), p(0.68, 0.25), p(0.48, 0.7), p(0.23, 0.7)], frame, colour),
        Part::line(&[p(0.36, 0.25), p(0.48, 0.7)], frame, colour),
        Part::line(&[p(0.77, 0.7), p(0.68, 0.25), p(0.66, 0.05), p(0.8, 0.02)], frame, colour),
        Part::line(&[p(0.28, 0.14), p(0.42, 0.14)], frame * 1.5, black),
        Part::line(&[p(0.36, 0.25), p(0.35, 0.14)], frame, colour),
    ]
}
