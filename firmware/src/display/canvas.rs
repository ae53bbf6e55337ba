//! A picture in memory that embedded-graphics draws on.

use std::convert::Infallible;

use embedded_graphics::pixelcolor::{Rgb565, Rgb888};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use image::RgbImage;

/// Pixels of a whole screen, RGB 5-6-5 as small colour displays hold them, rows from the top.
///
/// Everything is drawn here first and moved to the display in one go, so that a display never shows a half-drawn frame.
/// What is drawn outside is cut off.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    size: Size,
    /// `[height * width]`.
    pixels: Vec<Rgb565>,
}

impl Canvas {
    /// A black canvas of `width` x `height` pixels.
    pub fn new(width: u16, height: u16) -> Self {
        let size = Size::new(width.into(), height.into());
        Self { size, pixels: vec![Rgb565::BLACK; usize::from(width) * usize::from(height)] }
    }

    /// The pixels, `[height * width]`, row by row.
    pub fn pixels(&self) -> &[Rgb565] {
        &self.pixels
    }

    /// The pixel at `point`, `None` outside.
    pub fn pixel(&self, point: Point) -> Option<Rgb565> {
        self.index(point).map(|i| self.pixels[i])
    }

    /// The rows from `top` to before `bottom`, `[(bottom - top) * width]`; what lies outside is left out.
    pub(super) fn rows(&self, top: u32, bottom: u32) -> impl Iterator<Item = &[Rgb565]> {
        let (from, to) = (top.min(bottom) as usize, bottom as usize);
        self.pixels.chunks_exact((self.size.width as usize).max(1)).take(to).skip(from)
    }

    /// The parts that differ from `other`: runs of changed rows, each as wide as its outermost changed pixels. Canvases of
    /// different sizes differ everywhere.
    pub fn changes_since(&self, other: &Self) -> Vec<Rectangle> {
        if self.size != other.size {
            return vec![self.bounding_box()];
        }
        let mut areas = Vec::new();
        // Top row, first and last changed column of the run that is open.
        let mut run: Option<(usize, usize, usize)> = None;
        let (rows, others) = (self.rows(0, self.size.height), other.rows(0, self.size.height));
        let mut close = |run: &mut Option<(usize, usize, usize)>, bottom: usize| {
            if let Some((top, first, last)) = run.take() {
                let size = Size::new((last + 1 - first) as u32, (bottom - top) as u32);
                areas.push(Rectangle::new(Point::new(first as i32, top as i32), size));
            }
        };
        for (y, (row, other)) in rows.zip(others).enumerate() {
            let differs = |(a, b): (&Rgb565, &Rgb565)| a != b;
            match row.iter().zip(other).position(differs) {
                Some(first) => {
                    let last = row.iter().zip(other).rposition(differs).unwrap_or(first);
                    let (top, left, right) = run.unwrap_or((y, first, last));
                    run = Some((top, left.min(first), right.max(last)));
                }
                None => close(&mut run, y),
            }
        }
        close(&mut run, self.size.height as usize);
        areas
    }

    /// The same picture with 8 bits a channel.
    pub fn to_rgb(&self) -> RgbImage {
        let mut picture = RgbImage::new(self.size.width, self.size.height);
        for (to, from) in picture.pixels_mut().zip(&self.pixels) {
            let colour = Rgb888::from(*from);
            to.0 = [colour.r(), colour.g(), colour.b()];
        }
        picture
    }

    fn index(&self, point: Point) -> Option<usize> {
        let x = u32::try_from(point.x).ok().filter(|&x| x < self.size.width)?;
        let y = u32::try_from(point.y).ok().filter(|&y| y < self.size.height)?;
        Some((y * self.size.width + x) as usize)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb565;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb565>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(point, colour) in pixels {
            if let Some(i) = self.index(point) {
                self.pixels[i] = colour;
            }
        }
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Rgb565) -> Result<(), Infallible> {
        let area = area.intersection(&self.bounding_box());
        let width = area.size.width as usize;
        for y in area.rows() {
            if let Some(start) = self.index(Point::new(area.top_left.x, y)) {
                self.pixels[start..start + width].fill(colour);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::primitives::PrimitiveStyle;

    #[test]
    fn fills_and_cuts_off_what_lies_outside() {
        let mut canvas = Canvas::new(4, 3);
        Rectangle::new(Point::new(2, -1), Size::new(9, 3))
            .into_styled(PrimitiveStyle::with_fill(Rgb565::RED))
            .draw(&mut canvas)
            .unwrap();
        Pixel(Point::new(0, 2), Rgb565::WHITE).draw(&mut canvas).unwrap();
        Pixel(Point::new(4, 0), Rgb565::WHITE).draw(&mut canvas).unwrap();
        Pixel(Point::new(-1, 1), Rgb565::WHITE).draw(&mut canvas).unwrap();
        let seen: String = canvas
            .pixels()
            .chunks(4)
            .flat_map(|row| {
                row.iter()
                    .map(|&c| {
                        if c == Rgb565::RED {
                            'R'
                        } else if c == Rgb565::WHITE {
                            'W'
                        } else {
                            '.'
                        }
                    })
                    .chain(['\n'])
            })
            .collect();
        assert_eq!(seen, "..RR\n..RR\nW...\n");
        assert_eq!(canvas.pixel(Point::new(3, 1)), Some(Rgb565::RED));
        assert_eq!(canvas.pixel(Point::new(4, 1)), None);
        assert_eq!(canvas.to_rgb().get_pixel(2, 0).0, [255, 0, 0]);
    }

    #[test]
    fn changes_are_runs_of_rows() {
        let before = Canvas::new(6, 7);
        assert!(before.changes_since(&before).is_empty());
        let mut after = before.clone();
        for point in [(1, 0), (4, 1), (2, 1), (0, 3), (5, 5), (5, 6)] {
            Pixel(Point::from(point), Rgb565::RED).draw(&mut after).unwrap();
        }
        let area = |x, y, width, height| Rectangle::new(Point::new(x, y), Size::new(width, height));
        assert_eq!(after.changes_since(&before), [area(1, 0, 4, 2), area(0, 3, 1, 1), area(5, 5, 1, 2)]);
        assert_eq!(after.changes_since(&Canvas::new(6, 8)), [area(0, 0, 6, 7)]);
        assert!(Canvas::new(0, 3).changes_since(&Canvas::new(0, 3)).is_empty());
    }

    #[test]
    fn an_area_wholly_outside_changes_nothing() {
        let mut canvas = Canvas::new(4, 3);
        let before = canvas.clone();
        canvas.fill_solid(&Rectangle::new(Point::new(40, 40), Size::new(5, 5)), Rgb565::RED).unwrap();
        assert_eq!(canvas, before);
    }
}
