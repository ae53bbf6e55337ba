//! CLIP's attention pooling, of a whole map and of parts of it.

use tch::nn::{self, Init, Linear, Module};
use tch::{Kind, Tensor};

use crate::network::init::linear_from;

/// A position table `[1 + grid * grid, C]` for a map of `h` x `w` cells: `[1 + h * w, C]`. The row of the extra token stays, the others
/// are resampled bicubically (cell centres aligned, a = -0.75), unless the map has the table's grid.
pub fn resized_positions(table: &Tensor, grid: i64, [h, w]: [i64; 2]) -> Tensor {
    if [h, w] == [grid, grid] {
        return table.shallow_clone();
    }
    let cells = table.narrow(0, 1, grid * grid).transpose(0, 1).reshape([1, -1, grid, grid]);
    let cells = cells.upsample_bicubic2d([h, w], false, None, None).flatten(2, 3).squeeze_dim(0).transpose(0, 1);
    Tensor::cat(&[table.narrow(0, 0, 1), cells], 0)
}

/// Sizes of an [`AttentionPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionPoolShape {
    /// Channels C of the map.
    pub channels: i64,
    /// Heads; they divide the channels.
    pub heads: i64,
    /// Cells a side of the position table.
    pub grid: i64,
    /// Width D of the feature.
    pub output: i64,
}

/// Multi-head attention with one query, the mean of the cells, over the cells and that mean.
///
/// Keys `positional_embedding`, `q_proj.*`, `k_proj.*`, `v_proj.*`, `c_proj.*`.
#[derive(Debug)]
pub struct AttentionPool {
    positions: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    grid: i64,
    heads: i64,
}

impl AttentionPool {
    /// A pool under `path` that starts as CLIP's did: normal weights of standard deviation C^-0.5.
    pub fn new(path: &nn::Path, shape: AttentionPoolShape) -> Self {
        let AttentionPoolShape { channels, heads, grid, output } = shape;
        let stdev = (channels as f64).powf(-0.5);
        let linear = |name: &str, outputs| {
            linear_from(&(path / name), channels, outputs, Init::Randn { mean: 0.0, stdev }, Init::Const(0.0))
        };
        Self {
            positions: path.var("positional_embedding", &[grid * grid + 1, channels], Init::Randn { mean: 0.0, stdev }),
            query: linear("q_proj", channels),
            key: linear("k_proj", channels),
            value: linear("v_proj", channels),
            out: linear("c_proj", output),
            grid,
            heads,
        }
    }

    /// The feature `[B, D]` of a map `[B, C, h, w]`. The position table is resampled bicubically where `h` x `w` is not its grid.
    pub fn forward(&self, map: &Tensor) -> Tensor {
        self.attend(map, None, None).squeeze_dim(1)
    }

    /// The features `[B, K, D]` of K parts of a map `[B, C, h, w]`.
    ///
    /// `shares` `[B, K, h * w]`, rows of the map first: what share of each cell lies in the part, 0 to 1. The mean that asks, and that
    /// carries position 0, is weighted with the shares, and ln(share) is added to the logit of each cell: a cell of share 0 is not
    /// seen, one of share s counts as s cells. With shares of 1 this is [`AttentionPool::forward`]. A part without any share sees its
    /// mean alone, which is then that of the whole map.
    ///
    /// Where maps of several sizes were filled up to one, `sizes` holds the rows and columns of each; its cells lie in the upper left,
    /// and the position table is resampled for them alone. Filling must have share 0.
    pub fn masked(&self, map: &Tensor, shares: &Tensor, sizes: Option<&[[i64; 2]]>) -> Tensor {
        self.attend(map, Some(shares), sizes)
    }

    /// Position codes `[1 + h * w, C]` of a map, or `[B, 1 + h * w, C]` where each picture has a size of its own.
    fn positions(&self, [h, w]: [i64; 2], sizes: Option<&[[i64; 2]]>) -> Tensor {
        let own = |size| resized_positions(&self.positions, self.grid, size);
        let Some(sizes) = sizes.filter(|sizes| sizes.iter().any(|size| *size != [h, w])) else { return own([h, w]) };
        let each: Vec<Tensor> = sizes
            .iter()
            .map(|&[rows, columns]| {
                let table = own([rows, columns]);
                let cells = table.narrow(0, 1, rows * columns).reshape([rows, columns, -1]);
                let cells = cells.constant_pad_nd([0, 0, 0, w - columns, 0, h - rows]).reshape([h * w, -1]);
                Tensor::cat(&[table.narrow(0, 0, 1), cells], 0)
            })
            .collect();
        Tensor::stack(&each, 0)
    }

    fn attend(&self, map: &Tensor, shares: Option<&Tensor>, sizes: Option<&[[i64; 2]]>) -> Tensor {
        let size = map.size();
        let (batch, channels, count) = (size[0], size[1], size[2] * size[3]);
        let positions = self.positions([size[2], size[3]], sizes);
        let cells = map.flatten(2, 3).transpose(1, 2);
        // Rows that add up to 1: what share each cell has in the mean of a part.
        let parts = match shares {
            None => Tensor::full([batch, 1, count], 1.0 / count as f64, (cells.kind(), cells.device())),
            Some(shares) => {
                let total = shares.sum_dim_intlist(2, true, Kind::Float);
                let seen = total.gt(0.0);
                // Where nothing is seen, 0 / 1 is replaced afterwards: no gradient is then infinite.
                let each = shares / total.where_self(&seen, &total.ones_like());
                each.where_self(&seen, &each.full_like(1.0 / count as f64))
            }
        };
        let split = |x: Tensor| x.view([batch, -1, self.heads, channels / self.heads]).transpose(1, 2);
        let asking = parts.matmul(&cells) + positions.narrow(-2, 0, 1);
        let query = split(self.query.forward(&asking)) * (channels as f64 / self.heads as f64).powf(-0.5);
        // A linear layer of a mean is the mean of what the layer makes of the cells, which is known anyway.
        let apply = |layer: &Linear| {
            let of_cells = cells.matmul(&layer.ws.transpose(0, 1));
            let of_positions = layer.forward(&positions);
            let own = parts.matmul(&of_cells) + of_positions.narrow(-2, 0, 1);
            (split(own), split(of_cells + of_positions.narrow(-2, 1, count)))
        };
        let ((own_key, key), (own_value, value)) = (apply(&self.key), apply(&self.value));
        let own_logit = (&query * own_key).sum_dim_intlist(3, true, Kind::Float);
        let mut logits = query.matmul(&key.transpose(2, 3));
        if let Some(shares) = shares {
            logits += shares.log().unsqueeze(1);
        }
        let weights = Tensor::cat(&[own_logit, logits], 3).softmax(3, Kind::Float);
        let drawn = weights.narrow(3, 1, count).matmul(&value) + weights.narrow(3, 0, 1) * own_value;
        self.out.forward(&drawn.transpose(1, 2).flatten(2, 3))
    }
}
