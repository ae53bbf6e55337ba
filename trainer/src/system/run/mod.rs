//! What every network that is trained on pictures needs: schedules, accumulation, clipping, checkpoints, log, curves, progress.
//!
//! A system builds its network in a [`VarStore`](tch::nn::VarStore), and says what a batch costs; the rest is here:
//!
//! ```no_run
//! # use hoi_trainer::system::run::*;
//! # use tch::{Kind, Tensor, nn::VarStore};
//! # use hoi_trainer::dataset::{PictureSet, augment::Augmentation, loader::Batch};
//! # fn train(set: &dyn PictureSet, store: &VarStore) -> Result<(), RunError> {
//! # let (config, progress, system) = (RunConfig::default(), progress_bar(), serde_json::json!({}));
//! # let loss_of = |_: &Batch| Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)).sum(Kind::Float);
//! let identity = RunIdentity { system, data: "rendered, 6000 scenes".into() };
//! let options = RunOptions { folder: "out".as_ref(), resume: false, stop_after: None, checkpoint_every: None, progress: &progress };
//! let groups = [ParameterGroup { prefix: "backbone.".into(), rate: 0.1 }];
//! let mut trainer = Trainer::start(store, &groups, &config, identity, &options)?;
//! let all: Vec<usize> = (0..set.len()).collect();
//! trainer.run(EpochShape::new(all.len(), config.batch), |epoch| {
//!     epoch.each_batch(set, &all, &Augmentation::training(), 2, |batch| {
//!         Ok::<_, RunError>(Some(StepLoss { total: loss_of(batch), parts: vec![("verbs", 0.7)] }))
//!     })?;
//!     Ok::<_, RunError>(vec![("validation_map", epoch.with_average(|| 0.5))])
//! })?;
//! trainer.keep_average(); // the store now holds the averaged weights, if there is an average
//! # Ok(())
//! # }
//! ```
//!
//! A step is a batch. Everything random follows from (seed, step): libtorch's generator is seeded before each step, so that a run
//! that was stopped, or killed, ends with the numbers of one that was not (bit by bit on a processor with one thread). The
//! folder holds `checkpoint.json`, the tensors it names, `log.csv` and `curves.png`; all are written beside and renamed.
//!
//! Only trainable variables are kept in a checkpoint. A group with rate 0 is frozen: what is frozen must be there again before a
//! resume (from the same seed or file).

mod checkpoint;
mod config;
mod curves;
mod device;
mod epoch;
mod progress;
mod record;
mod trainer;

pub(in crate::system) use checkpoint::write_tensors;
pub use checkpoint::{CheckpointError, RunIdentity, first_difference, holds_checkpoint};
pub use config::{OptimizerChoice, Precision, RunConfig, Schedule};
pub use curves::draw_curves;
pub use device::{DeviceChoice, DeviceError};
pub use epoch::{EpochSteps, StepLoss};
pub use progress::progress_bar;
pub use record::EpochRecord;
pub use trainer::{EpochShape, ParameterGroup, RunError, RunOptions, Trainer};
