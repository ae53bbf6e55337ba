//! Raspberry Pi: serial port, SPI, I2C and GPIO through `rppal`, which its author has retired; nothing outside this file names it.
//!
//! | part | device | pins of the header | setting in `/boot/firmware/config.txt` | group |
//! |---|---|---|---|---|
//! | serial | `/dev/serial0`; Pi 5: `/dev/ttyAMA0` | 8 (transmit), 10 (receive) | `enable_uart=1`; Pi 5: `dtparam=uart0=on` | `dialout` |
//! | SPI | `/dev/spidev0.0`, `0.1` | 19 (MOSI), 23 (clock), 24 or 26 (chip select) | `dtparam=spi=on` | `spi` |
//! | I2C | `/dev/i2c-1` | 3 (data), 5 (clock) | `dtparam=i2c_arm=on` | `i2c` |
//! | GPIO | `/dev/gpiomem`, or `/dev/gpiochip0` where the kernel has none | by BCM number: GPIO 25 is pin 22 | none | `gpio` |
//!
//! The UART (3.3 V) needs also that `/boot/firmware/cmdline.txt` has no `console=serial0,115200`, or on a Pi 5 none for `ttyAMA0`: there
//! `/dev/serial0` is the debug connector between the HDMI sockets. Each setting needs a restart. USB adapters work as on any machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use embedded_hal::digital::{self, OutputPin};
use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::{self, Phase, Polarity, SpiDevice};
use rppal::gpio::{self, Gpio};
use rppal::i2c as pi_i2c;
use rppal::spi::{self as pi_spi, Bus, Mode, SlaveSelect};
use rppal::system::DeviceInfo;
use rppal::uart::{self, Parity, Uart};

use super::error::{Part, Remedies, from_io, look_at};
use super::header::{BusError, GpioLine, Header, I2cBus, OutputLine, PinState, Spi, SpiSettings};
use super::linux::DeviceNodes;
use super::{Board, BoardError, SerialPort};
use crate::serial::SEND_WAIT;

const REMEDIES: Remedies = Remedies {
    serial: "The port of the 40-pin header is /dev/serial0 with `enable_uart=1` in /boot/firmware/config.txt, on a \
             Pi 5 /dev/ttyAMA0 with `dtparam=uart0=on`; restart after writing it. A USB adapter is /dev/ttyUSB0 or /dev/ttyACM0",
    spi: "Write `dtparam=spi=on` into /boot/firmware/config.txt and restart",
    i2c: "Write `dtparam=i2c_arm=on` into /boot/firmware/config.txt and restart; the pins 3 and 5 are i2c-1",
    gpio: "The kernel has no driver for the pins: `ls /dev/gpiomem* /dev/gpiochip*` shows what there is",
};

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
        look_at(Part::Serial, device, &REMEDIES)?;
        let owned = device.to_owned();
        match Uart::with_path(device, baud, Parity::None, 8, 1) {
            Ok(port) => Ok(Box::new(PiPort(port))),
            Err(uart::Error::Io(error)) => Err(from_io(Part::Serial, device, &error, &REMEDIES)),
            Err(uart::Error::InvalidValue) => Err(BoardError::SerialSpeed { device: owned, baud }),
            Err(error) => Err(BoardError::Refused { part: Part::Serial, device: owned, reason: error.to_string() }),
        }
    }

    fn header(&self) -> Arc<dyn Header> {
        Arc::new(PiHeader)
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

/// The 40-pin header.
#[derive(Debug)]
struct PiHeader;

impl Header for PiHeader {
    fn spi(&self, settings: &SpiSettings) -> Result<Spi, BoardError> {
        let device = settings.device();
        let refused = |reason: String| BoardError::Refused { part: Part::Spi, device: device.clone(), reason };
        let (Some(bus), Some(select)) = (bus(settings.bus), chip_select(settings.chip_select)) else {
            return Err(refused("a Raspberry Pi has the buses 0 to 6 and the chip selects 0 to 2".to_owned()));
        };
        look_at(Part::Spi, &device, &REMEDIES)?;
        match pi_spi::Spi::new(bus, select, settings.clock_hz, mode(&settings.mode)) {
            Ok(spi) => Ok(Spi::new(PiSpi { device: device.display().to_string(), spi })),
            Err(pi_spi::Error::Io(error)) => Err(from_io(Part::Spi, &device, &error, &REMEDIES)),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    fn i2c(&self, bus: u8) -> Result<I2cBus, BoardError> {
        let device = PathBuf::from(format!("/dev/i2c-{bus}"));
        look_at(Part::I2c, &device, &REMEDIES)?;
        match pi_i2c::I2c::with_bus(bus) {
            Ok(bus) => Ok(I2cBus::new(PiI2c { device: device.display().to_string(), bus })),
            Err(pi_i2c::Error::Io(error)) => Err(from_io(Part::I2c, &device, &error, &REMEDIES)),
            Err(error) => Err(BoardError::Refused { part: Part::I2c, device, reason: error.to_string() }),
        }
    }

    fn output(&self, line: &GpioLine, state: PinState) -> Result<OutputLine, BoardError> {
        let number = bcm_number(line)?;
        if !["/dev/gpiomem", "/dev/gpiomem0"].iter().any(|node| Path::new(node).exists()) {
            // Debian's own kernel: the character devices, where lines have names on all models that know them.
            let nodes = DeviceNodes { remedies: &REMEDIES };
            return by_name_or_number(&nodes, number, state);
        }
        let refused = |error: gpio::Error| match error {
            gpio::Error::PermissionDenied(device) => {
                let denied = io::Error::from(io::ErrorKind::PermissionDenied);
                from_io(Part::Gpio, Path::new(&device), &denied, &REMEDIES)
            }
            gpio::Error::Io(error) => from_io(Part::Gpio, Path::new("/dev/gpiomem"), &error, &REMEDIES),
            gpio::Error::PinUsed(_) => BoardError::NoLine {
                line: line.to_string(),
                reason: "it is named twice; each of dc, reset and backlight needs a line of its own".to_owned(),
            },
            other => BoardError::NoLine { line: line.to_string(), reason: other.to_string() },
        };
        let pin = Gpio::new().and_then(|gpio| gpio.get(number)).map_err(refused)?;
        let mut pin = match state {
            PinState::High => pin.into_output_high(),
            PinState::Low => pin.into_output_low(),
        };
        // The display keeps its backlight while it is initialised again.
        pin.set_reset_on_drop(false);
        Ok(OutputLine::new(PiLine(pin)))
    }
}

/// The line of BCM number `number`: that of its name, or where no chip has one, that of its number.
fn by_name_or_number(nodes: &dyn Header, number: u8, state: PinState) -> Result<OutputLine, BoardError> {
    match nodes.output(&GpioLine::Name(format!("GPIO{number}")), state) {
        Err(BoardError::NoLine { .. }) => nodes.output(&GpioLine::Number { chip: 0, line: number.into() }, state),
        outcome => outcome,
    }
}

/// The BCM number of `line`: `25` or `GPIO25`.
fn bcm_number(line: &GpioLine) -> Result<u8, BoardError> {
    let number = match line {
        GpioLine::Number { chip: 0, line } => u8::try_from(*line).ok(),
        GpioLine::Number { .. } => None,
        GpioLine::Name(name) => name.strip_prefix("GPIO").and_then(|number| number.parse().ok()),
    };
    number.ok_or_else(|| BoardError::NoLine {
        line: line.to_string(),
        reason: "on a Raspberry Pi it is the BCM number, 0 to 27 on the header: dc=25 is GPIO 25, pin 22".to_owned(),
    })
}

fn bus(number: u8) -> Option<Bus> {
    [Bus::Spi0, Bus::Spi1, Bus::Spi2, Bus::Spi3, Bus::Spi4, Bus::Spi5, Bus::Spi6].get(usize::from(number)).copied()
}

fn chip_select(number: u8) -> Option<SlaveSelect> {
    [SlaveSelect::Ss0, SlaveSelect::Ss1, SlaveSelect::Ss2].get(usize::from(number)).copied()
}

fn mode(mode: &spi::Mode) -> Mode {
    match (mode.polarity, mode.phase) {
        (Polarity::IdleLow, Phase::CaptureOnFirstTransition) => Mode::Mode0,
        (Polarity::IdleLow, Phase::CaptureOnSecondTransition) => Mode::Mode1,
        (Polarity::IdleHigh, Phase::CaptureOnFirstTransition) => Mode::Mode2,
        (Polarity::IdleHigh, Phase::CaptureOnSecondTransition) => Mode::Mode3,
    }
}

struct PiSpi {
    device: String,
    spi: pi_spi::Spi,
}

impl PiSpi {
    fn run(&mut self, operation: &mut spi::Operation<'_, u8>) -> Result<(), pi_spi::Error> {
        match operation {
            spi::Operation::Read(words) => self.spi.transfer_segments(&[pi_spi::Segment::with_read(words)]),
            spi::Operation::Write(words) => self.spi.transfer_segments(&[pi_spi::Segment::with_write(words)]),
            spi::Operation::Transfer(read, write) => self.spi.transfer_segments(&[pi_spi::Segment::new(read, write)]),
            spi::Operation::TransferInPlace(words) => {
                let sent = words.to_vec();
                self.spi.transfer_segments(&[pi_spi::Segment::new(words, &sent)])
            }
            spi::Operation::DelayNs(ns) => {
                thread::sleep(Duration::from_nanos((*ns).into()));
                Ok(())
            }
        }
    }
}

impl spi::ErrorType for PiSpi {
    type Error = BusError;
}

impl SpiDevice for PiSpi {
    /// The chip select goes up between two operations: displays are only ever written, one operation a transaction.
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), BusError> {
        operations.iter_mut().try_for_each(|operation| match self.run(operation) {
            Ok(()) => Ok(()),
            Err(pi_spi::Error::Io(error)) => Err(BusError::from_io(&self.device, &error)),
            Err(error) => Err(BusError::other(&self.device, error)),
        })
    }
}

struct PiI2c {
    device: String,
    bus: pi_i2c::I2c,
}

impl PiI2c {
    fn run(&mut self, address: u8, operation: &mut i2c::Operation<'_>) -> Result<(), pi_i2c::Error> {
        self.bus.set_slave_address(address.into())?;
        let (done, asked) = match operation {
            i2c::Operation::Read(bytes) => (self.bus.read(bytes)?, bytes.len()),
            i2c::Operation::Write(bytes) => (self.bus.write(bytes)?, bytes.len()),
        };
        if done == asked { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero).into()) }
    }
}

impl i2c::ErrorType for PiI2c {
    type Error = BusError;
}

impl I2c for PiI2c {
    /// A stop lies between two operations: displays are only ever written.
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), BusError> {
        operations.iter_mut().try_for_each(|operation| match self.run(address, operation) {
            Ok(()) => Ok(()),
            Err(pi_i2c::Error::Io(error)) => Err(BusError::from_io(&self.device, &error)),
            Err(error) => Err(BusError::other(&self.device, error)),
        })
    }
}

struct PiLine(gpio::OutputPin);

impl digital::ErrorType for PiLine {
    type Error = BusError;
}

impl OutputPin for PiLine {
    fn set_low(&mut self) -> Result<(), BusError> {
        self.0.set_low();
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), BusError> {
        self.0.set_high();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{BoardChoice, select};
    use embedded_hal::spi::{MODE_0, MODE_3};

    #[test]
    fn asking_for_a_pi_elsewhere_says_so() {
        if let Ok(board) = RaspberryPi::probe() {
            println!("skipped: this machine is a {}", board.model());
            return;
        }
        let error = select(BoardChoice::RaspberryPi).unwrap_err();
        assert!(matches!(error, BoardError::NotThisBoard { asked: "raspberry_pi", .. }));
        assert!(error.to_string().contains("--board host"), "{error}");
    }

    #[test]
    fn lines_are_bcm_numbers() {
        let of = |line: &str| bcm_number(&line.parse().unwrap());
        assert_eq!(of("25").unwrap(), 25);
        assert_eq!(of("GPIO18").unwrap(), 18);
        for line in ["300", "gpiochip1:3", "PQ.05", "GPIOx"] {
            let error = of(line).unwrap_err().to_string();
            assert!(error.contains("BCM number") && error.contains(line), "{error}");
        }
    }

    /// Character devices that refuse every line, each for a reason of the test's.
    #[derive(Debug)]
    struct Refusing(fn(&GpioLine) -> BoardError);

    impl Header for Refusing {
        fn spi(&self, _settings: &SpiSettings) -> Result<Spi, BoardError> {
            unreachable!("lines only")
        }

        fn i2c(&self, _bus: u8) -> Result<I2cBus, BoardError> {
            unreachable!("lines only")
        }

        fn output(&self, line: &GpioLine, _state: PinState) -> Result<OutputLine, BoardError> {
            Err((self.0)(line))
        }
    }

    #[test]
    fn only_a_line_without_a_name_is_looked_for_by_its_number() {
        let reason = |nodes: Refusing| by_name_or_number(&nodes, 25, PinState::Low).err().unwrap();
        let missing =
            |line: &GpioLine| BoardError::NoLine { line: line.to_string(), reason: "no such line".to_owned() };
        let error = reason(Refusing(missing));
        assert!(matches!(&error, BoardError::NoLine { line, .. } if !line.contains("GPIO25")), "{error}");
        // Taken by another program: the number would be the same line, or another one on a board that counts otherwise.
        let taken = |line: &GpioLine| match line {
            GpioLine::Name(_) => BoardError::Busy { part: Part::Gpio, device: PathBuf::from("/dev/gpiochip0") },
            GpioLine::Number { .. } => unreachable!("asked by number"),
        };
        let error = reason(Refusing(taken));
        assert!(matches!(error, BoardError::Busy { .. }), "{error}");
    }

    #[test]
    fn buses_and_modes_are_those_of_the_driver() {
        assert_eq!((bus(0), bus(6), bus(7)), (Some(Bus::Spi0), Some(Bus::Spi6), None));
        assert_eq!((chip_select(1), chip_select(3)), (Some(SlaveSelect::Ss1), None));
        assert_eq!((mode(&MODE_0), mode(&MODE_3)), (Mode::Mode0, Mode::Mode3));
    }

    /// Off a Pi the device nodes are missing or another driver's: an error with the setting, never a panic.
    #[test]
    fn a_missing_device_names_its_boot_setting() {
        let settings = SpiSettings { bus: 6, chip_select: 2, clock_hz: 32_000_000, mode: MODE_0 };
        if !settings.device().exists() {
            let error = PiHeader.spi(&settings).err().unwrap().to_string();
            assert!(error.contains("/dev/spidev6.2: no such device. Write `dtparam=spi=on`"), "{error}");
        }
        let error = PiHeader.i2c(250).err().unwrap().to_string();
        assert!(error.contains("`dtparam=i2c_arm=on` into /boot/firmware/config.txt"), "{error}");
        if RaspberryPi::probe().is_err() {
            let error = PiHeader.output(&"25".parse().unwrap(), PinState::Low).err().unwrap();
            assert!(
                matches!(error, BoardError::Missing { part: Part::Gpio, .. } | BoardError::NoLine { .. }),
                "{error}"
            );
        }
    }
}
