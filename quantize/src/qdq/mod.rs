//! INT8 as QDQ: the portable form in which a float graph says where it may be run in integers.
//!
//! # The form
//! Symmetric s8 everywhere, in -127..=127, zero points present and 0; operator set 13 or newer.
//!
//! - An activation `x`: `x -> QuantizeLinear -> x.q -> DequantizeLinear -> x.dq`, one scale `x.scale` and the zero point shared by all. Where
//!   `x` comes out of integers every node that read `x` reads `x.dq`; where float operators give it (or it is an input of the graph) only the
//!   quantized nodes do. A graph output keeps its name and its float values.
//! - Weights `w`: s8 `w.q` with a DequantizeLinear along the axis of output channels (0; ConvTranspose, and matrices that are not transposed:
//!   1), a scale for each channel. Bias: i32 with scale `input scale x weight scale`, along axis 0.
//! - A convolution: dequantized input, weights and bias, then Relu, Clip or LeakyRelu where it is the only reader, then the quantized
//!   result. Between the two nothing is quantized. A result that only float operators or outputs read stays float.
//! - MaxPool, Resize (nearest, linear), and what only moves values (Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Split, Slice, Pad, and
//!   a Relu or Clip that stands alone) have one scale for input and result; so has a Concat whose inputs nobody else reads.
//! - Add, any other Concat along channels, AveragePool, GlobalAveragePool, LeakyRelu, HardSwish, Sigmoid: input and result have each
//!   their own scale.
//!
//! Which of these are quantized follows from the convolutions: what stands between them, back from their inputs, is; what only comes after
//! the last of them, or only before the first, is not. What a Sqrt, Log, Exp, Pow or Reciprocal gives, and what is only moved or joined from it, is never quantized: small
//! values matter there.

mod equalize;
mod layers;
mod options;
mod plan;
mod scales;
mod weights;
mod write;

pub use equalize::{equalize, equalize_sums};
pub use layers::{Layer, alone};
pub use options::PlanOptions;
pub(crate) use plan::QUANTIZED;
pub use plan::{Plan, candidates, plan};
pub use scales::scales;
pub use write::{Written, write};

/// Oldest operator set with a DequantizeLinear for each channel.
pub const OLDEST_OPSET: i64 = 13;

/// Why a graph cannot be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QdqError {
    /// The operator set is too old.
    #[error(
        "operator set {version} has no DequantizeLinear for each channel; {OLDEST_OPSET} or newer is needed: convert the model first"
    )]
    OldOpset {
        /// Its operator set.
        version: i64,
    },
    /// It holds quantized operators.
    #[error("it is quantized already: node `{node}` is a {op}; start from the float model")]
    AlreadyQuantized {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
    },
    /// A weight is NaN, or one of a convolution or product is infinite.
    #[error("weight `{tensor}` holds {value} at position {position}: the file is damaged or its training diverged")]
    NonFiniteWeight {
        /// The tensor.
        tensor: String,
        /// Flat index of the first such element.
        position: usize,
        /// The element.
        value: f32,
    },
    /// A shape is not known before running.
    #[error("tensor `{tensor}` has shape {shape}: a fixed one is needed")]
    DynamicShape {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: String,
    },
    /// A name to keep in float that nothing has.
    #[error("--keep-float {pattern}: no node and no tensor is called so")]
    NoSuchName {
        /// What was asked for.
        pattern: String,
    },
    /// No convolution that could be quantized.
    #[error("nothing to quantize: no convolution with constant weights is left that may be")]
    Nothing,
    /// No statistics of a tensor that is to be quantized.
    #[error("no statistics of `{tensor}`: calibrate anew")]
    NoStatistics {
        /// The tensor.
        tensor: String,
    },
}

#[cfg(test)]
mod tests;
