//! The annotated picture: boxes, a line from human to object, verb and score.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use embedded_graphics::geometry::{OriginDimensions, Point, Size as DrawSize};
use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use image::{ImageFormat, RgbImage};

use crate::detector::Detection;
use crate::geometry::BBox;
use crate::pipeline::{FrameResult, HoiTriplet};
use crate::staged::StagedFile;
use crate::vocabulary::Vocabulary;

const HUMAN: Rgb888 = Rgb888::new(0, 200, 255);
const OBJECT: Rgb888 = Rgb888::new(255, 160, 0);
const LINK: Rgb888 = Rgb888::new(255, 255, 255);
const INK: Rgb888 = Rgb888::new(255, 255, 255);
const SHADE: Rgb888 = Rgb888::new(20, 20, 20);
const CHARACTER: DrawSize = DrawSize::new(9, 15);
/// More pairs than this would hide the picture.
const MOST_PAIRS: usize = 12;
/// Verbs listed for one pair.
const MOST_VERBS: usize = 3;

/// A picture to draw on: each drawn pixel covers `zoom` x `zoom` of the picture's, so that lines and letters stay readable on large ones.
pub struct Canvas<'a> {
    picture: &'a mut RgbImage,
    zoom: u32,
}

impl<'a> Canvas<'a> {
    /// A canvas whose zoom fits the picture: 1 up to a short side of about 750 pixels.
    pub fn new(picture: &'a mut RgbImage) -> Self {
        let short = picture.width().min(picture.height());
        let zoom = ((short as f32 / 500.0).round() as u32).max(1);
        Self { picture, zoom }
    }

    fn point(&self, x: f32, y: f32) -> Point {
        Point::new((x / self.zoom as f32) as i32, (y / self.zoom as f32) as i32)
    }

    fn rectangle(&self, b: &BBox) -> Rectangle {
        let end = self.size() - DrawSize::new(1, 1);
        let last = Point::new(end.width as i32, end.height as i32);
        let top_left = self.point(b.x1, b.y1);
        let bottom_right = self.point(b.x2, b.y2);
        Rectangle::with_corners(top_left, Point::new(bottom_right.x.min(last.x), bottom_right.y.min(last.y)))
    }
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> DrawSize {
        DrawSize::new(self.picture.width().div_ceil(self.zoom), self.picture.height().div_ceil(self.zoom))
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { continue };
            let colour = image::Rgb([colour.r(), colour.g(), colour.b()]);
            for py in (y * self.zoom)..((y + 1) * self.zoom).min(self.picture.height()) {
                for px in (x * self.zoom)..((x + 1) * self.zoom).min(self.picture.width()) {
                    self.picture.put_pixel(px, py, colour);
                }
            }
        }
        Ok(())
    }
}

/// The triplets of one human-object pair.
struct PairLabels<'a> {
    first: &'a HoiTriplet,
    lines: Vec<String>,
}

/// Draws the triplets with a score of at least `min_score` over a copy of the picture.
pub fn annotate(picture: &RgbImage, result: &FrameResult, vocabulary: &Vocabulary, min_score: f32) -> RgbImage {
    let mut copy = picture.clone();
    let mut canvas = Canvas::new(&mut copy);
    let mut pairs: Vec<PairLabels<'_>> = Vec::new();
    for t in result.triplets.iter().filter(|t| t.score >= min_score) {
        let object =
            t.object.as_ref().map_or(String::new(), |o| format!(" {}", vocabulary.object_name(o.class).unwrap_or("?")));
        let line = format!("{}{object} {:.2}", vocabulary.verb_name(t.verb).unwrap_or("?"), t.score);
        if let Some(pair) = pairs.iter_mut().find(|p| p.first.human == t.human && p.first.object == t.object) {
            if pair.lines.len() < MOST_VERBS {
                pair.lines.push(line);
            }
        } else if pairs.len() < MOST_PAIRS {
            pairs.push(PairLabels { first: t, lines: vec![line] });
        }
    }
    for pair in &pairs {
        draw_box(&mut canvas, &pair.first.human, HUMAN);
        if let Some(object) = &pair.first.object {
            draw_box(&mut canvas, object, OBJECT);
        }
    }
    for pair in &pairs {
        draw_link(&mut canvas, pair.first);
    }
    let mut taken: Vec<Rectangle> = Vec::new();
    for pair in &pairs {
        draw_label(&mut canvas, pair, &mut taken);
    }
    copy
}

fn draw_box(canvas: &mut Canvas<'_>, detection: &Detection, colour: Rgb888) {
    let rectangle = canvas.rectangle(&detection.bbox);
    let Ok(()) = rectangle.into_styled(PrimitiveStyle::with_stroke(SHADE, 4)).draw(canvas);
    let Ok(()) = rectangle.into_styled(PrimitiveStyle::with_stroke(colour, 2)).draw(canvas);
}

fn draw_link(canvas: &mut Canvas<'_>, triplet: &HoiTriplet) {
    let Some(object) = &triplet.object else { return };
    let (hx, hy) = triplet.human.bbox.center();
    let (ox, oy) = object.bbox.center();
    let (from, to) = (canvas.point(hx, hy), canvas.point(ox, oy));
    for (colour, width) in [(SHADE, 4), (LINK, 2)] {
        let Ok(()) = Line::new(from, to).into_styled(PrimitiveStyle::with_stroke(colour, width)).draw(canvas);
    }
    for (end, colour) in [(from, HUMAN), (to, OBJECT)] {
        let Ok(()) = Circle::with_center(end, 9).into_styled(PrimitiveStyle::with_fill(SHADE)).draw(canvas);
        let Ok(()) = Circle::with_center(end, 7).into_styled(PrimitiveStyle::with_fill(colour)).draw(canvas);
    }
}

/// The label stands at the middle of the link, or below where another one is in the way.
fn draw_label(canvas: &mut Canvas<'_>, pair: &PairLabels<'_>, taken: &mut Vec<Rectangle>) {
    let (hx, hy) = pair.first.human.bbox.center();
    let (ox, oy) = pair.first.object.as_ref().map_or((hx, hy), |o| o.bbox.center());
    let middle = canvas.point((hx + ox) / 2.0, (hy + oy) / 2.0);
    let columns = pair.lines.iter().map(|l| l.chars().count()).max().unwrap_or(0) as u32;
    let size = DrawSize::new(columns * CHARACTER.width + 6, pair.lines.len() as u32 * CHARACTER.height + 4);
    let limit = canvas.size();
    let fit = |at: i32, length: u32, limit: u32| at.min(limit as i32 - length as i32).max(0);
    let x = fit(middle.x - size.width as i32 / 2, size.width, limit.width);
    let mut y = fit(middle.y - size.height as i32 / 2, size.height, limit.height);
    let mut place = Rectangle::new(Point::new(x, y), size);
    while let Some(other) = taken.iter().find(|r| !r.intersection(&place).is_zero_sized()) {
        y = other.top_left.y + other.size.height as i32 + 2;
        if y + size.height as i32 > limit.height as i32 {
            break;
        }
        place.top_left.y = y;
    }
    taken.push(place);
    let Ok(()) = place.into_styled(PrimitiveStyle::with_fill(SHADE)).draw(canvas);
    let style = MonoTextStyle::new(&FONT_9X15_BOLD, INK);
    for (i, line) in pair.lines.iter().enumerate() {
        let at = place.top_left + Point::new(3, 2 + (i as u32 * CHARACTER.height) as i32);
        let Ok(_) = Text::with_baseline(line, at, style, Baseline::Top).draw(canvas);
    }
}

/// The format that [`write_picture`] writes for this extension; `None` for one that it does not.
pub fn picture_format(path: &Path) -> Option<ImageFormat> {
    ImageFormat::from_path(path)
        .ok()
        .filter(|f| matches!(f, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::WebP))
}

/// Writes a picture in the format of the file's extension, beside and renamed, so that a half-written one is never seen.
///
/// # Errors
/// An extension other than jpg, jpeg, png, bmp or webp, or what the system says.
pub fn write_picture(picture: &RgbImage, path: &Path) -> io::Result<()> {
    let format = picture_format(path).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: the extension must be .jpg, .png, .bmp or .webp", path.display()),
        )
    })?;
    let mut bytes = io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(io::Error::other)?;
    StagedFile::new(path, bytes.get_ref())?.commit()
}
