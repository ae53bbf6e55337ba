//! HICO-DET's score from outside: rules by hand, a slow second version, the file of predictions, and the command.

use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_trainer::dataset::hico_det::{HicoDet, KnownObjectImages, ZeroShotSplit};
use hoi_trainer::dataset::{AnnotatedImage, AnnotatedPair};
use hoi_trainer::eval::hico_det::{HicoDetEvaluator, HicoDetScores};
use hoi_trainer::eval::interactions::{EvaluationError, InteractionEvaluator, TripletPrediction};
use hoi_trainer::eval::predictions::{
    PredictedImage, PredictionFile, PredictionReader, PredictionsError, Taken, take_all,
};
use hoi_trainer::eval::zero_shot::{UnknownUnseen, ZeroShotMeans};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::command::{hoi_train, path, text};
use crate::slow_scores::hico_det as slow;
use crate::tiny::{IMAGES, TinyData};

type Predictions = Vec<(u64, Vec<TripletPrediction>)>;

const H: [f32; 4] = [0., 0., 10., 10.];
const O: [f32; 4] = [20., 0., 30., 10.];
const FAR: [f32; 4] = [60., 60., 90., 90.];

fn pair(human: [f32; 4], object: [f32; 4], interaction: usize) -> AnnotatedPair {
    AnnotatedPair { human: human.into(), object: object.into(), interaction }
}

fn image(number: u64, pairs: &[AnnotatedPair]) -> AnnotatedImage {
    AnnotatedImage { name: format!("{number}.jpg"), number, size: Some(Size::new(100, 100)), pairs: pairs.to_vec() }
}

fn predict(human: [f32; 4], object: [f32; 4], interaction: usize, score: f32) -> TripletPrediction {
    TripletPrediction { human: human.into(), object: object.into(), interaction, score }
}

fn evaluate(classes: usize, images: &[AnnotatedImage], predictions: &Predictions) -> InteractionEvaluator {
    let mut evaluator = InteractionEvaluator::new(classes, images, 0);
    predictions.iter().for_each(|(n, list)| evaluator.add_image(*n, list).unwrap());
    evaluator
}

#[test]
fn any_interactions_and_any_images_by_hand() {
    let images = [image(1, &[pair(H, O, 0), pair(H, O, 1)]), image(2, &[pair(H, O, 0)]), image(3, &[])];
    let predictions = vec![
        (1, vec![predict(H, O, 0, 0.5), predict(H, O, 1, 0.4)]),
        (2, vec![predict(FAR, O, 0, 0.9)]),
        (3, vec![predict(H, O, 1, 0.8)]),
    ];
    let mut evaluator = evaluate(3, &images, &predictions);
    assert_eq!(evaluator.classes(), 3);
    // 0: false, true of 2: precision 1/2 up to recall 1/2, six recalls of eleven. 1: false, true of 1. 2: not annotated.
    assert_eq!(evaluator.average_precisions(|_, _| true), [Some(3.0 / 11.0), Some(0.5), None]);
    // Without image 2 neither its detection nor its pair counts; without 1, nothing of interaction 1 is annotated.
    assert_eq!(evaluator.average_precisions(|_, n| n != 2), [Some(1.0), Some(0.5), None]);
    assert_eq!(evaluator.average_precisions(|_, n| n != 1), [Some(0.0), None, None]);
    // The rule may differ from interaction to interaction.
    assert_eq!(evaluator.average_precisions(|k, n| k == 0 || n != 3), [Some(3.0 / 11.0), Some(1.0), None]);
    // More predictions after a score count in the next.
    let mut later = evaluate(3, &images, &predictions[..1].to_vec());
    assert_eq!(later.average_precisions(|_, _| true)[0], Some(6.0 / 11.0));
    later.add_image(2, &[predict(H, O, 0, 0.9)]).unwrap();
    assert_eq!(later.average_precisions(|_, _| true)[0], Some(1.0));
}

#[test]
fn a_person_may_be_the_object_and_an_object_may_be_shared() {
    // Both directions of a human-human pair, and two humans with one object.
    let images = [image(1, &[pair(H, O, 0), pair(O, H, 0), pair(FAR, O, 1), pair(H, O, 1)])];
    let right = vec![predict(H, O, 0, 0.9), predict(O, H, 0, 0.8), predict(H, O, 1, 0.7), predict(FAR, O, 1, 0.6)];
    let all = |list| evaluate(2, &images, &vec![(1, list)]).average_precisions(|_, _| true);
    assert_eq!(all(right.clone()), [Some(1.0), Some(1.0)]);
    let one_direction = vec![right[0], predict(H, O, 0, 0.8), right[2]];
    assert_eq!(all(one_direction), [Some(6.0 / 11.0), Some(6.0 / 11.0)]);
}

/// Weakly-HOI, appendix I: a published scorer dropped every prediction whose interaction is not annotated in its image. By hand:
/// 3 images, interaction 0 annotated in the first only and predicted in all, with the wrong ones in front.
#[test]
fn scoring_only_what_an_image_shows_inflates() {
    let images = [image(1, &[pair(H, O, 0)]), image(2, &[pair(H, O, 1)]), image(3, &[])];
    let everywhere = |n| (n, vec![predict(H, O, 0, 0.5 + n as f32 * 0.1), predict(H, O, 1, 0.2 + n as f32 * 0.1)]);
    let predictions: Predictions = (1..=3).map(everywhere).collect();
    let official = evaluate(2, &images, &predictions).average_precisions(|_, _| true);
    // 0: false, false, true. 1: false, true (and a false one behind).
    assert!((official[0].unwrap() - 1.0 / 3.0).abs() < 1e-12 && official[1] == Some(0.5), "{official:?}");
    let shown: HashSet<(u64, usize)> =
        images.iter().flat_map(|i| i.pairs.iter().map(|p| (i.number, p.interaction))).collect();
    let kept = predictions.iter().map(|(n, list)| {
        (*n, list.iter().filter(|p| shown.contains(&(*n, p.interaction))).copied().collect::<Vec<_>>())
    });
    let inflated = evaluate(2, &images, &kept.collect()).average_precisions(|_, _| true);
    assert_eq!(inflated, [Some(1.0), Some(1.0)], "what that scorer would report");
}

#[test]
fn recall_thresholds_are_integers() {
    // n of 10 pairs found at precision 1, one after the other: recall n/10 reaches n + 1 of the 11 thresholds exactly.
    let images: Vec<_> = (0..10).map(|n| image(n, &[pair(H, O, 0)])).collect();
    for found in 0..=10u64 {
        let predictions = (0..found).map(|n| (n, vec![predict(H, O, 0, 1.0 - n as f32 * 0.01)])).collect();
        let ap = evaluate(1, &images, &predictions).average_precisions(|_, _| true)[0].unwrap();
        let want = if found == 0 { 0.0 } else { (found + 1) as f64 / 11.0 };
        assert!((ap - want).abs() < 1e-12, "{found}: {ap} {want}");
    }
    // 7 of 11: 70 / 11 = 6.36 tenths, so the thresholds 0 to 6.
    let images: Vec<_> = (0..11).map(|n| image(n, &[pair(H, O, 0)])).collect();
    let predictions = (0..7).map(|n| (n, vec![predict(H, O, 0, 0.5)])).collect();
    let ap = evaluate(1, &images, &predictions).average_precisions(|_, _| true)[0].unwrap();
    assert!((ap - 7.0 / 11.0).abs() < 1e-12, "{ap}");
}

#[test]
fn equal_scores_lie_between_the_best_and_the_worst_order() {
    let images: Vec<_> = (0..40).map(|n| image(n, &[pair(H, O, 0)])).collect();
    let with = |right: f32, wrong: f32| -> f64 {
        let predictions =
            (0..40).map(|n| (n, vec![predict(H, O, 0, right), predict(FAR, O, 0, wrong)])).collect::<Predictions>();
        evaluate(1, &images, &predictions).average_precisions(|_, _| true)[0].unwrap()
    };
    let (best, worst, tied) = (with(0.6, 0.5), with(0.5, 0.6), with(0.5, 0.5));
    assert_eq!((best, worst), (1.0, 0.5));
    assert!(tied > 0.51 && tied < 0.9, "{tied}");
    assert_eq!(tied, with(0.5, 0.5));
}

#[test]
fn zero_shot_means_by_hand() {
    let aps = [Some(0.1), Some(0.3), None, Some(0.8), Some(0.2)];
    let near = |m: ZeroShotMeans, want: [f64; 3]| {
        let got = [m.unseen, m.seen, m.full].map(Option::unwrap);
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {want:?}");
    };
    // An interaction without annotation (2) counts in no mean.
    let first = ZeroShotMeans::new(&aps, &[0, 2, 3]).unwrap();
    near(first, [45.0, 25.0, 35.0]);
    let second = ZeroShotMeans::new(&aps, &[1]).unwrap();
    near(second, [30.0, 110.0 / 3.0, 35.0]);
    near(ZeroShotMeans::mean(&[first, second]), [37.5, (25.0 + 110.0 / 3.0) / 2.0, 35.0]);
    assert_eq!(ZeroShotMeans::new(&aps, &[2]).unwrap().unseen, None);
    assert_eq!(ZeroShotMeans::mean(&[]).full, None);
    assert_eq!(ZeroShotMeans::new(&aps, &[5]), Err(UnknownUnseen { interaction: 5, count: 5 }));
}

fn random_box(rng: &mut ChaCha8Rng, spread: f32) -> [f32; 4] {
    let (x, y) = (rng.random_range(0.0..spread), rng.random_range(0.0..spread));
    [x, y, x + rng.random_range(5.0..15.0), y + rng.random_range(5.0..15.0)]
}

#[test]
fn agrees_with_the_slow_version() {
    let mut decided = 0;
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let classes = rng.random_range(1..5);
        let count = rng.random_range(1..9u64);
        let mut serial = 0.0;
        let mut pairs = |rng: &mut ChaCha8Rng, most: usize| -> Vec<TripletPrediction> {
            let n = rng.random_range(0..=most);
            let mut next = |_| {
                serial += 1.0;
                // No two scores are equal.
                let score = rng.random_range(0..1000) as f32 + serial / 4096.0;
                predict(random_box(rng, 5.0), random_box(rng, 5.0), rng.random_range(0..classes), score)
            };
            (0..n).map(&mut next).collect()
        };
        let truth =
            |p: &TripletPrediction| AnnotatedPair { human: p.human, object: p.object, interaction: p.interaction };
        let images: Vec<_> =
            (0..count).map(|n| image(n, &pairs(&mut rng, 5).iter().map(truth).collect::<Vec<_>>())).collect();
        let predictions: Predictions = (0..count).map(|n| (n, pairs(&mut rng, 25))).collect();
        let kept = |k: usize, n: u64| !(n + k as u64 + seed).is_multiple_of(3);
        let mut evaluator = evaluate(classes, &images, &predictions);
        let (all, some) = (evaluator.average_precisions(|_, _| true), evaluator.average_precisions(kept));
        for k in 0..classes {
            let of_all = slow::average_precision(&images, &predictions, k, |_| true);
            let of_some = slow::average_precision(&images, &predictions, k, |n| kept(k, n));
            for (fast, slow) in [(all[k], of_all), (some[k], of_some)] {
                assert_eq!(fast.is_some(), slow.is_some(), "seed {seed}, {k}");
                let (fast, slow) = (fast.unwrap_or_default(), slow.unwrap_or_default());
                assert!((fast - slow).abs() < 1e-12, "seed {seed}, {k}: {fast} {slow}");
                decided += usize::from(fast > 0.0 && fast < 1.0);
            }
        }
    }
    assert!(decided > 300, "{decided} scores that are neither 0 nor 1");
}

/// Predictions made from the annotation: moved boxes, other verbs of the object, doubles, and pairs that are not there.
fn noisy(data: &HicoDet, images: &[AnnotatedImage], an_image: usize) -> Predictions {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let classes = data.table().classes();
    let mut of_object: HashMap<usize, Vec<usize>> = HashMap::new();
    classes.iter().enumerate().for_each(|(k, c)| of_object.entry(c.hico_object).or_default().push(k));
    let mut serial = 0u32;
    let mut all = Vec::with_capacity(images.len());
    for image in images {
        let size = image.size.unwrap();
        let mut list = Vec::with_capacity(an_image);
        while list.len() < an_image {
            let other: &AnnotatedImage = &images[rng.random_range(0..images.len())];
            let source = if image.pairs.is_empty() || rng.random_bool(0.2) { other } else { image };
            if source.pairs.is_empty() {
                continue;
            }
            let pair = &source.pairs[rng.random_range(0..source.pairs.len())];
            let noise = rng.random_range(0.0..0.3f32);
            let mut moved = |b: &BBox| {
                let (w, h) = (b.width() * noise, b.height() * noise);
                let [dx1, dx2] = [(); 2].map(|()| rng.random_range(-w..=w));
                let [dy1, dy2] = [(); 2].map(|()| rng.random_range(-h..=h));
                BBox::new(b.x1 + dx1, b.y1 + dy1, b.x2 + dx2, b.y2 + dy2).clip(size)
            };
            let (human, object) = (moved(&pair.human), moved(&pair.object));
            let verbs = &of_object[&classes[pair.interaction].hico_object];
            let right = rng.random_bool(0.4);
            let interaction = if right { pair.interaction } else { verbs[rng.random_range(0..verbs.len())] };
            // No two scores are equal: the last bits count the predictions.
            serial += 1;
            let likely = if right { 0.3 } else { 0.0 };
            let score =
                f32::from_bits(((likely + rng.random_range(1.0..1.7f32)).to_bits() & !0xf_ffff) | (serial & 0xf_ffff));
            list.push(TripletPrediction { human, object, interaction, score });
        }
        all.push((image.number, list));
    }
    all
}

fn slow_means(
    data: &HicoDet,
    images: &[AnnotatedImage],
    predictions: &Predictions,
    known: Option<&KnownObjectImages>,
) -> [f64; 3] {
    let classes = data.table().classes();
    // Sorted by interaction beforehand: nothing but time is saved.
    let mut of: Vec<(Vec<AnnotatedImage>, Predictions)> = vec![Default::default(); classes.len()];
    for image in images {
        let mut kept: HashMap<usize, Vec<AnnotatedPair>> = HashMap::new();
        image.pairs.iter().for_each(|p| kept.entry(p.interaction).or_default().push(*p));
        kept.into_iter().for_each(|(k, pairs)| of[k].0.push(AnnotatedImage { pairs, ..image.clone() }));
    }
    for (number, list) in predictions {
        let mut kept: HashMap<usize, Vec<TripletPrediction>> = HashMap::new();
        list.iter().for_each(|p| kept.entry(p.interaction).or_default().push(*p));
        kept.into_iter().for_each(|(k, list)| of[k].1.push((*number, list)));
    }
    let aps: Vec<f64> = (0..classes.len())
        .map(|k| {
            let counts = |n| known.is_none_or(|known| known.contains(k, n));
            slow::average_precision(&of[k].0, &of[k].1, k, counts).unwrap()
        })
        .collect();
    let mean = |wanted: &dyn Fn(usize) -> bool| {
        let group: Vec<f64> = (0..aps.len()).filter(|&k| wanted(k)).map(|k| aps[k]).collect();
        100.0 * group.iter().sum::<f64>() / group.len() as f64
    };
    [mean(&|_| true), mean(&|k| classes[k].train_count < 10), mean(&|k| classes[k].train_count >= 10)]
}

fn published(an_image: usize) -> Option<[(f64, f64); 6]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hico-det");
    if !root.is_dir() {
        println!("skipped: ../shared/data/hico-det is not here");
        return None;
    }
    let data = HicoDet::open(&root).unwrap();
    let (images, known) = (data.test().unwrap(), data.known_objects().unwrap());
    assert_eq!(images.len(), 9_658);
    let predictions = noisy(&data, &images, an_image);
    let mut evaluator = HicoDetEvaluator::new(data.table(), &images, Some(&known), 0);
    predictions.iter().for_each(|(n, list)| evaluator.add_image(*n, list).unwrap());
    let HicoDetScores { default, known_object, .. } = evaluator.finish();
    let fast = [default, known_object.unwrap()].map(|m| [m.full, m.rare, m.non_rare].map(Option::unwrap));
    let slow = [None, Some(&known)].map(|known| slow_means(&data, &images, &predictions, known));
    println!("fast {fast:?}\nslow {slow:?}");
    let mut both = fast.into_iter().flatten().zip(slow.into_iter().flatten());
    Some(std::array::from_fn(|_| both.next().unwrap()))
}

fn assert_close(scores: Option<[(f64, f64); 6]>) {
    let Some(scores) = scores else { return };
    for (fast, slow) in scores {
        // Full 32-bit floats decide about an IoU of 0.5 now and then otherwise than 64 bits.
        assert!((fast - slow).abs() < 0.01, "{fast} {slow}");
        assert!(fast > 5.0 && fast < 80.0, "{fast}: not noise alone, and not the annotation alone");
    }
    assert!(scores[3].0 > scores[0].0, "fewer images can only take false ones away here");
}

#[test]
fn the_command_scores_zero_shot_splits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/hico-det");
    if !root.is_dir() {
        println!("skipped: ../shared/data/hico-det is not here");
        return;
    }
    let data = HicoDet::open(&root).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("p.jsonl");
    // Half of the verbs of a perfect system.
    let mut file = PredictionFile::create(&place).unwrap();
    for image in data.test().unwrap() {
        let half = image.pairs.iter().filter(|p| p.interaction.is_multiple_of(2));
        let said = half.map(|p| TripletPrediction {
            human: p.human,
            object: p.object,
            interaction: p.interaction,
            score: 0.5,
        });
        file.add(&image.name, &said.collect::<Vec<_>>()).unwrap();
    }
    file.commit().unwrap();
    let score = |split: &str| -> Value {
        let base =
            ["score", "hico-det", "--predictions", path(&place), "--root", path(&root), "--json", "--split", split];
        let done = hoi_train(&base);
        assert!(done.status.success(), "{}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    };
    for (split, lists, splits) in [
        ("rf-uc", 1, vec![ZeroShotSplit::RfUc]),
        ("uc", 5, (0..5).map(ZeroShotSplit::Uc).collect()),
        ("uo", 1, vec![ZeroShotSplit::Uo]),
    ] {
        let line = score(split);
        assert_eq!((&line["zero_shot"]["lists"], &line["zero_shot"]["split"]), (&json!(lists), &json!(split)));
        assert_eq!(line["zero_shot"]["full"], line["default"]["full"]);
        // Nearly: doubles in the annotation take one another's place.
        let even: Vec<f64> = splits
            .iter()
            .map(|s| {
                let unseen = s.unseen().unwrap();
                100.0 * unseen.iter().filter(|k| k.is_multiple_of(2)).count() as f64 / unseen.len() as f64
            })
            .collect();
        let want = even.iter().sum::<f64>() / lists as f64;
        let unseen = line["zero_shot"]["unseen"].as_f64().unwrap();
        assert!(unseen <= want && unseen > want - 3.0, "{split}: {unseen} of {want}");
    }
}

#[test]
fn agrees_on_the_test_split() {
    assert_close(published(8));
}

/// `cargo test --release --workspace --test suite agrees_on_100_an_image -- --ignored --nocapture`
#[test]
#[ignore = "half a minute"]
fn agrees_on_100_an_image() {
    assert_close(published(100));
}

fn reader(lines: &str) -> PredictionReader<BufReader<&[u8]>, TripletPrediction> {
    PredictionReader::new(BufReader::new(lines.as_bytes()), Path::new("p.jsonl"))
}

#[test]
fn lines_by_hand() {
    let lines = concat!(
        r#"{"image": "2.jpg", "triplets": [{"human": [0, 0, 9, 9.5], "object": [5, 5, 20, 20], "interaction": 1, "score": 0.4}]}"#,
        "\n\n  \n",
        r#"{"triplets": [], "image": "1.jpg"}"#
    );
    let read: Vec<_> = reader(lines).map(Result::unwrap).collect();
    let triplets = vec![predict([0., 0., 9., 9.5], [5., 5., 20., 20.], 1, 0.4)];
    assert_eq!(read[0], (1, PredictedImage { image: "2.jpg".into(), triplets }));
    assert_eq!(read[1], (4, PredictedImage { image: "1.jpg".into(), triplets: vec![] }));
    assert_eq!(read.len(), 2);
    assert_eq!(reader("").count(), 0);
}

#[test]
fn wrong_lines_say_what_and_where() {
    let good = r#"{"human": [0, 0, 9, 9], "object": [5, 5, 20, 20], "interaction": 1, "score": 0.4}"#;
    let line = |triplet: &str| format!("{{\"image\": \"1.jpg\", \"triplets\": [{triplet}]}}");
    let cases = [
        (line(&good.replace("0.4", "NaN")), "NaN and Infinity are no JSON"),
        (line(&good.replace("0.4", "null")), "expected f32"),
        (line(&good.replace("0.4}", "0.4, \"verb\": 3}")), "unknown field `verb`"),
        (line(&good.replace("[0, 0, 9, 9]", "[0, 0, 9]")), "expected an array of length 4"),
        (line(&good.replace(": 1,", ": -1,")), "expected usize"),
        (line(&good.replace("\"score\"", "\"confidence\"")), "unknown field `confidence`"),
        (line("{}"), "missing field `human`"),
        ("{\"image\": \"1.jpg\"}".into(), "missing field `triplets`"),
        ("{\"image\": \"1.jpg\", \"triplets\": [], \"size\": 1}".into(), "unknown field `size`"),
        (line(good)[..40].into(), "EOF"),
        ("[]".into(), "invalid length 0"),
        (format!("{} x", line(good)), "trailing characters"),
    ];
    for (bad, want) in cases {
        let lines = format!("{}\n{bad}\n{}\n", line(good), line(good));
        let read: Vec<_> = reader(&lines).collect();
        assert_eq!(read.len(), 2, "nothing comes after an error");
        let error = read[1].as_ref().unwrap_err();
        assert!(matches!(error, PredictionsError::Line { line: 2, .. }), "{error}");
        let message = error.to_string();
        assert!(message.starts_with("p.jsonl, line 2, column ") && message.contains(want), "{message}");
        assert_eq!(message.matches("line").count() - message.matches("a line").count(), 1, "{message}");
    }
    assert!(matches!(reader("\u{0}").next(), Some(Err(PredictionsError::Line { line: 1, .. }))));

    let numbers = HashMap::from([("1.jpg", 1), ("2.jpg", 2)]);
    let images = [image(1, &[]), image(2, &[])];
    let refuse = |lines: &str| {
        let mut evaluator = InteractionEvaluator::new(3, &images, 0);
        take_all(reader(lines), &numbers, |n, list| evaluator.add_image(n, list)).unwrap_err()
    };
    let unknown = refuse(&line(good).replace("1.jpg", "9.jpg"));
    assert!(unknown.to_string().contains("line 1: image `9.jpg`"), "{unknown}");
    assert!(unknown.to_string().contains("one of 2 names such as `1.jpg`"), "{unknown}");
    let refused = |lines: &str| match refuse(lines) {
        PredictionsError::Refused { line, source, .. } => (line, source),
        other => panic!("{other}"),
    };
    assert_eq!(refused(&format!("{0}\n{0}", line(good))), (2, EvaluationError::ImageTwice { number: 1 }));
    let overflow = line(&format!("{good}, {}", good.replace("0.4", "1e39")));
    assert_eq!(refused(&overflow), (1, EvaluationError::NotFinite { number: 1, index: 1, what: "score" }));
    let unseen = line(&good.replace(": 1,", ": 3,"));
    assert_eq!(refused(&unseen).1.to_string(), "image 1, prediction 0: interaction 3 is unknown: expected 0 to 2");
    let mut evaluator = InteractionEvaluator::new(3, &images, 0);
    let taken = take_all(reader(&line(good)), &numbers, |n, list| evaluator.add_image(n, list)).unwrap();
    assert_eq!(taken, Taken { images: 1, triplets: 1 });
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("p.jsonl");
    let list = [predict([0.1, 1e-7, 9.25, 33.333_332], O, 5, 0.1 + 0.2), predict(H, O, 0, -1e30)];
    let mut file = PredictionFile::create(&place).unwrap();
    file.add("1.jpg", &list).unwrap();
    assert!(!place.exists(), "not before it is whole");
    file.add::<TripletPrediction>("2.jpg", &[]).unwrap();
    let nan = file.add("3.jpg", &[list[0], predict(H, O, 0, f32::NAN)]).unwrap_err();
    assert_eq!(nan.to_string(), "image `3.jpg`, prediction 1: its score is not a finite number");
    file.commit().unwrap();
    let input = BufReader::new(std::fs::File::open(&place).unwrap());
    let read: Vec<_> =
        PredictionReader::<_, TripletPrediction>::new(input, &place).map(|line| line.unwrap().1).collect();
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].image.as_str(), &read[0].triplets[..]), ("1.jpg", &list[..]));

    drop(PredictionFile::create(&folder.path().join("q.jsonl")).unwrap());
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["p.jsonl"], "what was dropped leaves nothing behind");
    assert!(
        PredictionFile::create(&folder.path().join("none/p.jsonl")).unwrap_err().to_string().contains("none/p.jsonl")
    );
}

/// The annotation of the tiny test split, all at one score, and a wrong triplet of interaction 0 in front in every fourth image.
fn write_tiny(tiny: &TinyData, place: &Path) -> Predictions {
    let (data, _) = tiny.open();
    let mut file = PredictionFile::create(place).unwrap();
    let mut all = Vec::new();
    for image in data.test().unwrap() {
        let right = |p: &AnnotatedPair| TripletPrediction {
            human: p.human,
            object: p.object,
            interaction: p.interaction,
            score: 0.5,
        };
        let mut list: Vec<_> = image.pairs.iter().map(right).collect();
        if image.number.is_multiple_of(4) {
            list.push(predict(FAR, FAR, 0, 0.6));
        }
        file.add(&image.name, &list).unwrap();
        all.push((image.number, list));
    }
    file.commit().unwrap();
    all
}

#[test]
fn the_command_scores_a_file() {
    let tiny = TinyData::write();
    let (root, place) = (tiny.root(), tiny.folder.path().join("p.jsonl"));
    let predictions = write_tiny(&tiny, &place);
    let (data, _) = tiny.open();
    let images = data.test().unwrap();
    let mut evaluator = HicoDetEvaluator::new(data.table(), &images, None, 0);
    predictions.iter().for_each(|(n, list)| evaluator.add_image(*n, list).unwrap());
    let direct = evaluator.finish();
    let ap = direct.per_interaction[0].unwrap();
    assert!(ap < 0.9 && ap > 0.3, "{ap}");

    let base = ["score", "hico-det", "--predictions", path(&place), "--root", path(&root)];
    let done = hoi_train(&[&base[..], &["--json"]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let line: Value = serde_json::from_str(text(&done.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(line["default"]["full"].as_f64(), direct.default.full);
    assert_eq!(line["default"]["rare"].as_f64(), direct.default.rare);
    assert_eq!(line["known_object"]["non_rare"], line["default"]["non_rare"], "every image shows both objects");
    assert_eq!((&line["images"], &line["triplets"]), (&json!(IMAGES), &json!(IMAGES + IMAGES / 4)));
    let table = text(&hoi_train(&base).stdout);
    assert!(table.contains("Default") && table.contains("Known-Object"), "{table}");
    assert!(table.contains(&format!("{:.2}", direct.default.full.unwrap())), "{table}");

    // The same lines packed.
    let packed = tiny.folder.path().join("p.jsonl.gz");
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), Default::default());
    std::io::copy(&mut std::fs::File::open(&place).unwrap(), &mut gz).unwrap();
    gz.finish().unwrap();
    let unpacked = hoi_train(&["score", "hico-det", "--predictions", path(&packed), "--root", path(&root), "--json"]);
    let unpacked: Value = serde_json::from_slice(&unpacked.stdout).unwrap();
    assert_eq!(unpacked["default"], line["default"]);

    // Five interactions are not HICO-DET's 600.
    let split = hoi_train(&[&base[..], &["--split", "uv"]].concat());
    assert!(split.status.code() == Some(1) && text(&split.stderr).contains("the split uv"), "{}", text(&split.stderr));

    // Without lists of the Known-Object mode.
    std::fs::remove_file(root.join("known_object_test.json.gz")).unwrap();
    let default_only = hoi_train(&[&base[..], &["--json"]].concat());
    assert!(
        text(&default_only.stderr).contains("Default only") && text(&default_only.stderr).contains("known_object_test")
    );
    let default_only: Value = serde_json::from_slice(&default_only.stdout).unwrap();
    assert_eq!((&default_only["default"], &default_only["known_object"]), (&line["default"], &Value::Null));

    std::fs::write(&place, "{\"image\": \"x.jpg\", \"triplets\": []}\n").unwrap();
    let refused = hoi_train(&base);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    let stderr = text(&refused.stderr);
    assert!(
        stderr.contains("p.jsonl, line 1: image `x.jpg`") && stderr.contains("HICO_test2015_00000001.jpg"),
        "{stderr}"
    );
    for bad in [&["score"][..], &["score", "hico-det", "--root", "x"], &[&base[..], &["--split", "uc9"]].concat()] {
        assert_eq!(hoi_train(bad).status.code(), Some(2), "{bad:?}");
    }
}
