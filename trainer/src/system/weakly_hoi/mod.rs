//! Weakly-HOI: detection learned from image-level labels (ICLR 2023). No pair is ever annotated: an image says which interactions it
//! shows, and nothing about where.
//!
//! [`WeakExample`] is what a detector proposed in an image, with the image's labels; [`WeaklyNetwork`] pools features of the whole map, of
//! every entity and of every pair's union with one attention pooling ([`crate::network::clip::AttentionPool`]), recognises the image's
//! interactions against a bank of text vectors (global branch), lets every pair look into that bank (eq. 1), and scores verbs and
//! relatedness (eq. 2); [`WeaklyLosses`] are eq. 4 with labels that the model makes for itself ([`pseudo_labels`]). Scores at test are
//! the runtime's rule `weakly`.

mod actions;
mod artifact;
mod backbone;
mod bank;
mod config;
mod estimate;
mod evaluate;
mod example;
mod loss;
mod model;
mod network;
mod photo;
mod pictures;
mod prompt_score;
mod proposer;
mod pseudo;
mod started;
mod train;

pub use crate::dataset::ImageLabel;
pub use actions::{
    People, action_label, action_labels, action_precisions, action_scores, action_shares, with_given_person,
    with_one_person,
};
pub use artifact::{WeaklyDescription, load_model, save_model};
pub use backbone::{BackboneError, PhotoBackbone, backbone_key};
pub use bank::{clip_bank, prompts, text_bank};
pub use config::{
    BankStart, Knowledge, OverPairs, Pooling, PromptScore, SelfTaught, WeaklyConfig, WeaklyParts, WeaklyRow,
    WeaklyShape,
};
pub use estimate::{AnsweredPhoto, Estimate, calibrate, folds};
pub use evaluate::{Users, average_precisions, predictions, users};
pub use example::{InteractionTable, MAX_PAIRS, WeakBatch, WeakExample, image_labels, relative_shares};
pub use loss::WeaklyLosses;
pub(crate) use model::{BACKBONE, STARTED};
pub use model::{PRIOR_POWER, WeaklyModel};
pub use network::{WeaklyNetwork, WeaklyOutput};
pub use photo::{LOOK_SCALE, LOOKS, PhotoReader, in_order};
pub use pictures::{MapNetwork, ProposedMaps, ProposedPictures};
pub use proposer::{BundleProposer, PhotoProposals, Proposer, ProposerError};
pub use pseudo::{Positives, pseudo_labels};
pub use train::{LiveSource, WeaklyError, prepare, train, train_live};
