//! Makes ONNX models small, and says what it cost.
//!
//! - [`onnx`] reads, checks, builds and writes ONNX files; the trainer exports through it.
//! - [`fp16`] stores weights as f16 that engines turn back into f32 while loading.
//! - [`passes`] fold what a graph need not compute; [`calibrate`] looks at the values of its tensors on real images; [`qdq`] writes what is
//!   to be run in integers; [`int8`] does all three to the detector of a bundle.
//! - [`mod@compare`] runs a graph before and after on the same inputs; [`bundles`] runs two whole bundles on the same pictures.
//!
//! The command is `hoi-quantize`; see `hoi-quantize --help`.
//!
//! What is read may come from anywhere: damaged, truncated or hostile files give a typed error, and no file but the one named is opened.
//! Reading takes memory in proportion to the file; random inputs stop at [`compare::MOST_INPUT_ELEMENTS`]. The engine that runs a graph
//! allocates what the graph asks for.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bundles;
pub mod calibrate;
pub mod compare;
pub mod fp16;
pub mod int8;
pub mod onnx;
pub mod passes;
pub mod qdq;
