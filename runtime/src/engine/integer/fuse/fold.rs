//! Constants behind DequantizeLinear as the floats that they stand for.
//!
//! The engine computes them too; older releases of it took the first scale of a constant that has one a channel, so nothing is left to it here.

use std::collections::HashMap;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::prelude::Tensor;

use super::graph::{constant_tensor, int};

/// Puts a float constant in place of each DequantizeLinear whose inputs are all constant. What cannot be read stays.
pub(in crate::engine) fn fold_constants(graph: &mut GraphProto) {
    let mut folded: Vec<TensorProto> = Vec::new();
    {
        let constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        graph.node.retain(|node| match dequantized(node, &constants) {
            Some(tensor) => {
                folded.push(tensor);
                false
            }
            None => true,
        });
    }
    graph.initializer.append(&mut folded);
}

fn dequantized(node: &NodeProto, constants: &HashMap<&str, &TensorProto>) -> Option<TensorProto> {
    (node.op_type == "DequantizeLinear").then_some(())?;
    let of = |k: usize| constant_tensor(constants.get(node.input.get(k)?.as_str())?);
    let (integers, scales) = (of(0)?, numbers(&of(1)?)?);
    let zeros = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(_) => numbers(&of(2)?)?,
        None => vec![0.0],
    };
    let shape = integers.shape().to_vec();
    // An axis that does not exist cannot be meant for one scale a channel.
    let axis = usize::try_from(int(node, "axis", 1).rem_euclid(shape.len().max(1) as i64)).ok()?;
    let channels = if scales.len() == 1 && zeros.len() == 1 { 1 } else { *shape.get(axis)? };
    let inner: usize = if channels == 1 { 1 } else { shape[axis + 1..].iter().product() };
    let fits = |values: &[f32]| values.len() == 1 || values.len() == channels;
    (fits(&scales) && fits(&zeros) && int(node, "block_size", 0) == 0).then_some(())?;
    let at = |values: &[f32], n: usize| values[if values.len() == 1 { 0 } else { n / inner.max(1) % channels }];
    let values = numbers(&integers)?;
    let real = values.iter().enumerate().map(|(n, value)| (value - at(&zeros, n)) * at(&scales, n));
    Some(TensorProto {
        name: node.output.first()?.clone(),
        dims: shape.iter().map(|&n| n as i64).collect(),
        data_type: DataType::Float as i32,
        float_data: real.collect(),
        ..TensorProto::default()
    })
}

/// A tensor of numbers as f32; i32 beyond 2^24 is rounded.
fn numbers(tensor: &Tensor) -> Option<Vec<f32>> {
    let floats = tensor.cast_to::<f32>().ok()?;
    Some(floats.to_plain_array_view::<f32>().ok()?.iter().copied().collect())
}
