//! Building blocks of the systems: backbones, transformers, detectors.
//!
//! Parameters live in a [`tch::nn::VarStore`] under the names of the public checkpoints. They start with the distributions of
//! PyTorch's layers and of the papers; after the same [`tch::manual_seed`] with the same values.

pub mod clip;
pub mod count;
pub mod detr;
pub mod efficientnet_lite;
pub mod init;
mod names;
mod pickle;
pub mod position;
pub mod resnet;
mod torch_file;
pub mod transformer;
pub mod weights;

/// A network that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network configuration: `{field}` is {value}; {expected}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl ConfigError {
    /// Nothing if `right`.
    pub(crate) fn unless(
        right: bool,
        field: &'static str,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Result<(), Self> {
        if right { Ok(()) } else { Err(Self { field, value: value.to_string(), expected: expected.into() }) }
    }
}

pub mod text;
