//! RmLR's head and losses against hand-made cases (the checks of its method).

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary, VocabularySpec};
use hoi_trainer::dataset::PairLabel;
use hoi_trainer::system::rmlr::{
    DetectedPicture, Example, LanguageConfig, LossWeights, RmlrConfig, RmlrModel, RmlrShape, RoiPooling, Row,
    TextBatch, Words, sub_sentences,
};
use hoi_trainer::text::ImageText;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor};

const PERSON: ObjectClass = ObjectClass(0);
const BALL: ObjectClass = ObjectClass(1);
const TEXT_WIDTH: i64 = 6;

fn vocabulary() -> Vocabulary {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    Vocabulary::new(VocabularySpec {
        human: "person".into(),
        objects: names(&["person", "ball"]),
        verbs: names(&["hold", "kick", "hug"]),
        background_verb: None,
        valid: [("person".to_owned(), names(&["hug"])), ("ball".to_owned(), names(&["hold", "kick"]))].into(),
        alone: Vec::new(),
    })
    .unwrap()
}

fn entity(class: ObjectClass, bbox: BBox, score: f32) -> Detection {
    Detection { bbox, class, score }
}

fn boxes() -> [BBox; 3] {
    [BBox::new(0., 0., 40., 80.), BBox::new(60., 0., 100., 80.), BBox::new(35., 60., 60., 80.)]
}

/// Normal values that follow from `seed` and `size` alone: libtorch's generator is shared with the tests that run beside this one.
fn normal(seed: u64, size: &[i64]) -> Tensor {
    let count = size.iter().product::<i64>() as usize;
    let values: Vec<f32> = StandardNormal.sample_iter(ChaCha8Rng::seed_from_u64(seed)).take(count).collect();
    Tensor::from_slice(&values).view(size)
}

fn picture(seed: u64, entities: Vec<Detection>) -> DetectedPicture {
    let n = entities.len() as i64;
    DetectedPicture {
        number: 1,
        original: Size::new(200, 160),
        input: Size::new(100, 80),
        feature: normal(seed, &[8, 4, 5]),
        covered: Size::new(100, 80),
        tokens: normal(seed + 1000, &[n, 4]),
        entities,
    }
}

fn people_and_ball() -> Vec<Detection> {
    let [a, b, ball] = boxes();
    vec![entity(PERSON, a, 0.9), entity(PERSON, b, 0.8), entity(BALL, ball, 0.5)]
}

fn label(human: BBox, object: BBox, class: ObjectClass, verb: u16) -> PairLabel {
    PairLabel { human, object, class, verb: Verb(verb) }
}

fn shape() -> RmlrShape {
    RmlrShape {
        relation_width: 8,
        relation_heads: 2,
        relation_feed_forward: 16,
        cue: 8,
        entity: 8,
        pair: 16,
        reasoning_heads: 2,
        reasoning_feed_forward: 16,
        dropout: 0.0,
        ..RmlrShape::tiny(8, 4, 3)
    }
}

fn config(row: Row) -> RmlrConfig {
    let (mut shape, mut weights) = (shape(), LossWeights::default());
    row.apply(&mut shape, &mut weights, false);
    let language = LanguageConfig::beside(&shape, "none", TEXT_WIDTH);
    RmlrConfig { shape, language, weights }
}

fn text(triplets: usize, words_of_each: usize) -> ImageText {
    let words = (triplets * words_of_each) as i64;
    ImageText {
        words: normal(5, &[words, TEXT_WIDTH]),
        owner: (0..triplets).flat_map(|t| vec![t; words_of_each]).collect(),
        sentences: normal(6, &[triplets as i64, TEXT_WIDTH]),
        rows: (0..triplets).collect(),
        cut: 0,
    }
}

fn example(labels: &[PairLabel]) -> Example {
    Example::new(picture(1, people_and_ball()), labels, &vocabulary(), RoiPooling::Enclosing)
}

fn part(parts: &[(&'static str, f64)], name: &str) -> Option<f64> {
    parts.iter().find(|p| p.0 == name).map(|p| p.1)
}

#[test]
fn full_size_head_has_the_parameters_of_the_sheet() {
    let (mut shape, mut weights) = (RmlrShape::full(117), LossWeights::default());
    Row::WithoutCl.apply(&mut shape, &mut weights, false);
    let language = LanguageConfig::beside(&shape, "none", 512);
    let model = RmlrModel::new(&RmlrConfig { shape, language, weights }, 0, Device::Cpu);
    let count: usize = model.store.trainable_variables().iter().map(Tensor::numel).sum();
    assert_eq!(format!("{:.2}", count as f64 / 1e6), "15.08");
}

#[test]
fn pairs_are_labelled_by_boxes_and_limited_by_the_detected_class() {
    let [a, b, ball] = boxes();
    let labels = [
        label(a, ball, BALL, 0),
        label(a, ball, BALL, 1),
        label(b, a, PERSON, 2),
        // Another class was annotated for the ball's box: `hug` is not valid for what was detected, but the pair is associated.
        label(b, ball, PERSON, 2),
        // Overlaps nobody enough.
        label(BBox::new(0., 0., 10., 10.), ball, BALL, 0),
    ];
    let e = example(&labels);
    // Pairs by rising human, then object: (0,1) (0,2) (1,0) (1,2).
    let rows: Vec<Vec<f32>> = (0..4).map(|p| Vec::try_from(e.labels().get(p)).unwrap()).collect();
    assert_eq!(rows, [[0., 0., 0.], [1., 1., 0.], [0., 0., 1.], [0., 0., 0.]]);
    assert_eq!(e.matches, [(1, 0), (1, 1), (2, 2), (3, 2)]);
    assert_eq!(sub_sentences(&e.triplets, &vocabulary()), ["human hold ball", "human kick ball", "human hug person"]);
    let prior: Vec<f32> = Vec::try_from(e.prior()).unwrap();
    assert!((prior[0] - 0.72).abs() < 1e-6 && (prior[1] - 0.45).abs() < 1e-6);
    assert_eq!(Vec::<f32>::try_from(e.valid().get(1)).unwrap(), [1., 1., 0.]);
}

#[test]
fn zero_lambdas_are_exactly_the_row_without_cross_modal_learning() {
    let [a, _, ball] = boxes();
    let e = example(&[label(a, ball, BALL, 0)]);
    let t = text(1, 3);
    let mut zero = config(Row::Full);
    zero.weights = LossWeights::of([2.0, 0.0, 0.0, 0.0, 0.0]);
    // Other tests draw from libtorch's one generator at the same time: the heads are made alike by copying.
    let first = RmlrModel::new(&zero, 3, Device::Cpu).store.variables();
    let run = |config: &RmlrConfig| {
        let model = RmlrModel::new(config, 3, Device::Cpu);
        for (name, mut variable) in model.store.variables() {
            if let Some(source) = first.get(&name) {
                tch::no_grad(|| variable.copy_(source));
            }
        }
        let (loss, parts) = model.loss(&[&e], &[&t], false).unwrap();
        let mut names: Vec<String> = model.store.variables().into_keys().collect();
        names.sort();
        (loss.double_value(&[]), parts, names)
    };
    let without = run(&zero);
    assert_eq!(without, run(&config(Row::WithoutCl)));
    // The full row classifies alike, so that only the added losses differ.
    let (full, parts, names) = run(&config(Row::Full));
    assert_eq!(part(&parts, "hoi"), part(&without.1, "hoi"));
    assert!(full > without.0);
    assert!(names.iter().any(|n| n.starts_with("text.")) && without.2.iter().all(|n| !n.starts_with("text.")));
}

#[test]
fn without_a_matching_pair_the_transfer_losses_are_absent() {
    let model = RmlrModel::new(&config(Row::Full), 0, Device::Cpu);
    let nothing = example(&[]);
    let (loss, parts) = model.loss(&[&nothing], &[&text(0, 0)], false).unwrap();
    assert_eq!(parts.iter().map(|p| p.0).collect::<Vec<_>>(), ["hoi"]);
    loss.backward();
    // Beside a picture that has one, it adds no term.
    let [a, _, ball] = boxes();
    let one = example(&[label(a, ball, BALL, 0)]);
    let (t, none) = (text(1, 3), text(0, 0));
    let batch = TextBatch::new(&[&nothing, &one], &[&none, &t], Words::All, Device::Cpu).unwrap();
    assert_eq!(Vec::<i64>::try_from(&batch.matched).unwrap(), [4 + 1]);
    assert_eq!(batch.words.size(), [1, 3, TEXT_WIDTH]);
    // No entity, or one only: no pair, no loss.
    let alone = Example::new(picture(1, people_and_ball()[..1].to_vec()), &[], &vocabulary(), RoiPooling::Enclosing);
    assert!(model.loss(&[&alone], &[&none], false).is_none());
    assert_eq!(model.logits(&[&alone, &one])[0].size(), [0, 3]);
}

#[test]
fn a_pair_with_two_verbs_has_two_sentence_terms() {
    let [a, b, ball] = boxes();
    let e = example(&[label(a, ball, BALL, 0), label(a, ball, BALL, 1), label(b, ball, BALL, 0)]);
    let t = text(2, 2);
    let batch = TextBatch::new(&[&e], &[&t], Words::All, Device::Cpu).unwrap();
    // Two pairs match; the second carries the same triplet as the first's first verb.
    assert_eq!(Vec::<i64>::try_from(&batch.matched).unwrap(), [1, 3]);
    assert_eq!(Vec::<i64>::try_from(&batch.term_pair).unwrap(), [0, 0, 1]);
    for (term, triplet) in [(0, 0), (1, 1), (2, 0)] {
        assert_eq!(batch.term_sentence.get(term), t.sentences.get(triplet));
    }
    assert_eq!(batch.words.size(), [2, 4, TEXT_WIDTH]);
    // Own words: the first pair sees all four, the second the two of its triplet.
    let own = TextBatch::new(&[&e], &[&t], Words::Own, Device::Cpu).unwrap();
    let seen: Vec<i64> =
        Vec::try_from(own.word_padding.logical_not().sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)).unwrap();
    assert_eq!(seen, [4, 2]);
    // All losses are there, finite, and reach the head.
    let model = RmlrModel::new(&config(Row::Full), 0, Device::Cpu);
    let (loss, parts) = model.loss(&[&e], &[&t], false).unwrap();
    assert_eq!(parts.len(), 6, "{parts:?}");
    assert!(parts.iter().all(|p| p.1.is_finite()));
    loss.backward();
    for (name, variable) in model.store.variables() {
        assert!(variable.grad().defined(), "{name} gets no gradient");
    }
}

#[test]
fn geometry_is_that_of_the_picture_whatever_the_input_was_stretched_to() {
    let [a, _, ball] = boxes();
    let of = |input: Size, factor: [f32; 2]| {
        let scaled = |b: BBox| b.scale(factor[0], factor[1]);
        let entities = vec![entity(PERSON, scaled(a), 0.9), entity(BALL, scaled(ball), 0.5)];
        let picture = DetectedPicture { input, covered: input, ..picture(1, entities) };
        Vec::<f32>::try_from(
            Example::new(picture, &[], &vocabulary(), RoiPooling::Enclosing).spatial().contiguous().view([-1]),
        )
        .unwrap()
    };
    let (even, stretched) = (of(Size::new(100, 80), [1.0, 1.0]), of(Size::new(80, 80), [0.8, 1.0]));
    for (i, (a, b)) in even.iter().zip(&stretched).enumerate() {
        assert!((a - b).abs() < 1e-4, "value {i}: {a} and {b}");
    }
}

#[test]
fn sentences_start_at_the_given_vector_for_every_pair() {
    let [a, b, ball] = boxes();
    let e = example(&[label(a, ball, BALL, 0), label(b, ball, BALL, 1)]);
    let t = text(2, 3);
    let model = RmlrModel::new(&config(Row::Full), 0, Device::Cpu);
    let mean = t.sentences.mean_dim([0i64].as_slice(), false, Kind::Float);
    model.language.as_ref().unwrap().start_at(&mean);
    let (_, parts) = model.loss(&[&e], &[&t], true).unwrap();
    let expected = (&t.sentences - &mean).abs().mean(Kind::Float).double_value(&[]);
    for name in ["sentence_reasoning", "sentence_remining"] {
        assert!((part(&parts, name).unwrap() - expected).abs() < 1e-6, "{name}");
    }
}

#[test]
fn every_row_trains_and_holds_only_what_it_needs() {
    let [a, _, ball] = boxes();
    let e = example(&[label(a, ball, BALL, 0)]);
    for row in Row::ALL {
        let model = RmlrModel::new(&config(row), 0, Device::Cpu);
        let (loss, parts) = model.loss(&[&e], &[&text(1, 3)], false).unwrap();
        loss.backward();
        let names = model.store.variables();
        assert_eq!(names.keys().any(|n| n.starts_with("cue.")), row.remines(), "{}", row.title());
        let (mut shape, mut weights) = (shape(), LossWeights::default());
        row.apply(&mut shape, &mut weights, false);
        for (name, weight) in ["hoi", "sentence_reasoning", "word_reasoning", "sentence_remining", "word_remining"]
            .iter()
            .zip(weights.values())
        {
            assert_eq!(part(&parts, name).is_some(), weight != 0.0, "{} {name}", row.title());
        }
    }
}

#[test]
fn detached_words_leave_the_cross_attention_without_gradient() {
    let [a, _, ball] = boxes();
    let e = example(&[label(a, ball, BALL, 0)]);
    let mut words_only = config(Row::Full);
    words_only.weights = LossWeights::of([2.0, 0.0, 1.0, 0.0, 0.0]);
    for detach in [false, true] {
        let model = RmlrModel::new(&words_only, 0, Device::Cpu);
        model.loss(&[&e], &[&text(1, 3)], detach).unwrap().0.backward();
        let gradient = model.store.variables()["text.words.weight"].grad();
        assert_eq!(gradient.defined() && gradient.abs().sum(Kind::Float).double_value(&[]) > 0.0, !detach);
    }
}

/// Figure 4: a neighbour's picture between human and object does not reach the masked RoI, and does reach the plain enclosing one.
#[test]
fn the_masked_roi_does_not_see_between_the_boxes() {
    let (human, object) = (BBox::new(0., 0., 20., 80.), BBox::new(80., 0., 100., 80.));
    let mut plain = shape();
    // The relation encoder as the identity: no layers.
    plain.relation_layers = 0;
    let (mut shape, mut weights) = (plain, LossWeights::default());
    Row::WithoutCl.apply(&mut shape, &mut weights, false);
    let language = LanguageConfig::beside(&shape, "none", TEXT_WIDTH);
    let model = RmlrModel::new(&RmlrConfig { shape, language, weights }, 0, Device::Cpu);
    let see = |human: BBox, object: BBox, change: bool| {
        let p = picture(1, vec![entity(PERSON, human, 0.9), entity(BALL, object, 0.9)]);
        if change {
            // Column 2 of 5: x 40 to 60.
            let _ = p.feature.narrow(2, 2, 1).fill_(7.0);
        }
        let e = Example::new(p, &[], &vocabulary(), RoiPooling::Enclosing);
        let batch = hoi_trainer::system::rmlr::PairBatch::new(&[&e], Device::Cpu);
        model.network.cues(&batch.visual, false).unwrap()
    };
    let moved = |human, object| (see(human, object, false) - see(human, object, true)).abs().max().double_value(&[]);
    assert_eq!(moved(human, object), 0.0);
    // The naive union of both: a human as large as the enclosing box.
    assert!(moved(BBox::new(0., 0., 100., 80.), object) > 1e-3);
}

#[test]
fn filling_up_a_batch_changes_no_logit() {
    let [a, b, ball] = boxes();
    let small = {
        let mut p = picture(2, vec![entity(PERSON, a, 0.9), entity(BALL, ball, 0.5)]);
        p.feature = p.feature.narrow(1, 0, 3).narrow(2, 0, 4).copy();
        p.covered = Size::new(80, 60);
        p.input = Size::new(80, 60);
        Example::new(p, &[label(a, ball, BALL, 0)], &vocabulary(), RoiPooling::Enclosing)
    };
    let large = example(&[label(b, ball, BALL, 1)]);
    for spatial in [false, true] {
        let mut config = config(Row::Full);
        config.shape.spatial_used = spatial;
        let model = RmlrModel::new(&config, 0, Device::Cpu);
        let together = model.logits(&[&small, &large]);
        for (one, of_batch) in [&small, &large].into_iter().zip(&together) {
            let alone = &model.logits(&[one])[0];
            assert_eq!(alone.size(), of_batch.size());
            let difference = (alone - of_batch).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{difference}");
        }
    }
}

#[test]
fn readings_of_the_roi_differ_by_their_denominators() {
    let (human, object) = (BBox::new(0., 0., 20., 20.), BBox::new(40., 0., 60., 20.));
    let entities = || vec![entity(PERSON, human, 0.9), entity(BALL, object, 0.9)];
    let sum = |pooling| {
        let e = Example::new(picture(1, entities()), &[], &vocabulary(), pooling);
        let batch = hoi_trainer::system::rmlr::PairBatch::new(&[&e], Device::Cpu);
        batch.visual.pair_masks.sum(Kind::Float).double_value(&[])
    };
    // Cells of 20 x 20: two of three cells of the enclosing box are covered, of 20 in all.
    for (pooling, expected) in [(RoiPooling::Enclosing, 2.0 / 3.0), (RoiPooling::Covered, 1.0), (RoiPooling::Map, 0.1)]
    {
        assert!((sum(pooling) - expected).abs() < 1e-5, "{pooling:?}");
    }
}
