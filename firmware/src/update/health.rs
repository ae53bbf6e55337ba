//! Whether a bundle runs on this machine.

use std::path::Path;

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;
use hoi_runtime::source::Frame;
use image::{Rgb, RgbImage};

use crate::device::describe;

/// Loads the bundle in `folder` and runs it on a drawn picture: the networks fit their description, all operators are known here, and what
/// they answer are numbers.
///
/// # Errors
/// What is wrong, in words.
pub fn check_health(folder: &Path) -> Result<(), String> {
    let bundle = ModelBundle::load(folder).map_err(|error| describe(&error))?;
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::default()).map_err(|error| describe(&error))?;
    // Edges and flat areas in all colours; what is seen in it does not matter.
    let pixels = RgbImage::from_fn(320, 240, |x, y| Rgb([(x / 32 * 36) as u8, y as u8, ((x ^ y) & 0x80) as u8]));
    let frame = Frame { pixels, source: "test picture".to_owned(), index: 0, decode_ms: 0.0 };
    let result = pipeline.run(&frame).map_err(|error| describe(&error))?;
    let scores = result.triplets.iter().map(|t| t.score).chain(result.detections.iter().map(|d| d.score));
    match scores.into_iter().find(|score| !(0.0..=1.0).contains(score)) {
        Some(score) => Err(format!("a score of the test picture is {score}, which is not between 0 and 1")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hoi_runtime::bundle::{BundleParts, write_bundle};

    use super::*;

    #[test]
    fn the_program_s_own_bundle_is_healthy_and_one_without_a_network_is_not() {
        assert_eq!(check_health(Path::new("builtin:nano")), Ok(()));
        let folder = tempfile::tempdir().unwrap();
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        parts.files.insert("detector.onnx".into(), b"no network".to_vec());
        // It loads: only running it shows what it is.
        write_bundle(&folder.path().join("b"), parts).unwrap();
        let said = check_health(&folder.path().join("b")).unwrap_err();
        assert!(said.contains("detector.onnx"), "{said}");
        let said = check_health(&folder.path().join("gone")).unwrap_err();
        assert!(said.contains("manifest.json"), "{said}");
    }
}
