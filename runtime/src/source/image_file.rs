//! One picture file, bounded in size before a pixel is decoded.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::{Frame, jpeg};
use crate::geometry::Size;

/// How large a picture may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Pixels of the decoded picture.
    pub pixels: u64,
}

impl Default for ImageLimits {
    /// 64 MiB and 50 million pixels: 150 MB decoded, more than any phone's camera gives.
    fn default() -> Self {
        Self { file_bytes: 64 << 20, pixels: 50_000_000 }
    }
}

/// Why a picture could not be read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file without content.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More bytes than allowed.
    #[error("{}: {bytes} bytes, more than the {limit} that are allowed", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A header that announces more pixels than allowed. Nothing was decoded.
    #[error("{}: the header says {size}, more than the {limit} pixels that are allowed", path.display())]
    TooManyPixels {
        /// The file.
        path: PathBuf,
        /// What the header says.
        size: Size,
        /// The limit.
        limit: u64,
    },
    /// Not a picture of a known format.
    #[error("{}: not a JPEG, PNG, BMP or WebP picture", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A damaged or truncated picture.
    #[error("{}: damaged or truncated picture: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
}

/// Reads and decodes a picture file.
///
/// # Errors
/// [`SourceError`]: unreadable, empty, too large, of unknown format, damaged or truncated.
pub fn open_image(path: &Path, limits: &ImageLimits) -> Result<Frame, SourceError> {
    let start = Instant::now();
    let pixels = decode_image(&read_image_file(path, limits)?, path, limits)?;
    Ok(Frame {
        pixels,
        source: format!("file://{}", path.display()),
        index: 0,
        decode_ms: start.elapsed().as_secs_f64() * 1e3,
    })
}

/// The bytes of a picture file, for [`decode_image`].
///
/// # Errors
/// [`SourceError::Io`] where it cannot be read or is not a regular file, [`SourceError::FileTooLarge`] above the limit.
pub fn read_image_file(path: &Path, limits: &ImageLimits) -> Result<Vec<u8>, SourceError> {
    let io = |cause| SourceError::Io { path: path.to_owned(), cause };
    // Before it is opened: opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::with_capacity(metadata.len().min(limits.file_bytes) as usize);
    file.take(limits.file_bytes + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limits.file_bytes {
        let bytes = metadata.len().max(bytes.len() as u64);
        return Err(SourceError::FileTooLarge { path: path.to_owned(), bytes, limit: limits.file_bytes });
    }
    Ok(bytes)
}

/// Decodes a picture held in memory; `path` is only named in errors.
///
/// # Errors
/// As [`open_image`], except for those of the file system.
pub fn decode_image(bytes: &[u8], path: &Path, limits: &ImageLimits) -> Result<RgbImage, SourceError> {
    let damaged = |e: image::ImageError| SourceError::Damaged { path: path.to_owned(), reason: e.to_string() };
    if bytes.is_empty() {
        return Err(SourceError::Empty { path: path.to_owned() });
    }
    let unknown = || SourceError::UnknownFormat { path: path.to_owned() };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| unknown())?;
    let format = reader.format();
    if format.is_none() {
        return Err(unknown());
    }
    // The JPEG decoder fills what is missing with grey; a truncated picture must not be answered as a whole one.
    if format == Some(ImageFormat::Jpeg) && !jpeg::is_complete(bytes) {
        let reason = "the end-of-image marker is missing".to_owned();
        return Err(SourceError::Damaged { path: path.to_owned(), reason });
    }
    let mut decoder = reader.into_decoder().map_err(|e| match e {
        image::ImageError::Unsupported(_) => unknown(),
        other => damaged(other),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        let size = Size::new(width, height);
        return Err(SourceError::TooManyPixels { path: path.to_owned(), size, limit: limits.pixels });
    }
    // 8 bytes a pixel covers 16-bit RGBA; the decoder's own buffers are bounded by the same figure.
    let mut decoder_limits = image::Limits::default();
    decoder_limits.max_alloc = Some(limits.pixels.saturating_mul(8));
    decoder.set_limits(decoder_limits).map_err(damaged)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let libjpeg = (format == Some(ImageFormat::Jpeg)).then(|| jpeg::decode(bytes)).flatten();
    let mut picture = match libjpeg {
        Some(Ok(pixels)) => DynamicImage::ImageRgb8(pixels),
        Some(Err(reason)) => return Err(SourceError::Damaged { path: path.to_owned(), reason }),
        None => DynamicImage::from_decoder(decoder).map_err(damaged)?,
    };
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}
