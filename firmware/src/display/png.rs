//! A PNG file as the display: for pictures of the screen, for tests, and for boards without a panel.
//!
//! | option | meaning |
//! |---|---|
//! | `size=WxH` | width and height in pixels (240x240); 128x64 gives the one-bit screen of the SSD1306 |

use std::io;
use std::path::{Path, PathBuf};

use hoi_runtime::staged::StagedFile;
use image::ImageFormat;

use super::uri::{DisplayUri, size};
use super::{Canvas, DEFAULT_SIDE, Display, DisplayError};

/// Writes each canvas to the same file, beside it first and then renamed: whoever opens the file sees a whole picture.
#[derive(Debug)]
pub struct PngDisplay {
    path: PathBuf,
    size: (u16, u16),
}

impl PngDisplay {
    /// The display that `png://FILE?size=WxH` names.
    pub(super) fn open(mut uri: DisplayUri<'_>) -> Result<Self, DisplayError> {
        let (width, height) = uri.take_with("size", size)?.unwrap_or((DEFAULT_SIDE, DEFAULT_SIDE));
        let path = uri.place;
        uri.finish()?;
        Self::new(path, width, height)
    }

    /// A display of `width` x `height` pixels in the file `path`, which need not exist yet; its folder must.
    ///
    /// # Errors
    /// [`DisplayError::Place`] when the path is a folder or its folder does not exist.
    pub fn new(path: impl Into<PathBuf>, width: u16, height: u16) -> Result<Self, DisplayError> {
        let path = path.into();
        let place = |reason| DisplayError::Place { path: path.clone(), reason };
        if path.file_name().is_none() || path.is_dir() {
            return Err(place("this is no file name: use png://FOLDER/screen.png"));
        }
        if !folder(&path).is_dir() {
            return Err(place("its folder does not exist"));
        }
        Ok(Self { path, size: (width, height) })
    }

    fn write(&self, canvas: &Canvas) -> io::Result<()> {
        let mut png = io::Cursor::new(Vec::new());
        canvas.to_rgb().write_to(&mut png, ImageFormat::Png).map_err(io::Error::other)?;
        StagedFile::new(&self.path, png.get_ref())?.commit()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Display for PngDisplay {
    fn size(&self) -> (u16, u16) {
        self.size
    }

    fn flush(&mut self, canvas: &Canvas) -> Result<(), DisplayError> {
        self.write(canvas).map_err(|source| DisplayError::Write { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::pixelcolor::Rgb565;
    use embedded_graphics::prelude::*;

    #[test]
    fn the_file_is_the_canvas_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("screen.png");
        let mut display = PngDisplay::new(&path, 8, 5).unwrap();
        let mut canvas = Canvas::new(8, 5);
        display.flush(&canvas).unwrap();
        Pixel(Point::new(7, 4), Rgb565::GREEN).draw(&mut canvas).unwrap();
        display.flush(&canvas).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), canvas.to_rgb());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_uri_gives_file_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let whole = format!("png://{}/screen.png", folder.path().display());
        assert_eq!(PngDisplay::open(DisplayUri::parse(&whole).unwrap()).unwrap().size(), (240, 240));
        let whole = format!("{whole}?size=320x200");
        let mut display = PngDisplay::open(DisplayUri::parse(&whole).unwrap()).unwrap();
        display.flush(&Canvas::new(320, 200)).unwrap();
        let picture = image::open(folder.path().join("screen.png")).unwrap();
        assert_eq!((picture.width(), picture.height()), (320, 200));
    }

    #[test]
    fn a_place_that_cannot_hold_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("gone/screen.png"), PathBuf::new()] {
            let error = PngDisplay::new(path, 8, 5).unwrap_err();
            assert!(matches!(error, DisplayError::Place { .. }), "{error}");
        }
    }

    #[test]
    fn a_folder_that_vanishes_is_an_error_and_its_return_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let mut display = PngDisplay::new(inner.join("screen.png"), 8, 5).unwrap();
        std::fs::remove_dir(&inner).unwrap();
        let error = display.flush(&Canvas::new(8, 5)).unwrap_err();
        assert!(matches!(error, DisplayError::Write { .. }) && !error.is_usage());
        std::fs::create_dir(&inner).unwrap();
        display.flush(&Canvas::new(8, 5)).unwrap();
    }
}
