//! What a running source gives, and the pictures in a stream of bytes.

mod jpeg;
mod ppm;

use std::path::Path;
use std::time::Instant;

use hoi_runtime::source::{ImageLimits, SourceError, decode_image};
use image::RgbImage;

use jpeg::JpegSplitter;
use ppm::PpmSplitter;

/// A running source.
pub(super) trait Stream: Send {
    /// The next picture, or what else there is by `deadline`.
    fn read(&mut self, deadline: Instant) -> Step;

    /// What the program behind it said last, with its name.
    fn last_words(&self) -> Option<String> {
        None
    }
}

/// One step of a [`Stream`].
#[derive(Debug)]
pub(super) enum Step {
    /// A picture.
    Picture(Picture),
    /// No whole picture by the deadline; what has come of one is kept.
    Nothing,
    /// The source says that it is at its end.
    Ended,
    /// The source failed: why.
    Broken(String),
}

/// A picture as it came; it is decoded only when it is looked at.
#[derive(Debug)]
pub(super) enum Picture {
    /// The bytes of a JPEG, which may be truncated.
    Jpeg(Vec<u8>),
    /// Decoded.
    Pixels(RgbImage),
}

impl Picture {
    /// The pixels; `uri` is only named in errors.
    pub(super) fn decode(self, uri: &str, limits: &ImageLimits) -> Result<RgbImage, SourceError> {
        match self {
            Self::Jpeg(bytes) => decode_image(&bytes, Path::new(uri), limits),
            Self::Pixels(pixels) => Ok(pixels),
        }
    }
}

/// How a program writes its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One JPEG after the other; anything between them is skipped.
    Jpeg,
    /// One binary PPM (`P6`) after the other.
    Ppm,
}

/// Cuts a stream of bytes into pictures, in bounded memory.
#[derive(Debug)]
pub(super) enum Splitter {
    Jpeg(JpegSplitter),
    Ppm(PpmSplitter),
}

impl Splitter {
    pub(super) fn new(format: Format, limits: &ImageLimits) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg(JpegSplitter::new(limits.file_bytes)),
            Format::Ppm => Self::Ppm(PpmSplitter::new(limits.pixels)),
        }
    }

    /// Takes bytes from the front of `bytes`: how many, and the picture that they complete. All are taken where they complete none.
    ///
    /// # Errors
    /// What is wrong with the stream; it cannot be read on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Picture>), String> {
        match self {
            Self::Jpeg(splitter) => splitter.push(bytes),
            Self::Ppm(splitter) => splitter.push(bytes),
        }
    }

    /// Whether the stream stands within a picture.
    pub(super) fn is_within_picture(&self) -> bool {
        match self {
            Self::Jpeg(splitter) => splitter.is_within_picture(),
            Self::Ppm(splitter) => splitter.is_within_picture(),
        }
    }
}
