//! Passes over a graph that do one thing each and leave its outputs as they are, up to the rounding of f32.
//!
//! Every pass works on the main graph and takes names to keep: tensors that somebody reads from outside (a bundle's decoder and taps).
//! Those, the graph's outputs and whatever a subgraph (`If`, `Loop`) reads keep their names and values. Nodes stay in an order in which
//! they can run.

mod constants;
mod fold;
mod index;
mod pads;
mod unused;
mod upsample;

use serde::Serialize;

pub use constants::{constants_to_initializers, drop_input_defaults, remove_identities, widen_half_weights};
pub use fold::{fold_affine, fold_batch_norms, move_biases_before_sums};
pub(crate) use index::{Index, fresh};
pub(crate) use pads::constant_pad;
pub use pads::fold_pads;
pub use unused::drop_unused;
pub use upsample::replace_upsampling;

use crate::onnx::ModelProto;

/// How often each pass of [`clean`] found something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// Graph inputs that had a default, which they now always have.
    pub input_defaults: usize,
    /// Constant nodes that became initializers.
    pub constants: usize,
    /// Weights stored as f16 behind a Cast that became f32.
    pub half_weights: usize,
    /// Identity nodes removed.
    pub identities: usize,
    /// Batch normalisations folded into the convolution before them.
    pub batch_norms: usize,
    /// Per-channel products and sums folded into the convolution before them.
    pub affine: usize,
    /// Constants added after a sum of two activations that became a bias of the convolution before it.
    pub biases_before_sums: usize,
    /// Pads that became part of the convolution or pooling after them.
    pub pads: usize,
    /// Transposed convolutions that doubled width and height bilinearly and became a Resize.
    pub upsampling: usize,
    /// Nodes and initializers that nobody read.
    pub unused: usize,
}

/// Runs every pass, in the order in which they help each other.
pub fn clean(model: &mut ModelProto, keep: &[String]) -> Cleaned {
    let mut cleaned = Cleaned {
        input_defaults: drop_input_defaults(model),
        constants: constants_to_initializers(model),
        half_weights: widen_half_weights(model, keep),
        identities: remove_identities(model, keep),
        ..Cleaned::default()
    };
    loop {
        let (norms, affine) = (fold_batch_norms(model, keep), fold_affine(model, keep));
        let biases = move_biases_before_sums(model, keep);
        cleaned.batch_norms += norms;
        cleaned.affine += affine;
        cleaned.biases_before_sums += biases;
        if norms + affine + biases == 0 {
            break;
        }
    }
    cleaned.upsampling = replace_upsampling(model, keep);
    cleaned.pads = fold_pads(model, keep);
    cleaned.unused = drop_unused(model, keep);
    cleaned
}

#[cfg(test)]
mod tests;
