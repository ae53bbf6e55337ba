//! CLIP as it was before training, for the rows of Table 3: pooling and prompts that stay as they start.

use tch::{Kind, Tensor, nn, no_grad};

use super::bank::unit_rows;
use super::config::WeaklyConfig;
use super::example::WeakBatch;
use super::network::{Pool, START_SCALE};

/// Pooling, prompts and temperature without gradient.
///
/// Variables: `pool.*` (equal to the network's own when that starts), `bank`, `scale`.
#[derive(Debug)]
pub(super) struct Started {
    pool: Pool,
    bank: Tensor,
    scale: Tensor,
}

impl Started {
    /// With the prompts `bank` `[N, D]`; the pooling is to be filled.
    pub(super) fn new(path: &nn::Path<'_>, config: &WeaklyConfig, bank: &Tensor) -> Self {
        let pool = Pool::new(&(path / "pool"), config);
        let kept = path.zeros_no_train("bank", &bank.size());
        let scale = path.zeros_no_train("scale", &[]);
        no_grad(|| {
            kept.shallow_clone().copy_(bank);
            let _ = scale.shallow_clone().fill_(START_SCALE);
        });
        Self { pool, bank: kept, scale }
    }

    /// The pooling.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// v_g, `[B, D]`.
    pub(super) fn whole(&self, batch: &WeakBatch) -> Tensor {
        no_grad(|| self.pool.forward(batch, &batch.cells.unsqueeze(1), 0.0).squeeze_dim(1))
    }

    /// The softmax over the interactions of the unions against the prompts, `[B, P, N]`; a human alone has the whole picture as its union.
    pub(super) fn scores(&self, batch: &WeakBatch) -> Tensor {
        no_grad(|| {
            let shares = Tensor::cat(&[&batch.cells.unsqueeze(1), &batch.union_shares], 1);
            let features = self.pool.forward(batch, &shares, 0.0);
            let (whole, union) = (features.narrow(1, 0, 1), features.narrow(1, 1, features.size()[1] - 1));
            let union = whole.where_self(&batch.alone(), &union);
            let cosines = unit_rows(&union).matmul(&unit_rows(&self.bank).transpose(0, 1));
            (cosines * self.scale.exp()).softmax(-1, Kind::Float)
        })
    }
}
