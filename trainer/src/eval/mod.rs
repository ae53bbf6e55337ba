//! The official scores of the data sets.

pub mod calibration;
pub mod detection;
pub mod hico_det;
pub mod interactions;
pub mod layout;
pub mod precision;
pub mod predictions;
pub mod stanford40;
pub mod v_coco;
pub mod zero_shot;
