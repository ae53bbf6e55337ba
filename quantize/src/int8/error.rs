//! Why a bundle was not quantized.

use std::path::PathBuf;

use hoi_runtime::bundle::BundleError;
use hoi_runtime::engine::EngineError;

use crate::bundles::BundlesError;
use crate::calibrate::CalibrateError;
use crate::onnx::OnnxError;
use crate::qdq::QdqError;

/// Why a bundle was not quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Int8Error {
    /// The folder of the result is in use.
    #[error("{}: there is something already; the name of a new or empty folder is wanted", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
    },
    /// The bundle cannot be read, or the result cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The detector is no ONNX file that can be used.
    #[error("detector `{file}`")]
    Input {
        /// The graph's file.
        file: String,
        /// What is wrong with it.
        source: OnnxError,
    },
    /// The detector cannot be quantized.
    #[error("detector `{file}`")]
    Unfit {
        /// The graph's file.
        file: String,
        /// Why.
        source: QdqError,
    },
    /// The detector does not load or run.
    #[error("detector `{file}`, the {which} graph")]
    Engine {
        /// The graph's file.
        file: String,
        /// `original`, `cleaned`, `quantized` or `layer by layer`.
        which: &'static str,
        /// The engine's error.
        source: EngineError,
    },
    /// Calibration failed.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// The report cannot be written, or a bundle does not run on the images by which layers are judged.
    #[error(transparent)]
    Bundles(#[from] BundlesError),
    /// The float bundle finds nothing that could be lost.
    #[error(
        "the float bundle finds no triplet over {score} on the {images} images that layers are judged on: give others, or more (--images)"
    )]
    NoTriplets {
        /// How many images.
        images: usize,
        /// Triplets count over this score.
        score: f32,
    },
    /// No choice of layers that keeps enough.
    #[error("--max-drop {max_drop}: with all layers but one in float still {lost:.1} % of the float triplets are lost")]
    DropNotMet {
        /// What was asked for, in percent.
        max_drop: f64,
        /// What is lost, in percent.
        lost: f64,
    },
    /// A text of the bundle cannot be read.
    #[error("{}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// What an engine says of one of the graphs.
pub(super) struct GraphError {
    pub which: &'static str,
    pub source: EngineError,
}

impl GraphError {
    pub fn of(self, file: &str) -> Int8Error {
        Int8Error::Engine { file: file.to_owned(), which: self.which, source: self.source }
    }
}
