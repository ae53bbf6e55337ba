//! Any machine without pins of its own: serial ports and pseudo terminals, pictures and framebuffers as displays.
//!
//! Devices: `/dev/ttyUSB0`, `/dev/ttyACM0` (USB adapters, also by name in `/dev/serial/by-id`), `/dev/ttyS0` (UART), `/dev/pts/N`
//! (pseudo terminal, for trying things out). "Permission denied": the user is not in the group that owns the device, on Debian
//! `dialout`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Part, Remedies};
use super::header::{GpioLine, Header, I2cBus, OutputLine, PinState, Spi, SpiSettings};
use super::{Board, BoardError, SerialPort, tty};

const REMEDIES: Remedies = Remedies {
    serial: "A USB adapter is /dev/ttyUSB0 or /dev/ttyACM0 (`ls /dev/serial/by-id`); on a Raspberry Pi the port of \
             the header is /dev/serial0 after `enable_uart=1` in /boot/firmware/config.txt",
    spi: "",
    i2c: "",
    gpio: "",
};

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
        tty::open(device, baud, &REMEDIES)
    }

    fn header(&self) -> Arc<dyn Header> {
        Arc::new(NoHeader)
    }
}

/// No pins at all: each call says so.
#[derive(Debug)]
struct NoHeader;

impl Header for NoHeader {
    fn spi(&self, settings: &SpiSettings) -> Result<Spi, BoardError> {
        Err(BoardError::NoPins { part: Part::Spi, device: settings.device() })
    }

    fn i2c(&self, bus: u8) -> Result<I2cBus, BoardError> {
        Err(BoardError::NoPins { part: Part::I2c, device: PathBuf::from(format!("/dev/i2c-{bus}")) })
    }

    fn output(&self, _: &GpioLine, _: PinState) -> Result<OutputLine, BoardError> {
        Err(BoardError::NoPins { part: Part::Gpio, device: PathBuf::from("/dev/gpiochip0") })
    }
}
