//! What the network is made of, and what its training weighs.

use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::system::layout::LayoutShape;

/// Sizes of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// The layout head's.
    pub layout: LayoutShape,
    /// Cells of the relation map, rows and columns: those of the smallest map that is tapped.
    pub grid: [i64; 2],
    /// Channels of each map that is tapped.
    pub maps: Vec<i64>,
    /// How many cells along a side of each map are averaged into one of the grid's.
    pub factors: Vec<i64>,
    /// Classes that the detector scores all over the picture, its background among them; 0: the head does not see these scores.
    pub evidence: i64,
    /// Channels of the relation map: what all channels of all maps are projected to, in each cell.
    pub relation: i64,
    /// Width that the class scores are projected to.
    pub evidence_projected: i64,
    /// Width of the hidden layer of the look at a person.
    pub hidden: i64,
    /// Width of the re-mined features of a pair; 0: none.
    pub remined: i64,
    /// What is heard of a person takes at most this from the logit of an action that the layout head knows.
    pub veto: f64,
    /// What the look at a person tells apart: `[verb, object or null]`.
    pub actions: Vec<(String, Option<String>)>,
}

impl EdgeConfig {
    /// Channels of all maps.
    pub fn channels(&self) -> i64 {
        self.maps.iter().sum()
    }
}

/// A name of an action that the vocabulary does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("action {number} names `{name}`, which is not in the vocabulary")]
pub struct UnknownName {
    /// Position in the list.
    pub number: usize,
    /// The name.
    pub name: String,
}

/// The actions in terms of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionTable {
    /// Verb and object of each action; `None` without an object.
    pub actions: Vec<(Verb, Option<ObjectClass>)>,
    /// Whether the layout head knows the action's verb with its object.
    pub in_layout: Vec<bool>,
}

impl ActionTable {
    /// Resolves the names. The layout head knows the verbs below `layout_verbs` with the objects for which `layout_valid` says so.
    ///
    /// # Errors
    /// [`UnknownName`].
    pub fn new(
        actions: &[(String, Option<String>)],
        vocabulary: &Vocabulary,
        layout: &Vocabulary,
    ) -> Result<Self, UnknownName> {
        let mut table = Self { actions: Vec::new(), in_layout: Vec::new() };
        for (number, (verb, object)) in actions.iter().enumerate() {
            let unknown = |name: &str| UnknownName { number, name: name.to_owned() };
            let v = vocabulary.verb(verb).ok_or_else(|| unknown(verb))?;
            let o = match object {
                Some(name) => Some(vocabulary.object(name).ok_or_else(|| unknown(name))?),
                None => None,
            };
            let known = layout.verb(verb).zip(object.as_ref().and_then(|name| layout.object(name)));
            table.actions.push((v, o));
            table.in_layout.push(known.is_some_and(|(verb, object)| layout.valid_verbs(object).contains(&verb)));
        }
        Ok(table)
    }
}

/// What training weighs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainWeights {
    /// Share of the maps' pooled channels and of the class scores that training sets to 0.
    pub input_dropout: f64,
    /// Share of the hidden values that training sets to 0.
    pub dropout: f64,
    /// What the pairs of the photo's objects say (multiple instances: one of them does it, the photo's label does not say which).
    pub pairs: f64,
    /// How much the re-mined features must not change what the layout head says of verbs that the photos do not tell.
    pub kept: f64,
    /// Share of the teachers in the look's own loss; the rest is the label's.
    pub teacher: f64,
    /// Logits are divided by this before they are compared with the teachers'.
    pub temperature: f64,
    /// Relation features: how alike the teachers find two photos (relational distillation).
    pub relation: f64,
    /// Word-level transfer (RmLR eq. 16).
    pub words: f64,
    /// Sentence-level transfer (RmLR eq. 18).
    pub sentences: f64,
}

impl Default for TrainWeights {
    fn default() -> Self {
        Self {
            input_dropout: 0.3,
            dropout: 0.5,
            pairs: 0.5,
            kept: 1.0,
            teacher: 0.5,
            temperature: 2.0,
            relation: 1.0,
            words: 0.1,
            sentences: 0.1,
        }
    }
}
