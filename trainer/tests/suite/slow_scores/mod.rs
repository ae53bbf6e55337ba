//! The scores once more, word by word as they are defined, in f64 and without anything clever. Scores must all differ.

pub mod hico_det;
pub mod v_coco;
