//! The official scores of the data sets.

pub mod detection;
pub mod hico_det;
pub mod layout;
