//! Which findings of one bundle the other has as well.

use hoi_runtime::geometry::BBox;
use hoi_runtime::pipeline::FrameResult;
use hoi_runtime::vocabulary::Vocabulary;
use serde::{Serialize, Serializer};

use super::BundlesError;

/// From where on findings count. All comparisons are "larger than", so a NaN never counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// Detections of one bundle count over this score.
    pub detection_score: f32,
    /// The other bundle's counterpart must be over this one.
    pub detection_other_score: f32,
    /// Triplets of one bundle count over this score.
    pub triplet_score: f32,
    /// The other bundle's counterpart must be over this one.
    pub triplet_other_score: f32,
    /// Boxes are the same over this intersection over union.
    pub iou: f32,
}

impl Default for Thresholds {
    /// 0.4 and 0.3 for detections, 0.3 and 0.2 for triplets, IoU 0.5.
    fn default() -> Self {
        Self {
            detection_score: 0.4,
            detection_other_score: 0.3,
            triplet_score: 0.3,
            triplet_other_score: 0.2,
            iou: 0.5,
        }
    }
}

impl Thresholds {
    /// The two scores of detections.
    pub(super) fn detections(&self) -> [f32; 2] {
        [self.detection_score, self.detection_other_score]
    }

    /// The two scores of triplets.
    pub(super) fn triplets(&self) -> [f32; 2] {
        [self.triplet_score, self.triplet_other_score]
    }

    /// Refuses thresholds by which a bundle would not agree with itself.
    pub(super) fn check(&self) -> Result<(), BundlesError> {
        for (what, [score, other]) in [("detections", self.detections()), ("triplets", self.triplets())] {
            if other > score {
                return Err(BundlesError::Thresholds { what, score, other });
            }
        }
        Ok(())
    }
}

/// What was found, by name, so that bundles with different vocabularies can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A detection of this class.
    Object(String),
    /// A verb, and the class that it is done to where there is one.
    Interaction(String, Option<String>),
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(class) => f.write_str(class),
            Self::Interaction(verb, None) => f.write_str(verb),
            Self::Interaction(verb, Some(class)) => write!(f, "{verb} {class}"),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A detection or a triplet.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// What it is.
    pub what: Kind,
    /// Where, in pixels of the picture: the box of a detection, or those of a triplet's human and (where there is one) object.
    pub boxes: Vec<BBox>,
    /// Score in `[0, 1]`.
    pub score: f32,
}

impl Sighting {
    /// The detections and the triplets of a frame.
    pub(crate) fn of_frame(result: &FrameResult, vocabulary: &Vocabulary) -> (Vec<Self>, Vec<Self>) {
        let class = |class| vocabulary.object_name(class).unwrap_or("?").to_owned();
        let detections = result
            .detections
            .iter()
            .map(|d| Self { what: Kind::Object(class(d.class)), boxes: vec![d.bbox], score: d.score })
            .collect();
        let triplets = result
            .triplets
            .iter()
            .map(|t| Self {
                what: Kind::Interaction(
                    vocabulary.verb_name(t.verb).unwrap_or("?").to_owned(),
                    t.object.as_ref().map(|o| class(o.class)),
                ),
                boxes: std::iter::once(t.human.bbox).chain(t.object.as_ref().map(|o| o.bbox)).collect(),
                score: t.score,
            })
            .collect();
        (detections, triplets)
    }

    /// The best score that `others` give the same thing in the same place; `None` where they have none.
    pub(crate) fn best_of(&self, others: &[Self], iou: f32) -> Option<f32> {
        others.iter().filter(|o| self.is_same(o, iou)).map(|o| o.score).filter(|s| !s.is_nan()).reduce(f32::max)
    }

    /// Whether both are the same thing in the same place: every box over `iou`.
    fn is_same(&self, other: &Self, iou: f32) -> bool {
        self.what == other.what
            && self.boxes.len() == other.boxes.len()
            && self.boxes.iter().zip(&other.boxes).all(|(a, b)| a.iou(b) > iou)
    }
}

/// How many of one bundle's findings the other one has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many one bundle has.
    pub count: usize,
    /// How many of them the other one has, too.
    pub found: usize,
    /// `found / count`; 1 where there are none.
    pub share: f64,
}

impl Default for Share {
    fn default() -> Self {
        Self { count: 0, found: 0, share: 1.0 }
    }
}

impl Share {
    /// Counts `count` more, of which `found` were found.
    pub(crate) fn add(&mut self, count: usize, found: usize) {
        self.count += count;
        self.found += found;
        self.share = if self.count == 0 { 1.0 } else { self.found as f64 / self.count as f64 };
    }
}

/// A finding of one bundle that the other one lacks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    /// File name of the picture.
    pub image: String,
    /// What was found.
    pub what: Kind,
    /// Its score in the bundle that has it.
    pub score: f32,
    /// The best score that the other bundle gives the same thing in the same place; `null` where it has none at all.
    pub other_score: Option<f32>,
    /// Its boxes `[x1, y1, x2, y2]`, as [`Sighting::boxes`].
    pub boxes: Vec<BBox>,
}

/// Counts the findings over `score`, and gives those that have no counterpart in `others` over `other_score`: the same kind, and each box with
/// its counterpart over `iou`.
///
/// Every finding is looked up by itself, so that two of them may have the same counterpart: this is not a one-to-one matching, and a thing
/// that one bundle finds twice is not "lost" where the other finds it once.
pub fn missing(
    image: &str,
    findings: &[Sighting],
    others: &[Sighting],
    [score, other_score]: [f32; 2],
    iou: f32,
) -> (usize, Vec<Missed>) {
    let counted = || findings.iter().filter(|f| f.score > score);
    let missed = counted().filter_map(|f| {
        let best = f.best_of(others, iou);
        let lacks = !best.is_some_and(|best| best > other_score);
        lacks.then(|| Missed {
            image: image.to_owned(),
            what: f.what.clone(),
            score: f.score,
            other_score: best,
            boxes: f.boxes.clone(),
        })
    });
    (counted().count(), missed.collect())
}
