//! Building blocks of the systems: backbones, transformers, detectors.

pub mod text;
