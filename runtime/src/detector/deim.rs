//! DEIM and others of the DETR family whose graph gives decoded boxes.

use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};

use super::{Candidate, Decoder, DetectorSpec, Tokens};
use crate::engine::{Dim, Tensor, TensorSpec};
use crate::geometry::{BBox, Size};

/// Tensors of a detector that decodes by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeimSpec {
    /// Class indices `[1, queries]`.
    pub labels: String,
    /// Boxes `[1, queries, 4]`, xyxy.
    pub boxes: String,
    /// Scores `[1, queries]`.
    pub scores: String,
    /// Number of queries.
    pub queries: usize,
    /// The input `[1, 2]` (width, height) that boxes are scaled to. It is given the size of the network's input, so that boxes come in
    /// that space as those of every family.
    pub sizes_input: String,
    /// Tokens of the decoder's queries `[1, rows, D]`: what its last class head reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,
    /// Row of `tokens` that each query was taken from, integers `[1, queries]`; left out where row and query are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_index: Option<String>,
}

impl Decoder for DeimSpec {
    fn check(&self, _: &DetectorSpec) -> Result<(), (String, String)> {
        if !(1..=10_000).contains(&self.queries) {
            return Err(("queries".into(), format!("{} is not between 1 and 10000", self.queries)));
        }
        if self.token_index.is_some() && self.tokens.is_none() {
            return Err(("token_index".into(), "it names rows of `tokens`, which is missing".into()));
        }
        Ok(())
    }

    fn outputs(&self, _: &DetectorSpec) -> Vec<TensorSpec> {
        let row = || vec![Dim::Fixed(1), Dim::Fixed(self.queries)];
        let boxes = vec![Dim::Fixed(1), Dim::Fixed(self.queries), Dim::Fixed(4)];
        let mut outputs = vec![
            TensorSpec::i64(&self.labels, row()),
            TensorSpec::f32(&self.boxes, boxes),
            TensorSpec::f32(&self.scores, row()),
        ];
        outputs.extend(self.token_index.as_ref().map(|name| TensorSpec::i64(name, row())));
        outputs
    }

    fn extra_inputs(&self) -> Vec<TensorSpec> {
        vec![TensorSpec::i64(&self.sizes_input, vec![Dim::Fixed(1), Dim::Fixed(2)])]
    }

    fn extra_values(&self, input: Size) -> Vec<Tensor> {
        let sizes = [i64::from(input.width), i64::from(input.height)];
        let mut array = ArrayD::zeros(IxDyn(&[1, 2]));
        array.iter_mut().zip(sizes).for_each(|(a, s)| *a = s);
        vec![Tensor::I64(array)]
    }

    fn tokens(&self) -> Option<Tokens<'_>> {
        let rows = self.token_index.is_none().then_some(self.queries);
        self.tokens.as_deref().map(|tensor| Tokens { tensor, rows })
    }

    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate> {
        let Some(boxes) = tensors[1].as_slice() else { return Vec::new() };
        tensors[0]
            .iter()
            .zip(boxes.chunks_exact(4))
            .zip(tensors[2].iter())
            .enumerate()
            .filter(|(_, ((label, _), score))| **score >= spec.min_score && **label >= 0.0)
            .map(|(query, ((&label, b), &score))| Candidate {
                box_in_input: BBox::new(b[0], b[1], b[2], b[3]),
                class: label as usize,
                score,
                query: Some(tensors.get(3).map_or(query, |rows| token_row(rows, query))),
            })
            .collect()
    }
}

/// The row that a tensor of rows names for a query; `usize::MAX`, which is no row, where it is negative or missing.
fn token_row(rows: &ArrayD<f32>, query: usize) -> usize {
    rows.iter().nth(query).filter(|r| **r >= 0.0).map_or(usize::MAX, |r| *r as usize)
}

#[cfg(test)]
mod tests {
    use super::super::DecoderSpec;
    use super::super::tests::{decoded, queries, small, tensor};
    use super::DeimSpec;

    #[test]
    fn what_reaches_the_score_comes_as_it_is() {
        let plain = DeimSpec {
            labels: "l".into(),
            boxes: "b".into(),
            scores: "s".into(),
            queries: 4,
            sizes_input: "z".into(),
            tokens: Some("t".into()),
            token_index: None,
        };
        let spec = small(DecoderSpec::Deim(plain.clone()));
        let boxes = tensor(&[&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], &[0.0; 4], &[0.0; 4]]);
        let row = |values: [f32; 4]| tensor(&[&values]);
        let mut tensors = vec![row([1.0, 0.0, -1.0, 0.0]), boxes, row([0.3, 0.29, 0.9, f32::NAN])];
        assert_eq!(decoded(&spec, &tensors), [(1, 0.3, [1.0, 2.0, 3.0, 4.0])]);
        assert_eq!(queries(&spec, &tensors), [Some(0)], "without an index a query is its own row");
        let spec = small(DecoderSpec::Deim(DeimSpec { token_index: Some("i".into()), ..plain }));
        tensors.push(row([7.0, 1.0, 1.0, 1.0]));
        assert_eq!(queries(&spec, &tensors), [Some(7)]);
        tensors[3] = row([-1.0, 1.0, 1.0, 1.0]);
        assert_eq!(queries(&spec, &tensors), [Some(usize::MAX)], "no tensor has that row");
    }
}
