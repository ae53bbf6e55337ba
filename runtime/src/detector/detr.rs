//! DETR: a class distribution and a relative box for each query, no anchors.

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use super::{Candidate, Decoder, DetectorSpec, Tokens, best_column};
use crate::engine::{Dim, TensorSpec};
use crate::geometry::BBox;

/// Tensors of a DETR (Carion et al., ECCV 2020).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetrSpec {
    /// Class logits `[1, queries, K + 1]`: the K classes of the detector, then "no object".
    pub logits: String,
    /// Boxes `[1, queries, 4]`: centre, width and height relative to the input, in `[0, 1]`.
    pub boxes: String,
    /// Number of queries.
    pub queries: usize,
    /// Tokens of the queries `[1, queries, D]`: the decoder's output that both heads read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
}

impl Decoder for DetrSpec {
    fn check(&self, _: &DetectorSpec) -> Result<(), (String, String)> {
        if !(1..=10_000).contains(&self.queries) {
            return Err(("queries".into(), format!("{} is not between 1 and 10000", self.queries)));
        }
        Ok(())
    }

    fn outputs(&self, spec: &DetectorSpec) -> Vec<TensorSpec> {
        let shape = |last| vec![Dim::Fixed(1), Dim::Fixed(self.queries), Dim::Fixed(last)];
        vec![TensorSpec::f32(&self.logits, shape(spec.classes.len() + 1)), TensorSpec::f32(&self.boxes, shape(4))]
    }

    fn tokens(&self) -> Option<Tokens<'_>> {
        self.tokens.as_deref().map(|tensor| Tokens { tensor, rows: Some(self.queries) })
    }

    /// Softmax over all columns of a query; the best class but "no object", with its probability.
    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate> {
        let (Some(logits), Some(boxes)) = (tensors[0].as_slice(), tensors[1].as_slice()) else { return Vec::new() };
        let classes = spec.classes.len();
        let size = spec.input.size();
        let mut candidates = Vec::new();
        for (query, (row, b)) in logits.chunks_exact(classes + 1).zip(boxes.chunks_exact(4)).enumerate() {
            let Some((class, logit)) = best_column(row[..classes].iter().copied().enumerate()) else { continue };
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = row.iter().map(|z| (z - top).exp()).sum();
            let score = (logit - top).exp() / sum;
            // A NaN or infinity among the logits makes the score NaN.
            if score.is_nan() || score < spec.min_score {
                continue;
            }
            let box_in_input = BBox::from_center(b[0], b[1], b[2], b[3]).scale(size.width as f32, size.height as f32);
            candidates.push(Candidate { box_in_input, class, score, query: Some(query) });
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::super::DecoderSpec;
    use super::super::tests::{decoded, queries, small, tensor};
    use super::DetrSpec;

    #[test]
    fn classes_and_boxes_by_hand() {
        // Two classes and "no object"; the input is 32 x 32.
        let mut spec =
            small(DecoderSpec::Detr(DetrSpec { logits: "l".into(), boxes: "b".into(), queries: 6, tokens: None }));
        let (ln2, ln3) = (2f32.ln(), 3f32.ln());
        let logits = tensor(&[
            // 1/6, 3/6, 2/6: the second class.
            &[0.0, ln3, ln2],
            // 2/6, 1/6, 3/6: the first class, though "no object" is likelier.
            &[1000.0 + ln2, 1000.0, 1000.0 + ln3],
            // 1/4, 1/4, 2/4: below the least score of 0.3.
            &[0.0, 0.0, ln2],
            &[f32::NAN, 5.0, 0.0],
            &[f32::INFINITY, 5.0, 0.0],
            // Certain.
            &[-1000.0, 1000.0, -1000.0],
        ]);
        let boxes = tensor(&[
            &[0.5, 0.25, 0.5, 0.25],
            &[0.0, 1.0, 0.5, 0.5],
            &[0.5; 4],
            &[0.5; 4],
            &[0.5; 4],
            &[0.5, 0.5, 1.0, 1.0],
        ]);
        let got = decoded(&spec, &[logits.clone(), boxes.clone()]);
        let want = [
            (1, 0.5, [8.0, 4.0, 24.0, 12.0]),
            // Boxes that reach out of the input are clipped with the picture, later.
            (0, 1.0 / 3.0, [-8.0, 24.0, 8.0, 40.0]),
            (1, 1.0, [0.0, 0.0, 32.0, 32.0]),
        ];
        assert_eq!(got.len(), want.len(), "{got:?}");
        for ((class, score, b), (want_class, want_score, want_box)) in got.iter().zip(want) {
            assert_eq!((*class, b), (want_class, &want_box));
            // f32 near 1000 is 6e-5 coarse.
            assert!((score - want_score).abs() < 5e-5, "{score} {want_score}");
        }
        assert_eq!(queries(&spec, &[logits.clone(), boxes.clone()]), [Some(0), Some(1), Some(5)]);
        spec.min_score = 0.2;
        assert_eq!(queries(&spec, &[logits, boxes]), [Some(0), Some(1), Some(2), Some(5)]);
    }
}
