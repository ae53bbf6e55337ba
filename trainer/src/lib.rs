//! Trains what the runtime runs: data sets, networks, losses, scores and the way out to ONNX.
//!
//! The command is `hoi-train`. Boxes, pairing and the spatial encoding are `hoi-runtime`'s own, so that training and inference
//! cannot drift apart.
//!
//! Systems: the layout head ([`system::layout`]), which knows boxes and classes alone; DETR ([`system::detr`]), the detector of the two-stage
//! systems; RmLR ([`system::rmlr`]); Weakly-HOI ([`system::weakly_hoi`]).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accelerator;
pub mod allocator;
pub mod cli;
pub mod dataset;
pub mod eval;
pub mod export;
pub mod loss;
pub mod network;
pub mod optimizer;
pub mod system;
pub mod text;
