//! What is behind the persons and objects, and noise over all.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

use super::object::hsv;
use super::shape::{Drawing, Part, Rgb, at};

/// Largest deviation that noise adds to a channel.
const NOISE: i32 = 5;

fn pale(rng: &mut ChaCha8Rng) -> Rgb {
    hsv(rng.random_range(0.0..6.0), rng.random_range(0.05..0.28), rng.random_range(0.72..0.96))
}

fn blend(a: Rgb, b: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|i| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * share) as u8)
}

/// Fills the picture with a wall, a floor and clutter.
pub(super) fn draw(pixmap: &mut Pixmap, unit: f32, rng: &mut ChaCha8Rng) {
    let (width, height) = (pixmap.width() as f32, pixmap.height() as f32);
    let (top, bottom, floor) = (pale(rng), pale(rng), pale(rng));
    let horizon = height * rng.random_range(0.45..0.9);
    let row_length = pixmap.width() as usize;
    for (y, row) in pixmap.pixels_mut().chunks_mut(row_length).enumerate() {
        let y = y as f32;
        let [r, g, b] = if y < horizon {
            blend(top, bottom, y / horizon)
        } else {
            blend(floor, bottom, 0.4 * (y - horizon) / height)
        };
        row.fill(tiny_skia::ColorU8::from_rgba(r, g, b, 255).premultiply());
    }
    let mut parts = Vec::new();
    for _ in 0..rng.random_range(3..10) {
        let colour = blend(pale(rng), bottom, rng.random_range(0.0..0.6));
        let (x, y) = (width * rng.random::<f32>(), height * rng.random::<f32>());
        let (w, h) = (unit * rng.random_range(6.0..45.0), unit * rng.random_range(6.0..45.0));
        parts.push(match rng.random_range(0..4) {
            0 => Part::polygon(&[at(x, y), at(x + w, y), at(x + w, y + h), at(x, y + h)], colour),
            1 => Part::ellipse(at(x, y), w / 2.0, h / 2.0, colour),
            2 => Part::line(&[at(x, y), at(x + w - 20.0 * unit, y + h)], unit * rng.random_range(1.0..4.0), colour),
            _ => Part::polygon(&[at(x, y), at(x + w, y + h / 2.0), at(x - w / 3.0, y + h)], colour),
        });
    }
    Drawing { parts }.draw_flat(pixmap);
}

/// The drawn pixels with a little noise.
pub(super) fn picture(pixmap: &Pixmap, rng: &mut ChaCha8Rng) -> RgbImage {
    let mut state: u64 = rng.random::<u64>() | 1;
    let mut bytes: Vec<u8> = pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    for chunk in bytes.chunks_mut(8) {
        // Xorshift: noise needs speed, not quality.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for (value, lot) in chunk.iter_mut().zip(state.to_le_bytes()) {
            let deviation = ((i32::from(lot) * (2 * NOISE + 1)) >> 8) - NOISE;
            *value = (i32::from(*value) + deviation).clamp(0, 255) as u8;
        }
    }
    RgbImage::from_raw(pixmap.width(), pixmap.height(), bytes).unwrap_or_default()
}
