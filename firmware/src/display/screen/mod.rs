//! What the screen shows: one drawing for every size of display.
//!
//! From the top: a status bar (state, frames a second, temperature, milliseconds a frame, frame number, what was lost); the camera
//! picture, its shape kept, with the boxes of the best triplets, humans in one colour and objects in another, and a line from human
//! to object; the best triplets as text, the object's name in the colour of its box, below the picture or, on wide screens, beside
//! it. Errors and the start take the place of the picture. A screen that is less than [`LEAST_SIDE`] pixels wide or high has no
//! picture and is drawn in white on black only, as a display of one bit a pixel needs it.

mod compact;
mod layout;
mod picture;
mod text;

use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use hoi_runtime::geometry::{BBox, Size as PictureSize};
use image::RgbImage;

use layout::Layout;
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

/// How many triplets any screen with a picture shows at most; small ones show three.
pub const TRIPLETS: usize = 6;

/// Width and height in pixels that a screen with a picture has at least.
pub const LEAST_SIDE: u32 = 120;

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
    /// The camera gives no pictures, and is tried again: why.
    NoCamera(String),
    /// Pictures come and are looked at.
    Running,
    /// The picture could not be had: why.
    SourceError(String),
    /// The model could not be loaded or run: why.
    ModelError(String),
    /// The board or one of its ports cannot be used: why.
    DeviceError(String),
    /// A new bundle or program is taken in: which, and how far.
    Update(String),
}

impl State {
    /// The word in the status bar, and its colour.
    fn word(&self) -> (&'static str, Rgb565) {
        match self {
            Self::Starting(_) => ("starting", WAITING),
            Self::NoCamera(_) => ("no camera", BAD),
            Self::Running => ("ok", GOOD),
            Self::SourceError(_) => ("source error", BAD),
            Self::ModelError(_) => ("model error", BAD),
            Self::DeviceError(_) => ("device error", BAD),
            Self::Update(_) => ("update", WAITING),
        }
    }

    /// The headline where the picture would be.
    fn title(&self) -> &'static str {
        match self {
            Self::Starting(_) => "Starting",
            Self::NoCamera(_) => "No camera",
            Self::Running => "Running",
            Self::SourceError(_) => "No picture",
            Self::ModelError(_) => "Model error",
            Self::DeviceError(_) => "Device error",
            Self::Update(_) => "Update",
        }
    }

    /// The words below it.
    fn message(&self) -> &str {
        match self {
            Self::Running => "",
            Self::Starting(message)
            | Self::NoCamera(message)
            | Self::SourceError(message)
            | Self::ModelError(message)
            | Self::DeviceError(message)
            | Self::Update(message) => message,
        }
    }
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
    /// The triplets in it, best first; as many as fit are shown, at most [`TRIPLETS`].
    pub triplets: &'a [SceneTriplet],
    /// Number of the frame, from 0; `None` before the first.
    pub frame: Option<u64>,
    /// Time from file or camera to triplets, in milliseconds.
    pub frame_ms: Option<f64>,
    /// Frames a second, over the last few.
    pub frames_per_second: Option<f32>,
    /// Temperature of the processor in degrees Celsius.
    pub temperature: Option<f32>,
    /// Lines or frames that were dropped so far.
    pub dropped: u64,
}

impl Scene<'_> {
    /// A screen without picture that shows only a state.
    pub fn of_state(state: State) -> Self {
        Self {
            state,
            picture: None,
            people: &[],
            triplets: &[],
            frame: None,
            frame_ms: None,
            frames_per_second: None,
            temperature: None,
            dropped: 0,
        }
    }

    /// The status line in at most `columns` cells: the state, and as many of the numbers as fit, the most important first.
    fn status(&self, columns: usize, gap: &str) -> String {
        let fps = |fps: f32| if fps < 99.95 { format!("{fps:.1} fps") } else { format!("{fps:.0} fps") };
        let numbers = [
            self.frames_per_second.filter(|v| (0.0..10_000.0).contains(v)).map(fps),
            self.temperature.filter(|v| (-99.0..999.0).contains(v)).map(|degrees| format!("{degrees:.0}\u{b0}C")),
            self.frame_ms.filter(|v| (0.0..1e6).contains(v)).map(|ms| format!("{ms:.0} ms")),
            self.frame.map(|frame| format!("#{frame}")),
        ];
        let mut said = text::fit(self.state.word().0, columns);
        for number in numbers.into_iter().flatten() {
            if said.chars().count() + gap.len() + number.chars().count() > columns {
                break;
            }
            said.push_str(gap);
            said.push_str(&number);
        }
        said
    }
}

/// What is said of a picture without triplets.
fn nothing_said(scene: &Scene<'_>) -> String {
    match scene.people.len() {
        0 => "nobody here".to_owned(),
        1 => "1 person, doing nothing I know".to_owned(),
        n => format!("{n} people, doing nothing I know"),
    }
}

/// Draws `scene` on the whole of `target`, whatever its size: every pixel is painted.
///
/// # Errors
/// Those of `target`.
pub fn draw<D: DrawTarget<Color = Rgb565>>(target: &mut D, scene: &Scene<'_>) -> Result<(), D::Error> {
    let screen = target.bounding_box();
    if screen.size.width < LEAST_SIDE || screen.size.height < LEAST_SIDE {
        return compact::draw(target, scene);
    }
    let layout = Layout::new(screen);
    draw_status(target, &layout, scene)?;
    if scene.state != State::Running {
        return draw_message(target, &layout, scene);
    }
    target.fill_solid(&layout.picture, MARGIN)?;
    target.fill_solid(&layout.triplets, BAR)?;
    draw_view(target, &layout, scene)?;
    draw_texts(target, &layout, scene)
}

fn draw_status<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let (face, bar, unit) = (layout.status_face, layout.status, layout.unit as i32);
    target.fill_solid(&bar, BAR)?;
    let (_, colour) = scene.state.word();
    let top = bar.top_left.y + 2 * unit;
    let mark = face.height().saturating_sub(4 * layout.unit);
    let corner = Point::new(bar.top_left.x + 3 * unit, top + 2 * unit);
    target.fill_solid(&Rectangle::new(corner, Size::new_equal(mark)), colour)?;
    let lost = format!("drop {}", text::short_count(scene.dropped));
    let lost_x = bar.size.width as i32 - face.width(&lost) as i32 - 2 * unit;
    let start = mark as i32 + if layout.beside { 12 } else { 8 } * unit;
    let said = scene.status(face.columns((lost_x - start - 4 * unit).max(0) as u32), "  ");
    face.line(target, Point::new(bar.top_left.x + start, top), Rgb565::WHITE, &said)?;
    let colour = if scene.dropped == 0 { DIM } else { WAITING };
    face.line(target, Point::new(bar.top_left.x + lost_x, top), colour, &lost)?;
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
    let pen = picture::Pen::new(layout.unit, if layout.beside { layout.status_face } else { picture::SMALL });
    let shown = &scene.triplets[..scene.triplets.len().min(layout.shown)];
    if shown.is_empty() {
        pen.draw_people(target, &place, scene.people)
    } else {
        pen.draw_triplets(target, &place, shown)
    }
}

fn draw_texts<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let (face, unit) = (layout.text_face, layout.unit as i32);
    let mut target = target.clipped(&layout.triplets);
    let left = layout.triplets.top_left + Point::new(if layout.beside { 8 } else { 4 }, 2) * unit;
    let end = layout.triplets.top_left.x + layout.triplets.size.width as i32 - 4 * unit;
    let room = (end - left.x).max(0) as u32;
    if scene.triplets.is_empty() {
        let rows = if layout.beside { 4 } else { 1 };
        let said = nothing_said(scene);
        let lines = if layout.beside {
            text::wrap(&said, face.columns(room), rows)
        } else {
            vec![text::fit(&said, face.columns(room))]
        };
        for (i, line) in lines.iter().enumerate() {
            let at = left + Point::new(0, (i as u32 * layout.line_height) as i32);
            face.line(&mut target, at, Rgb565::WHITE, line)?;
        }
        return Ok(());
    }
    for (i, triplet) in scene.triplets.iter().take(layout.shown).enumerate() {
        let lines = if layout.beside { 2 } else { 1 };
        let gap = if layout.beside { 6 * layout.unit } else { 0 };
        let at = left + Point::new(0, (i as u32 * (lines * layout.line_height + gap)) as i32);
        let rank = format!("{} ", i + 1);
        let score = format!("{:.2}", triplet.score);
        let score_x = end - face.width(&score) as i32;
        let x = face.line(&mut target, at, DIM, &rank)?;
        let columns = face.columns((score_x - x - 4 * unit).max(0) as u32);
        match &triplet.object_name {
            Some(object) if layout.beside => {
                let verb = text::fit(&triplet.verb, columns);
                face.line(&mut target, Point::new(x, at.y), Rgb565::WHITE, &verb)?;
                let below = Point::new(x, at.y + layout.line_height as i32);
                let object = text::fit(object, face.columns((end - x).max(0) as u32));
                face.line(&mut target, below, OBJECT, &object)?;
            }
            Some(object) => {
                let (verb, object) = text::fit_pair(&triplet.verb, object, columns);
                let x = face.line(&mut target, Point::new(x, at.y), Rgb565::WHITE, &verb)?;
                let x = x + face.width(" ") as i32;
                face.line(&mut target, Point::new(x, at.y), OBJECT, &object)?;
            }
            None => {
                let verb = text::fit(&triplet.verb, columns);
                face.line(&mut target, Point::new(x, at.y), Rgb565::WHITE, &verb)?;
            }
        }
        face.line(&mut target, Point::new(score_x, at.y), GOOD, &score)?;
    }
    Ok(())
}

fn draw_message<D: DrawTarget<Color = Rgb565>>(
    target: &mut D,
    layout: &Layout,
    scene: &Scene<'_>,
) -> Result<(), D::Error> {
    let area = layout.below;
    target.fill_solid(&area, BAR)?;
    let mut target = target.clipped(&area);
    let (_, colour) = scene.state.word();
    let (face, title_face) = (layout.text_face, layout.title_face);
    let gap = if title_face == face { 2 * layout.unit } else { 12 * layout.unit };
    let (gap, margin) = if layout.beside { (16 * layout.unit, 16 * layout.unit) } else { (gap, gap.min(8)) };
    let width = area.size.width.saturating_sub(2 * margin);
    let at = area.top_left + Point::new(margin as i32, gap as i32);
    let title = text::fit(scene.state.title(), title_face.columns(width));
    title_face.line(&mut target, at, colour, &title)?;
    let top = at.y + (title_face.height() + gap) as i32;
    let bottom = area.top_left.y + area.size.height as i32;
    let rows = (bottom - top).max(0) as u32 / layout.line_height;
    for (i, said) in text::wrap(scene.state.message(), face.columns(width), rows as usize).iter().enumerate() {
        let y = top + (i as u32 * layout.line_height) as i32;
        face.line(&mut target, Point::new(at.x, y), Rgb565::WHITE, said)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
