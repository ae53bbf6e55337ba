//! The bundle that is written.

use std::path::Path;

use hoi_runtime::bundle::{BundleParts, MANIFEST};

use super::mixed::Mixed;
use super::{Int8Error, Int8Job, PRECISION};
use crate::calibrate::Statistics;
use crate::qdq::Written;

/// Files beside a bundle's own that are taken along: its card and the pictures in it.
const TEXTS: &[&str] = &["md", "svg", "png"];
/// The bundle's list of the images that calibration saw, one file name a line, as `hoi-quantize compare --leave-out` reads it.
pub const CALIBRATION_LIST: &str = "calibration.txt";
/// A larger text is left behind.
const TEXT_LIMIT: u64 = 16 << 20;

/// Refuses an output folder that holds something.
pub(super) fn check(output: &Path) -> Result<(), Int8Error> {
    let used = match std::fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if used { Err(Int8Error::OutputExists { path: output.to_owned() }) } else { Ok(()) }
}

/// Changes the manifest to say what was done, and adds the list of calibration images.
///
/// Measured figures go: they are the float network's. Calibrated scores stay.
pub(super) fn describe(parts: &mut BundleParts, job: &Int8Job, file: &str, statistics: &Statistics, written: &Written) {
    let manifest = &mut parts.manifest;
    manifest.name.push_str("-int8");
    manifest.description.push_str("; detector in INT8");
    manifest.precision.insert(file.to_owned(), PRECISION.to_owned());
    manifest.accuracy.clear();
    let images = statistics.images;
    let listed = if statistics.files.is_empty() { String::new() } else { format!(" ({CALIBRATION_LIST})") };
    manifest.notes.push(format!(
        "{file}: INT8 by `{}`, method {}, {images} calibration images{listed}.",
        job.command, job.method
    ));
    if !statistics.files.is_empty() {
        let lines = statistics.files.iter().map(|name| format!("{name}\n")).collect::<String>();
        parts.files.insert(CALIBRATION_LIST.to_owned(), lines.into_bytes());
    }
    for tensor in manifest.detector.taps.values_mut() {
        if let Some(dequantized) = written.dequantized.get(tensor) {
            tensor.clone_from(dequantized);
        }
    }
}

/// Notes which layers mixed precision left in float, as options that do the same.
pub(super) fn describe_mixed(parts: &mut BundleParts, file: &str, mixed: Option<&Mixed>) {
    let Some(Mixed { max_drop: Some(max_drop), kept, after, images, .. }) = mixed else { return };
    let options = if kept.is_empty() { String::new() } else { format!(" by `--keep-float {}`", kept.join(" ")) };
    parts.manifest.notes.push(format!(
        "{file}: {} layers stay float for --max-drop {max_drop}{options}; {:.1} % of {} triplets are lost on {images} images.",
        kept.len(),
        after.lost,
        after.triplets.count
    ));
}

/// Adds the card and its pictures, which no manifest needs to list.
pub(super) fn add_texts(parts: &mut BundleParts, folder: &Path) -> Result<(), Int8Error> {
    let text = |path: &Path| {
        let path = path.to_owned();
        move |source| Int8Error::Text { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(text(folder))? {
        let path = entry.map_err(text(folder))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let wanted = path.extension().and_then(|e| e.to_str()).is_some_and(|e| TEXTS.contains(&e));
        let metadata = std::fs::symlink_metadata(&path).map_err(text(&path))?;
        let plain = metadata.is_file() && metadata.len() <= TEXT_LIMIT && !name.starts_with('.') && name != MANIFEST;
        if wanted && plain && !parts.files.contains_key(name) {
            parts.files.insert(name.to_owned(), std::fs::read(&path).map_err(text(&path))?);
        }
    }
    Ok(())
}
