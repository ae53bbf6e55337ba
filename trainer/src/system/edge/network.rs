//! The network.

use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::config::{ActionTable, EdgeConfig};
use super::photo::PhotoLook;
use crate::network::init::linear_from;
use crate::system::layout::{LayoutNetwork, Pairs};

/// Added to probabilities before their logarithm: logits stay within 16.
const PROBABILITY_EPS: f64 = 1e-7;

/// Bound of what is heard of an action that only the photo tells: none.
const UNBOUNDED: f64 = -1e3;

/// Ways in which a person is seen: its box, the upper half of it, the whole picture.
pub(super) const VIEWS: usize = 3;

/// Photos as the network takes them: one person each, and the pairs that the person forms with objects.
#[derive(Debug)]
pub struct EdgeBatch {
    /// Mean roots of all maps' channels over the person's box, over the upper half of it and over the picture, `[B, 3, C]`.
    pub pooled: Tensor,
    /// Highest class logits of the picture, `[B, K]`.
    pub evidence: Tensor,
    /// The same over the masked RoI of each pair and, last, the sum of its mask, `[P, C + 1]`.
    pub of_pairs: Tensor,
    /// The pairs; their image is the photo.
    pub pairs: Pairs,
    /// How many pairs each photo has.
    pub counts: Vec<usize>,
}

/// What the network says.
#[derive(Debug)]
pub struct EdgeOutput {
    /// The look's hidden layer, `[B, hidden]`.
    pub hidden: Tensor,
    /// Logits of the actions and, last, of none of them, `[B, I + 1]`.
    pub actions: Tensor,
    /// Verb logits of the layout head with the re-mined features, `[P, V_layout]`.
    pub layout: Tensor,
    /// The actions' logits as pairs hear them: `max(scale logit(p) + offset, least)`, `[B, I]`.
    pub heard: Tensor,
}

/// Projections of the edge system; the layout head stands beside and is not trained with them.
///
/// The relation map (RmLR eq. 4, with one linear layer over the standardised roots of the maps' channels as encoder) is read three times: over
/// the boxes of a person, over the whole picture, and over the masked RoI of a pair. Since means and projections commute, training sees means of
/// roots only.
///
/// Parameters: `relate.map.K`, `relate.mean`, `relate.deviation`, `look.evidence`, `look.hidden`, `look.actions`, `look.evidence_mean`,
/// `look.evidence_deviation`, `remine.cue`, `remine.pair`, `hear.scale`, `hear.offset`, `hear.least`.
#[derive(Debug)]
pub struct EdgeNetwork {
    config: EdgeConfig,
    layout: LayoutNetwork,
    maps: Vec<Tensor>,
    evidence: Option<Tensor>,
    standard: [Tensor; 4],
    hidden: nn::Linear,
    actions: nn::Linear,
    remine: Option<[Tensor; 2]>,
    scale: Tensor,
    offset: Tensor,
    least: Tensor,
}

impl EdgeNetwork {
    /// A network with random weights in `path`, above a layout head.
    pub fn new(path: &nn::Path<'_>, config: &EdgeConfig, layout: LayoutNetwork) -> Self {
        let normal = |fan_in: i64| nn::Init::Randn { mean: 0.0, stdev: 1.0 / (fan_in.max(1) as f64).sqrt() };
        let (relate, look, remine, hear) = (path / "relate", path / "look", path / "remine", path / "hear");
        let EdgeConfig { maps, evidence, relation, evidence_projected, hidden, remined, actions, .. } = config;
        let channels = config.channels();
        let count = actions.len() as i64;
        let inputs = VIEWS as i64 * relation + if *evidence > 0 { *evidence_projected } else { 0 };
        let uniform = |n: i64| {
            let bound = 1.0 / (n.max(1) as f64).sqrt();
            nn::Init::Uniform { lo: -bound, up: bound }
        };
        let buffer = |path: &nn::Path<'_>, name: &str, n: i64, value: f64| {
            path.var(name, &[n], nn::Init::Const(value)).set_requires_grad(false)
        };
        let standard = [
            buffer(&relate, "mean", channels, 0.0),
            buffer(&relate, "deviation", channels, 1.0),
            buffer(&look, "evidence_mean", 2 * evidence, 0.0),
            buffer(&look, "evidence_deviation", 2 * evidence, 1.0),
        ];
        let of_map = |(k, &c): (usize, &i64)| (&relate / "map").var(&k.to_string(), &[c, *relation], normal(channels));
        Self {
            maps: maps.iter().enumerate().map(of_map).collect(),
            evidence: (*evidence > 0)
                .then(|| look.var("evidence", &[2 * evidence, *evidence_projected], normal(2 * evidence))),
            standard,
            hidden: linear_from(&(&look / "hidden"), inputs, *hidden, uniform(inputs), uniform(inputs)),
            actions: linear_from(&(&look / "actions"), *hidden, count + 1, uniform(*hidden), nn::Init::Const(0.0)),
            remine: (*remined > 0).then(|| {
                [
                    remine.var("cue", &[*relation, *remined], normal(*relation)),
                    // Nothing at first: the layout head says what it said.
                    remine.var("pair", &[*remined, config.layout.hidden], nn::Init::Const(0.0)),
                ]
            }),
            scale: hear.var("scale", &[count], nn::Init::Const(1.0)),
            offset: hear.var("offset", &[count], nn::Init::Const(0.0)),
            least: buffer(&hear, "least", count, UNBOUNDED),
            config: config.clone(),
            layout,
        }
    }

    /// Where training starts: to what the layout head says of an action that it knows, the photo adds how much likelier the action is there than
    /// one of all of them, and takes at most the veto from it; of others the photo says all.
    pub(super) fn start(&self, known: &[bool]) {
        let even = (known.len() as f32).ln();
        let start: Vec<f32> = known.iter().map(|&known| if known { even } else { 0.0 }).collect();
        let bound = |&known: &bool| if known { -self.config.veto as f32 } else { UNBOUNDED as f32 };
        let least: Vec<f32> = known.iter().map(bound).collect();
        no_grad(|| {
            self.offset.shallow_clone().copy_(&Tensor::from_slice(&start));
            self.least.shallow_clone().copy_(&Tensor::from_slice(&least));
        });
    }

    /// Sizes.
    pub fn config(&self) -> &EdgeConfig {
        &self.config
    }

    /// The layout head.
    pub fn layout(&self) -> &LayoutNetwork {
        &self.layout
    }

    /// Takes mean and deviation of the inputs from a batch.
    pub fn standardise(&self, batch: &EdgeBatch) {
        no_grad(|| {
            let pooled = batch.pooled.flatten(0, 1);
            let evidence = both_forms(&batch.evidence);
            for (rows, [mean, deviation]) in
                [(pooled, [&self.standard[0], &self.standard[1]]), (evidence, [&self.standard[2], &self.standard[3]])]
            {
                mean.shallow_clone().copy_(&rows.mean_dim([0i64].as_slice(), false, Kind::Float));
                deviation.shallow_clone().copy_(&(rows.std_dim([0i64].as_slice(), false, false) + 1e-3));
            }
        });
    }

    /// What it says of a batch; with `dropout` of the inputs and of the hidden values where it trains.
    pub fn forward(&self, batch: &EdgeBatch, dropout: [f64; 2]) -> EdgeOutput {
        let dropped = |x: Tensor, share: f64| if share > 0.0 { x.dropout(share, true) } else { x };
        let [_, _, evidence_mean, evidence_deviation] = &self.standard;
        let mut inputs = vec![self.relation(&batch.pooled, None, dropout[0]).flatten(1, 2)];
        if let Some(evidence) = &self.evidence {
            let forms = (both_forms(&batch.evidence) - evidence_mean) / evidence_deviation;
            inputs.push(dropped(forms, dropout[0]).matmul(evidence));
        }
        let hidden = Tensor::cat(&inputs, 1).apply(&self.hidden).relu();
        let actions = dropped(hidden.shallow_clone(), dropout[1]).apply(&self.actions);
        let heard = self.heard(&actions);
        EdgeOutput { layout: self.of_layout(batch), hidden, actions, heard }
    }

    /// The relation map's means `[.., R]` of means of roots `[.., C]`, over masks that add up to `covered`: 1, or a number a row.
    fn relation(&self, means: &Tensor, covered: Option<&Tensor>, dropout: f64) -> Tensor {
        let [mean, deviation, ..] = &self.standard;
        let standard = match covered {
            Some(covered) => means - covered * mean,
            None => means - mean,
        } / deviation;
        let standard = if dropout > 0.0 { standard.dropout(dropout, true) } else { standard };
        standard.matmul(&Tensor::cat(&self.maps, 0))
    }

    fn of_layout(&self, batch: &EdgeBatch) -> Tensor {
        match &self.remine {
            Some([cue, pair]) => {
                let channels = self.config.channels();
                let (means, covered) = (batch.of_pairs.narrow(1, 0, channels), batch.of_pairs.narrow(1, channels, 1));
                // Cut as the layout head's inputs are, beside which they come.
                let limit = f64::from(self.layout.input_limit());
                let cues = self.relation(&means, Some(&covered), 0.0).matmul(cue).clamp(0.0, limit);
                self.layout.forward_seen(&batch.pairs, &cues.matmul(pair))
            }
            None => self.layout.forward(&batch.pairs),
        }
    }

    /// `max(scale ln(p / (1 - p)) + offset, least)` of the actions' softmax.
    fn heard(&self, actions: &Tensor) -> Tensor {
        let p = actions.softmax(-1, Kind::Float).narrow(1, 0, self.config.actions.len() as i64);
        let logit = (&p + PROBABILITY_EPS).log() - (p.neg() + (1.0 + PROBABILITY_EPS)).log();
        (logit * &self.scale + &self.offset).maximum(&self.least)
    }

    /// Logits `[P, I]` of the pairs for the actions that have the pair's object: what the layout head says of the verb, where it knows it, and
    /// what is heard of the person. Entries of other objects are not meant.
    pub fn of_actions(&self, output: &EdgeOutput, batch: &EdgeBatch, table: &ActionTable) -> Tensor {
        let verbs: Vec<i64> = table
            .actions
            .iter()
            .zip(&table.in_layout)
            .map(|((verb, _), known)| if *known { i64::from(verb.0) } else { 0 })
            .collect();
        let known: Vec<f32> = table.in_layout.iter().map(|&known| f32::from(u8::from(known))).collect();
        let device = output.layout.device();
        let own = output.layout.index_select(1, &Tensor::from_slice(&verbs).to_device(device));
        own * Tensor::from_slice(&known).to_device(device) + output.heard.index_select(0, &batch.pairs.image)
    }
}

/// Class logits as probabilities and as they are, `[B, 2 K]`.
fn both_forms(evidence: &Tensor) -> Tensor {
    Tensor::cat(&[evidence.sigmoid(), evidence * EVIDENCE_SCALE], 1)
}

/// Class logits are multiplied by this beside their probabilities.
pub(crate) const EVIDENCE_SCALE: f64 = 0.25;

impl EdgeBatch {
    /// Puts photos together.
    pub fn new(photos: &[&PhotoLook], device: Device) -> Self {
        let stack = |of: &dyn Fn(&PhotoLook) -> Tensor| {
            Tensor::stack(&photos.iter().map(|p| of(p)).collect::<Vec<_>>(), 0).to_device(device).to_kind(Kind::Float)
        };
        let mut batch = crate::system::layout::PairBatch::default();
        photos.iter().for_each(|photo| batch.push(&photo.sample));
        let of_pairs: Vec<Tensor> = photos.iter().map(|p| p.of_pairs.shallow_clone()).collect();
        Self {
            pooled: stack(&|p| p.pooled.shallow_clone()),
            evidence: stack(&|p| p.evidence.shallow_clone()),
            of_pairs: Tensor::cat(&of_pairs, 0).to_device(device).to_kind(Kind::Float),
            pairs: batch.pairs(device),
            counts: photos.iter().map(|photo| photo.sample.pairs.len()).collect(),
        }
    }
}

/// A store with the network's variables.
pub(super) fn in_store(config: &EdgeConfig, layout: LayoutNetwork, device: Device) -> (VarStore, EdgeNetwork) {
    let store = VarStore::new(device);
    let network = EdgeNetwork::new(&store.root(), config, layout);
    (store, network)
}
