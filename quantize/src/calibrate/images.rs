//! Which images are looked at, and whether they are fit to calibrate on.

use std::path::{Path, PathBuf};

use hoi_runtime::source::list_pictures;
use image::RgbImage;

use super::CalibrateError;

/// Fewer images than this get a warning: extremes of rarely active channels are then a matter of luck.
pub const FEW_IMAGES: usize = 20;

/// Points a side at which images are compared.
const GRID: u32 = 16;
/// Images whose points differ by less than this on average (of 255) are alike.
const ALIKE: f64 = 3.0;
/// A point whose channels differ by at most this (of 255) is grey: JPEG rounds.
const GREY: u8 = 6;

/// At most `count` of the pictures in `folder`, evenly spread over their sorted names.
///
/// # Errors
/// [`CalibrateError::Folder`] when it cannot be read, [`CalibrateError::NoImages`] when there are none.
pub fn choose_images(folder: &Path, count: usize) -> Result<Vec<PathBuf>, CalibrateError> {
    let all = list_pictures(folder).map_err(|source| CalibrateError::Folder { source })?;
    if all.is_empty() {
        return Err(CalibrateError::NoImages { folder: folder.to_owned() });
    }
    Ok(evenly_spread(&all, count))
}

/// At most `count` of a list, evenly spread over it, in order; 0 counts as 1.
pub(crate) fn evenly_spread(all: &[PathBuf], count: usize) -> Vec<PathBuf> {
    let taken = all.len().min(count.max(1));
    (0..taken).map(|i| all[i * all.len() / taken].clone()).collect()
}

/// How lists and reports name a picture: its file name.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Whether the images so far are all alike or all grey.
#[derive(Debug)]
pub(super) struct Variety {
    first: Option<Vec<[u8; 3]>>,
    pub all_alike: bool,
    pub all_grey: bool,
}

impl Default for Variety {
    fn default() -> Self {
        Self { first: None, all_alike: true, all_grey: true }
    }
}

impl Variety {
    pub fn add(&mut self, picture: &RgbImage) {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return;
        }
        let at = |i: u32, length: u32| (u64::from(2 * i + 1) * u64::from(length) / u64::from(2 * GRID)) as u32;
        let points: Vec<[u8; 3]> =
            (0..GRID * GRID).map(|i| picture.get_pixel(at(i % GRID, width), at(i / GRID, height)).0).collect();
        self.all_grey &= points.iter().all(|[r, g, b]| r.max(g).max(b) - r.min(g).min(b) <= GREY);
        match &self.first {
            None => self.first = Some(points),
            Some(first) => {
                let differences = first.as_flattened().iter().zip(points.as_flattened());
                let sum: f64 = differences.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
                self.all_alike &= sum / f64::from(3 * GRID * GRID) < ALIKE;
            }
        }
    }
}
