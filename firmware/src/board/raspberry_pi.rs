//! Raspberry Pi: serial port through `rppal`, which its author has retired; nothing outside this file names it.
//!
//! The UART of the 40-pin header (GPIO 14 transmits, pin 8; GPIO 15 receives, pin 10; 3.3 V) is `/dev/serial0`. It needs
//! `enable_uart=1` in `/boot/firmware/config.txt`, no `console=serial0,115200` in `/boot/firmware/cmdline.txt`, and a restart. On a
//! Pi 5 `/dev/serial0` is the debug connector; the header's UART, where it is switched on, is `/dev/ttyAMA0`. "Permission denied":
//! the user is not in the group `dialout`. USB adapters work as on any machine.

use std::io;
use std::path::Path;
use std::thread;

use rppal::system::DeviceInfo;
use rppal::uart::{self, Parity, Uart};

use super::{Board, BoardError, PI_REMEDY, SerialPort, from_io, look_at};
use crate::serial::SEND_WAIT;

/// A Raspberry Pi that was found by probing.
#[derive(Clone, Debug)]
pub struct RaspberryPi {
    model: String,
}

impl RaspberryPi {
    /// This machine as a Raspberry Pi.
    ///
    /// # Errors
    /// [`BoardError::NotThisBoard`] when it is none, or a model that is not known.
    pub fn probe() -> Result<Self, BoardError> {
        match DeviceInfo::new() {
            Ok(info) => Ok(Self { model: info.model().to_string() }),
            Err(error) => Err(BoardError::NotThisBoard { asked: "raspberry_pi", reason: error.to_string() }),
        }
    }

    /// A board that was not probed, so that its serial code can be tried on a pseudo terminal.
    #[cfg(test)]
    pub(crate) fn assumed() -> Self {
        Self { model: "not probed".to_owned() }
    }
}

impl Board for RaspberryPi {
    fn name(&self) -> &'static str {
        "raspberry_pi"
    }

    fn model(&self) -> String {
        self.model.clone()
    }

    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError> {
        look_at(device, PI_REMEDY)?;
        let owned = device.to_owned();
        match Uart::with_path(device, baud, Parity::None, 8, 1) {
            Ok(port) => Ok(Box::new(PiPort(port))),
            Err(uart::Error::Io(error)) => Err(from_io(device, &error, PI_REMEDY)),
            Err(uart::Error::InvalidValue) => Err(BoardError::SerialSpeed { device: owned, baud }),
            Err(error) => Err(BoardError::Serial { device: owned, reason: error.to_string() }),
        }
    }
}

struct PiPort(Uart);

impl SerialPort for PiPort {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.write(bytes).map_err(|error| match error {
            uart::Error::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        if sent == 0 && !bytes.is_empty() {
            // Writes do not wait here: give the line time to send what it holds.
            thread::sleep(SEND_WAIT / 10);
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{BoardChoice, select};

    #[test]
    fn asking_for_a_pi_elsewhere_says_so() {
        if let Ok(board) = RaspberryPi::probe() {
            println!("skipped: this machine is a {}", board.model());
            return;
        }
        let error = select(BoardChoice::RaspberryPi).unwrap_err();
        assert!(matches!(error, BoardError::NotThisBoard { asked: "raspberry_pi", .. }));
        assert!(error.to_string().contains("--board host"), "{error}");
        assert_eq!(select(BoardChoice::Auto).unwrap().name(), "host");
    }
}
