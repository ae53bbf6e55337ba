//! What is said beside frames: errors and the state of the device. Both protocols carry the same.

use serde::Serialize;

/// The schema of the line that takes a frame's place when the frame could not be read or answered.
pub const ERROR_SCHEMA: &str = "hoi.error/1";

/// The schema of the line that says how the device is.
pub const STATUS_SCHEMA: &str = "hoi.status/1";

/// Which part of the device an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The picture could not be had.
    Source,
    /// The networks could not be loaded or run.
    Model,
    /// The board, a display or a port.
    Device,
}

/// A frame that could not be read or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorRecord<'a> {
    /// Where the picture would have come from, as a URI.
    pub source: &'a str,
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Whose error it is.
    pub part: Part,
    /// What is wrong, with its causes, on one line.
    pub error: &'a str,
}

/// What the device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Not ready yet.
    Starting,
    /// Pictures come and are looked at.
    Ok,
    /// No pictures.
    SourceError,
    /// No model.
    ModelError,
    /// The board or one of its ports cannot be used.
    DeviceError,
}

/// How the device is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StatusRecord {
    /// What it is doing.
    pub state: DeviceState,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// Frames that were asked for since then.
    pub frames: u64,
    /// Frames a second, lately.
    pub frames_per_s: f32,
    /// Degrees Celsius of the board's processor, where the board says it.
    pub temperature_c: Option<f32>,
    /// Pictures that came while the model was busy, and were left out.
    pub dropped_frames: u64,
    /// Messages that the serial line lost, for whatever reason.
    pub lost_messages: u64,
}

/// A record with its schema in front, as a line of JSON has it.
#[derive(Serialize)]
pub(super) struct WithSchema<'a, T> {
    pub(super) schema: &'static str,
    #[serde(flatten)]
    pub(super) record: &'a T,
}
