//! Sources of frames: single pictures and directories of pictures.

mod directory;
mod image_file;
mod jpeg;

pub use directory::{Shard, ShardError, has_picture_extension, list_pictures};
pub use image_file::{ImageLimits, SourceError, decode_image, open_image, read_image_file};

/// A picture to look at.
#[derive(Clone, Debug)]
pub struct Frame {
    /// RGB, 8 bits a channel, upright (a camera's orientation mark is applied).
    pub pixels: image::RgbImage,
    /// Where it comes from, as a URI: `file://kitchen.jpg`.
    pub source: String,
    /// Position in the run, from 0.
    pub index: u64,
    /// How long reading and decoding took, in milliseconds.
    pub decode_ms: f64,
}
