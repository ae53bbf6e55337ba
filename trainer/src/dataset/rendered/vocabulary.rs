//! Classes, verbs, which of them go together and how often.

use std::collections::BTreeMap;

use hoi_runtime::vocabulary::{Interaction, Vocabulary, VocabularyError, VocabularySpec};

/// What can be seen in a scene; the position in [`Kind::ALL`] is the class in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Person,
    Ball,
    Cup,
    Umbrella,
    Box,
    Dog,
    Phone,
    Bicycle,
}

impl Kind {
    pub(super) const ALL: [Self; 8] =
        [Self::Person, Self::Ball, Self::Cup, Self::Umbrella, Self::Box, Self::Dog, Self::Phone, Self::Bicycle];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Ball => "ball",
            Self::Cup => "cup",
            Self::Umbrella => "umbrella",
            Self::Box => "box",
            Self::Dog => "dog",
            Self::Phone => "phone",
            Self::Bicycle => "bicycle",
        }
    }
}

/// What a person does; the position in [`Act::ALL`] is the verb in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Act {
    DrinkWith,
    Hold,
    Hug,
    Kick,
    Lift,
    PointAt,
    Pull,
    Push,
    Ride,
    SitOn,
    TalkOn,
    Throw,
    WaveAt,
}

impl Act {
    pub(super) const ALL: [Self; 13] = [
        Self::DrinkWith,
        Self::Hold,
        Self::Hug,
        Self::Kick,
        Self::Lift,
        Self::PointAt,
        Self::Pull,
        Self::Push,
        Self::Ride,
        Self::SitOn,
        Self::TalkOn,
        Self::Throw,
        Self::WaveAt,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DrinkWith => "drink_with",
            Self::Hold => "hold",
            Self::Hug => "hug",
            Self::Kick => "kick",
            Self::Lift => "lift",
            Self::PointAt => "point_at",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Ride => "ride",
            Self::SitOn => "sit_on",
            Self::TalkOn => "talk_on",
            Self::Throw => "throw",
            Self::WaveAt => "wave_at",
        }
    }
}

/// Verbs that hold together for one pair, with their weight among the class's sets.
pub(super) type VerbSet = (&'static [Act], u32);

/// The sets of verbs that a class knows. The weights fall off steeply: rare interactions have a few examples in a thousand scenes.
pub(super) fn verb_sets(kind: Kind) -> &'static [VerbSet] {
    use Act::*;
    match kind {
        Kind::Ball => &[
            (&[Hold], 16),
            (&[Kick], 18),
            (&[Throw], 8),
            (&[Hold, Throw], 10),
            (&[Lift], 5),
            (&[Hold, Lift], 7),
            (&[PointAt], 8),
            (&[Hold, Kick], 3),
        ],
        Kind::Cup => &[(&[Hold], 16), (&[DrinkWith], 10), (&[Hold, DrinkWith], 16), (&[Lift], 4), (&[Hold, Lift], 6)],
        Kind::Umbrella => &[(&[Hold], 16), (&[Lift], 7), (&[Hold, Lift], 12), (&[PointAt], 7)],
        Kind::Box => &[
            (&[Push], 14),
            (&[Pull], 9),
            (&[Hold, Push], 4),
            (&[Hold, Pull], 5),
            (&[Lift], 8),
            (&[Hold, Lift], 8),
            (&[SitOn], 12),
            (&[Hold, SitOn], 6),
            (&[Kick], 4),
        ],
        Kind::Dog => &[(&[Hug], 9), (&[Hold, Hug], 9), (&[Hold], 8), (&[Pull], 7), (&[Hold, Pull], 6), (&[PointAt], 7)],
        Kind::Phone => {
            &[(&[Hold], 14), (&[TalkOn], 8), (&[Hold, TalkOn], 16), (&[PointAt], 6), (&[Throw], 2), (&[Hold, Throw], 1)]
        }
        Kind::Bicycle => &[
            (&[Ride], 12),
            (&[Ride, SitOn], 12),
            (&[SitOn], 7),
            (&[Hold, SitOn], 5),
            (&[Push], 9),
            (&[Hold, Push], 6),
            (&[Hold], 7),
            (&[Lift], 2),
            (&[Hold, Lift], 2),
        ],
        Kind::Person => &[
            (&[Hug], 8),
            (&[Hold, Hug], 7),
            (&[Hold], 6),
            (&[WaveAt], 12),
            (&[Hold, WaveAt], 3),
            (&[Push], 7),
            (&[Hold, Push], 3),
            (&[Pull], 4),
            (&[Hold, Pull], 4),
            (&[PointAt], 7),
        ],
    }
}

/// The vocabulary and the list of its valid interactions.
pub(super) fn vocabulary() -> Result<(Vocabulary, Vec<Interaction>), VocabularyError> {
    let mut valid: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in Kind::ALL {
        let sets = verb_sets(kind);
        let names = Act::ALL.iter().filter(|a| sets.iter().any(|(set, _)| set.contains(a)));
        valid.insert(kind.name().to_owned(), names.map(|a| a.name().to_owned()).collect());
    }
    let vocabulary = Vocabulary::new(VocabularySpec {
        human: Kind::Person.name().to_owned(),
        objects: Kind::ALL.iter().map(|k| k.name().to_owned()).collect(),
        verbs: Act::ALL.iter().map(|a| a.name().to_owned()).collect(),
        background_verb: None,
        valid,
        alone: Vec::new(),
    })?;
    let classes = (0..vocabulary.object_count()).map(|c| hoi_runtime::vocabulary::ObjectClass(c as u16));
    let interactions = classes
        .flat_map(|object| vocabulary.valid_verbs(object).iter().map(move |&verb| Interaction { verb, object }))
        .collect();
    Ok((vocabulary, interactions))
}
