//! Displays: one file a kind behind one trait, one [`screen`] drawing for all of them.

mod canvas;
mod png;
pub mod screen;

use std::path::PathBuf;

pub use canvas::Canvas;
pub use png::PngDisplay;

/// Width and height in pixels of the screen that is drawn where the display does not fix it.
pub const DEFAULT_SIDE: u16 = 240;

/// Something that shows a [`Canvas`].
pub trait Display {
    /// Width and height in pixels of the canvas that [`flush`](Display::flush) takes.
    fn size(&self) -> (u16, u16);

    /// Shows the canvas, whole: what was shown before stays until the new picture is complete.
    ///
    /// # Errors
    /// [`DisplayError`] when the display did not take it; the next call tries again.
    fn flush(&mut self, canvas: &Canvas) -> Result<(), DisplayError>;
}

/// Why a display could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisplayError {
    /// The URI names no display of this version.
    #[error("display `{uri}` is not in this version: use png://FILE, for example png://screen.png")]
    Unsupported {
        /// The URI as given.
        uri: String,
    },
    /// The path of a `png://` display cannot hold a file.
    #[error("display png://{path}: {reason}")]
    Place {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Writing failed.
    #[error("display png://{path}: cannot write the picture")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DisplayError {
    /// Whether the command line is wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

/// Opens the display that `uri` names: `png://FILE`, a path relative to the working folder or absolute.
///
/// # Errors
/// [`DisplayError`] when the kind is not in this version or the file's folder does not exist.
pub fn open(uri: &str) -> Result<Box<dyn Display>, DisplayError> {
    match uri.strip_prefix("png://") {
        Some(path) => Ok(Box::new(PngDisplay::new(path, DEFAULT_SIDE, DEFAULT_SIDE)?)),
        None => Err(DisplayError::Unsupported { uri: uri.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_there_are_refused_as_usage() {
        for uri in ["st7789://spi0", "screen.png", ""] {
            let error = open(uri).err().unwrap();
            assert!(error.is_usage(), "{uri}");
            assert!(error.to_string().contains("png://"), "{error}");
        }
    }
}
