//! INT8 graphs computed in integers.
//!
//! A quantized graph is QDQ: around each operator stand DequantizeLinear and QuantizeLinear, symmetric, i8, a scale a tensor and a scale an
//! output channel for weights. Before the engine loads it, what this module knows is taken out of it: chains of DequantizeLinear, an
//! operator, an activation and QuantizeLinear become one step on i8 maps, and steps that follow each other become one network
//! ([`fuse`]), which keeps its maps in i8, `[H, W, C]`, from its first input to its last output. What is not recognised stays in the graph,
//! in float; [`IntegerReport`] says what.
//!
//! A sum of products is exact (i32); a result is `round(clamp((sum + bias) * factor))`, half to even, where QDQ says
//! `round((scale_x scale_w sum + b) / scale_y)`: the two differ by one unit where that falls on a half within f32's precision.

mod fuse;
pub mod kernels;
mod maps;
mod network;
mod region;
mod run;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::BTreeMap;

use serde::Serialize;

use super::EngineError;

pub(super) use fuse::{Part, fold_constants, take_out, wrong_scale};
pub(super) use region::IntegerPart;

/// What of a graph is computed in integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntegerReport {
    /// Name of the kernels: what of the CPU they use.
    pub kernels: &'static str,
    /// Operators computed in integers: how many of each type.
    pub integer: BTreeMap<String, usize>,
    /// Nodes that are computed in float: type and name.
    pub float: Vec<String>,
}

impl IntegerReport {
    /// Of a graph that runs in float after all, and why.
    pub(super) fn all_in_float(&mut self, reason: &EngineError) {
        let count: usize = self.integer.values().sum();
        self.integer.clear();
        self.float.insert(0, format!("{count} quantized operators: {reason}"));
    }
}
