//! The text of a batch: which words and sentences belong to which matched pair.

use hoi_runtime::vocabulary::{Interaction, Vocabulary};
use tch::{Device, Kind, Tensor};

use super::config::Words;
use super::example::Example;
use super::language::TextBatch;
use crate::text::{ImageText, sub_sentence};

/// Sub-sentences of a picture's distinct triplets, in annotation order.
pub fn sub_sentences(triplets: &[Interaction], vocabulary: &Vocabulary) -> Vec<String> {
    triplets
        .iter()
        .map(|t| {
            let verb = vocabulary.verb_name(t.verb).unwrap_or_default();
            sub_sentence(verb, vocabulary.object_name(t.object).unwrap_or_default())
        })
        .collect()
}

impl TextBatch {
    /// The text of `examples`; `None` when no pair matches an annotated one.
    ///
    /// `texts` holds the sub-sentences of each example's triplets, in that order. With [`Words::Own`], a pair whose words were all cut
    /// at the encoder's limit sees every word of its picture.
    pub fn new(examples: &[&Example], texts: &[&ImageText], words: Words, device: Device) -> Option<Self> {
        let mut matched: Vec<i64> = Vec::new();
        let (mut term_pair, mut sentences) = (Vec::new(), Vec::new());
        // Per matched pair: its example and the words it sees.
        let mut seen: Vec<(usize, Vec<i64>)> = Vec::new();
        let mut before = 0;
        for (i, (example, text)) in examples.iter().zip(texts).enumerate() {
            let mut pairs: Vec<usize> = example.matches.iter().map(|m| m.0).collect();
            pairs.sort_unstable();
            pairs.dedup();
            for pair in pairs {
                let carried = example.matches.iter().filter(|m| m.0 == pair);
                let own: Vec<usize> = carried.filter_map(|m| text.rows.get(m.1).copied()).collect();
                let every = || (0..text.owner.len() as i64).collect::<Vec<_>>();
                let visible = match words {
                    Words::All => every(),
                    Words::Own => {
                        let mine: Vec<i64> =
                            (0..).zip(&text.owner).filter(|(_, owner)| own.contains(owner)).map(|(w, _)| w).collect();
                        if mine.is_empty() { every() } else { mine }
                    }
                };
                for sentence in own {
                    term_pair.push(matched.len() as i64);
                    sentences.push(text.sentences.get(sentence as i64));
                }
                matched.push((before + pair) as i64);
                seen.push((i, visible));
            }
            before += example.pairs.len();
        }
        let most = seen.iter().map(|(_, words)| words.len()).max().filter(|&most| most > 0)?;
        let mut padding = vec![true; seen.len() * most];
        let rows: Vec<Tensor> = seen
            .iter()
            .enumerate()
            .map(|(row, (i, visible))| {
                padding[row * most..][..visible.len()].fill(false);
                let words =
                    texts[*i].words.index_select(0, &Tensor::from_slice(visible).to_device(texts[*i].words.device()));
                words.constant_pad_nd([0, 0, 0, (most - visible.len()) as i64])
            })
            .collect();
        Some(Self {
            matched: Tensor::from_slice(&matched).to_device(device),
            words: Tensor::stack(&rows, 0).to_device(device).to_kind(Kind::Float),
            word_padding: Tensor::from_slice(&padding).view([seen.len() as i64, most as i64]).to_device(device),
            term_pair: Tensor::from_slice(&term_pair).to_device(device),
            term_sentence: Tensor::stack(&sentences, 0).to_device(device).to_kind(Kind::Float),
        })
    }
}
