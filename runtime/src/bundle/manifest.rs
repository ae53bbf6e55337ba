//! What `manifest.json` holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detector::DetectorSpec;
use crate::engine::TensorSpec;
use crate::fusion::FusionSpec;
use crate::pairing::PairingSpec;
use crate::vocabulary::VocabularySpec;

/// The manifest schema that this version reads and writes.
pub const SCHEMA: &str = "hoi.bundle/1";

/// A bundle's manifest. Every key is known; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Name of the bundle.
    pub name: String,
    /// Version of the bundle.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// How the networks divide the work.
    pub kind: BundleKind,
    /// Every file of the bundle but the manifest, by its name relative to the bundle's folder.
    pub files: BTreeMap<String, FileEntry>,
    /// The network that finds people and objects.
    pub detector: DetectorSpec,
    /// Which detections become entities.
    pub pairing: PairingSpec,
    /// Classes, verbs and which verb can occur with which object.
    pub vocabulary: VocabularySpec,
    /// The network that scores verbs.
    pub head: HeadSpec,
    /// The scoring rule and its constants.
    pub fusion: FusionSpec,
    /// Per file: how its weights are stored and computed, for example `f16 stored, f32 computed`.
    pub precision: BTreeMap<String, String>,
    /// What each part was trained on.
    pub training: Vec<TrainingRecord>,
    /// Measured accuracy, each figure with the command that measured it.
    pub accuracy: Vec<AccuracyRecord>,
    /// How a data set's labels map to the vocabulary: data set -> label -> `[verb, object or null]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluation: BTreeMap<String, BTreeMap<String, (String, Option<String>)>>,
    /// What a reader must know to take the bundle for what it is: choices where a paper leaves several open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How the networks of a bundle divide the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleKind {
    /// A detector, then an interaction head over pairs of its detections.
    TwoStage,
    /// One network that answers with human box, object box and verbs per query.
    Query,
}

/// Hash and size of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// The interaction head: which of the contract's inputs it takes, and what it gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadSpec {
    /// The graph's file.
    pub file: String,
    /// The inputs present, by the names of the head's contract: `feature`, `feature_1`, ..., `entity_masks`, `upper_masks`, `pair_masks`,
    /// `union_masks`, `human_index`, `object_index`, `pairs_of_human`, `pairs_of_object`, `spatial`, `object_class`, `entity_tokens`.
    pub inputs: Vec<TensorSpec>,
    /// The outputs; `verb_logits [P, V]` must be among them. With the fusion rule `weakly` there may be `relatedness [P]` and
    /// `image_logits [I]`. What the rule does not use must not be listed.
    pub outputs: Vec<TensorSpec>,
    /// Whether the head answers for an object whose place is not known: a pair of a human with itself and that object's class.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers_unplaced: bool,
}

/// What a part of the bundle was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecord {
    /// `detector`, `second_backbone` or `head`.
    pub part: String,
    /// The data.
    pub data: String,
    /// Licence of the weights, and what is known of the data's.
    pub licence: String,
    /// Where the weights come from: package, version, command.
    pub source: String,
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyRecord {
    /// Data set and split.
    pub data_set: String,
    /// The conditions that the figure depends on.
    pub setting: String,
    /// What was measured.
    pub metric: String,
    /// The figure.
    pub value: f64,
    /// The command that measured it.
    pub command: String,
}
