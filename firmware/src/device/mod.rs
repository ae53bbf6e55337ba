//! The device: source -> pipeline -> screen, serial port and standard output.

mod control;
mod model;
mod pace;
mod parts;
mod reload;
mod runner;
mod shown;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use hoi_runtime::bundle::BundleError;
use hoi_runtime::pipeline::PipelineError;

pub use control::Control;

use crate::board::BoardError;
use crate::config::{Config, ConfigError};
use crate::display::DisplayError;
use crate::serial::LineCounts;
use crate::source::{FeedCounts, OpenError};
use crate::update::UpdateError;

/// How long the end of a run waits for the serial line, beside the time that the waiting lines need at its speed.
pub const FLUSH_WAIT: Duration = Duration::from_secs(2);

/// How long a service waits for it at most: the service manager does not wait for ever.
pub const FLUSH_MOST: Duration = Duration::from_secs(8);

/// Reads the configuration again.
pub type ReadAgain = Box<dyn Fn() -> Result<Config, ConfigError>>;

/// Keeps the configuration that was accepted.
pub type Accept = Box<dyn Fn() -> io::Result<()>>;

/// What a run of the device is to do.
pub struct Settings {
    /// What it is to do.
    pub config: Config,
    /// For a service: how its configuration is read again. A part that is missing does not stop a service, it is tried again and
    /// again. `None` for a command line: what is missing ends it at once.
    pub again: Option<ReadAgain>,
    /// Called when the device runs with its configuration, at the start and after a reload.
    pub accepted: Option<Accept>,
    /// Why `config` is not what stands in the file, which is to be said wherever something can be said.
    pub refused: Option<String>,
}

impl Settings {
    /// Those of a command line.
    pub fn once(config: Config) -> Self {
        Self { config, again: None, accepted: None, refused: None }
    }

    /// The device runs with its configuration.
    fn accept(&self) {
        if let Some(accepted) = &self.accepted
            && let Err(error) = accepted()
        {
            eprintln!("hoi-device: the configuration cannot be kept for a start with a damaged one: {error}");
        }
    }
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
    /// The store of the updates.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// No thread.
    #[error("cannot start the thread of {what}")]
    Thread {
        /// Whose.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DeviceError {
    /// Whether the command line or the configuration is wrong, and not the device.
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
    /// Pictures of a camera that came while the model was busy, and were left out.
    pub dropped: u64,
    /// How often a camera had to be started again.
    pub restarts: u64,
}

impl Summary {
    /// Whether nothing failed. Lines dropped for a slow reader are no failure, nor is a camera that was started again.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
            && self.lost_screens == 0
            && self.lines.is_none_or(|lines| lines.failed == 0)
            && self.stdout_error.is_none_or(|kind| kind == io::ErrorKind::BrokenPipe)
    }

    fn add_feed(&mut self, counts: FeedCounts) {
        self.dropped += counts.dropped;
        self.restarts += counts.restarts;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames, {} failed", self.frames, self.failed)?;
        if self.dropped > 0 {
            write!(f, ", {} dropped while the model was busy", self.dropped)?;
        }
        if self.restarts > 0 {
            write!(f, "; source: started again {} times", self.restarts)?;
        }
        if let Some(LineCounts { sent, dropped, failed }) = self.lines {
            write!(f, "; serial: {sent} lines sent, {dropped} dropped, {failed} failed")?;
        }
        if self.lost_screens > 0 {
            write!(f, "; display: {} screens lost", self.lost_screens)?;
        }
        Ok(())
    }
}

/// Runs the device until its source ends or `control` says so. Frames go to `stdout` where the settings ask for it; what goes wrong on
/// the way is said on standard error, shown on the screen, sent to the serial port and counted, and the next frame is taken.
///
/// # Errors
/// [`DeviceError`] when the run cannot begin; the screen, where it is open by then, says so too.
pub fn run(settings: &Settings, control: &Control, stdout: &mut dyn Write) -> Result<Summary, DeviceError> {
    if settings.again.is_none() && !settings.config.has_output() {
        return Err(DeviceError::NoOutput);
    }
    runner::run(settings, control, stdout)
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
        let error = DeviceError::Thread { what: "the serial port", source: io::Error::other("cannot start") };
        assert_eq!(describe(&error), "cannot start the thread of the serial port");
    }
}
