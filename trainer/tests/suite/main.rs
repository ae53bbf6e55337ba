//! The crate from outside: a tiny data set trained end to end, the command as a process, and the published annotation where it is.
#![allow(clippy::unwrap_used)]

mod command;
mod data_check;
mod dataset;
mod export;
mod loader;
mod published;
mod tiny;
mod training;
mod v_coco_data;
