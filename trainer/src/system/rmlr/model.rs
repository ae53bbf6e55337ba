//! The head with its language side: loss of a batch, predictions of a picture.

use hoi_runtime::fusion::detr_prior;
use hoi_runtime::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn, no_grad};

use super::config::{LanguageConfig, LossWeights, RmlrShape, Words};
use super::example::{Example, PairBatch};
use super::language::{CrossModal, TextBatch, TransferLosses};
use super::network::RmlrNetwork;
use super::texts::Texts;
use crate::eval::interactions::TripletPrediction;
use crate::loss::FocalLoss;
use crate::text::{ImageText, TextError};

/// UPT: the power of the prior s_h s_o at test.
pub const PRIOR_POWER: f32 = 2.8;

/// What a model is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmlrConfig {
    /// The exported head.
    pub shape: RmlrShape,
    /// The language side; read only where a transfer loss counts.
    pub language: LanguageConfig,
    /// Weights of the loss.
    pub weights: LossWeights,
}

/// RmLR's trained part.
#[derive(Debug)]
pub struct RmlrModel {
    /// All parameters; those of the language side lie under `text.`.
    pub store: nn::VarStore,
    /// The head.
    pub network: RmlrNetwork,
    /// The language side, where a transfer loss counts.
    pub language: Option<CrossModal>,
    config: RmlrConfig,
}

impl RmlrModel {
    /// A model with random weights that depend on nothing but `seed` and the configuration. The head is drawn first: with the same
    /// seed it starts alike whether or not there is a language side.
    pub fn new(config: &RmlrConfig, seed: u64, device: Device) -> Self {
        tch::manual_seed(seed as i64);
        let store = nn::VarStore::new(device);
        let network = RmlrNetwork::new(&store.root(), &config.shape);
        let language = config
            .weights
            .transfer()
            .then(|| CrossModal::new(&store.root(), &config.shape, &config.language, &config.weights));
        Self { store, network, language, config: config.clone() }
    }

    /// Lets the sentence losses start at the mean of the vocabulary's sentences ([`CrossModal::start_at`]). Without a language side:
    /// nothing.
    ///
    /// # Errors
    /// [`TextError`] when the encoder refuses a text.
    pub fn start_sentences(&self, texts: &Texts<'_>) -> Result<(), TextError> {
        if let Some(language) = &self.language {
            language.start_at(&texts.mean_sentence()?);
        }
        Ok(())
    }

    /// What it is made of.
    pub fn config(&self) -> &RmlrConfig {
        &self.config
    }

    /// Total loss (eq. 22) of a batch and its parts by name. `texts` belong to the examples in order and may be empty without a
    /// language side; `detach_words` stops the gradient of the cross-attended side.
    ///
    /// `None` when no example has a pair.
    pub fn loss(
        &self,
        examples: &[&Example],
        texts: &[&ImageText],
        detach_words: bool,
    ) -> Option<(Tensor, Vec<(&'static str, f64)>)> {
        let (examples, texts): (Vec<&Example>, Vec<Option<&ImageText>>) = examples
            .iter()
            .enumerate()
            .filter(|(_, e)| !e.pairs.is_empty())
            .map(|(i, e)| (*e, texts.get(i).copied()))
            .unzip();
        if examples.is_empty() {
            return None;
        }
        let device = self.store.device();
        let batch = PairBatch::new(&examples, device);
        let output = self.network.forward(&batch.visual, true);
        let logits = output.logits.to_kind(Kind::Float);
        let hoi = FocalLoss::default().forward(&logits, &batch.labels, &batch.prior, &batch.valid);
        let transfer = match &self.language {
            None => TransferLosses::default(),
            Some(language) => {
                let texts: Option<Vec<&ImageText>> = texts.into_iter().collect();
                let words: Words = self.config.language.words;
                let text = texts.and_then(|texts| TextBatch::new(&examples, &texts, words, device));
                let dropout = self.config.language.dropout;
                language.forward(&output, batch.visual.apart.as_ref(), text.as_ref(), detach_words, true, dropout)
            }
        };
        Some(transfer.total(&hoi, &self.config.weights))
    }

    /// Verb logits of each example's pairs, `[P, V]` on the CPU, in evaluation mode.
    pub fn logits(&self, examples: &[&Example]) -> Vec<Tensor> {
        let verbs = self.config.shape.verbs;
        let with: Vec<&Example> = examples.iter().copied().filter(|e| !e.pairs.is_empty()).collect();
        let all = no_grad(|| {
            (!with.is_empty()).then(|| {
                let batch = PairBatch::new(&with, self.store.device());
                self.network.forward(&batch.visual, false).logits.to_kind(Kind::Float).to_device(Device::Cpu)
            })
        });
        let mut row = 0;
        examples
            .iter()
            .map(|e| {
                let pairs = e.pairs.len() as i64;
                row += pairs;
                match &all {
                    Some(all) => all.narrow(0, row - pairs, pairs),
                    None => Tensor::zeros([0, verbs], (Kind::Float, Device::Cpu)),
                }
            })
            .collect()
    }
}

/// Scored triplets of a picture from its verb logits `[P, V]`: sigma(z) (s_h s_o)^2.8 for verbs valid with the detected class, boxes
/// in pixels of the original image. `interactions[class][verb]` is the index of the interaction in the set's table.
pub fn predictions(
    example: &Example,
    logits: &Tensor,
    vocabulary: &Vocabulary,
    interactions: &[Vec<Option<usize>>],
) -> Vec<TripletPrediction> {
    let picture = &example.picture;
    let verbs = vocabulary.verb_count();
    let flat = logits.contiguous().view([-1]);
    let mut values = vec![0f32; flat.numel()];
    let count = values.len();
    flat.copy_data(&mut values, count);
    let mut found = Vec::new();
    for (pair, row) in example.pairs.iter().zip(values.chunks_exact(verbs.max(1))) {
        let (human, object) = (&picture.entities[pair.human], &picture.entities[pair.object]);
        for verb in vocabulary.valid_verbs(object.class) {
            let verb = usize::from(verb.0);
            let Some(interaction) = interactions[usize::from(object.class.0)][verb] else { continue };
            found.push(TripletPrediction {
                human: picture.in_original(&human.bbox),
                object: picture.in_original(&object.bbox),
                interaction,
                score: detr_prior(row[verb], human.score, object.score, PRIOR_POWER),
            });
        }
    }
    found
}
