//! The pins of a board: SPI devices, I2C buses and output lines with the traits of embedded-hal 1.0, which display drivers take.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use embedded_hal::digital::{self, OutputPin};
use embedded_hal::i2c::{self, I2c, NoAcknowledgeSource};
use embedded_hal::spi::{self, SpiDevice};

use super::BoardError;

pub use embedded_hal::digital::PinState;
pub use embedded_hal::spi::{MODE_0, MODE_3, Mode};

/// Bytes that the Linux driver of SPI takes in one transfer unless its `bufsiz` says otherwise.
pub const SPI_TRANSFER: usize = 4096;

/// The pins of a board. Each call opens the device anew, so that a driver can begin again after a failure.
pub trait Header: fmt::Debug + Send + Sync {
    /// Opens an SPI device with its chip select. A write may hold up to [`SPI_TRANSFER`] bytes.
    ///
    /// # Errors
    /// [`BoardError`] that names the device node, the group or the boot setting.
    fn spi(&self, settings: &SpiSettings) -> Result<Spi, BoardError>;

    /// Opens the I2C bus `/dev/i2c-BUS`.
    ///
    /// # Errors
    /// As for [`spi`](Self::spi).
    fn i2c(&self, bus: u8) -> Result<I2cBus, BoardError>;

    /// Takes a GPIO line as an output and sets it.
    ///
    /// # Errors
    /// As for [`spi`](Self::spi), and where there is no such line or something else holds it.
    fn output(&self, line: &GpioLine, state: PinState) -> Result<OutputLine, BoardError>;
}

/// Which SPI device, how fast, and which clock polarity and phase.
#[derive(Clone, Debug, PartialEq)]
pub struct SpiSettings {
    /// Number of the bus: 0 for `/dev/spidev0.1`.
    pub bus: u8,
    /// Number of the chip select: 1 for `/dev/spidev0.1`.
    pub chip_select: u8,
    /// Highest clock in Hz.
    pub clock_hz: u32,
    /// Clock polarity and phase.
    pub mode: Mode,
}

impl SpiSettings {
    /// The device node: `/dev/spidev0.1`.
    pub fn device(&self) -> PathBuf {
        format!("/dev/spidev{}.{}", self.bus, self.chip_select).into()
    }
}

/// A GPIO line: by number on a chip, or by the name that the board's device tree gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpioLine {
    /// Line `line` of `/dev/gpiochipCHIP`.
    Number {
        /// Number of the chip.
        chip: u8,
        /// Number of the line on it; on a Raspberry Pi the BCM number, which is not the number of the pin.
        line: u32,
    },
    /// Line of this name on any chip: `GPIO25`, `PQ.05`.
    Name(String),
}

impl fmt::Display for GpioLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { chip: 0, line } => write!(f, "{line}"),
            Self::Number { chip, line } => write!(f, "gpiochip{chip}:{line}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for GpioLine {
    type Err = String;

    /// `25`, `gpiochip1:25`, `PQ.05`.
    fn from_str(text: &str) -> Result<Self, String> {
        let needed = || {
            format!(
                "`{text}` is no GPIO line: a number (25), a chip and a number (gpiochip1:25) or a name (PQ.05) is needed"
            )
        };
        if let Some((chip, line)) = text.strip_prefix("gpiochip").and_then(|rest| rest.split_once(':')) {
            let chip = chip.parse().map_err(|_| needed())?;
            return Ok(Self::Number { chip, line: line.parse().map_err(|_| needed())? });
        }
        if let Ok(line) = text.parse() {
            return Ok(Self::Number { chip: 0, line });
        }
        let starts = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
        if starts && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(needed())
    }
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusFailure {
    /// Nobody on the bus acknowledged the address.
    NoAnswer,
    /// Anything else.
    Other,
}

/// A transfer or a line that failed while it was used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device}: {reason}")]
pub struct BusError {
    /// The device node or the line.
    pub device: String,
    /// What the system said.
    pub reason: String,
    /// Whether an answer was missing.
    pub failure: BusFailure,
}

impl BusError {
    /// An error of `device` that is no missing answer.
    pub fn other(device: &str, reason: impl fmt::Display) -> Self {
        Self { device: device.to_owned(), reason: reason.to_string(), failure: BusFailure::Other }
    }

    /// What the system said about a transfer on `device`. Drivers of I2C say `ENXIO`, `EREMOTEIO` or `ENODEV` where nobody
    /// acknowledges.
    pub fn from_io(device: &str, error: &std::io::Error) -> Self {
        const NO_ANSWER: [i32; 3] = [6, 121, 19];
        match error.raw_os_error() {
            Some(code) if NO_ANSWER.contains(&code) => Self {
                device: device.to_owned(),
                reason: "nothing answers at this address".to_owned(),
                failure: BusFailure::NoAnswer,
            },
            _ => Self::other(device, error),
        }
    }
}

impl spi::Error for BusError {
    fn kind(&self) -> spi::ErrorKind {
        spi::ErrorKind::Other
    }
}

impl i2c::Error for BusError {
    fn kind(&self) -> i2c::ErrorKind {
        match self.failure {
            BusFailure::NoAnswer => i2c::ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            BusFailure::Other => i2c::ErrorKind::Other,
        }
    }
}

impl digital::Error for BusError {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

/// An open SPI device.
pub struct Spi(Box<dyn SpiDevice<u8, Error = BusError> + Send>);

impl Spi {
    /// Whatever implements the trait.
    pub fn new(device: impl SpiDevice<u8, Error = BusError> + Send + 'static) -> Self {
        Self(Box::new(device))
    }
}

impl spi::ErrorType for Spi {
    type Error = BusError;
}

impl SpiDevice for Spi {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), BusError> {
        self.0.transaction(operations)
    }
}

/// An open I2C bus.
pub struct I2cBus(Box<dyn I2c<Error = BusError> + Send>);

impl I2cBus {
    /// Whatever implements the trait.
    pub fn new(bus: impl I2c<Error = BusError> + Send + 'static) -> Self {
        Self(Box::new(bus))
    }
}

impl i2c::ErrorType for I2cBus {
    type Error = BusError;
}

impl I2c for I2cBus {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), BusError> {
        self.0.transaction(address, operations)
    }
}

/// An output line.
pub struct OutputLine(Box<dyn OutputPin<Error = BusError> + Send>);

impl OutputLine {
    /// Whatever implements the trait.
    pub fn new(line: impl OutputPin<Error = BusError> + Send + 'static) -> Self {
        Self(Box::new(line))
    }
}

impl digital::ErrorType for OutputLine {
    type Error = BusError;
}

impl OutputPin for OutputLine {
    fn set_low(&mut self) -> Result<(), BusError> {
        self.0.set_low()
    }

    fn set_high(&mut self) -> Result<(), BusError> {
        self.0.set_high()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_hand() {
        let cases = [
            ("25", Ok(GpioLine::Number { chip: 0, line: 25 })),
            ("gpiochip1:7", Ok(GpioLine::Number { chip: 1, line: 7 })),
            ("PQ.05", Ok(GpioLine::Name("PQ.05".into()))),
            ("GPIO25", Ok(GpioLine::Name("GPIO25".into()))),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse(), want, "{text}");
            assert_eq!(want.unwrap().to_string(), text);
        }
        for text in ["", "-1", "2.5", "gpiochip1:", "gpiochip:3", "gpiochip999:3", "a b", "pin#3", "99999999999"] {
            assert!(text.parse::<GpioLine>().unwrap_err().contains("gpiochip1:25"), "{text}");
        }
    }

    #[test]
    fn a_missing_acknowledge_is_told_from_other_errors() {
        let error = BusError::from_io("/dev/i2c-1", &std::io::Error::from_raw_os_error(121));
        assert_eq!(error.to_string(), "/dev/i2c-1: nothing answers at this address");
        assert!(matches!(i2c::Error::kind(&error), i2c::ErrorKind::NoAcknowledge(_)));
        let error = BusError::from_io("/dev/i2c-1", &std::io::Error::from_raw_os_error(5));
        assert_eq!(error.failure, BusFailure::Other);
    }

    #[test]
    fn the_node_of_a_chip_select() {
        let settings = SpiSettings { bus: 1, chip_select: 2, clock_hz: 1, mode: MODE_0 };
        assert_eq!(settings.device(), PathBuf::from("/dev/spidev1.2"));
    }
}
