//! From what the head says of pairs and picture to triplets: one function per scoring rule, and triplet NMS.

mod calibration;
mod factors;
mod prior;
mod triplet_nms;
mod weakly;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use calibration::Calibration;
pub use factors::Factors;
pub use prior::detr_prior;
pub use triplet_nms::{TripletNms, suppress_triplets};
pub use weakly::normalised_pair_scores;

use crate::detector::Detection;
use crate::engine::{Dim, TensorSpec};
use crate::interaction::{HeadOutput, IMAGE_LOGITS, RELATEDNESS, VERB_LOGITS};
use crate::pairing::HumanObjectPair;
use crate::vocabulary::{ObjectClass, Verb, Vocabulary};
use weakly::ImageColumns;

/// A scoring rule with its constants, as the manifest names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum FusionSpec {
    /// `sigma(z) (s_h s_o)^lambda`: UPT, RmLR.
    DetrPrior {
        /// Power of the prior. UPT: 2.8 at inference.
        lambda: f32,
        /// Suppression of triplets that say the same.
        triplet_nms: TripletNms,
        /// At most this many triplets an image leave the fusion.
        max_triplets: usize,
        /// Turns the product into a probability, last of all; the score is the product where it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calibration: Option<Calibration>,
    },
    /// `(s_h s_o)^gamma sigma(g) e sigma(b)` (Weakly-HOI 3.2.5, eq. 3): `e` is the pair's share of the verb's probability in the picture
    /// ([`normalised_pair_scores`], over all pairs of the picture), `g` the picture's logit of the interaction (`image_logits`), `b` the
    /// pair's `relatedness`. Where the head has no `image_logits` or no `relatedness`, that factor is left out.
    Weakly {
        /// Power of the prior. Weakly-HOI: 2.8.
        gamma: f32,
        /// Suppression of triplets that say the same; none where it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        triplet_nms: Option<TripletNms>,
        /// At most this many triplets an image leave the fusion.
        max_triplets: usize,
        /// `[verb, object class or null]` of each column of `image_logits`; given exactly when the head has that output. Only these
        /// interactions are scored then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interactions: Option<Vec<(String, Option<String>)>>,
        /// Turns the product of the best triplet of each interaction into the probability that the picture shows it; the interaction's
        /// other triplets keep their ratio to it. Last of all; the score is the product where it is not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calibration: Option<Calibration>,
    },
}

impl FusionSpec {
    /// The rule's name, as the manifest writes it.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::DetrPrior { .. } => "detr_prior",
            Self::Weakly { .. } => "weakly",
        }
    }

    /// What turns the product of the factors into a probability, where that is asked for.
    pub fn calibration(&self) -> Option<Calibration> {
        match self {
            Self::DetrPrior { calibration, .. } | Self::Weakly { calibration, .. } => *calibration,
        }
    }

    /// The same rule with this calibration, or with none.
    #[must_use]
    pub fn calibrated(mut self, by: Option<Calibration>) -> Self {
        match &mut self {
            Self::DetrPrior { calibration, .. } | Self::Weakly { calibration, .. } => *calibration = by,
        }
        self
    }

    /// The head's outputs that the rule uses, with their shapes for `verbs` verbs. `verb_logits` comes first and must be there, the others
    /// may be.
    pub fn head_outputs(&self, verbs: usize) -> Vec<TensorSpec> {
        let pairs = || Dim::Symbol("P".into());
        let mut outputs = vec![TensorSpec::f32(VERB_LOGITS, vec![pairs(), Dim::Fixed(verbs)])];
        if let Self::Weakly { interactions, .. } = self {
            outputs.push(TensorSpec::f32(RELATEDNESS, vec![pairs()]));
            let columns = interactions.as_ref().map_or(0, Vec::len);
            outputs.push(TensorSpec::f32(IMAGE_LOGITS, vec![Dim::Fixed(columns)]));
        }
        outputs
    }

    /// That the constants can be used with this vocabulary, and that `interactions` fits what the head gives.
    pub(crate) fn check(&self, vocabulary: &Vocabulary, outputs: &[TensorSpec]) -> Result<(), FusionError> {
        let wrong = |reason: &str| Err(FusionError::Key { key: "interactions", reason: reason.to_owned() });
        if let Self::Weakly { interactions, .. } = self {
            match (interactions.is_some(), outputs.iter().any(|o| o.name == IMAGE_LOGITS)) {
                (false, true) => {
                    return wrong(
                        "missing: head.outputs has `image_logits`, so a [verb, object or null] for each of its columns is needed",
                    );
                }
                (true, false) => {
                    return wrong(
                        "head.outputs has no `image_logits` for them: list that output or leave `interactions` out",
                    );
                }
                _ => {}
            }
        }
        Fusion::new(self, vocabulary).map(|_| ())
    }
}

impl fmt::Display for FusionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nms, most) = match self {
            Self::DetrPrior { lambda, triplet_nms, max_triplets, .. } => {
                write!(f, "{}, lambda {lambda}", self.rule())?;
                (Some(triplet_nms), max_triplets)
            }
            Self::Weakly { gamma, triplet_nms, max_triplets, interactions, .. } => {
                write!(f, "{}, gamma {gamma}", self.rule())?;
                if let Some(interactions) = interactions {
                    write!(f, ", {} interactions of the whole picture", interactions.len())?;
                }
                (triplet_nms.as_ref(), max_triplets)
            }
        };
        match nms {
            Some(TripletNms { iou, human_power, object_power }) => {
                write!(f, ", triplet NMS IoU_h^{human_power} IoU_o^{object_power} > {iou}")?;
            }
            None => f.write_str(", no triplet NMS")?,
        }
        write!(f, ", at most {most} triplets")?;
        self.calibration().map_or(Ok(()), |calibration| write!(f, ", calibrated {calibration}"))
    }
}

/// Why a scoring rule cannot be used, or not with what the head gave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FusionError {
    /// A key of the rule whose value cannot be used.
    #[error("fusion.{key}: {reason}")]
    Key {
        /// The key inside the manifest's `fusion`.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// What the head gave does not fit the pairs or the rule.
    #[error("fusion: the head's `{output}` is {found}, the rule needs {expected}")]
    Output {
        /// The output.
        output: &'static str,
        /// What there is.
        found: String,
        /// What would be right.
        expected: String,
    },
}

/// A triplet in terms of the frame's entities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredTriplet {
    /// Index of the human.
    pub human: usize,
    /// What is done.
    pub verb: Verb,
    /// Index of the object; `None` where the interaction has no object in the vocabulary.
    pub object: Option<usize>,
    /// Score in `[0, 1]`.
    pub score: f32,
    /// What the score is the product of, before calibration where there is one.
    pub factors: Factors,
}

/// The logistic function.
pub fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

/// What a rule scores: pairs of entities, and the verbs that each can say.
struct Scene<'a> {
    entities: &'a [Detection],
    pairs: &'a [HumanObjectPair],
    vocabulary: &'a Vocabulary,
}

/// The two sides of a pair.
struct Sides {
    human: usize,
    /// `None` for a human alone.
    object: Option<usize>,
    /// Class of the object.
    class: Option<ObjectClass>,
    /// `s_h s_o`, with `s_o = 1` for a human alone.
    detected: f32,
}

impl Scene<'_> {
    /// The sides of every pair, in the order of the pairs.
    fn sides(&self) -> impl Iterator<Item = Sides> {
        self.pairs.iter().map(|pair| {
            let object = (!pair.is_alone()).then_some(pair.object);
            let score = |i: usize| self.entities[i].score.max(0.0);
            Sides {
                human: pair.human,
                object,
                class: object.map(|o| self.entities[o].class),
                detected: score(pair.human) * object.map_or(1.0, score),
            }
        })
    }

    /// The verbs that can be said of a pair: those valid for its object, or those that need none; never the background verb.
    fn verbs(&self, sides: &Sides) -> impl Iterator<Item = Verb> {
        let verbs = match sides.class {
            Some(class) => self.vocabulary.valid_verbs(class),
            None => self.vocabulary.alone(),
        };
        verbs.iter().copied().filter(|v| Some(*v) != self.vocabulary.background())
    }
}

impl Sides {
    /// The triplet, or none where its score is not a positive number.
    fn triplet(&self, verb: Verb, factors: Factors) -> Option<ScoredTriplet> {
        let score = factors.product();
        (score.is_finite() && score > 0.0).then_some(ScoredTriplet {
            human: self.human,
            verb,
            object: self.object,
            score,
            factors,
        })
    }
}

/// A scoring rule made ready for a vocabulary.
#[derive(Clone, Debug)]
pub struct Fusion {
    rule: Rule,
    triplet_nms: Option<TripletNms>,
    max_triplets: usize,
    calibration: Option<Calibration>,
    vocabulary: Vocabulary,
}

#[derive(Clone, Debug)]
enum Rule {
    DetrPrior { lambda: f32 },
    Weakly { gamma: f32, columns: Option<ImageColumns> },
}

impl Fusion {
    /// Checks the constants and resolves the names.
    ///
    /// # Errors
    /// [`FusionError::Key`]: a constant out of range; a row of `interactions` that names an unknown verb or object, or says the same as
    /// another.
    pub fn new(spec: &FusionSpec, vocabulary: &Vocabulary) -> Result<Self, FusionError> {
        let wrong = |(key, reason)| FusionError::Key { key, reason };
        let positive = |key, value: f32| {
            let usable = value.is_finite() && value > 0.0;
            if usable { Ok(value) } else { Err(wrong((key, format!("{value} is not a positive number")))) }
        };
        let (rule, triplet_nms, max_triplets) = match spec {
            FusionSpec::DetrPrior { lambda, triplet_nms, max_triplets, .. } => {
                (Rule::DetrPrior { lambda: positive("lambda", *lambda)? }, Some(*triplet_nms), *max_triplets)
            }
            FusionSpec::Weakly { gamma, triplet_nms, max_triplets, interactions, .. } => {
                let gamma = positive("gamma", *gamma)?;
                let columns = interactions.as_ref().map(|list| ImageColumns::new(list, vocabulary)).transpose()?;
                (Rule::Weakly { gamma, columns }, *triplet_nms, *max_triplets)
            }
        };
        if let Some(nms) = &triplet_nms {
            nms.check().map_err(wrong)?;
        }
        if !(1..=10_000).contains(&max_triplets) {
            return Err(wrong(("max_triplets", format!("{max_triplets} is not between 1 and 10000"))));
        }
        let calibration = spec.calibration();
        if let Some(calibration) = &calibration {
            calibration.check()?;
        }
        Ok(Self { rule, triplet_nms, max_triplets, calibration, vocabulary: vocabulary.clone() })
    }

    /// Scores every verb that is valid for a pair's object, or needs none where the human is alone, except the background verb, and returns
    /// the triplets by falling score after triplet NMS, calibrated where the rule says how. Scores that are not finite are dropped.
    ///
    /// `pairs` index `entities`, and must be all pairs of the picture: `weakly` compares them. The head's rows are theirs. Outputs that the
    /// rule does not use are not looked at.
    ///
    /// # Errors
    /// [`FusionError::Output`] when the head's outputs do not fit the pairs, the vocabulary or the rule.
    pub fn fuse(
        &self,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        head: &HeadOutput,
    ) -> Result<Vec<ScoredTriplet>, FusionError> {
        let (found, expected) = (head.verb_logits.dim(), (pairs.len(), self.vocabulary.verb_count()));
        if found != expected {
            let shape = |(p, v)| format!("[{p}, {v}]");
            return Err(FusionError::Output { output: VERB_LOGITS, found: shape(found), expected: shape(expected) });
        }
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let scene = Scene { entities, pairs, vocabulary: &self.vocabulary };
        let mut triplets = match &self.rule {
            Rule::DetrPrior { lambda } => prior::score(&scene, head.verb_logits.view(), *lambda),
            Rule::Weakly { gamma, columns } => weakly::score(&scene, head, columns.as_ref(), *gamma)?,
        };
        triplets.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut triplets = match self.triplet_nms {
            Some(nms) => suppress_triplets(&triplets, entities, nms, self.max_triplets),
            None => {
                triplets.truncate(self.max_triplets);
                triplets
            }
        };
        if let Some(calibration) = self.calibration {
            self.calibrate(&mut triplets, entities, calibration);
        }
        Ok(triplets)
    }

    /// Turns products into probabilities: each by itself, or under `weakly`, where pairs share what the picture shows, the best of each
    /// interaction; the others of that interaction keep their ratio to it.
    fn calibrate(&self, triplets: &mut [ScoredTriplet], entities: &[Detection], by: Calibration) {
        match self.rule {
            Rule::DetrPrior { .. } => triplets.iter_mut().for_each(|t| t.score = by.probability(t.score)),
            Rule::Weakly { .. } => {
                let mut best = HashMap::new();
                for t in &mut *triplets {
                    let interaction = (t.verb, t.object.map(|o| entities[o].class));
                    // The first one has the largest product.
                    let product = *best.entry(interaction).or_insert(t.score);
                    t.score = by.probability(product) * (t.score / product);
                }
                triplets.sort_by(|a, b| b.score.total_cmp(&a.score));
            }
        }
    }
}
