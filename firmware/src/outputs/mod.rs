//! What a run gives out: the screen, the serial port, standard output. Each fails for itself: it is said once on standard error and
//! counted, and the others go on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::board::SerialPort;
use crate::device::describe;
use crate::display::screen::{self, Scene};
use crate::display::{Canvas, Display};
use crate::serial::{LineCounts, LineWriter, QUEUE_LINES};

/// The open outputs of a run.
pub(crate) struct Outputs<'a> {
    screen: Option<Screen>,
    serial: Option<(PathBuf, LineWriter)>,
    stdout: Option<&'a mut dyn Write>,
    stdout_error: Option<io::ErrorKind>,
}

struct Screen {
    display: Box<dyn Display>,
    canvas: Canvas,
    failing: bool,
    lost: u64,
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(display: Option<Box<dyn Display>>, stdout: Option<&'a mut dyn Write>) -> Self {
        let screen = display.map(|display| {
            let (width, height) = display.size();
            Screen { display, canvas: Canvas::new(width, height), failing: false, lost: 0 }
        });
        Self { screen, serial: None, stdout, stdout_error: None }
    }

    pub(crate) fn add_serial(&mut self, device: &Path, port: Box<dyn SerialPort>, baud: u32) -> io::Result<()> {
        self.serial = Some((device.to_owned(), LineWriter::start(port, baud, QUEUE_LINES)?));
        Ok(())
    }

    /// Draws a scene. A display that fails is tried again with the next one.
    pub(crate) fn show(&mut self, scene: &Scene<'_>) {
        let Some(screen) = &mut self.screen else { return };
        let Ok(()) = screen::draw(&mut screen.canvas, scene);
        match screen.display.flush(&screen.canvas) {
            Ok(()) => screen.failing = false,
            Err(error) => {
                screen.lost += 1;
                if !screen.failing {
                    eprintln!("hoi-device: {}", describe(&error));
                }
                screen.failing = true;
            }
        }
    }

    /// Sends a record as one line to the serial port, and where `print` says so to standard output.
    pub(crate) fn send<T: Serialize>(&mut self, record: &T, print: bool) {
        if self.serial.is_none() && !(print && self.stdout.is_some()) {
            return;
        }
        let line = match serde_json::to_string(record) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("hoi-device: a record cannot be written as JSON: {error}");
                return;
            }
        };
        if let Some((_, writer)) = &self.serial {
            writer.push(&line);
        }
        if let Some(stdout) = self.stdout.as_mut().filter(|_| print)
            && let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush())
        {
            eprintln!("hoi-device: standard output: {error}; frames are not printed any more");
            self.stdout_error = Some(error.kind());
            self.stdout = None;
        }
    }

    /// Says what happened to the serial port since the last call.
    pub(crate) fn report(&self) {
        if let Some((device, writer)) = &self.serial
            && let Some(error) = writer.take_error()
        {
            eprintln!(
                "hoi-device: serial port {}: {error}; detection goes on, lost lines are counted",
                device.display()
            );
        }
    }

    /// Serial lines lost so far, for whatever reason.
    pub(crate) fn dropped(&self) -> u64 {
        self.serial.as_ref().map_or(0, |(_, writer)| {
            let counts = writer.counts();
            counts.dropped + counts.failed
        })
    }

    /// Why standard output is not written any more.
    pub(crate) fn stdout_error(&self) -> Option<io::ErrorKind> {
        self.stdout_error
    }

    /// Whether anyone can still see what is found.
    pub(crate) fn any_left(&self) -> bool {
        self.screen.is_some() || self.serial.is_some() || self.stdout.is_some()
    }

    /// Waits for the serial line, `wait` and the time that it needs for what is left, and closes everything. Returns what
    /// became of the lines and how many screens were lost.
    pub(crate) fn finish(mut self, wait: Duration) -> (Option<LineCounts>, u64) {
        let lines = self.serial.take().map(|(device, writer)| {
            let line_time = writer.time_to_send();
            let (counts, error) = writer.close(wait + line_time);
            if let Some(error) = error {
                eprintln!("hoi-device: serial port {}: {error}", device.display());
            }
            counts
        });
        (lines, self.screen.map_or(0, |screen| screen.lost))
    }
}
