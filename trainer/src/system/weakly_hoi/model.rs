//! The network with its bank of interactions: loss of a batch, scores of a picture.

use hoi_runtime::fusion::{Fusion, FusionSpec, ScoredTriplet};
use hoi_runtime::interaction::HeadOutput;
use hoi_runtime::vocabulary::Vocabulary;
use ndarray::{Array1, Array2};
use tch::{Device, Kind, Tensor, nn, no_grad};

use super::config::{BankStart, WeaklyConfig};
use super::example::{InteractionTable, WeakBatch, WeakExample};
use super::loss::WeaklyLosses;
use super::network::WeaklyNetwork;
use crate::text::{TextEncoder, TextError, prompt};

/// Power of the detector's scores at test (eq. 3).
pub const PRIOR_POWER: f32 = 2.8;

/// A trained or trainable Weakly-HOI model over cached or live maps.
#[derive(Debug)]
pub struct WeaklyModel {
    /// All parameters.
    pub store: nn::VarStore,
    /// The network above the backbone.
    pub network: WeaklyNetwork,
    table: InteractionTable,
    config: WeaklyConfig,
}

/// The text vectors of all interactions, in the table's order: `[N, D]`.
///
/// # Errors
/// [`TextError`] when the encoder refuses a prompt.
pub fn text_bank(encoder: &TextEncoder, vocabulary: &Vocabulary) -> Result<Tensor, TextError> {
    let table = InteractionTable::of(vocabulary);
    let prompts: Vec<String> = table
        .entries()
        .iter()
        .map(|label| {
            let object = label.object.and_then(|o| vocabulary.object_name(o));
            prompt(vocabulary.verb_name(label.verb).unwrap_or_default(), object)
        })
        .collect();
    let read = encoder.encode_apart(&prompts)?;
    // One row per interaction: two that read alike share a vector.
    let rows: Vec<i64> = read.rows.iter().map(|&row| row as i64).collect();
    Ok(read.sentences.index_select(0, &Tensor::from_slice(&rows).to_device(read.sentences.device())))
}

impl WeaklyModel {
    /// A model with random weights that depend on nothing but `seed` and the configuration, and a bank that starts as the configuration
    /// says: at `bank` `[N, D]`, or at random with the same mean length.
    ///
    /// # Panics
    /// When `bank` is not `[N, D]` of the configuration.
    pub fn new(config: &WeaklyConfig, vocabulary: &Vocabulary, bank: &Tensor, seed: u64, device: Device) -> Self {
        let table = InteractionTable::of(vocabulary);
        assert_eq!(bank.size(), [table.len() as i64, config.shape.width], "the bank is [interactions, width]");
        tch::manual_seed(seed as i64);
        let store = nn::VarStore::new(device);
        let network = WeaklyNetwork::new(&store.root(), config, bank);
        if config.bank == BankStart::Random {
            network.scatter_bank();
        }
        Self { store, network, table, config: config.clone() }
    }

    /// A model to be filled with trained weights.
    pub(super) fn empty(config: &WeaklyConfig, vocabulary: &Vocabulary, device: Device) -> Self {
        let rows = InteractionTable::of(vocabulary).len() as i64;
        let bank = Tensor::zeros([rows, config.shape.width], (Kind::Float, Device::Cpu));
        Self::new(config, vocabulary, &bank, 0, device)
    }

    /// What it is made of.
    pub fn config(&self) -> &WeaklyConfig {
        &self.config
    }

    /// Its interactions.
    pub fn table(&self) -> &InteractionTable {
        &self.table
    }

    /// Total loss (eq. 4) of labelled images and its parts by name. `None` when nothing in the batch counts.
    pub fn loss(&self, examples: &[&WeakExample], relatedness: bool) -> Option<(Tensor, Vec<(&'static str, f64)>)> {
        let batch = WeakBatch::new(examples, self.store.device());
        let output = self.network.forward(&batch, true);
        let rule = &self.config.self_taught;
        WeaklyLosses::new(&output, &batch, examples, &self.table, rule, relatedness).total()
    }

    /// The runtime's scoring rule for this model, in all or some of its factors.
    pub fn fusion_spec(&self, vocabulary: &Vocabulary, max_triplets: usize) -> FusionSpec {
        let names = self.table.entries().iter().map(|label| {
            let object = label.object.and_then(|o| vocabulary.object_name(o)).map(str::to_owned);
            (vocabulary.verb_name(label.verb).unwrap_or_default().to_owned(), object)
        });
        let interactions = self.config.parts.score_fusion.then(|| names.collect());
        FusionSpec::Weakly { gamma: PRIOR_POWER, triplet_nms: None, max_triplets, interactions }
    }

    /// What the exported head would say of each example, in evaluation mode. Images without a pair have empty logits.
    pub fn outputs(&self, examples: &[&WeakExample]) -> Vec<HeadOutput> {
        if examples.is_empty() {
            return Vec::new();
        }
        let output = no_grad(|| self.network.forward(&WeakBatch::new(examples, self.store.device()), false));
        let columns = output.verbs.size()[2] as usize;
        let values = |t: &Tensor| {
            let t = t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            let mut values = vec![0f32; t.numel()];
            let count = values.len();
            t.copy_data(&mut values, count);
            values
        };
        let image = output.image.as_ref().filter(|_| self.config.parts.score_fusion);
        examples
            .iter()
            .enumerate()
            .map(|(i, e)| {
                let pairs = e.pairs.len();
                let own = |t: &Tensor| values(&t.get(i as i64).narrow(0, 0, pairs as i64));
                HeadOutput {
                    verb_logits: Array2::from_shape_fn((pairs, columns), {
                        let verbs = own(&output.verbs);
                        move |(p, v)| verbs[p * columns + v]
                    }),
                    relatedness: output.relatedness.as_ref().map(|t| Array1::from(own(t))),
                    image_logits: image.map(|t| Array1::from(values(&t.get(i as i64)))),
                }
            })
            .collect()
    }

    /// Scored triplets of each example by the runtime's own rule, best first.
    ///
    /// # Errors
    /// [`hoi_runtime::fusion::FusionError`] when the vocabulary is not the model's.
    pub fn triplets(
        &self,
        examples: &[&WeakExample],
        vocabulary: &Vocabulary,
    ) -> Result<Vec<Vec<ScoredTriplet>>, hoi_runtime::fusion::FusionError> {
        let fusion = Fusion::new(&self.fusion_spec(vocabulary, 10_000), vocabulary)?;
        let outputs = self.outputs(examples);
        examples.iter().zip(&outputs).map(|(e, head)| fusion.fuse(&e.picture.entities, &e.pairs, head)).collect()
    }
}
