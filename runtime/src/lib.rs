//! Human-object interaction detection on a board: a picture in, triplets `person ride bicycle 0.93` out.
//!
//! ```no_run
//! use std::path::Path;
//! use hoi_runtime::bundle::ModelBundle;
//! use hoi_runtime::engine::TractEngine;
//! use hoi_runtime::pipeline::HoiPipeline;
//! use hoi_runtime::source::{ImageLimits, open_image};
//!
//! let pipeline = HoiPipeline::new(&ModelBundle::fastest_builtin()?, &TractEngine::default())?;
//! let result = pipeline.run(&open_image(Path::new("photo.jpg"), &ImageLimits::default())?)?;
//! for t in result.triplets.iter().filter(|t| t.score > 0.2) {
//!     println!("{:?} {:.2}", pipeline.vocabulary().verb_name(t.verb), t.score);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The way of a frame
//! [`source`] -> [`preprocess`] -> [`detector`] -> [`pairing`] -> [`spatial`] and [`interaction`] -> [`fusion`] -> [`sink`]; [`pipeline`]
//! is the one that calls them in turn. [`bundle`] holds what the networks need, [`engine`] runs them.
//!
//! # Limits
//! Pictures, bundles, entities, pairs and triplets are bounded by configuration; bad input gives a typed error and nothing panics.
//! Bundles are read without leaving their folder and every file's hash is verified.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bundle;
pub mod cli;
pub mod detector;
pub mod engine;
pub mod fusion;
pub mod geometry;
pub mod interaction;
pub mod pairing;
pub mod pipeline;
pub mod preprocess;
pub mod sink;
pub mod source;
pub mod spatial;
pub mod staged;
pub mod vocabulary;
