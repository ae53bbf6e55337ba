//! The messages of the protocol `frames`, field by field in the order of the wire, in the encoding of `postcard` 1: integers wider than
//! 8 bits are varints, 7 bits a byte, lowest first, the eighth bit says that more follow (signed ones zigzag before); a list or a text
//! is its length and its elements; an `Option` is 0, or 1 and its value; an enum is the number of its variant.
//! Fields may be added at the end of a message; a reader ignores what is behind those that it knows.

use serde::{Deserialize, Serialize};

use super::record::{DeviceState, Part};

/// A message. The variant's number is its place in this list, from 0; new ones are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// 0: what was found in a picture.
    Frame(Frame),
    /// 1: why there is none.
    Error(Error),
    /// 2: how the device is.
    Status(Status),
    /// 3: some names of the vocabulary.
    Vocabulary(Vocabulary),
}

/// What was found in a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Which vocabulary the indices belong to: [`Vocabulary::id`].
    pub vocabulary: u16,
    /// People that were found, whether they do anything or not.
    pub people: u16,
    /// Triplets that had no room, those with the lowest scores.
    pub left_out: u16,
    /// Who does what to what, by falling score.
    pub triplets: Vec<Triplet>,
}

/// Who does what to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triplet {
    /// 255 times the score, rounded.
    pub score: u8,
    /// Index of the verb.
    pub verb: u16,
    /// Box of the human.
    pub human: PixelBox,
    /// The object, where the interaction has one.
    pub object: Option<PlacedObject>,
}

/// The object of a triplet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedObject {
    /// Index of its class.
    pub class: u16,
    /// Its box.
    pub bbox: PixelBox,
}

/// Left, top, right, bottom in pixels of the picture, rounded; right and bottom exclusive.
pub type PixelBox = [u16; 4];

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Number of the frame, from 0.
    pub frame: u64,
    /// Whose error it is: 0 source, 1 model, 2 device.
    pub part: u8,
    /// What is wrong; at most [`Error::TEXT_LIMIT`] bytes of UTF-8.
    pub text: String,
}

impl Error {
    /// Bytes of the text; what is longer ends with `...`.
    pub const TEXT_LIMIT: usize = 200;
}

/// How the device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// 0 starting, 1 ok, 2 source error, 3 model error, 4 device error.
    pub state: u8,
    /// Seconds since the program started.
    pub uptime_s: u64,
    /// Frames that were asked for since then.
    pub frames: u64,
    /// Frames in 10 seconds, lately.
    pub frames_per_10s: u16,
    /// Pictures that came while the model was busy.
    pub dropped_frames: u64,
    /// Messages that the serial line lost.
    pub lost_messages: u64,
    /// Degrees Celsius, rounded, where the board says them: two's complement.
    pub temperature_c: Option<i8>,
}

/// Some names of a vocabulary. All of them are sent in turn again and again, so that a reader that joins late learns them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// Which vocabulary: the CRC-16 of all its names in turn, each followed by a zero byte, verbs first. Another number than before
    /// means that what was learned is out of date.
    pub id: u16,
    /// How many verbs the whole vocabulary has.
    pub verbs: u16,
    /// How many object classes the whole vocabulary has.
    pub classes: u16,
    /// Which of the two lists `names` belong to.
    pub list: List,
    /// Index of the first of `names`.
    pub first: u16,
    /// Names as the data set writes them, at most [`Vocabulary::NAME_LIMIT`] bytes each.
    pub names: Vec<String>,
}

impl Vocabulary {
    /// Bytes of a name; what is longer is cut.
    pub const NAME_LIMIT: usize = 63;
}

/// A list of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum List {
    /// 0.
    Verbs,
    /// 1: object classes, `person` among them.
    Classes,
}

impl Part {
    /// Its number on the wire.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Source => 0,
            Self::Model => 1,
            Self::Device => 2,
        }
    }
}

impl DeviceState {
    /// Its number on the wire.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Starting => 0,
            Self::Ok => 1,
            Self::SourceError => 2,
            Self::ModelError => 3,
            Self::DeviceError => 4,
        }
    }
}

/// The beginning of `text` in at most `limit` bytes, cut between characters.
pub(super) fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
