//! Text that always fits its place: cut with an ellipsis or wrapped, on a bar of background colour.

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

/// One cell that means "there was more"; the fonts have no such glyph, so three dots are drawn in its cell.
const ELLIPSIS: char = '\u{2026}';

/// How many cells of `font` fit into `width` pixels.
pub(super) fn columns(font: &MonoFont, width: u32) -> usize {
    let pitch = font.character_size.width + font.character_spacing;
    (width / pitch.max(1)) as usize
}

/// Width in pixels of `text` in `font`.
pub(super) fn width(font: &MonoFont, text: &str) -> u32 {
    text.chars().count() as u32 * (font.character_size.width + font.character_spacing)
}

/// `text` in at most `columns` cells: whole, or its beginning and an ellipsis. Control characters become blanks.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.chars().map(printable).collect();
    }
    match columns {
        0 => String::new(),
        _ => cut(text, columns - 1),
    }
}

/// The first `kept` letters of `text` and an ellipsis.
fn cut(text: &str, kept: usize) -> String {
    let cut: String = text.chars().map(printable).take(kept).collect();
    cut.trim_end().chars().chain([ELLIPSIS]).collect()
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// `text` in at most `rows` lines of at most `columns` cells, broken at blanks, and inside a word only where it is longer
/// than a line. What does not fit is left out, and an ellipsis ends the last line.
pub(super) fn wrap(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    if columns == 0 || rows == 0 {
        return lines;
    }
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        let used = lines.last().map(|l| l.chars().count());
        let length = word.chars().count();
        match (used, lines.last_mut()) {
            (Some(used), Some(line)) if used + 1 + length <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => {
                let letters: Vec<char> = word.chars().collect();
                lines.extend(letters.chunks(columns).map(|part| part.iter().collect::<String>()));
            }
        }
        if lines.len() > rows {
            lines.truncate(rows);
            if let Some(last) = lines.last_mut() {
                *last = cut(last, columns - 1);
            }
            break;
        }
    }
    lines
}

/// Draws one line whose top left corner is `at`, and returns the x behind its last cell.
pub(super) fn line<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    font: &MonoFont,
    at: Point,
    colour: Rgb565,
    text: &str,
) -> Result<i32, D::Error> {
    let (body, more) = match text.strip_suffix(ELLIPSIS) {
        Some(body) => (body, true),
        None => (text, false),
    };
    let style = MonoTextStyle::new(font, colour);
    Text::with_baseline(body, at, style, Baseline::Top).draw(target)?;
    let mut x = at.x + width(font, body) as i32;
    if more {
        let bottom = at.y + font.baseline as i32;
        for dot in [0, 2, 4] {
            target.fill_solid(&Rectangle::new(Point::new(x + dot, bottom), Size::new(1, 1)), colour)?;
        }
        x += width(font, "_") as i32;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Canvas;
    use embedded_graphics::mono_font::iso_8859_1::FONT_5X8;

    #[test]
    fn fits_by_hand() {
        assert_eq!(fit("ride bicycle", 12), "ride bicycle");
        assert_eq!(fit("ride bicycle", 11), "ride bicyc\u{2026}");
        assert_eq!(fit("ride bicycle", 6), "ride\u{2026}");
        assert_eq!(fit("ride", 1), "\u{2026}");
        assert_eq!(fit("ride", 0), "");
        assert_eq!(fit("", 0), "");
        assert_eq!(fit("a\nb\u{7}", 9), "a b ");
        assert_eq!(fit("\u{e9}t\u{e9}", 3), "\u{e9}t\u{e9}");
    }

    #[test]
    fn wraps_by_hand() {
        assert_eq!(wrap("no such file", 7, 3), ["no such", "file"]);
        assert_eq!(wrap("a /very/long/path b", 6, 9), ["a", "/very/", "long/p", "ath b"]);
        assert_eq!(wrap("one two three four", 5, 2), ["one", "two\u{2026}"]);
        assert_eq!(wrap("abcdefgh", 3, 2), ["abc", "de\u{2026}"]);
        assert_eq!(wrap("one\ntwo", 20, 2), ["one two"]);
        assert!(wrap("one", 0, 2).is_empty() && wrap("one", 3, 0).is_empty() && wrap(" ", 3, 3).is_empty());
    }

    #[test]
    fn an_ellipsis_is_three_dots_on_the_baseline() {
        let mut canvas = Canvas::new(11, 8);
        let end = line(&mut canvas, &FONT_5X8, Point::zero(), Rgb565::WHITE, "l\u{2026}").unwrap();
        assert_eq!(end, 10);
        let seen: Vec<String> = canvas
            .pixels()
            .chunks(11)
            .map(|row| row.iter().map(|&c| if c == Rgb565::BLACK { '.' } else { '#' }).collect())
            .collect();
        assert_eq!(
            seen,
            [
                "...........",
                ".##........",
                "..#........",
                "..#........",
                "..#........",
                "..#........",
                ".###.#.#.#.",
                "...........",
            ]
        );
    }
}
