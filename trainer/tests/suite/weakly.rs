//! Weakly-HOI: what its labels, its losses and its gradients must be.

use hoi_runtime::detector::Detection;
use hoi_runtime::fusion::sigmoid;
use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary, VocabularySpec};
use hoi_trainer::system::rmlr::DetectedPicture;
use hoi_trainer::system::weakly_hoi::{
    BankStart, ImageLabel, InteractionTable, Knowledge, OverPairs, Pooling, SelfTaught, WeakBatch, WeakExample,
    WeaklyConfig, WeaklyModel, WeaklyRow, WeaklyShape, load_model, prepare, save_model, text_bank,
};
use hoi_trainer::text::{TextEncoder, prompt};
use tch::{Device, Kind, Tensor, no_grad};

pub const PERSON: ObjectClass = ObjectClass(0);
pub const BALL: ObjectClass = ObjectClass(1);
pub const CUP: ObjectClass = ObjectClass(2);
pub const HOLD: Verb = Verb(0);
pub const KICK: Verb = Verb(1);
pub const HUG: Verb = Verb(2);
const WAVE: Verb = Verb(3);
const WIDTH: i64 = 8;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

pub fn vocabulary(alone: &[&str]) -> Vocabulary {
    Vocabulary::new(VocabularySpec {
        human: "person".into(),
        objects: names(&["person", "ball", "cup"]),
        verbs: names(&["hold", "kick", "hug", "wave"]),
        background_verb: None,
        valid: [
            ("person".to_owned(), names(&["hug"])),
            ("ball".to_owned(), names(&["hold", "kick"])),
            ("cup".to_owned(), names(&["hold"])),
        ]
        .into(),
        alone: names(alone),
    })
    .unwrap()
}

fn entity(class: ObjectClass, x: f32, score: f32) -> Detection {
    Detection { bbox: BBox::new(x, 10.0, x + 30.0, 60.0), class, score }
}

/// Two persons, a ball and a cup on a map of 4 by 5 cells.
pub fn picture(number: u64, entities: Vec<Detection>) -> DetectedPicture {
    let values: Vec<f32> = (0..6 * 20).map(|i| ((i as f32 + 7.0 * number as f32) * 0.7).sin()).collect();
    DetectedPicture {
        number,
        original: Size::new(100, 80),
        input: Size::new(100, 80),
        feature: Tensor::from_slice(&values).view([6, 4, 5]),
        covered: Size::new(100, 80),
        tokens: Tensor::zeros([entities.len() as i64, 4], (Kind::Float, Device::Cpu)),
        entities,
    }
}

pub fn people() -> Vec<Detection> {
    vec![entity(PERSON, 0.0, 0.9), entity(PERSON, 60.0, 0.8), entity(BALL, 30.0, 0.7), entity(CUP, 45.0, 0.6)]
}

pub fn label(verb: Verb, object: Option<ObjectClass>) -> ImageLabel {
    ImageLabel { verb, object }
}

pub fn example(labels: &[ImageLabel], vocabulary: &Vocabulary) -> WeakExample {
    WeakExample::new(picture(1, people()), labels.to_vec(), vocabulary)
}

pub fn config(row: WeaklyRow, vocabulary: &Vocabulary) -> WeaklyConfig {
    let shape = WeaklyShape {
        map_channels: 6,
        tokens: 0,
        width: WIDTH,
        pool_heads: 2,
        pool_grid: 4,
        verbs: vocabulary.verb_count() as i64,
        interactions: InteractionTable::of(vocabulary).len() as i64,
    };
    let self_taught = SelfTaught { after_steps: 0, ..SelfTaught::default() };
    WeaklyConfig {
        shape,
        pooling: Pooling::Attention,
        dropout: 0.0,
        parts: row.parts(),
        bank: row.bank(),
        encoder: "none".into(),
        self_taught,
        exclusive: false,
        backbone: None,
    }
}

pub fn bank(vocabulary: &Vocabulary) -> Tensor {
    let rows = InteractionTable::of(vocabulary).len() as i64;
    let values: Vec<f32> = (0..rows * WIDTH).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
    Tensor::from_slice(&values).view([rows, WIDTH])
}

pub fn model(row: WeaklyRow, vocabulary: &Vocabulary) -> WeaklyModel {
    WeaklyModel::new(&config(row, vocabulary), vocabulary, &bank(vocabulary), 3, Device::Cpu)
}

fn part(parts: &[(&'static str, f64)], name: &str) -> Option<f64> {
    parts.iter().find(|p| p.0 == name).map(|p| p.1)
}

#[test]
fn interactions_are_listed_by_object_then_verb_then_alone() {
    let table = InteractionTable::of(&vocabulary(&["wave"]));
    let expected = [
        label(HUG, Some(PERSON)),
        label(HOLD, Some(BALL)),
        label(KICK, Some(BALL)),
        label(HOLD, Some(CUP)),
        label(WAVE, None),
    ];
    assert_eq!(table.entries(), expected);
    assert_eq!(table.position(label(WAVE, None)), Some(4));
    assert_eq!(table.position(label(KICK, Some(CUP))), None);
}

#[test]
fn pairs_that_may_carry_a_verb_have_an_object_of_the_image() {
    let vocabulary = vocabulary(&["wave"]);
    // Pairs: (0,1) (0,2) (0,3) (1,0) (1,2) (1,3), then (0,0) and (1,1) alone.
    let e = example(&[label(KICK, Some(BALL)), label(HOLD, Some(CUP)), label(WAVE, None)], &vocabulary);
    assert_eq!(e.pairs.len(), 8);
    let loose = e.positives(&SelfTaught::default());
    assert_eq!(loose.verbs, [1, 0, 3]);
    // Any object of the image will do: ball, cup, and none.
    assert_eq!(loose.allowed, vec![vec![1, 2, 4, 5, 6, 7]; 3]);
    let strict = e.positives(&SelfTaught { strict: true, ..SelfTaught::default() });
    assert_eq!(strict.allowed, [vec![1, 4], vec![2, 5], vec![6, 7]]);
    assert!(e.uncarried().is_empty());
    // A label whose object nobody proposed.
    let lonely = WeakExample::new(picture(1, people()[..2].to_vec()), vec![label(KICK, Some(BALL))], &vocabulary);
    assert_eq!(lonely.uncarried(), [label(KICK, Some(BALL))]);
    assert_eq!(lonely.positives(&SelfTaught::default()).allowed, [Vec::<usize>::new()]);
}

/// Section 10 of the method: the local losses never touch the bank, though the pairs use it.
#[test]
fn the_bank_learns_from_images_only() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let gradient = |wanted: &[&str]| {
        let model = model(WeaklyRow::Full, &vocabulary);
        let batch = WeakBatch::new(&[&e], Device::Cpu);
        let output = model.network.forward(&batch, false);
        let losses = hoi_trainer::system::weakly_hoi::WeaklyLosses::new(
            &output,
            &batch,
            &[&e],
            model.table(),
            model.config(),
            true,
        );
        let chosen = [("image", losses.image), ("verbs", losses.verbs), ("relatedness", losses.relatedness)];
        let sum = chosen.into_iter().filter(|(n, _)| wanted.contains(n)).filter_map(|(_, l)| l).reduce(|a, b| a + b);
        sum.unwrap().backward();
        let gradient = model.store.variables()["bank"].grad();
        if gradient.defined() { gradient.abs().sum(Kind::Double).double_value(&[]) } else { 0.0 }
    };
    assert_eq!(gradient(&["verbs", "relatedness"]), 0.0);
    assert!(gradient(&["image"]) > 0.0);
    // And yet what the pairs say changes with it.
    let model = model(WeaklyRow::Full, &vocabulary);
    let before = model.outputs(&[&e]).remove(0).verb_logits;
    no_grad(|| {
        let bank = model.store.variables()["bank"].shallow_clone();
        let _ = bank.narrow(0, 0, 1).fill_(3.0);
    });
    assert_ne!(before, model.outputs(&[&e]).remove(0).verb_logits);
}

#[test]
fn frozen_banks_and_random_banks() {
    let vocabulary = vocabulary(&[]);
    let text = bank(&vocabulary);
    let of = |row| model(row, &vocabulary);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let frozen = of(WeaklyRow::Exp2);
    assert_eq!(frozen.store.variables()["bank"], text);
    frozen.loss(&[&e], true).unwrap().0.backward();
    assert!(!frozen.store.variables()["bank"].grad().defined());
    let random = of(WeaklyRow::Exp9);
    assert_eq!(random.config().bank, BankStart::Random);
    assert_ne!(random.store.variables()["bank"], text);
    assert!(!of(WeaklyRow::Baseline).store.variables().contains_key("bank"));
}

#[test]
fn every_row_has_its_losses_and_outputs() {
    let vocabulary = vocabulary(&["wave"]);
    let e = example(&[label(KICK, Some(BALL)), label(WAVE, None)], &vocabulary);
    for row in WeaklyRow::ALL {
        let (model, parts) = (model(row, &vocabulary), row.parts());
        let (total, losses) = model.loss(&[&e], true).unwrap();
        assert!(total.double_value(&[]).is_finite());
        assert_eq!(part(&losses, "image").is_some(), parts.recognition, "{}", row.title());
        assert_eq!(part(&losses, "relatedness").is_some(), parts.relatedness, "{}", row.title());
        assert!(part(&losses, "verbs").is_some());
        // Before its time, relatedness does not count.
        assert_eq!(part(&model.loss(&[&e], false).unwrap().1, "relatedness"), None);
        let head = model.outputs(&[&e]).remove(0);
        assert_eq!(head.verb_logits.dim(), (8, 4));
        assert_eq!(head.relatedness.is_some(), parts.relatedness);
        assert_eq!(head.image_logits.is_some(), parts.score_fusion);
        let triplets = model.triplets(&[&e], &vocabulary).unwrap().remove(0);
        assert!(triplets.iter().any(|t| t.object.is_none() && t.verb == WAVE));
        assert!(triplets.iter().all(|t| (0.0..=1.0).contains(&t.score)));
    }
}

/// Three losses by hand from the logits the network gives.
#[test]
fn losses_by_hand() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[label(KICK, Some(BALL)), label(HOLD, Some(BALL))], &vocabulary);
    let mut config = config(WeaklyRow::Full, &vocabulary);
    for over_pairs in [OverPairs::Sum, OverPairs::Mean] {
        config.self_taught.over_pairs = over_pairs;
        let model = WeaklyModel::new(&config, &vocabulary, &bank(&vocabulary), 3, Device::Cpu);
        let head = model.outputs(&[&e]).remove(0);
        let binary = |z: f32, y: bool| -(if y { f64::from(sigmoid(z)) } else { 1.0 - f64::from(sigmoid(z)) }).ln();
        let image = head.image_logits.unwrap();
        // The table is hug person, hold ball, kick ball, hold cup.
        let image_loss: f64 =
            image.iter().zip([false, true, true, false]).map(|(&z, y)| binary(z, y)).sum::<f64>() / 4.0;
        let column = |v: usize| head.verb_logits.column(v).to_vec();
        let best = |v: usize| column(v).into_iter().fold(f32::NEG_INFINITY, f32::max);
        let verb_loss: f64 = (0..4).map(|v| binary(best(v), v < 2)).sum::<f64>() / 4.0;
        // Only pairs 1 and 4 have the ball; each verb chooses the better of the two.
        let chosen: Vec<usize> = [0, 1].map(|v| if column(v)[4] > column(v)[1] { 4 } else { 1 }).to_vec();
        let related = head.relatedness.unwrap();
        let mut relatedness: f64 = related.iter().enumerate().map(|(p, &z)| binary(z, chosen.contains(&p))).sum();
        if over_pairs == OverPairs::Mean {
            relatedness /= 6.0;
        }
        let (total, parts) = model.loss(&[&e], true).unwrap();
        for (name, expected) in [("image", image_loss), ("verbs", verb_loss), ("relatedness", relatedness)] {
            let found = part(&parts, name).unwrap();
            assert!((found - expected).abs() < 1e-4 * expected.max(1.0), "{name}: {found} and {expected}");
        }
        assert!((total.double_value(&[]) - image_loss - verb_loss - relatedness).abs() < 1e-3);
    }
}

#[test]
fn company_in_a_batch_changes_nothing() {
    let vocabulary = vocabulary(&["wave"]);
    let model = model(WeaklyRow::Full, &vocabulary);
    let large = example(&[label(KICK, Some(BALL))], &vocabulary);
    let mut small = picture(2, people()[1..3].to_vec());
    small.feature = small.feature.narrow(1, 0, 3).narrow(2, 0, 4).copy();
    (small.covered, small.input, small.original) = (Size::new(80, 60), Size::new(80, 60), Size::new(80, 60));
    let small = WeakExample::new(small, vec![label(HOLD, Some(BALL))], &vocabulary);
    let nothing = WeakExample::new(picture(3, Vec::new()), vec![label(HOLD, Some(BALL))], &vocabulary);
    assert!(nothing.pairs.is_empty());
    let together = model.outputs(&[&large, &small, &nothing]);
    for (one, of_batch) in [&large, &small, &nothing].into_iter().zip(&together) {
        let alone = model.outputs(&[one]).remove(0);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        assert_eq!(alone.verb_logits.dim(), of_batch.verb_logits.dim());
        assert!(alone.verb_logits.iter().zip(&of_batch.verb_logits).all(|(a, b)| near(*a, *b)));
        let image = |h: &hoi_runtime::interaction::HeadOutput| h.image_logits.clone().unwrap();
        assert!(image(&alone).iter().zip(&image(of_batch)).all(|(a, b)| near(*a, *b)), "{alone:?} {of_batch:?}");
    }
    // An image without a pair counts for the global branch alone.
    let (_, parts) = model.loss(&[&nothing], true).unwrap();
    assert_eq!(parts.iter().map(|p| p.0).collect::<Vec<_>>(), ["image"]);
    assert!(self::model(WeaklyRow::Baseline, &vocabulary).loss(&[&nothing], true).is_none());
}

#[test]
fn the_global_branch_starts_at_one_percent() {
    let vocabulary = vocabulary(&[]);
    let model = model(WeaklyRow::Full, &vocabulary);
    let examples = [example(&[label(KICK, Some(BALL))], &vocabulary)];
    prepare(&model, &examples, 16);
    let image = model.outputs(&[&examples[0]]).remove(0).image_logits.unwrap();
    let mean = image.iter().map(|&z| sigmoid(z)).sum::<f32>() / image.len() as f32;
    assert!((mean - 0.01).abs() < 1e-4, "{mean}");
}

/// Section 10: an unscaled cosine softmax would be nearly uniform.
#[test]
fn pairs_ask_the_bank_with_a_temperature() {
    let vocabulary = vocabulary(&[]);
    let model = model(WeaklyRow::Full, &vocabulary);
    let e = example(&[], &vocabulary);
    let alpha = model.network.attention(&WeakBatch::new(&[&e], Device::Cpu)).unwrap();
    let entropy = -(&alpha * alpha.log()).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    let most = entropy.max().double_value(&[]);
    assert!(most < 0.8 * 4f64.ln(), "{most} of {}", 4f64.ln());
    assert!(
        self::model(WeaklyRow::Baseline, &vocabulary).network.attention(&WeakBatch::new(&[&e], Device::Cpu)).is_none()
    );
}

#[test]
fn ways_to_ask_the_bank_differ() {
    let vocabulary = vocabulary(&[]);
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let mut seen = Vec::new();
    for knowledge in [Knowledge::Softmax, Knowledge::Sigmoid, Knowledge::Uniform, Knowledge::Union] {
        let mut config = config(WeaklyRow::Full, &vocabulary);
        config.parts.knowledge = Some(knowledge);
        let model = WeaklyModel::new(&config, &vocabulary, &bank(&vocabulary), 3, Device::Cpu);
        let logits = model.outputs(&[&e]).remove(0).verb_logits;
        assert!(logits.iter().all(|z| z.is_finite()));
        assert!(!seen.contains(&logits), "{knowledge:?} says what another way says");
        seen.push(logits);
    }
}

#[test]
fn a_model_on_disk_says_the_same_and_another_systems_is_refused() {
    let vocabulary = vocabulary(&["wave"]);
    let folder = tempfile::tempdir().unwrap();
    let e = example(&[label(KICK, Some(BALL))], &vocabulary);
    let model = model(WeaklyRow::Full, &vocabulary);
    save_model(&model, &vocabulary, serde_json::json!({}), folder.path()).unwrap();
    let (loaded, read, _) = load_model(folder.path(), Device::Cpu).unwrap();
    assert_eq!(read.spec(), vocabulary.spec());
    let (a, b) = (model.outputs(&[&e]).remove(0), loaded.outputs(&[&e]).remove(0));
    assert_eq!((a.verb_logits, a.relatedness, a.image_logits), (b.verb_logits, b.relatedness, b.image_logits));
    let error = hoi_trainer::system::rmlr::load_model(folder.path(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("hoi.weakly_hoi/1") && error.contains("hoi.rmlr/1"), "{error}");
}

#[test]
fn the_bank_is_read_from_prompts() {
    let vocabulary = vocabulary(&["wave"]);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/text/bert");
    let encoder = TextEncoder::load(&folder, Device::Cpu).unwrap();
    let bank = text_bank(&encoder, &vocabulary).unwrap();
    assert_eq!(bank.size(), [5, encoder.width()]);
    let alone = encoder.encode_apart(&["a person kicking a ball".to_owned()]).unwrap().sentences.get(0);
    assert_eq!(bank.get(2), alone);
}

/// The published list of HICO-DET's 600 sentences (hicodet utilities) misspells some participles ("stabing"), and words a few verbs more freely
/// ("waving at").
#[test]
fn prompts_agree_with_the_published_list() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hico-det");
    let read = |name: &str| -> Option<Vec<serde_json::Value>> {
        std::fs::read(folder.join(name)).ok().map(|text| serde_json::from_slice(&text).unwrap())
    };
    let (Some(sentences), Some(classes)) = (read("prompts.json"), read("hoi_classes.json")) else {
        println!("skipped: HICO-DET's sentences are not there");
        return;
    };
    let mut verbs = std::collections::BTreeSet::new();
    let mut other = 0;
    for (class, sentence) in classes.iter().zip(&sentences) {
        let (verb, object) = (class["verb"].as_str().unwrap(), class["object"].as_str().unwrap());
        let ours = format!("A photo of {}", prompt(verb, Some(object)));
        if *sentence != ours {
            println!("{ours} | {sentence}");
            verbs.insert(verb);
            other += 1;
        }
    }
    println!("{other} of {} sentences differ, of {} verbs: {verbs:?}", classes.len(), verbs.len());
    assert!(classes.len() == 600 && verbs.len() <= 12, "{verbs:?}");
}
