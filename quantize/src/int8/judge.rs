//! What a quantized bundle keeps of the triplets of the float one, on images that calibration did not use.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hoi_runtime::bundle::{BundleError, BundleParts, write_bundle};
use hoi_runtime::engine::Engine;
use hoi_runtime::source::{ImageLimits, list_pictures, open_image};
use serde::Serialize;
use tempfile::TempDir;

use super::Int8Error;
use crate::bundles::{Ready, Share, Sighting, Thresholds};
use crate::calibrate::{CalibrateError, Warning, evenly_spread, file_name};

/// With fewer images beside those of calibration, all are judged on.
const FEWEST_HELD: usize = 20;
/// From which score on the float bundle's triplets count for [`Agreement::drift`].
const DRIFT_SCORE: f32 = 0.1;

/// How much of the float bundle's triplets another one keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Those over 0.3 that the other has over 0.2, as `hoi-quantize compare` counts.
    pub triplets: Share,
    /// What is lost of these, in percent.
    pub lost: f64,
    /// How far the scores of those over 0.1 move on average, in percent; one that is not found at all has moved to 0.
    pub drift: f64,
    /// How many triplets `drift` is of.
    pub drifting: usize,
}

impl Agreement {
    /// Adds what both bundles find on one image.
    pub(super) fn add(&mut self, float: &[Sighting], other: &[Sighting], thresholds: &Thresholds) {
        let mut moved = self.drift * self.drifting as f64;
        let (mut count, mut found) = (0, 0);
        for triplet in float.iter().filter(|t| t.score > DRIFT_SCORE) {
            let best = triplet.best_of(other, thresholds.iou).unwrap_or(0.0);
            moved += 100.0 * f64::from((triplet.score - best).abs());
            self.drifting += 1;
            if triplet.score > thresholds.triplet_score {
                count += 1;
                found += usize::from(best > thresholds.triplet_other_score);
            }
        }
        self.triplets.add(count, found);
        self.lost = 100.0 * (1.0 - self.triplets.share);
        self.drift = moved / self.drifting.max(1) as f64;
    }
}

/// The images to judge on.
pub(super) struct Held {
    pub images: Vec<PathBuf>,
    pub warning: Option<Warning>,
}

/// At most `count` of the images in `folder` that are none of `used`; of all, with a warning, where these are too few.
pub(super) fn held(folder: &Path, used: &[String], count: usize) -> Result<Held, Int8Error> {
    let all = list_pictures(folder).map_err(|source| CalibrateError::Folder { source })?;
    let names: HashSet<&String> = used.iter().collect();
    let others: Vec<PathBuf> = all.iter().filter(|p| !names.contains(&file_name(p))).cloned().collect();
    let enough = !used.is_empty() && others.len() >= FEWEST_HELD.min(count);
    let images = evenly_spread(if enough { &others } else { &all }, count);
    let warning = (!enough).then_some(Warning::JudgedOnCalibration { others: others.len() });
    Ok(Held { images, warning })
}

/// The float bundle's triplets on the images to judge on.
pub(super) struct Judge<'a> {
    engine: &'a dyn Engine,
    thresholds: Thresholds,
    float: Vec<(PathBuf, Vec<Sighting>)>,
    scratch: TempDir,
}

impl<'a> Judge<'a> {
    /// Runs the float bundle. Images that cannot be read are left out.
    pub fn new(bundle: &Path, engine: &'a dyn Engine, images: &[PathBuf]) -> Result<Self, Int8Error> {
        let thresholds = Thresholds::default();
        let io = |cause| BundleError::Io { path: std::env::temp_dir(), cause };
        let scratch = tempfile::tempdir().map_err(io)?;
        let ready = Ready::load(bundle, engine)?;
        let mut float = Vec::new();
        for path in images {
            let Some(triplets) = triplets(&ready, path)? else { continue };
            float.push((path.clone(), triplets));
        }
        let score = thresholds.triplet_score;
        if !float.iter().flat_map(|(_, triplets)| triplets).any(|t| t.score > score) {
            return Err(Int8Error::NoTriplets { images: float.len(), score });
        }
        Ok(Self { engine, thresholds, float, scratch })
    }

    /// How many images are judged on.
    pub fn images(&self) -> usize {
        self.float.len()
    }

    /// Runs the bundle that `parts` make.
    pub fn judge(&self, parts: BundleParts) -> Result<Agreement, Int8Error> {
        let folder = self.scratch.path().join("bundle");
        write_bundle(&folder, parts)?;
        let ready = Ready::load(&folder, self.engine)?;
        let mut agreement = Agreement::default();
        for (path, float) in &self.float {
            let other = triplets(&ready, path)?.unwrap_or_default();
            agreement.add(float, &other, &self.thresholds);
        }
        Ok(agreement)
    }
}

/// The triplets of a bundle on an image; `None` where it cannot be read.
fn triplets(ready: &Ready<'_>, path: &Path) -> Result<Option<Vec<Sighting>>, Int8Error> {
    let Ok(frame) = open_image(path, &ImageLimits::default()) else { return Ok(None) };
    let result = ready.run(&frame, path)?;
    Ok(Some(Sighting::of_frame(&result, ready.pipeline.vocabulary()).1))
}
