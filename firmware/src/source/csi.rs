//! Cameras on a board's ribbon cable: `csi://0?size=640x480&rate=15`.
//!
//! Whichever of these is installed reads the camera: `rpicam-vid` (Raspberry Pi OS 12 and later), `libcamera-vid` (before), GStreamer with NVIDIA's
//! `nvarguscamerasrc` (Jetson).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::Size;
use rustix::fs::{Access, access};

use super::address::Options;
use super::child::{ChildStream, LeftBehind};
use super::live::Camera;
use super::program::{CommandLine, find};
use super::stream::{Format, Stream};
use super::v4l2::VIDEO_GROUP;
use super::{DEFAULT_RATE, DEFAULT_SIZE, OpenError, SourceSettings};

const RPICAM: [&str; 2] = ["rpicam-vid", "libcamera-vid"];
const GSTREAMER: &str = "gst-launch-1.0";

const NO_PROGRAM: &str = "no program for ribbon-cable cameras is installed. Raspberry Pi OS: `sudo apt install rpicam-apps` brings \
                          rpicam-vid; Jetson: the packages gstreamer1.0-tools and nvidia-l4t-gstreamer bring nvarguscamerasrc";
const BOOT_SETTING: &str = "On a Raspberry Pi: check the ribbon cable, write `camera_auto_detect=1` into /boot/firmware/config.txt, \
                            and restart";

/// A camera by its number.
#[derive(Debug)]
pub(super) struct Csi {
    number: u64,
    size: Size,
    rate: u64,
    settings: SourceSettings,
    left: LeftBehind,
}

impl Csi {
    /// `rest` is what follows `csi://`.
    pub(super) fn parse(uri: &str, rest: &str, settings: &SourceSettings) -> Result<Self, OpenError> {
        let (number, options) = rest.split_once('?').unwrap_or((rest, ""));
        let options = Options::parse(uri, options, &["size", "rate"])?;
        match number.parse() {
            Ok(number @ 0..=15) => Ok(Self {
                number,
                size: options.size("size", settings.limits.pixels)?.unwrap_or(DEFAULT_SIZE),
                rate: options.rate()?.unwrap_or(DEFAULT_RATE),
                settings: settings.clone(),
                left: LeftBehind::default(),
            }),
            _ => {
                let needed = "the number of a camera, as in csi://0,".to_owned();
                Err(OpenError::Address { uri: uri.to_owned(), needed })
            }
        }
    }

    fn command_line(&self) -> Result<CommandLine, String> {
        let path = self.settings.programs.as_deref();
        for name in RPICAM {
            if let Some(program) = find(name, path) {
                return Ok(CommandLine { name, program, args: self.rpicam(), format: Format::Jpeg });
            }
        }
        let Some(gstreamer) = find(GSTREAMER, path) else { return Err(NO_PROGRAM.to_owned()) };
        // NVIDIA's source prints its own messages on standard output: the pictures get a way of their own.
        let mut args: Vec<OsString> = ["-c", "exec \"$@\" 3>&1 1>&2", "sh"].map(OsString::from).into();
        args.push(gstreamer.into_os_string());
        args.extend(self.argus());
        Ok(CommandLine { name: GSTREAMER, program: PathBuf::from("/bin/sh"), args, format: Format::Jpeg })
    }

    fn rpicam(&self) -> Vec<OsString> {
        let Size { width, height } = self.size;
        let (number, rate) = (self.number, self.rate);
        let line = format!(
            "--camera {number} --width {width} --height {height} --framerate {rate} --codec mjpeg --timeout 0 --nopreview \
             --verbose=0 --flush --output -"
        );
        line.split(' ').map(OsString::from).collect()
    }

    fn argus(&self) -> Vec<OsString> {
        let Size { width, height } = self.size;
        let (number, rate) = (self.number, self.rate);
        let line = format!(
            "-q nvarguscamerasrc sensor-id={number} ! \
             video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1 ! nvjpegenc ! fdsink fd=3"
        );
        line.split(' ').map(OsString::from).collect()
    }
}

impl Camera for Csi {
    fn start(&mut self) -> Result<Box<dyn Stream>, String> {
        let line = self.command_line()?;
        look_at(&self.settings.devices)?;
        Ok(Box::new(ChildStream::start(&line, &self.settings.limits, &self.left)?))
    }

    fn remedy(&self, why: &str) -> Option<&'static str> {
        let why = why.to_ascii_lowercase();
        if why.contains("no cameras available") {
            return Some(BOOT_SETTING);
        }
        why.contains("permission denied").then_some(VIDEO_GROUP)
    }
}

/// Whether there are camera devices in `devices`, and any of them may be read.
fn look_at(devices: &Path) -> Result<(), String> {
    let is_camera = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["media", "video"].iter().any(|kind| {
            let number = name.strip_prefix(kind).unwrap_or_default();
            !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let shown = devices.display();
    let entries = fs::read_dir(devices).map_err(|error| format!("{shown}: {error}"))?;
    let nodes: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_camera).collect();
    if nodes.is_empty() {
        return Err(format!("no camera: there is neither {shown}/media0 nor {shown}/video0. {BOOT_SETTING}"));
    }
    if nodes.iter().all(|node| access(node, Access::READ_OK | Access::WRITE_OK).is_err()) {
        return Err(format!("{}: permission denied. {VIDEO_GROUP}", nodes[0].display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(rest: &str) -> Result<Csi, OpenError> {
        Csi::parse(&format!("csi://{rest}"), rest, &SourceSettings::default())
    }

    #[test]
    fn uris_by_hand() {
        let first = camera("0").unwrap();
        assert_eq!((first.number, first.size, first.rate), (0, DEFAULT_SIZE, DEFAULT_RATE));
        assert_eq!(camera("1?size=1280x720").unwrap().size, Size::new(1280, 720));
        for bad in ["", "x", "-1", "99", "0?format=raw", "/dev/video0"] {
            let error = camera(bad).unwrap_err();
            assert!(error.is_usage(), "{error}");
        }
        assert!(camera("").unwrap_err().to_string().contains("csi://0"));
    }

    #[test]
    fn missing_devices_name_the_boot_setting() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["videotex", "media", "mem"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let error = look_at(folder.path()).unwrap_err();
        assert!(error.contains("camera_auto_detect=1") && error.contains("/video0"), "{error}");
        fs::write(folder.path().join("media3"), "").unwrap();
        assert_eq!(look_at(folder.path()), Ok(()));
    }

    #[test]
    fn what_the_programs_say_gets_its_remedy() {
        let camera = camera("0").unwrap();
        let remedy = camera.remedy("rpicam-vid ended with status 255: ERROR: *** no cameras available ***");
        assert!(remedy.unwrap().contains("camera_auto_detect=1"));
        assert!(camera.remedy("Permission denied").unwrap().contains("group `video`"));
        assert_eq!(camera.remedy("no frame for 2.0 s"), None);
    }
}
