//! The names of a vocabulary in parts that fit between frames.

use std::time::{Duration, Instant};

use hoi_runtime::vocabulary::Vocabulary as Names;

use super::message::{List, Vocabulary, beginning};
use super::packet::CRC_16;

/// How often the whole vocabulary is said.
pub const VOCABULARY_EVERY: Duration = Duration::from_secs(10);

/// Bytes of names in a part: about 20 ms of a line at 115200 bits a second.
const PART_BYTES: usize = 200;

/// A vocabulary, which of its parts is next, and when.
#[derive(Debug)]
pub(super) struct Parts {
    id: u16,
    parts: Vec<Vocabulary>,
    next: usize,
    round_began: Option<Instant>,
}

impl Parts {
    pub(super) fn new(names: &Names) -> Self {
        let spec = names.spec();
        let lists = [(List::Verbs, &spec.verbs), (List::Classes, &spec.objects)];
        let mut digest = CRC_16.digest();
        for name in lists.iter().flat_map(|(_, names)| names.iter()) {
            digest.update(name.as_bytes());
            digest.update(&[0]);
        }
        let id = digest.finalize();
        let mut parts: Vec<Vocabulary> = Vec::new();
        for (list, names) in lists {
            let mut room = 0;
            for (index, name) in names.iter().enumerate() {
                let name = beginning(name, Vocabulary::NAME_LIMIT);
                match parts.last_mut().filter(|part| part.list == list && name.len() < room) {
                    Some(part) => part.names.push(name.to_owned()),
                    None => {
                        room = PART_BYTES;
                        parts.push(Vocabulary {
                            id,
                            // A vocabulary has at most 4096 of each.
                            verbs: spec.verbs.len() as u16,
                            classes: spec.objects.len() as u16,
                            list,
                            first: index as u16,
                            names: vec![name.to_owned()],
                        });
                    }
                }
                room -= name.len() + 1;
            }
        }
        Self { id, parts, next: 0, round_began: None }
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// The part that is due at `now`: one after the other until all were said, and again from [`VOCABULARY_EVERY`] after the
    /// first of them.
    pub(super) fn due(&mut self, now: Instant) -> Option<&Vocabulary> {
        if self.next == self.parts.len() {
            self.next = 0;
        }
        if self.next == 0 {
            if self.round_began.is_some_and(|began| now.saturating_duration_since(began) < VOCABULARY_EVERY) {
                return None;
            }
            self.round_began = Some(now);
        }
        self.next += 1;
        self.parts.get(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use hoi_runtime::bundle::ModelBundle;
    use hoi_runtime::vocabulary::VocabularySpec;

    use super::super::{Message, pack};
    use super::*;

    /// What a reader knows after a round: verbs and classes.
    fn round(parts: &mut Parts, now: Instant) -> (Vec<String>, Vec<String>) {
        let (mut verbs, mut classes) = (Vec::new(), Vec::new());
        while let Some(part) = parts.due(now) {
            let list = if part.list == List::Verbs { &mut verbs } else { &mut classes };
            assert_eq!(usize::from(part.first), list.len());
            list.extend(part.names.clone());
            assert!(pack(0, &Message::Vocabulary(part.clone())).unwrap().len() <= 300);
        }
        (verbs, classes)
    }

    #[test]
    fn a_round_says_every_name_and_comes_again() {
        let names = ModelBundle::builtin().unwrap().vocabulary().clone();
        let mut parts = Parts::new(&names);
        let start = Instant::now();
        let expected = (names.spec().verbs.clone(), names.spec().objects.clone());
        assert_eq!(round(&mut parts, start), expected);
        assert!(parts.due(start + VOCABULARY_EVERY - Duration::from_millis(1)).is_none());
        assert_eq!(round(&mut parts, start + VOCABULARY_EVERY), expected);
        assert!(parts.parts.len() < 20, "{} parts", parts.parts.len());
    }

    #[test]
    fn long_names_are_cut_and_every_part_fits() {
        let spec = VocabularySpec {
            human: "p".into(),
            objects: vec!["p".into()],
            verbs: (0..300).map(|i| format!("{i}{}", "\u{e9}".repeat(500))).collect(),
            background_verb: None,
            valid: Default::default(),
            alone: Vec::new(),
        };
        let mut parts = Parts::new(&Names::new(spec).unwrap());
        let (verbs, classes) = round(&mut parts, Instant::now());
        assert_eq!((verbs.len(), classes), (300, vec!["p".to_owned()]));
        assert!(verbs.iter().all(|name| name.len() <= Vocabulary::NAME_LIMIT && name.ends_with('\u{e9}')));
    }

    #[test]
    fn another_vocabulary_has_another_number() {
        let spec = |verb: &str| VocabularySpec {
            human: "p".into(),
            objects: vec!["p".into()],
            verbs: vec![verb.into()],
            background_verb: None,
            valid: Default::default(),
            alone: Vec::new(),
        };
        let id = |verb| Parts::new(&Names::new(spec(verb)).unwrap()).id();
        assert_ne!(id("ride"), id("hold"));
        assert_eq!(id("ride"), CRC_16.checksum(b"ride\0p\0"));
    }
}
