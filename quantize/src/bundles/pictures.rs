//! The pictures on which two bundles differ most, drawn for both.

use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::pipeline::{FrameResult, HoiPipeline};
use hoi_runtime::sink::annotate;
use hoi_runtime::source::{ImageLimits, open_image};
use image::{Rgb, RgbImage, imageops};

use super::matching::{Missed, Thresholds};
use super::{BundlesError, WorstImage};
use crate::calibrate::file_name;

/// So many pictures are drawn.
const MOST: usize = 6;
/// Longest side of a drawn picture; a larger one is made smaller.
const LONGEST: u32 = 800;
/// Width of a frame in pixels; [`annotate`] covers about 2 of them.
const FRAME: u32 = 5;
const ONLY_HERE: Rgb<u8> = Rgb([235, 0, 130]);

/// What both bundles say of one picture.
pub(super) struct Kept {
    path: PathBuf,
    results: [FrameResult; 2],
    /// What only the first and what only the second has.
    only: [Vec<Missed>; 2],
}

impl Kept {
    pub fn new(path: &Path, results: [FrameResult; 2]) -> Self {
        Self { path: path.to_owned(), results, only: Default::default() }
    }

    /// Adds what is lost and what is new.
    pub fn add(&mut self, [lost, new]: [Vec<Missed>; 2]) {
        self.only[0].extend(lost);
        self.only[1].extend(new);
    }

    /// How much the bundles differ: by number, then by sum of scores.
    fn difference(&self) -> (usize, f32) {
        let all = || self.only.iter().flatten();
        (all().count(), all().map(|m| m.score).sum())
    }

    /// What the report says of it; `drawn` where there are pictures.
    pub fn summary(&self, index: usize, drawn: bool) -> WorstImage {
        WorstImage {
            image: file_name(&self.path),
            lost: self.only[0].len(),
            new: self.only[1].len(),
            pictures: drawn.then(|| file_names(index)),
        }
    }
}

fn file_names(index: usize) -> [String; 2] {
    ["a", "b"].map(|which| format!("{:02}-{which}.png", index + 1))
}

/// Drops pictures without a difference and all but the worst.
pub(super) fn keep_worst(all: &mut Vec<Kept>) {
    all.retain(|kept| kept.difference().0 > 0);
    all.sort_by(|x, y| {
        let ((n, sum), (m, other)) = (x.difference(), y.difference());
        m.cmp(&n).then(other.total_cmp(&sum))
    });
    all.truncate(MOST);
}

/// Draws both answers of each picture; gives file names and pictures.
pub(super) fn draw(
    worst: &[Kept],
    pipelines: &[&HoiPipeline; 2],
    thresholds: &Thresholds,
) -> Result<Vec<(String, RgbImage)>, BundlesError> {
    let mut drawn = Vec::new();
    for (i, kept) in worst.iter().enumerate() {
        let frame =
            open_image(&kept.path, &ImageLimits::default()).map_err(|source| BundlesError::Redraw { source })?;
        let (picture, scale) = small(frame.pixels);
        for (which, name) in file_names(i).into_iter().enumerate() {
            let mut framed = picture.clone();
            for bbox in kept.only[which].iter().flat_map(|m| &m.boxes) {
                frame_box(&mut framed, &bbox.scale(scale[0], scale[1]));
            }
            let result = scaled(&kept.results[which], scale, &picture);
            let vocabulary = pipelines[which].vocabulary();
            drawn.push((name, annotate(&framed, &result, vocabulary, thresholds.triplet_other_score)));
        }
    }
    Ok(drawn)
}

/// The picture with at most [`LONGEST`] pixels a side, and the factors of x and y.
fn small(picture: RgbImage) -> (RgbImage, [f32; 2]) {
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= LONGEST {
        return (picture, [1.0, 1.0]);
    }
    let side = |n: u32| (u64::from(n) * u64::from(LONGEST) / u64::from(longest)).max(1) as u32;
    let (w, h) = (side(width), side(height));
    (imageops::thumbnail(&picture, w, h), [w as f32 / width as f32, h as f32 / height as f32])
}

/// The answer with boxes in pixels of the small picture.
fn scaled(result: &FrameResult, [sx, sy]: [f32; 2], picture: &RgbImage) -> FrameResult {
    let mut result = result.clone();
    result.size = Size::new(picture.width(), picture.height());
    let of_triplets = result.triplets.iter_mut().flat_map(|t| std::iter::once(&mut t.human).chain(&mut t.object));
    for detection in of_triplets.chain(&mut result.detections) {
        detection.bbox = detection.bbox.scale(sx, sy);
    }
    result
}

/// Draws the outline of a box, outside of the thinner one that [`annotate`] draws.
fn frame_box(picture: &mut RgbImage, bbox: &BBox) {
    let (width, height) = picture.dimensions();
    let margin = FRAME as f32;
    let outer = BBox::new(bbox.x1 - margin, bbox.y1 - margin, bbox.x2 + margin, bbox.y2 + margin);
    let outer = outer.clip(Size::new(width, height));
    let [x1, y1, x2, y2] = [outer.x1 as u32, outer.y1 as u32, outer.x2 as u32, outer.y2 as u32];
    for y in y1..y2 {
        for x in x1..x2 {
            let edge = x < x1 + FRAME || y < y1 + FRAME || x + FRAME >= x2 || y + FRAME >= y2;
            if edge {
                picture.put_pixel(x, y, ONLY_HERE);
            }
        }
    }
}
