//! `hoi-train scenes`.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use embedded_graphics::geometry::{Point, Size as DrawSize};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_6X10;
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::sink::Canvas;
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary};
use image::imageops::FilterType;
use image::{ImageFormat, RgbImage};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use crate::dataset::{AnnotatedPicture, PictureSet};
use crate::export::write_beside;

/// Short side of an annotated picture, so that labels can be read.
const ANNOTATED_SIDE: f32 = 640.0;

const HUMAN: Rgb888 = Rgb888::new(0, 120, 255);
const OBJECT: Rgb888 = Rgb888::new(255, 120, 0);
const INK: Rgb888 = Rgb888::new(255, 255, 255);
const SHADE: Rgb888 = Rgb888::new(20, 20, 20);

#[derive(Debug, Args)]
pub(super) struct ScenesArguments {
    /// Where the PNG files and annotations.json go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many scenes
    #[arg(long, value_name = "N")]
    count: usize,
    /// Another seed draws other scenes
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Part of the scenes; parts share none
    #[arg(long, value_enum, default_value_t = Split::Train)]
    split: Split,
    /// Width and height of the pictures
    #[arg(long, value_name = "PIXELS", default_value_t = 160)]
    size: u32,
    /// Write NAME_annotated.png too, enlarged, with boxes and labels
    #[arg(long)]
    annotate: bool,
}

impl ScenesArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let size = Size::new(self.size, self.size);
        let set = RenderedScenes::new(RenderedConfig { size, seed: self.seed, split: self.split, count: self.count })
            .context("rendered scenes")?;
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let progress = ProgressBar::new(self.count as u64);
        let mut images = Vec::with_capacity(self.count);
        let mut labels = 0;
        for index in 0..set.len() {
            let picture = set.open(index)?;
            write_png(&self.out.join(&picture.name), &picture.pixels)?;
            if self.annotate {
                let name = picture.name.replace(".png", "_annotated.png");
                write_png(&self.out.join(name), &annotated(&picture, set.vocabulary()))?;
            }
            labels += picture.pairs.len();
            images.push(record(&picture, set.vocabulary()));
            progress.inc(1);
        }
        progress.finish_and_clear();
        let document = json!({
            "config": set.config(),
            "vocabulary": set.vocabulary().spec(),
            "images": images,
        });
        let text = serde_json::to_vec_pretty(&document).context("writing the annotation")?;
        write_beside(&self.out.join("annotations.json"), &text)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} scenes with {labels} labelled verbs: {}", images.len(), self.out.display())?;
        Ok(())
    }
}

fn write_png(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).with_context(|| format!("encoding {}", path.display()))?;
    Ok(write_beside(path, bytes.get_ref())?)
}

fn object_name(vocabulary: &Vocabulary, class: ObjectClass) -> &str {
    vocabulary.object_name(class).unwrap_or("?")
}

fn verb_name(vocabulary: &Vocabulary, verb: Verb) -> &str {
    vocabulary.verb_name(verb).unwrap_or("?")
}

/// A picture's entry in annotations.json.
fn record(picture: &AnnotatedPicture, vocabulary: &Vocabulary) -> Value {
    let entities = picture.entities.iter().map(|e| json!({"class": object_name(vocabulary, e.class), "box": e.bbox}));
    let pairs = picture.pairs.iter().map(|p| {
        json!({"human": p.human, "object": p.object, "class": object_name(vocabulary, p.class),
            "verb": verb_name(vocabulary, p.verb)})
    });
    json!({"file": picture.name, "number": picture.number, "entities": entities.collect::<Vec<_>>(),
        "pairs": pairs.collect::<Vec<_>>()})
}

/// The picture enlarged, boxes with classes over it, and a line of text below for every acting pair.
fn annotated(picture: &AnnotatedPicture, vocabulary: &Vocabulary) -> RgbImage {
    let (width, height) = picture.pixels.dimensions();
    let zoom = ANNOTATED_SIDE / width.min(height).max(1) as f32;
    let (width, height) = ((width as f32 * zoom) as u32, (height as f32 * zoom) as u32);
    let mut large = image::imageops::resize(&picture.pixels, width, height, FilterType::Triangle);
    let mut canvas = Canvas::new(&mut large);
    for entity in &picture.entities {
        let colour = if entity.class == vocabulary.human() { HUMAN } else { OBJECT };
        let b = entity.bbox.scale(zoom, zoom);
        let corner = Point::new(b.x1 as i32, b.y1 as i32);
        let size = DrawSize::new(b.width() as u32, b.height() as u32);
        let Ok(()) = Rectangle::new(corner, size).into_styled(PrimitiveStyle::with_stroke(colour, 2)).draw(&mut canvas);
    }
    let mut done: Vec<(BBox, BBox)> = Vec::new();
    for pair in &picture.pairs {
        if done.contains(&(pair.human, pair.object)) {
            continue;
        }
        done.push((pair.human, pair.object));
        let same = picture.pairs.iter().filter(|p| p.human == pair.human && p.object == pair.object);
        let verbs: Vec<&str> = same.map(|p| verb_name(vocabulary, p.verb)).collect();
        let label = format!("{} {}", verbs.join(", "), object_name(vocabulary, pair.class));
        let (x, y) = pair.object.center();
        draw_label(&mut canvas, &label, Point::new((x * zoom) as i32, (y * zoom) as i32), done.len());
    }
    large
}

/// A label centred at a place; several at one place stand below each other.
fn draw_label(canvas: &mut Canvas<'_>, label: &str, at: Point, row: usize) {
    let size = DrawSize::new(6 * label.chars().count() as u32 + 4, 12);
    let limit = canvas.size();
    let fit = |v: i32, length: u32, limit: u32| v.min(limit as i32 - length as i32).max(0);
    let x = fit(at.x - size.width as i32 / 2, size.width, limit.width);
    let y = fit(at.y + 13 * (row as i32 % 3 - 1), size.height, limit.height);
    let place = Rectangle::new(Point::new(x, y), size);
    let Ok(()) = place.into_styled(PrimitiveStyle::with_fill(SHADE)).draw(canvas);
    let style = MonoTextStyle::new(&FONT_6X10, INK);
    let Ok(_) = Text::with_baseline(label, place.top_left + Point::new(2, 1), style, Baseline::Top).draw(canvas);
}
