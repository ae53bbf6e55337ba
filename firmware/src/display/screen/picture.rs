//! The camera picture on the screen, with the boxes and links of its triplets.

use embedded_graphics::mono_font::iso_8859_1::FONT_5X8;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, PrimitiveStyle, PrimitiveStyleBuilder, Rectangle, StrokeAlignment};
use hoi_runtime::geometry::{BBox, Size as PictureSize};
use image::RgbImage;
use image::imageops::{self, FilterType};

use super::text::Face;
use super::{HUMAN, OBJECT, SceneTriplet};

/// Letters of the ranks on small screens.
pub(super) const SMALL: Face = Face::new(&FONT_5X8, 1);

/// Where a picture lies on the screen: scaled by one factor, centred in its area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placement {
    picture: PictureSize,
    /// The part of the screen that the picture covers, at least one pixel.
    pub(super) on_screen: Rectangle,
}

impl Placement {
    /// The largest placement of a picture inside `area` that keeps its shape; `None` where either is empty.
    pub(super) fn new(picture: PictureSize, area: Rectangle) -> Option<Self> {
        if picture.width == 0 || picture.height == 0 || area.is_zero_sized() {
            return None;
        }
        let (w, h) = (f64::from(picture.width), f64::from(picture.height));
        let (area_w, area_h) = (f64::from(area.size.width), f64::from(area.size.height));
        let factor = (area_w / w).min(area_h / h);
        let size = Size::new(
            ((w * factor).round() as u32).clamp(1, area.size.width),
            ((h * factor).round() as u32).clamp(1, area.size.height),
        );
        let margin = area.size - size;
        let corner = area.top_left + Point::new(margin.width as i32 / 2, margin.height as i32 / 2);
        Some(Self { picture, on_screen: Rectangle::new(corner, size) })
    }

    /// A box in pixels of the picture as a rectangle on the screen, cut to the picture and at least 3 pixels wide and high where
    /// the screen has room; `None` for a box that is not finite or lies outside.
    pub(super) fn rectangle(&self, box_in_image: BBox) -> Option<Rectangle> {
        if !box_in_image.is_finite() {
            return None;
        }
        let inside = box_in_image.clip(self.picture);
        if inside.width() <= 0.0 || inside.height() <= 0.0 {
            return None;
        }
        let span = |low: f32, high: f32, picture: u32, screen: u32| {
            let factor = screen as f32 / picture as f32;
            let length = (((high - low) * factor).round() as u32).clamp(3.min(screen), screen);
            let start = ((low * factor).round() as u32).min(screen - length);
            (start as i32, length)
        };
        let (x, width) = span(inside.x1, inside.x2, self.picture.width, self.on_screen.size.width);
        let (y, height) = span(inside.y1, inside.y2, self.picture.height, self.on_screen.size.height);
        Some(Rectangle::new(self.on_screen.top_left + Point::new(x, y), Size::new(width, height)))
    }
}

/// Draws the picture itself.
pub(super) fn draw_picture<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    picture: &RgbImage,
    place: &Placement,
) -> Result<(), D::Error> {
    let size = place.on_screen.size;
    let small = if picture.width() >= size.width && picture.height() >= size.height {
        imageops::thumbnail(picture, size.width, size.height)
    } else {
        imageops::resize(picture, size.width, size.height, FilterType::Triangle)
    };
    // 8 to 5 and 6 bits, rounded to the nearest.
    let bits = |v: u8, top: u32| ((u32::from(v) * top + 127) / 255) as u8;
    let colours = small.pixels().map(|p| Rgb565::new(bits(p.0[0], 31), bits(p.0[1], 63), bits(p.0[2], 31)));
    target.fill_contiguous(&place.on_screen, colours)
}

/// Draws boxes and links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    /// Pixels of the thinnest line.
    unit: u32,
    /// Letters of the ranks.
    face: Face,
}

impl Pen {
    pub(super) fn new(unit: u32, face: Face) -> Self {
        Self { unit, face }
    }

    /// Draws the boxes of people without an interaction.
    pub(super) fn draw_people<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        place: &Placement,
        people: &[BBox],
    ) -> Result<(), D::Error> {
        let mut target = target.clipped(&place.on_screen);
        for person in people {
            if let Some(rectangle) = place.rectangle(*person) {
                self.draw_box(&mut target, rectangle, HUMAN)?;
            }
        }
        Ok(())
    }

    /// Draws boxes and links of `triplets`, best first. Triplets of one pair of boxes share them; where there is more than one
    /// pair, each link carries the ranks (from 1) of its triplets, nearer to its human: of two people who do something to each
    /// other both links stay readable.
    pub(super) fn draw_triplets<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        place: &Placement,
        triplets: &[SceneTriplet],
    ) -> Result<(), D::Error> {
        let mut pairs: Vec<(Rectangle, Option<Rectangle>, String)> = Vec::new();
        for (i, triplet) in triplets.iter().enumerate() {
            let Some(human) = place.rectangle(triplet.human) else { continue };
            let object = triplet.object.and_then(|o| place.rectangle(o));
            let rank = (i + 1).to_string();
            match pairs.iter_mut().find(|(h, o, _)| *h == human && *o == object) {
                Some((_, _, ranks)) => {
                    ranks.push(' ');
                    ranks.push_str(&rank);
                }
                None => pairs.push((human, object, rank)),
            }
        }
        let mut target = target.clipped(&place.on_screen);
        // The best lies on top.
        for (human, object, _) in pairs.iter().rev() {
            if let Some(object) = object {
                self.draw_box(&mut target, *object, OBJECT)?;
            }
            self.draw_box(&mut target, *human, HUMAN)?;
        }
        for (human, object, _) in pairs.iter().rev() {
            if let Some(object) = object {
                self.draw_link(&mut target, human.center(), object.center())?;
            }
        }
        if pairs.len() > 1 {
            let mut taken: Vec<Rectangle> = Vec::new();
            for (human, object, ranks) in &pairs {
                let to_object = object.map_or(Point::zero(), |object| object.center() - human.center());
                let badge = self.badge(&place.on_screen, human.center() + to_object * 3 / 10, ranks, &taken);
                target.fill_solid(&badge, Rgb565::BLACK)?;
                let at = badge.top_left + Point::new(2, 1) * self.unit as i32;
                self.face.line(&mut target, at, Rgb565::WHITE, ranks)?;
                taken.push(badge);
            }
        }
        Ok(())
    }

    fn draw_box<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        area: Rectangle,
        colour: Rgb565,
    ) -> Result<(), D::Error> {
        let stroke = |width, colour| {
            PrimitiveStyleBuilder::new()
                .stroke_color(colour)
                .stroke_width(width * self.unit)
                .stroke_alignment(StrokeAlignment::Inside)
                .build()
        };
        // A dark rim keeps the colour readable on a bright photo.
        area.into_styled(stroke(3, Rgb565::BLACK)).draw(target)?;
        area.into_styled(stroke(2, colour)).draw(target)
    }

    fn draw_link<D: DrawTarget<Color = Rgb565>>(
        self,
        target: &mut D,
        human: Point,
        object: Point,
    ) -> Result<(), D::Error> {
        let link = Line::new(human, object);
        link.into_styled(PrimitiveStyle::with_stroke(Rgb565::BLACK, 3 * self.unit)).draw(target)?;
        link.into_styled(PrimitiveStyle::with_stroke(Rgb565::WHITE, self.unit)).draw(target)?;
        for (end, colour) in [(human, HUMAN), (object, OBJECT)] {
            for (diameter, colour) in [(7, Rgb565::BLACK), (5, colour)] {
                let dot = Circle::with_center(end, diameter * self.unit);
                dot.into_styled(PrimitiveStyle::with_fill(colour)).draw(target)?;
            }
        }
        Ok(())
    }

    /// Where `ranks` are written: around `middle`, inside the picture, and above or below the badges that are `taken`.
    fn badge(self, inside: &Rectangle, middle: Point, ranks: &str, taken: &[Rectangle]) -> Rectangle {
        let size = Size::new(self.face.width(ranks) + 3 * self.unit, self.face.height() + 2 * self.unit);
        let last = inside.top_left + (inside.size.saturating_sub(size));
        let step = (size.height + self.unit) as i32;
        let at = |shift: i32| {
            let mut badge = Rectangle::with_center(middle + Point::new(0, shift * step), size);
            badge.top_left = badge.top_left.component_min(last).component_max(inside.top_left);
            badge
        };
        let free = |badge: &Rectangle| taken.iter().all(|other| badge.intersection(other).is_zero_sized());
        let places = taken.len() as i32 + 1;
        (0..=2 * places).map(|i| at(if i % 2 == 0 { -i / 2 } else { i / 2 + 1 })).find(free).unwrap_or(at(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(width: u32, height: u32) -> Rectangle {
        Rectangle::new(Point::new(0, 10), Size::new(width, height))
    }

    #[test]
    fn placements_by_hand() {
        let cases = [
            ((640, 480), (0, 10, 240, 180)),
            ((480, 640), (52, 10, 135, 180)),
            ((1, 1), (30, 10, 180, 180)),
            ((10_000, 1), (0, 99, 240, 1)),
            ((1, 60_000), (119, 10, 1, 180)),
        ];
        for ((w, h), (x, y, width, height)) in cases {
            let place = Placement::new(PictureSize::new(w, h), area(240, 180)).unwrap();
            assert_eq!(place.on_screen, Rectangle::new(Point::new(x, y), Size::new(width, height)), "{w}x{h}");
        }
        assert_eq!(Placement::new(PictureSize::new(0, 5), area(240, 180)), None);
        assert_eq!(Placement::new(PictureSize::new(5, 5), area(240, 0)), None);
    }

    #[test]
    fn boxes_by_hand() {
        let place = Placement::new(PictureSize::new(640, 480), area(240, 180)).unwrap();
        let cases = [
            ([0., 0., 640., 480.], Some((0, 10, 240, 180))),
            ([64., 48., 320., 240.], Some((24, 28, 96, 72))),
            ([-1e9, -1e9, 1e9, 1e9], Some((0, 10, 240, 180))),
            // Thin boxes stay visible, also at the right and lower edge.
            ([639., 479., 640., 480.], Some((237, 187, 3, 3))),
            ([700., 0., 800., 10.], None),
            ([10., 10., 10., 20.], None),
            ([20., 20., 10., 10.], None),
            ([f32::NAN, 0., 10., 10.], None),
            ([0., 0., f32::INFINITY, 10.], None),
        ];
        for (edges, want) in cases {
            let want = want.map(|(x, y, w, h)| Rectangle::new(Point::new(x, y), Size::new(w, h)));
            assert_eq!(place.rectangle(BBox::from(edges)), want, "{edges:?}");
        }
        let line = Placement::new(PictureSize::new(10_000, 1), area(240, 180)).unwrap();
        assert_eq!(line.rectangle(BBox::new(0., 0., 10_000., 1.)), Some(line.on_screen));
    }

    #[test]
    fn badges_do_not_hide_each_other() {
        let pen = Pen::new(1, SMALL);
        let inside = Rectangle::new(Point::new(0, 14), Size::new(240, 180));
        let mut taken = Vec::new();
        for ranks in ["1 2", "3", "4", "5"] {
            let badge = pen.badge(&inside, Point::new(100, 100), ranks, &taken);
            assert!(taken.iter().all(|other: &Rectangle| badge.intersection(other).is_zero_sized()), "{ranks}");
            taken.push(badge);
        }
        assert_eq!(taken[0].center(), Rectangle::with_center(Point::new(100, 100), taken[0].size).center());
        // In a corner they stay inside.
        let corner = pen.badge(&inside, Point::new(239, 193), "1 2 3", &[]);
        assert_eq!(corner.bottom_right(), inside.bottom_right());
    }
}
