//! What a run gives out: the screen, the serial port, standard output. Each fails for itself: it is said once on standard error and
//! counted, and the others go on.

mod screen;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hoi_runtime::sink::FrameRecord;
use hoi_runtime::vocabulary::Vocabulary;

pub(crate) use screen::{OpenDisplay, ScreenWriter, Shown};

use crate::serial::{EncodeError, Encoder, ErrorRecord, LineCounts, LineWriter, StatusRecord};

/// How long a screen may take for its last scene at the end of a run.
const LAST_SCENE_WAIT: Duration = Duration::from_secs(2);

/// How long a serial port that is let go on the way may take for what waits.
const REPLACED_WAIT: Duration = Duration::from_millis(300);

/// A serial port with the protocol that is spoken on it.
pub(crate) struct SerialOutput {
    pub(crate) device: PathBuf,
    pub(crate) writer: LineWriter,
    pub(crate) encoder: Encoder,
}

/// The open outputs of a run.
pub(crate) struct Outputs<'a> {
    screen: Option<ScreenWriter>,
    /// Until then the screen keeps what it shows.
    held_until: Option<Instant>,
    serial: Option<SerialOutput>,
    stdout: Option<&'a mut dyn Write>,
    stdout_error: Option<io::ErrorKind>,
    /// Of ports that were closed on the way.
    closed_lines: Option<LineCounts>,
    /// Of displays that were closed on the way.
    closed_lost: u64,
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(stdout: Option<&'a mut dyn Write>) -> Self {
        Self {
            screen: None,
            held_until: None,
            serial: None,
            stdout,
            stdout_error: None,
            closed_lines: None,
            closed_lost: 0,
        }
    }

    /// Takes another screen in place of the present one, or none.
    pub(crate) fn set_screen(&mut self, screen: Option<ScreenWriter>) {
        if let Some(old) = std::mem::replace(&mut self.screen, screen) {
            self.closed_lost += old.close(Duration::ZERO);
        }
    }

    /// Takes another serial port in place of the present one, or none.
    pub(crate) fn set_serial(&mut self, serial: Option<SerialOutput>) {
        if let Some(old) = std::mem::replace(&mut self.serial, serial) {
            self.close_serial(old, REPLACED_WAIT, REPLACED_WAIT);
        }
    }

    /// The classes and verbs of the frames from now on.
    pub(crate) fn set_vocabulary(&mut self, vocabulary: &Vocabulary) {
        if let Some(serial) = &mut self.serial {
            serial.encoder.set_vocabulary(vocabulary);
        }
    }

    /// Shows a scene, unless the screen is held.
    pub(crate) fn show(&mut self, scene: Shown) {
        let Some(screen) = &self.screen else { return };
        if self.held_until.is_none_or(|until| Instant::now() >= until) {
            self.held_until = None;
            screen.show(scene);
        }
    }

    /// Whether scenes are shown at all now.
    pub(crate) fn shows(&self) -> bool {
        self.screen.is_some() && self.held_until.is_none_or(|until| Instant::now() >= until)
    }

    /// Shows a scene and keeps it for `time`, whatever comes.
    pub(crate) fn hold(&mut self, scene: Shown, time: Duration) {
        self.held_until = None;
        self.show(scene);
        self.held_until = Some(Instant::now() + time);
    }

    /// Sends a frame to the serial port and to standard output.
    pub(crate) fn send_frame(&mut self, record: &FrameRecord) {
        if let Some(serial) = &mut self.serial
            && serial.writer.has_room()
            && let Ok(Some(part)) = serial.encoder.encode_vocabulary(Instant::now())
        {
            serial.writer.push_lasting(part);
        }
        self.queue(LineWriter::push, |encoder| encoder.encode_frame(record));
        let Some(stdout) = self.stdout.as_mut() else { return };
        let written = serde_json::to_string(record)
            .map_err(io::Error::from)
            .and_then(|line| writeln!(stdout, "{line}"))
            .and_then(|()| stdout.flush());
        if let Err(error) = written {
            eprintln!("hoi-device: standard output: {error}; frames are not printed any more");
            self.stdout_error = Some(error.kind());
            self.stdout = None;
        }
    }

    /// Sends an error to the serial port.
    pub(crate) fn send_error(&mut self, record: &ErrorRecord<'_>) {
        self.queue(LineWriter::push_lasting, |encoder| encoder.encode_error(record));
    }

    /// Sends the device's state to the serial port.
    pub(crate) fn send_status(&mut self, record: &StatusRecord) {
        self.queue(LineWriter::push_lasting, |encoder| encoder.encode_status(record));
    }

    fn queue(
        &mut self,
        push: impl FnOnce(&LineWriter, Vec<u8>),
        encode: impl FnOnce(&mut Encoder) -> Result<Vec<u8>, EncodeError>,
    ) {
        let Some(serial) = &mut self.serial else { return };
        match encode(&mut serial.encoder) {
            Ok(message) => push(&serial.writer, message),
            Err(error) => eprintln!("hoi-device: serial port {}: {error}", serial.device.display()),
        }
    }

    /// Says what happened to the screen and the serial port since the last call.
    pub(crate) fn report(&self) {
        if let Some(serial) = &self.serial
            && let Some(error) = serial.writer.take_error()
        {
            let device = serial.device.display();
            eprintln!("hoi-device: serial port {device}: {error}; detection goes on, lost lines are counted");
        }
        if let Some(error) = self.screen.as_ref().and_then(ScreenWriter::take_error) {
            eprintln!("hoi-device: {error}; detection goes on");
        }
    }

    /// Serial lines lost so far, for whatever reason.
    pub(crate) fn lost_lines(&self) -> u64 {
        let counts = self.lines().unwrap_or_default();
        counts.dropped + counts.failed
    }

    fn lines(&self) -> Option<LineCounts> {
        add(self.closed_lines, self.serial.as_ref().map(|serial| serial.writer.counts()))
    }

    /// Why standard output is not written any more.
    pub(crate) fn stdout_error(&self) -> Option<io::ErrorKind> {
        self.stdout_error
    }

    /// Whether anyone can still see what is found.
    pub(crate) fn any_left(&self) -> bool {
        self.screen.is_some() || self.serial.is_some() || self.stdout.is_some()
    }

    fn close_serial(&mut self, serial: SerialOutput, wait: Duration, most: Duration) {
        let line_time = serial.writer.time_to_send();
        let (counts, error) = serial.writer.close((wait + line_time).min(most));
        if let Some(error) = error {
            eprintln!("hoi-device: serial port {}: {error}", serial.device.display());
        }
        self.closed_lines = add(self.closed_lines, Some(counts));
    }

    /// Waits for the serial line, `wait` and the time that it needs for what is left but not longer than `most`, and closes
    /// everything. Returns what became of the lines and how many screens were lost.
    pub(crate) fn finish(mut self, wait: Duration, most: Duration) -> (Option<LineCounts>, u64) {
        if let Some(serial) = self.serial.take() {
            self.close_serial(serial, wait, most);
        }
        let lost = self.screen.take().map_or(0, |screen| {
            let error = screen.take_error();
            let lost = screen.close(LAST_SCENE_WAIT);
            if let Some(error) = error {
                eprintln!("hoi-device: {error}");
            }
            lost
        });
        (self.closed_lines, self.closed_lost + lost)
    }
}

fn add(a: Option<LineCounts>, b: Option<LineCounts>) -> Option<LineCounts> {
    match (a, b) {
        (Some(a), Some(b)) => {
            Some(LineCounts { sent: a.sent + b.sent, dropped: a.dropped + b.dropped, failed: a.failed + b.failed })
        }
        (a, b) => a.or(b),
    }
}
