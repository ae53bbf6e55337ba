//! YOLOX: anchor-free, centre offset and log size per cell.

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::{Candidate, Decoder, DetectorSpec, best_column};
use crate::engine::{Dim, TensorSpec};
use crate::geometry::BBox;

/// Constants of a YOLOX detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YoloxSpec {
    /// Tensor `[1, cells, 5 + classes]`: centre offset x, y, log size w, h, objectness and class probabilities.
    pub output: String,
    /// Pixels a cell of each level, finest first.
    pub strides: Vec<usize>,
}

impl YoloxSpec {
    fn grid(stride: usize, spec: &DetectorSpec) -> (usize, usize) {
        (spec.input.shape[3] / stride, spec.input.shape[2] / stride)
    }
}

impl Decoder for YoloxSpec {
    fn check(&self, _: &DetectorSpec) -> Result<(), (String, String)> {
        if self.strides.is_empty() || self.strides.iter().any(|s| !(1..=256).contains(s)) {
            return Err(("strides".into(), "at least one stride, each from 1 to 256, is needed".into()));
        }
        Ok(())
    }

    fn outputs(&self, spec: &DetectorSpec) -> Vec<TensorSpec> {
        let cells = self.strides.iter().map(|&s| Self::grid(s, spec)).map(|(c, r)| c * r).sum();
        let shape = vec![Dim::Fixed(1), Dim::Fixed(cells), Dim::Fixed(5 + spec.classes.len())];
        vec![TensorSpec::f32(&self.output, shape)]
    }

    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate> {
        let Some(values) = tensors[0].as_slice() else { return Vec::new() };
        let points = self.strides.iter().flat_map(|&stride| {
            let (columns, rows) = Self::grid(stride, spec);
            (0..columns * rows).map(move |k| ((k % columns) as f32, (k / columns) as f32, stride as f32))
        });
        let mut candidates = Vec::new();
        for ((x, y, stride), row) in points.zip(values.chunks_exact(5 + spec.classes.len())) {
            let Some((class, probability)) = best_column(row[5..].iter().copied().enumerate()) else { continue };
            let score = row[4] * probability;
            if score.is_nan() || score < spec.min_score {
                continue;
            }
            let box_in_input = BBox::from_center(
                (row[0] + x) * stride,
                (row[1] + y) * stride,
                row[2].exp() * stride,
                row[3].exp() * stride,
            );
            candidates.push(Candidate { box_in_input, class, score, query: None });
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::super::DecoderSpec;
    use super::super::tests::{decoded, small, tensor};
    use super::YoloxSpec;

    #[test]
    fn boxes_by_hand_over_two_levels() {
        // Stride 16: cells (0, 0), (1, 0), (0, 1), (1, 1); stride 32: one cell. x, y, log w, log h, objectness, two classes.
        let none = [0.0, 0.0, 0.0, 0.0, 0.1, 0.5, 0.5];
        let second = [0.25, 0.5, 0.0, 2f32.ln(), 0.5, 0.2, 0.8];
        let nan = [0.0, 0.0, 0.0, 0.0, f32::NAN, 0.9, 0.9];
        let last = [0.5, 0.5, 0.0, 0.0, 1.0, 0.75, 0.1];
        let spec = small(DecoderSpec::Yolox(YoloxSpec { output: "o".into(), strides: vec![16, 32] }));
        let got = decoded(&spec, &[tensor(&[&none, &second, &nan, &none, &last])]);
        // Second cell: centre ((0.25 + 1) 16, 0.5 16) = (20, 8), 16 x 32. Last: centre (16, 16), 32 x 32.
        assert_eq!(got, [(1, 0.4, [12.0, -8.0, 28.0, 24.0]), (0, 0.75, [0.0, 0.0, 32.0, 32.0])]);
    }
}
