//! The layout head: verb logits of a human-object pair from where the two boxes lie and what the object is.
//!
//! It sees nothing of the picture. The pairs of an image compete in a reasoning layer, unless it is left out.

mod batches;
mod checkpoint;
mod config;
mod network;
mod train;

pub use batches::{PairBatch, batches_of_epoch};
pub use checkpoint::{CheckpointError, load_network};
pub use config::TrainingConfig;
pub use network::{LayoutNetwork, LayoutShape, Pairs, Standardisation};
pub use train::{EpochRecord, Run, TrainError, TrainedLayout, train};
