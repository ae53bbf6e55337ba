//! The log as a picture: loss, measurements and learning rate over the epochs.

use std::convert::Infallible;

use embedded_graphics::geometry::{Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_7X13_BOLD};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};
use hoi_runtime::sink::Canvas;
use image::RgbImage;

use super::record::{EpochRecord, names, value};

const WIDTH: u32 = 720;
const HEIGHT: u32 = 260;
/// Left, top, right and bottom of a panel's axes, from its edges.
const MARGIN: [i32; 4] = [70, 26, 170, 34];
const INK: Rgb888 = Rgb888::new(30, 30, 30);
const GRID: Rgb888 = Rgb888::new(222, 222, 222);
const COLOURS: [Rgb888; 8] = [
    Rgb888::new(31, 119, 180),
    Rgb888::new(214, 39, 40),
    Rgb888::new(44, 160, 44),
    Rgb888::new(255, 127, 14),
    Rgb888::new(148, 103, 189),
    Rgb888::new(140, 86, 75),
    Rgb888::new(227, 119, 194),
    Rgb888::new(23, 160, 170),
];

/// A line of a panel: (epoch, value), without what is no number.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Series {
    fn of(name: &str, log: &[EpochRecord], of: impl Fn(&EpochRecord) -> Option<f64>) -> Self {
        let point = |r: &EpochRecord| of(r).filter(|v| v.is_finite()).map(|v| (r.epoch as f64, v));
        Self { name: name.to_owned(), points: log.iter().filter_map(point).collect() }
    }
}

struct Panel {
    title: &'static str,
    series: Vec<Series>,
}

/// Draws loss and its parts, what was measured, and the learning rate, each in a panel of 720 x 260 pixels.
pub fn draw_curves(log: &[EpochRecord]) -> RgbImage {
    let mut loss = vec![Series::of("loss", log, |r| Some(r.loss))];
    loss.extend(names(log, |r| &r.parts).iter().map(|n| Series::of(n, log, |r| value(&r.parts, n))));
    let measured: Vec<Series> =
        names(log, |r| &r.measured).iter().map(|n| Series::of(n, log, |r| value(&r.measured, n))).collect();
    let mut panels = vec![Panel { title: "loss", series: loss }];
    if !measured.is_empty() {
        panels.push(Panel { title: "measured", series: measured });
    }
    let rate = vec![Series::of("learning rate", log, |r| Some(r.learning_rate))];
    panels.push(Panel { title: "learning rate", series: rate });
    let last = log.last().map_or(1.0, |r| r.epoch as f64);
    let mut picture = RgbImage::from_pixel(WIDTH, HEIGHT * panels.len() as u32, image::Rgb([255, 255, 255]));
    let mut canvas = Canvas::new(&mut picture);
    for (i, panel) in panels.iter().enumerate() {
        let Ok(()) = draw_panel(&mut canvas, panel, (i as u32 * HEIGHT) as i32, last);
    }
    picture
}

/// About five round values that cover a range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = ((high - low) / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&s| s >= raw * 0.999).unwrap_or(power);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last.min(first + 20)).map(|i| i as f64 * step).collect()
}

fn label(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if !(1e-3..1e4).contains(&v) => format!("{value:.0e}"),
        v if v < 10.0 => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.0}"),
    }
}

fn draw_panel(canvas: &mut Canvas<'_>, panel: &Panel, top: i32, last: f64) -> Result<(), Infallible> {
    let values = || panel.series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let low = values().fold(0.0, f64::min);
    let high = values().fold(low, f64::max);
    let high = if high > low { high } else { low + 1.0 };
    let (left, right) = (MARGIN[0], WIDTH as i32 - MARGIN[2]);
    let (upper, lower) = (top + MARGIN[1], top + HEIGHT as i32 - MARGIN[3]);
    let x = |epoch: f64| left + ((epoch - 1.0) / (last - 1.0).max(1.0) * f64::from(right - left)).round() as i32;
    let y = |value: f64| lower - ((value - low) / (high - low) * f64::from(lower - upper)).round() as i32;

    let text = MonoTextStyle::new(&FONT_6X10, INK);
    let aligned = |alignment| TextStyleBuilder::new().alignment(alignment).baseline(Baseline::Middle).build();
    for tick in ticks(low, high) {
        let (from, to) = (Point::new(left, y(tick)), Point::new(right, y(tick)));
        Line::new(from, to).into_styled(PrimitiveStyle::with_stroke(GRID, 1)).draw(canvas)?;
        let at = Point::new(left - 6, y(tick));
        Text::with_text_style(&label(tick), at, text, aligned(Alignment::Right)).draw(canvas)?;
    }
    for tick in ticks(1.0, last.max(2.0)).into_iter().filter(|t| t.fract() == 0.0) {
        let from = Point::new(x(tick), lower);
        Line::new(from, from + Point::new(0, 4)).into_styled(PrimitiveStyle::with_stroke(INK, 1)).draw(canvas)?;
        let at = from + Point::new(0, 12);
        Text::with_text_style(&label(tick), at, text, aligned(Alignment::Center)).draw(canvas)?;
    }
    let axes = Size::new((right - left) as u32 + 1, (lower - upper) as u32 + 1);
    let frame = Rectangle::new(Point::new(left, upper), axes);
    frame.into_styled(PrimitiveStyle::with_stroke(INK, 1)).draw(canvas)?;
    let bold = MonoTextStyle::new(&FONT_7X13_BOLD, INK);
    Text::with_baseline(panel.title, Point::new(left, top + 7), bold, Baseline::Top).draw(canvas)?;
    let at = Point::new(right, lower + 24);
    Text::with_text_style("epoch", at, text, aligned(Alignment::Right)).draw(canvas)?;

    for (i, series) in panel.series.iter().enumerate() {
        let style = PrimitiveStyle::with_stroke(COLOURS[i % COLOURS.len()], 2);
        let point = |&(epoch, value): &(f64, f64)| Point::new(x(epoch), y(value));
        for ends in series.points.windows(2) {
            Line::new(point(&ends[0]), point(&ends[1])).into_styled(style).draw(canvas)?;
        }
        if let [only] = &series.points[..] {
            let mark = Rectangle::with_center(point(only), Size::new(5, 5));
            mark.into_styled(PrimitiveStyle::with_fill(COLOURS[i % COLOURS.len()])).draw(canvas)?;
        }
        let at = Point::new(right + 10, upper + 8 + 14 * i as i32);
        Line::new(at, at + Point::new(14, 0)).into_styled(style).draw(canvas)?;
        let last = series.points.last().map(|(_, value)| label(*value)).unwrap_or_default();
        let name = format!("{} {last}", series.name);
        Text::with_baseline(&name, at + Point::new(20, 0), text, Baseline::Middle).draw(canvas)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_ticks_and_labels() {
        assert_eq!(ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(1.0, 6.0), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(ticks(0.0, 1e-4).len(), 6);
        assert_eq!([0.0, 0.25, 3.0, 250.0, 2e-5].map(label), ["0", "0.25", "3", "250", "2e-5"]);
    }
}
