//! Cameras of Video4Linux, mostly on USB: `v4l2:///dev/video0?size=640x480&rate=15&format=mjpeg`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::Size;
use rustix::fs::{Access, access};

use super::address::Options;
use super::child::{ChildStream, LeftBehind};
use super::live::Camera;
use super::program::{CommandLine, FFMPEG, require};
use super::stream::{Format, Stream};
use super::{DEFAULT_RATE, DEFAULT_SIZE, OpenError, SourceSettings, ffmpeg};

const MJPEG: &str = "mjpeg";
const RAW: &str = "raw";

/// A camera behind a device node, read by `ffmpeg`.
#[derive(Debug)]
pub(super) struct V4l2 {
    device: PathBuf,
    size: Size,
    rate: u64,
    /// Whether both formats are tried.
    any_format: bool,
    format: Format,
    settings: SourceSettings,
    left: LeftBehind,
}

impl V4l2 {
    /// `rest` is what follows `v4l2://`.
    pub(super) fn parse(uri: &str, rest: &str, settings: &SourceSettings) -> Result<Self, OpenError> {
        let (device, options) = rest.split_once('?').unwrap_or((rest, ""));
        let options = Options::parse(uri, options, &["size", "rate", "format"])?;
        if !device.starts_with('/') || device.len() < 2 {
            let needed = "a device node, as in v4l2:///dev/video0,".to_owned();
            return Err(OpenError::Address { uri: uri.to_owned(), needed });
        }
        let format = options.one_of("format", &[MJPEG, RAW])?;
        Ok(Self {
            device: PathBuf::from(device),
            size: options.size("size", settings.limits.pixels)?.unwrap_or(DEFAULT_SIZE),
            rate: options.rate()?.unwrap_or(DEFAULT_RATE),
            any_format: format.is_none(),
            format: if format == Some(RAW) { Format::Ppm } else { Format::Jpeg },
            settings: settings.clone(),
            left: LeftBehind::default(),
        })
    }

    fn command_line(&self) -> Result<CommandLine, String> {
        let program = require(FFMPEG, self.settings.programs.as_deref())?;
        let mut args = ffmpeg::quietly();
        args.extend(["-f", "v4l2"].map(OsString::from));
        if self.format == Format::Jpeg {
            args.extend(["-input_format", "mjpeg"].map(OsString::from));
        }
        let (size, rate) = (format!("{}x{}", self.size.width, self.size.height), self.rate.to_string());
        args.extend(["-framerate", &rate, "-video_size", &size, "-i"].map(OsString::from));
        args.push(self.device.clone().into_os_string());
        args.extend(match self.format {
            Format::Jpeg => ffmpeg::jpegs_as_they_are(),
            Format::Ppm => ffmpeg::decoded(&[]),
        });
        Ok(CommandLine { name: FFMPEG.name, program, args, format: self.format })
    }
}

impl Camera for V4l2 {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        look_at(&self.device)?;
        Ok(Box::new(ChildStream::start(&self.command_line()?, &self.settings.limits, &self.left)?))
    }

    /// Cameras that give no JPEG give raw pictures.
    fn try_another_way(&mut self) -> bool {
        if !self.any_format {
            return false;
        }
        let was_jpeg = self.format == Format::Jpeg;
        self.format = if was_jpeg { Format::Ppm } else { Format::Jpeg };
        was_jpeg
    }
}

/// Whether `device` is a device that may be read.
fn look_at(device: &Path) -> Result<(), String> {
    let shown = device.display();
    let found = fs::metadata(device).map_err(|error| trouble(device, &error))?;
    if !found.file_type().is_char_device() {
        return Err(format!("{shown}: this is no camera device; `ls /dev/video*` lists those that there are"));
    }
    access(device, Access::READ_OK | Access::WRITE_OK).map_err(|error| trouble(device, &error.into()))
}

fn trouble(device: &Path, error: &io::Error) -> String {
    let shown = device.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{shown}: no such device. Is the camera plugged in? `ls /dev/video*` lists those that there are; a camera on a \
             Raspberry Pi's or Jetson's ribbon cable is csi://0"
        ),
        io::ErrorKind::PermissionDenied => format!("{shown}: permission denied. {VIDEO_GROUP}"),
        _ => format!("{shown}: {error}"),
    }
}

/// Who may read cameras.
pub(super) const VIDEO_GROUP: &str =
    "Cameras belong to the group `video`: run `sudo usermod -aG video $USER` and log in again";

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(rest: &str) -> Result<V4l2, OpenError> {
        V4l2::parse(&format!("v4l2://{rest}"), rest, &SourceSettings::default())
    }

    #[test]
    fn uris_by_hand() {
        let plain = camera("/dev/video0").unwrap();
        assert_eq!((plain.size, plain.rate, plain.any_format), (DEFAULT_SIZE, DEFAULT_RATE, true));
        let full = camera("/dev/video2?size=1280x720&rate=30&format=raw").unwrap();
        assert_eq!((full.size, full.rate), (Size::new(1280, 720), 30));
        assert_eq!((full.any_format, full.format), (false, Format::Ppm));
        for bad in ["", "/", "video0", "/dev/video0?format=h264", "/dev/video0?fps=3", "/dev/video0?size=9"] {
            let error = camera(bad).unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
        assert!(camera("dev/video0").unwrap_err().to_string().contains("v4l2:///dev/video0"));
    }

    #[test]
    fn both_formats_are_tried_where_none_is_named() {
        let mut any = camera("/dev/video0").unwrap();
        assert_eq!(any.format, Format::Jpeg);
        assert!(any.try_another_way());
        assert_eq!(any.format, Format::Ppm);
        assert!(!any.try_another_way());
        assert_eq!(any.format, Format::Jpeg);
        assert!(!camera("/dev/video0?format=mjpeg").unwrap().try_another_way());
    }

    #[test]
    fn a_device_that_cannot_be_read_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = look_at(&folder.path().join("video7")).unwrap_err();
        assert!(
            missing.contains("video7") && missing.contains("plugged in") && missing.contains("csi://0"),
            "{missing}"
        );
        assert!(look_at(folder.path()).unwrap_err().contains("no camera device"));
        let denied = trouble(Path::new("/dev/video0"), &io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(denied.contains("usermod -aG video"), "{denied}");
        assert_eq!(look_at(Path::new("/dev/null")), Ok(()));
    }
}
