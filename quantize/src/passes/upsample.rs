//! Transposed convolutions that are a bilinear resize.

use super::{Index, fresh};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, attr_string};

/// Weights of one axis: positions 1/4 and 3/4 between two pixels.
const TENT: [f32; 4] = [0.25, 0.75, 0.75, 0.25];

/// Replaces a Pad that repeats the edge by one pixel and the depthwise 4x4 ConvTranspose after it, whose weights interpolate bilinearly to
/// twice the size, by a linear Resize with half-pixel centres, which is the same.
///
/// A Resize keeps the range of its input, and engines do it faster. The pad must have no other reader.
pub fn replace_upsampling(model: &mut ModelProto, keep: &[String]) -> usize {
    let opset = model.opset();
    let Some(graph) = model.graph.as_mut() else { return 0 };
    if opset < 11 {
        return 0;
    }
    let mut count = 0;
    while let Some((pad, up)) = next(graph, keep) {
        let scales = fresh(graph, &format!("{}.scales", graph.node[up].output[0]));
        graph.initializer.push(TensorProto::from_f32(&scales, &[4], &[1.0, 1.0, 2.0, 2.0]));
        let input = graph.node[pad].input[0].clone();
        let node = &mut graph.node[up];
        *node = NodeProto {
            input: vec![input, String::new(), scales],
            output: node.output.clone(),
            name: node.name.clone(),
            op_type: Some("Resize".to_owned()),
            attribute: vec![attr_string("coordinate_transformation_mode", "half_pixel"), attr_string("mode", "linear")],
            ..NodeProto::default()
        };
        graph.node.remove(pad);
        count += 1;
    }
    count
}

fn next(graph: &GraphProto, keep: &[String]) -> Option<(usize, usize)> {
    let index = Index::new(graph, keep);
    graph.node.iter().enumerate().find_map(|(i, pad)| {
        let edge = pad.op() == "Pad" && pad.text("mode") == Some("edge") && pad.input_at(3).is_none();
        let amounts = edge.then(|| graph.initializer_named(pad.input_at(1)?)?.i64_values()).flatten()?;
        let reader = index.only_reader(pad.output.first()?)?;
        (amounts == [0, 0, 1, 1, 0, 0, 1, 1] && doubles(graph, &graph.node[reader])).then_some((i, reader))
    })
}

/// Whether a node is the depthwise transposed convolution described above.
fn doubles(graph: &GraphProto, node: &NodeProto) -> bool {
    let weights = || {
        let weight = graph.initializer_named(node.input_at(1)?)?;
        let [channels, 1, 4, 4] = weight.dims[..] else { return None };
        (node.int("group") == Some(channels)).then(|| weight.f32_values()).flatten()
    };
    let defaults = |name: &str, value: i64| node.ints(name).iter().all(|v| *v == value);
    node.op() == "ConvTranspose"
        && node.input_at(2).is_none()
        && matches!(node.text("auto_pad"), None | Some("NOTSET"))
        && node.ints("strides") == [2, 2]
        && node.ints("pads") == [3, 3, 3, 3]
        && node.ints("output_shape").is_empty()
        && defaults("output_padding", 0)
        && defaults("dilations", 1)
        && weights().is_some_and(|w| {
            w.chunks(16).all(|k| k.iter().enumerate().all(|(i, v)| (v - TENT[i / 4] * TENT[i % 4]).abs() < 1e-6))
        })
}
