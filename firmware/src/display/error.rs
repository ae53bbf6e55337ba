//! What can be wrong with a display.

use std::path::PathBuf;

use super::uri::nearest;
use super::{DEFAULT_SIDE, KINDS};
use crate::board::BoardError;

/// Why a display could not be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisplayError {
    /// The URI names no display.
    #[error("display `{uri}`: no such kind of display; did you mean {nearest}://? There are {}", kinds())]
    Unsupported {
        /// The URI as given.
        uri: String,
        /// The kind that is nearest to it.
        nearest: &'static str,
    },
    /// The URI's place is not one of its kind.
    #[error("display `{uri}`: {needed} is needed")]
    BadPlace {
        /// The URI as given.
        uri: String,
        /// What it should look like.
        needed: &'static str,
    },
    /// An option that this kind of display does not have.
    #[error("display `{uri}`: {kind} has no option `{option}`; did you mean `{nearest}`?")]
    UnknownOption {
        /// The URI as given.
        uri: String,
        /// The option.
        option: String,
        /// The kind of display.
        kind: String,
        /// The option that is nearest to it.
        nearest: String,
    },
    /// An option with a value that it cannot have, or that is missing.
    #[error("display `{uri}`: `{option}` {reason}")]
    BadOption {
        /// The URI as given.
        uri: String,
        /// The option.
        option: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The path of a `png://` display cannot hold a file.
    #[error("display png://{path}: {reason}")]
    Place {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Writing a `png://` display failed.
    #[error("display png://{path}: cannot write the picture")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A device of the board.
    #[error("display {uri}: {source}")]
    Board {
        /// The URI.
        uri: String,
        /// Why.
        source: BoardError,
    },
    /// The panel does not take what it is sent.
    #[error("display {uri}: {reason}; it is initialised again with one of the next frames")]
    Panel {
        /// The URI.
        uri: String,
        /// Why.
        reason: String,
    },
    /// The framebuffer cannot be opened, or cannot be drawn on.
    #[error("display framebuffer://{device}: {reason}")]
    Framebuffer {
        /// The device node.
        device: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The canvas is not of the display's size.
    #[error(
        "display {uri}: a canvas of {}x{} pixels for a display of {}x{}", .canvas.0, .canvas.1, .display.0, .display.1
    )]
    CanvasSize {
        /// The URI.
        uri: String,
        /// Width and height of the display.
        display: (u16, u16),
        /// Width and height of the canvas.
        canvas: (u32, u32),
    },
}

impl DisplayError {
    /// Whether the command line is wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Unsupported { .. } | Self::BadPlace { .. } | Self::UnknownOption { .. } | Self::BadOption { .. }
        )
    }

    pub(super) fn unsupported(uri: &str) -> Self {
        // A path without a kind is most likely meant as a picture.
        let kind = uri.split_once("://").map_or("png", |(kind, _)| kind);
        Self::Unsupported { uri: uri.to_owned(), nearest: nearest(kind, &KINDS) }
    }
}

fn kinds() -> String {
    format!(
        "png://FILE?size={DEFAULT_SIDE}x{DEFAULT_SIDE}, ssd1306://i2c-1, st7789://spi0.0?dc=25, ili9341://spi0.0?dc=24, \
         framebuffer:///dev/fb0"
    )
}
