//! Displays: one file a kind behind one trait, one [`screen`] drawing for all of them.
//!
//! | URI | display | pixels |
//! |---|---|---|
//! | `png://FILE?size=240x240` | a PNG file, for pictures of the screen and for boards without a panel | any |
//! | `ssd1306://i2c-1?address=0x3c` | OLED on I2C, one bit a pixel | 128 x 64 |
//! | `st7789://spi0.0?dc=25&reset=27&backlight=18` | colour panel on SPI | 240 x 240 |
//! | `ili9341://spi0.0?dc=24&reset=25` | colour panel on SPI | 320 x 240 |
//! | `framebuffer:///dev/fb0` | whatever the kernel drives: HDMI, DSI | its own |
//!
//! Options of every kind are in its module's table. A display that fails gives an error from [`Display::flush`]; the next call
//! opens, resets and initialises it again, at most once a [`RETRY_PAUSE`].

mod canvas;
mod error;
mod framebuffer;
mod mipi;
mod png;
mod recovering;
pub mod screen;
mod ssd1306;
#[cfg(test)]
mod test_panels;
mod uri;

pub use canvas::Canvas;
pub use error::DisplayError;
pub use png::PngDisplay;
pub use recovering::RETRY_PAUSE;

use crate::board::Board;
use uri::DisplayUri;

/// Width and height in pixels of the screen that is drawn where neither the display nor its URI fixes it.
pub const DEFAULT_SIDE: u16 = 240;

/// The kinds of display that [`open`] knows.
pub const KINDS: [&str; 5] = ["png", "ssd1306", "st7789", "ili9341", "framebuffer"];

/// Something that shows a [`Canvas`].
pub trait Display: Send {
    /// Width and height in pixels of the canvas that [`flush`](Display::flush) takes.
    fn size(&self) -> (u16, u16);

    /// Opens and initialises the display now and not with the first [`flush`](Display::flush), to know whether it is there.
    ///
    /// # Errors
    /// As for [`flush`](Display::flush).
    fn prepare(&mut self) -> Result<(), DisplayError> {
        Ok(())
    }

    /// Shows the canvas. Displays on slow wires get only what changed since the last call.
    ///
    /// # Errors
    /// [`DisplayError`] when the display did not take it; a later call tries again, and shows the canvas whole.
    fn flush(&mut self, canvas: &Canvas) -> Result<(), DisplayError>;
}

/// Opens the display that `uri` names and initialises it.
///
/// # Errors
/// [`DisplayError`]; [`DisplayError::is_usage`] tells a wrong URI from a display that cannot be had.
pub fn open(uri: &str, board: &dyn Board) -> Result<Box<dyn Display>, DisplayError> {
    let mut display = open_later(uri, board)?;
    display.prepare()?;
    Ok(display)
}

/// As [`open`], and a display that is not there or does not answer yet is no error: each [`Display::flush`] says so until it does.
///
/// # Errors
/// [`DisplayError`] when the URI is wrong, when a PNG file has no folder, and when the size of a framebuffer cannot be known.
pub fn open_later(uri: &str, board: &dyn Board) -> Result<Box<dyn Display>, DisplayError> {
    let parsed = DisplayUri::parse(uri)?;
    match parsed.kind {
        "png" => Ok(Box::new(PngDisplay::open(parsed)?)),
        "ssd1306" => Ok(Box::new(ssd1306::open(parsed, board.header())?)),
        "st7789" | "ili9341" => Ok(Box::new(mipi::open(parsed, board.header(), std::thread::sleep)?)),
        "framebuffer" => Ok(Box::new(framebuffer::open(parsed, std::path::Path::new("/sys"))?)),
        _ => Err(DisplayError::unsupported(uri)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Host;

    #[test]
    fn kinds_that_are_not_there_are_refused_as_usage() {
        for (uri, nearest) in
            [("st7798://spi0.0?dc=1", "st7789"), ("screen.png", "png"), ("", "png"), ("fb://x", "png")]
        {
            let error = open(uri, &Host).err().unwrap();
            assert!(error.is_usage(), "{uri}");
            assert!(error.to_string().contains(&format!("did you mean {nearest}://")), "{error}");
        }
    }

    #[test]
    fn wrong_options_of_every_kind_are_usage_errors() {
        let cases = [
            ("png://a.png?size=0x4", "320x240"),
            ("png://a.png?sise=4x4", "`size`"),
            ("ssd1306://i2c-1?address=200", "0x3c"),
            ("ssd1306://i2c1", "i2c-1"),
            ("ssd1306://i2c-1?adress=0x3c", "`address`"),
            ("ssd1306://i2c-1?rotate=90", "0 or 180"),
            ("st7789://spi0.0", "dc"),
            ("st7789://spi0?dc=25", "spi0.0"),
            ("st7789://spi0.0?dc=25&rset=27", "`reset`"),
            ("st7789://spi0.0?dc=-3", "PQ.05"),
            ("st7789://spi0.0?dc=25&rotate=45", "0 or 90 or 180 or 270"),
            ("st7789://spi0.0?dc=25&size=400x400", "240x320"),
            ("st7789://spi0.0?dc=25&size=240x240&offset=0,100", "offset"),
            ("ili9341://spi0.0?dc=24&mhz=0", "MHz"),
            ("framebuffer:///dev/fb0?bits=8", "16 or 32"),
        ];
        for (uri, words) in cases {
            let error = open(uri, &Host).err().unwrap();
            assert!(error.is_usage(), "{uri}: {error}");
            assert!(error.to_string().contains(words) && error.to_string().contains(uri), "{uri}: {error}");
        }
    }

    #[test]
    fn a_panel_without_pins_is_no_usage_error_and_can_be_opened_later() {
        let uri = "st7789://spi0.0?dc=25";
        let error = open(uri, &Host).err().unwrap();
        assert!(!error.is_usage() && error.to_string().contains("has no pins"), "{error}");
        let mut display = open_later(uri, &Host).unwrap();
        assert_eq!(display.size(), (240, 240));
        let error = display.flush(&Canvas::new(240, 240)).unwrap_err();
        assert!(error.to_string().contains("has no pins"), "{error}");
    }
}
