//! DETR's set loss: each annotated box is given to one query (Hungarian matching), all other queries to "no object".

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;
use tch::{Kind, Tensor, no_grad};

/// Matching costs are compared in units of one millionth.
const COST_UNIT: f64 = 1e6;

/// What a cost that is no number counts, far above any true one.
const WORST_COST: f64 = 1e6;

/// What is annotated in a picture.
#[derive(Debug)]
pub struct SetTarget {
    /// Classes, `[n]`, int64.
    pub classes: Tensor,
    /// Boxes as centre, width and height in shares of the picture, `[n, 4]`.
    pub boxes: Tensor,
}

/// Costs of the matching and weights of the loss.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLoss {
    /// Cost of `-p[class]`. DETR: 1.
    pub class_cost: f64,
    /// Cost of the L1 distance of the boxes. DETR: 5.
    pub l1_cost: f64,
    /// Cost of `-GIoU`. DETR: 2.
    pub giou_cost: f64,
    /// Weight of the class "no object" in the cross-entropy. DETR: 0.1.
    pub no_object: f64,
    /// Weight of the cross-entropy. DETR: 1.
    pub class: f64,
    /// Weight of the L1 distance. DETR: 5.
    pub l1: f64,
    /// Weight of `1 - GIoU`. DETR: 2.
    pub giou: f64,
}

impl Default for SetLoss {
    fn default() -> Self {
        Self { class_cost: 1.0, l1_cost: 5.0, giou_cost: 2.0, no_object: 0.1, class: 1.0, l1: 5.0, giou: 2.0 }
    }
}

/// The loss of a batch: the weighted sum over all decoder layers, and the parts of the last layer without their weights.
#[derive(Debug)]
pub struct SetLossValue {
    /// What is minimised, a scalar.
    pub total: Tensor,
    /// Cross-entropy of the last layer.
    pub class: f64,
    /// L1 distance a box.
    pub l1: f64,
    /// `1 - GIoU` a box.
    pub giou: f64,
}

/// Boxes `[.., 4]` given as centre, width and height, as corners.
pub fn center_to_corners(boxes: &Tensor) -> Tensor {
    let (center, half) = (boxes.narrow(-1, 0, 2), boxes.narrow(-1, 2, 2) * 0.5);
    Tensor::cat(&[&center - &half, center + half], -1)
}

/// Generalised IoU (Rezatofighi et al.) of boxes as corners `[.., 4]`, which are broadcast against each other: `[..]` in `[-1, 1]`.
pub fn generalized_iou(a: &Tensor, b: &Tensor) -> Tensor {
    let low = |t: &Tensor| t.narrow(-1, 0, 2);
    let high = |t: &Tensor| t.narrow(-1, 2, 2);
    let area = |extent: &Tensor| {
        let extent = extent.clamp_min(0.0);
        extent.select(-1, 0) * extent.select(-1, 1)
    };
    // Two boxes without area have an IoU of 0.
    let tiny = 1e-9;
    let intersection = area(&(high(a).minimum(&high(b)) - low(a).maximum(&low(b))));
    let union = area(&(high(a) - low(a))) + area(&(high(b) - low(b))) - &intersection;
    let hull = area(&(high(a).maximum(&high(b)) - low(a).minimum(&low(b))));
    intersection / union.clamp_min(tiny) - (&hull - union) / hull.clamp_min(tiny)
}

/// The cheapest assignment of targets (rows) to queries (columns) of a cost matrix, row by row: (target, query) by rising target.
///
/// With more targets than queries, the targets that cost least overall are kept. A cost that is no number is the worst.
pub fn match_targets(cost: &[f64], targets: usize, queries: usize) -> Vec<(usize, usize)> {
    if targets == 0 || queries == 0 {
        return Vec::new();
    }
    let unit = |target: usize, query: usize| {
        let cost = cost[target * queries + query];
        let cost = if cost.is_finite() { cost.clamp(-WORST_COST, WORST_COST) } else { WORST_COST };
        (cost * COST_UNIT).round() as i64
    };
    if targets <= queries {
        let (_, columns) = kuhn_munkres_min(&Matrix::from_fn(targets, queries, |(t, q)| unit(t, q)));
        return columns.into_iter().enumerate().collect();
    }
    let (_, columns) = kuhn_munkres_min(&Matrix::from_fn(queries, targets, |(q, t)| unit(t, q)));
    let mut pairs: Vec<(usize, usize)> = columns.into_iter().enumerate().map(|(q, t)| (t, q)).collect();
    pairs.sort_unstable();
    pairs
}

impl SetLoss {
    /// Costs of giving each target to each query: `[B, Q, n]` with the targets of all pictures in a row.
    fn costs(&self, logits: &Tensor, boxes: &Tensor, targets: &SetTarget) -> Tensor {
        let probability = logits.softmax(-1, Kind::Float).index_select(2, &targets.classes);
        let wanted = targets.boxes.unsqueeze(0).unsqueeze(0);
        let l1 = (boxes.unsqueeze(2) - &wanted).abs().sum_dim_intlist(-1, false, Kind::Float);
        let giou = generalized_iou(&center_to_corners(&boxes.unsqueeze(2)), &center_to_corners(&wanted));
        l1 * self.l1_cost - probability * self.class_cost - giou * self.giou_cost
    }

    /// For each picture which target goes to which query: (target, query).
    pub fn match_batch(&self, logits: &Tensor, boxes: &Tensor, targets: &[SetTarget]) -> Vec<Vec<(usize, usize)>> {
        let queries = logits.size()[1] as usize;
        let counts: Vec<usize> = targets.iter().map(|t| t.classes.size()[0] as usize).collect();
        let all: usize = counts.iter().sum();
        if all == 0 {
            return counts.iter().map(|_| Vec::new()).collect();
        }
        let costs =
            no_grad(|| self.costs(logits, boxes, &joined(targets)).to_kind(Kind::Double).contiguous().view([-1]));
        // A tensor that is no list of numbers gives no costs, and thus no match.
        let costs = Vec::<f64>::try_from(costs).unwrap_or_default();
        let mut first = 0;
        let pictures = counts.iter().enumerate();
        pictures
            .map(|(picture, &count)| {
                let at = |t: usize, q: usize| costs.get((picture * queries + q) * all + first + t).copied();
                let own: Vec<f64> =
                    (0..count * queries).map(|i| at(i / queries, i % queries).unwrap_or(f64::NAN)).collect();
                first += count;
                match_targets(&own, count, queries)
            })
            .collect()
    }

    /// The loss of a batch: `logits` `[B, Q, K + 1]` with "no object" last, `boxes` `[B, Q, 4]` as centre, width and height in
    /// `[0, 1]`, the same of the earlier decoder layers, and what is annotated in each of the B pictures.
    ///
    /// Per layer `class CE + l1 sum|b - b*| / n + giou sum(1 - GIoU) / n`, n = boxes in the batch, at least 1; each layer is matched
    /// for itself. The cross-entropy is the mean weighted by `no_object`.
    pub fn forward(
        &self,
        logits: &Tensor,
        boxes: &Tensor,
        auxiliary: &[(Tensor, Tensor)],
        targets: &[SetTarget],
    ) -> SetLossValue {
        let joined = joined(targets);
        let mut value = self.layer(logits, boxes, targets, &joined);
        for (logits, boxes) in auxiliary {
            value.total += self.layer(logits, boxes, targets, &joined).total;
        }
        value
    }

    fn layer(&self, logits: &Tensor, boxes: &Tensor, targets: &[SetTarget], joined: &SetTarget) -> SetLossValue {
        // Half precision is not enough for boxes.
        let (logits, boxes) = (&logits.to_kind(Kind::Float), &boxes.to_kind(Kind::Float));
        let (device, classes) = (logits.device(), logits.size()[2]);
        let queries = logits.size()[1];
        let (mut rows, mut sources, mut first) = (Vec::new(), Vec::new(), 0);
        for (picture, pairs) in self.match_batch(logits, boxes, targets).into_iter().enumerate() {
            for (target, query) in pairs {
                rows.push(picture as i64 * queries + query as i64);
                sources.push(first + target as i64);
            }
            first += targets[picture].classes.size()[0];
        }
        let rows = Tensor::from_slice(&rows).to_device(device);
        let sources = Tensor::from_slice(&sources).to_device(device);

        let wanted = Tensor::full([logits.size()[0] * queries], classes - 1, (Kind::Int64, device));
        let wanted = wanted.index_copy(0, &rows, &joined.classes.index_select(0, &sources));
        let mut weights = vec![1f32; classes as usize];
        weights[classes as usize - 1] = self.no_object as f32;
        let weights = Tensor::from_slice(&weights).to_device(device);
        let class =
            logits.reshape([-1, classes]).cross_entropy_loss(&wanted, Some(&weights), tch::Reduction::Mean, -100, 0.0);

        let found = boxes.reshape([-1, 4]).index_select(0, &rows);
        let wanted = joined.boxes.index_select(0, &sources);
        let count = first.max(1) as f64;
        let l1 = (&found - &wanted).abs().sum(Kind::Float) / count;
        let giou = generalized_iou(&center_to_corners(&found), &center_to_corners(&wanted));
        let giou = (giou.neg() + 1.0).sum(Kind::Float) / count;
        SetLossValue {
            class: class.double_value(&[]),
            l1: l1.double_value(&[]),
            giou: giou.double_value(&[]),
            total: class * self.class + l1 * self.l1 + giou * self.giou,
        }
    }
}

/// The targets of all pictures in a row.
fn joined(targets: &[SetTarget]) -> SetTarget {
    let classes: Vec<&Tensor> = targets.iter().map(|t| &t.classes).collect();
    let boxes: Vec<&Tensor> = targets.iter().map(|t| &t.boxes).collect();
    SetTarget { classes: Tensor::cat(&classes, 0), boxes: Tensor::cat(&boxes, 0) }
}
