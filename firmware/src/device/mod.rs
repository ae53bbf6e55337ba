//! The device: source -> pipeline -> screen, serial port and standard output.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use hoi_runtime::bundle::{BundleError, ModelBundle};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::BBox;
use hoi_runtime::pipeline::{HoiPipeline, PipelineError};
use hoi_runtime::sink::FrameRecord;
use hoi_runtime::source::{Frame, ImageLimits};
use serde::Serialize;

use crate::board::{self, BoardChoice, BoardError};
use crate::display::screen::{Scene, SceneTriplet, State};
use crate::display::{self, DisplayError};
use crate::outputs::Outputs;
use crate::serial::LineCounts;
use crate::source::{FileSource, OpenError, Taken};

/// How long the end of a run waits for the serial line, beside the time that the waiting lines need at its speed.
pub const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// The schema of the line that takes a frame's place when the frame could not be read or answered.
pub const ERROR_SCHEMA: &str = "hoi.error/1";

/// What a run of the device is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where pictures come from, as a URI.
    pub source: String,
    /// How often the source is gone through, at least once.
    pub repeat: u32,
    /// Where the screen is drawn, as a URI.
    pub display: Option<String>,
    /// Device node of the serial port.
    pub serial: Option<PathBuf>,
    /// Bits a second of the serial port.
    pub baud: u32,
    /// Which board this is.
    pub board: BoardChoice,
    /// Folder of the bundle, or a name that [`ModelBundle::load`] takes; `None` for the fastest on this CPU of those in the program.
    pub bundle: Option<PathBuf>,
    /// Threads that one network may use.
    pub threads: usize,
    /// Triplets and detections below this score are left out, in `[0, 1]`.
    pub min_score: f32,
    /// Whether the frames are printed as well.
    pub json: bool,
}

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Nothing would be seen of it.
    #[error("nothing to do: --display, --serial or --json is needed")]
    NoOutput,
    /// The source.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// The display.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// The board or its serial port.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The bundle.
    #[error("bundle refused")]
    Bundle(#[from] BundleError),
    /// The bundle's networks.
    #[error("bundle {bundle} cannot be run")]
    Pipeline {
        /// Where it comes from.
        bundle: PathBuf,
        /// Why.
        #[source]
        source: Box<PipelineError>,
    },
    /// No thread for the serial port.
    #[error("cannot start the thread of the serial port")]
    Thread(#[source] io::Error),
}

impl DeviceError {
    /// Whether the command line is wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoOutput => true,
            Self::Source(error) => error.is_usage(),
            Self::Display(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames that were asked for.
    pub frames: u64,
    /// Frames that could not be read or answered.
    pub failed: u64,
    /// Screens that the display did not take.
    pub lost_screens: u64,
    /// Why standard output was not written to the end. A reader that has gone is no failure.
    pub stdout_error: Option<io::ErrorKind>,
    /// What became of the serial lines; `None` without a serial port.
    pub lines: Option<LineCounts>,
}

impl Summary {
    /// Whether nothing failed. Lines dropped for a slow reader are no failure.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
            && self.lost_screens == 0
            && self.lines.is_none_or(|lines| lines.failed == 0)
            && self.stdout_error.is_none_or(|kind| kind == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames, {} failed", self.frames, self.failed)?;
        if let Some(LineCounts { sent, dropped, failed }) = self.lines {
            write!(f, "; serial: {sent} lines sent, {dropped} dropped, {failed} failed")?;
        }
        if self.lost_screens > 0 {
            write!(f, "; display: {} screens lost", self.lost_screens)?;
        }
        Ok(())
    }
}

/// A frame that could not be read or answered, as a line of JSON.
#[derive(Debug, Serialize)]
struct ErrorRecord<'a> {
    schema: &'static str,
    source: &'a str,
    frame: u64,
    /// `source` or `model`.
    part: &'static str,
    error: &'a str,
}

/// Runs the device until its source ends. Frames go to `stdout` where the settings ask for it; what goes wrong on the way is
/// said on standard error, shown on the screen and counted, and the next frame is taken.
///
/// # Errors
/// [`DeviceError`] when the run cannot begin; the screen, where it is open by then, says so too.
pub fn run(settings: &Settings, stdout: &mut dyn Write) -> Result<Summary, DeviceError> {
    if settings.display.is_none() && settings.serial.is_none() && !settings.json {
        return Err(DeviceError::NoOutput);
    }
    let display = settings.display.as_deref().map(display::open).transpose()?;
    let mut outputs = Outputs::new(display, settings.json.then_some(stdout));
    outputs.show(&Scene::of_state(State::Starting("loading the model".to_owned())));
    let begun = begin(settings, &mut outputs);
    let (source, pipeline) = begun.inspect_err(|error| {
        let said = describe(error);
        outputs.show(&Scene::of_state(match error {
            DeviceError::Bundle(_) | DeviceError::Pipeline { .. } => State::ModelError(said),
            DeviceError::Source(_) => State::SourceError(said),
            _ => State::DeviceError(said),
        }));
    })?;

    let mut summary = Summary::default();
    for Taken { source, frame } in source {
        let index = summary.frames;
        summary.frames += 1;
        let answer = match frame {
            Ok(frame) => pipeline.run(&frame).map(|result| (result, frame)).map_err(|e| ("model", describe(&e))),
            Err(error) => Err(("source", describe(&error))),
        };
        match answer {
            Ok((result, frame)) => {
                let record = FrameRecord::new(&frame, &result, pipeline.vocabulary(), settings.min_score);
                outputs.send(&record, true);
                show_frame(&mut outputs, &frame, &record, &pipeline.vocabulary().spec().human);
            }
            Err((part, error)) => {
                summary.failed += 1;
                eprintln!("hoi-device: frame {index}: {error}");
                let record = ErrorRecord { schema: ERROR_SCHEMA, source: &source, frame: index, part, error: &error };
                outputs.send(&record, false);
                let state = if part == "model" { State::ModelError(error) } else { State::SourceError(error) };
                outputs.show(&Scene { frame: Some(index), dropped: outputs.dropped(), ..Scene::of_state(state) });
            }
        }
        outputs.report();
        if !outputs.any_left() {
            break;
        }
    }
    summary.stdout_error = outputs.stdout_error();
    (summary.lines, summary.lost_screens) = outputs.finish(FLUSH_WAIT);
    Ok(summary)
}

/// Opens everything else that a run needs, what is quick to fail first.
fn begin(settings: &Settings, outputs: &mut Outputs<'_>) -> Result<(FileSource, HoiPipeline), DeviceError> {
    let source = FileSource::open(&settings.source, settings.repeat, ImageLimits::default())?;
    let board = board::select(settings.board)?;
    eprintln!("hoi-device: board {} ({})", board.name(), board.model());
    if let Some(device) = &settings.serial {
        let port = board.open_serial(device, settings.baud)?;
        outputs.add_serial(device, port, settings.baud).map_err(DeviceError::Thread)?;
    }
    let bundle = match &settings.bundle {
        Some(folder) => ModelBundle::load(folder)?,
        None => ModelBundle::fastest_builtin()?,
    };
    eprintln!("hoi-device: bundle {}", bundle.origin().display());
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::new(settings.threads))
        .map_err(|source| DeviceError::Pipeline { bundle: bundle.origin().to_owned(), source: Box::new(source) })?;
    Ok((source, pipeline))
}

fn show_frame(outputs: &mut Outputs<'_>, frame: &Frame, record: &FrameRecord, human: &str) {
    let bbox = |edges: [f64; 4]| BBox::from(edges.map(|v| v as f32));
    let triplets: Vec<SceneTriplet> = record
        .triplets
        .iter()
        .map(|t| SceneTriplet {
            human: bbox(t.human.bbox),
            object: t.object.as_ref().map(|o| bbox(o.bbox)),
            verb: t.verb.replace('_', " "),
            object_name: t.object.as_ref().map(|o| o.class.replace('_', " ")),
            score: t.score,
        })
        .collect();
    let people: Vec<BBox> = record.detections.iter().filter(|d| d.class == human).map(|d| bbox(d.bbox)).collect();
    outputs.show(&Scene {
        state: State::Running,
        picture: Some(&frame.pixels),
        people: &people,
        triplets: &triplets,
        frame: Some(frame.index),
        frame_ms: Some(record.timings_ms.total),
        dropped: outputs.dropped(),
    });
}

/// An error with its causes on one line. A cause whose words are already there is not said again.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !said.contains(&words) {
            said.push_str(": ");
            said.push_str(&words);
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_lost() {
        let mut summary = Summary { frames: 3, ..Summary::default() };
        assert_eq!(summary.to_string(), "3 frames, 0 failed");
        assert!(summary.is_clean());
        summary.lines = Some(LineCounts { sent: 1, dropped: 2, failed: 0 });
        assert!(summary.is_clean());
        summary.lines = Some(LineCounts { sent: 1, dropped: 0, failed: 2 });
        summary.lost_screens = 1;
        assert!(!summary.is_clean());
        assert_eq!(
            summary.to_string(),
            "3 frames, 0 failed; serial: 1 lines sent, 0 dropped, 2 failed; display: 1 screens lost"
        );
    }

    #[test]
    fn causes_are_said_once() {
        let inner = io::Error::other("disk full");
        let error = DisplayError::Write { path: "s.png".into(), source: inner };
        assert_eq!(describe(&error), "display png://s.png: cannot write the picture: disk full");
        let error = DeviceError::Thread(io::Error::other("cannot start"));
        assert_eq!(describe(&error), "cannot start the thread of the serial port");
    }
}
