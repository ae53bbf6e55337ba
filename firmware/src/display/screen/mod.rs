//! What the screen shows: one drawing for every size of display.
//!
//! From the top: a status bar (state, frame number, milliseconds a frame, lost lines); the camera picture, its shape kept, with
//! the boxes of the best triplets, humans in one colour and objects in another, and a line from human to object; a bar with the
//! best triplets as text, the object's name in the colour of its box. Errors and the start take the place of the picture.

mod picture;
mod text;

use embedded_graphics::mono_font::MonoFont;
use embedded_graphics::mono_font::iso_8859_1::{FONT_5X8, FONT_6X10, FONT_7X13_BOLD, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use hoi_runtime::geometry::{BBox, Size as PictureSize};
use image::RgbImage;

use picture::Placement;

/// Colour of people: sky blue.
pub const HUMAN: Rgb565 = Rgb565::new(6, 50, 31);
/// Colour of objects: orange.
pub const OBJECT: Rgb565 = Rgb565::new(31, 40, 4);
const GOOD: Rgb565 = Rgb565::new(8, 54, 10);
const WAITING: Rgb565 = Rgb565::new(31, 50, 8);
const BAD: Rgb565 = Rgb565::new(31, 18, 10);
const DIM: Rgb565 = Rgb565::new(20, 40, 20);
const BAR: Rgb565 = Rgb565::new(2, 5, 4);
const MARGIN: Rgb565 = Rgb565::new(4, 9, 5);

/// How many triplets the screen shows.
pub const TRIPLETS: usize = 3;

/// One triplet as it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneTriplet {
    /// The human's box, pixels of the picture.
    pub human: BBox,
    /// The object's box, pixels of the picture; `None` where the interaction has no object.
    pub object: Option<BBox>,
    /// The verb as a person reads it: `sit on`.
    pub verb: String,
    /// The object's class; `None` where the interaction has no object.
    pub object_name: Option<String>,
    /// Score in `[0, 1]`.
    pub score: f32,
}

/// What the device is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Not ready yet: what it is waiting for.
    Starting(String),
    /// Pictures come and are looked at.
    Running,
    /// The picture could not be had: why.
    SourceError(String),
    /// The model could not be loaded or run: why.
    ModelError(String),
    /// The board or one of its ports cannot be used: why.
    DeviceError(String),
}

/// Everything that one screen shows.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// What the device is doing.
    pub state: State,
    /// The camera picture, where there is one.
    pub picture: Option<&'a RgbImage>,
    /// Boxes of the people in it, pixels of the picture; they are drawn where there is no triplet.
    pub people: &'a [BBox],
    /// The triplets in it, best first; the first [`TRIPLETS`] are shown.
    pub triplets: &'a [SceneTriplet],
    /// Number of the frame, from 0; `None` before the first.
    pub frame: Option<u64>,
    /// Time from file or camera to triplets, in milliseconds.
    pub frame_ms: Option<f64>,
    /// Lines or frames that were dropped so far.
    pub dropped: u64,
}

impl Scene<'_> {
    /// A screen without picture that shows only a state.
    pub fn of_state(state: State) -> Self {
        Self { state, picture: None, people: &[], triplets: &[], frame: None, frame_ms: None, dropped: 0 }
    }

    fn state_word(&self) -> (&'static str, Rgb565) {
        match self.state {
            State::Starting(_) => ("starting", WAITING),
            State::Running => ("ok", GOOD),
            State::SourceError(_) => ("source error", BAD),
            State::ModelError(_) => ("model error", BAD),
            State::DeviceError(_) => ("device error", BAD),
        }
    }
}

/// Which part of the screen holds what.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    status_font: &'static MonoFont<'static>,
    text_font: &'static MonoFont<'static>,
    status: Rectangle,
    picture: Rectangle,
    triplets: Rectangle,
    line_height: u32,
}

impl Layout {
    fn new(screen: Rectangle) -> Self {
        let roomy = screen.size.height >= 160 && screen.size.width >= 160;
        let (status_font, text_font) = if roomy { (&FONT_6X10, &FONT_7X13_BOLD) } else { (&FONT_5X8, &FONT_5X8) };
        let Size { width, height } = screen.size;
        let status_height = (status_font.character_size.height + 4).min(height);
        let line_height = text_font.character_size.height + 2;
        let triplet_height = (line_height * TRIPLETS as u32 + 1).min(height - status_height);
        let picture_height = height - status_height - triplet_height;
        let band =
            |y: u32, height: u32| Rectangle::new(screen.top_left + Point::new(0, y as i32), Size::new(width, height));
        Self {
            status_font,
            text_font,
            status: band(0, status_height),
            picture: band(status_height, picture_height),
            triplets: band(status_height + picture_height, triplet_height),
            line_height,
        }
    }
}

/// Draws `scene` on the whole of `target`, whatever its size: every pixel is painted.
///
/// # Errors
/// Those of `target`.
pub fn draw<D: DrawTarget<Color = Rgb565>>(target: &mut D, scene: &Scene<'_>) -> Result<(), D::Error> {
    let layout = Layout::new(target.bounding_box());
    draw_status(target, &layout, scene)?;
    target.fill_solid(&layout.picture, MARGIN)?;
    target.fill_solid(&layout.triplets, BAR)?;
    let (title, message) = match &scene.state {
        State::Running => {
            draw_view(target, &layout, scene)?;
            return draw_texts(target, &layout, scene);
        }
        State::Starting(message) => ("Starting", message),
        State::SourceError(message) => ("No picture", message),
        State::ModelError(message) => ("Model error", message),
        State::DeviceError(message) => ("Device error", message),
    };
    let (_, colour) = scene.state_word();
    draw_message(target, &layout, title, message, colour)
}

fn draw_status<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let (font, bar) = (layout.status_font, layout.status);
    target.fill_solid(&bar, BAR)?;
    let (word, colour) = scene.state_word();
    let top = bar.top_left.y + 2;
    let mark = font.character_size.height - 4;
    target.fill_solid(&Rectangle::new(Point::new(bar.top_left.x + 3, top + 2), Size::new(mark, mark)), colour)?;
    let lost = format!("drop {}", scene.dropped);
    let lost_x = bar.size.width as i32 - text::width(font, &lost) as i32 - 2;
    let start = bar.top_left.x + mark as i32 + 8;
    let mut said = word.to_owned();
    if let Some(frame) = scene.frame {
        said.push_str(&format!("  #{frame}"));
    }
    if let Some(frame_ms) = scene.frame_ms {
        said.push_str(&format!("  {frame_ms:.0} ms"));
    }
    let room = (lost_x - start).max(0) as u32;
    let said = text::fit(&said, text::columns(font, room));
    text::line(target, font, Point::new(start, top), Rgb565::WHITE, &said)?;
    let colour = if scene.dropped == 0 { DIM } else { WAITING };
    text::line(target, font, Point::new(bar.top_left.x + lost_x, top), colour, &lost)?;
    Ok(())
}

fn draw_view<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let Some(picture) = scene.picture else { return Ok(()) };
    let size = PictureSize::new(picture.width(), picture.height());
    let Some(place) = Placement::new(size, layout.picture) else { return Ok(()) };
    picture::draw_picture(target, picture, &place)?;
    let shown = &scene.triplets[..scene.triplets.len().min(TRIPLETS)];
    if shown.is_empty() {
        picture::draw_people(target, &place, scene.people)
    } else {
        picture::draw_triplets(target, &place, shown)
    }
}

fn draw_texts<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let font = layout.text_font;
    let mut target = target.clipped(&layout.triplets);
    let left = layout.triplets.top_left + Point::new(4, 2);
    if scene.triplets.is_empty() {
        let said = match scene.people.len() {
            0 => "nobody here".to_owned(),
            1 => "1 person, doing nothing I know".to_owned(),
            n => format!("{n} people, doing nothing I know"),
        };
        let said = text::fit(&said, text::columns(font, layout.triplets.size.width.saturating_sub(4)));
        text::line(&mut target, font, left, Rgb565::WHITE, &said)?;
        return Ok(());
    }
    for (i, triplet) in scene.triplets.iter().take(TRIPLETS).enumerate() {
        let at = left + Point::new(0, (i as u32 * layout.line_height) as i32);
        let rank = format!("{} ", i + 1);
        let score = format!("{:.2}", triplet.score);
        let fixed = text::width(font, &rank) + text::width(font, &score) + 12;
        let columns = text::columns(font, layout.triplets.size.width.saturating_sub(fixed));
        let whole = match &triplet.object_name {
            Some(object) => format!("{} {object}", triplet.verb),
            None => triplet.verb.clone(),
        };
        let whole = text::fit(&whole, columns);
        let verb_end = whole.char_indices().nth(triplet.verb.chars().count()).map_or(whole.len(), |(at, _)| at);
        let (verb, object) = whole.split_at(verb_end);
        let x = text::line(&mut target, font, at, DIM, &rank)?;
        let x = text::line(&mut target, font, Point::new(x, at.y), Rgb565::WHITE, verb)?;
        text::line(&mut target, font, Point::new(x, at.y), OBJECT, object)?;
        let right = layout.triplets.size.width as i32 - text::width(font, &score) as i32 - 4;
        text::line(&mut target, font, Point::new(layout.triplets.top_left.x + right, at.y), GOOD, &score)?;
    }
    Ok(())
}

fn draw_message<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    title: &str,
    message: &str,
    colour: Rgb565,
) -> Result<(), D::Error> {
    let Size { width, height } = layout.picture.size;
    let area = Rectangle::new(layout.picture.top_left, Size::new(width, height + layout.triplets.size.height));
    target.fill_solid(&area, BAR)?;
    let mut target = target.clipped(&area);
    let roomy = layout.text_font.character_size.height > 8;
    let title_font = if roomy { &FONT_9X15_BOLD } else { layout.text_font };
    let gap = if roomy { 12 } else { 2 };
    let at = area.top_left + Point::new(gap.min(8), gap);
    let title = text::fit(title, text::columns(title_font, width.saturating_sub(2 * gap as u32)));
    text::line(&mut target, title_font, at, colour, &title)?;
    let top = at.y + title_font.character_size.height as i32 + gap;
    let bottom = area.top_left.y + area.size.height as i32;
    let font = layout.text_font;
    let rows = (bottom - top).max(0) as u32 / layout.line_height;
    let columns = text::columns(font, width.saturating_sub(2 * at.x as u32));
    for (i, said) in text::wrap(message, columns, rows as usize).iter().enumerate() {
        let y = top + (i as u32 * layout.line_height) as i32;
        text::line(&mut target, font, Point::new(at.x, y), Rgb565::WHITE, said)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
