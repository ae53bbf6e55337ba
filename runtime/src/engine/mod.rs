//! The engine that runs ONNX graphs: a trait, and [`TractEngine`]. Only this module names tract.

mod halves;
mod integer;
mod tract;

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

pub use halves::{Halves, cpu_has_halves};
pub use integer::{IntegerReport, kernels as integer_kernels};
pub use tract::TractEngine;

/// Element type of a tensor that crosses the engine's border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit signed integer.
    I64,
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I64 => "i64",
        })
    }
}

/// One dimension: a number, or a name for what is known only when the graph runs (`"P"`: pairs).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// As many as there are; may be 0.
    Symbol(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(s) => f.write_str(s),
        }
    }
}

/// Name, element type and shape of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub element: ElementType,
    /// One entry a dimension.
    pub shape: Vec<Dim>,
}

impl TensorSpec {
    /// An f32 tensor.
    pub fn f32(name: impl Into<String>, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), element: ElementType::F32, shape }
    }

    /// An i64 tensor.
    pub fn i64(name: impl Into<String>, shape: Vec<Dim>) -> Self {
        Self { name: name.into(), element: ElementType::I64, shape }
    }
}

/// `[1, 3, 300, 300]` or `[P, 36]`.
pub fn display_shape(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// A tensor that crosses the engine's border.
#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    /// 32-bit floats.
    F32(ArrayD<f32>),
    /// 64-bit signed integers.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(a) => a.shape(),
            Self::I64(a) => a.shape(),
        }
    }

    /// Element type.
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::I64(_) => ElementType::I64,
        }
    }

    /// The floats, `None` when the tensor holds integers.
    pub fn as_f32(&self) -> Option<&ArrayD<f32>> {
        match self {
            Self::F32(a) => Some(a),
            Self::I64(_) => None,
        }
    }

    /// The integers, `None` when the tensor holds floats.
    pub fn as_i64(&self) -> Option<&ArrayD<i64>> {
        match self {
            Self::I64(a) => Some(a),
            Self::F32(_) => None,
        }
    }
}

/// What a caller expects of a graph.
#[derive(Clone, Debug, Default)]
pub struct GraphRequest {
    /// The inputs that will be given, in this order. Empty: as the graph declares them.
    pub inputs: Vec<TensorSpec>,
    /// The tensors wanted, in this order; names of outputs or of tensors inside the graph (feature taps). Empty: the graph's outputs.
    pub outputs: Vec<String>,
}

/// A loaded graph.
pub trait Model: Send + Sync {
    /// The inputs in the order that [`Model::run`] takes them.
    fn inputs(&self) -> &[TensorSpec];

    /// The outputs in the order that [`Model::run`] gives them.
    fn outputs(&self) -> &[TensorSpec];

    /// What of the graph is computed in integers; `None` for a graph that is not quantized.
    fn integers(&self) -> Option<&IntegerReport> {
        None
    }

    /// How a graph that says f16 is computed; `None` for one that does not. Weights stored as f16 behind a Cast do not count.
    fn halves(&self) -> Option<Halves> {
        None
    }

    /// Runs the graph once.
    ///
    /// # Errors
    /// [`EngineError::WrongInput`] when number, type or shape of `inputs` does not fit; [`EngineError::Run`] when the engine fails.
    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError>;
}

/// Something that runs ONNX graphs.
pub trait Engine: Send + Sync {
    /// Name and version, for logs and `hoi inspect`.
    fn name(&self) -> String;

    /// Parses, checks and optimises a graph.
    ///
    /// Every byte comes from `onnx`: a graph that keeps tensors in other files is refused.
    ///
    /// # Errors
    /// [`EngineError`] when the bytes are no ONNX graph, do not fit `request`, hold NaN weights, or use what the engine cannot run.
    fn load(&self, onnx: &[u8], request: &GraphRequest) -> Result<Box<dyn Model>, EngineError>;
}

/// Why a graph was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Not an ONNX graph, or one that the engine does not understand.
    #[error("not a graph that can be run: {reason}")]
    Parse {
        /// The engine's words.
        reason: String,
    },
    /// An input or output that the graph does not have.
    #[error("the graph has no {what} `{name}` (it has: {available})")]
    Missing {
        /// `input` or `tensor`.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// The names that there are.
        available: String,
    },
    /// A shape or type that does not fit.
    #[error("`{name}`: expected {expected}, the graph has {found}")]
    WrongShape {
        /// Input or output.
        name: String,
        /// What the manifest or caller says.
        expected: String,
        /// What the graph says.
        found: String,
    },
    /// A weight is NaN.
    #[error("weight `{node}` holds NaN at position {position}: the file is damaged or its training diverged")]
    NanWeight {
        /// The node that holds it.
        node: String,
        /// Flat index of the first NaN.
        position: usize,
    },
    /// A scale of a quantized graph that is not a positive number.
    #[error("scale `{tensor}` holds {value}: a quantized graph has positive scales; the file is damaged")]
    WrongScale {
        /// The tensor of scales.
        tensor: String,
        /// The first that is wrong.
        value: f32,
    },
    /// The graph cannot be prepared for running.
    #[error("the graph cannot be prepared: {reason}")]
    Optimize {
        /// The engine's words.
        reason: String,
    },
    /// A tensor handed to `run` does not fit.
    #[error("input `{name}`: expected {expected}, got {found}")]
    WrongInput {
        /// The input.
        name: String,
        /// What the graph wants.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The engine failed while running.
    #[error("running the graph failed: {reason}")]
    Run {
        /// The engine's words.
        reason: String,
    },
}
