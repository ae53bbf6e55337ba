//! Text that always fits its place: cut with an ellipsis or wrapped, in fonts of fixed width that can be magnified.

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

/// One cell that means "there was more"; the fonts have no such glyph, so three dots are drawn in its cell.
const ELLIPSIS: char = '\u{2026}';

/// A font, each of its pixels drawn as a square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Face {
    font: &'static MonoFont<'static>,
    /// Side of the square, at least 1.
    scale: u32,
}

impl Face {
    /// `font`, its pixels `scale` pixels wide and high.
    pub(super) const fn new(font: &'static MonoFont<'static>, scale: u32) -> Self {
        Self { font, scale }
    }

    /// Height of a line in pixels.
    pub(super) fn height(self) -> u32 {
        self.font.character_size.height * self.scale
    }

    /// Width of a cell in pixels.
    fn pitch(self) -> u32 {
        (self.font.character_size.width + self.font.character_spacing) * self.scale
    }

    /// How many cells fit into `width` pixels.
    pub(super) fn columns(self, width: u32) -> usize {
        (width / self.pitch().max(1)) as usize
    }

    /// Width of `text` in pixels.
    pub(super) fn width(self, text: &str) -> u32 {
        text.chars().count() as u32 * self.pitch()
    }

    /// Draws one line whose top left corner is `at`, and returns the x behind its last cell.
    pub(super) fn line<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        at: Point,
        colour: Rgb565,
        text: &str,
    ) -> Result<i32, D::Error> {
        let mut x = at.x;
        for (i, part) in text.split(ELLIPSIS).enumerate() {
            if i > 0 {
                self.ellipsis(target, Point::new(x, at.y), colour)?;
                x += self.pitch() as i32;
            }
            self.letters(target, Point::new(x, at.y), colour, part)?;
            x += self.width(part) as i32;
        }
        Ok(x)
    }

    /// Draws what the font has glyphs for.
    fn letters<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        at: Point,
        colour: Rgb565,
        text: &str,
    ) -> Result<(), D::Error> {
        let style = MonoTextStyle::new(self.font, colour);
        if self.scale == 1 {
            Text::with_baseline(text, at, style, Baseline::Top).draw(target)?;
        } else {
            let mut magnified = Magnified { target, at, scale: self.scale };
            Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut magnified)?;
        }
        Ok(())
    }

    /// Draws three dots on the baseline of the cell at `at`.
    fn ellipsis<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        at: Point,
        colour: Rgb565,
    ) -> Result<(), D::Error> {
        let dot = self.pitch() / 5;
        let bottom = at.y + ((self.font.baseline + 1) * self.scale) as i32;
        for i in [0, 2, 4] {
            let corner = Point::new(at.x + (i * dot) as i32, bottom - dot as i32);
            target.fill_solid(&Rectangle::new(corner, Size::new_equal(dot)), colour)?;
        }
        Ok(())
    }
}

/// A target on which each pixel is a square of `scale` pixels, beginning at `at`.
struct Magnified<'a, D> {
    target: &'a mut D,
    at: Point,
    scale: u32,
}

impl<D: DrawTarget<Color = Rgb565>> Dimensions for Magnified<'_, D> {
    fn bounding_box(&self) -> Rectangle {
        Rectangle::new(Point::zero(), self.target.bounding_box().size / self.scale.max(1))
    }
}

impl<D: DrawTarget<Color = Rgb565>> DrawTarget for Magnified<'_, D> {
    type Color = Rgb565;
    type Error = D::Error;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb565>>>(&mut self, pixels: I) -> Result<(), D::Error> {
        for Pixel(point, colour) in pixels {
            let square = Rectangle::new(self.at + point * self.scale as i32, Size::new_equal(self.scale));
            self.target.fill_solid(&square, colour)?;
        }
        Ok(())
    }
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

/// A verb and an object in at most `columns` cells, the blank between them included. Where they do not fit, the longer one is cut
/// first, and both only where both are longer than their half.
pub(super) fn fit_pair(verb: &str, object: &str, columns: usize) -> (String, String) {
    let (verb_cells, object_cells) = (verb.chars().count(), object.chars().count());
    let room = columns.saturating_sub(1);
    let for_verb = if verb_cells + object_cells <= room || verb_cells <= room / 2 {
        verb_cells
    } else if object_cells <= room - room / 2 {
        room - object_cells
    } else {
        room / 2
    };
    (fit(verb, for_verb), fit(object, room.saturating_sub(for_verb)))
}

/// The first `kept` letters of `text` and an ellipsis.
fn cut(text: &str, kept: usize) -> String {
    let cut: String = text.chars().map(printable).take(kept).collect();
    cut.trim_end().chars().chain([ELLIPSIS]).collect()
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// A count in few cells: 99999, 100k, 12M.
pub(super) fn short_count(count: u64) -> String {
    match count {
        0..100_000 => count.to_string(),
        100_000..10_000_000 => format!("{}k", count / 1000),
        10_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => ">999M".to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Canvas;
    use embedded_graphics::mono_font::iso_8859_1::FONT_5X8;

    fn pattern(canvas: &Canvas) -> Vec<String> {
        let size = canvas.size();
        (0..size.height as i32)
            .map(|y| {
                let lit = |x| canvas.pixel(Point::new(x, y)) != Some(Rgb565::BLACK);
                (0..size.width as i32).map(|x| if lit(x) { '#' } else { '.' }).collect()
            })
            .collect()
    }

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
    fn of_a_verb_and_an_object_the_longer_one_is_cut_first() {
        let of = |verb, object, columns| {
            let (verb, object) = fit_pair(verb, object, columns);
            format!("{verb} {object}")
        };
        assert_eq!(of("ride", "bicycle", 12), "ride bicycle");
        assert_eq!(of("ride", "bicycle", 10), "ride bicy\u{2026}");
        assert_eq!(of("have conversation about", "cup", 12), "have co\u{2026} cup");
        assert_eq!(of("hold", "sports ball of leather", 15), "hold sports ba\u{2026}");
        assert_eq!(of("have conversation about", "sports ball of leather", 13), "have\u{2026} sport\u{2026}");
        assert_eq!(of("ride", "bicycle", 2), " \u{2026}");
        assert_eq!(of("ride", "bicycle", 0), " ");
        for columns in 0..40 {
            let said = of("have conversation about", "sports ball of leather", columns);
            assert!(said.chars().count() <= columns.max(1), "{columns}: {said}");
        }
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
    fn counts_by_hand() {
        let cases = [(0, "0"), (99_999, "99999"), (100_000, "100k"), (12_345_678, "12M"), (u64::MAX, ">999M")];
        for (count, said) in cases {
            assert_eq!(short_count(count), said);
        }
    }

    #[test]
    fn an_ellipsis_is_three_dots_on_the_baseline() {
        let mut canvas = Canvas::new(11, 8);
        let end = Face::new(&FONT_5X8, 1).line(&mut canvas, Point::zero(), Rgb565::WHITE, "l\u{2026}").unwrap();
        assert_eq!(end, 10);
        assert_eq!(
            pattern(&canvas),
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

    #[test]
    fn an_ellipsis_may_stand_in_the_middle() {
        let face = Face::new(&FONT_5X8, 1);
        let (mut whole, mut parts) = (Canvas::new(40, 8), Canvas::new(40, 8));
        let end = face.line(&mut whole, Point::zero(), Rgb565::WHITE, "con\u{2026} cup").unwrap();
        let x = face.line(&mut parts, Point::zero(), Rgb565::WHITE, "con\u{2026}").unwrap();
        assert_eq!(face.line(&mut parts, Point::new(x, 0), Rgb565::WHITE, " cup").unwrap(), end);
        assert_eq!(pattern(&whole), pattern(&parts));
    }

    #[test]
    fn a_magnified_line_is_the_line_in_squares() {
        let (mut plain, mut large) = (Canvas::new(20, 9), Canvas::new(60, 27));
        Face::new(&FONT_5X8, 1).line(&mut plain, Point::new(1, 1), Rgb565::WHITE, "gl\u{2026}").unwrap();
        let end = Face::new(&FONT_5X8, 3).line(&mut large, Point::new(3, 3), Rgb565::WHITE, "gl\u{2026}").unwrap();
        assert_eq!(end, 3 * 16);
        let squares: Vec<String> = pattern(&plain)
            .iter()
            .flat_map(|row| vec![row.chars().flat_map(|c| [c; 3]).collect::<String>(); 3])
            .collect();
        assert_eq!(pattern(&large), squares);
    }
}
