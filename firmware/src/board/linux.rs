//! Any Linux board: SPI, I2C and GPIO lines through the kernel's character devices (`linux-embedded-hal`), serial ports through
//! `serialport`.
//!
//! | part | device | group |
//! |---|---|---|
//! | SPI | `/dev/spidev0.0`: bus 0, chip select 0 | `spi` |
//! | I2C | `/dev/i2c-1` | `i2c` |
//! | GPIO | `/dev/gpiochip0`; lines by number or by name (`gpioinfo` lists them) | `gpio` |
//! | serial | `/dev/ttyS0`, `/dev/ttyAMA0`, `/dev/ttyUSB0` | `dialout` |

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use embedded_hal::digital::{self, OutputPin};
use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::{self, SpiDevice};
use linux_embedded_hal::gpio_cdev::{self, Chip, Line, LineRequestFlags};
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::spidev::{SpiModeFlags, SpidevOptions};
use linux_embedded_hal::{CdevPin, I2CError, I2cdev, SpidevDevice};

use super::error::{Part, Remedies, from_io, look_at};
use super::header::{BusError, GpioLine, Header, I2cBus, OutputLine, PinState, Spi, SpiSettings};
use super::probe::device_tree_model;
use super::{Board, BoardError, SerialPort, tty};

const REMEDIES: Remedies = Remedies {
    serial: "A USB adapter is /dev/ttyUSB0 or /dev/ttyACM0 (`ls /dev/serial/by-id`), the port of a header often /dev/ttyS0 \
             or /dev/ttyAMA0",
    spi: "Switch SPI on in the board's device tree (on a Raspberry Pi: write `dtparam=spi=on` into \
          /boot/firmware/config.txt) and restart; `ls /dev/spidev*` shows what there is",
    i2c: "Switch I2C on in the board's device tree (on a Raspberry Pi: write `dtparam=i2c_arm=on` into \
          /boot/firmware/config.txt), load the module `i2c-dev` (`sudo modprobe i2c-dev`, or a line `i2c-dev` in \
          /etc/modules) and restart; `ls /dev/i2c-*` shows what there is",
    gpio: "`ls /dev/gpiochip*` and `gpioinfo` (package gpiod) show what there is",
};

/// A Linux board that no other kind describes better.
#[derive(Clone, Debug)]
pub struct Linux {
    model: String,
}

impl Linux {
    /// This machine; `root` is where its file system begins, `/`.
    pub fn probe(root: &Path) -> Self {
        Self { model: device_tree_model(root).unwrap_or_else(|| format!("Linux {}", std::env::consts::ARCH)) }
    }
}

impl Board for Linux {
    fn name(&self) -> &'static str {
        "linux"
    }

    fn model(&self) -> String {
        self.model.clone()
    }

    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError> {
        tty::open(device, baud, &REMEDIES)
    }

    fn header(&self) -> Arc<dyn Header> {
        Arc::new(DeviceNodes { remedies: &REMEDIES })
    }
}

/// The pins that the kernel's character devices show.
#[derive(Debug)]
pub(super) struct DeviceNodes {
    pub(super) remedies: &'static Remedies,
}

impl Header for DeviceNodes {
    fn spi(&self, settings: &SpiSettings) -> Result<Spi, BoardError> {
        let device = settings.device();
        look_at(Part::Spi, &device, self.remedies)?;
        let from_io = |error: &io::Error| from_io(Part::Spi, &device, error, self.remedies);
        let mut spi = SpidevDevice::open(&device).map_err(|e| from_io(e.inner()))?;
        let options = SpidevOptions::new()
            .bits_per_word(8)
            .max_speed_hz(settings.clock_hz)
            .mode(SpiModeFlags::from_bits_truncate(mode_number(&settings.mode)))
            .build();
        spi.configure(&options).map_err(|e| from_io(&e))?;
        Ok(Spi::new(LinuxSpi { device: device.display().to_string(), spi }))
    }

    fn i2c(&self, bus: u8) -> Result<I2cBus, BoardError> {
        let device = PathBuf::from(format!("/dev/i2c-{bus}"));
        look_at(Part::I2c, &device, self.remedies)?;
        let bus = I2cdev::new(&device).map_err(|e| from_io(Part::I2c, &device, &i2c_io(&e), self.remedies))?;
        Ok(I2cBus::new(LinuxI2c { device: device.display().to_string(), bus }))
    }

    fn output(&self, line: &GpioLine, state: PinState) -> Result<OutputLine, BoardError> {
        let (found, chip) = self.find(line)?;
        let level = u8::from(state == PinState::High);
        let refused = |e: gpio_cdev::Error| from_io(Part::Gpio, &chip, &gpio_io(&e), self.remedies);
        let handle = found.request(LineRequestFlags::OUTPUT, level, "hoi-device").map_err(refused)?;
        let pin = CdevPin::new(handle).map_err(refused)?;
        Ok(OutputLine::new(LinuxLine { name: format!("GPIO line {line}"), pin }))
    }
}

impl DeviceNodes {
    /// The line and the node of its chip.
    fn find(&self, line: &GpioLine) -> Result<(Line, PathBuf), BoardError> {
        let open = |node: &Path| {
            look_at(Part::Gpio, node, self.remedies)?;
            Chip::new(node).map_err(|e| from_io(Part::Gpio, node, &gpio_io(&e), self.remedies))
        };
        let no_line = |reason| BoardError::NoLine { line: line.to_string(), reason };
        match line {
            GpioLine::Number { chip, line } => {
                let node = PathBuf::from(format!("/dev/gpiochip{chip}"));
                let mut chip = open(&node)?;
                let lines = chip.num_lines();
                match chip.get_line(*line) {
                    Ok(found) if *line < lines => Ok((found, node)),
                    _ => Err(no_line(format!("{} has the lines 0 to {}", node.display(), i64::from(lines) - 1))),
                }
            }
            GpioLine::Name(name) => {
                let nodes = gpio_chips(Path::new("/dev"));
                if nodes.is_empty() {
                    look_at(Part::Gpio, Path::new("/dev/gpiochip0"), self.remedies)?;
                }
                for node in &nodes {
                    let found = open(node)?.lines().find(|l| l.info().is_ok_and(|i| i.name() == Some(name.as_str())));
                    if let Some(found) = found {
                        return Ok((found, node.clone()));
                    }
                }
                Err(no_line("no GPIO chip has a line of this name; `gpioinfo` (package gpiod) lists them".to_owned()))
            }
        }
    }
}

/// The nodes of all GPIO chips in the folder `dev`, by name.
fn gpio_chips(dev: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dev).into_iter().flatten().flatten();
    let mut nodes: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with("gpiochip")).map(|e| e.path()).collect();
    nodes.sort();
    nodes
}

/// The kernel's number of an SPI mode: clock polarity 2, clock phase 1.
fn mode_number(mode: &spi::Mode) -> u32 {
    let polarity = u32::from(mode.polarity == spi::Polarity::IdleHigh);
    let phase = u32::from(mode.phase == spi::Phase::CaptureOnSecondTransition);
    2 * polarity + phase
}

/// What the system said about a GPIO chip or line; its crate gives the error number only as words.
fn gpio_io(error: &gpio_cdev::Error) -> io::Error {
    let code = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    if let Some(code) = code {
        return io::Error::from_raw_os_error(code);
    }
    let said = error.to_string();
    let kinds = [
        ("EBUSY", io::ErrorKind::ResourceBusy),
        ("EACCES", io::ErrorKind::PermissionDenied),
        ("EPERM", io::ErrorKind::PermissionDenied),
    ];
    match kinds.into_iter().find(|(name, _)| said.contains(name)) {
        Some((_, kind)) => kind.into(),
        None => io::Error::other(said),
    }
}

fn i2c_io(error: &LinuxI2CError) -> io::Error {
    match error {
        LinuxI2CError::Errno(code) => io::Error::from_raw_os_error(*code),
        LinuxI2CError::Io(error) => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        },
    }
}

struct LinuxSpi {
    device: String,
    spi: SpidevDevice,
}

impl spi::ErrorType for LinuxSpi {
    type Error = BusError;
}

impl SpiDevice for LinuxSpi {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), BusError> {
        self.spi.transaction(operations).map_err(|e| BusError::from_io(&self.device, e.inner()))
    }
}

struct LinuxI2c {
    device: String,
    bus: I2cdev,
}

impl i2c::ErrorType for LinuxI2c {
    type Error = BusError;
}

impl I2c for LinuxI2c {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), BusError> {
        let done: Result<(), I2CError> = self.bus.transaction(address, operations);
        done.map_err(|e| BusError::from_io(&self.device, &i2c_io(e.inner())))
    }
}

struct LinuxLine {
    name: String,
    pin: CdevPin,
}

impl digital::ErrorType for LinuxLine {
    type Error = BusError;
}

impl OutputPin for LinuxLine {
    fn set_low(&mut self) -> Result<(), BusError> {
        self.pin.set_low().map_err(|e| BusError::other(&self.name, e.inner()))
    }

    fn set_high(&mut self) -> Result<(), BusError> {
        self.pin.set_high().map_err(|e| BusError::other(&self.name, e.inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal::spi::{MODE_0, MODE_1, MODE_2, MODE_3};

    #[test]
    fn modes_have_the_kernels_numbers() {
        assert_eq!([MODE_0, MODE_1, MODE_2, MODE_3].map(|mode| mode_number(&mode)), [0, 1, 2, 3]);
    }

    #[test]
    fn devices_that_are_not_there_are_said_with_the_setting_that_makes_them() {
        let header = DeviceNodes { remedies: &REMEDIES };
        let settings = SpiSettings { bus: 250, chip_select: 9, clock_hz: 1_000_000, mode: MODE_0 };
        let error = header.spi(&settings).err().unwrap().to_string();
        assert!(error.starts_with("SPI device /dev/spidev250.9: no such device."), "{error}");
        assert!(error.contains("dtparam=spi=on"), "{error}");
        let error = header.i2c(250).err().unwrap().to_string();
        assert!(error.starts_with("I2C bus /dev/i2c-250: no such device."), "{error}");
        assert!(error.contains("dtparam=i2c_arm=on") && error.contains("i2c-dev"), "{error}");
        let line = GpioLine::Number { chip: 250, line: 1 };
        let error = header.output(&line, PinState::Low).err().unwrap().to_string();
        assert!(error.starts_with("GPIO chip /dev/gpiochip250: no such device."), "{error}");
    }

    #[test]
    fn chips_are_found_by_their_nodes() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["gpiochip1", "gpiochip0", "gpio", "spidev0.0"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        assert_eq!(gpio_chips(dev.path()), ["gpiochip0", "gpiochip1"].map(|name| dev.path().join(name)));
        assert!(gpio_chips(&dev.path().join("gone")).is_empty());
    }
}
