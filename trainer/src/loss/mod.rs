//! Losses.

mod focal;
mod set;

pub use focal::{FocalLoss, prior_weighted_log_odds};
pub use set::{SetLoss, SetLossValue, SetTarget, center_to_corners, generalized_iou, match_targets};
