//! The firmware of a board that says who is doing what to what: [`device::run`] takes pictures from a [`source`], runs the pipeline of
//! `hoi-runtime` on them, draws the answer on a [`display`] and writes it to the serial port of a [`board`].
//!
//! The command `hoi-device` is this library with a command line; its settings are a [`config`], and [`check`] tries them out.
//!
//! # What never waits for what
//! The frame loop waits for nothing but the model. A camera has a thread and a one-place mailbox in which the newest picture
//! waits, the serial port a bounded queue and a thread ([`serial::LineWriter`]), the screen a thread that draws the newest scene. What is
//! left out is counted. What fails is said once and tried again.
//!
//! Models come by [`update`]: signed, tried, kept or taken back.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod board;
pub mod check;
pub mod config;
pub mod device;
pub mod display;
mod outputs;
pub mod serial;
pub mod source;
pub mod update;
