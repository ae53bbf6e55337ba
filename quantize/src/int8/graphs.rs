//! Loading a detector's graph as its bundle says.

use std::collections::HashMap;

use hoi_runtime::detector::{DecoderSpec, DetectorSpec};
use hoi_runtime::engine::{Dim, Engine, GraphRequest, Model, Tensor, TensorSpec, display_shape};
use hoi_runtime::preprocess::InputSpec;
use ndarray::{ArrayD, IxDyn};

use super::error::GraphError;
use crate::onnx::ModelProto;
use crate::qdq::QdqError;

/// What goes into the graphs of a detector, and what is read from them.
pub(super) struct Graphs<'a> {
    pub input: &'a InputSpec,
    /// Inputs beside the picture.
    pub extra: Vec<Tensor>,
    inputs: Vec<TensorSpec>,
    /// The graph's outputs and what the manifest reads from inside it.
    pub kept: Vec<String>,
}

impl<'a> Graphs<'a> {
    pub fn new(model: &ModelProto, spec: &'a DetectorSpec) -> Self {
        let mut inputs = vec![TensorSpec::f32(&spec.input.name, spec.input.shape.map(Dim::Fixed).to_vec())];
        let mut extra = Vec::new();
        let outputs = model.graph.iter().flat_map(|g| &g.output).filter_map(|o| o.name.clone());
        let mut kept: Vec<String> = outputs.collect();
        kept.extend(spec.taps.values().cloned());
        kept.extend(spec.decoder.tokens().map(str::to_owned));
        let named: Vec<&str> = match &spec.decoder {
            DecoderSpec::Ssd(s) => vec![&s.boxes, &s.logits],
            DecoderSpec::Nanodet(s) => s.scores.iter().chain(&s.distances).map(String::as_str).collect(),
            DecoderSpec::Yolox(s) => vec![&s.output],
            DecoderSpec::Deim(s) => {
                let size = [spec.input.shape[3] as i64, spec.input.shape[2] as i64];
                inputs.push(TensorSpec::i64(&s.sizes_input, vec![Dim::Fixed(1), Dim::Fixed(2)]));
                extra.push(Tensor::I64(ArrayD::from_shape_fn(IxDyn(&[1, 2]), |i| size[i[1]])));
                [&s.labels, &s.boxes, &s.scores].into_iter().chain(&s.token_index).map(String::as_str).collect()
            }
            DecoderSpec::Detr(s) => vec![&s.logits, &s.boxes],
        };
        kept.extend(named.into_iter().map(str::to_owned));
        kept.sort();
        kept.dedup();
        Self { input: &spec.input, extra, inputs, kept }
    }

    /// Loads a graph that gives `outputs`.
    pub fn load(
        &self,
        engine: &dyn Engine,
        onnx: &[u8],
        outputs: &[String],
        which: &'static str,
    ) -> Result<Box<dyn Model>, GraphError> {
        let request = GraphRequest { inputs: self.inputs.clone(), outputs: outputs.to_vec() };
        engine.load(onnx, &request).map_err(|source| GraphError { which, source })
    }

    /// The shapes of the picture and of all outputs of `model`.
    pub fn shapes(&self, model: &dyn Model) -> Result<HashMap<String, Vec<usize>>, QdqError> {
        let mut shapes = HashMap::from([(self.input.name.clone(), self.input.shape.to_vec())]);
        for output in model.outputs() {
            let fixed = output.shape.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None });
            let shape = fixed.collect::<Option<Vec<usize>>>().ok_or_else(|| QdqError::DynamicShape {
                tensor: output.name.clone(),
                shape: display_shape(&output.shape),
            })?;
            shapes.insert(output.name.clone(), shape);
        }
        Ok(shapes)
    }
}
