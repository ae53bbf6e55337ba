//! The bundle of an edge head: the base's detector with its taps, and the head.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use hoi_quantize::fp16::{LEAST_ELEMENTS, convert};
use hoi_quantize::int8::CALIBRATION_LIST;
use hoi_quantize::onnx::to_bytes;
use hoi_runtime::bundle::{BundleParts, HeadSpec, ModelBundle, TrainingRecord, sha256_hex, write_bundle};
use hoi_runtime::fusion::{FusionSpec, TripletNms};
use hoi_runtime::vocabulary::Vocabulary;
use tch::{Device, Tensor};

use super::super::tune::{TUNED_FILE, TunedBackbone};
use crate::dataset::stanford40::evaluation_table;
use crate::export::{EVIDENCE_MAP, EdgeGraph, HEAD_FILE, RELATION_MAP, SecondBackbone, WeightStorage, with_evidence};
use crate::network::efficientnet_lite::EfficientNetLite;
use crate::system::artifact::MODEL_FILE;
use crate::system::edge::{ActionTable, EdgeConfig};
use crate::system::layout::LayoutNetwork;

/// Most triplets of a picture.
const MAX_TRIPLETS: usize = 100;

/// Two triplets of the same interaction are one from this overlap on (UPT).
const TRIPLET_NMS: TripletNms = TripletNms { iou: 0.7, human_power: 1.0, object_power: 0.5 };

/// A base with a second backbone in its detector's graph, written into a folder, and the backbone's late maps in it; its head is the base's and is
/// not run.
pub(in crate::cli) fn with_second_backbone(
    base: &ModelBundle,
    file: &Path,
    side: usize,
    folder: &Path,
) -> anyhow::Result<(ModelBundle, Vec<String>)> {
    let tuned = TunedBackbone::read(file)?;
    let file = &tuned.as_ref().map_or_else(|| file.to_owned(), |_| file.join(TUNED_FILE));
    let lite = EfficientNetLite::load(file, Device::Cpu)
        .with_context(|| format!("loading the second backbone of {}", file.display()))?;
    let tensors = lite.store.variables();
    let backbone = SecondBackbone {
        tensors: &tensors,
        prefix: "",
        config: lite.network.config(),
        storage: WeightStorage::F16,
        side: Some(side),
    };
    let graph = backbone.over(base).context("adding the second backbone to the detector's graph")?;
    let mut parts = BundleParts::from_bundle(base);
    let manifest = &mut parts.manifest;
    let detector = manifest.detector.file.clone();
    let precision = backbone.precision(manifest.precision.get(&detector).map(String::as_str));
    manifest.precision.insert(detector.clone(), precision);
    parts.files.insert(detector, to_bytes(&graph)?);
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = |file: &Path| file.file_name().unwrap_or_default().display().to_string();
    let (data, licence, source) = match tuned {
        None => (
            "ImageNet-1k".to_owned(),
            "Apache-2.0".to_owned(),
            format!("{}, SHA-256 {}", name(file), sha256_hex(&bytes)),
        ),
        Some(TunedBackbone { from, from_sha256, data, command }) => (
            format!("ImageNet-1k; then {data}"),
            "weights: Apache-2.0; Stanford-40: research use, licence not stated".to_owned(),
            format!("{from}, SHA-256 {from_sha256}; {command}"),
        ),
    };
    manifest.training.push(TrainingRecord {
        part: "second_backbone".to_owned(),
        data,
        licence,
        source: format!("EfficientNet-{:?}: {source}", lite.variant),
    });
    let bundle = write_bundle(folder, parts).context("writing the detector with the second backbone")?;
    Ok((bundle, backbone.late_maps()))
}

/// The base with taps in its detector, written into a folder; its head is the base's and is not run.
pub(in crate::cli) fn tapped(
    base: &ModelBundle,
    taps: &[String],
    evidence: Option<&str>,
    folder: &Path,
) -> anyhow::Result<ModelBundle> {
    let mut parts = BundleParts::from_bundle(base);
    let detector = &mut parts.manifest.detector;
    let name = |k: usize| if k == 0 { "feature".to_owned() } else { format!("feature_{k}") };
    detector.taps = taps.iter().enumerate().map(|(k, tap)| (name(k), tap.clone())).collect();
    if let Some(scores) = evidence {
        let graph = with_evidence(base, scores).context("adding the class scores to the detector's graph")?;
        detector.taps.insert(name(taps.len()), EVIDENCE_MAP.to_owned());
        parts.files.insert(detector.file.clone(), to_bytes(&graph)?);
    }
    write_bundle(folder, parts).context("writing the detector with its taps")
}

/// What the bundle is made of.
pub(super) struct EdgeBundle<'a> {
    pub(super) base: &'a ModelBundle,
    pub(super) tapped: &'a ModelBundle,
    pub(super) taps: &'a [String],
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) layout_vocabulary: &'a Vocabulary,
    pub(super) layout: &'a LayoutNetwork,
    pub(super) actions: &'a ActionTable,
    pub(super) config: &'a EdgeConfig,
    pub(super) lambda: f32,
    pub(super) name: &'a str,
    pub(super) data: &'a str,
    pub(super) command: String,
}

impl EdgeBundle<'_> {
    /// Writes it from the model saved in `run`.
    pub(super) fn write(&self, run: &Path, folder: &Path) -> anyhow::Result<ModelBundle> {
        let tensors = Tensor::read_safetensors(run.join(MODEL_FILE)).context("reading the model again")?;
        let tensors = tensors.into_iter().collect();
        let graph = EdgeGraph {
            tensors: &tensors,
            config: self.config,
            layout: self.layout,
            layout_vocabulary: self.layout_vocabulary,
            vocabulary: self.vocabulary,
            actions: self.actions,
        };
        let fusion = FusionSpec::DetrPrior {
            lambda: self.lambda,
            triplet_nms: TRIPLET_NMS,
            max_triplets: MAX_TRIPLETS,
            calibration: None,
        };
        let part = graph.part(fusion).context("exporting the head")?;
        let detector =
            graph.with_relation(self.tapped, self.taps).context("adding the relation map to the detector")?;
        let mut parts = BundleParts::from_bundle(self.tapped);
        let spec = &mut parts.manifest.detector;
        let evidence = spec.taps.values().any(|tensor| tensor == EVIDENCE_MAP);
        spec.taps = BTreeMap::from([("feature".to_owned(), RELATION_MAP.to_owned())]);
        if evidence {
            spec.taps.insert("feature_1".to_owned(), EVIDENCE_MAP.to_owned());
        }
        parts.files.insert(spec.file.clone(), to_bytes(&detector)?);
        let head = parts.manifest.head.file.clone();
        parts.files.remove(&head);
        let mut graph = part.graph;
        convert(&mut graph, LEAST_ELEMENTS);
        parts.files.insert(HEAD_FILE.to_owned(), to_bytes(&graph)?);
        let manifest = &mut parts.manifest;
        manifest.precision.remove(&head);
        manifest.precision.insert(HEAD_FILE.to_owned(), WeightStorage::F16.words().to_owned());
        manifest.head =
            HeadSpec { file: HEAD_FILE.to_owned(), inputs: part.inputs, outputs: part.outputs, answers_unplaced: true };
        manifest.fusion = part.fusion;
        manifest.vocabulary = self.vocabulary.spec().clone();
        self.name.clone_into(&mut manifest.name);
        manifest.description = format!(
            "{}'s detector and an edge head: verbs from boxes, from its maps and from what large systems know",
            self.base.manifest().name
        );
        manifest.training.retain(|record| record.part != "head");
        manifest.training.push(TrainingRecord {
            part: "head".to_owned(),
            data: format!("boxes and labels of HICO-DET's training split (HAKE, no pictures); {}", self.data),
            licence: "weights: Apache-2.0; annotations: MIT (HAKE), HICO-DET research use; Stanford-40: research use, licence not stated".to_owned(),
            source: self.command.clone(),
        });
        manifest.accuracy.clear();
        manifest.evaluation = BTreeMap::from([("stanford40".to_owned(), evaluation_table())]);
        // What was done to the detector, and with which pictures, still holds.
        let of_detector = format!("{}:", manifest.detector.file);
        manifest.notes.retain(|note| note.starts_with(&of_detector));
        manifest.notes.extend(part.notes);
        let kept = [manifest.detector.file.as_str(), HEAD_FILE, CALIBRATION_LIST].map(str::to_owned);
        parts.files.retain(|name, _| kept.contains(name));
        write_bundle(folder, parts).context("writing the bundle")
    }
}
