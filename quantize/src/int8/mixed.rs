//! Mixed precision: which layers stay in float so that enough of the float bundle's triplets is kept.
//!
//! A layer is judged by putting it alone back to float: what that brings is what keeping it brings, while the triplets that one quantized
//! layer loses in a float network are mostly none at all. Only the layers with the most noise of their own are judged so; the others come
//! after them, by their noise.

use hoi_runtime::bundle::BundleParts;
use serde::Serialize;

use super::Int8Error;
use super::judge::{Agreement, Judge};
use super::prepared::Prepared;
use super::signal::LayerSignal;
use crate::qdq::PlanOptions;

/// Layers that are judged at the triplets unless told otherwise.
pub const DEFAULT_CANDIDATES: usize = 16;
/// Images beside those of calibration to judge on unless told otherwise.
pub const DEFAULT_HELD: usize = 100;

/// What is asked of mixed precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensitivity {
    /// Percent of the float bundle's triplets over 0.3 that may be lost; `None`: nothing is kept in float, the layers are only judged.
    pub max_drop: Option<f64>,
    /// At most this many images to judge on; 0 counts as 1.
    pub held: usize,
    /// So many layers are judged at the triplets.
    pub candidates: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mixed {
    /// Images that were judged on.
    pub images: usize,
    /// Percent that may be lost.
    pub max_drop: Option<f64>,
    /// With all layers quantized.
    pub before: Agreement,
    /// Layers that were judged one by one: with each of them in float and all others quantized. Those that bring the most come first.
    pub sensitivity: Vec<Step>,
    /// The search: how many layers from the start of the order, then those that leave again.
    pub steps: Vec<Step>,
    /// The layers that stay float, in the graph's order.
    pub kept: Vec<String>,
    /// With these in float.
    pub after: Agreement,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The layer, by the tensor that its node gives.
    pub layer: String,
    /// How many layers were in float.
    pub float: usize,
    /// What became of it.
    pub change: Change,
    /// What is kept then.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// What a trial changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The layer alone was put to float.
    Alone,
    /// It and all that bring more were put to float.
    First,
    /// It is not needed among them, and was quantized again.
    Left,
    /// It is needed among them.
    Needed,
}

impl Change {
    /// As reports say it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Alone => "alone in float",
            Self::First => "the last of the first in float",
            Self::Left => "not needed, quantized again",
            Self::Needed => "needed",
        }
    }
}

/// Something that can be judged with some layers in float.
pub(super) trait Trial {
    /// What is kept with the layers `kept` in float beside those that are float anyway.
    fn judge(&mut self, kept: &[&str]) -> Result<Agreement, Int8Error>;
}

/// The detector of a bundle.
pub(super) struct Detector<'a> {
    pub prepared: &'a Prepared<'a>,
    pub judge: &'a Judge<'a>,
    /// The bundle that a graph with its names makes.
    pub parts: &'a dyn Fn(&super::prepared::Made) -> BundleParts,
}

impl Trial for Detector<'_> {
    fn judge(&mut self, kept: &[&str]) -> Result<Agreement, Int8Error> {
        let made = self.prepared.make(&with(&self.prepared.job.options, kept))?;
        self.judge.judge((self.parts)(&made))
    }
}

/// Options that leave more layers in float.
pub(super) fn with(options: &PlanOptions, kept: &[&str]) -> PlanOptions {
    let mut options = options.clone();
    options.keep_float.extend(kept.iter().map(|&name| name.to_owned()));
    options
}

/// Judges the layers with the most noise of their own and, where a bound is given, keeps few layers in float that meet it: as many as are
/// needed of those that bring the most; then each of them is tried without.
///
/// `progress` hears `(what, layers judged or in float, of)`.
pub(super) fn search(
    asked: &Sensitivity,
    layers: &[LayerSignal],
    images: usize,
    trial: &mut dyn Trial,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<Mixed, Int8Error> {
    let mut noisiest: Vec<&LayerSignal> = layers.iter().collect();
    noisiest.sort_by(|a, b| b.alone.share_of_noise().total_cmp(&a.alone.share_of_noise()));
    let before = trial.judge(&[])?;
    let candidates = asked.candidates.min(layers.len());
    let mut sensitivity = Vec::new();
    // A graph with one layer cannot lose it.
    if layers.len() > 1 {
        for (i, layer) in noisiest[..candidates].iter().enumerate() {
            let agreement = trial.judge(&[&layer.name])?;
            sensitivity.push(Step { layer: layer.name.clone(), float: 1, change: Change::Alone, agreement });
            progress("judging layers", i + 1, candidates);
        }
    }
    sensitivity.sort_by(|a, b| {
        let (a, b) = (&a.agreement, &b.agreement);
        a.drift.total_cmp(&b.drift).then(a.lost.total_cmp(&b.lost))
    });
    let mut mixed = Mixed {
        images,
        max_drop: asked.max_drop,
        before,
        sensitivity,
        steps: Vec::new(),
        kept: Vec::new(),
        after: before,
    };
    if let Some(max_drop) = asked.max_drop {
        let rest = noisiest[mixed.sensitivity.len()..].iter().map(|l| l.name.clone());
        let order: Vec<String> = mixed.sensitivity.iter().map(|s| s.layer.clone()).chain(rest).collect();
        keep(max_drop, &order, &mut mixed, trial, progress)?;
        let kept = std::mem::take(&mut mixed.kept);
        mixed.kept = layers.iter().map(|l| l.name.clone()).filter(|name| kept.contains(name)).collect();
    }
    Ok(mixed)
}

/// Puts the first layers of `order` to float, so few that at most `max_drop` percent is lost, then takes back those that are not needed.
fn keep(
    max_drop: f64,
    order: &[String],
    mixed: &mut Mixed,
    trial: &mut dyn Trial,
    progress: &mut dyn FnMut(&'static str, usize, usize),
) -> Result<(), Int8Error> {
    if mixed.before.lost <= max_drop {
        return Ok(());
    }
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    // Something has to be left in integers.
    let most = order.len() - 1;
    let alone = mixed.sensitivity.first().map(|s| s.agreement);
    let mut steps = Vec::new();
    let mut first = |count: usize| -> Result<Agreement, Int8Error> {
        let agreement = match alone {
            Some(agreement) if count == 1 => agreement,
            _ => trial.judge(&order[..count])?,
        };
        let layer = order[count - 1].to_owned();
        steps.push(Step { layer, float: count, change: Change::First, agreement });
        progress("keeping layers", count, most);
        Ok(agreement)
    };
    // Fewer and fewer between what does not do and what does.
    let (mut too_few, mut enough, mut after) = (0, 0, mixed.before);
    while enough == 0 {
        if too_few == most {
            return Err(Int8Error::DropNotMet { max_drop, lost: after.lost });
        }
        let count = (2 * too_few).clamp(1, most);
        after = first(count)?;
        *(if after.lost <= max_drop { &mut enough } else { &mut too_few }) = count;
    }
    while enough - too_few > 1 {
        let count = too_few.midpoint(enough);
        let agreement = first(count)?;
        if agreement.lost <= max_drop {
            (enough, after) = (count, agreement);
        } else {
            too_few = count;
        }
    }
    let mut kept = order[..enough].to_vec();
    // Without the last one the bound was not met.
    for layer in order[..enough - 1].iter().rev() {
        let without: Vec<&str> = kept.iter().filter(|k| *k != layer).copied().collect();
        let agreement = trial.judge(&without)?;
        let change = if agreement.lost <= max_drop { Change::Left } else { Change::Needed };
        steps.push(Step { layer: (*layer).to_owned(), float: without.len(), change, agreement });
        if change == Change::Left {
            (kept, after) = (without, agreement);
        }
    }
    mixed.kept = kept.into_iter().map(str::to_owned).collect();
    (mixed.steps, mixed.after) = (steps, after);
    Ok(())
}
