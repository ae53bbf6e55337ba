//! What can go wrong with a CLIP checkpoint.

use std::path::PathBuf;

use crate::network::ConfigError;
use crate::network::weights::WeightsError;

/// Why a CLIP cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The folder holds no file of weights, or more than one that could be meant.
    #[error("{} holds {found}: expected {expected}, or name the file itself", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// What is in it.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The weights cannot be read, or are not those of the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor that every CLIP has is not there.
    #[error("the weights in {} are of no CLIP: there is no `{name}` in OpenAI's naming, nor its counterpart in that of transformers", path.display())]
    NotClip {
        /// The file.
        path: PathBuf,
        /// Name of the tensor, as OpenAI has it.
        name: String,
    },
    /// A tensor from which sizes are read has a shape that none can have.
    #[error("{}: `{name}` has the shape {found:?}: expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor, as OpenAI has it.
        name: String,
        /// Its shape.
        found: Vec<i64>,
        /// What would be right.
        expected: &'static str,
    },
    /// The number of attention heads is said nowhere, and the rule of OpenAI's models does not give it.
    #[error(
        "{}: nothing says how many attention heads the {part} has, and its width {width} is no multiple of {head_width}, that of a head: put the \
         model's config.json or open_clip_config.json beside it",
        path.display()
    )]
    Heads {
        /// The file of weights.
        path: PathBuf,
        /// Part of the network.
        part: &'static str,
        /// Width of its attention.
        width: i64,
        /// Width of a head that was assumed.
        head_width: i64,
    },
    /// A configuration file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration file is damaged, of another model, or contradicts the weights.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The sizes fit no network.
    #[error("{} describes no network that can be built", path.display())]
    Config {
        /// The file of weights.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
}
