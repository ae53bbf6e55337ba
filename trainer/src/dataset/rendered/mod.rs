//! Rendered scenes: drawn persons and objects whose verbs only the picture tells.
//!
//! A scene is laid out first: persons, objects beside them, distractors. Verbs are drawn after that and independently of it, and a person's
//! figure is stretched to the box it was given. So for every class the boxes of all verbs have one distribution, and also
//! that of pairs in which nothing is done. What a person does can only be read from limbs.

mod background;
mod body;
mod layout;
mod object;
mod person;
mod scene;
mod shape;
mod special;
mod vocabulary;
mod zone;

use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::{Interaction, Vocabulary, VocabularyError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{AnnotatedImage, AnnotatedPair, AnnotatedPicture, DatasetError, PictureSet};

pub use scene::RenderedScene;
pub use special::{Interference, SamePlace, UsedObject, interference, same_place, used_object};

/// Smallest side of a picture: below it limbs are thinner than two pixels.
pub const LEAST_SIDE: u32 = 64;

/// Which part of the endless supply of scenes is drawn; parts share no scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To train on
    Train,
    /// To choose by
    Validation,
    /// To report on
    Test,
}

impl Split {
    /// Name in scene names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Which scenes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedConfig {
    /// Size of the pictures.
    pub size: Size,
    /// Another seed gives other scenes.
    pub seed: u64,
    /// Part of the scenes.
    pub split: Split,
    /// How many.
    pub count: usize,
}

impl Default for RenderedConfig {
    fn default() -> Self {
        Self { size: Size::new(160, 160), seed: 0, split: Split::Train, count: 1000 }
    }
}

/// Why scenes cannot be drawn.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderedError {
    /// Too small to show what persons do.
    #[error(
        "a scene of {size} is too small to show what persons do: both sides must have at least {LEAST_SIDE} pixels"
    )]
    TooSmall {
        /// The size asked for.
        size: Size,
    },
    /// The table of classes and verbs contradicts itself.
    #[error("the vocabulary of rendered scenes")]
    Vocabulary(#[from] VocabularyError),
}

fn check_size(size: Size) -> Result<(), RenderedError> {
    if size.width.min(size.height) < LEAST_SIDE { Err(RenderedError::TooSmall { size }) } else { Ok(()) }
}

/// A generator of its own for every scene: `purpose` tells the splits and the special lists apart.
fn generator(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_mut(8).zip([seed, purpose, index, 0x0073_6365_6e65_7331]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A set of rendered scenes; each is drawn when it is asked for.
#[derive(Clone, Debug)]
pub struct RenderedScenes {
    config: RenderedConfig,
    vocabulary: Vocabulary,
    interactions: Vec<Interaction>,
}

impl RenderedScenes {
    /// The set of `config`.
    ///
    /// # Errors
    /// [`RenderedError::TooSmall`] for pictures with a side below [`LEAST_SIDE`].
    pub fn new(config: RenderedConfig) -> Result<Self, RenderedError> {
        check_size(config.size)?;
        let (vocabulary, interactions) = vocabulary::vocabulary()?;
        Ok(Self { config, vocabulary, interactions })
    }

    /// Which scenes these are.
    pub fn config(&self) -> &RenderedConfig {
        &self.config
    }

    /// Valid interactions by object, then verb; [`AnnotatedPair::interaction`] is the position here.
    pub fn interactions(&self) -> &[Interaction] {
        &self.interactions
    }

    /// The scene at `index`, not drawn. Indices from [`PictureSet::len`] on give the scenes that a longer set would hold.
    pub fn scene(&self, index: usize) -> RenderedScene {
        let mut rng = generator(self.config.seed, self.config.split as u64, index as u64);
        RenderedScene::compose(self.config.size, &mut rng)
    }

    /// What is annotated in the scene at `index`, without drawing it; [`PairLabel`](super::PairLabel)s in the same order as in the picture.
    pub fn annotation(&self, index: usize) -> AnnotatedImage {
        let labels = self.scene(index).pairs();
        let pairs = labels.iter().filter_map(|p| {
            let interaction = Interaction { verb: p.verb, object: p.class };
            let interaction = self.interactions.iter().position(|i| *i == interaction)?;
            Some(AnnotatedPair { human: p.human, object: p.object, interaction })
        });
        let pairs = pairs.collect();
        AnnotatedImage { name: self.name(index), number: index as u64, size: Some(self.config.size), pairs }
    }
}

impl PictureSet for RenderedScenes {
    fn len(&self) -> usize {
        self.config.count
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn name(&self, index: usize) -> String {
        format!("{}_{}_{index:06}.png", self.config.split.name(), self.config.seed)
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        Ok(self.scene(index).annotated(self.name(index), index as u64))
    }
}

/// Given scenes as a set of pictures, numbered from 0.
#[derive(Clone, Debug)]
pub struct SceneList {
    scenes: Vec<RenderedScene>,
    vocabulary: Vocabulary,
}

impl SceneList {
    /// A set of `scenes`; `vocabulary` is that of [`RenderedScenes`].
    pub fn new(scenes: Vec<RenderedScene>, vocabulary: Vocabulary) -> Self {
        Self { scenes, vocabulary }
    }
}

impl PictureSet for SceneList {
    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn name(&self, index: usize) -> String {
        format!("scene {index}")
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        Ok(self.scenes[index].annotated(self.name(index), index as u64))
    }
}
