//! What is made of a frame's answer: JSON lines, a readable table, an annotated picture.

mod annotate;
mod record;
mod table;

pub use annotate::{Canvas, annotate, picture_format, write_picture};
pub use record::{DetectionRecord, FRAME_SCHEMA, FrameRecord, ObjectRecord, PersonRecord, TripletRecord};
pub use table::Table;
