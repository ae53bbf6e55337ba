//! What can be wrong with a board's devices, and the remedy for it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A part of a board that has device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Serial ports: `/dev/serial0`, `/dev/ttyUSB0`.
    Serial,
    /// SPI devices: `/dev/spidev0.0`.
    Spi,
    /// I2C buses: `/dev/i2c-1`.
    I2c,
    /// GPIO chips: `/dev/gpiochip0`.
    Gpio,
}

impl Part {
    /// The group that owns its devices on Raspberry Pi OS and in this project's packages.
    pub fn group(self) -> &'static str {
        match self {
            Self::Serial => "dialout",
            Self::Spi => "spi",
            Self::I2c => "i2c",
            Self::Gpio => "gpio",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Serial => "/dev/serial0 or /dev/ttyUSB0",
            Self::Spi => "/dev/spidev0.0",
            Self::I2c => "/dev/i2c-1",
            Self::Gpio => "/dev/gpiochip0",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serial => "serial port",
            Self::Spi => "SPI device",
            Self::I2c => "I2C bus",
            Self::Gpio => "GPIO chip",
        })
    }
}

/// What to do where a device is missing, one sentence a part.
#[derive(Debug)]
pub(super) struct Remedies {
    pub(super) serial: &'static str,
    pub(super) spi: &'static str,
    pub(super) i2c: &'static str,
    pub(super) gpio: &'static str,
}

impl Remedies {
    pub(super) fn of(&self, part: Part) -> &'static str {
        match part {
            Part::Serial => self.serial,
            Part::Spi => self.spi,
            Part::I2c => self.i2c,
            Part::Gpio => self.gpio,
        }
    }
}

/// Why a board or one of its devices cannot be used.
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
    #[error("{part} {device}: no such device. {remedy}")]
    Missing {
        /// What kind of device.
        part: Part,
        /// The device node.
        device: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// The path is something else.
    #[error(
        "{part} {device}: this is no {part} but a {kind}; a device such as {} is needed",
        .part.example()
    )]
    NotADevice {
        /// What kind of device was expected.
        part: Part,
        /// The path.
        device: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The user may not open it.
    #[error(
        "{part} {device}: permission denied. It belongs to the group `{group}`: run `sudo usermod -aG {group} $USER` \
         and log in again"
    )]
    Permission {
        /// What kind of device.
        part: Part,
        /// The device node.
        device: PathBuf,
        /// The group that may.
        group: String,
    },
    /// The user may not open it, and no group may.
    #[error(
        "{part} {device}: permission denied. It belongs to root alone: write the udev rule \
         `KERNEL==\"{}\", GROUP=\"{}\", MODE=\"0660\"` into /etc/udev/rules.d/60-hoi-edge.rules and restart",
        kernel_name(.device),
        .part.group()
    )]
    RootOnly {
        /// What kind of device.
        part: Part,
        /// The device node.
        device: PathBuf,
    },
    /// Another program or driver holds it.
    #[error("{part} {device}: {}", busy(.part))]
    Busy {
        /// What kind of device.
        part: Part,
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
    /// A board without pins was asked for one.
    #[error(
        "{part} {device}: the board `host` has no pins; --board auto, raspberry_pi, jetson or linux is needed, or a \
         display without pins: png://FILE, framebuffer:///dev/fb0"
    )]
    NoPins {
        /// What kind of device.
        part: Part,
        /// The device node.
        device: PathBuf,
    },
    /// There is no such GPIO line.
    #[error("GPIO line {line}: {reason}")]
    NoLine {
        /// The line as it was asked for.
        line: String,
        /// What there is instead.
        reason: String,
    },
    /// Anything else.
    #[error("{part} {device}: {reason}; is it a {part}, such as {}?", .part.example())]
    Refused {
        /// What kind of device.
        part: Part,
        /// The device node.
        device: PathBuf,
        /// What the system said.
        reason: String,
    },
}

fn kernel_name(device: &Path) -> String {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    format!("{}*", name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-'))
}

fn busy(part: &Part) -> &'static str {
    match part {
        Part::Serial => {
            "another program holds it. On a Raspberry Pi that is often the login console: take \
             `console=serial0,115200` out of /boot/firmware/cmdline.txt and restart"
        }
        Part::Spi | Part::I2c => "another program holds it: stop it, or take another device",
        Part::Gpio => {
            "the line is taken: by another program (`gpioinfo` says which), or by an overlay in \
             /boot/firmware/config.txt; take another pin"
        }
    }
}

/// What can be seen of a device before it is opened.
pub(super) fn look_at(part: Part, device: &Path, remedies: &Remedies) -> Result<(), BoardError> {
    let not_a_device = |kind| Err(BoardError::NotADevice { part, device: device.to_owned(), kind });
    match fs::metadata(device) {
        Ok(found) if found.file_type().is_char_device() => Ok(()),
        Ok(found) if found.is_dir() => not_a_device("folder"),
        Ok(found) if found.is_file() => not_a_device("file"),
        Ok(_) => not_a_device("block device, pipe or socket"),
        Err(error) => Err(from_io(part, device, &error, remedies)),
    }
}

/// The system's `error` about `device`, with its remedy.
pub(super) fn from_io(part: Part, device: &Path, error: &io::Error, remedies: &Remedies) -> BoardError {
    let device = device.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => BoardError::Missing { part, device, remedy: remedies.of(part) },
        io::ErrorKind::PermissionDenied => match owning_group(&device).as_deref() {
            // Debian's serial ports are always the group's; a port that is gone again cannot be asked.
            None => BoardError::Permission { part, group: part.group().to_owned(), device },
            Some("root") if part == Part::Serial => {
                BoardError::Permission { part, group: part.group().to_owned(), device }
            }
            Some("root") => BoardError::RootOnly { part, device },
            Some(group) => BoardError::Permission { part, group: group.to_owned(), device },
        },
        io::ErrorKind::ResourceBusy => BoardError::Busy { part, device },
        _ => BoardError::Refused { part, device, reason: error.to_string() },
    }
}

/// Name of the group that owns `device`, by `/etc/group`; `None` where that cannot be told.
fn owning_group(device: &Path) -> Option<String> {
    let id = fs::metadata(device).ok()?.gid();
    let groups = fs::read_to_string("/etc/group").ok()?;
    group_name(&groups, id)
}

/// The name of group `id` in the text of `/etc/group`.
pub(crate) fn group_name(groups: &str, id: u32) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMEDIES: Remedies = Remedies { serial: "plug it in", spi: "dtparam=spi=on", i2c: "i2c_arm=on", gpio: "?" };

    #[test]
    fn groups_by_hand() {
        let groups = "root:x:0:\n# odd line\ntty:x:5:\ndialout:x:20:pi,anna\n";
        assert_eq!(group_name(groups, 20).as_deref(), Some("dialout"));
        assert_eq!(group_name(groups, 5).as_deref(), Some("tty"));
        assert_eq!(group_name(groups, 7), None);
    }

    #[test]
    fn each_error_names_device_and_remedy() {
        let of = |part, path: &str, kind: io::ErrorKind| {
            from_io(part, Path::new(path), &io::Error::from(kind), &REMEDIES).to_string()
        };
        assert_eq!(
            of(Part::Spi, "/gone/spidev0.0", io::ErrorKind::NotFound),
            "SPI device /gone/spidev0.0: no such device. dtparam=spi=on"
        );
        let denied = of(Part::Serial, "/gone", io::ErrorKind::PermissionDenied);
        assert!(denied.contains("usermod -aG dialout"), "{denied}");
        let denied = of(Part::I2c, "/gone/i2c-1", io::ErrorKind::PermissionDenied);
        assert!(denied.contains("group `i2c`"), "{denied}");
        // This file is root's on every machine.
        let denied = of(Part::Spi, "/etc/passwd", io::ErrorKind::PermissionDenied);
        assert!(denied.contains("KERNEL==\"passwd*\", GROUP=\"spi\""), "{denied}");
        let busy = of(Part::Serial, "/gone", io::ErrorKind::ResourceBusy);
        assert!(busy.contains("cmdline.txt"), "{busy}");
        let busy = of(Part::Gpio, "/dev/gpiochip0", io::ErrorKind::ResourceBusy);
        assert!(busy.contains("gpioinfo"), "{busy}");
        assert_eq!(kernel_name(Path::new("/dev/spidev0.0")), "spidev*");
        assert_eq!(kernel_name(Path::new("/dev/i2c-1")), "i2c*");
    }

    #[test]
    fn what_is_no_device_is_said_to_be_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| look_at(Part::Spi, path, &REMEDIES).unwrap_err().to_string();
        assert!(said(folder.path()).contains("but a folder; a device such as /dev/spidev0.0"));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(said(&file).contains("but a file"));
        assert!(said(&folder.path().join("gone")).contains("no such device. dtparam=spi=on"));
        look_at(Part::Serial, Path::new("/dev/null"), &REMEDIES).unwrap();
    }
}
