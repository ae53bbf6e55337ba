//! A port that may break, be away, and come back.

use std::io;
use std::time::{Duration, Instant};

use crate::board::SerialPort;

/// Opens the port again.
pub type Reopen = Box<dyn FnMut() -> io::Result<Box<dyn SerialPort>> + Send>;

/// How long after its first error a port is opened again.
pub const REOPEN_FIRST: Duration = Duration::from_millis(500);

/// How often a port that stays away is tried at last; each wait before is twice the one before it.
pub const REOPEN_LAST: Duration = Duration::from_secs(10);

pub(super) struct Port {
    open: Option<Box<dyn SerialPort>>,
    reopen: Option<Reopen>,
    delimiter: u8,
    /// The reader may hold the beginning of a message: of this port's, or of a program that was killed before.
    broken_off: bool,
    /// Why the port is not open, and when it is tried again.
    away: Option<(io::Error, Instant)>,
    wait: Duration,
}

impl Port {
    pub(super) fn new(open: Option<Box<dyn SerialPort>>, reopen: Option<Reopen>, delimiter: u8) -> Self {
        Self { open, reopen, delimiter, broken_off: true, away: None, wait: REOPEN_FIRST }
    }

    /// Writes one message, however long the reader takes, unless it is `abandoned` meanwhile.
    pub(super) fn write(&mut self, message: &[u8], abandoned: impl Fn() -> bool) -> io::Result<()> {
        self.open_again()?;
        let Some(port) = self.open.as_deref_mut() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the port is not open"));
        };
        let outcome = write(port, message, self.delimiter, &mut self.broken_off, abandoned);
        match &outcome {
            Ok(()) => self.wait = REOPEN_FIRST,
            // A port that stays open keeps its device node, and the adapter comes back under another name.
            Err(error) if self.reopen.is_some() => {
                self.open = None;
                self.put_off(copy_of(error));
            }
            Err(_) => {}
        }
        outcome
    }

    fn open_again(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let Some(reopen) = &mut self.reopen else { return Ok(()) };
        if let Some((error, _)) = self.away.as_ref().filter(|(_, next)| Instant::now() < *next) {
            return Err(copy_of(error));
        }
        match reopen() {
            Ok(port) => {
                self.open = Some(port);
                self.away = None;
                // Whoever reads now may have begun in the middle of anything.
                self.broken_off = true;
                Ok(())
            }
            Err(error) => {
                self.put_off(copy_of(&error));
                Err(error)
            }
        }
    }

    fn put_off(&mut self, error: io::Error) {
        self.away = Some((error, Instant::now() + self.wait));
        self.wait = (self.wait * 2).min(REOPEN_LAST);
    }
}

fn write(
    port: &mut dyn SerialPort,
    message: &[u8],
    delimiter: u8,
    broken_off: &mut bool,
    abandoned: impl Fn() -> bool,
) -> io::Result<()> {
    let mut rest = message;
    while *broken_off {
        if port.send(&[delimiter])? == 1 {
            *broken_off = false;
        } else if abandoned() {
            return Ok(());
        }
    }
    while !rest.is_empty() {
        let sent = port.send(rest).inspect_err(|_| *broken_off = rest.len() < message.len())?;
        rest = &rest[sent.min(rest.len())..];
        if sent == 0 && abandoned() {
            return Ok(());
        }
    }
    Ok(())
}

/// What can be said of an error twice.
fn copy_of(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
