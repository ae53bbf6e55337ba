//! CLIP's attention pooling, of a whole map and of parts of it.

use tch::nn::{self, Init, Linear, Module};
use tch::{Kind, Tensor};

use super::config::ModifiedResNetConfig;
use crate::network::init::linear_from;

/// A position table `[1 + grid * grid, C]` for a map of `h` x `w` cells: `[1 + h * w, C]`. The row of the extra token stays, the others
/// are resampled bicubically (cell centres aligned, a = -0.75), unless the map has the table's grid.
pub(super) fn positions_for(table: &Tensor, grid: i64, [h, w]: [i64; 2]) -> Tensor {
    if [h, w] == [grid, grid] {
        return table.shallow_clone();
    }
    let cells = table.narrow(0, 1, grid * grid).transpose(0, 1).reshape([1, -1, grid, grid]);
    let cells = cells.upsample_bicubic2d([h, w], false, None, None).flatten(2, 3).squeeze_dim(0).transpose(0, 1);
    Tensor::cat(&[table.narrow(0, 0, 1), cells], 0)
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
    /// A pool under `path`, for a configuration that passes its check.
    pub fn new(path: &nn::Path, config: &ModifiedResNetConfig) -> Self {
        let channels = config.channels();
        let stdev = (channels as f64).powf(-0.5);
        let linear = |name: &str, outputs| {
            linear_from(&(path / name), channels, outputs, Init::Randn { mean: 0.0, stdev }, Init::Const(0.0))
        };
        let grid = config.grid;
        Self {
            positions: path.var("positional_embedding", &[grid * grid + 1, channels], Init::Randn { mean: 0.0, stdev }),
            query: linear("q_proj", channels),
            key: linear("k_proj", channels),
            value: linear("v_proj", channels),
            out: linear("c_proj", config.output),
            grid,
            heads: config.heads,
        }
    }

    /// The feature `[B, D]` of a map `[B, C, h, w]`. The position table is resampled bicubically where `h` x `w` is not its grid.
    pub fn forward(&self, map: &Tensor) -> Tensor {
        self.attend(map, None).squeeze_dim(1)
    }

    /// The features `[B, K, D]` of K parts of a map `[B, C, h, w]`.
    ///
    /// `shares` `[B, K, h * w]`, rows of the map first: what share of each cell lies in the part, 0 to 1. The mean that asks, and that
    /// carries position 0, is weighted with the shares, and ln(share) is added to the logit of each cell: a cell of share 0 is not
    /// seen, one of share s counts as s cells. With shares of 1 this is [`AttentionPool::forward`]. A part without any share sees its
    /// mean alone, which is then that of the whole map.
    pub fn masked(&self, map: &Tensor, shares: &Tensor) -> Tensor {
        self.attend(map, Some(shares))
    }

    fn attend(&self, map: &Tensor, shares: Option<&Tensor>) -> Tensor {
        let size = map.size();
        let (batch, channels, count) = (size[0], size[1], size[2] * size[3]);
        let positions = positions_for(&self.positions, self.grid, [size[2], size[3]]);
        let cells = map.flatten(2, 3).transpose(1, 2);
        let whole = cells.mean_dim(1, true, Kind::Float);
        let mean = match shares {
            None => whole,
            Some(shares) => {
                let total = shares.sum_dim_intlist(2, true, Kind::Float);
                let seen = total.gt(0.0);
                // Where nothing is seen, 0 / 1 is replaced afterwards: no gradient is then infinite.
                let weighted = shares.matmul(&cells) / total.where_self(&seen, &total.ones_like());
                weighted.where_self(&seen, &whole)
            }
        };
        let own = mean + positions.get(0);
        let placed = cells + positions.narrow(0, 1, count);
        let split = |x: Tensor| x.view([batch, -1, self.heads, channels / self.heads]).transpose(1, 2);
        let query = split(self.query.forward(&own)) * (channels as f64 / self.heads as f64).powf(-0.5);
        let (own_key, own_value) = (split(self.key.forward(&own)), split(self.value.forward(&own)));
        let (key, value) = (split(self.key.forward(&placed)), split(self.value.forward(&placed)));
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
