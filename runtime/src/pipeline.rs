//! The way of a frame: picture -> detections -> pairs -> logits -> triplets, each step timed.

use std::time::Instant;

use serde::Serialize;

use crate::bundle::ModelBundle;
use crate::detector::{Detection, Detector, DetectorError};
use crate::engine::Engine;
use crate::fusion::{Factors, Fusion, FusionError};
use crate::geometry::Size;
use crate::interaction::{InteractionError, InteractionHead};
use crate::pairing::{PairingSpec, candidate_pairs, select_entity_indices};
use crate::preprocess::prepare;
use crate::source::Frame;
use crate::vocabulary::{Verb, Vocabulary};

/// What commands leave out unless told otherwise. With `detr_prior` and a power of 2.8 a verb of 0.6 passes it from human and object
/// scores of about 0.65 each on.
pub const DEFAULT_MIN_SCORE: f32 = 0.05;

/// Who does what to what.
#[derive(Clone, Debug, PartialEq)]
pub struct HoiTriplet {
    /// Who; the box in pixels of the original picture.
    pub human: Detection,
    /// Does what.
    pub verb: Verb,
    /// To what; `None` where the interaction has no object in the vocabulary.
    pub object: Option<Detection>,
    /// Score in `[0, 1]`.
    pub score: f32,
    /// What the score is the product of, before calibration where there is one.
    pub factors: Factors,
}

/// What the pipeline says of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameResult {
    /// Size of the picture.
    pub size: Size,
    /// By falling score.
    pub triplets: Vec<HoiTriplet>,
    /// The entities (after NMS and the bounds of the pairing), by falling score; boxes in pixels of the original picture.
    pub detections: Vec<Detection>,
    /// How long each step took.
    pub timings: Timings,
}

/// Milliseconds of each step of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Reading and decoding the picture.
    pub decode: f64,
    /// Picture to input tensor.
    pub preprocess: f64,
    /// Detector network and decoding of its boxes.
    pub detector: f64,
    /// NMS, choice of entities, pairs.
    pub pairs: f64,
    /// Spatial encoding, masks and interaction head.
    pub head: f64,
    /// Scores, validity, triplet NMS.
    pub fusion: f64,
    /// All of the above.
    pub total: f64,
}

/// Why a pipeline could not be made or a frame not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The detector.
    #[error(transparent)]
    Detector(#[from] DetectorError),
    /// The interaction head.
    #[error(transparent)]
    Interaction(#[from] InteractionError),
    /// The scoring rule.
    #[error(transparent)]
    Fusion(#[from] FusionError),
}

/// A bundle made ready: frames in, triplets out. Shareable between threads.
pub struct HoiPipeline {
    detector: Detector,
    head: InteractionHead,
    vocabulary: Vocabulary,
    pairing: PairingSpec,
    fusion: Fusion,
}

impl HoiPipeline {
    /// Loads both networks of a bundle.
    ///
    /// # Errors
    /// [`PipelineError`] naming the file and what does not fit.
    pub fn new(bundle: &ModelBundle, engine: &dyn Engine) -> Result<Self, PipelineError> {
        let detector = Detector::load(engine, bundle)?;
        let head = InteractionHead::load(engine, bundle)?;
        head.check_detector(&detector)?;
        let fusion = Fusion::new(&bundle.manifest().fusion, bundle.vocabulary())?;
        Ok(Self {
            detector,
            head,
            vocabulary: bundle.vocabulary().clone(),
            pairing: bundle.manifest().pairing.clone(),
            fusion,
        })
    }

    /// Classes and verbs of the answers.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The detector, for callers that want its boxes alone.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// Which detections become entities.
    pub fn pairing(&self) -> &PairingSpec {
        &self.pairing
    }

    /// The interaction head, for callers that bring boxes of their own.
    pub fn head(&self) -> &InteractionHead {
        &self.head
    }

    /// Answers a frame. A picture without a person has no triplets, nor has one with one person and nothing else, unless the vocabulary
    /// has verbs without an object.
    ///
    /// # Errors
    /// [`PipelineError`] when a network fails; the pipeline stays usable.
    pub fn run(&self, frame: &Frame) -> Result<FrameResult, PipelineError> {
        let mut clock = Clock::new();
        let size = Size::new(frame.pixels.width(), frame.pixels.height());
        let (input, transform) = prepare(&frame.pixels, &self.detector.spec().input);
        let preprocess = clock.lap();
        let output = self.detector.detect(input, &transform, size)?;
        let detector = clock.lap();
        let mut result = self.interactions(&output.detections, &output.features, size)?;
        let timings = &mut result.timings;
        timings.decode = frame.decode_ms;
        timings.preprocess = preprocess;
        timings.detector = detector;
        timings.total = timings.decode + preprocess + detector + timings.pairs + timings.head + timings.fusion;
        Ok(result)
    }

    /// Everything after the detector: detections in pixels of a picture of size `size`, before NMS, to triplets.
    ///
    /// `features` as [`DetectorOutput::features`](crate::detector::DetectorOutput): tokens have a row for each of `detections`.
    ///
    /// # Errors
    /// [`PipelineError::Interaction`] when the head fails, [`PipelineError::Fusion`] when its outputs do not fit the scoring rule.
    pub fn interactions(
        &self,
        detections: &[Detection],
        features: &[(String, crate::engine::Tensor)],
        size: Size,
    ) -> Result<FrameResult, PipelineError> {
        let mut clock = Clock::new();
        let human = self.vocabulary.human();
        let chosen = select_entity_indices(detections, human, &self.pairing);
        let entities: Vec<Detection> = chosen.iter().map(|&i| detections[i].clone()).collect();
        let pairs = candidate_pairs(&entities, &self.vocabulary);
        let pairs_ms = clock.lap();
        let output = self.head.run_on_rows(&entities, &pairs, size, features, &chosen)?;
        let head_ms = clock.lap();
        let triplets = self
            .fusion
            .fuse(&entities, &pairs, &output)?
            .into_iter()
            .map(|t| HoiTriplet {
                human: entities[t.human].clone(),
                verb: t.verb,
                object: t.object.map(|o| entities[o].clone()),
                score: t.score,
                factors: t.factors,
            })
            .collect();
        let mut detections = entities;
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let timings = Timings { pairs: pairs_ms, head: head_ms, fusion: clock.lap(), ..Timings::default() };
        Ok(FrameResult { size, triplets, detections, timings })
    }
}

/// Measures laps in milliseconds.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now.duration_since(self.0).as_secs_f64() * 1e3;
        self.0 = now;
        lap
    }
}
