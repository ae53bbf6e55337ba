//! The JSON object of a frame, schema `hoi.frame/1`: what `hoi detect --json` prints, boards send over serial lines and services answer.

use serde::Serialize;

use crate::detector::Detection;
use crate::fusion::Factors;
use crate::geometry::BBox;
use crate::pipeline::{FrameResult, Timings};
use crate::source::Frame;
use crate::vocabulary::{ObjectClass, Vocabulary};

/// The schema's name and version. A key is added without a new version; one that changes its meaning or goes gets a new one.
pub const FRAME_SCHEMA: &str = "hoi.frame/1";

/// A frame's answer, ready to be written as one line of JSON. Boxes are xyxy in pixels of the original picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameRecord {
    /// [`FRAME_SCHEMA`].
    pub schema: &'static str,
    /// Where the picture comes from, as a URI.
    pub source: String,
    /// Position in the run, from 0.
    pub frame: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// By falling score, cut at the least score.
    pub triplets: Vec<TripletRecord>,
    /// By falling score, cut at the least score.
    pub detections: Vec<DetectionRecord>,
    /// Milliseconds of each step.
    pub timings_ms: Timings,
}

/// Who does what to what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TripletRecord {
    /// Who.
    pub human: PersonRecord,
    /// Does what, as the data set writes it: `sit_on`.
    pub verb: String,
    /// To what; `null` where the interaction has no object in the vocabulary.
    pub object: Option<ObjectRecord>,
    /// Score in `[0, 1]`.
    pub score: f32,
    /// What the score is the product of, or was before calibration, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factors: Option<Factors>,
    /// The product, with `factors` and where the score is another number: the bundle calibrates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<f32>,
}

/// The human of a triplet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PersonRecord {
    /// xyxy.
    #[serde(rename = "box")]
    pub bbox: [f64; 4],
    /// The detector's score.
    pub score: f32,
}

/// The object of a triplet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectRecord {
    /// As the data set writes it: `cell phone`.
    pub class: String,
    /// xyxy.
    #[serde(rename = "box")]
    pub bbox: [f64; 4],
    /// The detector's score.
    pub score: f32,
}

/// A detection.
pub type DetectionRecord = ObjectRecord;

impl FrameRecord {
    /// The record of `result`, with triplets and detections below `min_score` left out.
    pub fn new(frame: &Frame, result: &FrameResult, vocabulary: &Vocabulary, min_score: f32) -> Self {
        let name = |class: ObjectClass| vocabulary.object_name(class).unwrap_or("?").to_owned();
        let object = |d: &Detection| ObjectRecord { class: name(d.class), bbox: rounded(&d.bbox), score: d.score };
        Self {
            schema: FRAME_SCHEMA,
            source: frame.source.clone(),
            frame: frame.index,
            width: result.size.width,
            height: result.size.height,
            triplets: result
                .triplets
                .iter()
                .filter(|t| t.score >= min_score)
                .map(|t| TripletRecord {
                    human: PersonRecord { bbox: rounded(&t.human.bbox), score: t.human.score },
                    verb: vocabulary.verb_name(t.verb).unwrap_or("?").to_owned(),
                    object: t.object.as_ref().map(object),
                    score: t.score,
                    factors: None,
                    product: None,
                })
                .collect(),
            detections: result.detections.iter().filter(|d| d.score >= min_score).map(object).collect(),
            timings_ms: result.timings.rounded(),
        }
    }

    /// As [`FrameRecord::new`], with the factors of each triplet's score.
    pub fn explained(frame: &Frame, result: &FrameResult, vocabulary: &Vocabulary, min_score: f32) -> Self {
        let mut record = Self::new(frame, result, vocabulary, min_score);
        let shown = result.triplets.iter().filter(|t| t.score >= min_score);
        for (t, from) in record.triplets.iter_mut().zip(shown) {
            let product = from.factors.product();
            t.factors = Some(from.factors);
            t.product = (product != from.score).then_some(product);
        }
        record
    }
}

/// Hundredths of a pixel.
fn rounded(b: &BBox) -> [f64; 4] {
    <[f32; 4]>::from(*b).map(|v| (f64::from(v) * 100.0).round() / 100.0)
}

impl Timings {
    /// Microseconds.
    fn rounded(&self) -> Self {
        let r = |ms: f64| (ms * 1e3).round() / 1e3;
        Self {
            decode: r(self.decode),
            preprocess: r(self.preprocess),
            detector: r(self.detector),
            pairs: r(self.pairs),
            head: r(self.head),
            fusion: r(self.fusion),
            total: r(self.total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::pipeline::HoiTriplet;
    use crate::vocabulary::{Verb, VocabularySpec};

    #[test]
    fn the_record_is_the_documented_json() {
        let vocabulary = Vocabulary::new(VocabularySpec {
            human: "person".into(),
            objects: vec!["person".into(), "cell phone".into()],
            verbs: vec!["talk_on".into()],
            background_verb: None,
            valid: Default::default(),
            alone: vec!["talk_on".into()],
        })
        .unwrap();
        let detection =
            |class, score| Detection { bbox: BBox::new(1.004, 2.0, 30.5, 40.0), class: ObjectClass(class), score };
        let triplet = |object, score| HoiTriplet {
            human: detection(0, 0.5),
            verb: Verb(0),
            object,
            score,
            factors: Factors::DetrPrior { verb: score, prior: 1.0 },
        };
        let result = FrameResult {
            size: Size::new(64, 48),
            triplets: vec![triplet(Some(detection(1, 0.25)), 0.75), triplet(None, 0.5), triplet(None, 0.125)],
            detections: vec![detection(0, 0.5), detection(1, 0.25)],
            timings: Timings { decode: 1.23456, total: 2.0, ..Timings::default() },
        };
        let frame =
            Frame { pixels: image::RgbImage::new(64, 48), source: "file://a.jpg".into(), index: 3, decode_ms: 1.0 };
        let record = FrameRecord::new(&frame, &result, &vocabulary, 0.3);
        let expected = concat!(
            r#"{"schema":"hoi.frame/1","source":"file://a.jpg","frame":3,"width":64,"height":48,"triplets":["#,
            r#"{"human":{"box":[1.0,2.0,30.5,40.0],"score":0.5},"verb":"talk_on","#,
            r#""object":{"class":"cell phone","box":[1.0,2.0,30.5,40.0],"score":0.25},"score":0.75},"#,
            r#"{"human":{"box":[1.0,2.0,30.5,40.0],"score":0.5},"verb":"talk_on","object":null,"score":0.5}],"#,
            r#""detections":[{"class":"person","box":[1.0,2.0,30.5,40.0],"score":0.5}],"#,
            r#""timings_ms":{"decode":1.235,"preprocess":0.0,"detector":0.0,"pairs":0.0,"head":0.0,"fusion":0.0,"total":2.0}}"#,
        );
        assert_eq!(serde_json::to_string(&record).unwrap(), expected);

        let explained = FrameRecord::explained(&frame, &result, &vocabulary, 0.3);
        let expected = expected
            .replace(r#""score":0.75}"#, r#""score":0.75,"factors":{"verb":0.75,"prior":1.0}}"#)
            .replace(r#"null,"score":0.5}"#, r#"null,"score":0.5,"factors":{"verb":0.5,"prior":1.0}}"#);
        assert_eq!(serde_json::to_string(&explained).unwrap(), expected);
    }
}
