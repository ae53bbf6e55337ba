//! What comparing two bundles reports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hoi_runtime::bundle::Manifest;
use hoi_runtime::pairing::PairingSpec;
use hoi_runtime::vocabulary::Vocabulary;
use serde::Serialize;

use super::matching::{Missed, Share, Sighting, Thresholds, missing};
use super::times::Times;

/// Name and version of the JSON report.
pub const REPORT_SCHEMA: &str = "hoi.compare/1";

/// The report of one comparison; its JSON form is what `--json` prints, its text form what the command prints otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BundlesReport {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The first bundle.
    pub a: BundleSummary,
    /// The second bundle.
    pub b: BundleSummary,
    /// The engine that ran both.
    pub engine: String,
    /// The pictures.
    pub images: ImagesSummary,
    /// From where on findings count.
    pub thresholds: Thresholds,
    /// The entities: detections after NMS and the bounds of each bundle's pairing.
    pub detections: TwoWays,
    /// The triplets.
    pub triplets: TwoWays,
    /// How long both took.
    pub times: Times,
    /// The pictures on which they differ most, worst first.
    pub worst: Vec<WorstImage>,
    /// What to know when reading the figures.
    pub warnings: Vec<Warning>,
}

/// A bundle, by its manifest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BundleSummary {
    /// Its folder.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How weights are stored and computed, by file.
    pub precision: BTreeMap<String, String>,
    /// Bytes of each file that the manifest lists.
    pub files: BTreeMap<String, u64>,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl BundleSummary {
    pub(super) fn new(folder: &Path, manifest: &Manifest) -> Self {
        let files: BTreeMap<String, u64> = manifest.files.iter().map(|(name, e)| (name.clone(), e.bytes)).collect();
        Self {
            folder: folder.display().to_string(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            precision: manifest.precision.clone(),
            bytes: files.values().sum(),
            files,
        }
    }
}

/// The pictures that both bundles saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImagesSummary {
    /// Their folder.
    pub folder: String,
    /// How many of the folder were left out by name.
    pub left_out: usize,
    /// How many of the others were chosen.
    pub chosen: usize,
    /// How many of these could be read.
    pub compared: usize,
}

/// Kept, lost and new findings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TwoWays {
    /// Of the first bundle's, those that the second has.
    pub a_in_b: Share,
    /// Of the second bundle's, those that the first has.
    pub b_in_a: Share,
    /// What only the first has, by falling score.
    pub lost: Vec<Missed>,
    /// What only the second has, by falling score.
    pub new: Vec<Missed>,
}

impl TwoWays {
    /// Adds what both bundles found on one picture; gives what is lost and what is new on it.
    pub(super) fn add(
        &mut self,
        image: &str,
        [a, b]: [&[Sighting]; 2],
        scores: [f32; 2],
        iou: f32,
    ) -> [Vec<Missed>; 2] {
        let (a_count, lost) = missing(image, a, b, scores, iou);
        let (b_count, new) = missing(image, b, a, scores, iou);
        self.a_in_b.add(a_count, a_count - lost.len());
        self.b_in_a.add(b_count, b_count - new.len());
        self.lost.extend_from_slice(&lost);
        self.new.extend_from_slice(&new);
        [lost, new]
    }

    /// Brings the lists into order.
    pub(super) fn sort(&mut self) {
        for list in [&mut self.lost, &mut self.new] {
            list.sort_by(|x, y| y.score.total_cmp(&x.score));
        }
    }
}

/// A picture on which the bundles differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorstImage {
    /// Its file name.
    pub image: String,
    /// Detections and triplets that only the first bundle has.
    pub lost: usize,
    /// Those that only the second has.
    pub new: usize,
    /// The report's pictures of the first and the second bundle's answer; `null` without a report folder.
    pub pictures: Option<[String; 2]>,
}

/// What to know when reading the figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// A picture that could not be read.
    Skipped {
        /// What was wrong, with the file's name.
        reason: String,
    },
    /// Names to leave out that no picture has.
    NotThere {
        /// The list.
        list: String,
        /// How many.
        names: usize,
        /// Of how many on the list.
        of: usize,
        /// The first of them.
        example: String,
    },
    /// Classes or verbs of which only one bundle knows the name: what they find is lost or new.
    OnlyOneKnows {
        /// `classes` or `verbs`.
        what: &'static str,
        /// Known only to the first bundle.
        a: Vec<String>,
        /// Known only to the second bundle.
        b: Vec<String>,
    },
    /// Detections between the threshold and the bundle's own score are mostly dropped before they can be compared.
    BelowPairing {
        /// Name of the bundle.
        bundle: String,
        /// The threshold.
        score: f32,
        /// The least score of the bundle's pairing.
        min_score: f32,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
            Self::NotThere { list, names, of, example } => {
                write!(f, "{list}: {names} of its {of} names are no picture of the folder, for example `{example}`")
            }
            Self::OnlyOneKnows { what, a, b } => {
                write!(
                    f,
                    "{what} that only one bundle knows count as lost or new: {} of A, {} of B",
                    a.len(),
                    b.len()
                )?;
                let example = a.first().or(b.first());
                example.map_or(Ok(()), |name| write!(f, ", for example `{name}`"))
            }
            Self::BelowPairing { bundle, score, min_score } => {
                write!(
                    f,
                    "{bundle} pairs detections from {min_score} on; few of those between {score} and that are seen here"
                )
            }
        }
    }
}

/// Names that only one of two vocabularies has.
pub(super) fn of_vocabularies([a, b]: [&Vocabulary; 2]) -> Vec<Warning> {
    let only = |from: &[String], other: &[String]| -> Vec<String> {
        let other: BTreeSet<&String> = other.iter().collect();
        from.iter().filter(|name| !other.contains(name)).cloned().collect()
    };
    let (a, b) = (a.spec(), b.spec());
    [("classes", &a.objects, &b.objects), ("verbs", &a.verbs, &b.verbs)]
        .into_iter()
        .map(|(what, a, b)| Warning::OnlyOneKnows { what, a: only(a, b), b: only(b, a) })
        .filter(|w| !matches!(w, Warning::OnlyOneKnows { a, b, .. } if a.is_empty() && b.is_empty()))
        .collect()
}

/// Whether a bundle drops detections that the thresholds ask for.
pub(super) fn of_pairing(bundle: &BundleSummary, pairing: &PairingSpec, thresholds: &Thresholds) -> Option<Warning> {
    let (score, min_score) = (thresholds.detection_other_score, pairing.min_score);
    (score < min_score).then(|| Warning::BelowPairing { bundle: bundle.name.clone(), score, min_score })
}
