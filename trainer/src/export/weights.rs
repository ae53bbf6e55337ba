//! Weights by the names of their network, and what can be wrong with them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use hoi_quantize::onnx::OnnxError;
use hoi_runtime::bundle::BundleError;
use hoi_runtime::geometry::Size;
use tch::{Device, Kind, Tensor};

use super::WriteError;
use crate::network::ConfigError;

/// Why a network could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The graph could not be encoded or written.
    #[error("cannot write the graph")]
    Graph(#[from] OnnxError),
    /// The description could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The description could not be encoded.
    #[error("cannot encode the description of the head")]
    Encode(#[from] serde_json::Error),
    /// The bundle could not be written, or refuses what it was given.
    #[error("cannot write the bundle")]
    Bundle(#[from] BundleError),
    /// The network's sizes contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A weight is not a finite number.
    #[error("weight `{name}` holds a value that is not a finite number")]
    NotFinite {
        /// The weight.
        name: String,
    },
    /// A weight that the graph needs is not there.
    #[error("weight `{name}` is missing; it should have the shape {expected}")]
    MissingWeight {
        /// The weight.
        name: String,
        /// Its shape, `*` where any length would do.
        expected: String,
    },
    /// A weight of another shape.
    #[error("weight `{name}` has the shape {found:?}; the graph needs {expected}")]
    WeightShape {
        /// The weight.
        name: String,
        /// The shape that would be right, `*` where any length would do.
        expected: String,
        /// Its shape.
        found: Vec<i64>,
    },
    /// A weight that the graph has no use for: network and graph are not the same.
    #[error("weight `{name}` would be lost: the graph as described does not use it")]
    UnusedWeight {
        /// The weight.
        name: String,
    },
    /// A reading of the masked RoI that the head's inputs cannot give.
    #[error(
        "the masked RoI divided by all cells of the map (`map`) cannot be exported: the runtime's `pair_masks` are divided by the area \
         that encloses both boxes, and a head is not told that area; train the head with `enclosing` or `covered`"
    )]
    MapPooling,
    /// An input that whole cells of the backbone's map do not fill.
    #[error(
        "an input of {input} is not made of whole cells of the map, {stride} pixels wide and high: masks would lie beside what they \
         mean; both sides must be multiples of {stride}"
    )]
    InputCells {
        /// The input.
        input: Size,
        /// Pixels from a cell of the map to the next.
        stride: i64,
    },
    /// A detector whose input does not cover the whole picture, evenly.
    #[error(
        "the detector's resize rule is `{rule}`: a second backbone reads the detector's input, and its map must cover the whole picture; \
         a detector with the rule `stretch` is needed"
    )]
    Resize {
        /// The rule.
        rule: &'static str,
    },
    /// A detector's graph that cannot be read.
    #[error("cannot read the detector `{file}`")]
    Detector {
        /// Its file.
        file: String,
        /// What is wrong with it.
        source: OnnxError,
    },
    /// A detector's graph of a form that nothing can be added to.
    #[error(
        "the detector `{file}` has operator set {opset} and IR version {ir}; a second backbone needs operator set 11 and IR version 4, or later"
    )]
    OldGraph {
        /// Its file.
        file: String,
        /// Its version of `ai.onnx`.
        opset: i64,
        /// Its IR version; 0 where it names none.
        ir: i64,
    },
    /// A detector's graph that does not have the input of its manifest.
    #[error("the detector `{file}` has no input `{name}`, which its manifest names; it has: {found}")]
    NoInput {
        /// Its file.
        file: String,
        /// The input.
        name: String,
        /// The inputs that it has.
        found: String,
    },
    /// A detector's graph that has a second backbone already, or what looks like one.
    #[error(
        "the detector `{file}` already has a tensor or node `{name}`: names that begin with `{prefix}` are the second backbone's; take the \
         bundle that this one was made from"
    )]
    NamesTaken {
        /// Its file.
        file: String,
        /// The name.
        name: String,
        /// What the second backbone's names begin with.
        prefix: &'static str,
    },
    /// A head over another map.
    #[error("the head's `feature` is {found}; the second backbone's map over this detector's input is {expected}")]
    FeatureShape {
        /// The map.
        expected: String,
        /// What the head takes.
        found: String,
    },
    /// Two files of one name.
    #[error("the bundle would hold two files named `{name}`; give one of them another name")]
    FileTaken {
        /// The name.
        name: String,
    },
    /// A score that no rule of the runtime has.
    #[error(
        "rows of Table 3 that ask the prompts (abl1, abl3) cannot be exported: their scores differ from pair to pair where the rule \
         `weakly` has one for the picture; they are for comparison in the trainer"
    )]
    PromptScore,
    /// A head whose maps are of a backbone that is not the detector's.
    #[error(
        "the model has a backbone of its own, CLIP's, trained with it (`{prefix}.*`): no bundle can hold it, and over another map the head \
         says nothing"
    )]
    OwnBackbone {
        /// Where its weights lie.
        prefix: &'static str,
    },
    /// A tensor that a detector's graph does not have.
    #[error("the graph `{file}` has no tensor `{name}`")]
    NoTensor {
        /// The graph.
        file: String,
        /// The tensor asked for.
        name: String,
    },
    /// A weight that serves training alone.
    #[error("weight `{name}` belongs to training; leave everything under `{prefix}` out of what is exported")]
    TrainingOnly {
        /// The weight.
        name: String,
        /// Where such weights live.
        prefix: &'static str,
    },
}

/// Named tensors, of which each must be taken once all is said.
pub(super) struct Weights<'a> {
    tensors: &'a HashMap<String, Tensor>,
    taken: RefCell<BTreeSet<String>>,
}

/// Any length, in the shape that [`Weights::take`] expects.
pub(super) const ANY: i64 = -1;

impl<'a> Weights<'a> {
    pub(super) fn new(tensors: &'a HashMap<String, Tensor>) -> Self {
        Self { tensors, taken: RefCell::default() }
    }

    /// A weight as f32 on the CPU, without gradient.
    ///
    /// # Errors
    /// [`ExportError::MissingWeight`], [`ExportError::WeightShape`] when a length differs that is not [`ANY`].
    pub(super) fn take(&self, name: &str, shape: &[i64]) -> Result<Tensor, ExportError> {
        let expected = || {
            let lengths: Vec<String> =
                shape.iter().map(|&n| if n == ANY { "*".to_owned() } else { n.to_string() }).collect();
            format!("[{}]", lengths.join(", "))
        };
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| ExportError::MissingWeight { name: name.to_owned(), expected: expected() })?;
        let found = tensor.size();
        if found.len() != shape.len() || found.iter().zip(shape).any(|(f, s)| *s != ANY && f != s) {
            return Err(ExportError::WeightShape { name: name.to_owned(), expected: expected(), found });
        }
        self.taken.borrow_mut().insert(name.to_owned());
        Ok(tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float))
    }

    /// Whether every weight was taken.
    ///
    /// # Errors
    /// [`ExportError::UnusedWeight`] with the first name that was not.
    pub(super) fn all_taken(&self) -> Result<(), ExportError> {
        let taken = self.taken.borrow();
        match self.tensors.keys().filter(|name| !taken.contains(*name)).min() {
            Some(name) => Err(ExportError::UnusedWeight { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// The values of an f32 tensor, row-major.
pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.detach().to_device(Device::Cpu).contiguous().view([-1]);
    let mut values = vec![0f32; flat.numel()];
    let count = values.len();
    flat.copy_data(&mut values, count);
    values
}
