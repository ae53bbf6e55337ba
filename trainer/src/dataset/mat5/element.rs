//! Data elements: tags, payloads, padding.

use std::io::Read;

use super::MatError;

pub(super) const MATRIX: u32 = 14;
pub(super) const COMPRESSED: u32 = 15;

/// Why an element cannot be read; the place is added by the caller.
#[derive(Debug)]
pub(super) enum ElementError {
    Read(std::io::Error),
    Format(String),
    Unsupported(String),
}

impl ElementError {
    pub(super) fn at(self, place: &str) -> MatError {
        let place = place.to_owned();
        match self {
            Self::Read(source) => MatError::Read { place, source },
            Self::Format(reason) => MatError::Format { place, reason },
            Self::Unsupported(what) => MatError::Unsupported { place, what },
        }
    }
}

impl From<std::io::Error> for ElementError {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

/// A reader that stops at the end of its element.
pub(super) struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(reader: R, limit: u64) -> Self {
        Self { reader, left: limit }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Reads `length` bytes that belong to the element.
    pub(super) fn exactly(&mut self, length: u64) -> Result<Vec<u8>, ElementError> {
        self.check(length)?;
        let mut bytes = Vec::new();
        // Grows with what is there: a length that is not true asks for no memory.
        self.by_ref().take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(ElementError::Read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    pub(super) fn check(&self, length: u64) -> Result<(), ElementError> {
        if length > self.left {
            return Err(ElementError::Format(format!("an element of {length} bytes where {} are left", self.left)));
        }
        Ok(())
    }

    /// Passes over what fills an element of `length` bytes up to a multiple of 8.
    pub(super) fn skip_padding(&mut self, length: u64) -> Result<(), ElementError> {
        let padding = length.next_multiple_of(8) - length;
        self.exactly(padding.min(self.left)).map(|_| ())
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.reader.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Kind and length of an element; short ones carry their data in the tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    pub(super) kind: u32,
    pub(super) length: u32,
    pub(super) inside: Option<[u8; 4]>,
}

impl Tag {
    /// Reads a tag.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, ElementError> {
        Self::read_or_end(reader)?.ok_or_else(|| ElementError::Read(std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// Reads a tag; `None` at the end.
    pub(super) fn read_or_end(reader: &mut impl Read) -> Result<Option<Self>, ElementError> {
        let mut bytes = Vec::with_capacity(8);
        reader.by_ref().take(8).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = bytes[..] else {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        };
        let (first, rest) = (u32::from_le_bytes([a, b, c, d]), [e, f, g, h]);
        let (kind, short) = (first & 0xffff, first >> 16);
        if short == 0 {
            return Ok(Some(Self { kind, length: u32::from_le_bytes(rest), inside: None }));
        }
        if short > 4 {
            return Err(ElementError::Format(format!("a short element of {short} bytes, 4 is the most")));
        }
        Ok(Some(Self { kind, length: short, inside: Some(rest) }))
    }

    /// Reads the data that belongs to the tag, and its padding.
    pub(super) fn payload(self, reader: &mut Limited<impl Read>) -> Result<Vec<u8>, ElementError> {
        let length = u64::from(self.length);
        if let Some(inside) = self.inside {
            return Ok(inside[..self.length as usize].to_vec());
        }
        let bytes = reader.exactly(length)?;
        reader.skip_padding(length)?;
        Ok(bytes)
    }
}

/// Numbers of a payload as `f64`.
pub(super) fn numbers(kind: u32, bytes: &[u8]) -> Result<Vec<f64>, ElementError> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Result<Vec<f64>, ElementError> {
        let (whole, rest) = bytes.as_chunks::<N>();
        if !rest.is_empty() {
            return Err(ElementError::Format(format!("{} bytes are no list of numbers of {N} bytes", bytes.len())));
        }
        Ok(whole.iter().map(|bytes| number(*bytes)).collect())
    }
    match kind {
        1 => each(bytes, |b| f64::from(i8::from_le_bytes(b))),
        2 => each(bytes, |b| f64::from(u8::from_le_bytes(b))),
        3 => each(bytes, |b| f64::from(i16::from_le_bytes(b))),
        4 => each(bytes, |b| f64::from(u16::from_le_bytes(b))),
        5 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        6 => each(bytes, |b| f64::from(u32::from_le_bytes(b))),
        7 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        9 => each(bytes, f64::from_le_bytes),
        12 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        13 => each(bytes, |b| u64::from_le_bytes(b) as f64),
        other => Err(ElementError::Unsupported(format!("a list of numbers of type {other}"))),
    }
}

/// Text of a payload.
pub(super) fn text(kind: u32, bytes: &[u8]) -> Result<String, ElementError> {
    let invalid = || ElementError::Format("characters that are no text".to_owned());
    match kind {
        1 | 2 | 16 => String::from_utf8(bytes.to_vec()).map_err(|_| invalid()),
        4 | 17 => {
            let (units, _) = bytes.as_chunks::<2>();
            String::from_utf16(&units.iter().map(|b| u16::from_le_bytes(*b)).collect::<Vec<_>>()).map_err(|_| invalid())
        }
        other => Err(ElementError::Unsupported(format!("text of type {other}"))),
    }
}
