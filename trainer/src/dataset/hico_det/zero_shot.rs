//! Zero-shot splits: interactions that training does not show.

use std::collections::BTreeSet;
use std::path::Path;

use hoi_runtime::geometry::BBox;
use serde::Deserialize;

use super::InteractionTable;
use crate::dataset::{AnnotatedImage, AnnotatedPair, DatasetError, ENTITY_IOU};

const COMMITTED: &str = include_str!("../../../data/zero_shot_splits.json");

/// Interactions of HICO-DET.
const INTERACTIONS: usize = 600;

/// Which of HICO-DET's 600 interactions are left out of training (GEN-VLKT; UC: HOICLIP's five draws).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZeroShotSplit {
    /// 120, rare ones first.
    RfUc,
    /// 120, frequent ones first.
    NfUc,
    /// 120, one of five draws, `0..5`; figures are the mean of the five.
    Uc(u8),
    /// 100: those of 12 objects.
    Uo,
    /// 84: those of 20 verbs.
    Uv,
}

#[derive(Deserialize)]
struct Committed {
    rf_uc: Vec<usize>,
    nf_uc: Vec<usize>,
    uc0: Vec<usize>,
    uc1: Vec<usize>,
    uc2: Vec<usize>,
    uc3: Vec<usize>,
    uc4: Vec<usize>,
    uo: Vec<usize>,
    uv: Vec<usize>,
}

impl ZeroShotSplit {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::RfUc, Self::NfUc, Self::Uc(0), Self::Uc(1), Self::Uc(2), Self::Uc(3), Self::Uc(4), Self::Uo, Self::Uv];

    /// Its name: `rf-uc`, `nf-uc`, `uc0` to `uc4`, `uo`, `uv`.
    pub fn name(self) -> String {
        match self {
            Self::RfUc => "rf-uc".to_owned(),
            Self::NfUc => "nf-uc".to_owned(),
            Self::Uc(draw) => format!("uc{draw}"),
            Self::Uo => "uo".to_owned(),
            Self::Uv => "uv".to_owned(),
        }
    }

    /// 0-based indices of the interactions that training does not show, rising.
    ///
    /// # Errors
    /// [`DatasetError::UnknownId`] for a draw of UC beyond the five.
    pub fn unseen(self) -> Result<Vec<usize>, DatasetError> {
        let path = || Path::new("zero_shot_splits.json").to_owned();
        let committed: Committed = serde_json::from_str(COMMITTED).map_err(|source| DatasetError::Format {
            path: path(),
            expected: "lists of interactions",
            source,
        })?;
        let mut unseen = match self {
            Self::RfUc => committed.rf_uc,
            Self::NfUc => committed.nf_uc,
            Self::Uc(0) => committed.uc0,
            Self::Uc(1) => committed.uc1,
            Self::Uc(2) => committed.uc2,
            Self::Uc(3) => committed.uc3,
            Self::Uc(4) => committed.uc4,
            Self::Uc(draw) => {
                return Err(DatasetError::UnknownId {
                    path: path(),
                    record: "uc".to_owned(),
                    what: "draw",
                    value: i64::from(draw),
                    expected: "0 to 4".to_owned(),
                });
            }
            Self::Uo => committed.uo,
            Self::Uv => committed.uv,
        };
        unseen.sort_unstable();
        Ok(unseen)
    }

    /// The other interactions of `0..600`, rising: the rows of a classifier over interactions.
    ///
    /// # Errors
    /// As [`ZeroShotSplit::unseen`].
    pub fn seen(self) -> Result<Vec<usize>, DatasetError> {
        let unseen: BTreeSet<usize> = self.unseen()?.into_iter().collect();
        Ok((0..INTERACTIONS).filter(|k| !unseen.contains(k)).collect())
    }
}

impl std::str::FromStr for ZeroShotSplit {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|split| split.name() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(|split| split.name()).collect();
            format!("unknown zero-shot split `{name}`: expected {}", names.join(", "))
        })
    }
}

/// What training may see: a pair that carries any of the `unseen` interactions is removed with all its labels, and an image that is left without a
/// pair is dropped.
///
/// The annotation repeats a pair, sometimes slightly moved, for every verb: labels with the same object class whose humans and whose objects have a
/// larger IoU than [`ENTITY_IOU`] are one pair.
pub fn without_unseen(images: Vec<AnnotatedImage>, unseen: &[usize], table: &InteractionTable) -> Vec<AnnotatedImage> {
    let unseen: BTreeSet<usize> = unseen.iter().copied().collect();
    let class = |pair: &AnnotatedPair| table.classes().get(pair.interaction).map(|class| class.interaction.object);
    let same = |a: &AnnotatedPair, b: &AnnotatedPair| {
        let close = |a: &BBox, b: &BBox| a == b || a.iou(b) > ENTITY_IOU;
        class(a) == class(b) && close(&a.human, &b.human) && close(&a.object, &b.object)
    };
    let filtered = images.into_iter().map(|mut image| {
        let removed: Vec<AnnotatedPair> =
            image.pairs.iter().filter(|pair| unseen.contains(&pair.interaction)).copied().collect();
        image.pairs.retain(|pair| !removed.iter().any(|other| same(pair, other)));
        image
    });
    filtered.filter(|image| !image.pairs.is_empty()).collect()
}
