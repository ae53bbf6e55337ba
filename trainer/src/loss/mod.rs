//! Losses.

mod focal;

pub use focal::{FocalLoss, prior_weighted_log_odds};
