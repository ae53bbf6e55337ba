//! NVIDIA Jetson: the devices of any Linux board, under the names and with the switches of its own 40-pin header.
//!
//! The header's functions are switched on with `sudo /opt/nvidia/jetson-io/jetson-io.py`. Its GPIO lines are taken by the names of
//! their ports (`PQ.05` is pin 29 of an Orin Nano); docs/hardware.md lists them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::error::Remedies;
use super::header::Header;
use super::linux::DeviceNodes;
use super::probe::device_tree_model;
use super::{Board, BoardError, SerialPort, tty};

const REMEDIES: Remedies = Remedies {
    serial: "The port of the 40-pin header is /dev/ttyTHS1 (/dev/ttyTHS0 on older models). A USB adapter is /dev/ttyUSB0 or \
             /dev/ttyACM0",
    spi: "Run `sudo /opt/nvidia/jetson-io/jetson-io.py`, switch `spi1` on for the 40-pin header, restart, and load the module: \
          `sudo modprobe spidev`, or a line `spidev` in /etc/modules",
    i2c: "Pins 3 and 5 of the 40-pin header are i2c-7 on Orin, i2c-8 on Xavier, i2c-1 on Nano; `ls /dev/i2c-*` shows what \
          there is",
    gpio: "`ls /dev/gpiochip*` and `gpioinfo` (package gpiod) show what there is",
};

/// An NVIDIA Jetson that was found by its device tree.
#[derive(Clone, Debug)]
pub struct Jetson {
    model: String,
}

impl Jetson {
    /// This machine as a Jetson; `root` is where its file system begins, `/`.
    ///
    /// # Errors
    /// [`BoardError::NotThisBoard`] when its device tree names another machine or there is none.
    pub fn probe(root: &Path) -> Result<Self, BoardError> {
        let model = device_tree_model(root);
        let compatible = fs::read(root.join("proc/device-tree/compatible")).unwrap_or_default();
        let of_tegra = compatible.split(|&byte| byte == 0).any(|name| name.starts_with(b"nvidia,tegra"));
        match model {
            Some(model) if model.contains("Jetson") || of_tegra => Ok(Self { model }),
            Some(model) => {
                Err(BoardError::NotThisBoard { asked: "jetson", reason: format!("its device tree says `{model}`") })
            }
            None => Err(BoardError::NotThisBoard { asked: "jetson", reason: "it has no device tree".to_owned() }),
        }
    }
}

impl Board for Jetson {
    fn name(&self) -> &'static str {
        "jetson"
    }

    fn model(&self) -> String {
        self.model.clone()
    }

    fn open_serial(&self, device: &Path, baud: u32) -> Result<Box<dyn SerialPort>, BoardError> {
        tty::open(device, baud, &REMEDIES)
    }

    fn header(&self) -> Arc<dyn Header> {
        Arc::new(DeviceNodes { remedies: &REMEDIES })
    }
}
