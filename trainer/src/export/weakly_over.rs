//! A Weakly-HOI head over the detector that a bundle has already, with a second backbone for its map.

use std::collections::BTreeMap;
use std::path::Path;

use hoi_quantize::onnx::to_bytes;
use hoi_runtime::bundle::{AccuracyRecord, ModelBundle, TrainingRecord, write_bundle};
use hoi_runtime::engine::{Dim, display_shape};
use hoi_runtime::pairing::PairingSpec;
use hoi_runtime::vocabulary::VocabularySpec;

use super::detr_bundle::HeadPart;
use super::head_over::{add_file, with_head};
use super::second_backbone::{SECOND_BACKBONE_MAP, SecondBackbone};
use super::weights::ExportError;

/// The head input that the second backbone fills.
const FEATURE: &str = "feature";

/// The file that says whose work a bundle is.
const NOTICE: &str = "NOTICE";

/// The file with the licence of a bundle's parts.
const LICENSE: &str = "LICENSE";

/// A head that was trained on a second backbone's map and on what a bundle's detector says.
#[derive(Clone, Debug)]
pub struct WeaklyOver<'a> {
    /// The bundle whose detector it is; its head is replaced.
    pub base: &'a ModelBundle,
    /// What gives the map.
    pub backbone: SecondBackbone<'a>,
    /// Name of the new bundle.
    pub name: String,
    /// Version of the new bundle.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// The head; its `feature` must be the second backbone's map.
    pub head: HeadPart,
    /// Classes, verbs and which verb can occur with which object; it must have the detector's classes.
    pub vocabulary: VocabularySpec,
    /// Which detections become entities.
    pub pairing: PairingSpec,
    /// What the head and the second backbone learned from; what the detector did is the base's.
    pub training: Vec<TrainingRecord>,
    /// Measured figures.
    pub accuracy: Vec<AccuracyRecord>,
    /// How a data set's labels map to the vocabulary.
    pub evaluation: BTreeMap<String, BTreeMap<String, (String, Option<String>)>>,
    /// What a reader of the manifest should know, beside the head's own notes.
    pub notes: Vec<String>,
    /// Whose work the second backbone is and under which licence; it follows the base's NOTICE.
    pub notice: String,
    /// More texts by name. `NOTICE`, and `LICENSE` where the base has one, are taken.
    pub texts: BTreeMap<String, String>,
}

/// Writes the bundle into `folder`: the base's detector with the second backbone in its graph as the tap `feature`, and the head. Of the
/// base's other taps those stay that the head takes; NOTICE and LICENSE of the base are kept.
///
/// # Errors
/// [`ExportError::FeatureShape`] when the head is for another map, [`ExportError::FileTaken`] for a text whose name is taken, what
/// [`SecondBackbone::over`] says, and when the bundle cannot be written or refuses its parts.
pub fn write_weakly_over(parts: &WeaklyOver<'_>, folder: &Path) -> Result<ModelBundle, ExportError> {
    parts.check_feature()?;
    let detector = to_bytes(&parts.backbone.over(parts.base)?)?;
    let mut bundle = with_head(parts.base, parts.head.clone())?;
    let manifest = &mut bundle.manifest;
    let file = manifest.detector.file.clone();
    manifest.name.clone_from(&parts.name);
    manifest.version.clone_from(&parts.version);
    manifest.description.clone_from(&parts.description);
    manifest.detector.taps.retain(|tap, _| parts.head.inputs.iter().any(|input| input.name == *tap));
    manifest.detector.taps.insert(FEATURE.to_owned(), SECOND_BACKBONE_MAP.to_owned());
    let precision = parts.backbone.precision(manifest.precision.get(&file).map(String::as_str));
    manifest.precision.insert(file.clone(), precision);
    manifest.vocabulary = parts.vocabulary.clone();
    manifest.pairing = parts.pairing.clone();
    manifest.training.extend_from_slice(&parts.training);
    manifest.accuracy.clone_from(&parts.accuracy);
    manifest.evaluation.clone_from(&parts.evaluation);
    manifest.notes.extend_from_slice(&parts.notes);
    bundle.files.insert(file, detector);
    add_file(&mut bundle, NOTICE, parts.notice_text())?;
    if let Some(licence) = parts.base.file(LICENSE) {
        add_file(&mut bundle, LICENSE, licence.to_vec())?;
    }
    for (name, text) in &parts.texts {
        add_file(&mut bundle, name, text.clone().into_bytes())?;
    }
    Ok(write_bundle(folder, bundle)?)
}

impl WeaklyOver<'_> {
    /// Whether the head is for the map that it will get.
    fn check_feature(&self) -> Result<(), ExportError> {
        let [rows, columns, channels] = self.backbone.feature(&self.base.manifest().detector.input);
        let expected = [1, channels, rows, columns].map(Dim::Fixed);
        match self.head.inputs.iter().find(|input| input.name == FEATURE) {
            Some(input) if input.shape == expected => Ok(()),
            found => Err(ExportError::FeatureShape {
                expected: display_shape(&expected),
                found: found.map_or_else(|| "not among its inputs".to_owned(), |input| display_shape(&input.shape)),
            }),
        }
    }

    /// The base's NOTICE, as it is, and the second backbone's.
    fn notice_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(base) = self.base.file(NOTICE) {
            let name = &self.base.manifest().name;
            let heading = format!(
                "Of the bundle `{name}`, whose detector this bundle has; what is said there of another head does not concern this bundle:\n\n"
            );
            text.extend_from_slice(heading.as_bytes());
            text.extend_from_slice(base.trim_ascii_end());
            text.extend_from_slice(b"\n\n");
        }
        text.extend_from_slice(b"Of the second backbone, which is part of the detector's graph:\n\n");
        text.extend_from_slice(self.notice.trim_end().as_bytes());
        text.push(b'\n');
        text
    }
}
