//! The edge system: the head that ships. It reads the detector's own maps once more and needs no second pass over the picture.
//!
//! Three parts, each of which learns from what knows of it:
//! - the layout head ([`super::layout`]) says verbs from where boxes lie and what the objects are, and lets the pairs of a picture compete;
//!   it learns from HICO-DET's boxes, without pixels;
//! - re-mined features (RmLR eqs. 4 and 5, with one linear layer as Interactive Relation Encoder and the masked RoI as a matrix product) are
//!   added to what the layout head knows of a pair;
//! - the look at a person says which of the photo's actions that person does, whether or not the object was found; it learns from Stanford-40.
//!
//! A network that looks at the picture beside the detector can be tuned for it first ([`TuneModel`]).
//!
//! Without a picture, that is with maps of zeros, the head says what the layout head says. Teachers and text serve training alone.

mod answers;
mod artifact;
mod cache;
mod config;
mod language;
mod network;
mod photo;
mod train;
mod tune;

pub use answers::{Answers, AnswersError, TeacherAnswers};
pub use artifact::{EdgeDescription, load_model, save_model};
pub use cache::{LookCacheError, read_looks, write_looks};
pub use config::{ActionTable, EdgeConfig, TrainWeights, UnknownName};
pub use language::ActionTexts;
pub(crate) use network::EVIDENCE_SCALE;
pub use network::{EdgeBatch, EdgeNetwork, EdgeOutput};
pub use photo::{PhotoError, PhotoLook, PhotoReader, View, grid_of, views};
pub use train::{EdgeModel, Photos, train};
pub use tune::{TuneConfig, TuneError, TuneLook, TuneModel, TuneReader, read_tune_looks, write_tune_looks};
