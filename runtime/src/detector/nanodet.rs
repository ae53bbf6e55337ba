//! NanoDet: anchor-free, each side of a box a distribution over bins (generalised focal loss).

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::{Candidate, Decoder, DetectorSpec, best_column};
use crate::engine::{Dim, TensorSpec};
use crate::geometry::BBox;

/// Constants of a NanoDet detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NanodetSpec {
    /// Tensors of class probabilities `[1, cells, classes]`: one a level, or one for all levels, one after the other.
    pub scores: Vec<String>,
    /// Tensors of box distribution logits `[1, cells, 4 * bins]` (left, top, right, bottom), laid out as `scores`.
    pub distances: Vec<String>,
    /// Pixels a cell of each level, finest first.
    pub strides: Vec<usize>,
    /// Bins a side. NanoDet-g: 11; NanoDet-Plus: 8.
    pub bins: usize,
    /// Where in its cell a box's reference point lies, in cells. NanoDet-g: 0.5; NanoDet-Plus: 0.
    pub cell_offset: f32,
}

impl NanodetSpec {
    /// Columns and rows of a level.
    fn grid(&self, level: usize, spec: &DetectorSpec) -> (usize, usize) {
        let stride = self.strides[level];
        (spec.input.shape[3].div_ceil(stride), spec.input.shape[2].div_ceil(stride))
    }

    fn cells(&self, spec: &DetectorSpec) -> Vec<usize> {
        (0..self.strides.len())
            .map(|l| {
                let (columns, rows) = self.grid(l, spec);
                columns * rows
            })
            .collect()
    }
}

impl Decoder for NanodetSpec {
    fn check(&self, _: &DetectorSpec) -> Result<(), (String, String)> {
        let err = |key: &str, reason: String| Err((key.to_owned(), reason));
        if self.strides.is_empty() || self.strides.iter().any(|s| !(1..=256).contains(s)) {
            return err("strides", "at least one stride, each from 1 to 256, is needed".into());
        }
        for (key, list) in [("scores", &self.scores), ("distances", &self.distances)] {
            if list.len() != 1 && list.len() != self.strides.len() {
                return err(
                    key,
                    format!("{} tensors; 1, or one for each of {} strides, are needed", list.len(), self.strides.len()),
                );
            }
        }
        if self.scores.len() != self.distances.len() {
            return err("distances", "as many tensors as `scores` are needed".into());
        }
        if !(2..=64).contains(&self.bins) {
            return err("bins", format!("{} is not between 2 and 64", self.bins));
        }
        Ok(())
    }

    fn outputs(&self, spec: &DetectorSpec) -> Vec<TensorSpec> {
        let cells = self.cells(spec);
        let rows = |i: usize| if self.scores.len() == 1 { cells.iter().sum() } else { cells[i] };
        let tensors = |names: &[String], last: usize| -> Vec<TensorSpec> {
            let shape = |i| vec![Dim::Fixed(1), Dim::Fixed(rows(i)), Dim::Fixed(last)];
            names.iter().enumerate().map(|(i, n)| TensorSpec::f32(n, shape(i))).collect()
        };
        let mut all = tensors(&self.scores, spec.classes.len());
        all.extend(tensors(&self.distances, 4 * self.bins));
        all
    }

    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate> {
        let (scores, distances) = tensors.split_at(self.scores.len());
        let scores = rows(scores, spec.classes.len());
        let distances = rows(distances, 4 * self.bins);
        let points = (0..self.strides.len()).flat_map(|level| {
            let (columns, rows) = self.grid(level, spec);
            let stride = self.strides[level] as f32;
            (0..columns * rows).map(move |k| ((k % columns) as f32, (k / columns) as f32, stride))
        });
        let mut candidates = Vec::new();
        for ((x, y, stride), (scores, distances)) in points.zip(scores.zip(distances)) {
            let Some((class, score)) = best_column(scores.iter().copied().enumerate()) else { continue };
            if score < spec.min_score {
                continue;
            }
            let (cx, cy) = ((x + self.cell_offset) * stride, (y + self.cell_offset) * stride);
            let side = |j: usize| stride * expectation(&distances[j * self.bins..][..self.bins]);
            let box_in_input = BBox::new(cx - side(0), cy - side(1), cx + side(2), cy + side(3));
            candidates.push(Candidate { box_in_input, class, score, query: None });
        }
        candidates
    }
}

/// The rows of tensors that follow one another.
fn rows<'a>(tensors: &'a [&ArrayD<f32>], width: usize) -> impl Iterator<Item = &'a [f32]> {
    tensors.iter().filter_map(|t| t.as_slice()).flat_map(move |s| s.chunks_exact(width))
}

/// `sum_b b softmax(logits)_b`.
fn expectation(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (b, z) in logits.iter().enumerate() {
        let e = (z - top).exp();
        sum += e;
        weighted += b as f32 * e;
    }
    weighted / sum
}

#[cfg(test)]
mod tests {
    use super::super::DecoderSpec;
    use super::super::tests::{decoded, small, tensor};
    use super::{NanodetSpec, expectation};

    /// All weight on one bin.
    fn side(bin: usize) -> [f32; 3] {
        std::array::from_fn(|b| if b == bin { 500.0 } else { -500.0 })
    }

    #[test]
    fn boxes_by_hand_over_two_levels() {
        // Stride 16: 2 x 2 cells, stride 32: 1 cell; one tensor for all. Sides in bins: left 1, top 0, right 2, bottom 1.
        let sides = [side(1), side(0), side(2), side(1)].concat();
        let distances = tensor(&[&sides, &sides, &sides, &sides, &sides]);
        let scores = tensor(&[&[0.1, 0.2], &[0.1, 0.2], &[0.1, 0.2], &[f32::NAN, 0.4], &[0.9, 0.4]]);
        for (cell_offset, cell, whole) in [
            (0.0, [0.0, 16.0, 48.0, 32.0], [-32.0, 0.0, 64.0, 32.0]),
            (0.5, [8.0, 24.0, 56.0, 40.0], [-16.0, 16.0, 80.0, 48.0]),
        ] {
            let spec = small(DecoderSpec::Nanodet(NanodetSpec {
                scores: vec!["s".into()],
                distances: vec!["d".into()],
                strides: vec![16, 32],
                bins: 3,
                cell_offset,
            }));
            let got = decoded(&spec, &[scores.clone(), distances.clone()]);
            assert_eq!(got, [(1, 0.4, cell), (0, 0.9, whole)], "offset {cell_offset}");
        }
    }

    #[test]
    fn expectation_by_hand() {
        assert!((expectation(&[0.0; 11]) - 5.0).abs() < 1e-6);
        assert!((expectation(&[-50.0, 1000.0, -50.0]) - 1.0).abs() < 1e-6);
        assert!((expectation(&[0.0, 3f32.ln()]) - 0.75).abs() < 1e-6);
    }
}
