//! Pads that the next operator can do by itself.

use super::Index;
use crate::onnx::{GraphProto, ModelProto, NodeProto, attr_ints};

/// Moves a Pad of width and height into its only reader: zeros into a convolution, minus infinity into a MaxPool.
///
/// A Pad of -inf gives a tensor without a finite range, so a quantizer has to get rid of it.
pub fn fold_pads(model: &mut ModelProto, keep: &[String]) -> usize {
    let Some(graph) = model.graph.as_mut() else { return 0 };
    let index = Index::new(graph, keep);
    let mut gone = vec![false; graph.node.len()];
    for (i, gone) in gone.iter_mut().enumerate() {
        let pad = &graph.node[i];
        if pad.op() != "Pad" {
            continue;
        }
        let (Some(input), [output]) = (pad.input_at(0).map(str::to_owned), pad.output.as_slice()) else { continue };
        let Some(reader) = index.only_reader(output) else { continue };
        let Some((amounts, value)) = constant_pad(graph, pad) else { continue };
        let next = &graph.node[reader];
        let fits = match next.op() {
            "Conv" => value == 0.0,
            "MaxPool" => value == f32::NEG_INFINITY && next.int("ceil_mode").unwrap_or(0) == 0,
            _ => false,
        };
        if !fits || next.input_at(0) != Some(output.as_str()) {
            continue;
        }
        if let Some(pads) = joined(next, &amounts) {
            let next = &mut graph.node[reader];
            next.input[0] = input;
            next.attribute.retain(|a| a.name.as_deref() != Some("auto_pad"));
            next.set_attribute(attr_ints("pads", &pads));
            *gone = true;
        }
    }
    let count = gone.iter().filter(|g| **g).count();
    let mut gone = gone.into_iter();
    graph.node.retain(|_| !gone.next().unwrap_or(false));
    count
}

/// How much a Pad with constants adds on each side (all axes' begins, then all ends) and which value.
pub(crate) fn constant_pad(graph: &GraphProto, pad: &NodeProto) -> Option<(Vec<i64>, f32)> {
    if !matches!(pad.text("mode"), None | Some("constant")) || pad.input_at(3).is_some() {
        return None;
    }
    let amounts = graph.initializer_named(pad.input_at(1)?)?.i64_values()?;
    let value = match pad.input_at(2) {
        Some(name) => *graph.initializer_named(name)?.f32_values()?.first()?,
        None => 0.0,
    };
    Some((amounts, value))
}

/// The `pads` of `node` with `amounts` before and behind its spatial axes; `None` where that cannot be said.
fn joined(node: &NodeProto, amounts: &[i64]) -> Option<Vec<i64>> {
    if !matches!(node.text("auto_pad"), None | Some("NOTSET" | "VALID")) || !amounts.len().is_multiple_of(2) {
        return None;
    }
    let (begins, ends) = amounts.split_at(amounts.len() / 2);
    if begins.len() < 3 || amounts.iter().any(|a| *a < 0) || [begins, ends].iter().any(|a| a[..2] != [0, 0]) {
        return None;
    }
    let added: Vec<i64> = begins[2..].iter().chain(&ends[2..]).copied().collect();
    let pads = match node.ints("pads") {
        [] => added,
        own if own.len() == added.len() => own.iter().zip(&added).map(|(a, b)| a + b).collect(),
        _ => return None,
    };
    // A pooling window must not lie in the padding alone.
    let kernel = node.ints("kernel_shape");
    let sides = added_sides(kernel, pads.len());
    let fits = node.op() != "MaxPool" || pads.iter().zip(sides).all(|(p, k)| *p < k);
    fits.then_some(pads)
}

fn added_sides(kernel: &[i64], count: usize) -> impl Iterator<Item = i64> {
    kernel.iter().copied().cycle().take(if kernel.is_empty() { 0 } else { count })
}
