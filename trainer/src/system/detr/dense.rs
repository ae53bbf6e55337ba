//! A help for small detectors that start from nothing: in training, every cell of the encoder's memory says what lies on it.
//!
//! A set loss alone teaches a small network slowly, because few queries say anything about few cells. Here each cell inside a box
//! learns class and box directly (the smallest box where several overlap; the cell at a box's centre always), all others "no
//! object". The two heads are in no trained detector.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use crate::dataset::EntityLabel;
use crate::dataset::loader::Batch;
use crate::loss::{SetLoss, center_to_corners, generalized_iou};
use crate::network::init::linear;

/// Where the heads lie in the store; a detector's file leaves them out.
pub(super) const DENSE_PREFIX: &str = "dense.";

/// Class and box of every cell.
#[derive(Debug)]
pub(super) struct DenseHeads {
    class: nn::Linear,
    hidden: nn::Linear,
    bbox: nn::Linear,
}

/// What lies on the cells of a batch.
struct CellLabels {
    /// `[B h w]`, the number of classes for "no object".
    classes: Vec<i64>,
    /// Cells that are not "no object", and their boxes as shares, four a cell.
    cells: Vec<i64>,
    boxes: Vec<f32>,
}

impl DenseHeads {
    pub(super) fn new(root: &nn::Path, width: i64, classes: i64) -> Self {
        let path = root / DENSE_PREFIX.trim_end_matches('.');
        Self {
            class: linear(&(&path / "class"), width, classes + 1),
            hidden: linear(&(&path / "hidden"), width, width),
            bbox: linear(&(&path / "bbox"), width, 4),
        }
    }

    /// The loss of a memory `[B, h w, D]` whose map is `map` = (h, w), with the weights of the set loss.
    pub(super) fn loss(&self, memory: &Tensor, map: (i64, i64), batch: &Batch, loss: &SetLoss) -> Tensor {
        let device = memory.device();
        let logits = self.class.forward(memory).flatten(0, 1);
        let classes = logits.size()[1];
        let labels = cell_labels(batch, map, classes - 1);
        let mut weights = vec![1f32; classes as usize];
        weights[classes as usize - 1] = loss.no_object as f32;
        let weights = Tensor::from_slice(&weights).to_device(device);
        let wanted = Tensor::from_slice(&labels.classes).to_device(device);
        let class = logits.cross_entropy_loss(&wanted, Some(&weights), tch::Reduction::Mean, -100, 0.0);

        let cells = Tensor::from_slice(&labels.cells).to_device(device);
        let own = memory.flatten(0, 1).index_select(0, &cells);
        let boxes = self.bbox.forward(&self.hidden.forward(&own).relu()).sigmoid();
        let wanted = Tensor::from_slice(&labels.boxes).view([-1, 4]).to_device(device);
        let count = labels.cells.len().max(1) as f64;
        let l1 = (&boxes - &wanted).abs().sum(Kind::Float) / count;
        let giou = generalized_iou(&center_to_corners(&boxes), &center_to_corners(&wanted));
        let giou = (giou.neg() + 1.0).sum(Kind::Float) / count;
        class * loss.class + l1 * loss.l1 + giou * loss.giou
    }
}

fn cell_labels(batch: &Batch, (rows, columns): (i64, i64), nothing: i64) -> CellLabels {
    let size = batch.images.size();
    let (height, width) = (size[2] as f32, size[3] as f32);
    let (cell_width, cell_height) = (width / columns as f32, height / rows as f32);
    let mut labels = CellLabels { classes: Vec::new(), cells: Vec::new(), boxes: Vec::new() };
    for target in &batch.targets {
        for cell in 0..rows * columns {
            let (x, y) = (((cell % columns) as f32 + 0.5) * cell_width, ((cell / columns) as f32 + 0.5) * cell_height);
            let covers = |e: &&EntityLabel| {
                let b = e.bbox;
                let (cx, cy) = b.center();
                let inside = b.x1 <= x && x < b.x2 && b.y1 <= y && y < b.y2;
                inside || ((cx - x).abs() <= cell_width / 2.0 && (cy - y).abs() <= cell_height / 2.0)
            };
            let smallest = |a: &&EntityLabel, b: &&EntityLabel| a.bbox.area().total_cmp(&b.bbox.area());
            let Some(label) = target.entities.iter().filter(covers).min_by(smallest) else {
                labels.classes.push(nothing);
                continue;
            };
            labels.cells.push(labels.classes.len() as i64);
            labels.classes.push(i64::from(label.class.0));
            let (x, y) = label.bbox.center();
            labels.boxes.extend([x / width, y / height, label.bbox.width() / width, label.bbox.height() / height]);
        }
    }
    labels
}
