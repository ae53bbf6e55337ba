//! The frozen text encoder as training uses it.

use hoi_runtime::vocabulary::Vocabulary;

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
}
