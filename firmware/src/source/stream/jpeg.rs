//! JPEG pictures in a stream: MJPEG, with or without multipart headers between them.

use std::mem;

use super::Picture;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;

/// Where in the stream the next byte stands (ITU-T T.81, B.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Outside of a picture.
    Between,
    /// Outside, after 0xff.
    BetweenMarker,
    /// Within: entropy-coded data, or stray bytes between segments.
    Data,
    /// Within, after 0xff.
    Marker,
    /// The high byte of a segment's length.
    LengthHigh,
    /// Its low byte.
    LengthLow(u8),
    /// Within a segment, of which so many bytes are left.
    Segment(usize),
}

/// Cuts a stream at the pictures' own markers. A picture that breaks off where the next one starts is given as it is: its decoder says
/// that it is truncated.
#[derive(Debug)]
pub(crate) struct JpegSplitter {
    at: At,
    picture: Vec<u8>,
    /// Bytes since the last picture.
    skipped: u64,
    /// Bytes of a picture, and between two.
    limit: u64,
}

impl JpegSplitter {
    pub(super) fn new(limit: u64) -> Self {
        Self { at: At::Between, picture: Vec::new(), skipped: 0, limit }
    }

    pub(super) fn is_within_picture(&self) -> bool {
        !matches!(self.at, At::Between | At::BetweenMarker)
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Picture>), String> {
        let mut from = 0;
        while from < bytes.len() {
            let rest = &bytes[from..];
            let (taken, picture) = self.step(rest);
            from += taken;
            if let Some(bytes) = picture {
                return Ok((from, Some(Picture::Jpeg(bytes))));
            }
            if self.picture.len() as u64 > self.limit {
                return Err(format!("a JPEG of more than the {} bytes that are allowed", self.limit));
            }
            if self.skipped > self.limit {
                return Err(format!("no JPEG picture in {} bytes", self.skipped));
            }
        }
        Ok((from, None))
    }

    /// One stretch of equal bytes of `rest`, which is not empty: how many were taken, and a picture that they end.
    fn step(&mut self, rest: &[u8]) -> (usize, Option<Vec<u8>>) {
        let byte = rest[0];
        match self.at {
            At::Between => {
                let plain = rest.iter().position(|&b| b == 0xff);
                if plain.is_some() {
                    self.at = At::BetweenMarker;
                }
                let taken = plain.map_or(rest.len(), |n| n + 1);
                self.skipped += taken as u64;
                return (taken, None);
            }
            At::BetweenMarker => {
                self.skipped += 1;
                match byte {
                    START_OF_IMAGE => self.start(),
                    0xff => {}
                    _ => self.at = At::Between,
                }
                return (1, None);
            }
            At::Data => {
                let plain = rest.iter().position(|&b| b == 0xff);
                if plain.is_some() {
                    self.at = At::Marker;
                }
                let taken = plain.map_or(rest.len(), |n| n + 1);
                self.picture.extend_from_slice(&rest[..taken]);
                return (taken, None);
            }
            At::Segment(left) => {
                let taken = left.min(rest.len());
                self.picture.extend_from_slice(&rest[..taken]);
                self.at = if taken == left { At::Data } else { At::Segment(left - taken) };
                return (taken, None);
            }
            At::Marker => match byte {
                START_OF_IMAGE => {
                    self.picture.pop();
                    let truncated = mem::take(&mut self.picture);
                    self.start();
                    return (1, Some(truncated));
                }
                END_OF_IMAGE => {
                    self.picture.push(byte);
                    self.at = At::Between;
                    self.skipped = 0;
                    return (1, Some(mem::take(&mut self.picture)));
                }
                // A fill byte; a stuffed 0xff, restart and temporary markers, which stand alone.
                0xff => {}
                0x00 | 0x01 | 0xd0..=0xd7 => self.at = At::Data,
                _ => self.at = At::LengthHigh,
            },
            At::LengthHigh => self.at = At::LengthLow(byte),
            At::LengthLow(high) => {
                let left = usize::from(u16::from_be_bytes([high, byte])).saturating_sub(2);
                self.at = if left == 0 { At::Data } else { At::Segment(left) };
            }
        }
        self.picture.push(byte);
        (1, None)
    }

    fn start(&mut self) {
        self.picture.clear();
        self.picture.extend_from_slice(&[0xff, START_OF_IMAGE]);
        self.skipped = 0;
        self.at = At::Data;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start, a segment that holds a thumbnail's markers, a scan with a stuffed 0xff, a restart and a fill byte, an end.
    fn picture(tag: u8) -> Vec<u8> {
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, tag, 0xff, 0xd9, 7, 0xff, 0xda, 0, 3, 9];
        [&head[..], &[tag, 0xff, 0x00, 8, 0xff, 0xd3, 5, 0xff, 0xff, 0xd9]].concat()
    }

    /// All pictures of `stream`, pushed in pieces of `piece` bytes.
    fn split(stream: &[u8], piece: usize, limit: u64) -> Result<Vec<Vec<u8>>, String> {
        let mut splitter = JpegSplitter::new(limit);
        let mut pictures = Vec::new();
        for piece in stream.chunks(piece) {
            let mut from = 0;
            while from < piece.len() {
                let (taken, picture) = splitter.push(&piece[from..])?;
                from += taken;
                if let Some(Picture::Jpeg(bytes)) = picture {
                    pictures.push(bytes);
                }
            }
        }
        Ok(pictures)
    }

    #[test]
    fn pictures_are_cut_at_their_own_markers_however_the_bytes_arrive() {
        let between = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xff";
        let stream = [&between[..], &picture(1), between, &picture(2), &picture(3), b"tail"].concat();
        for piece in [1, 2, 3, 7, stream.len()] {
            assert_eq!(split(&stream, piece, 1_000).unwrap(), [picture(1), picture(2), picture(3)], "{piece}");
        }
    }

    #[test]
    fn a_picture_that_breaks_off_is_given_as_far_as_it_came() {
        let whole = picture(1);
        let cut = &whole[..whole.len() - 3];
        let stream = [cut, &picture(2)].concat();
        for piece in [1, 5, stream.len()] {
            assert_eq!(split(&stream, piece, 1_000).unwrap(), [cut.to_vec(), picture(2)], "{piece}");
        }
    }

    #[test]
    fn memory_and_patience_are_bounded() {
        let endless = [&picture(1)[..17], &[7; 200]].concat();
        assert!(split(&endless, 50, 100).unwrap_err().contains("more than the 100 bytes"));
        assert!(split(&[b'x'; 200], 50, 100).unwrap_err().contains("no JPEG picture in"));
        // Each picture makes up for what was skipped before it.
        let stream = [&[b'x'; 80][..], &picture(1), &[b'x'; 80], &picture(2)].concat();
        assert_eq!(split(&stream, 10, 100).unwrap().len(), 2);
    }
}
