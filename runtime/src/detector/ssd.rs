//! SSD with per-anchor box codes (SSDLite-MobileNetV2 of the TensorFlow object detection API).

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::{Candidate, Decoder, DetectorSpec, best_column};
use crate::engine::{Dim, TensorSpec};
use crate::fusion::sigmoid;
use crate::geometry::BBox;

/// Constants of an SSD detector. Anchors are those of the TensorFlow object detection API's `ssd_anchor_generator`:
/// scales `s_l = min_scale + (max_scale - min_scale) l / (levels - 1)`, the lowest level with 3 anchors a cell, the others with 6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SsdSpec {
    /// Tensor of box codes `(ty, tx, th, tw)`: `[1, A, 4]`, dimensions of 1 anywhere.
    pub boxes: String,
    /// Tensor of class logits `[1, A, columns]`; column 0 is the background.
    pub logits: String,
    /// Number of columns of `logits`, the background included.
    pub logit_columns: usize,
    /// For each class of the detector its column of `logits`.
    pub class_columns: Vec<usize>,
    /// Cells a side of each feature map, finest first.
    pub feature_sides: Vec<usize>,
    /// Scale of the finest level's anchors, relative to the picture.
    pub min_scale: f32,
    /// Scale of the coarsest level's anchors.
    pub max_scale: f32,
}

/// Divisors of the box codes' centres and sizes (TensorFlow object detection API, `faster_rcnn_box_coder`).
const CENTER_SCALE: f32 = 10.0;
const SIZE_SCALE: f32 = 5.0;

/// An anchor relative to the picture: centre and size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Anchor {
    cx: f32,
    cy: f32,
    w: f32,
    h: f32,
}

impl SsdSpec {
    fn anchor_count(&self) -> usize {
        let cells = |i: usize, side: &usize| side * side * if i == 0 { 3 } else { 6 };
        self.feature_sides.iter().enumerate().map(|(i, side)| cells(i, side)).sum()
    }

    /// All anchors: level, then row, then column, then shape.
    fn anchors(&self) -> Vec<Anchor> {
        let levels = self.feature_sides.len();
        let step = (self.max_scale - self.min_scale) / (levels.max(2) - 1) as f32;
        let scale = |level: usize| if level < levels { self.min_scale + step * level as f32 } else { 1.0 };
        let mut anchors = Vec::with_capacity(self.anchor_count());
        for (level, &side) in self.feature_sides.iter().enumerate() {
            let s = scale(level);
            let shapes: Vec<(f32, f32)> = if level == 0 {
                vec![(0.1, 1.0), (s, 2.0), (s, 0.5)]
            } else {
                let between = (s * scale(level + 1)).sqrt();
                vec![(s, 1.0), (s, 2.0), (s, 0.5), (s, 3.0), (s, 1.0 / 3.0), (between, 1.0)]
            };
            for y in 0..side {
                for x in 0..side {
                    anchors.extend(shapes.iter().map(|&(scale, ratio)| Anchor {
                        cx: (x as f32 + 0.5) / side as f32,
                        cy: (y as f32 + 0.5) / side as f32,
                        w: scale * ratio.sqrt(),
                        h: scale / ratio.sqrt(),
                    }));
                }
            }
        }
        anchors
    }
}

impl Decoder for SsdSpec {
    fn check(&self, spec: &DetectorSpec) -> Result<(), (String, String)> {
        let err = |key: &str, reason: String| Err((key.to_owned(), reason));
        if !(2..=10_000).contains(&self.logit_columns) {
            return err("logit_columns", format!("{} is not between 2 and 10000", self.logit_columns));
        }
        if self.class_columns.len() != spec.classes.len() {
            return err(
                "class_columns",
                format!("{} entries for {} classes", self.class_columns.len(), spec.classes.len()),
            );
        }
        if let Some(c) = self.class_columns.iter().find(|c| **c == 0 || **c >= self.logit_columns) {
            return err("class_columns", format!("column {c} is not between 1 and {}", self.logit_columns - 1));
        }
        if self.feature_sides.len() < 2 || self.feature_sides.iter().any(|s| !(1..=512).contains(s)) {
            return err("feature_sides", "at least two levels with sides from 1 to 512 are needed".into());
        }
        if !(self.min_scale > 0.0 && self.min_scale < self.max_scale && self.max_scale <= 1.0) {
            return err("min_scale", "0 < min_scale < max_scale <= 1 is needed".into());
        }
        Ok(())
    }

    fn outputs(&self, _: &DetectorSpec) -> Vec<TensorSpec> {
        let anchors = self.anchor_count();
        let shape = |last| vec![Dim::Fixed(1), Dim::Fixed(anchors), Dim::Fixed(last)];
        vec![TensorSpec::f32(&self.boxes, shape(4)), TensorSpec::f32(&self.logits, shape(self.logit_columns))]
    }

    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate> {
        let (Some(codes), Some(logits)) = (tensors[0].as_slice(), tensors[1].as_slice()) else { return Vec::new() };
        let input = spec.input.size();
        let mut candidates = Vec::new();
        let rows = codes.chunks_exact(4).zip(logits.chunks_exact(self.logit_columns));
        for (anchor, (code, logits)) in self.anchors().into_iter().zip(rows) {
            let columns = self.class_columns.iter().enumerate();
            let Some((class, logit)) = best_column(columns.map(|(class, &column)| (class, logits[column]))) else {
                continue;
            };
            let score = sigmoid(logit);
            if score < spec.min_score {
                continue;
            }
            let cy = code[0] / CENTER_SCALE * anchor.h + anchor.cy;
            let cx = code[1] / CENTER_SCALE * anchor.w + anchor.cx;
            let h = (code[2] / SIZE_SCALE).exp() * anchor.h;
            let w = (code[3] / SIZE_SCALE).exp() * anchor.w;
            let box_in_input = BBox::from_center(cx, cy, w, h).scale(input.width as f32, input.height as f32);
            candidates.push(Candidate { box_in_input, class, score, query: None });
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SsdSpec {
        SsdSpec {
            boxes: "boxes".into(),
            logits: "logits".into(),
            logit_columns: 91,
            class_columns: vec![1],
            feature_sides: vec![19, 10, 5, 3, 2, 1],
            min_scale: 0.2,
            max_scale: 0.95,
        }
    }

    #[test]
    fn anchors_by_hand() {
        let anchors = spec().anchors();
        assert_eq!(anchors.len(), 1917);
        assert_eq!(spec().anchor_count(), 1917);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        let first = anchors[0];
        assert!(near(first.cx, 0.5 / 19.0) && near(first.w, 0.1) && near(first.h, 0.1));
        let wide = anchors[1];
        assert!(near(wide.w, 0.2 * 2f32.sqrt()) && near(wide.h, 0.2 / 2f32.sqrt()));
        let last = anchors[1916];
        assert!(near(last.cx, 0.5) && near(last.w, (0.95f32).sqrt()));
        // Second level, first cell, sixth anchor: sqrt(0.35 * 0.5).
        assert!(near(anchors[19 * 19 * 3 + 5].h, (0.35f32 * 0.5).sqrt()));
    }
}
