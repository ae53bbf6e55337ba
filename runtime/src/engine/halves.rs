//! Graphs that compute in f16.

use serde::Serialize;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::floats::FloatPrecisionTranslator;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::transform::ModelTransform as _;

/// How a graph in f16 is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Halves {
    /// In f16, as it says.
    Native,
    /// In f32, with the weights that f16 left of the original ones.
    Widened,
}

/// Whether the CPU has FP16 arithmetic that the engine has kernels for: aarch64 from Armv8.2 on (Cortex-A55, A76 and later). On others f16
/// is 10 to 300 times slower than f32.
pub fn cpu_has_halves() -> bool {
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("fp16")
    }
    #[cfg(not(target_arch = "aarch64"))]
    {
        false
    }
}

/// Prepares a graph for f16: where `native` is not wanted all of it becomes f32. Its results are f32 either way. `None` for a graph that
/// computes nothing in f16.
pub(super) fn arrange(graph: &mut TypedModel, native: bool) -> TractResult<Option<Halves>> {
    let half = f16::datum_type();
    let computed = |node: &TypedNode| node.outputs.iter().any(|o| o.fact.datum_type == half && o.fact.konst.is_none());
    if !graph.nodes().iter().any(computed) {
        return Ok(None);
    }
    if !native {
        FloatPrecisionTranslator::new(half, f32::datum_type()).transform(graph)?;
    }
    let mut outputs = graph.output_outlets()?.to_vec();
    for (i, outlet) in outputs.iter_mut().enumerate() {
        if graph.outlet_fact(*outlet)?.datum_type == half {
            *outlet = graph.wire_node(format!("output.{i}.in_f32"), cast(f32::datum_type()), &[*outlet])?[0];
        }
    }
    graph.select_output_outlets(&outputs)?;
    graph.declutter()?;
    Ok(Some(if native { Halves::Native } else { Halves::Widened }))
}
