//! Why a source cannot be opened.

use std::io;
use std::path::PathBuf;

use hoi_runtime::source::SourceError;

/// Why a source cannot be opened. A camera that is not there is no such error: its [`Feed`](super::Feed) is opened, says so and
/// waits for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No kind of source that there is.
    #[error("source {uri}: unknown scheme `{scheme}`{}; file, v4l2, csi, rtsp, http, https and test are known", hint(.nearest))]
    UnknownScheme {
        /// The URI, without user and password.
        uri: String,
        /// Its scheme.
        scheme: String,
        /// The known scheme that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// Nothing after the scheme.
    #[error("source `{uri}` names no file; file://photo.jpg or file://photos is needed")]
    NoPath {
        /// The URI as given.
        uri: String,
    },
    /// What follows the scheme does not name a source of this kind.
    #[error("source {uri}: {needed} is needed")]
    Address {
        /// The URI, without user and password.
        uri: String,
        /// What would be right, with an example.
        needed: String,
    },
    /// An option that this kind of source does not have.
    #[error("source {uri}: unknown option `{option}`{}; {known}", hint(.nearest))]
    UnknownOption {
        /// The URI, without user and password.
        uri: String,
        /// The option's name.
        option: String,
        /// The known option that is nearest to it.
        nearest: Option<&'static str>,
        /// Which options there are.
        known: String,
    },
    /// An option whose value does not fit.
    #[error("source {uri}: {option}={value} does not fit; {needed} is needed")]
    OptionValue {
        /// The URI, without user and password.
        uri: String,
        /// The option's name.
        option: String,
        /// The value as given.
        value: String,
        /// What would be right.
        needed: String,
    },
    /// A folder without pictures.
    #[error("source {folder}: no .jpg, .jpeg, .png, .bmp or .webp pictures in this folder")]
    NoPictures {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that cannot be read.
    #[error(transparent)]
    Folder(#[from] SourceError),
    /// A video file needs a program that is not installed.
    #[error("source {uri}: {reason}")]
    Program {
        /// The URI as given.
        uri: String,
        /// Which program, and which package brings it.
        reason: String,
    },
    /// No thread for a live source.
    #[error("source {uri}: cannot start the thread that reads it")]
    Thread {
        /// The URI, without user and password.
        uri: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

impl OpenError {
    /// Whether the command line or the configuration is wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownScheme { .. }
                | Self::NoPath { .. }
                | Self::Address { .. }
                | Self::UnknownOption { .. }
                | Self::OptionValue { .. }
        )
    }
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (`{name}`?)"))
}
