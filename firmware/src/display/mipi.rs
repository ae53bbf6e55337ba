//! Colour panels on SPI: ST7789 and ILI9341, through the driver crate `mipidsi`.
//!
//! `st7789://spi0.0?dc=25&reset=27&backlight=18`, `ili9341://spi0.0?dc=24&reset=25`
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `dc=LINE` | GPIO line of the pin that tells data from commands (DC, RS, A0) | needed |
//! | `reset=LINE` | GPIO line of the reset pin (RST, RES) | none: reset by command |
//! | `backlight=LINE` | GPIO line that switches the light on (BL, LED) | none: always on |
//! | `rotate=0`, `90`, `180`, `270` | turns the picture clockwise | 0 |
//! | `size=WxH` | pixels of the panel before it is turned | 240x240; ILI9341: fixed, 320x240 |
//! | `offset=X,Y` | where the panel begins in the controller's memory of 240x320 | 0,0 |
//! | `mirror=0`, `1` | the panel is read from the other side | 0; ILI9341: 1 |
//! | `order=rgb`, `bgr` | order of the colours on the glass | `rgb`; ILI9341: `bgr` |
//! | `invert=0`, `1` | the panel shows negatives | 1; ILI9341: 0 |
//! | `mhz=N` | clock of the SPI bus in MHz | 32 |
//! | `mode=0`, `3` | SPI mode; modules without a chip select pin need 3 | 0 |
//!
//! A GPIO line is a number (25), a chip and a number (gpiochip1:25) or a name (PQ.05).
//!
//! SPI goes one way: a panel that is pulled out is not noticed, and one that is plugged in stays dark until the program starts again.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::primitives::Rectangle;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::spi::SpiDevice;
use mipidsi::interface::{Interface, InterfaceKind};
use mipidsi::models::{ILI9341Rgb565, Model, ST7789};
use mipidsi::options::{ColorInversion, ColorOrder, Orientation, Rotation};
use mipidsi::{Builder, InitError};

use super::recovering::{Panel, Recovering};
use super::uri::{DisplayUri, size};
use super::{Canvas, DisplayError};
use crate::board::{
    BoardError, BusError, GpioLine, Header, MODE_0, MODE_3, OutputLine, PinState, SPI_TRANSFER, Spi, SpiSettings,
};

/// Width and height of the memory of both controllers.
const MEMORY: (u16, u16) = (240, 320);

/// How the program waits; tests do not.
pub(super) type Sleep = fn(Duration);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Controller {
    St7789,
    Ili9341,
}

/// How a panel is wired and built.
#[derive(Clone, Debug)]
struct Wiring {
    controller: Controller,
    spi: SpiSettings,
    dc: GpioLine,
    reset: Option<GpioLine>,
    backlight: Option<GpioLine>,
    /// Pixels before it is turned, and where they begin in the memory.
    native: (u16, u16),
    offset: (u16, u16),
    orientation: Orientation,
    order: ColorOrder,
    invert: ColorInversion,
}

/// The display that an `st7789://` or `ili9341://` URI names, not initialised yet.
pub(super) fn open(uri: DisplayUri<'_>, header: Arc<dyn Header>, sleep: Sleep) -> Result<Recovering, DisplayError> {
    let whole = uri.whole.to_owned();
    let wiring = Wiring::of(uri)?;
    let (width, height) = wiring.native;
    let size = if wiring.orientation.rotation.is_horizontal() { (width, height) } else { (height, width) };
    let name = whole.clone();
    let connect = move || wiring.connect(&name, header.as_ref(), sleep);
    Ok(Recovering::new(&whole, size, Box::new(connect)))
}

impl Wiring {
    fn of(mut uri: DisplayUri<'_>) -> Result<Self, DisplayError> {
        let controller = if uri.kind == "ili9341" { Controller::Ili9341 } else { Controller::St7789 };
        let (bus, chip_select) = spi_place(uri.place).ok_or_else(|| DisplayError::BadPlace {
            uri: uri.whole.to_owned(),
            needed: "spiBUS.CHIP, such as spi0.0 for /dev/spidev0.0,",
        })?;
        let line = |text: &str| text.parse::<GpioLine>().map_err(|reason| format!("is wrong: {reason}"));
        let dc = uri.take_with("dc", line)?;
        let reset = uri.take_with("reset", line)?;
        let backlight = uri.take_with("backlight", line)?;
        let switch = [("0", false), ("1", true)];
        let turns =
            [("0", Rotation::Deg0), ("90", Rotation::Deg90), ("180", Rotation::Deg180), ("270", Rotation::Deg270)];
        let rotate = uri.one_of("rotate", &turns)?.unwrap_or(Rotation::Deg0);
        let mirror = uri.one_of("mirror", &switch)?;
        let invert = uri.one_of("invert", &switch)?;
        let order = uri.one_of("order", &[("rgb", ColorOrder::Rgb), ("bgr", ColorOrder::Bgr)])?;
        let mhz = uri.take_with("mhz", |text| {
            let mhz = text.parse::<u32>().ok().filter(|mhz| (1..=125).contains(mhz));
            mhz.ok_or_else(|| format!("is `{text}`: a whole number of MHz from 1 to 125 is needed"))
        })?;
        let mode = uri.one_of("mode", &[("0", MODE_0), ("3", MODE_3)])?.unwrap_or(MODE_0);
        let (native, offset) = match controller {
            Controller::Ili9341 => (MEMORY, (0, 0)),
            Controller::St7789 => {
                let native = uri.take_with("size", size)?.unwrap_or((240, 240));
                (native, uri.take_with("offset", pair)?.unwrap_or((0, 0)))
            }
        };
        let fits = |size: u16, offset: u16, memory: u16| size.checked_add(offset).is_some_and(|end| end <= memory);
        if !fits(native.0, 0, MEMORY.0) || !fits(native.1, 0, MEMORY.1) {
            return Err(uri.bad("size", "is larger than the controller's memory of 240x320 (before it is turned)"));
        }
        if !fits(native.0, offset.0, MEMORY.0) || !fits(native.1, offset.1, MEMORY.1) {
            return Err(uri.bad("offset", "and size together reach beyond the controller's memory of 240x320"));
        }
        let Some(dc) = dc else {
            return Err(uri.bad("dc", "is missing: the GPIO line of the panel's DC pin is needed, such as dc=25"));
        };
        let lines = [Some(&dc), reset.as_ref(), backlight.as_ref()];
        for (i, line) in lines.iter().enumerate() {
            if line.is_some() && lines[..i].contains(line) {
                return Err(uri.bad(["dc", "reset", "backlight"][i], "is a line that is named twice"));
            }
        }
        uri.finish()?;
        // The ILI9341 of the usual modules is read from behind, and its long side is the picture's width.
        let (mirrored, base, inverted, usual_order) = match controller {
            Controller::St7789 => (false, Rotation::Deg0, true, ColorOrder::Rgb),
            Controller::Ili9341 => (true, Rotation::Deg90, false, ColorOrder::Bgr),
        };
        let flat = Orientation::new();
        let flat = if mirror.unwrap_or(mirrored) { flat.flip_horizontal() } else { flat };
        let inverted = invert.unwrap_or(inverted);
        Ok(Self {
            controller,
            spi: SpiSettings { bus, chip_select, clock_hz: mhz.unwrap_or(32) * 1_000_000, mode },
            dc,
            reset,
            backlight,
            native,
            offset,
            orientation: flat.rotate(base).rotate(rotate),
            order: order.unwrap_or(usual_order),
            invert: if inverted { ColorInversion::Inverted } else { ColorInversion::Normal },
        })
    }

    /// Opens devices and lines, resets the panel and initialises it.
    fn connect(&self, uri: &str, header: &dyn Header, sleep: Sleep) -> Result<Box<dyn Panel>, DisplayError> {
        match self.controller {
            Controller::St7789 => self.start(uri, header, sleep, ST7789),
            Controller::Ili9341 => self.start(uri, header, sleep, ILI9341Rgb565),
        }
    }

    fn start<M>(&self, uri: &str, header: &dyn Header, sleep: Sleep, model: M) -> Result<Box<dyn Panel>, DisplayError>
    where
        M: Model<ColorFormat = Rgb565> + Send + 'static,
    {
        let of_board = |source: BoardError| DisplayError::Board { uri: uri.to_owned(), source };
        let failed = |reason| DisplayError::Panel { uri: uri.to_owned(), reason };
        let spi = header.spi(&self.spi).map_err(of_board)?;
        let dc = header.output(&self.dc, PinState::High).map_err(of_board)?;
        let take = |line: &Option<GpioLine>, state| {
            line.as_ref().map(|line| header.output(line, state)).transpose().map_err(of_board)
        };
        let reset = take(&self.reset, PinState::High)?;
        let backlight = take(&self.backlight, PinState::Low)?;
        let interface = SpiPanel { spi, dc, buffer: Vec::with_capacity(SPI_TRANSFER) };
        let builder = Builder::new(model, interface)
            .display_size(self.native.0, self.native.1)
            .display_offset(self.offset.0, self.offset.1)
            .orientation(self.orientation)
            .color_order(self.order)
            .invert_colors(self.invert);
        let mut delay = Delay(sleep);
        match reset {
            Some(reset) => {
                let display = builder.reset_pin(reset).init(&mut delay).map_err(|e| failed(reason(e)))?;
                Ok(Box::new(MipiPanel { display, backlight, lit: false }))
            }
            None => {
                let display = builder.init(&mut delay).map_err(|e| failed(reason(e)))?;
                Ok(Box::new(MipiPanel { display, backlight, lit: false }))
            }
        }
    }
}

/// Why a panel could not be initialised.
fn reason<P: Debug>(error: InitError<BusError, P>) -> String {
    match error {
        InitError::Interface(error) => error.to_string(),
        InitError::ResetPin(error) => format!("reset pin: {error:?}"),
        InitError::InvalidConfiguration(error) => format!("the driver refuses size, offset or colours: {error:?}"),
    }
}

/// `spi0.1`: bus and chip select.
fn spi_place(place: &str) -> Option<(u8, u8)> {
    let (bus, chip_select) = place.strip_prefix("spi")?.split_once('.')?;
    Some((bus.parse().ok()?, chip_select.parse().ok()?))
}

/// `X,Y`.
fn pair(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| u16::from_str(text).ok();
    text.split_once(',')
        .and_then(|(x, y)| Some((number(x)?, number(y)?)))
        .ok_or_else(|| format!("is `{text}`: X,Y in pixels, such as 0,80, is needed"))
}

struct Delay(Sleep);

impl DelayNs for Delay {
    fn delay_ns(&mut self, ns: u32) {
        (self.0)(Duration::from_nanos(ns.into()));
    }
}

/// Commands and pixels as bytes on SPI, told apart by the DC line.
struct SpiPanel {
    spi: Spi,
    dc: OutputLine,
    /// Pixels that wait for a full transfer.
    buffer: Vec<u8>,
}

impl SpiPanel {
    fn send_buffer(&mut self) -> Result<(), BusError> {
        if !self.buffer.is_empty() {
            self.spi.write(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Interface for SpiPanel {
    type Word = u8;
    type Error = BusError;

    const KIND: InterfaceKind = InterfaceKind::Serial4Line;

    fn send_command(&mut self, command: u8, args: &[u8]) -> Result<(), BusError> {
        self.buffer.clear();
        self.dc.set_low()?;
        self.spi.write(&[command])?;
        self.dc.set_high()?;
        if args.is_empty() { Ok(()) } else { self.spi.write(args) }
    }

    fn send_pixels<const N: usize>(&mut self, pixels: impl IntoIterator<Item = [u8; N]>) -> Result<(), BusError> {
        for pixel in pixels {
            if self.buffer.len() + N > SPI_TRANSFER {
                self.send_buffer()?;
            }
            self.buffer.extend_from_slice(&pixel);
        }
        self.send_buffer()
    }

    fn send_repeated_pixel<const N: usize>(&mut self, pixel: [u8; N], count: u32) -> Result<(), BusError> {
        self.send_pixels((0..count).map(|_| pixel))
    }
}

struct MipiPanel<M: Model<ColorFormat = Rgb565>, RST: OutputPin> {
    display: mipidsi::Display<SpiPanel, M, RST>,
    backlight: Option<OutputLine>,
    /// The light goes on with the first picture: what the memory holds before is noise.
    lit: bool,
}

impl<M, RST> Panel for MipiPanel<M, RST>
where
    M: Model<ColorFormat = Rgb565> + Send,
    RST: OutputPin + Send,
{
    fn show(&mut self, canvas: &Canvas, area: Rectangle) -> Result<(), String> {
        let (left, top) = (area.top_left.x as u16, area.top_left.y as u16);
        let (right, bottom) = (left + area.size.width as u16, top + area.size.height as u16);
        let rows = canvas.rows(top.into(), bottom.into());
        let pixels = rows.flat_map(|row| row[left.into()..right.into()].iter().copied());
        self.display.set_pixels(left, top, right - 1, bottom - 1, pixels).map_err(|error| error.to_string())?;
        if !self.lit {
            if let Some(backlight) = &mut self.backlight {
                backlight.set_high().map_err(|error| error.to_string())?;
            }
            self.lit = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
