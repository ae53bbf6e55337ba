//! Where a cell of a feature map lies.

use std::f64::consts::TAU;

use tch::{Kind, Tensor};

/// Longest wave length over 2 pi (DETR's temperature).
const TEMPERATURE: f64 = 10_000.0;

/// DETR's sine position code of the cells of a map: rows first, then columns, `channels_per_axis` each (even).
///
/// `padding` is bool `[B, h, w]`, true on padding. Coordinates are counted over the unpadded area and run to 2 pi in it; channel
/// 2i is the sine and 2i + 1 the cosine of the coordinate over 10000^(2i / `channels_per_axis`). Gives f32
/// `[B, 2 * channels_per_axis, h, w]` on the device of `padding`.
pub fn sine_position(padding: &Tensor, channels_per_axis: i64) -> Tensor {
    let inside = padding.logical_not();
    let device = padding.device();
    let exponent = Tensor::arange(channels_per_axis / 2, (Kind::Float, device)) * (2.0 / channels_per_axis as f64);
    let divisor = (exponent * TEMPERATURE.ln()).exp();
    let axis = |dim: i64| {
        let place = inside.cumsum(dim, Kind::Float);
        let extent = place.narrow(dim, place.size()[dim as usize] - 1, 1) + 1e-6;
        let angle = (place / extent * TAU).unsqueeze(-1) / &divisor;
        Tensor::stack(&[angle.sin(), angle.cos()], -1).flatten(3, 4)
    };
    Tensor::cat(&[axis(1), axis(2)], 3).permute([0, 3, 1, 2])
}
