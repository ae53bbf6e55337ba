//! The screen without a picture, in white on black: 128 x 64 pixels of an OLED, or any other size that is too small for a picture.
//!
//! One line of state, a rule, and below as many triplets as fit, one a line.

use embedded_graphics::mono_font::iso_8859_1::FONT_5X8;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::text::{self, Face};
use super::{Scene, State, nothing_said};

const FACE: Face = Face::new(&FONT_5X8, 1);
const INK: Rgb565 = Rgb565::WHITE;
/// Row of the rule below the state.
const RULE: u32 = 9;
/// First row of the text, and rows from one line to the next.
const TEXT: u32 = 11;
const PITCH: u32 = 9;
/// Column of the first letters; the letters have no blank column of their own on the left.
const LEFT: u32 = 1;

/// Draws `scene` on the whole of `target`, which nothing else has painted.
pub(super) fn draw<D: DrawTarget<Color = Rgb565>>(target: &mut D, scene: &Scene<'_>) -> Result<(), D::Error> {
    target.clear(Rgb565::BLACK)?;
    let screen = target.bounding_box();
    let Size { width, height } = screen.size;
    let at = |x: u32, y: u32| screen.top_left + Point::new(x as i32, y as i32);
    let columns = FACE.columns(width.saturating_sub(LEFT));
    let dropped = format!("drop {}", text::short_count(scene.dropped));
    let dropped = text::fit(&dropped, columns);
    let room = columns.saturating_sub(dropped.chars().count() + 1);
    FACE.line(target, at(LEFT, 0), INK, &scene.status(room, " "))?;
    FACE.line(target, at(width.saturating_sub(FACE.width(&dropped)), 0), INK, &dropped)?;
    target.fill_solid(&Rectangle::new(at(0, RULE), Size::new(width, 1)), INK)?;

    let rows = (height + 1).saturating_sub(TEXT) / PITCH;
    let lines = match &scene.state {
        State::Running if scene.triplets.is_empty() => text::wrap(&nothing_said(scene), columns, rows as usize),
        State::Running => {
            for (i, triplet) in scene.triplets.iter().take(rows as usize).enumerate() {
                let y = TEXT + i as u32 * PITCH;
                let score = text::fit(&format!("{:.2}", triplet.score), columns);
                let score_x = width.saturating_sub(FACE.width(&score));
                let room = FACE.columns(score_x.saturating_sub(LEFT + 2));
                let said = match &triplet.object_name {
                    Some(object) => {
                        let (verb, object) = text::fit_pair(&triplet.verb, object, room);
                        format!("{verb} {object}")
                    }
                    None => text::fit(&triplet.verb, room),
                };
                FACE.line(target, at(LEFT, y), INK, &said)?;
                FACE.line(target, at(score_x, y), INK, &score)?;
            }
            return Ok(());
        }
        state => text::wrap(state.message(), columns, rows as usize),
    };
    for (i, line) in lines.iter().enumerate() {
        FACE.line(target, at(LEFT, TEXT + i as u32 * PITCH), INK, line)?;
    }
    Ok(())
}
