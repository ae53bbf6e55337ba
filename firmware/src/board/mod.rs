//! Boards: one file each behind one trait, chosen by probing or by name.
//!
//! | board | found by | serial ports | SPI, I2C, GPIO |
//! |---|---|---|---|
//! | [`RaspberryPi`] | the model in the device tree or `/proc/cpuinfo` | `rppal` | `rppal` |
//! | [`Jetson`] | the model in the device tree | `serialport` | `linux-embedded-hal` |
//! | [`Linux`] | a node of an SPI device, an I2C bus or a GPIO chip | `serialport` | `linux-embedded-hal` |
//! | [`Host`] | nothing: it is every other machine | `serialport`: UARTs, USB adapters, pseudo terminals | none |

mod error;
mod header;
mod host;
mod jetson;
mod linux;
mod probe;
mod raspberry_pi;
mod thermal;
mod tty;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use error::group_name;
pub use error::{BoardError, Part};
pub use header::{
    BusError, BusFailure, GpioLine, Header, I2cBus, MODE_0, MODE_3, Mode, OutputLine, PinState, SPI_TRANSFER, Spi,
    SpiSettings,
};
pub use host::Host;
pub use jetson::Jetson;
pub use linux::Linux;
pub use probe::{BoardChoice, select};
pub use raspberry_pi::RaspberryPi;
pub use thermal::temperature;

/// A machine that the firmware runs on.
pub trait Board: fmt::Debug + Send + Sync {
    /// The name that the configuration uses: `raspberry_pi`, `jetson`, `linux`, `host`.
    fn name(&self) -> &'static str;

    /// What exactly it is, for the log: `Raspberry Pi 4 B`.
    fn model(&self) -> String;

    /// Opens the serial port `device` at `baud` bits a second, 8 data bits, no parity, 1 stop bit, no flow control.
    ///
    /// # Errors
    /// [`BoardError`] that names the device, the group or the boot setting to look at.
    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError>;

    /// Its pins, for displays. Nothing is opened yet.
    fn header(&self) -> Arc<dyn Header>;

    /// Temperature of the processor in degrees Celsius; `None` where the kernel does not say.
    fn temperature(&self) -> Option<f32> {
        temperature(Path::new("/sys"))
    }
}

/// The sending side of a serial port.
pub trait SerialPort: Send {
    /// Hands the beginning of `bytes` to the line and returns how many bytes it took; 0 where it is full. Most calls wait at most
    /// [`SEND_WAIT`](crate::serial::SEND_WAIT) for room, but a driver may block longer: call it from a thread that can be left behind.
    ///
    /// # Errors
    /// What the system says when the port is gone or broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A character device that has no line settings.
    #[test]
    fn a_device_that_is_no_tty_is_an_error_on_every_board() {
        for error in [
            Host.open_serial(Path::new("/dev/null"), 115_200).err().unwrap(),
            Linux::probe(Path::new("/")).open_serial(Path::new("/dev/null"), 115_200).err().unwrap(),
            RaspberryPi::assumed().open_serial(Path::new("/dev/null"), 115_200).err().unwrap(),
        ] {
            assert!(matches!(error, BoardError::Refused { part: Part::Serial, .. }), "{error}");
            assert!(error.to_string().contains("/dev/null"), "{error}");
        }
    }

    #[test]
    fn a_host_without_pins_says_so() {
        let header = Host.header();
        let settings = SpiSettings { bus: 0, chip_select: 0, clock_hz: 1, mode: MODE_0 };
        let line = GpioLine::Number { chip: 0, line: 25 };
        for error in [
            header.spi(&settings).err().unwrap(),
            header.i2c(1).err().unwrap(),
            header.output(&line, PinState::Low).err().unwrap(),
        ] {
            assert!(matches!(error, BoardError::NoPins { .. }), "{error}");
            assert!(error.to_string().contains("--board auto"), "{error}");
        }
    }
}
