//! JPEG as libjpeg decodes it.
//!
//! The detectors were trained and measured on pixels of libjpeg (through Pillow and OpenCV). Other decoders round chroma differently by up to
//! 4 of 255, which moved scores by up to 0.02 on the sample photos; libjpeg's own code gives the same pixels to the bit.

use std::panic::catch_unwind;

use image::RgbImage;
use mozjpeg::{ColorSpace, Decompress};

/// The pixels of a grey, YCbCr or RGB JPEG; `None` for other colour spaces (CMYK), which libjpeg does not convert.
pub(super) fn decode(bytes: &[u8]) -> Option<Result<RgbImage, String>> {
    // libjpeg reports errors by unwinding; nothing is printed and nothing shared is left half-changed.
    let decoded = catch_unwind(|| -> std::io::Result<Option<RgbImage>> {
        let header = Decompress::new_mem(bytes)?;
        if !matches!(header.color_space(), ColorSpace::JCS_GRAYSCALE | ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB) {
            return Ok(None);
        }
        let mut rows = header.rgb()?;
        let (width, height) = (rows.width() as u32, rows.height() as u32);
        let mut picture = RgbImage::new(width, height);
        let values: &mut [u8] = &mut picture;
        rows.read_scanlines_into(values)?;
        rows.finish()?;
        Ok(Some(picture))
    });
    match decoded {
        Ok(Ok(picture)) => picture.map(Ok),
        Ok(Err(error)) => Some(Err(error.to_string())),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            Some(Err(words.unwrap_or_else(|| "libjpeg gave up".to_owned())))
        }
    }
}

/// Whether a JPEG's segments lead to an end-of-image marker (ITU-T T.81, B.1). What follows it, as some cameras append, is ignored.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        let marker = bytes.get(at + 1).copied();
        match (byte, marker) {
            (0xff, Some(END_OF_IMAGE)) => return true,
            // Fill bytes; stuffed 0xff, restart and temporary markers, which stand alone.
            (0xff, Some(0xff)) => at += 1,
            (0xff, Some(0x00 | 0x01 | 0xd0..=0xd8)) => at += 2,
            (0xff, Some(_)) => {
                let (Some(high), Some(low)) = (bytes.get(at + 2), bytes.get(at + 3)) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
            }
            (0xff, None) => return false,
            // Entropy-coded data, or stray bytes between segments, which are left to the decoder.
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn a_is_complete_when_its_own_end_is_there() {
        // Start, an APP1 segment that holds a thumbnail's end marker, scan header, data with a stuffed 0xff and a restart, end.
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2, 0xff, 0xda, 0, 3, 9];
        let data = [7, 0xff, 0x00, 8, 0xff, 0xd3, 5];
        let whole = [&head[..], &data, &[0xff, 0xd9]].concat();
        assert!(is_complete(&whole));
        assert!(is_complete(&[&whole[..], b"appended"].concat()));
        for cut in 2..whole.len() {
            assert!(!is_complete(&whole[..cut]), "cut after {cut} bytes");
        }
    }
}
