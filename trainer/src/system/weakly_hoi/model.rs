//! The network with its bank of interactions: loss of a batch, scores of a picture.

use hoi_runtime::fusion::{Fusion, FusionSpec, ScoredTriplet};
use hoi_runtime::interaction::HeadOutput;
use hoi_runtime::vocabulary::Vocabulary;
use ndarray::{Array1, Array2};
use tch::{Device, Kind, Tensor, nn, no_grad};

use super::bank::verb_means;
use super::config::{BankStart, WeaklyConfig};
use super::example::{InteractionTable, WeakBatch, WeakExample};
use super::loss::WeaklyLosses;
use super::network::WeaklyNetwork;
use super::prompt_score::rescored;
use crate::network::clip::{BatchNorms, ModifiedResNet, freeze};
use crate::network::weights::{StateDict, WeightsError};

/// Power of the detector's scores at test (eq. 3).
pub const PRIOR_POWER: f32 = 2.8;

/// Triplets of a picture at most, the most that the runtime's rule takes.
const MAX_TRIPLETS: usize = 10_000;

/// Where the weights of a backbone that is trained with the rest lie, in the names of [`ModifiedResNet`].
pub(crate) const BACKBONE: &str = "backbone";

/// Where pooling and prompts are kept as they started.
pub(crate) const STARTED: &str = "started";

/// A trained or trainable Weakly-HOI model over cached or live maps.
#[derive(Debug)]
pub struct WeaklyModel {
    /// All parameters.
    pub store: nn::VarStore,
    /// The network above the backbone.
    pub network: WeaklyNetwork,
    backbone: Option<ModifiedResNet>,
    table: InteractionTable,
    config: WeaklyConfig,
}

/// The values of a tensor, row by row.
fn values(t: &Tensor) -> Vec<f32> {
    let t = t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    let mut values = vec![0f32; t.numel()];
    let count = values.len();
    t.copy_data(&mut values, count);
    values
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
        let backbone = config.backbone.as_ref().map(|sizes| {
            let backbone = ModifiedResNet::new(&(store.root() / BACKBONE), sizes, BatchNorms::Frozen);
            // Its pooling is the network's `pool`.
            freeze(&store, &format!("{BACKBONE}.attnpool"));
            backbone
        });
        let model = Self { store, network, backbone, table, config: config.clone() };
        model.keep_start();
        if config.parts.distilled {
            model.start_verbs(bank);
        }
        model
    }

    /// Lets `started.pool.*` be what `pool.*` is, without gradient.
    fn keep_start(&self) {
        let variables = self.store.variables();
        no_grad(|| {
            for (name, pool) in variables.iter().filter(|(name, _)| name.starts_with("pool.")) {
                if let Some(kept) = variables.get(&format!("{STARTED}.{name}")) {
                    kept.set_requires_grad(false).copy_(pool);
                }
            }
        });
    }

    /// Lets the rows of F_P's last layer start at the mean of each verb's prompts (Abl 4).
    fn start_verbs(&self, bank: &Tensor) {
        if let Some(last) = self.store.variables().get("verbs.2.weight") {
            no_grad(|| {
                for (verb, mean) in verb_means(bank, &self.table) {
                    last.get(verb).copy_(&mean);
                }
            });
        }
    }

    /// Lets pooling, temperature of the prompts and the trained backbone (where there is one) start at CLIP's visual network, whose
    /// weights `visual` has in the names of [`ModifiedResNet`]; `scale` is the logarithm of CLIP's factor of cosines, for what the prompts
    /// say without training.
    ///
    /// # Errors
    /// [`WeightsError`] when the network has other sizes.
    pub fn start_at_clip(&self, visual: &StateDict, scale: f64) -> Result<(), WeightsError> {
        let copy = |prefix: &str| {
            let own = visual
                .tensors()
                .iter()
                .filter_map(|(n, t)| Some((n.strip_prefix(prefix)?.to_owned(), t.shallow_clone())));
            StateDict::new(visual.path(), own.collect::<Vec<_>>())
        };
        copy("attnpool.").load(&self.store, "pool.")?;
        if self.backbone.is_some() {
            copy("").load(&self.store, &format!("{BACKBONE}."))?;
        }
        self.keep_start();
        if let Some(kept) = self.store.variables().get(&format!("{STARTED}.scale")) {
            let _ = no_grad(|| kept.shallow_clone().fill_(scale));
        }
        Ok(())
    }

    /// CLIP's visual network, where it is trained with the rest.
    pub fn backbone(&self) -> Option<&ModifiedResNet> {
        self.backbone.as_ref()
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

    /// Total loss (eq. 4, and Abl 4's distance) of labelled images and its parts by name. `None` when nothing in the batch counts.
    pub fn loss(&self, examples: &[&WeakExample], relatedness: bool) -> Option<(Tensor, Vec<(&'static str, f64)>)> {
        let batch = WeakBatch::new(examples, self.store.device());
        let output = self.network.forward(&batch, true);
        WeaklyLosses::new(&output, &batch, examples, &self.table, &self.config, relatedness).total()
    }

    /// The runtime's scoring rule for this model, in all or some of its factors.
    pub fn fusion_spec(&self, vocabulary: &Vocabulary, max_triplets: usize) -> FusionSpec {
        let names = self.table.entries().iter().map(|label| {
            let object = label.object.and_then(|o| vocabulary.object_name(o)).map(str::to_owned);
            (vocabulary.verb_name(label.verb).unwrap_or_default().to_owned(), object)
        });
        let interactions = self.config.parts.score_fusion.then(|| names.collect());
        FusionSpec::Weakly { gamma: PRIOR_POWER, triplet_nms: None, max_triplets, interactions, calibration: None }
    }

    /// What the exported head would say of each example, in evaluation mode. Images without a pair have empty logits.
    pub fn outputs(&self, examples: &[&WeakExample]) -> Vec<HeadOutput> {
        if examples.is_empty() {
            return Vec::new();
        }
        let output = no_grad(|| self.network.forward(&WeakBatch::new(examples, self.store.device()), false));
        let columns = output.verbs.size()[2] as usize;
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

    /// What the model makes of each picture before it names interactions, `[n, D]`; `None` for a model that does not look at humans.
    pub fn features(&self, examples: &[&WeakExample]) -> Option<Tensor> {
        self.network.sight(&WeakBatch::new(examples, self.store.device()))
    }

    /// Scored triplets of each example by the runtime's own rule, best first; in rows of Table 3 that ask the prompts, with what these say.
    ///
    /// # Errors
    /// [`hoi_runtime::fusion::FusionError`] when the vocabulary is not the model's.
    pub fn triplets(
        &self,
        examples: &[&WeakExample],
        vocabulary: &Vocabulary,
    ) -> Result<Vec<Vec<ScoredTriplet>>, hoi_runtime::fusion::FusionError> {
        let fusion = Fusion::new(&self.fusion_spec(vocabulary, MAX_TRIPLETS), vocabulary)?;
        let outputs = self.outputs(examples);
        let fused = examples.iter().zip(&outputs).map(|(e, head)| fusion.fuse(&e.picture.entities, &e.pairs, head));
        let fused: Vec<Vec<ScoredTriplet>> = fused.collect::<Result<_, _>>()?;
        let Some((mode, asked)) = self.config.parts.prompt_score.zip(self.prompt_scores(examples)) else {
            return Ok(fused);
        };
        let all = fused.into_iter().zip(examples).zip(&asked);
        Ok(all.map(|((triplets, e), asked)| rescored(triplets, e, &self.table, asked.view(), mode)).collect())
    }

    /// What the prompts say of each example's pairs without training, `[P, N]` each; `None` in rows that do not ask.
    pub fn prompt_scores(&self, examples: &[&WeakExample]) -> Option<Vec<Array2<f32>>> {
        self.config.parts.prompt_score?;
        if examples.is_empty() {
            return Some(Vec::new());
        }
        let asked = self.network.prompt_scores(&WeakBatch::new(examples, self.store.device()))?;
        let columns = self.table.len();
        let own = |(i, e): (usize, &&WeakExample)| {
            let values = values(&asked.get(i as i64).narrow(0, 0, e.pairs.len() as i64));
            Array2::from_shape_fn((e.pairs.len(), columns), |(p, n)| values[p * columns + n])
        };
        Some(examples.iter().enumerate().map(own).collect())
    }
}
