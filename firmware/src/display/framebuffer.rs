//! The Linux framebuffer: whatever screen the kernel drives, HDMI or DSI.
//!
//! `framebuffer:///dev/fb0`
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `size=WxH` | width and height in pixels | what the kernel says |
//! | `bits=16`, `32` | bits a pixel | what the kernel says |
//! | `stride=N` | bytes from one row to the next | what the kernel says |
//! | `order=bgr`, `rgb` | which of blue and red has the lower address, where a pixel has 32 bits | `bgr` |
//!
//! The kernel's answers are in `/sys/class/graphics/fb0`. A plain file that can hold the picture works too, with all of size and bits
//! given: that is how the tests look at it. The group of `/dev/fb0` is `video`. The console writes to the same pixels: keep it away
//! with `vt.global_cursor_default=0` and without `console=tty1` on the kernel's command line.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use embedded_graphics::pixelcolor::raw::ToBytes;
use embedded_graphics::pixelcolor::{Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::recovering::{Panel, Recovering};
use super::uri::{DisplayUri, size};
use super::{Canvas, DisplayError};

/// How the pixels lie in the device.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Geometry {
    size: (u16, u16),
    bits: u32,
    /// Bytes from one row to the next.
    stride: u32,
}

/// What the URI says about it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    size: Option<(u16, u16)>,
    bits: Option<u32>,
    stride: Option<u32>,
    red_first: bool,
}

/// The display that `framebuffer://DEVICE` names; `sysfs` is the root of sysfs, `/sys`. Its size is read now, the device is opened later.
pub(super) fn open(mut uri: DisplayUri<'_>, sysfs: &Path) -> Result<Recovering, DisplayError> {
    let whole = uri.whole.to_owned();
    if !uri.place.starts_with('/') {
        return Err(DisplayError::BadPlace { uri: whole, needed: "an absolute path, such as framebuffer:///dev/fb0," });
    }
    let device = PathBuf::from(uri.place);
    let asked = Asked {
        size: uri.take_with("size", size)?,
        bits: uri.one_of("bits", &[("16", 16), ("32", 32)])?,
        stride: uri.take::<u32>("stride", "a number of bytes")?,
        red_first: uri.one_of("order", &[("bgr", false), ("rgb", true)])?.unwrap_or(false),
    };
    uri.finish()?;
    let sysfs = sysfs.to_owned();
    let geometry = Geometry::of(&device, asked, &sysfs)?;
    let connect = move || -> Result<Box<dyn Panel>, DisplayError> {
        let now = Geometry::of(&device, asked, &sysfs)?;
        if now.size != geometry.size {
            let (width, height) = now.size;
            let reason = format!("the screen has {width}x{height} pixels now: restart the program");
            return Err(DisplayError::Framebuffer { device: device.clone(), reason });
        }
        let file = OpenOptions::new().write(true).open(&device).map_err(|e| refused(&device, &e))?;
        Ok(Box::new(Framebuffer { file, geometry: now, red_first: asked.red_first, row: Vec::new() }))
    };
    Ok(Recovering::new(&whole, geometry.size, Box::new(connect)))
}

impl Geometry {
    /// What was asked for, and the kernel's answers for the rest.
    fn of(device: &Path, asked: Asked, sysfs: &Path) -> Result<Self, DisplayError> {
        let wrong = |reason: String| DisplayError::Framebuffer { device: device.to_owned(), reason };
        let name = device.file_name().unwrap_or_default();
        let folder = sysfs.join("class/graphics").join(name);
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
        let unknown = |what: &str, option: &str| {
            let missing = if device.exists() { "" } else { "there is no such device, and " };
            wrong(format!(
                "{missing}{} does not say its {what}; on a Raspberry Pi write `dtoverlay=vc4-kms-v3d` into \
                 /boot/firmware/config.txt and plug in the screen before the start, or give `{option}`",
                folder.display()
            ))
        };
        let size = match asked.size {
            Some(size) => size,
            None => visible_size(read).ok_or_else(|| unknown("size", "size=WxH"))?,
        };
        let bits = match asked.bits {
            Some(bits) => bits,
            None => {
                read("bits_per_pixel").and_then(|bits| bits.parse().ok()).ok_or_else(|| unknown("bits", "bits=N"))?
            }
        };
        if bits != 16 && bits != 32 {
            return Err(wrong(format!("it has {bits} bits a pixel; 16 or 32 are needed (`fbset -depth 32`)")));
        }
        let least = u32::from(size.0) * bits / 8;
        // A size that was asked for may be larger than the screen: its lines are then another picture's.
        let stride = asked.stride.or_else(|| read("stride").and_then(|stride| stride.parse().ok())).unwrap_or(least);
        if stride < least {
            return Err(wrong(format!(
                "its lines have {stride} bytes, and {} pixels of {bits} bits need {least}",
                size.0
            )));
        }
        Ok(Self { size, bits, stride })
    }
}

/// Width and height that are seen, by the first mode (`U:800x480p-60`), which is at most the virtual size, or else that one.
fn visible_size(read: impl Fn(&str) -> Option<String>) -> Option<(u16, u16)> {
    let virtual_size = read("virtual_size").and_then(|text| size(&text.replace(',', "x")).ok());
    let modes = [read("mode"), read("modes")];
    let mode = modes.into_iter().flatten().find_map(|text| {
        let mode = text.lines().next()?.split_once(':')?.1;
        let end = mode.find(|c: char| !c.is_ascii_digit() && c != 'x').unwrap_or(mode.len());
        size(&mode[..end]).ok()
    });
    match (mode, virtual_size) {
        (Some(mode), Some(all)) if mode.0 <= all.0 && mode.1 <= all.1 => Some(mode),
        (mode, None) => mode,
        (_, all) => all,
    }
}

fn refused(device: &Path, error: &io::Error) -> DisplayError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "no such device; `ls /dev/fb*` shows what there is".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied. It belongs to the group `video`: run `sudo usermod -aG video $USER` and log in again"
                .to_owned()
        }
        io::ErrorKind::IsADirectory => "this is a folder; a device such as /dev/fb0 is needed".to_owned(),
        _ => error.to_string(),
    };
    DisplayError::Framebuffer { device: device.to_owned(), reason }
}

struct Framebuffer {
    file: File,
    geometry: Geometry,
    red_first: bool,
    /// One row as it lies in the device.
    row: Vec<u8>,
}

impl Panel for Framebuffer {
    fn show(&mut self, canvas: &Canvas, area: Rectangle) -> Result<(), String> {
        let (left, top) = (area.top_left.x as u32, area.top_left.y as u32);
        let columns = left as usize..(left + area.size.width) as usize;
        let bytes = self.geometry.bits / 8;
        for (y, row) in (u64::from(top)..).zip(canvas.rows(top, top + area.size.height)) {
            self.row.clear();
            for &colour in &row[columns.clone()] {
                self.push(colour);
            }
            let at = y * u64::from(self.geometry.stride) + u64::from(left * bytes);
            self.file.write_all_at(&self.row, at).map_err(|e| match e.kind() {
                io::ErrorKind::WriteZero | io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge => {
                    format!("line {y} does not fit into the device: its size or stride is another")
                }
                _ => e.to_string(),
            })?;
        }
        Ok(())
    }
}

impl Framebuffer {
    /// One pixel in the kernel's usual layouts: RGB 5-6-5, or X-R-G-B of 8 bits each, the lowest byte first.
    fn push(&mut self, colour: Rgb565) {
        if self.geometry.bits == 16 {
            self.row.extend_from_slice(&colour.to_le_bytes());
            return;
        }
        let colour = Rgb888::from(colour);
        let (first, third) = if self.red_first { (colour.r(), colour.b()) } else { (colour.b(), colour.r()) };
        self.row.extend_from_slice(&[first, colour.g(), third, 0xff]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Display;
    use super::*;

    /// A canvas whose pixels differ from their neighbours.
    fn pattern(width: u16, height: u16) -> Canvas {
        let mut canvas = Canvas::new(width, height);
        let area = canvas.bounding_box();
        let colours = area.points().map(|p| Rgb565::new(p.x as u8 & 31, p.y as u8 & 63, (p.x * 7 + p.y) as u8 & 31));
        let colours: Vec<Rgb565> = colours.collect();
        canvas.fill_contiguous(&area, colours).unwrap();
        canvas
    }

    /// A sysfs with one framebuffer of these attributes, and a file in place of the device.
    fn machine(attributes: &[(&str, &str)]) -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("class/graphics/fb0");
        fs::create_dir_all(&folder).unwrap();
        for (name, value) in attributes {
            fs::write(folder.join(name), format!("{value}\n")).unwrap();
        }
        fs::write(root.path().join("fb0"), "").unwrap();
        let uri = format!("framebuffer://{}", root.path().join("fb0").display());
        (root, uri)
    }

    fn open_at(uri: &str, sysfs: &Path) -> Result<Recovering, DisplayError> {
        open(DisplayUri::parse(uri)?, sysfs)
    }

    /// The picture that the bytes of a device mean.
    fn seen(bytes: &[u8], (width, height): (u16, u16), bits: u32, stride: usize) -> Vec<[u8; 3]> {
        let mut pixels = Vec::new();
        for y in 0..usize::from(height) {
            let row = &bytes[y * stride..];
            for x in 0..usize::from(width) {
                pixels.push(match bits {
                    16 => {
                        let value = u16::from_le_bytes([row[2 * x], row[2 * x + 1]]);
                        let colour = Rgb888::from(Rgb565::from(embedded_graphics::pixelcolor::raw::RawU16::new(value)));
                        [colour.r(), colour.g(), colour.b()]
                    }
                    _ => [row[4 * x + 2], row[4 * x + 1], row[4 * x]],
                });
            }
        }
        pixels
    }

    fn rgb(canvas: &Canvas) -> Vec<[u8; 3]> {
        canvas.to_rgb().pixels().map(|p| p.0).collect()
    }

    #[test]
    fn the_device_holds_the_canvas_in_16_and_32_bits_with_gaps_between_lines() {
        for (bits, stride) in [("32", "3328"), ("16", "1600")] {
            let (root, uri) = machine(&[
                ("virtual_size", "800,960"),
                ("modes", "U:800x480p-60\nU:640x480p-60"),
                ("bits_per_pixel", bits),
                ("stride", stride),
            ]);
            let mut display = open_at(&uri, root.path()).unwrap();
            assert_eq!(display.size(), (800, 480));
            let mut canvas = pattern(800, 480);
            display.flush(&canvas).unwrap();
            canvas.fill_solid(&Rectangle::new(Point::new(790, 470), Size::new(10, 10)), Rgb565::RED).unwrap();
            display.flush(&canvas).unwrap();
            let bytes = fs::read(root.path().join("fb0")).unwrap();
            let (bits, stride) = (bits.parse().unwrap(), stride.parse().unwrap());
            assert!(seen(&bytes, (800, 480), bits, stride) == rgb(&canvas), "{bits} bits");
        }
    }

    #[test]
    fn the_uri_overrules_the_kernel() {
        let (root, uri) = machine(&[("virtual_size", "1920,1080"), ("bits_per_pixel", "16"), ("stride", "3840")]);
        assert_eq!(open_at(&uri, root.path()).unwrap().size(), (1920, 1080));
        let given = format!("{uri}?size=40x20&bits=32&stride=200&order=rgb");
        let mut display = open_at(&given, root.path()).unwrap();
        let canvas = pattern(40, 20);
        display.flush(&canvas).unwrap();
        let bytes = fs::read(root.path().join("fb0")).unwrap();
        let swapped: Vec<[u8; 3]> = seen(&bytes, (40, 20), 32, 200).iter().map(|&[r, g, b]| [b, g, r]).collect();
        assert!(swapped == rgb(&canvas));
    }

    #[test]
    fn what_cannot_be_drawn_on_says_why() {
        let (root, uri) = machine(&[("virtual_size", "64,48"), ("bits_per_pixel", "24"), ("stride", "192")]);
        let said = |uri: &str| open_at(uri, root.path()).err().unwrap().to_string();
        assert!(said(&uri).contains("24 bits a pixel"));
        assert!(
            said(&format!("{uri}?bits=32")).contains("its lines have 192 bytes, and 64 pixels of 32 bits need 256")
        );
        let gone = format!("framebuffer://{}/fb7", root.path().display());
        assert!(said(&gone).contains("there is no such device") && said(&gone).contains("vc4-kms-v3d"));
        assert!(said("framebuffer://dev/fb0").contains("framebuffer:///dev/fb0"));
        let folder = format!("framebuffer://{}?size=4x4&bits=16", root.path().display());
        let error = open_at(&folder, root.path()).unwrap().flush(&Canvas::new(4, 4)).unwrap_err().to_string();
        assert!(error.contains("this is a folder"), "{error}");
    }

    #[test]
    fn a_device_that_is_full_or_gone_is_an_error_and_its_return_is_not() {
        let mut display = open_at("framebuffer:///dev/full?size=4x4&bits=16", Path::new("/gone")).unwrap();
        let error = display.flush(&Canvas::new(4, 4)).unwrap_err().to_string();
        assert!(error.contains("does not fit into the device"), "{error}");
        let (root, uri) = machine(&[]);
        let file = root.path().join("fb0");
        let mut display = open_at(&format!("{uri}?size=4x4&bits=16"), root.path()).unwrap();
        display = display.with_pause(std::time::Duration::ZERO);
        fs::remove_file(&file).unwrap();
        let error = display.flush(&Canvas::new(4, 4)).unwrap_err().to_string();
        assert!(error.contains("no such device"), "{error}");
        fs::write(&file, "").unwrap();
        display.flush(&Canvas::new(4, 4)).unwrap();
        assert_eq!(fs::read(&file).unwrap().len(), 32);
    }

    #[test]
    fn a_screen_that_changed_its_size_is_said() {
        let (root, uri) = machine(&[("virtual_size", "64,48"), ("bits_per_pixel", "16"), ("stride", "128")]);
        let mut display = open_at(&uri, root.path()).unwrap();
        fs::write(root.path().join("class/graphics/fb0/virtual_size"), "32,24").unwrap();
        let error = display.flush(&Canvas::new(64, 48)).unwrap_err().to_string();
        assert!(error.contains("32x24 pixels now"), "{error}");
    }
}
