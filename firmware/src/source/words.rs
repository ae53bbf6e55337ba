//! The last words of a program.

use super::address::scrubbed;

/// Characters of a line that are kept.
const MOST_CHARACTERS: usize = 300;

/// Bytes of a line that are looked at: 4 a character.
const MOST_BYTES: usize = 4 * MOST_CHARACTERS;

/// The last line of a program's standard error that is not blank, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    line: Vec<u8>,
    last: Vec<u8>,
}

impl LastWords {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < MOST_BYTES => self.line.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.trim_ascii().is_empty() {
            std::mem::swap(&mut self.line, &mut self.last);
        }
        self.line.clear();
    }

    /// The line, at most 300 characters, without control characters, users and passwords; `None` where nothing was said.
    pub(super) fn shown(&self) -> Option<String> {
        let line = if self.line.trim_ascii().is_empty() { &self.last } else { &self.line };
        let text = String::from_utf8_lossy(line.trim_ascii());
        let plain: String = text.chars().filter(|c| !c.is_control()).collect();
        let shown: String = scrubbed(&plain).chars().take(MOST_CHARACTERS).collect();
        (!shown.is_empty()).then_some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pieces: &[&str]) -> Option<String> {
        let mut words = LastWords::default();
        for piece in pieces {
            words.push(piece.as_bytes());
        }
        words.shown()
    }

    #[test]
    fn the_last_line_that_says_something_is_kept() {
        assert_eq!(after(&["first\nsec", "ond\n\n  \n"]).as_deref(), Some("second"));
        assert_eq!(after(&["first\r\nhalf"]).as_deref(), Some("half"));
        assert_eq!(after(&["", "\n"]), None);
        assert_eq!(after(&["\u{1b}[31mred\u{7}\n"]).as_deref(), Some("[31mred"));
        assert_eq!(after(&["rtsp://a:b@cam: refused"]).as_deref(), Some("rtsp://cam: refused"));
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut words = LastWords::default();
        for _ in 0..10_000 {
            words.push("é".repeat(100).as_bytes());
        }
        assert_eq!(words.line.len(), MOST_BYTES);
        assert_eq!(words.shown().unwrap().chars().count(), MOST_CHARACTERS);
        words.push(b"\nend\n");
        assert_eq!(words.shown().as_deref(), Some("end"));
    }
}
