//! Training on photos in memory.

use hoi_runtime::vocabulary::ObjectClass;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::answers::TeacherAnswers;
use super::config::{ActionTable, EdgeConfig, TrainWeights};
use super::language::ActionTexts;
use super::network::{EdgeBatch, EdgeNetwork, EdgeOutput, in_store};
use super::photo::PhotoLook;
use crate::system::layout::LayoutNetwork;
use crate::system::rmlr::{CrossModal, LanguageConfig, LossWeights, RmlrShape, VisualOutput};
use crate::system::run::{EpochShape, RunConfig, RunError, StepLoss, Trainer};

/// Photos that tell mean and deviation of the inputs.
const STANDARDISED: usize = 400;

/// How much more a person counts who does none of the actions.
const NONE_WEIGHT: f32 = 3.0;

/// Logits of pairs that are not meant.
const NO_PAIR: f64 = -1e9;

/// A network with what its training needs.
#[derive(Debug)]
pub struct EdgeModel {
    /// Everything that is trained; what lies under `text.` serves training alone.
    pub store: VarStore,
    /// The network.
    pub network: EdgeNetwork,
    table: ActionTable,
    weights: TrainWeights,
    text: Option<(CrossModal, ActionTexts)>,
}

/// Photos to learn from, in views of each; all lists are in the same order.
#[derive(Debug)]
pub struct Photos<'a> {
    /// Each view of all photos.
    pub views: &'a [Vec<PhotoLook>],
    /// Action of each photo; `None` for a person who does none of them.
    pub actions: &'a [Option<usize>],
    /// What teachers say of the photos.
    pub teachers: Option<&'a TeacherAnswers>,
}

impl EdgeModel {
    /// A new model above a layout head, whose weights stay as they are; with texts where language is to be transferred.
    pub fn new(
        config: &EdgeConfig,
        layout: LayoutNetwork,
        table: ActionTable,
        weights: &TrainWeights,
        texts: Option<ActionTexts>,
        device: Device,
    ) -> Self {
        for parameter in layout.parameters() {
            let _ = parameter.set_requires_grad(false);
        }
        let (store, network) = in_store(config, layout, device);
        network.start(&table.in_layout);
        let text = texts.filter(|_| weights.words > 0.0 || weights.sentences > 0.0).map(|texts| {
            let own = RmlrShape::full(config.layout.verbs);
            let shape = RmlrShape { pair: config.hidden, cue_used: false, ..own };
            let width = texts.mean_sentence().size()[0];
            let beside = LanguageConfig::beside(&shape, "", width);
            let language = LanguageConfig { heads: 4, self_attention_layers: 0, ..beside };
            let cross = CrossModal::new(&store.root(), &shape, &language, &transfer(weights));
            cross.start_at(&texts.mean_sentence());
            (cross, texts)
        });
        Self { store, network, table, weights: weights.clone(), text }
    }

    /// Takes mean and deviation of the inputs from some of the photos.
    pub fn prepare(&self, photos: &[PhotoLook]) {
        let some: Vec<&PhotoLook> = photos.iter().step_by(photos.len().div_ceil(STANDARDISED).max(1)).collect();
        if !some.is_empty() {
            self.network.standardise(&EdgeBatch::new(&some, self.store.device()));
        }
    }

    /// Probabilities of the actions for each photo's person, `[n, I]`, and the hidden values, `[n, hidden]`.
    pub fn answers(&self, photos: &[&PhotoLook]) -> [Tensor; 2] {
        no_grad(|| {
            let output = self.network.forward(&EdgeBatch::new(photos, self.store.device()), [0.0; 2]);
            let count = self.table.actions.len() as i64;
            [output.actions.softmax(-1, Kind::Float).narrow(1, 0, count), output.hidden]
        })
    }

    /// The loss of some photos and its parts.
    fn loss(&self, looks: &[&PhotoLook], actions: &[Option<usize>], said: Option<(&Tensor, Vec<Tensor>)>) -> StepLoss {
        let weights = &self.weights;
        let batch = EdgeBatch::new(looks, self.store.device());
        let output = self.network.forward(&batch, [weights.input_dropout, weights.dropout]);
        let none = self.table.actions.len();
        let labels: Vec<i64> = actions.iter().map(|a| a.unwrap_or(none) as i64).collect();
        let device = output.actions.device();
        let labels = Tensor::from_slice(&labels).to_device(device);
        // Those who do nothing are few, and look in many ways.
        let weight: Vec<f32> = actions.iter().map(|a| if a.is_some() { 1.0 } else { NONE_WEIGHT }).collect();
        let weight = Tensor::from_slice(&weight).to_device(device);
        let each = output.actions.log_softmax(-1, Kind::Float).gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
        let mut total = -(each * &weight).sum(Kind::Float) / weight.sum(Kind::Float);
        let mut parts = vec![("actions", total.double_value(&[]))];
        if let Some((scores, features)) = said {
            let taught = self.distance_to_teachers(&output, &scores.to_device(device));
            parts.push(("teacher", taught.double_value(&[])));
            total = total * (1.0 - weights.teacher) + taught * weights.teacher;
            let known: Vec<i64> = (0..).zip(actions).filter(|(_, a)| a.is_some()).map(|(row, _)| row).collect();
            let known = Tensor::from_slice(&known);
            let features: Vec<Tensor> = features.iter().map(|f| f.index_select(0, &known)).collect();
            let hidden = output.hidden.index_select(0, &known.to_device(device));
            if let Some(relation) = relation(&hidden, &features).filter(|_| weights.relation > 0.0) {
                parts.push(("relation", relation.double_value(&[])));
                total += relation * weights.relation;
            }
        }
        if let Some(of_pairs) = self.of_pairs(&output, &batch, actions).filter(|_| weights.pairs > 0.0) {
            parts.push(("pairs", of_pairs.double_value(&[])));
            total += of_pairs * weights.pairs;
        }
        if let Some(kept) = (weights.kept > 0.0).then(|| self.kept(&output, &batch)).flatten() {
            parts.push(("kept", kept.double_value(&[])));
            total += kept * weights.kept;
        }
        if let Some((cross, texts)) = &self.text {
            let visual = VisualOutput {
                cue: None,
                reasoned: output.hidden.shallow_clone(),
                logits: output.actions.shallow_clone(),
            };
            let losses = cross.forward(&visual, None, texts.batch(actions).as_ref(), true, true, 0.0);
            for (name, loss, weight) in [
                ("words", &losses.word_reasoning, weights.words),
                ("sentences", &losses.sentence_reasoning, weights.sentences),
            ] {
                if let Some(loss) = loss {
                    parts.push((name, loss.double_value(&[])));
                    total += loss * weight;
                }
            }
        }
        StepLoss { total, parts }
    }

    /// Cross-entropy of the actions against the teachers' probabilities, both at the temperature, less the teachers' entropy, times the
    /// temperature squared.
    fn distance_to_teachers(&self, output: &EdgeOutput, scores: &Tensor) -> Tensor {
        let t = self.weights.temperature;
        let known = scores.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).gt(0.0).to_kind(Kind::Float);
        let target = scores.clamp_min(1e-6).pow_tensor_scalar(1.0 / t);
        let target = &target / target.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let own = output.actions.narrow(1, 0, self.table.actions.len() as i64) / t;
        let distance = &target * (target.log() - own.log_softmax(-1, Kind::Float));
        let each = distance.sum_dim_intlist([1i64].as_slice(), false, Kind::Float) * &known;
        each.sum(Kind::Float) / known.sum(Kind::Float).clamp_min(1.0) * (t * t)
    }

    /// Mean squared difference that the re-mined features make to the logits of verbs of which the photos say nothing: what is not told is to
    /// stay as it was. `None` where nothing is re-mined or there is no pair.
    fn kept(&self, output: &EdgeOutput, batch: &EdgeBatch) -> Option<Tensor> {
        let [pairs, verbs] = output.layout.size2().map(|(p, v)| [p, v]).ok()?;
        if pairs == 0 || self.network.config().remined == 0 {
            return None;
        }
        let alone = no_grad(|| self.network.layout().forward(&batch.pairs));
        let mut told = vec![0f32; (self.network.config().layout.objects * verbs) as usize];
        for ((verb, object), known) in self.table.actions.iter().zip(&self.table.in_layout) {
            if let (Some(ObjectClass(class)), true) = (object, known) {
                told[usize::from(*class) * verbs as usize + usize::from(verb.0)] = 1.0;
            }
        }
        let told = Tensor::from_slice(&told).view([-1, verbs]).to_device(output.layout.device());
        let untold = told.index_select(0, &batch.pairs.object_class).neg() + 1.0;
        Some(((&output.layout - alone).square() * untold).mean(Kind::Float))
    }

    /// Binary cross-entropy of the best pair of each photo and action whose object was found: one of them does the photo's action, none any
    /// other. `None` where no photo has such an object.
    fn of_pairs(&self, output: &EdgeOutput, batch: &EdgeBatch, actions: &[Option<usize>]) -> Option<Tensor> {
        let pairs = batch.pairs.object_class.size()[0];
        if pairs == 0 {
            return None;
        }
        let device = output.actions.device();
        let classes: Vec<i64> =
            self.table.actions.iter().map(|(_, object)| object.map_or(-1, |ObjectClass(c)| i64::from(c))).collect();
        let count = classes.len() as i64;
        let classes = Tensor::from_slice(&classes).to_device(device);
        let meant = batch.pairs.object_class.unsqueeze(1).eq_tensor(&classes.unsqueeze(0));
        let logits = self.network.of_actions(output, batch, &self.table);
        let logits = logits.where_self(&meant, &Tensor::from(NO_PAIR as f32).to_device(device));
        let none = Tensor::full([1, count], NO_PAIR, (Kind::Float, device));
        let best = Tensor::cat(&[logits, none], 0)
            .index_select(0, &rows_of_photos(&batch.counts).to_device(device).view([-1]))
            .view([actions.len() as i64, -1, count])
            .amax([1i64].as_slice(), false);
        let there = best.gt(NO_PAIR / 2.0);
        if there.any().int64_value(&[]) == 0 {
            return None;
        }
        let mut labels = vec![0f32; actions.len() * count as usize];
        for (row, action) in actions.iter().enumerate() {
            if let Some(action) = action {
                labels[row * count as usize + action] = 1.0;
            }
        }
        let labels = Tensor::from_slice(&labels).view([-1, count]).to_device(device);
        let (best, labels) = (best.masked_select(&there), labels.masked_select(&there));
        Some((best.softplus() - &best * labels).mean(Kind::Float))
    }
}

/// The rows of each photo's pairs `[B, most]`, filled up with the row after the last.
fn rows_of_photos(counts: &[usize]) -> Tensor {
    let (all, most) = (counts.iter().sum::<usize>(), counts.iter().copied().max().unwrap_or_default());
    let mut rows = vec![all as i64; counts.len() * most];
    let mut first = 0;
    for (photo, count) in counts.iter().enumerate() {
        (0..*count).for_each(|i| rows[photo * most + i] = (first + i) as i64);
        first += count;
    }
    Tensor::from_slice(&rows).view([counts.len() as i64, most as i64])
}

/// RmLR's weights for the one stream that there is.
fn transfer(weights: &TrainWeights) -> LossWeights {
    LossWeights {
        hoi: 0.0,
        sentence_reasoning: weights.sentences,
        word_reasoning: weights.words,
        sentence_remining: 0.0,
        word_remining: 0.0,
    }
}

/// Mean squared difference of the cosines between photos, the network's and the mean of the teachers' (relational knowledge distillation).
fn relation(hidden: &Tensor, features: &[Tensor]) -> Option<Tensor> {
    let cosines = |x: &Tensor| {
        let centred = x - x.mean_dim([0i64].as_slice(), true, Kind::Float);
        let length = centred.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sqrt().clamp_min(1e-6);
        let unit = centred / length;
        unit.matmul(&unit.transpose(0, 1))
    };
    let each = features.iter().map(|f| cosines(&f.to_device(hidden.device())));
    let target = each.reduce(|a, b| a + b)? / features.len() as f64;
    Some((cosines(hidden) - target).square().mean(Kind::Float))
}

/// Trains `model` for the epochs that `trainer` has left; for each photo and epoch one of its views is drawn. After each epoch `validate` may
/// measure something for the log.
///
/// # Errors
/// [`RunError`].
pub fn train(
    model: &EdgeModel,
    photos: &Photos<'_>,
    trainer: &mut Trainer,
    config: &RunConfig,
    mut validate: impl FnMut(&EdgeModel) -> Vec<(&'static str, f64)>,
) -> Result<(), RunError> {
    let count = photos.actions.len();
    let RunConfig { batch, seed, .. } = *config;
    trainer.run(EpochShape::new(count, batch), |epoch| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ ((epoch.number() as u64 + 1) << 32));
        let drawn: Vec<usize> = (0..count).map(|_| rng.random_range(0..photos.views.len())).collect();
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut rng);
        for indices in order.chunks(batch).skip(epoch.done()) {
            let looks: Vec<&PhotoLook> = indices.iter().map(|&i| &photos.views[drawn[i]][i]).collect();
            let actions: Vec<Option<usize>> = indices.iter().map(|&i| photos.actions[i]).collect();
            let rows = Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>());
            epoch.step(looks.len(), || {
                let scores = photos.teachers.map(|t| t.scores.index_select(0, &rows));
                let features = || photos.teachers.iter().flat_map(|t| &t.features).map(|f| f.index_select(0, &rows));
                let said = scores.as_ref().map(|scores| (scores, features().collect()));
                Ok::<_, RunError>(Some(model.loss(&looks, &actions, said)))
            })?;
        }
        Ok(epoch.with_average(|| validate(model)))
    })
}
