//! The rules as a whole, against hand-computed values and a double-precision reference.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, Axis};

use super::*;
use crate::geometry::BBox;
use crate::pairing::{candidate_pairs, pair_entities};
use crate::vocabulary::VocabularySpec;

const NMS: TripletNms = TripletNms { iou: 0.7, human_power: 1.0, object_power: 0.5 };
const PERSON: ObjectClass = ObjectClass(0);

fn spec() -> VocabularySpec {
    VocabularySpec {
        human: "person".into(),
        objects: vec!["person".into(), "bicycle".into()],
        verbs: ["hold", "no_interaction", "ride", "eat", "wave"].map(String::from).to_vec(),
        background_verb: Some("no_interaction".into()),
        valid: BTreeMap::from([
            ("bicycle".into(), vec!["hold".into(), "no_interaction".into(), "ride".into()]),
            ("person".into(), vec!["hold".into()]),
        ]),
        alone: Vec::new(),
    }
}

/// With `wave` and `hold` as verbs without an object.
fn with_alone() -> Vocabulary {
    Vocabulary::new(VocabularySpec { alone: vec!["wave".into(), "hold".into(), "no_interaction".into()], ..spec() })
        .unwrap()
}

fn vocabulary() -> Vocabulary {
    Vocabulary::new(spec()).unwrap()
}

fn entity(class: u16, x: f32, score: f32) -> Detection {
    Detection { bbox: BBox::new(x, 0.0, x + 10.0, 20.0), class: ObjectClass(class), score }
}

fn detr(lambda: f32) -> FusionSpec {
    FusionSpec::DetrPrior { lambda, triplet_nms: NMS, max_triplets: 100, calibration: None }
}

/// A column for every interaction of [`with_alone`] but `[hold, person]`, in no particular order.
fn interactions() -> Vec<(String, Option<String>)> {
    [("wave", None), ("ride", Some("bicycle")), ("hold", None), ("hold", Some("bicycle")), ("eat", Some("bicycle"))]
        .map(|(verb, object)| (verb.to_owned(), object.map(str::to_owned)))
        .to_vec()
}

fn weakly(interactions: Option<Vec<(String, Option<String>)>>) -> FusionSpec {
    FusionSpec::Weakly { gamma: 2.8, triplet_nms: None, max_triplets: 10_000, interactions, calibration: None }
}

/// Numbers in `[-1, 1)` that are the same at every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

#[test]
fn only_valid_verbs_are_scored_and_background_is_silent() {
    let entities = [entity(0, 0.0, 1.0), entity(1, 5.0, 0.5), entity(0, 40.0, 1.0)];
    let mut vocabulary = spec();
    vocabulary.valid.remove("person");
    let vocabulary = Vocabulary::new(vocabulary).unwrap();
    let pairs = pair_entities(&entities, PERSON);
    let logits = Array2::from_shape_fn((pairs.len(), 5), |(_, v)| v as f32);
    let got = Fusion::new(&detr(1.0), &vocabulary).unwrap().fuse(&entities, &pairs, &logits.into()).unwrap();
    // Persons as objects have no valid verb here; `no_interaction`, `eat` and `wave` never come out.
    let names: Vec<_> = got.iter().map(|t| (t.human, t.verb.0, t.object)).collect();
    assert_eq!(names, [(0, 2, Some(1)), (2, 2, Some(1)), (0, 0, Some(1)), (2, 0, Some(1))]);
    assert!((got[0].score - sigmoid(2.0) * 0.5).abs() < 1e-6);
    assert_eq!(got[0].factors, Factors::DetrPrior { verb: sigmoid(2.0), prior: 0.5 });
}

#[test]
fn nan_logits_and_scores_give_no_triplet() {
    let entities = [entity(0, 0.0, 1.0), entity(1, 5.0, f32::NAN), entity(1, 5.0, 0.5)];
    let pairs = [HumanObjectPair { human: 0, object: 2 }];
    let nan = HeadOutput::from(Array2::from_elem((1, 5), f32::NAN));
    for spec in [detr(2.8), weakly(None)] {
        assert_eq!(Fusion::new(&spec, &vocabulary()).unwrap().fuse(&entities, &pairs, &nan), Ok(Vec::new()));
    }
    // A NaN score of the detector counts as 0.
    let pairs = [HumanObjectPair { human: 0, object: 1 }];
    let zeros = HeadOutput::from(Array2::zeros((1, 5)));
    assert_eq!(Fusion::new(&detr(2.8), &vocabulary()).unwrap().fuse(&entities, &pairs, &zeros), Ok(Vec::new()));
}

#[test]
fn a_human_alone_says_what_needs_no_object_and_a_pair_does_not() {
    let entities = [entity(0, 0.0, 0.8), entity(1, 5.0, 0.5)];
    let vocabulary = with_alone();
    let pairs = candidate_pairs(&entities, &vocabulary);
    let logits = HeadOutput::from(Array2::from_shape_fn((pairs.len(), 5), |(p, v)| (p + v) as f32 * 0.1));
    for spec in [detr(2.0), weakly(None)] {
        let got = Fusion::new(&spec, &vocabulary).unwrap().fuse(&entities, &pairs, &logits).unwrap();
        let mut names: Vec<_> = got.iter().map(|t| (t.object, t.verb.0)).collect();
        names.sort();
        assert_eq!(names, [(None, 0), (None, 4), (Some(1), 0), (Some(1), 2)], "{}", spec.rule());
        let prior = |t: &ScoredTriplet| t.factors.named().find(|(n, _)| *n == "prior").unwrap().1;
        let power = if spec.rule() == "weakly" { 2.8 } else { 2.0 };
        for t in &got {
            let detected = if t.object.is_some() { 0.8f32 * 0.5 } else { 0.8 };
            assert!((prior(t) - detected.powf(power)).abs() < 1e-6, "{t:?}");
            assert!((t.score - t.factors.product()).abs() < 1e-6);
        }
    }
}

#[test]
fn pair_scores_share_the_probability_of_the_picture() {
    let mut noise = Noise(7);
    for (pairs, scale) in [(1, 5.0), (2, 30.0), (500, 5.0), (500, 90.0)] {
        let z = Array2::from_shape_simple_fn((pairs, 6), || noise.next() * scale);
        let e = normalised_pair_scores(z.view());
        for (a, column) in z.axis_iter(Axis(1)).enumerate() {
            let probability = sigmoid(column.fold(f32::NEG_INFINITY, |m, v| m.max(*v)));
            let sum: f32 = e.column(a).sum();
            assert!((sum - probability).abs() < 1e-5, "{pairs} pairs: {sum} and {probability}");
        }
        if pairs == 1 {
            assert!(e.iter().zip(&z).all(|(e, z)| (e - sigmoid(*z)).abs() < 1e-6));
        }
    }
    // Two equal pairs share, and a large logit does not overflow.
    let e = normalised_pair_scores(ndarray::array![[300.0f32, -300.0], [300.0, -300.0], [0.0, -500.0]].view());
    assert!((e[[0, 0]] - 0.5).abs() < 1e-6 && (e[[1, 0]] - 0.5).abs() < 1e-6 && e[[2, 0]] == 0.0, "{e}");
    assert!(e.iter().all(|v| v.is_finite()));
    assert_eq!(normalised_pair_scores(Array2::zeros((0, 4)).view()).dim(), (0, 4));
}

/// Weakly-HOI's score in double precision, as the paper writes it: `None` where the interaction has no column.
fn reference(entities: &[Detection], pairs: &[HumanObjectPair], head: &HeadOutput, m: usize, a: usize) -> Option<f64> {
    let sigma = |z: f64| 1.0 / (1.0 + (-z).exp());
    let z = |m: usize| f64::from(head.verb_logits[[m, a]]);
    let all: f64 = (0..pairs.len()).map(|p| z(p).exp()).sum();
    let largest = (0..pairs.len()).map(z).fold(f64::MIN, f64::max);
    let e = sigma(largest) * z(m).exp() / all;
    let HumanObjectPair { human, object } = pairs[m];
    let (alone, class) = (human == object, entities[object].class);
    let detected = f64::from(entities[human].score) * if alone { 1.0 } else { f64::from(entities[object].score) };
    let spec = spec();
    let wanted = (spec.verbs[a].clone(), (!alone).then(|| spec.objects[usize::from(class.0)].clone()));
    let global = match &head.image_logits {
        Some(g) => sigma(f64::from(g[interactions().iter().position(|i| *i == wanted)?])),
        None => 1.0,
    };
    let related = head.relatedness.as_ref().map_or(1.0, |b| sigma(f64::from(b[m])));
    Some(detected.powf(2.8) * global * e * related)
}

#[test]
fn weakly_is_the_papers_score_in_double_precision() {
    let mut noise = Noise(3);
    let vocabulary = with_alone();
    // (0, 2) has no pair, (1, 0) the human alone, (20, 5) 20 x 24 pairs and 20 humans alone: 500.
    for (humans, objects) in [(0, 2), (1, 0), (1, 1), (20, 5)] {
        let classes = std::iter::repeat_n(0, humans).chain(std::iter::repeat_n(1, objects));
        let entities: Vec<_> =
            classes.enumerate().map(|(i, c)| entity(c, i as f32 * 30.0, 0.5 + noise.next() * 0.49)).collect();
        let pairs = candidate_pairs(&entities, &vocabulary);
        assert_eq!(pairs.len(), humans * (humans + objects));
        for (global, related) in [(true, true), (true, false), (false, true), (false, false)] {
            let head = HeadOutput {
                verb_logits: Array2::from_shape_simple_fn((pairs.len(), 5), || noise.next() * 8.0),
                relatedness: related.then(|| Array1::from_shape_simple_fn(pairs.len(), || noise.next() * 4.0)),
                image_logits: global.then(|| Array1::from_shape_simple_fn(5, || noise.next() * 4.0)),
            };
            let spec = weakly(global.then(interactions));
            let got = Fusion::new(&spec, &vocabulary).unwrap().fuse(&entities, &pairs, &head).unwrap();
            let mut expected = 0;
            for (m, pair) in pairs.iter().enumerate() {
                let object = (!pair.is_alone()).then_some(pair.object);
                let may: &[usize] = match object.map(|o| entities[o].class.0) {
                    None => &[0, 4],
                    Some(0) => &[0],
                    Some(_) => &[0, 2],
                };
                for a in 0..5 {
                    let key = (pair.human, object, Verb(a as u16));
                    let found = got.iter().find(|t| (t.human, t.object, t.verb) == key);
                    let wanted = reference(&entities, &pairs, &head, m, a).filter(|_| may.contains(&a));
                    let (Some(t), Some(wanted)) = (found, wanted) else {
                        assert_eq!((found, wanted), (None, None), "{key:?}");
                        continue;
                    };
                    expected += 1;
                    assert!((f64::from(t.score) - wanted).abs() <= wanted * 1e-4, "{t:?}: {wanted}");
                    assert!((t.score - t.factors.product()).abs() <= 1e-6);
                    let names: Vec<_> = t.factors.named().map(|(n, _)| n).collect();
                    assert_eq!((names.contains(&"global"), names.contains(&"relatedness")), (global, related));
                }
            }
            assert_eq!(got.len(), expected);
            assert_eq!(expected == 0, humans == 0, "{humans} humans, {objects} objects");
            assert!(got.windows(2).all(|w| w[0].score >= w[1].score));
        }
    }
}

#[test]
fn pairs_outside_validity_still_take_their_share() {
    // Two bicycles and a second person: `ride` is not valid with a person, and yet that pair's logit lowers the bicycles' share.
    let entities = [entity(0, 0.0, 1.0), entity(1, 30.0, 1.0)];
    let crowd = [entity(0, 0.0, 1.0), entity(1, 30.0, 1.0), entity(0, 60.0, 1.0)];
    let ride = |entities: &[Detection]| {
        let pairs = pair_entities(entities, PERSON);
        let zeros = HeadOutput::from(Array2::zeros((pairs.len(), 5)));
        let got = Fusion::new(&weakly(None), &vocabulary()).unwrap().fuse(entities, &pairs, &zeros).unwrap();
        got.iter().find(|t| t.verb == Verb(2)).unwrap().score
    };
    assert!((ride(&entities) - 0.5).abs() < 1e-6);
    assert!((ride(&crowd) - 0.125).abs() < 1e-6, "four pairs share 0.5");
}

#[test]
fn triplets_are_suppressed_only_where_the_manifest_asks() {
    let entities = [entity(0, 0.0, 1.0), entity(1, 0.0, 0.9), entity(1, 0.5, 0.8)];
    let pairs = pair_entities(&entities, PERSON);
    let zeros = HeadOutput::from(Array2::zeros((pairs.len(), 5)));
    let count = |triplet_nms, max_triplets| {
        let spec = FusionSpec::Weakly { gamma: 2.8, triplet_nms, max_triplets, interactions: None, calibration: None };
        Fusion::new(&spec, &vocabulary()).unwrap().fuse(&entities, &pairs, &zeros).unwrap().len()
    };
    assert_eq!((count(None, 100), count(Some(NMS), 100), count(None, 3)), (4, 2, 3));
}

#[test]
fn constants_and_tables_that_cannot_be_used_are_named() {
    let named = |spec: &FusionSpec| match Fusion::new(spec, &with_alone()) {
        Err(FusionError::Key { key, reason }) => (key, reason),
        other => panic!("{other:?}"),
    };
    for gamma in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let spec =
            FusionSpec::Weakly { gamma, triplet_nms: None, max_triplets: 1, interactions: None, calibration: None };
        assert_eq!(named(&spec).0, "gamma");
    }
    assert_eq!(named(&detr(0.0)).0, "lambda");
    let bad = Some(TripletNms { iou: 1.5, ..NMS });
    let spec =
        FusionSpec::Weakly { gamma: 1.0, triplet_nms: bad, max_triplets: 1, interactions: None, calibration: None };
    assert_eq!(named(&spec).0, "triplet_nms.iou");
    let with = |row: (&str, Option<&str>)| {
        let mut list = interactions();
        list.push((row.0.to_owned(), row.1.map(str::to_owned)));
        named(&weakly(Some(list)))
    };
    for (row, parts) in [
        (("fly", None), ["row 5", "`fly`", "vocabulary.verbs"]),
        (("hold", Some("unicorn")), ["row 5", "`unicorn`", "vocabulary.objects"]),
        (("wave", None), ["row 5", "[wave, null]", "row 0"]),
        (("hold", Some("bicycle")), ["row 5", "[hold, bicycle]", "row 3"]),
    ] {
        let (key, reason) = with(row);
        assert_eq!(key, "interactions");
        assert!(parts.iter().all(|p| reason.contains(p)), "{reason}");
    }
    assert!(named(&weakly(Some(Vec::new()))).1.contains("empty"));
}

#[test]
fn outputs_that_do_not_fit_are_named() {
    let entities = [entity(0, 0.0, 1.0), entity(1, 30.0, 1.0)];
    let pairs = pair_entities(&entities, PERSON);
    let good = HeadOutput {
        verb_logits: Array2::zeros((1, 5)),
        relatedness: Some(Array1::zeros(1)),
        image_logits: Some(Array1::zeros(5)),
    };
    let fuse = |spec: &FusionSpec, head: &HeadOutput| {
        Fusion::new(spec, &vocabulary()).unwrap().fuse(&entities, &pairs, head).map(|t| t.len())
    };
    assert_eq!(fuse(&weakly(Some(interactions())), &good), Ok(2));
    let refused = |spec: &FusionSpec, head: HeadOutput, name: &str| match fuse(spec, &head) {
        Err(FusionError::Output { output, .. }) => assert_eq!(output, name),
        other => panic!("{name}: {other:?}"),
    };
    let all = weakly(Some(interactions()));
    refused(&all, HeadOutput { verb_logits: Array2::zeros((1, 4)), ..good.clone() }, "verb_logits");
    refused(&all, HeadOutput { verb_logits: Array2::zeros((2, 5)), ..good.clone() }, "verb_logits");
    refused(&all, HeadOutput { relatedness: Some(Array1::zeros(2)), ..good.clone() }, "relatedness");
    refused(&all, HeadOutput { image_logits: Some(Array1::zeros(4)), ..good.clone() }, "image_logits");
    refused(&all, HeadOutput { image_logits: None, ..good.clone() }, "image_logits");
    refused(&weakly(None), good, "image_logits");
}

#[test]
fn a_calibration_changes_scores_alone() {
    let entities = [entity(0, 0.0, 0.9), entity(1, 2.0, 0.8), entity(0, 40.0, 0.7)];
    let pairs = candidate_pairs(&entities, &with_alone());
    let mut noise = Noise(3);
    let head = HeadOutput::from(Array2::from_shape_fn((pairs.len(), 5), |_| 3.0 * noise.next()));
    let calibration = Calibration { slope: 0.4, offset: 1.5 };
    for spec in [detr(2.8), weakly(None)] {
        let fuse =
            |spec: &FusionSpec| Fusion::new(spec, &with_alone()).unwrap().fuse(&entities, &pairs, &head).unwrap();
        let (raw, calibrated) = (fuse(&spec), fuse(&spec.clone().calibrated(Some(calibration))));
        assert!(raw.len() > 4 && calibrated.iter().is_sorted_by(|a, b| a.score >= b.score));
        assert_eq!(raw.len(), calibrated.len());
        for was in &raw {
            assert_eq!(was.score, was.factors.product());
            // Under `weakly` the best of each interaction is turned, and the others keep their ratio to it.
            let interaction = |t: &ScoredTriplet| (t.verb, t.object.map(|o| entities[o].class));
            let best = match spec {
                FusionSpec::DetrPrior { .. } => was.score,
                FusionSpec::Weakly { .. } => raw.iter().find(|t| interaction(t) == interaction(was)).unwrap().score,
            };
            let expected = calibration.probability(best) * (was.score / best);
            let same = |t: &&ScoredTriplet| (t.human, t.verb, t.object) == (was.human, was.verb, was.object);
            assert_eq!(*calibrated.iter().find(same).unwrap(), ScoredTriplet { score: expected, ..*was });
        }
    }
    for (slope, offset, wrong) in [(0.0, 0.0, "slope"), (-1.0, 0.0, "slope"), (1.0, f32::NAN, "offset")] {
        let error = Fusion::new(&detr(1.0).calibrated(Some(Calibration { slope, offset })), &with_alone()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("fusion.calibration.{wrong}: ")), "{error}");
    }
}

#[test]
fn a_rule_says_what_it_is() {
    let text = detr(2.8).to_string();
    assert_eq!(text, "detr_prior, lambda 2.8, triplet NMS IoU_h^1 IoU_o^0.5 > 0.7, at most 100 triplets");
    let text = weakly(Some(interactions())).to_string();
    assert_eq!(text, "weakly, gamma 2.8, 5 interactions of the whole picture, no triplet NMS, at most 10000 triplets");
    let json = r#"{"rule":"weakly","gamma":2.8,"max_triplets":10000,"interactions":[["wave",null],["ride","bicycle"],["hold",null],["hold","bicycle"],["eat","bicycle"]]}"#;
    assert_eq!(serde_json::to_string(&weakly(Some(interactions()))).unwrap(), json);
    assert_eq!(serde_json::from_str::<FusionSpec>(json).unwrap(), weakly(Some(interactions())));
    let calibrated = weakly(None).calibrated(Some(Calibration { slope: 0.5, offset: 2.0 }));
    assert!(calibrated.to_string().ends_with(", at most 10000 triplets, calibrated sigma(0.500 ln s + 2.000)"));
    let json = r#"{"rule":"weakly","gamma":2.8,"max_triplets":10000,"calibration":{"slope":0.5,"offset":2.0}}"#;
    assert_eq!(serde_json::to_string(&calibrated).unwrap(), json);
    assert_eq!(serde_json::from_str::<FusionSpec>(json).unwrap(), calibrated);
}
