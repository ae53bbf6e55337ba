//! Building blocks of the systems: backbones, transformers, detectors.
