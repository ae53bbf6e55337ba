//! The interactions that a folder may be named after.

use std::collections::HashMap;
use std::path::Path;

use hoi_runtime::vocabulary::{ObjectClass, Vocabulary};

use super::error::KnownInteractionsError;
use super::spelling::{distance, nearest, spelled};
use super::vocabulary_file;

/// Known interactions named beside an unknown one.
const SUGGESTIONS: usize = 3;

/// A verb with its object or without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Index into [`KnownInteractions::verbs`].
    pub(super) verb: usize,
    pub(super) object: Option<ObjectClass>,
    /// Verb and object in the spelling that all spellings share.
    pub(super) name: String,
}

/// Interactions that a folder can be named after: those of a vocabulary and, where the user wants more, those of a vocabulary file.
///
/// A folder's name is verb and object; case, `_`, `-` and runs of blanks do not count: "ride bicycle", "Ride-Bicycle" and "ride_bicycle"
/// are the same, and "sit on couch" is the verb `sit_on` with a `couch`.
#[derive(Clone, Debug)]
pub struct KnownInteractions {
    pub(super) human: String,
    pub(super) objects: Vec<String>,
    /// As the data sets write them, those of the vocabulary first.
    pub(super) verbs: Vec<String>,
    pub(super) background: Option<String>,
    pub(super) entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

/// Whether `verb` is one as data sets write it: letters, digits, `_` and `-`, at least one letter or digit.
pub(super) fn is_verb(verb: &str) -> bool {
    verb.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') && verb.chars().any(char::is_alphanumeric)
}

impl KnownInteractions {
    /// All of a vocabulary: every verb with every object it is valid for, and the verbs without an object.
    ///
    /// # Errors
    /// [`KnownInteractionsError::SameFolderName`] when two of them would be named by the same folder.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, KnownInteractionsError> {
        let spec = vocabulary.spec();
        let mut known = Self {
            human: spec.human.clone(),
            objects: spec.objects.clone(),
            verbs: spec.verbs.clone(),
            background: spec.background_verb.clone(),
            entries: Vec::new(),
            by_name: HashMap::new(),
        };
        let objects = (0..vocabulary.object_count()).map(|o| ObjectClass(o as u16));
        let with = objects.flat_map(|o| vocabulary.valid_verbs(o).iter().map(move |&verb| (verb, Some(o))));
        for (verb, object) in with.chain(vocabulary.alone().iter().map(|&verb| (verb, None))) {
            let verb = usize::from(verb.0);
            let name = known.name_of(&known.verbs[verb], object);
            if let Some(&first) = known.by_name.get(&name) {
                return Err(KnownInteractionsError::SameFolderName {
                    place: "the vocabulary".to_owned(),
                    interaction: known.written(&known.verbs[verb], object),
                    known: known.entry_written(first),
                    folder: name,
                });
            }
            known.push(verb, object, name);
        }
        Ok(known)
    }

    /// These and the interactions of a vocabulary file: a line an interaction, first the verb as data sets write it (`play_violin`,
    /// `walk_with`), then the class of the object (`cell phone`) or nothing; `#` begins a comment. Lines that were known already are no
    /// error.
    ///
    /// # Errors
    /// [`KnownInteractionsError`] naming the file and, where there is one, the line: the file cannot be read, is over 1 MiB, is not UTF-8
    /// or holds no interaction; an object is no class of the vocabulary; a verb has other characters than letters, digits, `_` and `-`; an
    /// interaction stands there twice, or shares its folder name with another one.
    pub fn with_vocabulary_file(mut self, path: &Path) -> Result<Self, KnownInteractionsError> {
        let mut lines: HashMap<String, usize> = HashMap::new();
        for (line, text) in vocabulary_file::read(path)? {
            let (verb, object) = text.split_once(char::is_whitespace).unwrap_or((text.as_str(), ""));
            if !is_verb(verb) {
                return Err(KnownInteractionsError::Verb { path: path.to_owned(), line, verb: verb.to_owned() });
            }
            let object = match object.trim() {
                "" => None,
                name => Some(self.object(name).ok_or_else(|| KnownInteractionsError::UnknownObject {
                    path: path.to_owned(),
                    line,
                    object: name.to_owned(),
                    nearest: self.nearest_objects(name),
                })?),
            };
            let name = self.name_of(verb, object);
            if let Some(&first) = self.by_name.get(&name) {
                let entry = &self.entries[first];
                let same = entry.object == object && spelled(&self.verbs[entry.verb]) == spelled(verb);
                if !same {
                    return Err(KnownInteractionsError::SameFolderName {
                        place: format!("{}, line {line}", path.display()),
                        interaction: self.written(verb, object),
                        known: self.entry_written(first),
                        folder: name,
                    });
                }
                if let Some(&first) = lines.get(&name) {
                    return Err(KnownInteractionsError::Twice {
                        path: path.to_owned(),
                        line,
                        first,
                        interaction: text,
                    });
                }
            } else {
                let spelling = spelled(verb);
                let known = self.verbs.iter().position(|v| spelled(v) == spelling);
                let verb = known.unwrap_or_else(|| {
                    self.verbs.push(verb.to_owned());
                    self.verbs.len() - 1
                });
                self.push(verb, object, name.clone());
            }
            lines.insert(name, line);
        }
        Ok(self)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names that folders are compared with, "sit on couch": by object, then verb, then those without an object, then those of the
    /// vocabulary file in its order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.name.as_str())
    }

    /// The name of the interaction that a folder stands for: "sit on couch" for "Sit_on-couch"; `None` where it is unknown.
    pub fn name(&self, folder: &str) -> Option<&str> {
        self.find(folder).map(|i| self.entries[i].name.as_str())
    }

    /// The names most like that of a folder, at most three, the nearest first; those with the object where a folder is named after an
    /// object alone. Names that have little in common with the folder's are left out.
    pub fn nearest(&self, folder: &str) -> Vec<&str> {
        let folder = spelled(folder);
        if let Some(object) = self.object(&folder) {
            let mut with: Vec<&Entry> = self.entries.iter().filter(|e| e.object == Some(object)).collect();
            if !with.is_empty() {
                with.sort_by_key(|e| distance(&folder, &e.name));
                return with.into_iter().take(SUGGESTIONS).map(|e| e.name.as_str()).collect();
            }
        }
        nearest(&folder, self.names(), SUGGESTIONS)
    }

    /// The line of a vocabulary file that would make a folder's name known, taking the longest object class at its end as the object:
    /// `juggle sports ball`, or `juggle_torches` where there is none. `None` where no line would: the name is an object alone, or has
    /// characters that a verb cannot have.
    pub fn vocabulary_line(&self, folder: &str) -> Option<String> {
        let name = spelled(folder);
        let words: Vec<&str> = name.split(' ').collect();
        if self.object(&name).is_some() {
            return None;
        }
        let split = (1..words.len()).find_map(|at| self.object(&words[at..].join(" ")).map(|object| (at, object)));
        let (at, object) = split.map_or((words.len(), None), |(at, object)| (at, Some(object)));
        let verb = words[..at].join("_");
        is_verb(&verb).then(|| self.written(&verb, object))
    }

    /// Index of the interaction that a folder stands for.
    pub(super) fn find(&self, folder: &str) -> Option<usize> {
        self.by_name.get(&spelled(folder)).copied()
    }

    fn push(&mut self, verb: usize, object: Option<ObjectClass>, name: String) {
        self.by_name.insert(name.clone(), self.entries.len());
        self.entries.push(Entry { verb, object, name });
    }

    fn object(&self, name: &str) -> Option<ObjectClass> {
        let name = spelled(name);
        self.objects.iter().position(|o| spelled(o) == name).map(|o| ObjectClass(o as u16))
    }

    fn nearest_objects(&self, name: &str) -> Vec<String> {
        let names: Vec<String> = self.objects.iter().map(|o| spelled(o)).collect();
        nearest(&spelled(name), names.iter().map(String::as_str), SUGGESTIONS).into_iter().map(str::to_owned).collect()
    }

    fn name_of(&self, verb: &str, object: Option<ObjectClass>) -> String {
        spelled(&self.written(verb, object))
    }

    /// As a vocabulary file writes it.
    fn written(&self, verb: &str, object: Option<ObjectClass>) -> String {
        match object.and_then(|o| self.objects.get(usize::from(o.0))) {
            Some(object) => format!("{verb} {object}"),
            None => verb.to_owned(),
        }
    }

    fn entry_written(&self, entry: usize) -> String {
        let entry = &self.entries[entry];
        self.written(&self.verbs[entry.verb], entry.object)
    }
}
