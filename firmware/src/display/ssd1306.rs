//! SSD1306: an OLED of 128 x 64 pixels on I2C, one bit a pixel, through the driver crate `ssd1306`.
//!
//! `ssd1306://i2c-1?address=0x3c`
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `address=N` | address on the bus: 0x3c or 0x3d, by a bridge on the module | 0x3c |
//! | `rotate=0`, `180` | turns the picture | 0 |
//! | `contrast=N` | brightness, 0 to 255 | 127 |
//!
//! A whole picture is 1 KiB: 25 ms at 400 kHz (`dtparam=i2c_arm_baudrate=400000` on a Raspberry Pi), 100 ms at the usual 100 kHz.

use std::sync::{Arc, Mutex, PoisonError};

use ::ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ::ssd1306::prelude::{Brightness, DisplayRotation, DisplaySize128x64, I2CInterface};
use ::ssd1306::{I2CDisplayInterface, Ssd1306};
use embedded_graphics::pixelcolor::{Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_hal::i2c::{ErrorType, I2c, Operation};

use super::recovering::{Panel, Recovering};
use super::uri::{DisplayUri, number};
use super::{Canvas, DisplayError};
use crate::board::{BusError, BusFailure, Header, I2cBus};

const SIZE: (u16, u16) = (128, 64);

/// The display that `ssd1306://i2c-BUS` names, not initialised yet.
pub(super) fn open(mut uri: DisplayUri<'_>, header: Arc<dyn Header>) -> Result<Recovering, DisplayError> {
    let whole = uri.whole.to_owned();
    let bus = uri.place.strip_prefix("i2c-").and_then(|bus| bus.parse::<u8>().ok()).ok_or_else(|| {
        DisplayError::BadPlace { uri: whole.clone(), needed: "i2c-BUS, such as i2c-1 for /dev/i2c-1," }
    })?;
    let address = uri.take_with("address", |text| {
        let address = number(text).and_then(|n| u8::try_from(n).ok()).filter(|n| (0x08..=0x77).contains(n));
        address.ok_or_else(|| format!("is `{text}`: 0x3c or 0x3d is needed (from 0x08 to 0x77)"))
    })?;
    let turns = [("0", DisplayRotation::Rotate0), ("180", DisplayRotation::Rotate180)];
    let rotation = uri.one_of("rotate", &turns)?.unwrap_or(DisplayRotation::Rotate0);
    let contrast = uri.take::<u8>("contrast", "a number from 0 to 255")?.unwrap_or(127);
    uri.finish()?;
    let place = Place { uri: whole.clone(), bus, address: address.unwrap_or(0x3c), rotation, contrast };
    Ok(Recovering::new(&whole, SIZE, Box::new(move || place.connect(header.as_ref()))))
}

/// Where the panel is and how it is turned.
#[derive(Debug)]
struct Place {
    uri: String,
    bus: u8,
    address: u8,
    rotation: DisplayRotation,
    contrast: u8,
}

impl Place {
    fn connect(&self, header: &dyn Header) -> Result<Box<dyn Panel>, DisplayError> {
        let bus = header.i2c(self.bus).map_err(|source| DisplayError::Board { uri: self.uri.clone(), source })?;
        let last_error = LastError { address: self.address, error: Arc::default() };
        let watched = WatchedBus { bus, last_error: last_error.clone() };
        let interface = I2CDisplayInterface::new_custom_address(watched, self.address);
        let mut driver = Ssd1306::new(interface, DisplaySize128x64, self.rotation).into_buffered_graphics_mode();
        let begun = driver
            .init()
            .and_then(|()| driver.set_brightness(Brightness::custom(0x2, self.contrast)))
            .map_err(|_| last_error.take());
        begun.map_err(|reason| DisplayError::Panel { uri: self.uri.clone(), reason })?;
        Ok(Box::new(Oled { driver, last_error }))
    }
}

struct Oled {
    driver: Ssd1306<I2CInterface<WatchedBus>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>,
    last_error: LastError,
}

impl Panel for Oled {
    fn show(&mut self, canvas: &Canvas, area: Rectangle) -> Result<(), String> {
        for point in area.points() {
            let lit = canvas.pixel(point).is_some_and(is_lit);
            self.driver.set_pixel(point.x as u32, point.y as u32, lit);
        }
        self.driver.flush().map_err(|_| self.last_error.take())
    }
}

/// Whether a colour is nearer to white than to black, by its luma (ITU-R BT.601).
fn is_lit(colour: Rgb565) -> bool {
    let colour = Rgb888::from(colour);
    let [r, g, b] = [colour.r(), colour.g(), colour.b()].map(u32::from);
    299 * r + 587 * g + 114 * b >= 127_500
}

/// The driver's own error does not say what happened on the bus; this remembers it.
#[derive(Clone)]
struct LastError {
    address: u8,
    error: Arc<Mutex<Option<BusError>>>,
}

impl LastError {
    fn set(&self, error: BusError) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> String {
        match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.failure == BusFailure::NoAnswer => format!(
                "{error} ({:#04x}): look at VCC, GND, SDA and SCL, and try address={:#04x}",
                self.address,
                if self.address == 0x3c { 0x3d } else { 0x3c }
            ),
            Some(error) => error.to_string(),
            None => "the driver refused the picture".to_owned(),
        }
    }
}

struct WatchedBus {
    bus: I2cBus,
    last_error: LastError,
}

impl ErrorType for WatchedBus {
    type Error = BusError;
}

impl I2c for WatchedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        self.bus.transaction(address, operations).inspect_err(|error| self.last_error.set(error.clone()))
    }
}

#[cfg(test)]
mod tests;
