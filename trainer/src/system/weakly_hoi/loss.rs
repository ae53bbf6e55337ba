//! L = L_g + L_p + L_b (eq. 4), from image-level labels alone; and what Table 3's Abl 4 adds.

use tch::{Kind, Reduction, Tensor};

use super::config::{OverPairs, WeaklyConfig};
use super::example::{InteractionTable, WeakBatch, WeakExample};
use super::network::WeaklyOutput;
use super::pseudo::pseudo_labels;

/// The losses of a batch; absent where the network has no such branch or no image says anything about it.
#[derive(Debug, Default)]
pub struct WeaklyLosses {
    /// L_g: interactions of the images.
    pub image: Option<Tensor>,
    /// L_p: verbs of the images by the best of their pairs.
    pub verbs: Option<Tensor>,
    /// L_b: relatedness of the pairs.
    pub relatedness: Option<Tensor>,
    /// Squared distance of the mean pair feature to v_g, mean over D and images (Abl 4).
    pub distance: Option<Tensor>,
}

fn binary(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.binary_cross_entropy_with_logits::<Tensor>(labels, None, None, reduction)
}

/// The mean over rows of `-ln` of the probability, by a softmax, of the columns that `labels` `[rows, columns]` mark; a row without any says
/// nothing.
fn exclusive(logits: &Tensor, labels: &Tensor) -> Tensor {
    let none = labels.sum_dim_intlist([1i64].as_slice(), true, Kind::Float).eq(0.0);
    // All columns of such a row: its probability is 1.
    let others = labels.eq(0.0).logical_and(&none.logical_not());
    let of = logits.masked_fill(&others, f64::NEG_INFINITY).logsumexp([1i64].as_slice(), false);
    let each = logits.logsumexp([1i64].as_slice(), false) - of;
    let count = none.logical_not().to_kind(Kind::Float).sum(Kind::Float).clamp_min(1.0);
    each.sum(Kind::Float) / count
}

/// A 0/1 matrix `[rows, columns]` with ones at the given places.
fn marked(rows: usize, columns: usize, ones: impl Iterator<Item = (usize, usize)>) -> Tensor {
    let mut values = vec![0f32; rows * columns];
    ones.for_each(|(row, column)| values[row * columns + column] = 1.0);
    Tensor::from_slice(&values).view([rows as i64, columns as i64])
}

impl WeaklyLosses {
    /// The losses of a batch of labelled images. An image without a pair counts for L_g only. `relatedness` is false before L_b counts.
    pub fn new(
        output: &WeaklyOutput,
        batch: &WeakBatch,
        examples: &[&WeakExample],
        table: &InteractionTable,
        config: &WeaklyConfig,
        relatedness: bool,
    ) -> Self {
        let rule = &config.self_taught;
        let of_image = |logits: &Tensor, labels: &Tensor| match config.exclusive {
            true => exclusive(logits, labels),
            false => binary(logits, labels, Reduction::Mean),
        };
        let device = output.verbs.device();
        let places = |i: usize, e: &WeakExample| -> Vec<(usize, usize)> {
            e.labels.iter().filter_map(|&l| Some((i, table.position(l)?))).collect()
        };
        let image = output.image.as_ref().map(|logits| {
            let ones = examples.iter().enumerate().flat_map(|(i, e)| places(i, e));
            of_image(logits, &marked(examples.len(), table.len(), ones).to_device(device))
        });
        let with: Vec<usize> = (0..examples.len()).filter(|&i| !examples[i].pairs.is_empty()).collect();
        if with.is_empty() {
            return Self { image, ..Self::default() };
        }
        let rows = Tensor::from_slice(&with.iter().map(|&i| i as i64).collect::<Vec<_>>()).to_device(device);
        let (verbs, filling) = (output.verbs.index_select(0, &rows), batch.filling.index_select(0, &rows));
        let columns = verbs.size()[2] as usize;
        // The best pair of each verb: multiple-instance learning.
        let best = verbs.masked_fill(&filling.unsqueeze(-1), f64::NEG_INFINITY).amax([1i64].as_slice(), false);
        let ones = with
            .iter()
            .enumerate()
            .flat_map(|(row, &i)| examples[i].labels.iter().map(move |l| (row, usize::from(l.verb.0))));
        let labels = marked(with.len(), columns, ones).to_device(device);
        let loss = of_image(&best, &labels);
        let related = output.relatedness.as_ref().filter(|_| relatedness).map(|logits| {
            let logits = logits.index_select(0, &rows);
            let most = verbs.size()[1] as usize;
            let scores = verbs.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous();
            let chosen = with.iter().enumerate().flat_map(|(row, &i)| {
                let pairs = examples[i].pairs.len();
                let mut values = vec![0f32; pairs * columns];
                let own = scores.get(row as i64).narrow(0, 0, pairs as i64).contiguous().view([-1]);
                own.copy_data(&mut values, pairs * columns);
                let labels = pseudo_labels(&values, pairs, columns, &examples[i].positives(rule), rule.positives);
                (0..pairs).filter(move |&p| labels[p]).map(move |p| (row, p)).collect::<Vec<_>>()
            });
            let labels = marked(with.len(), most, chosen).to_device(device);
            let each = binary(&logits, &labels, Reduction::None).masked_fill(&filling, 0.0);
            let sum = each.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            match rule.over_pairs {
                OverPairs::Sum => sum,
                OverPairs::Mean => sum / filling.logical_not().sum_dim_intlist([1i64].as_slice(), false, Kind::Float),
            }
            .mean(Kind::Float)
        });
        let distance = output.teacher.as_ref().map(|whole| {
            let kept = filling.logical_not().unsqueeze(-1).to_kind(Kind::Float);
            let sum =
                (output.pairs.index_select(0, &rows) * &kept).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            let mean = sum / kept.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            (mean - whole.index_select(0, &rows)).square().mean(Kind::Float)
        });
        Self { image, verbs: Some(loss), relatedness: related, distance }
    }

    /// The sum (weights 1) and every part by name; `None` when nothing counts.
    pub fn total(&self) -> Option<(Tensor, Vec<(&'static str, f64)>)> {
        let parts = [
            ("image", &self.image),
            ("verbs", &self.verbs),
            ("relatedness", &self.relatedness),
            ("distance", &self.distance),
        ];
        let mut total: Option<Tensor> = None;
        let mut named = Vec::new();
        for (name, loss) in parts {
            if let Some(loss) = loss {
                named.push((name, loss.double_value(&[])));
                total = Some(match total {
                    None => loss.shallow_clone(),
                    Some(sum) => sum + loss,
                });
            }
        }
        Some((total?, named))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn exclusive_labels_by_hand() {
        let logits = Tensor::from_slice(&[1f32, 2.0, 0.0, 5.0, 5.0, 5.0]).view([2, 3]).set_requires_grad(true);
        let labels = |ones: &[(usize, usize)]| marked(2, 3, ones.iter().copied());
        let odds = [1f64.exp(), 2f64.exp(), 1.0];
        let sum: f64 = odds.iter().sum();
        // One label; two of which either will do, and a row with one of three that are equal.
        let one = exclusive(&logits, &labels(&[(0, 0), (1, 2)])).double_value(&[]);
        assert!((one - 0.5 * (-(odds[0] / sum).ln() + 3f64.ln())).abs() < 1e-6);
        let two = exclusive(&logits, &labels(&[(0, 0), (0, 1), (1, 2)])).double_value(&[]);
        assert!((two - 0.5 * (-((odds[0] + odds[1]) / sum).ln() + 3f64.ln())).abs() < 1e-6);
        // A row without a label says nothing, and its gradient is 0.
        let loss = exclusive(&logits, &labels(&[(0, 0)]));
        assert!((loss.double_value(&[]) + (odds[0] / sum).ln()).abs() < 1e-6);
        loss.backward();
        let gradient = logits.grad();
        assert!(gradient.isfinite().all().int64_value(&[]) == 1);
        assert_eq!(gradient.get(1).abs().sum(Kind::Float).double_value(&[]), 0.0);
        assert!(gradient.get(0).abs().sum(Kind::Float).double_value(&[]) > 0.1);
        let none = exclusive(&Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)), &labels(&[]));
        assert_eq!(none.double_value(&[]), 0.0);
    }
}
