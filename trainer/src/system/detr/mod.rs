//! The detector of the two-stage systems: DETR, trained from nothing on small pictures or fine-tuned from COCO.

mod config;
mod dense;
mod model;
mod pretrained;
mod train;

pub use config::{DetrPlan, DetrSettings};
pub use model::{DetrError, DetrModel, PictureDetections};
pub use pretrained::load_pretrained;
pub use train::{DetrTask, evaluate, targets_of, train_detr};
