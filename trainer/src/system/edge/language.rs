//! Text of the actions for the transfer losses of RmLR (eqs. 16 and 18). Training only.

use tch::{Kind, Tensor};

use crate::system::rmlr::TextBatch;
use crate::text::{TextEncoder, TextError, sub_sentence};

/// What the frozen encoder says of each action.
#[derive(Debug)]
pub struct ActionTexts {
    /// Of each action the vectors of its words, `[words, D_t]`.
    words: Vec<Tensor>,
    /// Sentence vectors, `[I, D_t]`.
    sentences: Tensor,
}

impl ActionTexts {
    /// Reads "human \<verb\> \<object\>" of every action.
    ///
    /// # Errors
    /// [`TextError`] when the encoder refuses a text.
    pub fn read(encoder: &TextEncoder, actions: &[(String, Option<String>)]) -> Result<Self, TextError> {
        let mut words = Vec::with_capacity(actions.len());
        let mut sentences = Vec::with_capacity(actions.len());
        for (verb, object) in actions {
            let text = encoder.encode_apart(&[sub_sentence(verb, object.as_deref().unwrap_or_default())])?;
            words.push(text.words.to_kind(Kind::Float));
            sentences.push(text.sentences.get(0).to_kind(Kind::Float));
        }
        Ok(Self { words, sentences: Tensor::stack(&sentences, 0) })
    }

    /// The mean sentence vector, `[D_t]`: where the sentence losses start.
    pub fn mean_sentence(&self) -> Tensor {
        self.sentences.mean_dim([0i64].as_slice(), false, Kind::Float)
    }

    /// The text of the photos that show an action, by their actions; `None` in place of none. `None` when no photo of the batch shows any.
    pub fn batch(&self, actions: &[Option<usize>]) -> Option<TextBatch> {
        let shown: Vec<(i64, usize)> = (0..).zip(actions).filter_map(|(row, action)| Some((row, (*action)?))).collect();
        let most = shown.iter().map(|(_, action)| self.words[*action].size()[0]).max().filter(|&most| most > 0)?;
        let mut padding = vec![true; shown.len() * most as usize];
        let words: Vec<Tensor> = shown
            .iter()
            .enumerate()
            .map(|(row, (_, action))| {
                let words = &self.words[*action];
                let count = words.size()[0];
                padding[row * most as usize..][..count as usize].fill(false);
                words.constant_pad_nd([0, 0, 0, most - count])
            })
            .collect();
        let device = self.sentences.device();
        let rows = |values: Vec<i64>| Tensor::from_slice(&values).to_device(device);
        Some(TextBatch {
            matched: rows(shown.iter().map(|(row, _)| *row).collect()),
            words: Tensor::stack(&words, 0),
            word_padding: Tensor::from_slice(&padding).view([shown.len() as i64, most]).to_device(device),
            term_pair: rows((0..shown.len() as i64).collect()),
            term_sentence: self.sentences.index_select(0, &rows(shown.iter().map(|(_, a)| *a as i64).collect())),
        })
    }
}
