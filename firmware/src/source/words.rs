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
    /// User and password that the program was given.
    userinfo: Option<String>,
}

impl LastWords {
    /// Of a program that knows `userinfo`, the `user:password` of a URI.
    pub(super) fn hiding(userinfo: Option<String>) -> Self {
        Self { userinfo, ..Self::default() }
    }

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
        let shown: String = scrubbed(&self.hide(plain)).chars().take(MOST_CHARACTERS).collect();
        (!shown.is_empty()).then_some(shown)
    }

    /// `text` without user and password, whatever signs they are made of.
    fn hide(&self, text: String) -> String {
        let Some(userinfo) = self.userinfo.as_deref().filter(|userinfo| !userinfo.is_empty()) else { return text };
        let text = text.replace(&format!("//{userinfo}@"), "//");
        // A user alone may be any word.
        if userinfo.split_once(':').is_some_and(|(_, password)| !password.is_empty()) {
            text.replace(userinfo, "...")
        } else {
            text
        }
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
    fn user_and_password_that_are_known_are_hidden_whatever_they_are_made_of() {
        for userinfo in ["anna:se'cret", "anna:[se<cr>et]", "an na:\"se cret", "anna:", "anna", ":secret"] {
            let mut words = LastWords::hiding(Some(userinfo.to_owned()));
            words.push(format!("[rtsp @ 0x1] 'rtsp://{userinfo}@cam/live': refused\n").as_bytes());
            assert_eq!(words.shown().as_deref(), Some("[rtsp @ 0x1] 'rtsp://cam/live': refused"), "{userinfo}");
        }
        let mut words = LastWords::hiding(Some("anna:se'cret".to_owned()));
        words.push(b"cannot log in as anna:se'cret\n");
        assert_eq!(words.shown().as_deref(), Some("cannot log in as ..."));
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
