//! Brightness, contrast and saturation, on 8 bits a channel as the published training recipes do.

use image::RgbImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Adjustment {
    /// `f v`.
    Brightness,
    /// `m + f (v - m)` with `m` the picture's mean grey.
    Contrast,
    /// `g + f (v - g)` with `g` the pixel's grey.
    Saturation,
}

/// Changes all three by a factor from `[1 - strength, 1 + strength]` (never below 0) each, in random order.
pub fn jitter(pixels: &mut RgbImage, strength: f32, rng: &mut ChaCha8Rng) {
    let mut order = [Adjustment::Brightness, Adjustment::Contrast, Adjustment::Saturation];
    order.shuffle(rng);
    for adjustment in order {
        let factor = 1.0 + strength * (2.0 * rng.random::<f32>() - 1.0);
        adjust(pixels, adjustment, factor.max(0.0));
    }
}

/// Grey of a pixel, 0..255 (ITU-R BT.601).
fn grey(rgb: &[u8]) -> f32 {
    0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2])
}

fn adjust(pixels: &mut RgbImage, adjustment: Adjustment, factor: f32) {
    let to_byte = |v: f32| v.round().clamp(0.0, 255.0) as u8;
    let about = |centre: f32| move |v: u8| to_byte(centre + factor * (f32::from(v) - centre));
    let constant = match adjustment {
        Adjustment::Brightness => 0.0,
        Adjustment::Contrast => {
            let sum: f64 = pixels.as_raw().chunks_exact(3).map(|rgb| f64::from(grey(rgb))).sum();
            (sum / f64::from((pixels.width() * pixels.height()).max(1))) as f32
        }
        Adjustment::Saturation => {
            for rgb in pixels.chunks_exact_mut(3) {
                let change = about(grey(rgb));
                rgb.iter_mut().for_each(|v| *v = change(*v));
            }
            return;
        }
    };
    let change = about(constant);
    let table: Vec<u8> = (0..=u8::MAX).map(change).collect();
    pixels.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjustments_by_hand() {
        // Greys 0.299 * 100 = 29.9 and 0.587 * 200 + 0.114 * 50 = 123.1; mean 76.5.
        let picture = RgbImage::from_raw(2, 1, vec![100, 0, 0, 0, 200, 50]).unwrap();
        let adjusted = |adjustment, factor| {
            let mut copy = picture.clone();
            adjust(&mut copy, adjustment, factor);
            copy.into_raw()
        };
        assert_eq!(adjusted(Adjustment::Brightness, 1.4), [140, 0, 0, 0, 255, 70]);
        // 76.5 + 0.5 * 23.5 = 88.25, 76.5 / 2 = 38.25, 138.25, 63.25.
        assert_eq!(adjusted(Adjustment::Contrast, 0.5), [88, 38, 38, 38, 138, 63]);
        // First pixel about 29.9: 64.95, 14.95; second about 123.1: 61.55, 161.55, 86.55.
        assert_eq!(adjusted(Adjustment::Saturation, 0.5), [65, 15, 15, 62, 162, 87]);
        for same in [Adjustment::Brightness, Adjustment::Contrast, Adjustment::Saturation] {
            assert_eq!(adjusted(same, 1.0), *picture.as_raw(), "{same:?}");
        }
    }
}
