//! The URI of a display: `KIND://PLACE?OPTION=VALUE&OPTION=VALUE`.

use std::fmt;
use std::str::FromStr;

use super::DisplayError;

/// The parts of a display's URI. Options are taken one by one; what is left in the end is an error.
#[derive(Debug)]
pub(super) struct DisplayUri<'a> {
    pub(super) whole: &'a str,
    pub(super) kind: &'a str,
    pub(super) place: &'a str,
    options: Vec<(&'a str, &'a str)>,
    /// Names that were asked for.
    known: Vec<&'static str>,
}

impl<'a> DisplayUri<'a> {
    /// Takes a URI apart.
    pub(super) fn parse(whole: &'a str) -> Result<Self, DisplayError> {
        let Some((kind, rest)) = whole.split_once("://") else {
            return Err(DisplayError::unsupported(whole));
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options: Vec<(&str, &str)> = Vec::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if options.iter().any(|(other, _)| *other == name) {
                return Err(DisplayError::BadOption {
                    uri: whole.to_owned(),
                    option: name.to_owned(),
                    reason: "is given twice".to_owned(),
                });
            }
            options.push((name, value));
        }
        Ok(Self { whole, kind, place, options, known: Vec::new() })
    }

    /// The value of option `name`, where it is given; `needed` says what it has to be: `a number from 0 to 3`.
    pub(super) fn take<T: FromStr>(&mut self, name: &'static str, needed: &str) -> Result<Option<T>, DisplayError> {
        self.take_with(name, |value| value.parse().map_err(|_| format!("is `{value}`: {needed} is needed")))
    }

    /// As [`take`](Self::take), with a parser that says itself what is wrong.
    pub(super) fn take_with<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, DisplayError> {
        self.known.push(name);
        let Some(at) = self.options.iter().position(|(other, _)| *other == name) else { return Ok(None) };
        let (_, value) = self.options.swap_remove(at);
        parse(value).map(Some).map_err(|reason| self.bad(name, reason))
    }

    /// The value of option `name`, one of `values`.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        values: &[(&str, T)],
    ) -> Result<Option<T>, DisplayError> {
        self.take_with(name, |given| {
            values.iter().find(|(value, _)| *value == given).map(|(_, meaning)| *meaning).ok_or_else(|| {
                let names: Vec<&str> = values.iter().map(|(value, _)| *value).collect();
                format!("is `{given}`: {} is needed", names.join(" or "))
            })
        })
    }

    /// An option that is missing or wrong.
    pub(super) fn bad(&self, option: &str, reason: impl fmt::Display) -> DisplayError {
        DisplayError::BadOption { uri: self.whole.to_owned(), option: option.to_owned(), reason: reason.to_string() }
    }

    /// The end: all options that were given must have been taken.
    pub(super) fn finish(self) -> Result<(), DisplayError> {
        let Some((given, _)) = self.options.first() else { return Ok(()) };
        let (uri, option, kind) = (self.whole.to_owned(), (*given).to_owned(), self.kind.to_owned());
        Err(DisplayError::UnknownOption { uri, option, kind, nearest: nearest(given, &self.known).to_owned() })
    }
}

/// The one of `names` that is nearest to `given`; there is at least one.
pub(super) fn nearest<'n>(given: &str, names: &[&'n str]) -> &'n str {
    let by_edits = names.iter().min_by_key(|name| strsim::damerau_levenshtein(given, name));
    by_edits.copied().unwrap_or_default()
}

/// Width and height: `320x240`, each from 1 to 8192.
pub(super) fn size(text: &str) -> Result<(u16, u16), String> {
    let side = |text: &str| text.parse::<u16>().ok().filter(|side| (1..=8192).contains(side));
    match text.split_once('x').map(|(width, height)| (side(width), side(height))) {
        Some((Some(width), Some(height))) => Ok((width, height)),
        _ => Err(format!("is `{text}`: WIDTHxHEIGHT in pixels, such as 320x240, is needed, each at most 8192")),
    }
}

/// A number, decimal or hexadecimal: `60`, `0x3c`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_hand() {
        let mut uri = DisplayUri::parse("st7789://spi0.0?dc=25&rotate=90").unwrap();
        assert_eq!((uri.kind, uri.place), ("st7789", "spi0.0"));
        assert_eq!(uri.take::<u32>("dc", "a number").unwrap(), Some(25));
        assert_eq!(uri.take::<u32>("reset", "a number").unwrap(), None);
        assert_eq!(uri.one_of("rotate", &[("0", 0), ("90", 1)]).unwrap(), Some(1));
        uri.finish().unwrap();
        let uri = DisplayUri::parse("png://a/b c.png").unwrap();
        assert_eq!((uri.kind, uri.place), ("png", "a/b c.png"));
    }

    #[test]
    fn wrong_options_are_said_with_what_is_right() {
        let mut uri = DisplayUri::parse("png://a.png?sice=1x1").unwrap();
        assert_eq!(uri.take_with("size", size).unwrap(), None);
        let error = uri.finish().unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("`sice`") && error.to_string().contains("`size`"), "{error}");
        let mut uri = DisplayUri::parse("png://a.png?size=1").unwrap();
        let error = uri.take_with("size", size).unwrap_err().to_string();
        assert!(error.contains("`size` is `1`") && error.contains("320x240"), "{error}");
        let mut uri = DisplayUri::parse("x://?rotate=45").unwrap();
        let error = uri.one_of("rotate", &[("0", 0), ("90", 1)]).unwrap_err().to_string();
        assert!(error.contains("0 or 90 is needed"), "{error}");
        assert!(DisplayUri::parse("png://a?size=1x1&size=2x2").unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn sizes_and_numbers_by_hand() {
        assert_eq!(size("320x240"), Ok((320, 240)));
        for text in ["", "320", "320x", "0x240", "320x-1", "320x240x2", "9000x10", "65536x1"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!((number("0x3c"), number("60"), number("0xzz"), number("")), (Some(60), Some(60), None, None));
    }
}
