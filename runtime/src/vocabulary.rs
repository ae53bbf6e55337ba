//! Object classes, verbs, and which verb can occur with which object.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Index of an object class in a [`Vocabulary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectClass(pub u16);

/// Index of a verb in a [`Vocabulary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Verb(pub u16);

/// A verb with the object it is done to, as HICO-DET's 600 classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interaction {
    /// What is done.
    pub verb: Verb,
    /// To what.
    pub object: ObjectClass,
}

/// The vocabulary as a manifest writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VocabularySpec {
    /// Name of the class that acts: `person`.
    pub human: String,
    /// Object classes; the position is the index that detector and head use.
    pub objects: Vec<String>,
    /// Verbs; the position is the column of `verb_logits`.
    pub verbs: Vec<String>,
    /// The verb that says "nothing happens" (HICO-DET: `no_interaction`). It is scored like any other and left out of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_verb: Option<String>,
    /// For each object class the verbs that the data set knows for it.
    pub valid: BTreeMap<String, Vec<String>>,
    /// Verbs that are done without an object of the vocabulary: `wave_hands`, or `play_violin` where no detector finds violins. Where there
    /// are any, each human also forms a pair with itself, which says these verbs and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alone: Vec<String>,
}

/// Why a vocabulary was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyError {
    /// A list that must not be empty is.
    #[error("vocabulary.{list} is empty: at least one name is needed")]
    Empty {
        /// `objects` or `verbs`.
        list: &'static str,
    },
    /// More names than an index can hold.
    #[error("vocabulary.{list} has {count} names, more than the {limit} that are allowed")]
    TooMany {
        /// `objects` or `verbs`.
        list: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The same name twice.
    #[error("vocabulary.{list} names `{name}` twice")]
    Duplicate {
        /// `objects`, `verbs` or `alone`.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is used but not in the list.
    #[error("vocabulary.{place} names `{name}`, which is not in vocabulary.{list}")]
    Unknown {
        /// Where it is used.
        place: &'static str,
        /// The name.
        name: String,
        /// The list that lacks it.
        list: &'static str,
    },
}

/// Object classes, verbs and the validity table, indexed.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    spec: VocabularySpec,
    human: ObjectClass,
    background: Option<Verb>,
    object_index: HashMap<String, ObjectClass>,
    verb_index: HashMap<String, Verb>,
    /// `[objects * verbs]`, row per object.
    valid: Vec<bool>,
    /// For each object its valid verbs, rising.
    valid_verbs: Vec<Vec<Verb>>,
    /// The verbs without an object, rising.
    alone: Vec<Verb>,
}

const LIMIT: usize = 4096;

fn index_names(list: &'static str, names: &[String]) -> Result<HashMap<String, u16>, VocabularyError> {
    if names.is_empty() {
        return Err(VocabularyError::Empty { list });
    }
    if names.len() > LIMIT {
        return Err(VocabularyError::TooMany { list, count: names.len(), limit: LIMIT });
    }
    let mut index = HashMap::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        if index.insert(name.clone(), i as u16).is_some() {
            return Err(VocabularyError::Duplicate { list, name: name.clone() });
        }
    }
    Ok(index)
}

impl Vocabulary {
    /// Checks and indexes a vocabulary.
    ///
    /// # Errors
    /// [`VocabularyError`] when a list is empty, too long, repeats a name or names what it does not hold.
    pub fn new(spec: VocabularySpec) -> Result<Self, VocabularyError> {
        let objects = index_names("objects", &spec.objects)?;
        let verbs = index_names("verbs", &spec.verbs)?;
        let unknown = |place, name: &str, list| VocabularyError::Unknown { place, name: name.to_owned(), list };
        let human = *objects.get(&spec.human).ok_or_else(|| unknown("human", &spec.human, "objects"))?;
        let background = match &spec.background_verb {
            Some(name) => Some(Verb(*verbs.get(name).ok_or_else(|| unknown("background_verb", name, "verbs"))?)),
            None => None,
        };
        let mut valid = vec![false; spec.objects.len() * spec.verbs.len()];
        for (object, names) in &spec.valid {
            let o = *objects.get(object).ok_or_else(|| unknown("valid", object, "objects"))? as usize;
            for name in names {
                let v = *verbs.get(name).ok_or_else(|| unknown("valid", name, "verbs"))? as usize;
                valid[o * spec.verbs.len() + v] = true;
            }
        }
        let valid_verbs = valid
            .chunks(spec.verbs.len())
            .map(|row| (0..row.len()).filter(|&v| row[v]).map(|v| Verb(v as u16)).collect())
            .collect();
        let mut alone = Vec::with_capacity(spec.alone.len());
        for name in &spec.alone {
            let verb = Verb(*verbs.get(name).ok_or_else(|| unknown("alone", name, "verbs"))?);
            if alone.contains(&verb) {
                return Err(VocabularyError::Duplicate { list: "alone", name: name.clone() });
            }
            alone.push(verb);
        }
        alone.sort();
        Ok(Self {
            human: ObjectClass(human),
            background,
            alone,
            object_index: objects.into_iter().map(|(k, v)| (k, ObjectClass(v))).collect(),
            verb_index: verbs.into_iter().map(|(k, v)| (k, Verb(v))).collect(),
            valid,
            valid_verbs,
            spec,
        })
    }

    /// The vocabulary as a manifest writes it.
    pub fn spec(&self) -> &VocabularySpec {
        &self.spec
    }

    /// The class that acts.
    pub fn human(&self) -> ObjectClass {
        self.human
    }

    /// The verb that says "nothing happens", where the vocabulary has one.
    pub fn background(&self) -> Option<Verb> {
        self.background
    }

    /// Number of object classes.
    pub fn object_count(&self) -> usize {
        self.spec.objects.len()
    }

    /// Number of verbs.
    pub fn verb_count(&self) -> usize {
        self.spec.verbs.len()
    }

    /// Name of a class, `None` when the index is out of range.
    pub fn object_name(&self, object: ObjectClass) -> Option<&str> {
        self.spec.objects.get(object.0 as usize).map(String::as_str)
    }

    /// Name of a verb, `None` when the index is out of range.
    pub fn verb_name(&self, verb: Verb) -> Option<&str> {
        self.spec.verbs.get(verb.0 as usize).map(String::as_str)
    }

    /// The class of that name.
    pub fn object(&self, name: &str) -> Option<ObjectClass> {
        self.object_index.get(name).copied()
    }

    /// The verb of that name.
    pub fn verb(&self, name: &str) -> Option<Verb> {
        self.verb_index.get(name).copied()
    }

    /// Whether the data set knows this interaction.
    pub fn is_valid(&self, interaction: Interaction) -> bool {
        let (o, v) = (interaction.object.0 as usize, interaction.verb.0 as usize);
        v < self.verb_count() && self.valid.get(o * self.verb_count() + v).copied().unwrap_or(false)
    }

    /// The verbs valid for an object, rising by index; empty for a class out of range.
    pub fn valid_verbs(&self, object: ObjectClass) -> &[Verb] {
        self.valid_verbs.get(object.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The verbs that are done without an object of the vocabulary, rising by index.
    pub fn alone(&self) -> &[Verb] {
        &self.alone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VocabularySpec {
        VocabularySpec {
            human: "person".into(),
            objects: vec!["person".into(), "bicycle".into(), "cup".into()],
            verbs: vec!["hold".into(), "no_interaction".into(), "ride".into()],
            background_verb: Some("no_interaction".into()),
            valid: BTreeMap::from([
                ("bicycle".into(), vec!["ride".into(), "hold".into()]),
                ("cup".into(), vec!["hold".into(), "no_interaction".into()]),
            ]),
            alone: Vec::new(),
        }
    }

    #[test]
    fn validity_by_hand() {
        let v = Vocabulary::new(spec()).unwrap();
        assert_eq!(v.valid_verbs(ObjectClass(1)), &[Verb(0), Verb(2)]);
        assert_eq!(v.valid_verbs(ObjectClass(0)), &[]);
        assert_eq!(v.valid_verbs(ObjectClass(9)), &[]);
        assert!(v.is_valid(Interaction { verb: Verb(2), object: ObjectClass(1) }));
        assert!(!v.is_valid(Interaction { verb: Verb(2), object: ObjectClass(2) }));
        // A verb index past the row must not read the next object's row.
        assert!(!v.is_valid(Interaction { verb: Verb(3), object: ObjectClass(0) }));
        assert_eq!(v.background(), Some(Verb(1)));
        assert_eq!(v.human(), ObjectClass(0));
    }

    #[test]
    fn verbs_without_an_object() {
        let mut with = spec();
        with.verbs.push("wave".into());
        with.alone = vec!["wave".into(), "hold".into()];
        let v = Vocabulary::new(with.clone()).unwrap();
        assert_eq!(v.alone(), &[Verb(0), Verb(3)]);
        assert_eq!(
            v.valid_verbs(ObjectClass(1)),
            &[Verb(0), Verb(2)],
            "an object takes none of them unless it is valid"
        );
        assert_eq!(Vocabulary::new(spec()).unwrap().alone(), &[]);
        let json = serde_json::to_string(&spec()).unwrap();
        assert!(!json.contains("alone"), "manifests without such verbs stay as they were: {json}");
        assert_eq!(serde_json::from_str::<VocabularySpec>(&json).unwrap(), spec());

        let mut unknown = with.clone();
        unknown.alone.push("fly".into());
        let error = Vocabulary::new(unknown).unwrap_err();
        assert_eq!(error, VocabularyError::Unknown { place: "alone", name: "fly".into(), list: "verbs" });
        with.alone.push("wave".into());
        let error = Vocabulary::new(with).unwrap_err();
        assert_eq!(error, VocabularyError::Duplicate { list: "alone", name: "wave".into() });
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut twice = spec();
        twice.verbs.push("ride".into());
        assert_eq!(
            Vocabulary::new(twice).unwrap_err(),
            VocabularyError::Duplicate { list: "verbs", name: "ride".into() }
        );
        let mut unknown = spec();
        unknown.valid.insert("unicorn".into(), vec![]);
        assert!(matches!(Vocabulary::new(unknown), Err(VocabularyError::Unknown { place: "valid", .. })));
        let mut empty = spec();
        empty.objects.clear();
        assert_eq!(Vocabulary::new(empty).unwrap_err(), VocabularyError::Empty { list: "objects" });
        let mut human = spec();
        human.human = "robot".into();
        assert!(matches!(Vocabulary::new(human), Err(VocabularyError::Unknown { place: "human", .. })));
    }
}
