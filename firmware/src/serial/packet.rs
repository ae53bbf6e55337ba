//! A message as bytes: version, sequence number, message, CRC, all of it stuffed so that zero bytes only stand between packets.

use crc::{CRC_16_IBM_3740, Crc};

use super::message::Message;

/// Version of the protocol `frames`, the first byte of each packet. A message may be added without a new version.
pub const VERSION: u8 = 1;

/// Bytes of a packet before it is stuffed: version, sequence number, message and CRC.
pub const PAYLOAD_LIMIT: usize = 4 * 254;

/// Bytes of a packet on the wire, its zero byte included: stuffing adds one byte for each 254 at most.
pub const PACKET_LIMIT: usize = PAYLOAD_LIMIT + 5;

/// CRC-16/IBM-3740, often called CCITT-FALSE: polynomial 0x1021, beginning with 0xFFFF, bits not reflected, nothing added at the end;
/// of the characters `123456789` it is 0x29B1.
pub const CRC_16: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_3740);

/// Version and sequence number.
const HEADER: usize = 5;
const CRC_BYTES: usize = 2;

/// Bytes of a message within a packet.
pub(super) const MESSAGE_LIMIT: usize = PAYLOAD_LIMIT - HEADER - CRC_BYTES;

/// Why bytes are no packet, or a message has no room in one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// The stuffing is broken: bytes were lost or changed.
    #[error("the bytes are no COBS frame: some were lost or changed")]
    Stuffing,
    /// Too few bytes for a message.
    #[error("{bytes} bytes are too few for a packet; at least 8 are needed")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// Too many bytes.
    #[error("{bytes} bytes are too many for a packet; {PAYLOAD_LIMIT} are allowed")]
    Long {
        /// How many there are.
        bytes: usize,
    },
    /// Bytes changed on the way.
    #[error("the CRC is {found:#06x} and the bytes have {expected:#06x}: some were lost or changed")]
    Crc {
        /// What the packet says.
        found: u16,
        /// What its bytes have.
        expected: u16,
    },
    /// Another protocol.
    #[error("version {found} of the protocol; this reader knows version {VERSION}")]
    Version {
        /// What the packet says.
        found: u8,
    },
    /// A message that this version does not know, or that is not complete.
    #[error("the message cannot be read or written: {0}")]
    Message(#[from] postcard::Error),
}

/// The packet of `message`, with the zero byte that ends it.
///
/// # Errors
/// [`PacketError::Long`] when the message has more than [`PAYLOAD_LIMIT`] bytes.
pub fn pack(sequence: u32, message: &Message) -> Result<Vec<u8>, PacketError> {
    pack_bytes(sequence, &postcard::to_allocvec(message)?)
}

/// As [`pack`], of a message that is encoded already.
pub(super) fn pack_bytes(sequence: u32, message: &[u8]) -> Result<Vec<u8>, PacketError> {
    let mut payload = Vec::with_capacity(HEADER + message.len() + CRC_BYTES);
    payload.push(VERSION);
    payload.extend_from_slice(&sequence.to_le_bytes());
    payload.extend_from_slice(message);
    let crc = CRC_16.checksum(&payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    if payload.len() > PAYLOAD_LIMIT {
        return Err(PacketError::Long { bytes: payload.len() });
    }
    let mut packet = cobs::encode_vec(&payload);
    packet.push(0);
    Ok(packet)
}

/// The sequence number and the message of a packet without its zero byte.
///
/// # Errors
/// [`PacketError`] when bytes were lost or changed, or the message is of another version.
pub fn unpack(packet: &[u8]) -> Result<(u32, Message), PacketError> {
    let payload = cobs::decode_vec(packet).map_err(|_| PacketError::Stuffing)?;
    if payload.len() > PAYLOAD_LIMIT {
        return Err(PacketError::Long { bytes: payload.len() });
    }
    let short = || PacketError::Short { bytes: payload.len() };
    let (rest, crc) = payload.split_last_chunk::<CRC_BYTES>().ok_or_else(short)?;
    let (found, expected) = (u16::from_le_bytes(*crc), CRC_16.checksum(rest));
    if found != expected {
        return Err(PacketError::Crc { found, expected });
    }
    let (version, rest) = rest.split_first().ok_or_else(short)?;
    if *version != VERSION {
        return Err(PacketError::Version { found: *version });
    }
    let (sequence, message) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    Ok((u32::from_le_bytes(*sequence), postcard::from_bytes(message)?))
}

#[cfg(test)]
mod tests {
    use super::super::message::{Error, Frame, Triplet};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_crc_is_the_documented_one() {
        assert_eq!(CRC_16.checksum(b"123456789"), 0x29B1);
    }

    #[test]
    fn the_longest_packet_is_as_long_as_promised() {
        let message = vec![7; MESSAGE_LIMIT];
        // Without a zero in it stuffing adds the most.
        assert_eq!(pack_bytes(u32::MAX, &message).unwrap().len(), PACKET_LIMIT);
        let longer = vec![7; MESSAGE_LIMIT + 1];
        assert_eq!(pack_bytes(0, &longer), Err(PacketError::Long { bytes: PAYLOAD_LIMIT + 1 }));
    }

    #[test]
    fn what_is_no_packet_says_why() {
        let packet = pack(1, &Message::Error(Error { frame: 1, part: 0, text: "gone".into() })).unwrap();
        let packet = &packet[..packet.len() - 1];
        assert!(unpack(packet).is_ok());
        assert!(matches!(unpack(&packet[..packet.len() - 1]), Err(PacketError::Stuffing | PacketError::Crc { .. })));
        assert_eq!(unpack(&[1]), Err(PacketError::Short { bytes: 0 }));
        let mut later = vec![9, 0, 0, 0, 0, 1];
        later.extend(CRC_16.checksum(&later).to_le_bytes());
        assert_eq!(unpack(&cobs::encode_vec(&later)), Err(PacketError::Version { found: 9 }));
        let mut unknown = vec![VERSION, 0, 0, 0, 0, 77];
        unknown.extend(CRC_16.checksum(&unknown).to_le_bytes());
        assert!(matches!(unpack(&cobs::encode_vec(&unknown)), Err(PacketError::Message(_))));
    }

    #[test]
    fn every_single_changed_or_lost_byte_is_found() {
        let message = Message::Error(Error { frame: 300, part: 1, text: "a\0b".repeat(30) });
        let mut packet = pack(5, &message).unwrap();
        packet.pop();
        for at in 0..packet.len() {
            for other in 1..=255 {
                let mut changed = packet.clone();
                changed[at] = other;
                assert_eq!(unpack(&changed).is_ok(), other == packet[at], "byte {at} as {other}");
            }
            let mut shorter = packet.clone();
            shorter.remove(at);
            assert!(unpack(&shorter).is_err(), "without byte {at}");
        }
    }

    fn frames() -> impl Strategy<Value = Message> {
        let bbox = any::<[u16; 4]>();
        let triplet = (any::<u8>(), any::<u16>(), bbox, proptest::option::of((any::<u16>(), bbox))).prop_map(
            |(score, verb, human, object)| Triplet {
                score,
                verb,
                human,
                object: object.map(|(class, bbox)| super::super::PlacedObject { class, bbox }),
            },
        );
        (any::<u64>(), any::<[u16; 4]>(), any::<u16>(), proptest::collection::vec(triplet, 0..28)).prop_map(
            |(frame, [width, height, vocabulary, left_out], people, triplets)| {
                Message::Frame(Frame { frame, width, height, vocabulary, people, left_out, triplets })
            },
        )
    }

    proptest! {
        #[test]
        fn a_packet_holds_no_zero_and_gives_its_message_back(sequence: u32, message in frames()) {
            let packet = pack(sequence, &message).unwrap();
            prop_assert_eq!(packet.iter().position(|b| *b == 0), Some(packet.len() - 1));
            prop_assert_eq!(unpack(&packet[..packet.len() - 1]), Ok((sequence, message)));
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(1u8.., 0..60)) {
            // One in 65,536 passes the CRC by chance; the version byte and the sequence make these few.
            prop_assert!(unpack(&bytes).is_err());
        }
    }
}
