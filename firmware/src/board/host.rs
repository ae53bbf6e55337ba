//! Any Linux machine without pins of its own: serial ports through the `serialport` crate.
//!
//! Devices: `/dev/ttyUSB0`, `/dev/ttyACM0` (USB adapters, also by name in `/dev/serial/by-id`), `/dev/ttyS0` (UART), `/dev/pts/N`
//! (pseudo terminal, for trying things out). "Permission denied": the user is not in the group that owns the device, on Debian
//! `dialout`.

use std::io::{self, Write};
use std::path::Path;

use serialport::{DataBits, ErrorKind, FlowControl, Parity, StopBits, TTYPort};

use super::{Board, BoardError, HOST_REMEDY, SerialPort, from_io, look_at};
use crate::serial::SEND_WAIT;

/// This machine, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct Host;

impl Board for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn model(&self) -> String {
        format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
    }

    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError> {
        look_at(device, HOST_REMEDY)?;
        let owned = device.to_owned();
        let Some(name) = device.to_str() else {
            return Err(BoardError::Serial { device: owned, reason: "its name is not UTF-8".to_owned() });
        };
        let builder = serialport::new(name, baud)
            .data_bits(DataBits::Eight)
            .parity(Parity::None)
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None)
            .timeout(SEND_WAIT);
        match TTYPort::open(&builder) {
            Ok(port) => Ok(Box::new(HostPort(port))),
            Err(error) => Err(match error.kind {
                ErrorKind::NoDevice => BoardError::SerialBusy { device: owned },
                ErrorKind::InvalidInput => BoardError::SerialSpeed { device: owned, baud },
                ErrorKind::Io(kind) => from_io(device, &kind.into(), HOST_REMEDY),
                _ => BoardError::Serial { device: owned, reason: error.description },
            }),
        }
    }
}

struct HostPort(TTYPort);

impl SerialPort for HostPort {
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
