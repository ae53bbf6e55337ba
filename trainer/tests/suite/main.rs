//! The crate from outside: a tiny data set trained end to end, the command as a process, and the published annotation where it is.
#![allow(clippy::unwrap_used)]

mod command;
mod detr;
mod export;
mod loader;
mod network;
mod published;
mod run;
mod scenes;
mod tiny;
mod training;
mod weights;
