//! Messages as bytes, in either protocol.

use std::time::Instant;

use hoi_runtime::sink::FrameRecord;
use hoi_runtime::vocabulary::Vocabulary as Names;
use serde::Serialize;

use super::Protocol;
use super::message::{Error, Frame, Message, PixelBox, PlacedObject, Status, Triplet, beginning};
use super::packet::{MESSAGE_LIMIT, PacketError, pack, pack_bytes};
use super::record::{ERROR_SCHEMA, ErrorRecord, STATUS_SCHEMA, StatusRecord, WithSchema};
use super::vocabulary::Parts;

/// Bytes of the shortest triplet on the wire: score, verb, box of the human, no object.
const SHORTEST_TRIPLET: usize = 7;

/// A message that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// As JSON.
    #[error("a record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// As a packet.
    #[error("a record cannot be written as a packet")]
    Packet(#[from] PacketError),
}

/// Turns records into messages, each with the delimiter that ends it, and counts them.
#[derive(Debug)]
pub struct Encoder {
    protocol: Protocol,
    sequence: u32,
    vocabulary: Option<(Names, Parts)>,
}

impl Encoder {
    /// An encoder that does not know a vocabulary yet.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, sequence: 0, vocabulary: None }
    }

    /// Which protocol it writes.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The vocabulary of the frames from now on. With [`Protocol::Frames`], which sends indices, a frame's triplets that are not in it
    /// are left out and counted.
    pub fn set_vocabulary(&mut self, names: &Names) {
        self.vocabulary = Some((names.clone(), Parts::new(names)));
    }

    /// The part of the vocabulary that is due at `now`, to be asked for once a frame; always `None` with [`Protocol::Jsonl`],
    /// whose frames carry names.
    ///
    /// # Errors
    /// [`EncodeError`], which a name that fits its limit never causes.
    pub fn encode_vocabulary(&mut self, now: Instant) -> Result<Option<Vec<u8>>, EncodeError> {
        if self.protocol == Protocol::Jsonl {
            return Ok(None);
        }
        let due = self.vocabulary.as_mut().and_then(|(_, parts)| parts.due(now)).cloned();
        due.map(|part| self.packet(&Message::Vocabulary(part))).transpose()
    }

    /// A frame. A packet holds as many triplets as have room, those with the highest scores.
    ///
    /// # Errors
    /// [`EncodeError`], which a record of the pipeline never causes.
    pub fn encode_frame(&mut self, record: &FrameRecord) -> Result<Vec<u8>, EncodeError> {
        if self.protocol == Protocol::Jsonl {
            return line(record);
        }
        let mut frame = self.frame(record);
        loop {
            let message = postcard::to_allocvec(&Message::Frame(frame.clone())).map_err(PacketError::from)?;
            if message.len() <= MESSAGE_LIMIT {
                return Ok(pack_bytes(self.next_sequence(), &message)?);
            }
            // A frame without triplets always has room.
            frame.triplets.pop();
            frame.left_out = frame.left_out.saturating_add(1);
        }
    }

    /// An error in place of a frame.
    ///
    /// # Errors
    /// [`EncodeError`], which no record causes.
    pub fn encode_error(&mut self, record: &ErrorRecord<'_>) -> Result<Vec<u8>, EncodeError> {
        if self.protocol == Protocol::Jsonl {
            return line(&WithSchema { schema: ERROR_SCHEMA, record });
        }
        let ErrorRecord { frame, part, error, .. } = *record;
        let text = if error.len() > Error::TEXT_LIMIT {
            format!("{}...", beginning(error, Error::TEXT_LIMIT - 3))
        } else {
            error.to_owned()
        };
        self.packet(&Message::Error(Error { frame, part: part.number(), text }))
    }

    /// The state of the device.
    ///
    /// # Errors
    /// [`EncodeError`], which no record causes.
    pub fn encode_status(&mut self, record: &StatusRecord) -> Result<Vec<u8>, EncodeError> {
        if self.protocol == Protocol::Jsonl {
            return line(&WithSchema { schema: STATUS_SCHEMA, record });
        }
        let status = Status {
            state: record.state.number(),
            uptime_s: record.uptime_s,
            frames: record.frames,
            frames_per_10s: pixel(f64::from(record.frames_per_s) * 10.0),
            dropped_frames: record.dropped_frames,
            lost_messages: record.lost_messages,
            temperature_c: record.temperature_c.filter(|c| c.is_finite()).map(|c| c.round() as i8),
        };
        self.packet(&Message::Status(status))
    }

    /// The frame by indices, with no more triplets than could have room.
    fn frame(&self, record: &FrameRecord) -> Frame {
        let human = self.vocabulary.as_ref().map(|(names, _)| names.spec().human.as_str());
        let people = record.detections.iter().filter(|d| Some(d.class.as_str()) == human).count();
        let room = MESSAGE_LIMIT / SHORTEST_TRIPLET;
        let triplets: Vec<Triplet> = self.vocabulary.as_ref().map_or_else(Vec::new, |(names, _)| {
            let placed = |object: &hoi_runtime::sink::ObjectRecord| {
                Some(PlacedObject { class: names.object(&object.class)?.0, bbox: pixels(object.bbox) })
            };
            let known = record.triplets.iter().filter_map(|t| {
                Some(Triplet {
                    score: (t.score * 255.0).round() as u8,
                    verb: names.verb(&t.verb)?.0,
                    human: pixels(t.human.bbox),
                    object: match &t.object {
                        Some(object) => Some(placed(object)?),
                        None => None,
                    },
                })
            });
            known.take(room).collect()
        });
        Frame {
            frame: record.frame,
            width: u16::try_from(record.width).unwrap_or(u16::MAX),
            height: u16::try_from(record.height).unwrap_or(u16::MAX),
            vocabulary: self.vocabulary.as_ref().map_or(0, |(_, parts)| parts.id()),
            people: u16::try_from(people).unwrap_or(u16::MAX),
            left_out: u16::try_from(record.triplets.len() - triplets.len()).unwrap_or(u16::MAX),
            triplets,
        }
    }

    fn packet(&mut self, message: &Message) -> Result<Vec<u8>, EncodeError> {
        Ok(pack(self.next_sequence(), message)?)
    }

    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        sequence
    }
}

fn line<T: Serialize>(record: &T) -> Result<Vec<u8>, EncodeError> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

fn pixels(edges: [f64; 4]) -> PixelBox {
    edges.map(pixel)
}

/// Rounded; what is outside `0..=65535` is moved to its edge, as the cast does.
fn pixel(value: f64) -> u16 {
    value.round() as u16
}

#[cfg(test)]
mod tests;
