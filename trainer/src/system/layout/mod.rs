//! The layout head: verb logits of a human-object pair from where the two boxes lie and what the object is.
//!
//! It sees each pair alone, and nothing of the picture.

mod batches;
mod checkpoint;
mod config;
mod network;
mod train;

pub use batches::{PairBatch, batches_of_epoch};
pub use checkpoint::CheckpointError;
pub use config::TrainingConfig;
pub use network::{LayoutNetwork, LayoutShape, Standardisation};
pub use train::{EpochRecord, Run, TrainError, TrainedLayout, train};
