//! Zero-shot scores: means of average precision over the interactions that training did not show, and over the others.

use serde::Serialize;

/// Means of average precision in percent; `None` where nothing of the group is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ZeroShotMeans {
    /// Over the interactions that training did not show.
    pub unseen: Option<f64>,
    /// Over the others.
    pub seen: Option<f64>,
    /// Over all.
    pub full: Option<f64>,
}

/// An unseen interaction that the scores do not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unseen interaction {interaction} is unknown: expected 0 to {last}", last = count.saturating_sub(1))]
pub struct UnknownUnseen {
    /// What was given.
    pub interaction: usize,
    /// How many there are.
    pub count: usize,
}

impl ZeroShotMeans {
    /// Means of `per_interaction`, in `[0, 1]` and indexed by interaction, with `unseen` apart.
    ///
    /// # Errors
    /// [`UnknownUnseen`] when an index is outside the list.
    pub fn new(per_interaction: &[Option<f64>], unseen: &[usize]) -> Result<Self, UnknownUnseen> {
        let mut is_unseen = vec![false; per_interaction.len()];
        for &interaction in unseen {
            let count = per_interaction.len();
            *is_unseen.get_mut(interaction).ok_or(UnknownUnseen { interaction, count })? = true;
        }
        let mean = |wanted: &dyn Fn(bool) -> bool| {
            let group: Vec<f64> =
                per_interaction.iter().zip(&is_unseen).filter(|(_, u)| wanted(**u)).filter_map(|(ap, _)| *ap).collect();
            (!group.is_empty()).then(|| 100.0 * group.iter().sum::<f64>() / group.len() as f64)
        };
        Ok(Self { unseen: mean(&|u| u), seen: mean(&|u| !u), full: mean(&|_| true) })
    }

    /// The mean of several draws of unseen interactions (UC: five); `None` in a group where a draw has none.
    pub fn mean(draws: &[Self]) -> Self {
        let mean = |part: &dyn Fn(&Self) -> Option<f64>| {
            let values = draws.iter().map(part).collect::<Option<Vec<f64>>>()?;
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Self { unseen: mean(&|d| d.unseen), seen: mean(&|d| d.seen), full: mean(&|d| d.full) }
    }
}
