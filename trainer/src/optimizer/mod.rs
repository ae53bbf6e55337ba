//! Optimisation with state that a checkpoint can hold.

mod adamw;
mod schedule;

pub use adamw::{AdamW, WeightDecay, clip_gradients};
pub use schedule::{CosineSchedule, StepSchedule};
