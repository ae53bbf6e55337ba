//! The frozen text encoder as training uses it.

use hoi_runtime::vocabulary::{Interaction, ObjectClass, Vocabulary};
use tch::{Kind, Tensor};

use super::config::TextMode;
use super::example::Example;
use super::text::sub_sentences;
use crate::text::{ImageText, TextEncoder, TextError};

/// Reads the text of pictures; what was read before is remembered by the encoder.
#[derive(Debug)]
pub struct Texts<'a> {
    /// The frozen encoder.
    pub encoder: &'a TextEncoder,
    /// Objects and verbs by name.
    pub vocabulary: &'a Vocabulary,
    /// Joined or apart.
    pub mode: TextMode,
}

impl Texts<'_> {
    /// The text of each example, in order.
    ///
    /// # Errors
    /// [`TextError`] when the encoder refuses a text.
    pub fn of(&self, examples: &[&Example]) -> Result<Vec<ImageText>, TextError> {
        let lists: Vec<Vec<String>> = examples.iter().map(|e| sub_sentences(&e.triplets, self.vocabulary)).collect();
        match self.mode {
            TextMode::Joined => self.encoder.encode_joined_many(&lists),
            TextMode::PerSentence => lists.iter().map(|list| self.encoder.encode_apart(list)).collect(),
        }
    }

    /// The mean sentence vector of all interactions of the vocabulary, `[D_t]`.
    ///
    /// # Errors
    /// [`TextError`] when the encoder refuses a text.
    pub fn mean_sentence(&self) -> Result<Tensor, TextError> {
        let objects = (0..self.vocabulary.object_count()).map(|object| ObjectClass(object as u16));
        let all: Vec<Interaction> = objects
            .flat_map(|object| {
                self.vocabulary.valid_verbs(object).iter().map(move |&verb| Interaction { verb, object })
            })
            .collect();
        let read = self.encoder.encode_apart(&sub_sentences(&all, self.vocabulary))?;
        Ok(read.sentences.mean_dim([0i64].as_slice(), false, Kind::Float))
    }
}
