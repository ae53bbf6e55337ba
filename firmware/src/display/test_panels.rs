//! Panels for tests: a header whose wires end in models of the controllers, by their data sheets. The models keep the memory, and
//! any call can be made to fail.

mod colour;
mod oled;

use std::sync::{Arc, Mutex};

use embedded_hal::digital::{self, OutputPin};
use embedded_hal::i2c::{self, I2c};
use embedded_hal::spi::{self, SpiDevice};

pub(super) use colour::{ColourPanel, turned};
pub(super) use oled::OledPanel;

use crate::board::{
    BoardError, BusError, BusFailure, GpioLine, Header, I2cBus, OutputLine, PinState, Spi, SpiSettings,
};

/// Lines of the test header.
pub(super) const DC: u32 = 25;
pub(super) const RESET: u32 = 27;
pub(super) const BACKLIGHT: u32 = 18;

/// The state of all wires, and what hangs on them.
#[derive(Debug, Default)]
pub(super) struct Wires {
    /// Transfers and level changes so far.
    pub(super) calls: usize,
    /// Which of them fails, from 1.
    pub(super) fail_at: Option<usize>,
    /// Nothing works.
    pub(super) unplugged: bool,
    /// Bytes that went over the bus.
    pub(super) bytes: usize,
    dc: bool,
    pub(super) lit: bool,
    /// Settings of the last SPI device that was opened.
    pub(super) spi: Option<SpiSettings>,
    /// The address at which the OLED answers.
    pub(super) address: u8,
    pub(super) colour: ColourPanel,
    pub(super) oled: OledPanel,
}

impl Wires {
    fn step(&mut self) -> Result<(), BusError> {
        self.calls += 1;
        if self.unplugged || self.fail_at == Some(self.calls) {
            return Err(BusError::other("/dev/test", "the wire broke"));
        }
        Ok(())
    }

    fn set(&mut self, line: u32, high: bool) {
        match line {
            DC => self.dc = high,
            BACKLIGHT => self.lit = high,
            RESET if !high => self.colour.reset(),
            RESET => {}
            line => panic!("no line {line}"),
        }
    }
}

/// A header of wires that tests can look at.
#[derive(Clone, Debug)]
pub(super) struct TestHeader(pub(super) Arc<Mutex<Wires>>);

impl TestHeader {
    /// With an OLED at 0x3c and an ST7789.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Wires { address: 0x3c, ..Wires::default() })))
    }
}

impl Header for TestHeader {
    fn spi(&self, settings: &SpiSettings) -> Result<Spi, BoardError> {
        self.0.lock().unwrap().spi = Some(settings.clone());
        Ok(Spi::new(TestSpi(Arc::clone(&self.0))))
    }

    fn i2c(&self, _: u8) -> Result<I2cBus, BoardError> {
        Ok(I2cBus::new(TestI2c(Arc::clone(&self.0))))
    }

    fn output(&self, line: &GpioLine, state: PinState) -> Result<OutputLine, BoardError> {
        let GpioLine::Number { chip: 0, line } = line else { panic!("{line:?}") };
        let line = *line;
        // Taking a line sets it and never fails here.
        self.0.lock().unwrap().set(line, state == PinState::High);
        Ok(OutputLine::new(TestLine { line, wires: Arc::clone(&self.0) }))
    }
}

struct TestSpi(Arc<Mutex<Wires>>);

impl spi::ErrorType for TestSpi {
    type Error = BusError;
}

impl SpiDevice for TestSpi {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), BusError> {
        let mut wires = self.0.lock().unwrap();
        for operation in operations {
            let spi::Operation::Write(bytes) = operation else { panic!("only writes: {operation:?}") };
            assert!(bytes.len() <= crate::board::SPI_TRANSFER, "{} bytes in one transfer", bytes.len());
            wires.step()?;
            wires.bytes += bytes.len();
            let is_command = !wires.dc;
            wires.colour.receive(is_command, bytes);
        }
        Ok(())
    }
}

struct TestI2c(Arc<Mutex<Wires>>);

impl i2c::ErrorType for TestI2c {
    type Error = BusError;
}

impl I2c for TestI2c {
    fn transaction(&mut self, address: u8, operations: &mut [i2c::Operation<'_>]) -> Result<(), BusError> {
        let mut wires = self.0.lock().unwrap();
        for operation in operations {
            let i2c::Operation::Write(bytes) = operation else { panic!("only writes: {operation:?}") };
            wires.step()?;
            if address != wires.address {
                return Err(BusError {
                    device: "/dev/test".to_owned(),
                    reason: "nothing answers at this address".to_owned(),
                    failure: BusFailure::NoAnswer,
                });
            }
            wires.bytes += bytes.len();
            wires.oled.receive(bytes);
        }
        Ok(())
    }
}

struct TestLine {
    line: u32,
    wires: Arc<Mutex<Wires>>,
}

impl digital::ErrorType for TestLine {
    type Error = BusError;
}

impl OutputPin for TestLine {
    fn set_low(&mut self) -> Result<(), BusError> {
        let mut wires = self.wires.lock().unwrap();
        wires.step()?;
        wires.set(self.line, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), BusError> {
        let mut wires = self.wires.lock().unwrap();
        wires.step()?;
        wires.set(self.line, true);
        Ok(())
    }
}
