//! Where a network is trained.

use clap::ValueEnum;
use tch::Device;

/// The choice on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The processor
    Cpu,
    /// The first CUDA GPU
    Cuda,
    /// A CUDA GPU where there is one, else the processor
    Auto,
}

/// The device that was asked for is not there.
#[derive(Debug, thiserror::Error)]
#[error("--device cuda: libtorch finds no CUDA GPU here")]
pub struct DeviceError;

impl DeviceChoice {
    /// The device to use.
    ///
    /// # Errors
    /// [`DeviceError`] when a GPU was asked for and none is there.
    pub fn device(self) -> Result<Device, DeviceError> {
        match (self, tch::Cuda::is_available()) {
            (Self::Cpu, _) | (Self::Auto, false) => Ok(Device::Cpu),
            (Self::Cuda | Self::Auto, true) => Ok(Device::Cuda(0)),
            (Self::Cuda, false) => Err(DeviceError),
        }
    }
}
