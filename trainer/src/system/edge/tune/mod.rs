//! Tuning the last blocks of an EfficientNet-Lite on photos of actions.
//!
//! What lies before the tuned blocks is run once for each view of each photo and kept. The tuned part learns under a look like the edge head's:
//! mean roots of the three late maps over the person's box, its upper half and the picture, standardised, one linear layer shared by the three, a
//! hidden layer and the actions. The look is dropped afterwards; [`super::EdgeNetwork`] learns its own over the tuned maps.

mod cache;
mod model;
mod reader;

use std::path::PathBuf;

use crate::network::efficientnet_lite::{EfficientNetLite, LoadError};

pub use cache::{read_tune_looks, write_tune_looks};
pub use model::TuneModel;
pub use reader::{TuneLook, TuneReader};

/// What is tuned, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TuneConfig {
    /// Blocks, from the last one on, that are tuned together with the last convolution.
    pub blocks: usize,
    /// Learning rate of the network as a share of the look's.
    pub rate: f64,
    /// Channels that the maps' channels are projected to.
    pub relation: i64,
    /// Width of the look's hidden layer.
    pub hidden: i64,
    /// Share of the look's inputs that training sets to 0.
    pub input_dropout: f64,
    /// Share of the hidden values that training sets to 0.
    pub dropout: f64,
    /// Share of the teachers beside the photo's label.
    pub teacher: f64,
    /// Logits are divided by this before they are compared with the teachers'.
    pub temperature: f64,
}

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            blocks: 2,
            rate: 0.1,
            relation: 256,
            hidden: 384,
            input_dropout: 0.3,
            dropout: 0.5,
            teacher: 0.5,
            temperature: 2.0,
        }
    }
}

/// Why a network cannot be tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// More blocks than come after the last halving.
    #[error("{asked} blocks are to be tuned, but 1 to {most} come after the last one that halves the map")]
    Blocks {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        most: usize,
    },
    /// The tuned network cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What libtorch says.
        source: tch::TchError,
    },
    /// The maps' cells do not fit into each other.
    #[error("pictures of {side} x {side} pixels cannot be read: {reason}; take a multiple of 32")]
    Side {
        /// Pixels of a side.
        side: usize,
        /// What does not fit.
        reason: String,
    },
}

fn check_blocks(network: &EfficientNetLite, asked: usize) -> Result<(), TuneError> {
    let most = network.late_blocks();
    if (1..=most).contains(&asked) { Ok(()) } else { Err(TuneError::Blocks { asked, most }) }
}
