//! Binary PPM pictures (`P6`) in a stream.

use std::mem;

use image::RgbImage;

use super::Picture;

/// The longest header: `P6`, two sides of 10 digits, 255, and what stands between them.
const MOST_HEADER: usize = 32;

/// Cuts a stream of PPM pictures, each with its own size.
#[derive(Debug)]
pub(crate) struct PpmSplitter {
    header: Vec<u8>,
    size: (u32, u32),
    /// Bytes of the picture at hand; 0 while its header is read.
    length: usize,
    pixels: Vec<u8>,
    most_pixels: u64,
}

impl PpmSplitter {
    pub(super) fn new(most_pixels: u64) -> Self {
        Self { header: Vec::with_capacity(MOST_HEADER), size: (0, 0), length: 0, pixels: Vec::new(), most_pixels }
    }

    pub(super) fn is_within_picture(&self) -> bool {
        self.length > 0 || !self.header.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<Picture>), String> {
        let mut taken = 0;
        while self.length == 0 {
            let Some(&byte) = bytes.get(taken) else { return Ok((taken, None)) };
            taken += 1;
            self.header.push(byte);
            self.read_header()?;
        }
        let missing = (self.length - self.pixels.len()).min(bytes.len() - taken);
        self.pixels.extend_from_slice(&bytes[taken..taken + missing]);
        taken += missing;
        if self.pixels.len() < self.length {
            return Ok((taken, None));
        }
        let (width, height) = self.size;
        self.length = 0;
        // The length is that of the size.
        let picture = RgbImage::from_raw(width, height, mem::take(&mut self.pixels));
        Ok((taken, picture.map(Picture::Pixels)))
    }

    /// Looks whether the header is whole, and prepares for its picture.
    fn read_header(&mut self) -> Result<(), String> {
        let odd = |header: &[u8]| {
            let shown = String::from_utf8_lossy(header).escape_debug().to_string();
            Err(format!("no PPM picture but `{shown}`"))
        };
        if !b"P6".starts_with(&self.header[..self.header.len().min(2)]) || self.header.len() > MOST_HEADER {
            return odd(&self.header);
        }
        if !self.header.last().is_some_and(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let mut fields = self.header[2..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let mut number = || fields.next().map(|field| std::str::from_utf8(field).ok()?.parse::<u32>().ok());
        match (number(), number(), number()) {
            (Some(Some(width @ 1..)), Some(Some(height @ 1..)), Some(Some(255))) => {
                let pixels = u64::from(width) * u64::from(height);
                if pixels > self.most_pixels {
                    let most = self.most_pixels;
                    return Err(format!(
                        "the header says {width}x{height}, more than the {most} pixels that are allowed"
                    ));
                }
                let length = pixels
                    .checked_mul(3)
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .ok_or_else(|| format!("a picture of {width}x{height} does not fit into memory"))?;
                self.size = (width, height);
                self.length = length;
                self.pixels = Vec::with_capacity(length);
                self.header.clear();
                Ok(())
            }
            (Some(None | Some(0)), _, _) | (_, Some(None | Some(0)), _) | (_, _, Some(_)) => odd(&self.header),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8], piece: usize) -> Result<Vec<RgbImage>, String> {
        let mut splitter = PpmSplitter::new(100);
        let mut pictures = Vec::new();
        for piece in stream.chunks(piece) {
            let mut from = 0;
            while from < piece.len() {
                let (taken, picture) = splitter.push(&piece[from..])?;
                from += taken;
                if let Some(Picture::Pixels(pixels)) = picture {
                    pictures.push(pixels);
                }
            }
        }
        assert!(!splitter.is_within_picture());
        Ok(pictures)
    }

    #[test]
    fn pictures_of_any_size_are_cut_however_the_bytes_arrive() {
        // The first pixel of each is itself white space: one byte ends a header.
        let first: Vec<u8> = (10..10 + 18).collect();
        let second: Vec<u8> = (32..35).collect();
        let stream = [b"P6\n3 2\n255\n", &first[..], b"P6 1\t1 255\n", &second].concat();
        for piece in [1, 2, 5, stream.len()] {
            let pictures = split(&stream, piece).unwrap();
            assert_eq!(pictures.len(), 2);
            assert_eq!((pictures[0].dimensions(), pictures[0].as_raw()), ((3, 2), &first));
            assert_eq!((pictures[1].dimensions(), pictures[1].as_raw()), ((1, 1), &second));
        }
    }

    #[test]
    fn an_announced_size_over_the_limit_is_an_error_and_no_allocation() {
        assert!(split(b"P6\n20000 20000\n255\n", 1).unwrap_err().contains("20000x20000, more than the 100 pixels"));
        assert!(split(b"P6\n4294967295 4294967295\n255\n", 1).unwrap_err().contains("more than"));
    }

    #[test]
    fn what_is_no_ppm_is_shown() {
        for stream in [&b"P5\n1 1\n255\n0"[..], b"ffmpeg", b"P6\n0 1\n255\n", b"P6\n1 x\n255\n", b"P6\n1 1\n65535\n"] {
            let error = split(stream, 3).unwrap_err();
            assert!(error.starts_with("no PPM picture but `"), "{error}");
        }
        let spaces = [b"P6", &[b' '; 100][..]].concat();
        assert!(split(&spaces, 7).is_err());
    }
}
