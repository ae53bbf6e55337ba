//! The random crop of the multi-scale mixture.

use hoi_runtime::geometry::{BBox, Size};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Short sides to which a picture is resized before it is cropped (DETR).
const SHORT_SIDES: [u32; 3] = [400, 500, 600];

/// Least and most pixels of a crop's side, in the resized picture (DETR).
const SIDES: [u32; 2] = [384, 600];

/// A part of a picture, in its own pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Extent, at least 1 x 1.
    pub size: Size,
}

impl Region {
    /// Draws a crop of 384..600 pixels a side in a picture whose short side were 400, 500 or 600.
    ///
    /// It is given in pixels of the picture itself, so that the part is resampled once. The picture has at least one pixel.
    pub fn draw(picture: Size, rng: &mut ChaCha8Rng) -> Self {
        let short = SHORT_SIDES[rng.random_range(0..SHORT_SIDES.len())];
        let scale = f64::from(short) / f64::from(picture.width.min(picture.height));
        let mut axis = |length: u32| {
            let resized = (f64::from(length) * scale).round().min(f64::from(SIDES[1])) as u32;
            let side = rng.random_range(SIDES[0]..=resized.max(SIDES[0]));
            let side = ((f64::from(side) / scale).round() as u32).clamp(1, length);
            (rng.random_range(0..=length - side), side)
        };
        let (x, width) = axis(picture.width);
        let (y, height) = axis(picture.height);
        Self { x, y, size: Size::new(width, height) }
    }

    /// The part of a box that lies in the region, in the region's pixels.
    pub fn cut(&self, b: &BBox) -> BBox {
        b.translate(-(self.x as f32), -(self.y as f32)).clip(self.size)
    }
}
