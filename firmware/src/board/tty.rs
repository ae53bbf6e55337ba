//! Serial ports of any Linux machine, through the `serialport` crate.

use std::io::{self, Write};
use std::path::Path;

use serialport::{DataBits, ErrorKind, FlowControl, Parity, StopBits, TTYPort};

use super::error::{Part, Remedies, from_io, look_at};
use super::{BoardError, SerialPort};
use crate::serial::SEND_WAIT;

/// Opens `device` at `baud` bits a second, 8 data bits, no parity, 1 stop bit, no flow control.
pub(super) fn open(device: &Path, baud: u32, remedies: &Remedies) -> Result<Box<dyn SerialPort>, BoardError> {
    look_at(Part::Serial, device, remedies)?;
    let owned = device.to_owned();
    let Some(name) = device.to_str() else {
        let reason = "its name is not UTF-8".to_owned();
        return Err(BoardError::Refused { part: Part::Serial, device: owned, reason });
    };
    let builder = serialport::new(name, baud)
        .data_bits(DataBits::Eight)
        .parity(Parity::None)
        .stop_bits(StopBits::One)
        .flow_control(FlowControl::None)
        .timeout(SEND_WAIT);
    match TTYPort::open(&builder) {
        Ok(port) => Ok(Box::new(Tty(port))),
        Err(error) => Err(match error.kind {
            ErrorKind::NoDevice => BoardError::Busy { part: Part::Serial, device: owned },
            ErrorKind::InvalidInput => BoardError::SerialSpeed { device: owned, baud },
            ErrorKind::Io(kind) => from_io(Part::Serial, device, &kind.into(), remedies),
            _ => BoardError::Refused { part: Part::Serial, device: owned, reason: error.description },
        }),
    }
}

struct Tty(TTYPort);

impl SerialPort for Tty {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            other => other,
        }
    }
}
