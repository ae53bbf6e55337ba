//! The bundle of a DETR and a head over it, whatever the system.

use std::collections::BTreeMap;
use std::path::Path;

use hoi_quantize::onnx::{ModelProto, to_bytes};
use hoi_runtime::bundle::{
    AccuracyRecord, BundleKind, BundleParts, HeadSpec, Manifest, ModelBundle, SCHEMA, TrainingRecord, write_bundle,
};
use hoi_runtime::engine::TensorSpec;
use hoi_runtime::fusion::FusionSpec;
use hoi_runtime::pairing::PairingSpec;
use hoi_runtime::vocabulary::VocabularySpec;

use super::HEAD_FILE;
use super::detr::{DETECTOR_FILE, DetrGraph};
use super::weights::ExportError;

/// A head ready for a bundle.
#[derive(Clone, Debug)]
pub struct HeadPart {
    /// The graph.
    pub graph: ModelProto,
    /// Its inputs, by the names of the head's contract.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs.
    pub outputs: Vec<TensorSpec>,
    /// How its outputs become scores.
    pub fusion: FusionSpec,
    /// What a reader of the manifest should know.
    pub notes: Vec<String>,
}

/// Everything that the bundle is made of.
#[derive(Clone, Debug)]
pub struct DetrBundle<'a> {
    /// Name of the bundle.
    pub name: String,
    /// Version of the bundle.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// The detector.
    pub detector: DetrGraph<'a>,
    /// Its classes by name, in the order of its columns.
    pub classes: Vec<String>,
    /// The head; its `feature` must be that of the detector.
    pub head: HeadPart,
    /// Classes, verbs and which verb can occur with which object.
    pub vocabulary: VocabularySpec,
    /// What detector and head learned from.
    pub training: Vec<TrainingRecord>,
    /// Measured figures.
    pub accuracy: Vec<AccuracyRecord>,
    /// How a data set's labels map to the vocabulary.
    pub evaluation: BTreeMap<String, BTreeMap<String, (String, Option<String>)>>,
}

/// Writes the bundle into `folder`, with C3's pairing.
///
/// # Errors
/// [`ExportError`] when the detector cannot be exported, or the bundle cannot be written or refuses its parts.
pub fn write_detr_bundle(bundle: &DetrBundle, folder: &Path) -> Result<ModelBundle, ExportError> {
    let (input, stride) = (bundle.detector.input, bundle.detector.config.backbone.stride());
    if [input.width, input.height].iter().any(|&side| i64::from(side) % stride != 0) {
        return Err(ExportError::InputCells { input, stride });
    }
    let HeadPart { graph, inputs, outputs, fusion, notes } = bundle.head.clone();
    let files = BTreeMap::from([
        (DETECTOR_FILE.to_owned(), to_bytes(&bundle.detector.graph()?)?),
        (HEAD_FILE.to_owned(), to_bytes(&graph)?),
    ]);
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        name: bundle.name.clone(),
        version: bundle.version.clone(),
        description: bundle.description.clone(),
        kind: BundleKind::TwoStage,
        files: BTreeMap::new(),
        detector: bundle.detector.spec(bundle.classes.clone()),
        pairing: PairingSpec::default(),
        vocabulary: bundle.vocabulary.clone(),
        head: HeadSpec { file: HEAD_FILE.to_owned(), inputs, outputs, answers_unplaced: false },
        fusion,
        precision: files.keys().map(|name| (name.clone(), "f32".to_owned())).collect(),
        training: bundle.training.clone(),
        accuracy: bundle.accuracy.clone(),
        evaluation: bundle.evaluation.clone(),
        notes,
    };
    Ok(write_bundle(folder, BundleParts { manifest, files })?)
}
