//! From an annotated picture to the network's input: mirroring, colour jitter, crops, resizing, normalisation; the boxes go along.
//!
//! Order (QPIC, UPT, HOICLIP, MUREN alike): mirror, jitter, then either a resize, or a crop followed by the same resize, then ImageNet's
//! mean and standard deviation. The resize is [`hoi_runtime::preprocess`]'s, so that training and the board see the same pixels.

mod colour;
mod crop;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule, prepare};
use image::imageops;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{AnnotatedPicture, EntityLabel, PairLabel};
use crop::Region;

/// Mean of ImageNet's red, green and blue (torchvision), for values 0..255.
pub const IMAGENET_MEAN: [f32; 3] = [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0];

/// Standard deviation of ImageNet's red, green and blue (torchvision), for values 0..255.
pub const IMAGENET_STD: [f32; 3] = [0.229 * 255.0, 0.224 * 255.0, 0.225 * 255.0];

/// Step between the short sides that a multi-scale resize draws from (DETR: 480, 512, ..., 800).
const SCALE_STEP: usize = 32;

/// Size of the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The aspect ratio is kept: the short side becomes `short` pixels, less where the long side would pass `long`.
    ShortSide {
        /// Pixels of the short side.
        short: u32,
        /// Most pixels of the long side.
        long: u32,
    },
    /// Width and height are stretched to this size each, for small configurations.
    Exact(Size),
}

impl Resize {
    /// Size of the input for a picture of size `picture`; sides rounded down (DETR), at least 1.
    pub fn input_size(&self, picture: Size) -> Size {
        let Self::ShortSide { short, long } = *self else {
            let Self::Exact(size) = *self else { return picture };
            return size;
        };
        let (small, large) = (picture.width.min(picture.height).max(1), picture.width.max(picture.height).max(1));
        let (small, large) = (f64::from(small), f64::from(large));
        let short = if large / small * f64::from(short) > f64::from(long) {
            (f64::from(long) * small / large).round().max(1.0)
        } else {
            f64::from(short)
        };
        let other = ((short * large / small) as u32).clamp(1, long.max(1));
        let short = (short as u32).max(1);
        if picture.width < picture.height { Size::new(short, other) } else { Size::new(other, short) }
    }

    /// The resize with a short side drawn from 3/5 of its own up to its own in steps of 32 (800: 480, 512, ..., 800).
    fn drawn(&self, rng: &mut ChaCha8Rng) -> Self {
        match *self {
            Self::ShortSide { short, long } => {
                let steps = (short - short * 3 / 5) / SCALE_STEP as u32;
                Self::ShortSide {
                    short: short - steps * SCALE_STEP as u32 + rng.random_range(0..=steps) * SCALE_STEP as u32,
                    long,
                }
            }
            Self::Exact(size) => Self::Exact(size),
        }
    }
}

/// What is done to a picture on its way into the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Probability of mirroring left and right.
    pub flip: f64,
    /// Brightness, contrast and saturation are multiplied by a factor from `[1 - jitter, 1 + jitter]` each, in random order; 0: none.
    pub jitter: f32,
    /// Whether the short side is drawn anew for each picture ([`Resize::ShortSide`]) and, where `crops` says so, every second picture is
    /// cropped: to 384..600 pixels a side after a resize to a short side of 400, 500 or 600.
    pub multi_scale: bool,
    /// Whether a multi-scale picture may be cropped. Not where labels are those of the whole picture: a crop could lose what they name.
    #[serde(default = "cropped", skip_serializing_if = "is_cropped")]
    pub crops: bool,
    /// Size of the network's input.
    pub resize: Resize,
}

/// What a description means that says nothing of crops.
fn cropped() -> bool {
    true
}

fn is_cropped(crops: &bool) -> bool {
    *crops
}

impl Augmentation {
    /// Training at full size: mirror 0.5, jitter 0.4, short side 480..800, long side at most 1333, crops.
    pub fn training() -> Self {
        Self { flip: 0.5, jitter: 0.4, multi_scale: true, ..Self::test() }
    }

    /// Tests at full size: short side 800, long side at most 1333, nothing random.
    pub fn test() -> Self {
        Self {
            flip: 0.0,
            jitter: 0.0,
            multi_scale: false,
            crops: true,
            resize: Resize::ShortSide { short: 800, long: 1333 },
        }
    }

    /// Stretched to `size` and mirrored with probability `flip`.
    pub fn exact(size: Size, flip: f64) -> Self {
        Self { flip, jitter: 0.0, multi_scale: false, crops: true, resize: Resize::Exact(size) }
    }

    /// The picture as the network takes it. The same generator state gives the same result.
    ///
    /// A box is cut to the crop; what then has area 0 has vanished: an entity is dropped when its box has vanished, a pair when
    /// either of its boxes has.
    pub fn apply(&self, picture: AnnotatedPicture, rng: &mut ChaCha8Rng) -> Augmented {
        let AnnotatedPicture { mut pixels, mut entities, mut pairs, .. } = picture;
        let original = Size::new(pixels.width(), pixels.height());
        if self.flip > 0.0 && rng.random::<f64>() < self.flip {
            imageops::flip_horizontal_in_place(&mut pixels);
            let mirror = |b: &BBox| mirrored(b, original.width);
            for_each_box(&mut entities, &mut pairs, mirror);
        }
        if self.jitter > 0.0 {
            colour::jitter(&mut pixels, self.jitter, rng);
        }
        let mut resize = self.resize;
        if self.multi_scale {
            if self.crops && rng.random::<bool>() && original.width > 0 && original.height > 0 {
                let region = Region::draw(original, rng);
                pixels =
                    imageops::crop_imm(&pixels, region.x, region.y, region.size.width, region.size.height).to_image();
                for_each_box(&mut entities, &mut pairs, |b| region.cut(b));
                entities.retain(|e| e.bbox.area() > 0.0);
                pairs.retain(|p| p.human.area() > 0.0 && p.object.area() > 0.0);
            }
            resize = resize.drawn(rng);
        }
        let part = Size::new(pixels.width(), pixels.height());
        let input = resize.input_size(part);
        let spec = InputSpec {
            name: String::new(),
            shape: [1, 3, input.height as usize, input.width as usize],
            colour: ColourOrder::Rgb,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            resize: ResizeRule::Stretch {},
        };
        let (values, transform) = prepare(&pixels, &spec);
        for_each_box(&mut entities, &mut pairs, |b| transform.input_from_image(b));
        let (values, _) = values.into_raw_vec_and_offset();
        Augmented { values, input, original: part, entities, pairs }
    }
}

/// A picture in the network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmented {
    /// `[3, height, width]` of `input`, red first, ImageNet-normalised.
    pub values: Vec<f32>,
    /// Size of the input.
    pub input: Size,
    /// Size of what the input shows before it was resized: the picture, or the part that was cut out of it.
    pub original: Size,
    /// What is left of the entities, in pixels of the input.
    pub entities: Vec<EntityLabel>,
    /// What is left of the pairs, in pixels of the input.
    pub pairs: Vec<PairLabel>,
}

fn for_each_box(entities: &mut [EntityLabel], pairs: &mut [PairLabel], change: impl Fn(&BBox) -> BBox) {
    for entity in entities {
        entity.bbox = change(&entity.bbox);
    }
    for pair in pairs {
        pair.human = change(&pair.human);
        pair.object = change(&pair.object);
    }
}

/// The box in the picture of this width after mirroring left and right.
fn mirrored(b: &BBox, width: u32) -> BBox {
    let width = width as f32;
    BBox::new(width - b.x2, b.y1, width - b.x1, b.y2)
}

#[cfg(test)]
mod tests;
