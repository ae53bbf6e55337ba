//! From a picture to the detector's input tensor, and from boxes in that input back to the picture.
//!
//! One [`Transform`] is used in both directions, so a box survives image -> input -> image.

use image::RgbImage;
use ndarray::{Array4, ArrayD};
use serde::{Deserialize, Serialize};

use crate::geometry::{BBox, Size};

/// How a picture becomes the network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Name of the graph's input.
    pub name: String,
    /// `[1, 3, height, width]`.
    pub shape: [usize; 4],
    /// Order of the three channels.
    pub colour: ColourOrder,
    /// Subtracted from each channel's 0..255 value, in the order of `colour`.
    pub mean: [f32; 3],
    /// Divides the difference, in the order of `colour`.
    pub std: [f32; 3],
    /// How the picture is fitted into the input.
    pub resize: ResizeRule,
}

impl InputSpec {
    /// Size of the input in pixels.
    pub fn size(&self) -> Size {
        Size::new(self.shape[3] as u32, self.shape[2] as u32)
    }

    /// `Err((key, reason))` where a value cannot be used.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let [batch, channels, height, width] = self.shape;
        if batch != 1 || channels != 3 || !(16..=4096).contains(&height) || !(16..=4096).contains(&width) {
            return Err((
                "input.shape".into(),
                format!("{:?}: [1, 3, height, width] with sides from 16 to 4096 is needed", self.shape),
            ));
        }
        if self.std.iter().any(|s| !s.is_finite() || *s == 0.0) || self.mean.iter().any(|m| !m.is_finite()) {
            return Err(("input.std".into(), "mean and std must be finite and std not 0".into()));
        }
        Ok(())
    }
}

/// Order of the three colour channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColourOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How a picture is fitted into the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ResizeRule {
    /// Width and height are scaled independently.
    Stretch {},
    /// The aspect ratio is kept (scale = the smaller of the two ratios, sides rounded down); the picture lies at the top left and
    /// the rest has the value `fill` (0..255, before mean and std).
    LetterboxTopLeft {
        /// Value of the rest.
        fill: f32,
    },
}

/// Where a picture lies inside the network's input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    image: Size,
    /// Pixels of the input that the picture covers, from the top left.
    content: Size,
}

impl Transform {
    /// The transform for a picture of size `image` into an input of size `input`.
    pub fn new(image: Size, input: Size, rule: ResizeRule) -> Self {
        let content = match rule {
            ResizeRule::Stretch {} => input,
            ResizeRule::LetterboxTopLeft { .. } => {
                let ratio = (f64::from(input.width) / f64::from(image.width.max(1)))
                    .min(f64::from(input.height) / f64::from(image.height.max(1)));
                let side = |length: u32, limit: u32| ((f64::from(length) * ratio) as u32).clamp(1, limit);
                Size::new(side(image.width, input.width), side(image.height, input.height))
            }
        };
        Self { image, content }
    }

    fn scale(&self) -> (f32, f32) {
        (
            self.content.width as f32 / self.image.width.max(1) as f32,
            self.content.height as f32 / self.image.height.max(1) as f32,
        )
    }

    /// A box in pixels of the picture, in pixels of the input.
    pub fn input_from_image(&self, box_in_image: &BBox) -> BBox {
        let (sx, sy) = self.scale();
        box_in_image.scale(sx, sy)
    }

    /// A box in pixels of the input, in pixels of the picture; not clipped.
    pub fn image_from_input(&self, box_in_input: &BBox) -> BBox {
        let (sx, sy) = self.scale();
        box_in_input.scale(1.0 / sx, 1.0 / sy)
    }
}

/// One axis of the bilinear resize: for each output position the two source positions and the weight of the second.
///
/// Half-pixel centres, no antialiasing, edges clamped: what the detectors were trained and measured with.
fn taps(source: u32, target: u32) -> Vec<(usize, usize, f32)> {
    let ratio = source as f32 / target as f32;
    (0..target)
        .map(|i| {
            let position = ((i as f32 + 0.5) * ratio - 0.5).clamp(0.0, (source - 1) as f32);
            let first = position as usize;
            (first, (first + 1).min(source as usize - 1), position - first as f32)
        })
        .collect()
}

/// Fits `picture` into the input: tensor `[1, 3, height, width]` and the transform back.
///
/// `value = (v - mean) / std` with `v` the bilinear sample of the 0..255 values, not rounded. A picture without pixels gives a tensor of
/// the fill value (0 for stretch).
pub fn prepare(picture: &RgbImage, spec: &InputSpec) -> (ArrayD<f32>, Transform) {
    let input = spec.size();
    let image = Size::new(picture.width(), picture.height());
    let transform = Transform::new(image, input, spec.resize);
    let fill = match spec.resize {
        ResizeRule::Stretch {} => 0.0,
        ResizeRule::LetterboxTopLeft { fill } => fill,
    };
    let [_, _, height, width] = spec.shape;
    let mut tensor = Array4::<f32>::zeros((1, 3, height, width));
    let plane = height * width;
    let values = tensor.as_slice_mut().unwrap_or_default();
    for channel in 0..3 {
        let background = (fill - spec.mean[channel]) / spec.std[channel];
        values[channel * plane..][..plane].fill(background);
    }
    if image.width > 0 && image.height > 0 {
        let columns = taps(image.width, transform.content.width);
        let stride = image.width as usize * 3;
        let pixels = picture.as_raw();
        let source = |channel: usize| match spec.colour {
            ColourOrder::Rgb => channel,
            ColourOrder::Bgr => 2 - channel,
        };
        for (y, (top, bottom, wy)) in taps(image.height, transform.content.height).into_iter().enumerate() {
            let (upper, lower) = (&pixels[top * stride..][..stride], &pixels[bottom * stride..][..stride]);
            for channel in 0..3 {
                let c = source(channel);
                let (scale, offset) = (1.0 / spec.std[channel], -spec.mean[channel] / spec.std[channel]);
                let row = &mut values[channel * plane + y * width..][..columns.len()];
                for (value, &(left, right, wx)) in row.iter_mut().zip(&columns) {
                    let at = |line: &[u8], x: usize| f32::from(line[3 * x + c]);
                    let above = at(upper, left) + (at(upper, right) - at(upper, left)) * wx;
                    let below = at(lower, left) + (at(lower, right) - at(lower, left)) * wx;
                    *value = (above + (below - above) * wy) * scale + offset;
                }
            }
        }
    }
    (tensor.into_dyn(), transform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(resize: ResizeRule, colour: ColourOrder) -> InputSpec {
        InputSpec { name: "input".into(), shape: [1, 3, 16, 16], colour, mean: [0.0; 3], std: [1.0; 3], resize }
    }

    #[test]
    fn halving_averages_pairs_and_same_size_copies() {
        assert_eq!(taps(4, 2), [(0, 1, 0.5), (2, 3, 0.5)]);
        assert_eq!(taps(3, 3), [(0, 1, 0.0), (1, 2, 0.0), (2, 2, 0.0)]);
        // Upscaling clamps at the edges: positions -0.25 -> 0, 0.25, 0.75, 1.25 -> 1.
        assert_eq!(taps(2, 4), [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.0)]);
        // One pixel fills everything.
        assert!(taps(1, 5).iter().all(|t| *t == (0, 0, 0.0)));
    }

    #[test]
    fn colour_order_mean_and_std() {
        let picture = RgbImage::from_pixel(2, 2, image::Rgb([10, 20, 30]));
        let mut s = spec(ResizeRule::Stretch {}, ColourOrder::Bgr);
        s.mean = [30.0, 10.0, 0.0];
        s.std = [1.0, 2.0, 10.0];
        let (t, _) = prepare(&picture, &s);
        assert_eq!((t[[0, 0, 3, 3]], t[[0, 1, 3, 3]], t[[0, 2, 3, 3]]), (0.0, 5.0, 1.0));
    }

    #[test]
    fn letterbox_keeps_aspect_and_fills_the_rest() {
        let picture = RgbImage::from_pixel(32, 10, image::Rgb([50, 50, 50]));
        let (t, transform) = prepare(&picture, &spec(ResizeRule::LetterboxTopLeft { fill: 114.0 }, ColourOrder::Rgb));
        assert_eq!(transform.content, Size::new(16, 5));
        assert_eq!((t[[0, 0, 4, 15]], t[[0, 0, 5, 0]]), (50.0, 114.0));
        let whole = transform.image_from_input(&BBox::new(0.0, 0.0, 16.0, 5.0));
        assert_eq!(whole, BBox::new(0.0, 0.0, 32.0, 10.0));
    }

    proptest! {
        #[test]
        fn a_box_survives_the_way_there_and_back(
            w in 1u32..3000, h in 1u32..3000, letterbox: bool, v in prop::array::uniform4(0f32..3000.0)
        ) {
            let rule = if letterbox { ResizeRule::LetterboxTopLeft { fill: 0.0 } } else { ResizeRule::Stretch {} };
            let t = Transform::new(Size::new(w, h), Size::new(416, 300), rule);
            let b = BBox::from(v);
            let back = t.image_from_input(&t.input_from_image(&b));
            for (p, q) in <[f32; 4]>::from(b).into_iter().zip(<[f32; 4]>::from(back)) {
                prop_assert!((p - q).abs() <= 1e-3 * p.abs().max(1.0));
            }
        }
    }
}
