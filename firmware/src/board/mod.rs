//! Boards: one file each behind one trait, chosen by probing or by name.
//!
//! | board | found by | serial port through |
//! |---|---|---|
//! | [`RaspberryPi`] | the model in the device tree or `/proc/cpuinfo` | `rppal` |
//! | [`Host`] | nothing: it is every other machine | `serialport`: UARTs, USB adapters, pseudo terminals |

mod host;
mod raspberry_pi;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use host::Host;
pub use raspberry_pi::RaspberryPi;

/// A machine that the firmware runs on.
pub trait Board: fmt::Debug {
    /// The name that the configuration uses: `raspberry_pi`, `host`.
    fn name(&self) -> &'static str;

    /// What exactly it is, for the log: `Raspberry Pi 4 B`.
    fn model(&self) -> String;

    /// Opens the serial port `device` at `baud` bits a second, 8 data bits, no parity, 1 stop bit, no flow control.
    ///
    /// # Errors
    /// [`BoardError`] that names the device, the group or the boot setting to look at.
    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError>;
}

/// The sending side of a serial port.
pub trait SerialPort: Send {
    /// Hands the beginning of `bytes` to the line and returns how many bytes it took; 0 where it is full. Most calls wait at most
    /// [`SEND_WAIT`](crate::serial::SEND_WAIT) for room, but a driver may block longer: call it from a thread that can be left behind.
    ///
    /// # Errors
    /// What the system says when the port is gone or broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// Which board to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoardChoice {
    /// What probing finds.
    #[default]
    Auto,
    /// [`Host`].
    Host,
    /// [`RaspberryPi`].
    RaspberryPi,
}

impl FromStr for BoardChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "host" => Ok(Self::Host),
            "raspberry_pi" => Ok(Self::RaspberryPi),
            _ => Err("auto, host or raspberry_pi is needed".to_owned()),
        }
    }
}

/// Why a board or its serial port cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// A board was asked for and this machine is another.
    #[error("this machine is no {asked}: {reason}; use --board auto or --board host")]
    NotThisBoard {
        /// The board's name.
        asked: &'static str,
        /// What probing said.
        reason: String,
    },
    /// There is no such device.
    #[error("serial port {device}: no such device. {remedy}")]
    SerialMissing {
        /// The device node.
        device: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// The path is a file or folder.
    #[error(
        "serial port {device}: this is no serial device but a {kind}; a device such as /dev/serial0 or /dev/ttyUSB0 is needed"
    )]
    NotSerial {
        /// The path.
        device: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The user may not open it.
    #[error(
        "serial port {device}: permission denied. It belongs to the group `{group}`: run \
         `sudo usermod -aG {group} $USER` and log in again"
    )]
    SerialPermission {
        /// The device node.
        device: PathBuf,
        /// The group that may, usually `dialout`.
        group: String,
    },
    /// Another program holds it.
    #[error(
        "serial port {device}: another program holds it. On a Raspberry Pi that is often the login console: take \
         `console=serial0,115200` out of /boot/firmware/cmdline.txt and restart"
    )]
    SerialBusy {
        /// The device node.
        device: PathBuf,
    },
    /// The port refuses the speed.
    #[error("serial port {device}: {baud} baud is not possible; 9600, 57600, 115200, 460800 and 921600 are usual")]
    SerialSpeed {
        /// The device node.
        device: PathBuf,
        /// The speed that was asked for.
        baud: u32,
    },
    /// Anything else.
    #[error("serial port {device}: {reason}; is it a serial port, such as /dev/serial0 or /dev/ttyUSB0?")]
    Serial {
        /// The device node.
        device: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// The board that `choice` names.
///
/// # Errors
/// [`BoardError::NotThisBoard`] when it names a board that this machine is not.
pub fn select(choice: BoardChoice) -> Result<Box<dyn Board>, BoardError> {
    match choice {
        BoardChoice::Host => Ok(Box::new(Host)),
        BoardChoice::RaspberryPi => Ok(Box::new(RaspberryPi::probe()?)),
        BoardChoice::Auto => match RaspberryPi::probe() {
            Ok(board) => Ok(Box::new(board)),
            Err(_) => Ok(Box::new(Host)),
        },
    }
}

const PI_REMEDY: &str = "The port of the 40-pin header is /dev/serial0: write `enable_uart=1` into /boot/firmware/config.txt \
                         and restart. A USB adapter is /dev/ttyUSB0 or /dev/ttyACM0";
const HOST_REMEDY: &str = "A USB adapter is /dev/ttyUSB0 or /dev/ttyACM0 (`ls /dev/serial/by-id`); on a Raspberry Pi the port of \
                           the header is /dev/serial0 after `enable_uart=1` in /boot/firmware/config.txt";

/// What can be seen of a device before it is opened.
fn look_at(device: &Path, missing_remedy: &'static str) -> Result<(), BoardError> {
    let not_serial = |kind| Err(BoardError::NotSerial { device: device.to_owned(), kind });
    match fs::metadata(device) {
        Ok(found) if found.file_type().is_char_device() => Ok(()),
        Ok(found) if found.is_dir() => not_serial("folder"),
        Ok(found) if found.is_file() => not_serial("file"),
        Ok(_) => not_serial("block device, pipe or socket"),
        Err(error) => Err(from_io(device, &error, missing_remedy)),
    }
}

fn from_io(device: &Path, error: &io::Error, missing_remedy: &'static str) -> BoardError {
    let device = device.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => BoardError::SerialMissing { device, remedy: missing_remedy },
        io::ErrorKind::PermissionDenied => BoardError::SerialPermission { group: owning_group(&device), device },
        io::ErrorKind::ResourceBusy => BoardError::SerialBusy { device },
        _ => BoardError::Serial { device, reason: error.to_string() },
    }
}

/// Name of the group that owns `device`, by `/etc/group`; `dialout`, Debian's, where that cannot be told or is `root`.
fn owning_group(device: &Path) -> String {
    let name = || {
        let id = fs::metadata(device).ok()?.gid();
        let groups = fs::read_to_string("/etc/group").ok()?;
        group_name(&groups, id)
    };
    name().filter(|name| name != "root").unwrap_or_else(|| "dialout".to_owned())
}

/// The name of group `id` in the text of `/etc/group`.
fn group_name(groups: &str, id: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_hand() {
        let groups = "root:x:0:\n# odd line\ntty:x:5:\ndialout:x:20:pi,anna\n";
        assert_eq!(group_name(groups, 20).as_deref(), Some("dialout"));
        assert_eq!(group_name(groups, 5).as_deref(), Some("tty"));
        assert_eq!(group_name(groups, 7), None);
    }

    #[test]
    fn names_of_boards() {
        assert_eq!("raspberry_pi".parse(), Ok(BoardChoice::RaspberryPi));
        assert_eq!("auto".parse(), Ok(BoardChoice::default()));
        assert!("jetson".parse::<BoardChoice>().is_err());
        assert_eq!(select(BoardChoice::Host).unwrap().name(), "host");
    }

    #[test]
    fn paths_that_are_no_port_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(look_at(&file, ""), Err(BoardError::NotSerial { kind: "file", .. })));
        assert!(matches!(look_at(folder.path(), ""), Err(BoardError::NotSerial { kind: "folder", .. })));
        let missing = look_at(&folder.path().join("ttyUSB7"), HOST_REMEDY).unwrap_err().to_string();
        assert!(missing.contains("ttyUSB7") && missing.contains("enable_uart=1"), "{missing}");
        let denied = from_io(Path::new("/gone"), &io::Error::from(io::ErrorKind::PermissionDenied), "");
        assert!(denied.to_string().contains("usermod -aG dialout"), "{denied}");
        let busy = from_io(Path::new("/gone"), &io::Error::from(io::ErrorKind::ResourceBusy), "");
        assert!(busy.to_string().contains("cmdline.txt"), "{busy}");
    }

    /// A character device that has no line settings.
    #[test]
    fn a_device_that_is_no_tty_is_an_error_on_every_board() {
        for error in [
            Host.open_serial(Path::new("/dev/null"), 115_200).err().unwrap(),
            RaspberryPi::assumed().open_serial(Path::new("/dev/null"), 115_200).err().unwrap(),
        ] {
            assert!(matches!(error, BoardError::Serial { .. }), "{error}");
            assert!(error.to_string().contains("/dev/null"), "{error}");
        }
    }
}
