//! What goes over the serial port, and how it never holds up detection.
//!
//! An [`Encoder`] makes messages in one of two protocols, byte by byte described in `docs/serial.md`:
//!
//! | protocol | a message is | for readers that |
//! |---|---|---|
//! | [`Protocol::Jsonl`] | one JSON object and a line feed | have a JSON parser and like to be read by people |
//! | [`Protocol::Frames`] | a COBS frame of at most [`PACKET_LIMIT`] bytes and a zero byte, with sequence number and CRC | have little memory |
//!
//! A [`LineWriter`] puts them into a bounded queue and returns at once; a thread of its own feeds the port, no faster than the line, and
//! opens it again when it was unplugged.

mod encoder;
mod message;
mod packet;
mod record;
mod vocabulary;
mod writer;

use std::fmt;
use std::str::FromStr;

pub use encoder::{EncodeError, Encoder};
pub use message::{Error, Frame, List, Message, PixelBox, PlacedObject, Status, Triplet, Vocabulary};
pub use packet::{CRC_16, PACKET_LIMIT, PAYLOAD_LIMIT, PacketError, VERSION, pack, unpack};
pub use record::{DeviceState, ERROR_SCHEMA, ErrorRecord, Part, STATUS_SCHEMA, StatusRecord};
pub use vocabulary::VOCABULARY_EVERY;
pub use writer::{LineCounts, LineWriter, QUEUE_LINES, REOPEN_FIRST, REOPEN_LAST, Reopen, SEND_WAIT};

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// COBS frames with a sequence number and a CRC.
    Frames,
}

impl Protocol {
    /// The byte that ends a message, and brings a reader into step after one that broke off: a line feed or zero.
    pub fn delimiter(self) -> u8 {
        match self {
            Self::Jsonl => b'\n',
            Self::Frames => 0,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jsonl => "jsonl",
            Self::Frames => "frames",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "frames" => Ok(Self::Frames),
            _ => Err("jsonl or frames is needed".to_owned()),
        }
    }
}
