//! Video files, decoded by `ffmpeg`: at the pace of detection, or as a live source with `?realtime=1`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hoi_runtime::source::{Frame, SourceError};

use super::child::{ChildStream, LeftBehind};
use super::live::{AtEnd, Camera};
use super::program::{CommandLine, FFMPEG, require};
use super::stream::{Format, Step, Stream};
use super::{Event, SourceSettings, Taken, ffmpeg};

/// Extensions that count as videos, in lower case.
const EXTENSIONS: [&str; 6] = ["mp4", "avi", "mkv", "mov", "webm", "mjpeg"];

/// What can be added to any time.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the extension of `path` is that of a video, in any case.
pub(super) fn has_video_extension(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The command line that decodes a video.
#[derive(Debug)]
pub(super) struct VideoFile {
    path: PathBuf,
    realtime: bool,
    /// How often it is still to be gone through.
    left: u32,
    settings: SourceSettings,
    left_behind: LeftBehind,
}

impl VideoFile {
    pub(super) fn new(path: &Path, realtime: bool, settings: &SourceSettings) -> Self {
        Self {
            path: path.to_owned(),
            realtime,
            left: settings.repeat,
            settings: settings.clone(),
            left_behind: LeftBehind::default(),
        }
    }

    /// Where `ffmpeg` is, or that it is missing.
    pub(super) fn program(&self) -> Result<PathBuf, String> {
        require(FFMPEG, self.settings.programs.as_deref())
    }

    fn command_line(&self) -> Result<CommandLine, String> {
        let mut args = ffmpeg::quietly();
        if self.realtime {
            args.push("-re".into());
        }
        args.extend(ffmpeg::bounded(&self.settings.limits));
        // A file that is a playlist in disguise leads to no other place.
        let mut path = OsString::from("file:");
        path.push(&self.path);
        args.extend(["-protocol_whitelist".into(), "file".into(), "-i".into(), path]);
        args.extend(ffmpeg::decoded(&[]));
        Ok(CommandLine { name: FFMPEG.name, program: self.program()?, args, format: Format::Ppm })
    }

    fn child(&self) -> Result<ChildStream, SourceError> {
        let io = |cause| SourceError::Io { path: self.path.clone(), cause };
        // A named pipe would be waited for.
        if !std::fs::metadata(&self.path).map_err(io)?.is_file() {
            return Err(io(io::Error::other("not a regular file")));
        }
        let line = self.command_line().map_err(|why| io(io::Error::other(why)))?;
        ChildStream::start(&line, &self.settings.limits, &self.left_behind).map_err(|why| io(io::Error::other(why)))
    }
}

impl Camera for VideoFile {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        if self.left == 0 {
            return Ok(Box::new(Over));
        }
        self.left -= 1;
        Ok(Box::new(self.child().map_err(|error| error.to_string())?))
    }

    fn at_end(&mut self) -> AtEnd {
        if self.left > 0 { AtEnd::Again } else { AtEnd::Over }
    }

    fn restarts(&self) -> bool {
        false
    }
}

/// A stream without pictures.
struct Over;

impl Stream for Over {
    fn read(&mut self, _deadline: Instant) -> Step {
        Step::Ended
    }
}

/// A video at the pace of whoever takes its frames: none is lost.
#[derive(Debug)]
pub(super) struct Video {
    file: VideoFile,
    child: Option<ChildStream>,
    /// Frames of this time through.
    frames: u64,
    /// When the last frame came, or the program started.
    progress: Instant,
}

impl Video {
    pub(super) fn new(file: VideoFile) -> Self {
        Self { file, child: None, frames: 0, progress: Instant::now() }
    }

    /// The next frame, which gets the number `index`. A video that cannot be read is an error in place of a frame, and the end.
    pub(super) fn next(&mut self, index: u64, wait: Duration) -> Event {
        let began = Instant::now();
        let deadline = began + wait.min(LONGEST_WAIT);
        loop {
            let child = match &mut self.child {
                Some(child) => child,
                None if self.file.left == 0 => return Event::Ended,
                None => {
                    self.file.left -= 1;
                    (self.frames, self.progress) = (0, Instant::now());
                    match self.file.child() {
                        Ok(child) => self.child.insert(child),
                        Err(error) => return self.fail(error),
                    }
                }
            };
            let why = match child.read(deadline) {
                Step::Picture(picture) => {
                    (self.frames, self.progress) = (self.frames + 1, Instant::now());
                    let source = self.uri();
                    let frame = picture.decode(&source, &self.file.settings.limits).map(|pixels| Frame {
                        pixels,
                        source: source.clone(),
                        index,
                        decode_ms: began.elapsed().as_secs_f64() * 1e3,
                    });
                    return Event::Frame(Taken { source, frame });
                }
                Step::Nothing if self.progress.elapsed() < self.file.settings.start => return Event::Waiting,
                Step::Nothing => format!("no frame for {:.1} s", self.file.settings.start.as_secs_f64()),
                Step::Ended if self.frames > 0 => {
                    self.child = None;
                    continue;
                }
                Step::Ended => {
                    let words = child.last_words().map_or_else(String::new, |words| format!("; {words}"));
                    format!("there is no picture in it{words}")
                }
                Step::Broken(why) => why,
            };
            let path = self.file.path.clone();
            return self.fail(SourceError::Io { path, cause: io::Error::other(why) });
        }
    }

    fn uri(&self) -> String {
        format!("file://{}", self.file.path.display())
    }

    fn fail(&mut self, error: SourceError) -> Event {
        (self.child, self.file.left) = (None, 0);
        Event::Frame(Taken { source: self.uri(), frame: Err(error) })
    }
}
