//! Where the pictures come from, by URI.
//!
//! | URI | source | read by |
//! |---|---|---|
//! | `file://photo.jpg`, `file://photos`, a plain path | a picture; a folder's pictures sorted by name | the runtime |
//! | `file://kitchen.mp4`, `?realtime=1` | a video (.mp4 .avi .mkv .mov .webm .mjpeg): every frame; as a camera would give it | `ffmpeg` |
//! | `v4l2:///dev/video0?size=640x480&rate=15&format=mjpeg` | a USB camera | `ffmpeg` |
//! | `csi://0?size=640x480&rate=15` | a camera on the ribbon cable | `rpicam-vid`, `libcamera-vid`, Jetson's GStreamer |
//! | `rtsp://user:password@camera/stream#transport=udp&size=640x360&rate=5` | a camera on the network | `ffmpeg` |
//! | `http://camera/stream.mjpg`, `https://` | an MJPEG stream | `ffmpeg` |
//! | `test://ride_horse?size=640x480&rate=15&frames=100` | a scene without a camera | this program |
//!
//! # Live sources
//! Everything but pictures and videos without `realtime` is live ([`Feed::is_live`]): a thread reads, the newest frame is kept, older ones that nobody
//! took are dropped and counted. Detection never waits for the camera, nor the camera for detection. A live source that cannot be
//! started, dies or stalls is said once ([`Event::Down`]), ended with all its processes, and started again ([`Backoff`]); what it
//! needs (program, device, permission) is looked at each time.
//!
//! # Bounds
//! A picture that is larger than [`SourceSettings::limits`] is an error before it is allocated. A live source holds at most three
//! pictures: the one that comes, the newest, the one that is looked at.
//!
//! # Secrets
//! `user:password@` of a URI is shown nowhere: not in errors, in [`Taken::source`], or in a program's last words. A URI that leaves open where
//! its password ends (`rtsp://anna:12/34@cam`) is refused. `ffmpeg` gets it on its command line,
//! which other users of the machine can list.

mod address;
mod backoff;
mod child;
mod csi;
mod error;
mod feed;
mod ffmpeg;
mod live;
mod network;
mod pictures;
mod program;
mod scene;
mod stream;
mod v4l2;
mod video;
mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoi_runtime::geometry::Size;
use hoi_runtime::source::{Frame, ImageLimits, SourceError};

pub(crate) use address::shown;
pub use backoff::Backoff;
pub use error::OpenError;
pub use feed::{Event, Feed, FeedCounts, open, probe};

/// The schemes of URIs.
const SCHEMES: [&str; 7] = ["file", "v4l2", "csi", "rtsp", "http", "https", "test"];

/// What a camera is asked for where its URI says nothing: enough for the detectors, which look at 320 or 416 pixels.
const DEFAULT_SIZE: Size = Size { width: 640, height: 480 };

/// Frames a second, likewise.
const DEFAULT_RATE: u64 = 15;

/// One step of a source: a picture, or why it could not be had.
#[derive(Debug)]
pub struct Taken {
    /// The picture's URI, without user and password.
    pub source: String,
    /// The picture; its index is the position in the run.
    pub frame: Result<Frame, SourceError>,
}

/// How sources are read.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// How often what has an end (pictures, videos, `test://?frames=N`) is gone through.
    pub repeat: u32,
    /// How large a picture may be.
    pub limits: ImageLimits,
    /// How long a live source may take to its first frame.
    pub start: Duration,
    /// How long a live source may be silent between two frames.
    pub stall: Duration,
    /// When a live source that failed is started again.
    pub backoff: Backoff,
    /// Folders in which programs are looked for, as in `PATH`; `None` for those of `PATH`.
    pub programs: Option<OsString>,
    /// The folder of the device nodes, in which `csi://` looks for cameras.
    pub devices: PathBuf,
}

impl Default for SourceSettings {
    /// Once; 10 s to the first frame, 2 s between two.
    fn default() -> Self {
        Self {
            repeat: 1,
            limits: ImageLimits::default(),
            start: Duration::from_secs(10),
            stall: Duration::from_secs(2),
            backoff: Backoff::default(),
            programs: None,
            devices: PathBuf::from("/dev"),
        }
    }
}

/// The path that a URI names; text without `://` is a path.
fn file_path(uri: &str) -> Result<&Path, OpenError> {
    let path = match uri.split_once("://") {
        None => {
            address::refuse_slip(uri)?;
            uri
        }
        Some(("file", path)) => path,
        Some(_) => {
            let needed = "a file, as in file://photo.jpg,".to_owned();
            return Err(OpenError::Address { uri: shown(uri), needed });
        }
    };
    if path.is_empty() {
        return Err(OpenError::NoPath { uri: uri.to_owned() });
    }
    Ok(Path::new(path))
}
