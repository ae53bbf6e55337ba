//! Which part of a colour screen holds what, and in which letters.

use embedded_graphics::mono_font::iso_8859_1::{FONT_5X8, FONT_6X10, FONT_7X13_BOLD, FONT_9X15_BOLD, FONT_10X20};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

use super::TRIPLETS;
use super::text::Face;

/// Triplets in the bar below the picture.
const BAR_TRIPLETS: u32 = 3;
/// Width in cells of the panel beside the picture, where there is one.
const PANEL_COLUMNS: u32 = 24;

/// The parts of a screen; together they cover it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    /// Pixels of a line's width, of gaps and of marks: 1 on small screens.
    pub(super) unit: u32,
    pub(super) status_face: Face,
    pub(super) text_face: Face,
    pub(super) title_face: Face,
    /// The bar on top.
    pub(super) status: Rectangle,
    pub(super) picture: Rectangle,
    /// Below the picture, or on its right.
    pub(super) triplets: Rectangle,
    /// Everything but the bar on top: room for messages.
    pub(super) below: Rectangle,
    /// From one line of text to the next.
    pub(super) line_height: u32,
    /// Whether the triplets stand on the right, two lines each.
    pub(super) beside: bool,
    /// How many triplets fit.
    pub(super) shown: usize,
}

impl Layout {
    pub(super) fn new(screen: Rectangle) -> Self {
        let Size { width, height } = screen.size;
        let unit = (width / 640).min(height / 360).max(1);
        let large = width >= 480 * unit && height >= 320 * unit;
        let roomy = width >= 160 && height >= 160;
        let (status, text, title) = match (large, roomy) {
            (true, _) => (&FONT_9X15_BOLD, &FONT_10X20, Face::new(&FONT_10X20, 2 * unit)),
            (false, true) => (&FONT_6X10, &FONT_7X13_BOLD, Face::new(&FONT_9X15_BOLD, unit)),
            (false, false) => (&FONT_5X8, &FONT_5X8, Face::new(&FONT_5X8, unit)),
        };
        let (status_face, text_face) = (Face::new(status, unit), Face::new(text, unit));
        let status_height = (status_face.height() + 4 * unit).min(height);
        let line_height = text_face.height() + 2 * unit;
        let part = |x: u32, y: u32, width: u32, height: u32| {
            Rectangle::new(screen.top_left + Point::new(x as i32, y as i32), Size::new(width, height))
        };
        let rest = height - status_height;
        let beside = large && 2 * width >= 3 * height;
        let (picture, triplets, shown) = if beside {
            let panel = (text_face.width("_") * PANEL_COLUMNS + 16 * unit).min(width * 2 / 5);
            let entry = 2 * line_height + 6 * unit;
            let picture = part(0, status_height, width - panel, rest);
            (picture, part(width - panel, status_height, panel, rest), (rest / entry).min(TRIPLETS as u32))
        } else {
            let bar = (line_height * BAR_TRIPLETS + unit).min(rest);
            let picture = part(0, status_height, width, rest - bar);
            (picture, part(0, status_height + rest - bar, width, bar), BAR_TRIPLETS)
        };
        Self {
            unit,
            status_face,
            text_face,
            title_face: title,
            status: part(0, 0, width, status_height),
            picture,
            triplets,
            below: part(0, status_height, width, rest),
            line_height,
            beside,
            shown: shown as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32, height: u32) -> Layout {
        Layout::new(Rectangle::new(Point::zero(), Size::new(width, height)))
    }

    fn area(x: i32, y: i32, width: u32, height: u32) -> Rectangle {
        Rectangle::new(Point::new(x, y), Size::new(width, height))
    }

    #[test]
    fn bands_of_the_small_screens_leave_a_4_to_3_picture_whole() {
        let square = of(240, 240);
        assert_eq!((square.picture, square.triplets), (area(0, 14, 240, 180), area(0, 194, 240, 46)));
        let wide = of(320, 240);
        assert_eq!((wide.picture, wide.triplets, wide.shown), (area(0, 14, 320, 180), area(0, 194, 320, 46), 3));
    }

    #[test]
    fn wide_screens_have_the_triplets_beside_the_picture() {
        let layout = of(800, 480);
        assert_eq!((layout.picture, layout.triplets), (area(0, 19, 544, 461), area(544, 19, 256, 461)));
        assert_eq!((layout.beside, layout.shown, layout.unit), (true, TRIPLETS, 1));
        assert!(!of(640, 480).beside);
        let full = of(1920, 1080);
        assert_eq!((full.unit, full.beside, full.status.size.height), (3, true, 57));
    }

    #[test]
    fn the_parts_cover_every_screen() {
        for (width, height) in
            [(120, 120), (160, 128), (240, 240), (320, 240), (480, 320), (640, 480), (1280, 720), (3840, 2160)]
        {
            let Layout { status, picture, triplets, below, .. } = of(width, height);
            let pixels = |part: Rectangle| part.size.width * part.size.height;
            assert_eq!(pixels(status) + pixels(picture) + pixels(triplets), width * height, "{width}x{height}");
            assert_eq!(pixels(status) + pixels(below), width * height, "{width}x{height}");
        }
    }
}
