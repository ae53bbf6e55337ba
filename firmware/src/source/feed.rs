//! A source that is open, whatever its kind.

use std::path::Path;
use std::time::{Duration, Instant};

use hoi_runtime::source::{Frame, ImageLimits};

use super::address::{Options, nearest, shown, without_credentials};
use super::csi::Csi;
use super::live::{Camera, Live, Patience, Taking};
use super::network::Network;
use super::pictures::FileSource;
use super::scene::SceneCamera;
use super::v4l2::V4l2;
use super::video::{Video, VideoFile, has_video_extension};
use super::{OpenError, SCHEMES, SourceSettings, Taken, file_path};
use crate::device::describe;

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    /// A frame, or one that could not be decoded.
    Frame(Taken),
    /// The source is down since now: why, with the last words of the program behind it, and what would help. Said once an outage, which ends
    /// with the next frame; the source is started again by itself.
    Down(String),
    /// Nothing within the time.
    Waiting,
    /// Nothing will come any more.
    Ended,
}

/// What became of a source's frames. Of a live source, `read` is `frames` + `dropped`, and one more while the newest waits to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Taken with [`Feed::next`], decoded or not.
    pub frames: u64,
    /// That the source gave.
    pub read: u64,
    /// Thrown away because a newer one came before they were taken.
    pub dropped: u64,
    /// How often the source was started again.
    pub restarts: u64,
}

/// An open source.
#[derive(Debug)]
pub struct Feed {
    uri: String,
    limits: ImageLimits,
    kind: Kind,
    frames: u64,
}

#[derive(Debug)]
enum Kind {
    Pictures(FileSource),
    Video(Box<Video>),
    Live(Live),
    /// Let go by [`Feed::close`], with what became of its frames.
    Closed(FeedCounts),
}

/// Opens the source that `uri` names; see the [table](super). A camera need not be there yet.
///
/// # Errors
/// [`OpenError`]: a URI that names no source, an option that does not fit, a folder without pictures, a video without `ffmpeg`.
pub fn open(uri: &str, settings: &SourceSettings) -> Result<Feed, OpenError> {
    let kind = match uri.split_once("://") {
        None | Some(("file", _)) => file(uri, settings)?,
        Some(("v4l2", rest)) => live(uri, V4l2::parse(uri, rest, settings)?, settings)?,
        Some(("csi", rest)) => live(uri, Csi::parse(uri, rest, settings)?, settings)?,
        Some((scheme @ ("rtsp" | "http" | "https"), _)) => live(uri, Network::parse(uri, scheme, settings)?, settings)?,
        Some(("test", rest)) => live(uri, SceneCamera::parse(uri, rest, settings)?, settings)?,
        Some((scheme, _)) => {
            let (uri, nearest) = (shown(uri), nearest(scheme, &SCHEMES));
            return Err(OpenError::UnknownScheme { uri, scheme: shown(scheme), nearest });
        }
    };
    Ok(Feed { uri: without_credentials(uri), limits: settings.limits, kind, frames: 0 })
}

fn live(uri: &str, camera: impl Camera + 'static, settings: &SourceSettings) -> Result<Kind, OpenError> {
    let patience = Patience { start: settings.start, stall: settings.stall, backoff: settings.backoff };
    let live = Live::start(Box::new(camera), patience);
    live.map(Kind::Live).map_err(|cause| OpenError::Thread { uri: without_credentials(uri), cause })
}

fn file(uri: &str, settings: &SourceSettings) -> Result<Kind, OpenError> {
    let whole = file_path(uri)?;
    // A name may hold a `?`: what follows one is options only where it looks like them and no file has the whole name.
    let (path, options) = match whole.to_str().and_then(|text| text.rsplit_once('?')) {
        Some((path, options)) if options.contains('=') && !whole.exists() => (Path::new(path), options),
        _ => (whole, ""),
    };
    if path.as_os_str().is_empty() {
        return Err(OpenError::NoPath { uri: uri.to_owned() });
    }
    if !has_video_extension(path) || path.is_dir() {
        Options::parse(uri, options, &[])?;
        return Ok(Kind::Pictures(FileSource::of_path(path, settings.repeat, settings.limits)?));
    }
    let options = Options::parse(uri, options, &["realtime"])?;
    let realtime = options.number("realtime", 0..=1)? == Some(1);
    let video = VideoFile::new(path, realtime, settings);
    video.program().map_err(|reason| OpenError::Program { uri: uri.to_owned(), reason })?;
    if realtime { live(uri, video, settings) } else { Ok(Kind::Video(Box::new(Video::new(video)))) }
}

impl Feed {
    /// The URI that was opened, without user and password.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether frames come by themselves, and are dropped where nobody takes them in time.
    pub fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Live(_))
    }

    /// What the source has to say next; a live source and a video are waited for at most `wait`. Frames are numbered from 0 as they are
    /// taken, with those that could not be decoded.
    pub fn next(&mut self, wait: Duration) -> Event {
        let event = match &mut self.kind {
            Kind::Pictures(pictures) => pictures.next().map_or(Event::Ended, Event::Frame),
            Kind::Video(video) => video.next(self.frames, wait),
            Kind::Closed(_) => Event::Ended,
            Kind::Live(live) => match live.take(wait) {
                Taking::Down(why) => Event::Down(why),
                Taking::Waiting => Event::Waiting,
                Taking::Ended => Event::Ended,
                Taking::Picture(picture) => {
                    let (source, index, began) = (self.uri.clone(), self.frames, Instant::now());
                    let frame = picture.decode(&source, &self.limits).map(|pixels| Frame {
                        pixels,
                        source: source.clone(),
                        index,
                        decode_ms: began.elapsed().as_secs_f64() * 1e3,
                    });
                    Event::Frame(Taken { source, frame })
                }
            },
        };
        self.frames += u64::from(matches!(event, Event::Frame(_)));
        event
    }

    /// Why a live source gives no frames at present; `None` while it does, before it said anything, and for files.
    pub fn down(&self) -> Option<String> {
        match &self.kind {
            Kind::Live(live) => live.down(),
            Kind::Pictures(_) | Kind::Video(_) | Kind::Closed(_) => None,
        }
    }

    /// Lets camera and programs go now, so that another feed may have them; what it counted stays.
    pub fn close(&mut self) {
        self.kind = Kind::Closed(self.counts());
    }

    /// What became of the frames so far.
    pub fn counts(&self) -> FeedCounts {
        match &self.kind {
            Kind::Live(live) => live.counts(self.frames),
            Kind::Closed(counts) => *counts,
            Kind::Pictures(_) | Kind::Video(_) => {
                FeedCounts { frames: self.frames, read: self.frames, ..FeedCounts::default() }
            }
        }
    }
}

/// Opens a source, waits at most `wait` for one frame, and says what it looks like: `1280x720, first frame after 310 ms`.
///
/// # Errors
/// Why there is none, with what would help.
pub fn probe(uri: &str, settings: &SourceSettings, wait: Duration) -> Result<String, String> {
    let began = Instant::now();
    let mut feed = open(uri, settings).map_err(|error| describe(&error))?;
    loop {
        let left = wait.saturating_sub(began.elapsed());
        return match feed.next(left) {
            Event::Frame(Taken { frame: Ok(frame), .. }) => {
                let (width, height) = frame.pixels.dimensions();
                Ok(format!("{width}x{height}, first frame after {} ms", began.elapsed().as_millis()))
            }
            Event::Frame(Taken { frame: Err(error), .. }) => Err(describe(&error)),
            Event::Down(why) => Err(why),
            Event::Waiting if !left.is_zero() => continue,
            Event::Waiting => Err(format!("no frame within {:.1} s", wait.as_secs_f64())),
            Event::Ended => Err("it ended without a frame".to_owned()),
        };
    }
}

#[cfg(test)]
mod tests;
