//! Patterns of nodes that move values about without changing them.

use super::graph::{Index, int, lengths, text};
use super::pattern::{Made, Match, behind, followed, quantized, simple};
use crate::engine::integer::network::{Bounds, Operator, Pick};

/// Resize: to a whole multiple by repeating pixels, or to twice the size, bilinear.
pub(super) fn resized<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    let input = behind(index, node.input.first()?)?;
    let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
    (input.scale == next.result.scale).then_some(())?;
    let (scales, _) = index.constant::<f32>(node.input.get(2)?)?;
    // Halfway rounding and the place of a pixel's centre do not matter for whole multiples with these.
    let transform = text(node, "coordinate_transformation_mode", "half_pixel");
    let rounding = text(node, "nearest_mode", "round_prefer_floor");
    let plain = matches!(
        (transform, rounding),
        ("asymmetric", "floor") | ("half_pixel", "round_prefer_floor" | "round_prefer_ceil")
    );
    if text(node, "mode", "nearest") == "linear" {
        let doubled = transform == "half_pixel" && scales == [1.0, 1.0, 2.0, 2.0];
        return doubled.then(|| simple(n, Operator::Double, vec![input], next));
    }
    let plain = plain && text(node, "mode", "nearest") == "nearest";
    let whole = |x: f32| (x >= 1.0 && x.fract() == 0.0 && x < 64.0).then_some(x as usize);
    let [1.0, 1.0, rows, columns] = *scales.as_slice() else { return None };
    let times = [whole(rows)?, whole(columns)?];
    plain.then(|| simple(n, Operator::Repeat { times }, vec![input], next))
}

/// Zeros around the last two dimensions.
pub(super) fn padding<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    let input = behind(index, node.input.first()?)?;
    let next = followed(index, node.output.first()?, false).filter(|next| next.bounds == Bounds::ALL)?;
    let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => index.scalar::<f32>(name)? == 0.0,
        None => true,
    };
    (input.scale == next.result.scale && zero && text(node, "mode", "constant") == "constant").then_some(())?;
    let (pads, _) = index.constant::<i64>(node.input.get(1)?)?;
    let [0, 0, top, left, 0, 0, bottom, right] = *pads.as_slice() else { return None };
    let pads = [top, left, bottom, right].map(|n| usize::try_from(n).ok());
    let [Some(top), Some(left), Some(bottom), Some(right)] = pads else { return None };
    Some(simple(n, Operator::Pad([top, left, bottom, right]), vec![input], next))
}

/// ShuffleNet's shuffle: Reshape to `[1, G, C / G, H, W]`, Transpose of the two, Reshape back.
pub(super) fn shuffled<'g>(index: &Index<'g>, n: usize) -> Option<Match<'g>> {
    let node = &index.nodes[n];
    let input = behind(index, node.input.first()?)?;
    let (apart, _) = index.constant::<i64>(node.input.get(1)?)?;
    let [1, groups, of_group, _, _] = *apart.as_slice() else { return None };
    let mut nodes = vec![n];
    let turned = next(index, n, input.scale, &mut nodes)?;
    let transpose = &index.nodes[turned];
    let order = lengths::<5>(transpose, "perm", 0)?;
    (transpose.op_type == "Transpose" && order == [0, 2, 1, 3, 4]).then_some(())?;
    let joined = next(index, turned, input.scale, &mut nodes)?;
    let reshape = &index.nodes[joined];
    let (together, _) = index.constant::<i64>(reshape.input.get(1)?)?;
    let [1, channels, _, _] = *together.as_slice() else { return None };
    let groups_fit = groups > 0 && of_group > 0 && (channels == -1 || channels == groups.checked_mul(of_group)?);
    (reshape.op_type == "Reshape" && groups_fit).then_some(())?;
    let last = followed(index, reshape.output.first()?, false)?;
    (last.bounds == Bounds::ALL && last.result.scale == input.scale).then_some(())?;
    nodes.extend(last.nodes);
    let operator = Operator::Channels(Pick::Shuffle { groups: usize::try_from(groups).ok()? });
    Some(Match { operator, inputs: vec![input], result: Made::Quantized(last.result), nodes })
}

/// The node behind the QuantizeLinear and DequantizeLinear that alone read what node `n` makes, and keep its scale.
fn next(index: &Index<'_>, n: usize, scale: f32, nodes: &mut Vec<usize>) -> Option<usize> {
    let (q, quantize) = index.only_reader(index.nodes[n].output.first()?)?;
    (quantize.op_type == "QuantizeLinear" && quantized(index, quantize)?.scale == scale).then_some(())?;
    let (d, dequantize) = index.only_reader(quantize.output.first()?)?;
    (dequantize.op_type == "DequantizeLinear").then_some(())?;
    let (reader, _) = index.only_reader(dequantize.output.first()?)?;
    nodes.extend([q, d, reader]);
    Some(reader)
}

/// Split along channels: a step for each result.
pub(super) fn split<'g>(index: &Index<'g>, n: usize) -> Option<Vec<Match<'g>>> {
    let node = &index.nodes[n];
    let input = behind(index, node.input.first()?)?;
    matches!(int(node, "axis", 0), 1 | -3).then_some(())?;
    let of = node.output.len();
    let sizes = match node.input.get(1).filter(|name| !name.is_empty()) {
        Some(name) => Some(index.constant::<i64>(name)?.0).filter(|sizes| sizes.len() == of),
        None => None,
    };
    let mut first = 0usize;
    let mut found = Vec::with_capacity(of);
    for (part, output) in node.output.iter().enumerate() {
        let pick = match &sizes {
            Some(sizes) => {
                let count = usize::try_from(sizes[part]).ok()?;
                let pick = Pick::Range { first, count };
                first = first.checked_add(count)?;
                pick
            }
            None => Pick::Share { part, of },
        };
        let next = followed(index, output, false)?;
        (next.bounds == Bounds::ALL && next.result.scale == input.scale).then_some(())?;
        found.push(simple(n, Operator::Channels(pick), vec![input], next));
    }
    Some(found)
}
