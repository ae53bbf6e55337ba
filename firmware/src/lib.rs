//! The firmware of a board that says who is doing what to what: [`device::run`] takes pictures from a [`source`], runs the pipeline of
//! `hoi-runtime` on them, draws the answer on a [`display`] and writes it, one JSON line a frame, to the serial port of a [`board`].
//!
//! The command `hoi-device` is this library with a command line.
//!
//! # Limits
//! Sources are picture files and folders, the display is a PNG file, the serial port carries JSON lines. A source or display that
//! is not there is refused by name.
//!
//! # What never waits for what
//! The serial port has a queue and a thread of its own ([`serial::LineWriter`]): a slow or vanished reader costs lines, which are
//! counted, and never holds up a frame. A display that fails is tried again with the next frame.

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
