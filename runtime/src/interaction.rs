//! The interaction head: pairs and features in; verb logits, relatedness and what the whole picture shows out.

use ndarray::{Array1, Array2, ArrayD, Axis, Ix1, Ix2};

use crate::bundle::ModelBundle;
use crate::detector::{Detection, Detector, ENTITY_TOKENS, is_feature};
use crate::engine::{Dim, Engine, EngineError, GraphRequest, Model, Tensor, TensorSpec, display_shape};
use crate::geometry::{BBox, Size};
use crate::pairing::HumanObjectPair;
use crate::spatial::{FeatureGrid, SPATIAL_LEN, entity_masks, pair_masks, spatial_encoding, upper_masks};
use crate::vocabulary::ObjectClass;

/// The output `[P, V]` that every head has: a logit for each pair and verb.
pub const VERB_LOGITS: &str = "verb_logits";
/// The output `[P]`: a logit for each pair, whether its human and object have to do with each other.
pub const RELATEDNESS: &str = "relatedness";
/// The output `[I]`: a logit for each interaction that the fusion rule lists, whether the picture shows it.
pub const IMAGE_LOGITS: &str = "image_logits";

/// Why a head could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InteractionError {
    /// The graph does not load or run.
    #[error("interaction head `{file}`: {cause}")]
    Engine {
        /// The graph's file.
        file: String,
        /// What the engine says.
        cause: EngineError,
    },
    /// An input or output that is not in the head's contract, or of another shape.
    #[error("interaction head `{file}`: `{name}` {found}: the contract has {expected}")]
    Contract {
        /// The graph's file.
        file: String,
        /// The input or output.
        name: String,
        /// What the manifest says.
        found: String,
        /// What the contract says.
        expected: String,
    },
    /// A feature map that the head wants and the detector does not give.
    #[error("interaction head `{file}`: it takes `{name}`, which the detector's `taps` do not give")]
    MissingFeature {
        /// The graph's file.
        file: String,
        /// The input.
        name: String,
    },
    /// Tokens that the head wants and the detector does not give.
    #[error("interaction head `{file}`: it takes `entity_tokens`, and the detector's `decoder` names no `tokens`")]
    MissingTokens {
        /// The graph's file.
        file: String,
    },
    /// Tokens of another width than the head's.
    #[error("interaction head `{file}`: it takes tokens of width {expected}, the detector's are {found} wide")]
    TokenWidth {
        /// The graph's file.
        file: String,
        /// The head's width.
        expected: usize,
        /// The detector's width.
        found: usize,
    },
    /// A question that the head was not made for.
    #[error(
        "interaction head `{file}`: it says nothing of objects that were not found (`head.answers_unplaced` is not set)"
    )]
    NoAnswer {
        /// The graph's file.
        file: String,
    },
    /// The head answered with a number that is none.
    #[error("interaction head `{file}`: logit {verb} of pair {pair} is {value}: its weights are damaged")]
    NotFinite {
        /// The graph's file.
        file: String,
        /// Row.
        pair: usize,
        /// Column.
        verb: usize,
        /// The value.
        value: f32,
    },
    /// The same of an output with one value a pair or interaction.
    #[error("interaction head `{file}`: value {index} of `{output}` is {value}: its weights are damaged")]
    OutputNotFinite {
        /// The graph's file.
        file: String,
        /// `relatedness` or `image_logits`.
        output: &'static str,
        /// Position.
        index: usize,
        /// The value.
        value: f32,
    },
}

/// What a head says of a picture's pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadOutput {
    /// `[P, V]`: a logit for each pair and verb.
    pub verb_logits: Array2<f32>,
    /// `[P]`: relatedness logits; `None` where the head has no such output.
    pub relatedness: Option<Array1<f32>>,
    /// `[I]`: logits of the whole picture; `None` where the head has no such output, or there was no pair and the graph was not run.
    pub image_logits: Option<Array1<f32>>,
}

/// Verb logits `[P, V]` alone.
impl From<Array2<f32>> for HeadOutput {
    fn from(verb_logits: Array2<f32>) -> Self {
        Self { verb_logits, relatedness: None, image_logits: None }
    }
}

/// A loaded interaction head.
pub struct InteractionHead {
    model: Box<dyn Model>,
    file: String,
    inputs: Vec<TensorSpec>,
    /// In the order in which the graph gives them.
    outputs: Vec<String>,
    verbs: usize,
    answers_unplaced: bool,
}

/// Whether `found` has the contract's element type, rank, and numbers where the contract has numbers.
fn fits(found: &TensorSpec, contract: &TensorSpec) -> bool {
    let same = |(a, b): (&Dim, &Dim)| match b {
        Dim::Fixed(_) => a == b,
        Dim::Symbol(_) => matches!(a, Dim::Symbol(_)),
    };
    found.element == contract.element
        && found.shape.len() == contract.shape.len()
        && found.shape.iter().zip(&contract.shape).all(same)
}

/// The shape that the contract gives an input, `None` for a name it does not know. `feature` maps are checked by rank only.
fn contract(name: &str, spec: &TensorSpec) -> Option<TensorSpec> {
    let symbol = |s: &str| Dim::Symbol(s.to_owned());
    // Names of the symbols are free; only which dimensions are symbolic is part of the contract.
    let first = spec.shape.first().cloned().filter(|d| matches!(d, Dim::Symbol(_)));
    let rows = |s| first.clone().unwrap_or_else(|| symbol(s));
    Some(match name {
        "entity_masks" | "upper_masks" => TensorSpec::f32(name, vec![rows("N"), spec.shape.get(1).cloned()?]),
        "pair_masks" | "union_masks" => TensorSpec::f32(name, vec![rows("P"), spec.shape.get(1).cloned()?]),
        "human_index" | "object_index" | "object_class" => TensorSpec::i64(name, vec![rows("P")]),
        "pairs_of_human" | "pairs_of_object" => {
            let pairs = spec.shape.get(1).cloned().filter(|d| matches!(d, Dim::Symbol(_)));
            TensorSpec::f32(name, vec![rows("N"), pairs.unwrap_or_else(|| symbol("P"))])
        }
        "spatial" => TensorSpec::f32(name, vec![rows("P"), Dim::Fixed(SPATIAL_LEN)]),
        ENTITY_TOKENS => {
            let width = spec.shape.get(1).filter(|d| matches!(d, Dim::Fixed(_))).cloned();
            TensorSpec::f32(name, vec![rows("N"), width.unwrap_or_else(|| symbol("D (a number)"))])
        }
        _ if is_feature(name) => {
            let [one, c, h, w] = spec.shape.as_slice() else { return None };
            (*one == Dim::Fixed(1))
                .then(|| TensorSpec::f32(name, vec![one.clone(), c.clone(), h.clone(), w.clone()]))?
        }
        _ => return None,
    })
}

impl InteractionHead {
    /// Loads the bundle's head and checks its inputs and outputs against the contract.
    ///
    /// # Errors
    /// [`InteractionError`] naming file, input and what the contract has.
    pub fn load(engine: &dyn Engine, bundle: &ModelBundle) -> Result<Self, InteractionError> {
        let spec = &bundle.manifest().head;
        let file = spec.file.clone();
        let broken = |name: &str, found: String, expected: &str| InteractionError::Contract {
            file: file.clone(),
            name: name.to_owned(),
            found,
            expected: expected.to_owned(),
        };
        for input in &spec.inputs {
            let found = || format!("is {} {}", input.element, display_shape(&input.shape));
            match contract(&input.name, input) {
                None => {
                    return Err(broken(
                        &input.name,
                        found(),
                        "feature, feature_1.. [1, C, h, w], entity_masks, upper_masks, pair_masks, union_masks, human_index, object_index, pairs_of_human, pairs_of_object, spatial, object_class, entity_tokens [N, D]",
                    ));
                }
                Some(want) if want != *input => {
                    return Err(broken(
                        &input.name,
                        found(),
                        &format!("{} {}", want.element, display_shape(&want.shape)),
                    ));
                }
                Some(_) => {}
            }
            if is_feature(&input.name) && !bundle.manifest().detector.taps.contains_key(&input.name) {
                return Err(InteractionError::MissingFeature { file, name: input.name.clone() });
            }
            if input.name == ENTITY_TOKENS && bundle.manifest().detector.decoder.tokens().is_none() {
                return Err(InteractionError::MissingTokens { file });
            }
        }
        for (i, input) in spec.inputs.iter().enumerate() {
            if spec.inputs[..i].iter().any(|other| other.name == input.name) {
                return Err(broken(&input.name, "is listed twice".into(), "each input once"));
            }
            let taps = &bundle.manifest().detector.taps;
            if matches!(input.name.as_str(), "entity_masks" | "upper_masks" | "pair_masks" | "union_masks")
                && !taps.contains_key("feature")
            {
                return Err(InteractionError::MissingFeature { file, name: "feature".into() });
            }
        }
        let verbs = bundle.vocabulary().verb_count();
        let fusion = &bundle.manifest().fusion;
        let contract = fusion.head_outputs(verbs);
        let describe = |t: &TensorSpec| format!("{} {}", t.element, display_shape(&t.shape));
        let meaning = |t: &TensorSpec| match t.name.as_str() {
            VERB_LOGITS => format!("{}, a column for each verb of the vocabulary", describe(t)),
            IMAGE_LOGITS => format!("{}, one for each of fusion.interactions", describe(t)),
            _ => format!("{}, one for each pair", describe(t)),
        };
        let mut wanted = Vec::with_capacity(spec.outputs.len());
        for (i, output) in spec.outputs.iter().enumerate() {
            if spec.outputs[..i].iter().any(|other| other.name == output.name) {
                return Err(broken(&output.name, "is listed twice".into(), "each output once"));
            }
            match contract.iter().find(|c| c.name == output.name) {
                None => {
                    let names: Vec<_> = contract.iter().map(|c| c.name.as_str()).collect();
                    let expected =
                        format!("{} alone: the fusion rule `{}` uses no other", names.join(", "), fusion.rule());
                    return Err(broken(&output.name, "is listed as an output".into(), &expected));
                }
                Some(want) if !fits(output, want) => {
                    return Err(broken(&output.name, format!("is {}", describe(output)), &meaning(want)));
                }
                Some(want) => wanted.push(want),
            }
        }
        if !spec.outputs.iter().any(|o| o.name == VERB_LOGITS) {
            return Err(broken(VERB_LOGITS, "is missing".into(), &meaning(&contract[0])));
        }
        let outputs: Vec<String> = spec.outputs.iter().map(|o| o.name.clone()).collect();
        let request = GraphRequest { inputs: spec.inputs.clone(), outputs: outputs.clone() };
        let model = engine
            .load(bundle.file(&spec.file).unwrap_or_default(), &request)
            .map_err(|cause| InteractionError::Engine { file: file.clone(), cause })?;
        for (have, want) in model.outputs().iter().zip(wanted) {
            if !fits(have, want) {
                return Err(broken(&want.name, format!("is {} in the graph", describe(have)), &meaning(want)));
            }
        }
        let answers_unplaced = spec.answers_unplaced;
        Ok(Self { model, file, inputs: spec.inputs.clone(), outputs, verbs, answers_unplaced })
    }

    /// Checks what only the loaded detector can say: that its tokens are as wide as the head's.
    ///
    /// # Errors
    /// [`InteractionError::MissingTokens`], [`InteractionError::TokenWidth`].
    pub fn check_detector(&self, detector: &Detector) -> Result<(), InteractionError> {
        let wanted = self.inputs.iter().find(|i| i.name == ENTITY_TOKENS).and_then(|i| i.shape.get(1));
        let Some(Dim::Fixed(expected)) = wanted else { return Ok(()) };
        match detector.token_width() {
            None => Err(InteractionError::MissingTokens { file: self.file.clone() }),
            Some(found) if found != *expected => {
                Err(InteractionError::TokenWidth { file: self.file.clone(), expected: *expected, found })
            }
            Some(_) => Ok(()),
        }
    }

    /// What the head says of the pairs, in their order. No pairs: empty arrays, and the graph is not run.
    ///
    /// `entities` in pixels of a picture of size `picture`; `features` by head input: the detector's taps and, where the head takes
    /// them, [`ENTITY_TOKENS`] `[N, D]`, a row for each of `entities`.
    ///
    /// # Errors
    /// [`InteractionError`] when a feature is missing, the engine fails, or a value is not finite.
    pub fn run(
        &self,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        picture: Size,
        features: &[(String, Tensor)],
    ) -> Result<HeadOutput, InteractionError> {
        let rows: Vec<usize> = (0..entities.len()).collect();
        let given = features.iter().find(|(n, _)| n == ENTITY_TOKENS).and_then(|(_, t)| t.shape().first());
        if let Some(given) = given.filter(|g| **g != rows.len()) {
            return Err(self.token_rows(*given, rows.len()));
        }
        self.run_on_rows(entities, pairs, picture, features, &rows)
    }

    /// As [`InteractionHead::run`], with tokens of more than the entities: entity `i` has row `rows[i]` of [`ENTITY_TOKENS`].
    pub(crate) fn run_on_rows(
        &self,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        picture: Size,
        features: &[(String, Tensor)],
        rows: &[usize],
    ) -> Result<HeadOutput, InteractionError> {
        let classes: Vec<ObjectClass> = pairs.iter().map(|p| entities[p.object].class).collect();
        self.run_with_classes(entities, pairs, &classes, picture, features, rows)
    }

    /// Whether the head answers [`InteractionHead::ask`].
    pub fn answers_unplaced(&self) -> bool {
        self.answers_unplaced
    }

    /// What the head says of humans and objects that were not found: each question is the index of a human and the class of the object,
    /// whose place is not known; the human's own class asks for what needs no object. Verb logits `[Q, V]`.
    ///
    /// # Errors
    /// [`InteractionError::NoAnswer`] when the head cannot say that ([`InteractionHead::answers_unplaced`]); as [`InteractionHead::run`].
    pub fn ask(
        &self,
        entities: &[Detection],
        questions: &[(usize, ObjectClass)],
        picture: Size,
        features: &[(String, Tensor)],
    ) -> Result<Array2<f32>, InteractionError> {
        if !self.answers_unplaced {
            return Err(InteractionError::NoAnswer { file: self.file.clone() });
        }
        let rows: Vec<usize> = (0..entities.len()).collect();
        let (pairs, classes): (Vec<_>, Vec<_>) =
            questions.iter().map(|&(human, class)| (HumanObjectPair { human, object: human }, class)).unzip();
        Ok(self.run_with_classes(entities, &pairs, &classes, picture, features, &rows)?.verb_logits)
    }

    fn run_with_classes(
        &self,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        classes: &[ObjectClass],
        picture: Size,
        features: &[(String, Tensor)],
        rows: &[usize],
    ) -> Result<HeadOutput, InteractionError> {
        if pairs.is_empty() {
            let relatedness = self.outputs.iter().any(|o| o == RELATEDNESS).then(|| Array1::zeros(0));
            return Ok(HeadOutput { verb_logits: Array2::zeros((0, self.verbs)), relatedness, image_logits: None });
        }
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for spec in &self.inputs {
            inputs.push(match spec.name.as_str() {
                ENTITY_TOKENS => Tensor::F32(self.tokens(features, rows)?.into_dyn()),
                "object_class" => {
                    Tensor::I64(classes.iter().map(|c| i64::from(c.0)).collect::<Array1<i64>>().into_dyn())
                }
                _ => self.input(spec, entities, pairs, picture, features)?,
            });
        }
        let engine = |cause| InteractionError::Engine { file: self.file.clone(), cause };
        let outputs = self.model.run(inputs).map_err(engine)?;
        let mut named: Vec<(&str, Tensor)> = self.outputs.iter().map(String::as_str).zip(outputs).collect();
        let mut take = |name: &str| {
            let found = named.iter().position(|(n, _)| *n == name)?;
            match named.swap_remove(found).1 {
                Tensor::F32(a) => Some(a),
                Tensor::I64(_) => None,
            }
        };
        let wrong = |reason| engine(EngineError::Run { reason });
        let logits = take(VERB_LOGITS).and_then(|a| a.into_dimensionality::<Ix2>().ok());
        let logits = logits
            .filter(|l| l.dim() == (pairs.len(), self.verbs))
            .ok_or_else(|| wrong(format!("verb_logits is not [{}, {}]", pairs.len(), self.verbs)))?;
        // In memory order: with indices, the look at each value costs more than some layers.
        if !logits.iter().all(|v| v.is_finite())
            && let Some(((pair, verb), &value)) = logits.indexed_iter().find(|(_, v)| !v.is_finite())
        {
            return Err(InteractionError::NotFinite { file: self.file.clone(), pair, verb, value });
        }
        let mut vector = |output: &'static str| {
            let Some(values) = take(output) else { return Ok(None) };
            let shape = values.shape().to_vec();
            let values = values
                .into_dimensionality::<Ix1>()
                .map_err(|_| wrong(format!("{output} is {shape:?}, not one row of values")))?;
            match values.iter().position(|v| !v.is_finite()) {
                Some(index) => {
                    let (file, value) = (self.file.clone(), values[index]);
                    Err(InteractionError::OutputNotFinite { file, output, index, value })
                }
                None => Ok(Some(values)),
            }
        };
        let (relatedness, image_logits) = (vector(RELATEDNESS)?, vector(IMAGE_LOGITS)?);
        Ok(HeadOutput { verb_logits: logits, relatedness, image_logits })
    }

    fn input(
        &self,
        spec: &TensorSpec,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        picture: Size,
        features: &[(String, Tensor)],
    ) -> Result<Tensor, InteractionError> {
        let indices =
            |f: &dyn Fn(&HumanObjectPair) -> i64| Tensor::I64(pairs.iter().map(f).collect::<Array1<i64>>().into_dyn());
        let incidence = |f: &dyn Fn(&HumanObjectPair) -> usize| {
            let mut rows = Array2::zeros((entities.len(), pairs.len()));
            pairs.iter().enumerate().for_each(|(m, p)| rows[[f(p), m]] = 1.0);
            Tensor::F32(rows.into_dyn())
        };
        let boxes = || -> Vec<BBox> { entities.iter().map(|e| e.bbox).collect() };
        Ok(match spec.name.as_str() {
            "spatial" => {
                let mut spatial = Array2::zeros((pairs.len(), SPATIAL_LEN));
                for (mut row, pair) in spatial.rows_mut().into_iter().zip(pairs) {
                    let encoding = spatial_encoding(&entities[pair.human].bbox, &entities[pair.object].bbox, picture);
                    row.iter_mut().zip(encoding).for_each(|(r, e)| *r = e);
                }
                Tensor::F32(spatial.into_dyn())
            }
            "human_index" => indices(&|p| p.human as i64),
            "object_index" => indices(&|p| p.object as i64),
            "pairs_of_human" => incidence(&|p| p.human),
            "pairs_of_object" => incidence(&|p| p.object),
            "entity_masks" => Tensor::F32(entity_masks(&boxes(), self.grid(features, picture)?).into_dyn()),
            "upper_masks" => Tensor::F32(upper_masks(&boxes(), self.grid(features, picture)?).into_dyn()),
            "pair_masks" => {
                let boxes: Vec<_> = pairs.iter().map(|p| (entities[p.human].bbox, entities[p.object].bbox)).collect();
                Tensor::F32(pair_masks(&boxes, self.grid(features, picture)?).into_dyn())
            }
            "union_masks" => {
                let both = |p: &HumanObjectPair| entities[p.human].bbox.enclosing(&entities[p.object].bbox);
                let boxes: Vec<BBox> = pairs.iter().map(both).collect();
                Tensor::F32(entity_masks(&boxes, self.grid(features, picture)?).into_dyn())
            }
            name => Tensor::F32(self.feature(features, name)?.clone()),
        })
    }

    /// Tokens of the entities `[N, D]`: the given rows of the detector's.
    fn tokens(&self, features: &[(String, Tensor)], rows: &[usize]) -> Result<Array2<f32>, InteractionError> {
        let found = features.iter().find(|(n, _)| n == ENTITY_TOKENS).and_then(|(_, t)| t.as_f32());
        let all = found
            .and_then(|t| t.view().into_dimensionality::<Ix2>().ok())
            .ok_or_else(|| InteractionError::MissingTokens { file: self.file.clone() })?;
        match rows.iter().find(|&&r| r >= all.nrows()) {
            Some(row) => Err(self.token_rows(all.nrows(), row + 1)),
            None => Ok(all.select(Axis(0), rows)),
        }
    }

    fn token_rows(&self, found: usize, expected: usize) -> InteractionError {
        InteractionError::Contract {
            file: self.file.clone(),
            name: ENTITY_TOKENS.into(),
            found: format!("has {found} rows for {expected} detections"),
            expected: "a row for each".into(),
        }
    }

    fn feature<'f>(&self, features: &'f [(String, Tensor)], name: &str) -> Result<&'f ArrayD<f32>, InteractionError> {
        features
            .iter()
            .find(|(n, _)| n == name)
            .and_then(|(_, t)| t.as_f32())
            .ok_or_else(|| InteractionError::MissingFeature { file: self.file.clone(), name: name.to_owned() })
    }

    /// The cells that masks are laid over: those of `feature`. Its map covers the whole picture (stretch) by contract.
    fn grid(&self, features: &[(String, Tensor)], picture: Size) -> Result<FeatureGrid, InteractionError> {
        let shape = self.feature(features, "feature")?.shape();
        match shape {
            [1, _, rows, columns] => Ok(FeatureGrid { columns: *columns, rows: *rows, picture }),
            _ => Err(InteractionError::Contract {
                file: self.file.clone(),
                name: "feature".into(),
                found: format!("is {shape:?}"),
                expected: "[1, C, h, w]".into(),
            }),
        }
    }
}
