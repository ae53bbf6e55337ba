//! Detectors: one file per family behind one trait; a tensor of the picture in, [`Detection`]s in pixels of the picture out.

mod deim;
mod detr;
mod nanodet;
mod ssd;
mod yolox;

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, Axis, Ix3};
use serde::{Deserialize, Serialize};

pub use deim::DeimSpec;
pub use detr::DetrSpec;
pub use nanodet::NanodetSpec;
pub use ssd::SsdSpec;
pub use yolox::YoloxSpec;

use crate::bundle::ModelBundle;
use crate::engine::{Dim, ElementType, Engine, EngineError, GraphRequest, Model, Tensor, TensorSpec};
use crate::geometry::{BBox, Size};
use crate::preprocess::{InputSpec, ResizeRule, Transform};
use crate::vocabulary::{ObjectClass, Vocabulary};

/// A box with its class and score.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The box; its space is said by whoever hands it out (everything public: pixels of the original picture).
    pub bbox: BBox,
    /// What it is.
    pub class: ObjectClass,
    /// Score in `[0, 1]`.
    pub score: f32,
}

/// The `detector` section of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// The graph's file.
    pub file: String,
    /// How the picture goes in.
    pub input: InputSpec,
    /// How boxes come out.
    pub decoder: DecoderSpec,
    /// Name of each class of the detector, in the order of its columns; all must be in the vocabulary.
    pub classes: Vec<String>,
    /// Detections below this score are dropped before NMS.
    pub min_score: f32,
    /// At most this many detections, the best, go on to NMS.
    pub max_detections: usize,
    /// Feature taps: head input (`feature`, `feature_1`, ...) -> tensor inside the graph.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taps: BTreeMap<String, String>,
}

impl DetectorSpec {
    /// `Err((key, reason))` where a value cannot be used.
    pub(crate) fn check(&self, vocabulary: &Vocabulary) -> Result<(), (String, String)> {
        self.input.check()?;
        if let Some(name) = self.classes.iter().find(|n| vocabulary.object(n).is_none()) {
            return Err(("classes".into(), format!("`{name}` is not in vocabulary.objects")));
        }
        if self.classes.is_empty() {
            return Err(("classes".into(), "at least one class is needed".into()));
        }
        if !(0.0..=1.0).contains(&self.min_score) {
            return Err(("min_score".into(), format!("{} is not between 0 and 1", self.min_score)));
        }
        if !(1..=10_000).contains(&self.max_detections) {
            return Err(("max_detections".into(), format!("{} is not between 1 and 10000", self.max_detections)));
        }
        if let Some(name) = self.taps.keys().find(|n| !is_feature(n)) {
            return Err((format!("taps.{name}"), "a tap fills `feature`, `feature_1`, ... of the head".into()));
        }
        if !self.taps.is_empty() && self.input.resize != (ResizeRule::Stretch {}) {
            // Masks are laid over a map that covers the whole picture.
            return Err(("taps".into(), "feature taps need the resize rule `stretch`".into()));
        }
        self.decoder.decoder().check(self).map_err(|(key, reason)| (format!("decoder.{key}"), reason))
    }
}

/// A detector family with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
pub enum DecoderSpec {
    /// SSD with anchors and box codes.
    Ssd(SsdSpec),
    /// NanoDet-g and NanoDet-Plus: anchor-free, box sides as distributions.
    Nanodet(NanodetSpec),
    /// YOLOX: anchor-free, centre and log size.
    Yolox(YoloxSpec),
    /// DEIM and others of the DETR family whose graph decodes by itself.
    Deim(DeimSpec),
    /// DETR: class logits and relative boxes of each query.
    Detr(DetrSpec),
}

impl DecoderSpec {
    /// The family's name as the manifest writes it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Ssd(_) => "ssd",
            Self::Nanodet(_) => "nanodet",
            Self::Yolox(_) => "yolox",
            Self::Deim(_) => "deim",
            Self::Detr(_) => "detr",
        }
    }

    fn decoder(&self) -> &dyn Decoder {
        match self {
            Self::Ssd(spec) => spec,
            Self::Nanodet(spec) => spec,
            Self::Yolox(spec) => spec,
            Self::Deim(spec) => spec,
            Self::Detr(spec) => spec,
        }
    }

    /// The tensor that holds a token of each query, where the manifest names one.
    pub fn tokens(&self) -> Option<&str> {
        self.decoder().tokens().map(|t| t.tensor)
    }
}

/// The head input that [`DecoderSpec::tokens`] fill, a row for each detection.
pub const ENTITY_TOKENS: &str = "entity_tokens";

/// Whether a head input is a feature map: `feature`, `feature_1`, ...
pub(crate) fn is_feature(name: &str) -> bool {
    name == "feature"
        || name.strip_prefix("feature_").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Where the tokens of a detector's queries come from.
struct Tokens<'a> {
    /// A tensor `[1, rows, D]`.
    tensor: &'a str,
    /// How many rows it must have; `None` where [`Candidate::query`] may name any.
    rows: Option<usize>,
}

/// What a family knows: which tensors it reads, and how they become boxes.
trait Decoder: Send + Sync {
    /// `Err((key, reason))` where a constant cannot be used with this detector.
    fn check(&self, spec: &DetectorSpec) -> Result<(), (String, String)>;

    /// The tensors that [`Decoder::decode`] takes, with the shapes it relies on.
    fn outputs(&self, spec: &DetectorSpec) -> Vec<TensorSpec>;

    /// Inputs beside the picture.
    fn extra_inputs(&self) -> Vec<TensorSpec> {
        Vec::new()
    }

    /// The values of [`Decoder::extra_inputs`] for a network input of this size.
    fn extra_values(&self, _input: Size) -> Vec<Tensor> {
        Vec::new()
    }

    /// The tokens that [`Candidate::query`] counts the rows of.
    fn tokens(&self) -> Option<Tokens<'_>> {
        None
    }

    /// Candidates with `score >= min_score`; boxes in pixels of the network's input.
    fn decode(&self, tensors: &[&ArrayD<f32>], spec: &DetectorSpec) -> Vec<Candidate>;
}

/// A decoded box before its class is looked up.
struct Candidate {
    box_in_input: BBox,
    class: usize,
    score: f32,
    /// Row of the family's tokens; `None` in families without.
    query: Option<usize>,
}

/// Largest finite value of a row with its column; `None` when there is none.
fn best_column(row: impl Iterator<Item = (usize, f32)>) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (column, value) in row {
        if value.is_finite() && best.is_none_or(|(_, b)| value > b) {
            best = Some((column, value));
        }
    }
    best
}

/// Why a detector could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The graph does not load or run.
    #[error("detector `{file}`: {cause}")]
    Engine {
        /// The graph's file.
        file: String,
        /// What the engine says.
        cause: EngineError,
    },
    /// The graph's outputs are not those of the family.
    #[error(
        "detector `{file}`: tensor `{tensor}` has shape {found}, the `{family}` decoder of the manifest needs {expected}"
    )]
    Shape {
        /// The graph's file.
        file: String,
        /// The tensor.
        tensor: String,
        /// The family.
        family: &'static str,
        /// What the manifest leads to.
        expected: String,
        /// What the graph gives.
        found: String,
    },
    /// The graph names a query that it has no token of.
    #[error(
        "detector `{file}`: query {query} has no row in `{tensor}` of shape {shape:?}: `token_index` names another tensor"
    )]
    NoToken {
        /// The graph's file.
        file: String,
        /// The tensor of tokens.
        tensor: String,
        /// The query asked for.
        query: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
}

/// What a detector says of a picture.
pub struct DetectorOutput {
    /// At most `max_detections`, by falling score, boxes in pixels of the picture and clipped to it; before NMS.
    pub detections: Vec<Detection>,
    /// By head input: the maps `[1, C, h, w]` of the feature taps and, where the manifest names tokens, [`ENTITY_TOKENS`] `[N, D]` with a
    /// row for each of `detections`.
    pub features: Vec<(String, Tensor)>,
}

/// A loaded detector.
pub struct Detector {
    model: Box<dyn Model>,
    spec: DetectorSpec,
    classes: Vec<ObjectClass>,
    decoded: usize,
    token_width: Option<usize>,
}

impl Detector {
    /// Loads the bundle's detector and checks that its tensors fit its family.
    ///
    /// # Errors
    /// [`DetectorError`] naming the file and the tensor.
    pub fn load(engine: &dyn Engine, bundle: &ModelBundle) -> Result<Self, DetectorError> {
        let spec = bundle.manifest().detector.clone();
        let file = spec.file.clone();
        let engine_error = |cause| DetectorError::Engine { file: file.clone(), cause };
        let decoder = spec.decoder.decoder();
        let mut inputs = vec![TensorSpec::f32(&spec.input.name, spec.input.shape.map(Dim::Fixed).to_vec())];
        inputs.extend(decoder.extra_inputs());
        let wanted = decoder.outputs(&spec);
        let mut outputs: Vec<String> = wanted.iter().map(|t| t.name.clone()).collect();
        outputs.extend(decoder.tokens().map(|t| t.tensor.to_owned()));
        outputs.extend(spec.taps.values().cloned());
        let content = bundle.file(&spec.file).unwrap_or_default();
        let model = engine.load(content, &GraphRequest { inputs, outputs }).map_err(engine_error)?;
        let misfit = |name: &str, expected: String, have: &TensorSpec| DetectorError::Shape {
            file: spec.file.clone(),
            tensor: name.to_owned(),
            family: spec.decoder.family(),
            expected,
            found: crate::engine::display_shape(&have.shape),
        };
        for (want, have) in wanted.iter().zip(model.outputs()) {
            let volume = |t: &TensorSpec| {
                t.shape.iter().try_fold(1usize, |n, d| match d {
                    Dim::Fixed(d) => n.checked_mul(*d),
                    Dim::Symbol(_) => None,
                })
            };
            // Dimensions of 1 may stand anywhere: [1, A, 1, 4] is [1, A, 4].
            let squeezed =
                |t: &TensorSpec| -> Vec<Dim> { t.shape.iter().filter(|d| **d != Dim::Fixed(1)).cloned().collect() };
            if volume(want) != volume(have) || squeezed(want) != squeezed(have) {
                return Err(misfit(&want.name, crate::engine::display_shape(&want.shape), have));
            }
        }
        let token_width = match (decoder.tokens(), model.outputs().get(wanted.len())) {
            (Some(tokens), Some(have)) => match have.shape.as_slice() {
                [Dim::Fixed(1), Dim::Fixed(rows), Dim::Fixed(width)]
                    if have.element == ElementType::F32 && tokens.rows.is_none_or(|r| r == *rows) =>
                {
                    Some(*width)
                }
                _ => {
                    let rows = tokens.rows.map_or_else(|| "rows".to_owned(), |r| r.to_string());
                    return Err(misfit(tokens.tensor, format!("f32 [1, {rows}, D]"), have));
                }
            },
            _ => None,
        };
        let classes = spec.classes.iter().filter_map(|n| bundle.vocabulary().object(n)).collect();
        Ok(Self { model, decoded: wanted.len(), spec, classes, token_width })
    }

    /// The `detector` section of the manifest.
    pub fn spec(&self) -> &DetectorSpec {
        &self.spec
    }

    /// Width D of [`ENTITY_TOKENS`]; `None` when the manifest names no tokens.
    pub fn token_width(&self) -> Option<usize> {
        self.token_width
    }

    /// Runs the network on a prepared input and decodes its boxes into pixels of the picture.
    ///
    /// # Errors
    /// [`DetectorError::Engine`] when the engine fails, [`DetectorError::NoToken`] when the graph's `token_index` is none.
    pub fn detect(
        &self,
        input: ArrayD<f32>,
        transform: &Transform,
        picture: Size,
    ) -> Result<DetectorOutput, DetectorError> {
        let decoder = self.spec.decoder.decoder();
        let mut inputs = vec![Tensor::F32(input)];
        inputs.extend(decoder.extra_values(self.spec.input.size()));
        let mut tensors =
            self.model.run(inputs).map_err(|cause| DetectorError::Engine { file: self.spec.file.clone(), cause })?;
        let mut tapped = tensors.split_off(self.decoded).into_iter();
        let tokens = self.token_width.and_then(|_| tapped.next());
        let mut features: Vec<(String, Tensor)> = self.spec.taps.keys().cloned().zip(tapped).collect();
        let tensors: Vec<ArrayD<f32>> = tensors
            .into_iter()
            .map(|t| match t {
                Tensor::F32(a) => a,
                Tensor::I64(a) => a.mapv(|v| v as f32),
            })
            .collect();
        let views: Vec<&ArrayD<f32>> = tensors.iter().collect();
        let mut candidates = decoder.decode(&views, &self.spec);
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(self.spec.max_detections);
        let (detections, queries): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .filter_map(|c| {
                let bbox = transform.image_from_input(&c.box_in_input).clip(picture);
                let class = *self.classes.get(c.class)?;
                let score = c.score.clamp(0.0, 1.0);
                (bbox.is_finite() && bbox.area() > 0.0).then_some((Detection { bbox, class, score }, c.query))
            })
            .unzip();
        if let Some(tokens) = tokens {
            let queries: Vec<usize> = queries.into_iter().flatten().collect();
            features.push((ENTITY_TOKENS.to_owned(), Tensor::F32(self.token_rows(tokens, &queries)?.into_dyn())));
        }
        Ok(DetectorOutput { detections, features })
    }

    /// The rows `queries` of `tokens` `[1, rows, D]`.
    fn token_rows(&self, tokens: Tensor, queries: &[usize]) -> Result<Array2<f32>, DetectorError> {
        let shape = tokens.shape().to_vec();
        let error = |query| DetectorError::NoToken {
            file: self.spec.file.clone(),
            tensor: self.spec.decoder.tokens().unwrap_or_default().to_owned(),
            query,
            shape: shape.clone(),
        };
        let all = match tokens {
            Tensor::F32(a) => a.into_dimensionality::<Ix3>().ok(),
            Tensor::I64(_) => None,
        };
        let all = all.filter(|a| a.dim().0 == 1).ok_or_else(|| error(0))?;
        match queries.iter().find(|&&q| q >= all.dim().1) {
            Some(&query) => Err(error(query)),
            None => Ok(all.index_axis(Axis(0), 0).select(Axis(0), queries)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::ColourOrder;

    /// A detector with a 32 x 32 input and two classes.
    pub(super) fn small(decoder: DecoderSpec) -> DetectorSpec {
        DetectorSpec {
            file: "d.onnx".into(),
            input: InputSpec {
                name: "input".into(),
                shape: [1, 3, 32, 32],
                colour: ColourOrder::Rgb,
                mean: [0.0; 3],
                std: [1.0; 3],
                resize: ResizeRule::Stretch {},
            },
            decoder,
            classes: vec!["person".into(), "cup".into()],
            min_score: 0.3,
            max_detections: 300,
            taps: BTreeMap::new(),
        }
    }

    /// A tensor `[1, rows, columns]`.
    pub(super) fn tensor(rows: &[&[f32]]) -> ArrayD<f32> {
        let columns = rows.first().map_or(0, |r| r.len());
        ArrayD::from_shape_vec(vec![1, rows.len(), columns], rows.concat()).unwrap()
    }

    pub(super) fn decoded(spec: &DetectorSpec, tensors: &[ArrayD<f32>]) -> Vec<(usize, f32, [f32; 4])> {
        let views: Vec<&ArrayD<f32>> = tensors.iter().collect();
        let candidates = spec.decoder.decoder().decode(&views, spec);
        candidates.into_iter().map(|c| (c.class, c.score, c.box_in_input.into())).collect()
    }

    pub(super) fn queries(spec: &DetectorSpec, tensors: &[ArrayD<f32>]) -> Vec<Option<usize>> {
        let views: Vec<&ArrayD<f32>> = tensors.iter().collect();
        spec.decoder.decoder().decode(&views, spec).into_iter().map(|c| c.query).collect()
    }

    #[test]
    fn the_best_column_is_the_first_of_the_largest_finite() {
        let best = |row: &[f32]| best_column(row.iter().copied().enumerate());
        assert_eq!(best(&[0.1, 0.9, 0.9]), Some((1, 0.9)));
        assert_eq!(best(&[f32::NAN, 0.2, f32::INFINITY]), Some((1, 0.2)));
        assert_eq!(best(&[f32::NAN]), None);
        assert_eq!(best(&[]), None);
    }
}
