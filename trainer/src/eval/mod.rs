//! The official scores of the data sets.

pub mod hico_det;
pub mod interactions;
pub mod layout;
pub mod precision;
