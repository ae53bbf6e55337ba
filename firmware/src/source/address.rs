//! The parts of a source's URI, and how it is shown.

use std::ops::RangeInclusive;
use std::path::Path;

use hoi_runtime::geometry::Size;

use super::OpenError;

/// Schemes that take user and password.
const NETWORK: [&str; 3] = ["rtsp", "http", "https"];

/// Schemes whose URIs have no host.
const LOCAL: [&str; 4] = ["file", "v4l2", "csi", "test"];

/// The beginning of what follows `://`: user, password, host and port.
fn authority(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

/// `user:password` of a URI.
pub(super) fn userinfo(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    authority(rest).rsplit_once('@').map(|(userinfo, _)| userinfo)
}

/// Whether a `@` in what follows `://` may end a password in which `/`, `?` or `#` stands as it is. Those end the host for every reader of
/// URIs: `anna:12/34@cam` has the host `anna` and the port 12.
pub(super) fn has_broken_password(rest: &str) -> bool {
    rest.rfind('@').is_some_and(|at| at >= authority(rest).len() && rest[..at].contains(':'))
}

/// How a URI is shown: without `user:password@`, and without all that may be part of a [broken password](has_broken_password).
pub(super) fn without_credentials(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let broken = !LOCAL.contains(&scheme) && has_broken_password(rest);
    let at = if broken { rest.rfind('@') } else { authority(rest).rfind('@') };
    format!("{scheme}://{}", &rest[at.map_or(0, |at| at + 1)..])
}

/// How a URI is shown that may be wrong in any way: [`without_credentials`], also where its `://` is missing or mistyped.
pub(crate) fn shown(uri: &str) -> String {
    match uri.split_once("://") {
        Some((scheme, _)) if !scheme.contains(['/', ':', '@']) => without_credentials(uri),
        _ => match uri.rfind('@').filter(|&at| uri[..at].contains(':')) {
            Some(at) => uri[at + 1..].to_owned(),
            None => uri.to_owned(),
        },
    }
}

/// Refuses a path that is rather a URI with a slip before its address: `rtsp:/cam`, or `anna:secret@cam` where no file is called so.
pub(super) fn refuse_slip(path: &str) -> Result<(), OpenError> {
    let scheme = path.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    if let Some(scheme) = scheme.filter(|scheme| NETWORK.contains(&scheme.as_str())) {
        let needed = format!("`{scheme}://` before the camera's address, as in {scheme}://192.168.1.20/stream,");
        return Err(OpenError::Address { uri: format!("{scheme}:..."), needed });
    }
    let shown = shown(path);
    if shown != path && !Path::new(path).exists() {
        let needed = "a file that there is, or a scheme, as in rtsp://user:password@192.168.1.20/stream,".to_owned();
        return Err(OpenError::Address { uri: shown, needed });
    }
    Ok(())
}

/// Words of a program with every URI in them shown [`without_credentials`].
pub(super) fn scrubbed(words: &str) -> String {
    let mut shown = String::with_capacity(words.len());
    for token in words.split_inclusive([' ', '\t', '\'', '"', '[', ']', '<', '>']) {
        shown.push_str(&without_credentials(token));
    }
    shown
}

/// The known name that is nearest to `name`, where it can be a slip: at most two keys, and less than half of the word.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|&candidate| (strsim::osa_distance(name, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 2 && 2 * distance < candidate.len().max(name.len()))
        .map(|(_, candidate)| candidate)
}

/// `key=value&key=value` of a URI, each key known and given once.
#[derive(Debug)]
pub(super) struct Options<'a> {
    uri: String,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    /// Reads the options of `uri`, which may be any of `known`.
    pub(super) fn parse(uri: &str, text: &'a str, known: &[&'static str]) -> Result<Self, OpenError> {
        let uri = without_credentials(uri);
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (option, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&option) {
                let known_words = match known {
                    [] => "this kind of source has none".to_owned(),
                    _ => format!("there are: {}", known.join(", ")),
                };
                let (option, nearest) = (option.to_owned(), nearest(option, known));
                return Err(OpenError::UnknownOption { uri, option, nearest, known: known_words });
            }
            if pairs.iter().any(|&(earlier, _)| earlier == option) {
                let needed = "each option once".to_owned();
                return Err(OpenError::OptionValue { uri, option: option.to_owned(), value: value.to_owned(), needed });
            }
            pairs.push((option, value));
        }
        Ok(Self { uri, pairs })
    }

    fn get(&self, option: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(name, _)| *name == option).map(|&(_, value)| value)
    }

    fn unfit(&self, option: &str, value: &str, needed: String) -> OpenError {
        OpenError::OptionValue { uri: self.uri.clone(), option: option.to_owned(), value: value.to_owned(), needed }
    }

    /// A picture's size, `640x480`, with at most `most_pixels` pixels.
    pub(super) fn size(&self, option: &str, most_pixels: u64) -> Result<Option<Size>, OpenError> {
        let Some(value) = self.get(option) else { return Ok(None) };
        let sides = value.split_once('x').and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
        match sides {
            Some((width, height))
                if (16..=16_384).contains(&width)
                    && (16..=16_384).contains(&height)
                    && u64::from(width) * u64::from(height) <= most_pixels =>
            {
                Ok(Some(Size::new(width, height)))
            }
            _ => {
                let needed = format!("a size such as 640x480, from 16x16 to {most_pixels} pixels in all,");
                Err(self.unfit(option, value, needed))
            }
        }
    }

    /// A whole number in `range`.
    pub(super) fn number(&self, option: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, OpenError> {
        let Some(value) = self.get(option) else { return Ok(None) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let needed = format!("a whole number from {} to {}", range.start(), range.end());
                Err(self.unfit(option, value, needed))
            }
        }
    }

    /// Frames a second.
    pub(super) fn rate(&self) -> Result<Option<u64>, OpenError> {
        self.number("rate", 1..=240)
    }

    /// One of `words`.
    pub(super) fn one_of(&self, option: &str, words: &[&'static str]) -> Result<Option<&'static str>, OpenError> {
        let Some(value) = self.get(option) else { return Ok(None) };
        match words.iter().find(|&&word| word == value) {
            Some(&word) => Ok(Some(word)),
            None => Err(self.unfit(option, value, format!("one of {}", words.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_are_never_shown() {
        for (uri, shown) in [
            ("rtsp://anna:secret@cam:554/live?a=1", "rtsp://cam:554/live?a=1"),
            ("rtsp://anna@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:s@cret@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:se/cret@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:12/34@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:1234#x@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:12?3@4@cam/live", "rtsp://cam/live"),
            ("rtsp://anna@home:12/34@cam/live", "rtsp://cam/live"),
            ("rtsp://anna:pa@s/s@cam/live", "rtsp://cam/live"),
            ("rtsp://an#na:secret@cam", "rtsp://cam"),
            ("http://cam/@home/live", "http://cam/@home/live"),
            ("http://cam", "http://cam"),
            ("file:///10:30/me@home.jpg", "file:///10:30/me@home.jpg"),
            ("a@b.jpg", "a@b.jpg"),
        ] {
            assert_eq!(without_credentials(uri), shown, "{uri}");
            assert_eq!(super::shown(uri), shown, "{uri}");
        }
        for (slip, shown) in [
            ("rtsp:/anna:secret@cam/live", "cam/live"),
            ("rtsp//anna:secret@cam/live", "cam/live"),
            ("anna:secret@cam/live", "cam/live"),
            ("rtps:/anna:secret@cam/?to=http://x", "cam/?to=http://x"),
        ] {
            assert_eq!(super::shown(slip), shown, "{slip}");
        }
        let words = "[rtsp @ 0x1] 'rtsp://anna:secret@cam/live': refused, see http://u:p@cam";
        assert_eq!(scrubbed(words), "[rtsp @ 0x1] 'rtsp://cam/live': refused, see http://cam");
    }

    #[test]
    fn user_and_password_stand_before_the_last_at_of_the_authority() {
        assert_eq!(userinfo("rtsp://anna:se'cret@cam/a@b"), Some("anna:se'cret"));
        assert_eq!(userinfo("rtsp://a@b:c@cam"), Some("a@b:c"));
        assert_eq!(userinfo("rtsp://cam/a@b"), None);
        assert_eq!(userinfo("/dev/video0"), None);
    }

    #[test]
    fn a_slip_in_the_scheme_is_no_path() {
        for (slip, says) in [
            ("rtsp:/anna:secret@cam", "rtsp://192.168.1.20/stream"),
            ("RTSP:anna:secret@cam", "rtsp://192.168.1.20/stream"),
            ("http:/cam", "http://192.168.1.20/stream"),
            ("rtps:/anna:secret@cam", "a scheme, as in rtsp://"),
            ("anna:secret@cam", "a scheme, as in rtsp://"),
        ] {
            let error = refuse_slip(slip).unwrap_err();
            let text = error.to_string();
            assert!(error.is_usage() && text.contains(says) && !text.contains("secret"), "{slip}: {text}");
        }
        for path in ["photos/me@home.jpg", "10:30.jpg", "https.jpg"] {
            assert!(refuse_slip(path).is_ok(), "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10:30@home.jpg");
        std::fs::write(&path, "").unwrap();
        assert!(refuse_slip(path.to_str().unwrap()).is_ok());
    }

    #[test]
    fn an_unknown_option_names_the_nearest_one() {
        let error = Options::parse("v4l2:///dev/video0?siez=1x1", "siez=1x1", &["size", "rate"]).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("unknown option `siez` (`size`?); there are: size, rate"), "{error}");
        let error = Options::parse("x://", "colour=red", &["size", "rate"]).unwrap_err().to_string();
        assert!(!error.contains('?') && error.contains("size, rate"), "{error}");
        let error = Options::parse("x://", "a=1", &[]).unwrap_err().to_string();
        assert!(error.contains("has none"), "{error}");
    }

    #[test]
    fn values_are_taken_within_their_bounds() {
        let options = |text| Options::parse("x://", text, &["size", "rate", "kind"]).unwrap();
        assert_eq!(options("size=640x480").size("size", 1 << 20).unwrap(), Some(Size::new(640, 480)));
        assert_eq!(options("rate=15&size=16x16").rate().unwrap(), Some(15));
        assert_eq!(options("").rate().unwrap(), None);
        assert_eq!(options("kind=b").one_of("kind", &["a", "b"]).unwrap(), Some("b"));
        for bad in ["size", "size=640", "size=x", "size=0x480", "size=-1x3", "size=8000x8000", "size=99999999999x16"] {
            let error = options(bad).size("size", 1 << 20).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("640x480"), "{error}");
        }
        for bad in ["rate=0", "rate=241", "rate=1.5", "rate="] {
            assert!(options(bad).rate().unwrap_err().to_string().contains("from 1 to 240"), "{bad}");
        }
        assert!(options("kind=c").one_of("kind", &["a", "b"]).unwrap_err().to_string().contains("one of a, b"));
        assert!(Options::parse("x://", "rate=1&rate=2", &["rate"]).unwrap_err().to_string().contains("once"));
    }
}
