//! The crate from outside: a tiny data set trained end to end, the command as a process, and the published annotation where it is.
#![allow(clippy::unwrap_used)]

mod command;
mod export;
mod published;
mod scenes;
mod tiny;
mod training;
