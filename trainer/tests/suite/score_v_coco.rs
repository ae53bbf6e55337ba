//! V-COCO's role AP from outside: rules by hand, a slow second version, and the file of predictions.

use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_trainer::dataset::v_coco::{ACTIONS, ActionRole, VCocoAction, VCocoImage, VCocoPerson};
use hoi_trainer::eval::interactions::EvaluationError;
use hoi_trainer::eval::precision::envelope_area;
use hoi_trainer::eval::predictions::{PredictionFile, PredictionReader, take_all};
use hoi_trainer::eval::v_coco::{RolePrediction, TruthError, VCocoEvaluator, VCocoScores, action_role_named};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::slow_scores::v_coco::{self as slow, SlowImage, SlowPerson};

type Predictions = Vec<(u64, Vec<RolePrediction>)>;

/// COCO's 0, 0, 10, 20: on inclusive pixels it ends at 9, 19.
const H: [f32; 4] = [0., 0., 10., 20.];
const OTHER: [f32; 4] = [50., 0., 60., 20.];
const THING: [f32; 4] = [20., 0., 30., 10.];
const FAR: [f32; 4] = [70., 70., 90., 90.];

fn verb(name: &str) -> ActionRole {
    action_role_named(name).unwrap()
}

/// The action with a role box or none for each role.
fn does(name: &str, roles: &[Option<[f32; 4]>]) -> VCocoAction {
    VCocoAction { action: verb(name).action, roles: roles.iter().map(|r| r.map(BBox::from)).collect() }
}

fn person(bbox: [f32; 4], actions: &[VCocoAction]) -> VCocoPerson {
    VCocoPerson { bbox: bbox.into(), annotated: true, actions: actions.to_vec() }
}

fn not_annotated(bbox: [f32; 4]) -> VCocoPerson {
    VCocoPerson { bbox: bbox.into(), annotated: false, actions: vec![] }
}

fn image(number: u64, persons: &[VCocoPerson]) -> VCocoImage {
    VCocoImage {
        number,
        name: format!("COCO_val2014_{number:012}.jpg"),
        size: Some(Size::new(100, 100)),
        persons: persons.to_vec(),
        ..VCocoImage::default()
    }
}

/// On inclusive pixels, as an annotated box is: what a perfect detector would say.
fn closed([x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
    [x1, y1, x2 - 1.0, y2 - 1.0]
}

fn predict(human: [f32; 4], name: &str, role: Option<[f32; 4]>, score: f32) -> RolePrediction {
    RolePrediction { human: closed(human).into(), verb: verb(name), role: role.map(|r| closed(r).into()), score }
}

fn score(images: &[VCocoImage], predictions: &[(u64, Vec<RolePrediction>)]) -> VCocoScores {
    let mut evaluator = VCocoEvaluator::new(images, 0).unwrap();
    predictions.iter().for_each(|(n, list)| evaluator.add_image(*n, list).unwrap());
    evaluator.finish()
}

/// AP of scenario 1 and 2 in percent.
fn ap(images: &[VCocoImage], predictions: &[(u64, Vec<RolePrediction>)], name: &str) -> [Option<f64>; 2] {
    let scores = score(images, predictions);
    let row = scores.roles.iter().find(|r| r.verb == name).unwrap();
    [row.scenario_1, row.scenario_2]
}

fn assert_ap(found: [Option<f64>; 2], want: [f64; 2]) {
    let near = found.iter().zip(want).all(|(f, w)| f.is_some_and(|f| (f - w).abs() < 1e-4));
    assert!(near, "{found:?}, expected {want:?}");
}

fn boards(thing: Option<[f32; 4]>) -> Vec<VCocoImage> {
    vec![image(1, &[person(H, &[does("skateboard", &[thing])])])]
}

#[test]
fn names() {
    let names: Vec<String> = (0..26)
        .flat_map(|action| (0..ACTIONS[action].roles.len()).map(move |r| ActionRole { action, role: Some(r) }.name()))
        .collect();
    assert_eq!(names.len(), 25);
    assert_eq!(names[..6], ["hold obj", "sit instr", "ride instr", "look obj", "hit instr", "hit obj"]);
    for name in &names {
        assert_eq!(verb(name).name(), *name);
    }
    assert_eq!(verb("stand"), ActionRole { action: 1, role: None });
    assert_eq!(verb("eat instr"), ActionRole { action: 7, role: Some(1) });
    for wrong in ["", "hold", "hold instr", "stand obj", "stand agent", "holds obj", "hold  obj", "Hold obj", "skate"] {
        assert_eq!(action_role_named(wrong).and_then(|a| a.role), None, "{wrong}");
    }
    assert_eq!(action_role_named("hold instr"), None);
}

#[test]
fn area_under_the_envelope_by_hand() {
    let near = |hits: &[bool], positives, want: f64| {
        let area = envelope_area(hits.iter().copied(), positives).unwrap();
        assert!((area - want).abs() < 1e-12, "{hits:?} {area} {want}");
    };
    assert_eq!(envelope_area([true], 0), None);
    near(&[], 2, 0.0);
    near(&[true, true], 2, 1.0);
    // Half of the recall at precision 1: 11 points would give 6/11.
    near(&[true], 2, 0.5);
    // Precision 1/2 at recall 1/2, 2/3 at recall 1: the envelope lifts the first step.
    near(&[false, true, true], 2, 2.0 / 3.0);
    near(&[true, false, true], 2, 0.5 + 0.5 * 2.0 / 3.0);
    near(&[true, false, false, true, true], 4, 0.25 + 0.25 * 0.6 + 0.25 * 0.6);
    // Wrong ones behind the last right one change nothing.
    near(&[true, false, false], 1, 1.0);
}

#[test]
fn both_boxes_and_the_action_must_be_right() {
    let images = boards(Some(THING));
    let of = |p| ap(&images, &[(1, vec![p])], "skateboard instr");
    assert_ap(of(predict(H, "skateboard instr", Some(THING), 0.1)), [100.0; 2]);
    assert_ap(of(predict(FAR, "skateboard instr", Some(THING), 0.1)), [0.0; 2]);
    assert_ap(of(predict(H, "skateboard instr", Some(FAR), 0.1)), [0.0; 2]);
    assert_ap(of(predict(H, "surf instr", Some(THING), 0.1)), [0.0; 2]);
    // An annotated role cannot be left out, in either scenario.
    assert_ap(of(predict(H, "skateboard instr", None, 0.1)), [0.0; 2]);
    // Half of either box is enough, less is not.
    assert_ap(of(predict([0., 0., 10., 10.], "skateboard instr", Some([20., 0., 25., 10.]), 0.1)), [100.0; 2]);
    assert_ap(of(predict([0., 0., 10., 9.9], "skateboard instr", Some(THING), 0.1)), [0.0; 2]);
    assert_ap(of(predict(H, "skateboard instr", Some([20., 0., 24.9, 10.]), 0.1)), [0.0; 2]);
    assert_eq!(ap(&images, &[], "skateboard instr"), [Some(0.0); 2]);
    assert_eq!(ap(&images, &[], "surf instr"), [None; 2], "nobody does it");
}

#[test]
fn pixels_are_inclusive() {
    // Annotated x 20 to 29 inclusive (10 wide). Predicted 20 to 24: 5 of 10 with + 1, 4 of 9 without.
    let images = boards(Some(THING));
    let exactly = |x2: f32| RolePrediction {
        human: closed(H).into(),
        verb: verb("skateboard instr"),
        role: Some(BBox::new(20.0, 0.0, x2, 9.0)),
        score: 0.5,
    };
    assert_ap(ap(&images, &[(1, vec![exactly(24.0)])], "skateboard instr"), [100.0; 2]);
    assert_ap(ap(&images, &[(1, vec![exactly(23.9)])], "skateboard instr"), [0.0; 2]);
    // A box that reaches out of the image is clipped to its last pixel: 95 to 99.
    let images = boards(Some([95.0, 0.0, 140.0, 10.0]));
    let inside = |x1: f32| RolePrediction { role: Some(BBox::new(x1, 0.0, 99.0, 9.0)), ..exactly(0.0) };
    assert_ap(ap(&images, &[(1, vec![inside(90.0)])], "skateboard instr"), [100.0; 2]);
    assert_ap(ap(&images, &[(1, vec![inside(89.9)])], "skateboard instr"), [0.0; 2]);
    // A person one pixel wide has no area and is dropped, with its action.
    let thin = [image(1, &[person([5., 5., 6., 50.], &[does("run", &[])]), person(H, &[])])];
    assert_eq!(VCocoEvaluator::new(&thin, 0).unwrap().positives().iter().sum::<usize>(), 0);
}

#[test]
fn a_duplicate_is_false() {
    let images = [boards(Some(THING)), vec![image(2, &[person(H, &[does("skateboard", &[Some(THING)])])])]].concat();
    let right = |score| predict(H, "skateboard instr", Some(THING), score);
    let predictions = [(1, vec![right(0.9), right(0.8)]), (2, vec![right(0.7)])];
    // true, false, true of 2.
    assert_ap(ap(&images, &predictions, "skateboard instr"), [50.0 + 50.0 * 2.0 / 3.0; 2]);
    // A wrong detection does not use the person up.
    let predictions = [(1, vec![predict(H, "skateboard instr", Some(FAR), 0.9), right(0.8)])];
    assert_ap(ap(&images, &predictions, "skateboard instr"), [50.0 * 0.5; 2]);
}

#[test]
fn an_absent_role_in_both_scenarios() {
    let images = boards(None);
    let of = |role| ap(&images, &[(1, vec![predict(H, "skateboard instr", role, 0.1)])], "skateboard instr");
    assert_ap(of(None), [100.0; 2]);
    assert_ap(of(Some(THING)), [0.0, 100.0]);
    // Four zeros say the same as null; UPT's tiny box does not.
    let zeros = RolePrediction { role: Some([0.0; 4].into()), ..predict(H, "skateboard instr", None, 0.1) };
    assert_ap(ap(&images, &[(1, vec![zeros])], "skateboard instr"), [100.0; 2]);
    let tiny = RolePrediction { role: Some([0.0, 0.0, 0.1, 0.1].into()), ..zeros };
    assert_ap(ap(&images, &[(1, vec![tiny])], "skateboard instr"), [0.0, 100.0]);
    // The action and the person must be right all the same.
    assert_ap(ap(&images, &[(1, vec![predict(FAR, "skateboard instr", None, 0.1)])], "skateboard instr"), [0.0; 2]);
    let idle = [image(1, &[person(H, &[])]), image(2, &[person(H, &[does("skateboard", &[None])])])];
    assert_ap(ap(&idle, &[(1, vec![predict(H, "skateboard instr", None, 0.1)])], "skateboard instr"), [0.0; 2]);
    // Scenario 1 keeps the person free for the next detection; in scenario 2 that one is a duplicate.
    let two = vec![predict(H, "skateboard instr", Some(THING), 0.9), predict(H, "skateboard instr", None, 0.8)];
    assert_ap(ap(&images, &[(1, two)], "skateboard instr"), [50.0, 100.0]);
}

#[test]
fn recall_counts_the_action_for_both_of_its_roles() {
    // One person hits with a racket, one hits a ball, one hits without anything that is annotated.
    let images = [image(
        1,
        &[
            person(H, &[does("hit", &[Some(THING), None])]),
            person(OTHER, &[does("hit", &[None, Some(THING)])]),
            person(FAR, &[does("hit", &[None, None])]),
        ],
    )];
    let scores = score(
        &images,
        &[(1, vec![predict(H, "hit instr", Some(THING), 0.9), predict(OTHER, "hit obj", Some(THING), 0.9)])],
    );
    for row in scores.roles.iter().filter(|r| r.verb.starts_with("hit")) {
        assert_eq!(row.positives, 3, "{}", row.verb);
        assert_ap([row.scenario_1, row.scenario_2], [100.0 / 3.0; 2]);
    }
    // The first role of the file is the instrument: the boxes are not mixed up.
    let wrong = [(1, vec![predict(H, "hit obj", Some(THING), 0.9)])];
    assert_ap(ap(&images, &wrong, "hit obj"), [0.0, 100.0 / 3.0]);
}

#[test]
fn detections_of_unannotated_persons_are_skipped() {
    let board = does("skateboard", &[Some(THING)]);
    let images = [image(1, &[person(H, std::slice::from_ref(&board)), not_annotated(OTHER)]), image(2, &[])];
    let right = predict(H, "skateboard instr", Some(THING), 0.5);
    let skipped = predict(OTHER, "skateboard instr", Some(THING), 0.9);
    let scores = score(&images, &[(1, vec![right, skipped]), (2, vec![skipped, right])]);
    assert_eq!(scores.skipped, 3, "one at the person, two in the image without persons");
    assert_eq!(scores.scenario_1, Some(100.0));
    // On a person who is annotated and does nothing it is false.
    let idle = [image(1, &[person(H, &[board]), person(OTHER, &[])])];
    assert_ap(ap(&idle, &[(1, vec![right, skipped])], "skateboard instr"), [50.0; 2]);
    // The largest IoU decides, however small: between both, a little nearer to the unannotated one.
    let between = predict([8., 0., 54., 20.], "skateboard instr", Some(THING), 0.9);
    assert_eq!(score(&images, &[(1, vec![between])]).skipped, 1);
    let between = predict([4., 0., 52., 20.], "skateboard instr", Some(THING), 0.9);
    let scores = score(&images, &[(1, vec![right, between])]);
    assert_eq!((scores.skipped, scores.scenario_1), (0, Some(50.0)));
    // No overlap at all: the first person of the image.
    let nowhere = predict(FAR, "skateboard instr", Some(THING), 0.9);
    assert_eq!(score(&images, &[(1, vec![nowhere])]).skipped, 0);
    let first = [image(1, &[not_annotated(OTHER), person(H, &[])])];
    assert_eq!(score(&first, &[(1, vec![nowhere])]).skipped, 1);
}

#[test]
fn no_second_choice_of_a_person() {
    // Two persons nearly in the same place; the first does it, the second does not.
    let second = [0., 0., 10., 18.];
    let images = [image(1, &[person(H, &[does("skateboard", &[Some(THING)])]), person(second, &[])])];
    let predictions = |human| [(1, vec![predict(human, "skateboard instr", Some(THING), 0.9)])];
    assert_ap(ap(&images, &predictions(H), "skateboard instr"), [100.0; 2]);
    // IoU 0.9 with the first is not asked for, since the second has 1.
    assert_ap(ap(&images, &predictions(second), "skateboard instr"), [0.0; 2]);
    // The same when the nearest is used up.
    let images = [image(1, &[H, second].map(|h| person(h, &[does("skateboard", &[Some(THING)])])))];
    let twice = [(
        1,
        vec![
            predict(H, "skateboard instr", Some(THING), 0.9),
            predict([0., 0., 10., 19.9], "skateboard instr", Some(THING), 0.8),
        ],
    )];
    assert_ap(ap(&images, &twice, "skateboard instr"), [50.0; 2]);
}

#[test]
fn a_person_may_be_the_role() {
    let images = [image(1, &[person(H, &[does("look", &[Some(OTHER)])]), person(OTHER, &[does("look", &[Some(H)])])])];
    let both = vec![predict(H, "look obj", Some(OTHER), 0.9), predict(OTHER, "look obj", Some(H), 0.8)];
    assert_ap(ap(&images, &[(1, both)], "look obj"), [100.0; 2]);
    assert_ap(ap(&images, &[(1, vec![predict(H, "look obj", Some(H), 0.9)])], "look obj"), [0.0; 2]);
}

#[test]
fn the_mean_with_and_without_point() {
    let all = [
        does("point", &[Some(THING)]),
        does("hold", &[Some(THING)]),
        does("eat", &[Some(THING), None]),
        does("run", &[]),
    ];
    let images = [image(1, &[person(H, &all)])];
    let scores =
        score(&images, &[(1, vec![predict(H, "hold obj", Some(THING), 0.9), predict(H, "eat instr", Some(FAR), 0.9)])]);
    // hold obj 100, eat obj 0, eat instr 0 or 100; point 0. What nobody does is in no mean.
    assert_ap([scores.scenario_1, scores.scenario_2], [100.0 / 3.0, 200.0 / 3.0]);
    assert_ap([scores.with_point.scenario_1, scores.with_point.scenario_2], [25.0, 50.0]);
    assert_eq!((scores.roles.len(), scores.agent, scores.agents.len()), (25, None, 0));

    // The agent's AP asks for the person alone, and for it there are all 26 actions.
    let agents = vec![predict(H, "run", None, 0.9), predict(H, "hold", None, 0.8), predict(FAR, "eat", None, 0.7)];
    let scores = score(&images, &[(1, agents)]);
    assert_eq!(scores.agents.len(), 26);
    assert!((scores.agent.unwrap() - 50.0).abs() < 1e-9, "run and hold of run, hold, eat and point");
    assert_eq!(scores.scenario_1, Some(0.0));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let refuse = |persons: &[VCocoPerson]| VCocoEvaluator::new(&[image(1, persons)], 0).unwrap_err();
    let unknown = VCocoAction { action: 26, roles: vec![] };
    assert_eq!(refuse(&[person(H, &[unknown])]), TruthError::UnknownAction { number: 1, person: 0, action: 26 });
    let twice = [does("run", &[]), does("run", &[])];
    let error = refuse(&[person(H, &[]), person(H, &twice)]);
    assert_eq!(error.to_string(), "image 1, person 1: action `run` is listed twice");
    let error = refuse(&[person(H, &[does("cut", &[None])])]);
    assert_eq!(error.to_string(), "image 1, person 0: action `cut` has 1 role boxes, expected 2");
    let same = VCocoEvaluator::new(&[image(1, &[]), image(1, &[])], 0).unwrap_err();
    assert_eq!(same, TruthError::ImageTwice { number: 1 });

    let images = boards(Some(THING));
    let mut evaluator = VCocoEvaluator::new(&images, 0).unwrap();
    let good = predict(H, "skateboard instr", Some(THING), 0.5);
    let mut refused = |number, p| evaluator.add_image(number, &[good, p]).unwrap_err();
    let not_finite = |what| EvaluationError::NotFinite { number: 1, index: 1, what };
    assert_eq!(refused(1, RolePrediction { score: f32::NAN, ..good }), not_finite("score"));
    let open = BBox::new(0.0, 0.0, f32::INFINITY, 1.0);
    assert_eq!(refused(1, RolePrediction { role: Some(open), ..good }), not_finite("box"));
    assert_eq!(refused(1, RolePrediction { human: open, ..good }), not_finite("box"));
    let none = ActionRole { action: 1, role: Some(0) };
    assert!(refused(1, RolePrediction { verb: none, ..good }).to_string().contains("none of V-COCO's"));
    assert_eq!(refused(2, good), EvaluationError::UnknownImage { number: 2 });
    evaluator.add_image(1, &[good]).unwrap();
    assert_eq!(evaluator.add_image(1, &[good]), Err(EvaluationError::ImageTwice { number: 1 }));
    assert_eq!(evaluator.finish().scenario_1, Some(100.0), "what was refused left nothing behind");
}

/// Everything at random and close together: COCO boxes with two decimals, roles that are absent, persons without annotation.
fn random_case(seed: u64, action: usize) -> (Vec<SlowImage>, Vec<VCocoImage>, Predictions, ActionRole) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let roles = ACTIONS[action].roles.len();
    let role = (roles > 0 && rng.random_bool(0.8)).then(|| rng.random_range(0..roles));
    let asked = ActionRole { action, role };
    let size = [60.0, 50.0];
    let mut slow_images = Vec::new();
    let (mut images, mut predictions) = (Vec::new(), Vec::new());
    let xywh = |rng: &mut ChaCha8Rng| {
        // Some reach out of the image, some have no area.
        let cut = |v: f64| (v * 100.0).round() / 100.0;
        [
            rng.random_range(-2.0..12.0),
            rng.random_range(-2.0..9.0),
            rng.random_range(0.5..58.0),
            rng.random_range(0.5..48.0),
        ]
        .map(cut)
    };
    let open = |[x, y, w, h]: [f64; 4]| BBox::from([x, y, x + w, y + h].map(|v| v as f32));
    for number in 0..rng.random_range(1..9u64) {
        let mut persons = Vec::new();
        for _ in 0..rng.random_range(0..5) {
            let mut actions = Vec::new();
            for other in [action, (action + 1) % 26] {
                if rng.random_bool(0.6) {
                    let boxes = (0..ACTIONS[other].roles.len()).map(|_| {
                        let bbox = xywh(&mut rng);
                        // A role box always has an area: COCO's file drops the others.
                        rng.random_bool(0.7).then_some([
                            bbox[0].max(0.0),
                            bbox[1].max(0.0),
                            bbox[2].max(3.0),
                            bbox[3].max(3.0),
                        ])
                    });
                    actions.push((other, boxes.collect()));
                }
            }
            persons.push(SlowPerson { xywh: xywh(&mut rng), annotated: rng.random_bool(0.8), actions });
        }
        let mut detections = Vec::new();
        for i in 0..rng.random_range(0..25) {
            let corners = |rng: &mut ChaCha8Rng| {
                let [x, y, w, h] = xywh(rng);
                [x, y, x + w, y + h].map(|v| f64::from(v as f32))
            };
            let human = match persons.get(rng.random_range(0..8usize)) {
                Some(p) => [p.xywh[0], p.xywh[1], p.xywh[0] + p.xywh[2] - 1.0, p.xywh[1] + p.xywh[3] - 1.5]
                    .map(|v| f64::from(v as f32)),
                None => corners(&mut rng),
            };
            let predicted = match rng.random_range(0..8) {
                0..3 => None,
                3 => Some([0.0; 4]),
                _ => Some(corners(&mut rng)),
            };
            // No two scores are equal.
            let score = f64::from(rng.random_range(0..400u16)) + f64::from(number as u32 * 32 + i) / 512.0;
            detections.push((human, predicted, score));
        }
        let single = |b: [f64; 4]| BBox::from(b.map(|v| v as f32));
        let list = detections.iter().map(|&(human, role, score)| RolePrediction {
            human: single(human),
            verb: asked,
            role: role.map(single),
            score: score as f32,
        });
        predictions.push((number, list.collect()));
        images.push(VCocoImage {
            number,
            size: Some(Size::new(60, 50)),
            persons: persons
                .iter()
                .map(|p| VCocoPerson {
                    bbox: open(p.xywh),
                    annotated: p.annotated,
                    actions: p
                        .actions
                        .iter()
                        .map(|(action, roles)| VCocoAction {
                            action: *action,
                            roles: roles.iter().map(|r| r.map(open)).collect(),
                        })
                        .collect(),
                })
                .collect(),
            ..VCocoImage::default()
        });
        slow_images.push(SlowImage { size, persons, detections });
    }
    (slow_images, images, predictions, asked)
}

#[test]
fn agrees_with_the_slow_version() {
    let (mut decided, mut apart) = (0, 0);
    for seed in 0..1000 {
        let (slow_images, images, predictions, asked) = random_case(seed, seed as usize % 26);
        let scores = score(&images, &predictions);
        let fast = match asked.role {
            Some(_) => {
                scores.roles.iter().find(|r| r.verb == asked.name()).map(|r| [r.scenario_1, r.scenario_2]).unwrap()
            }
            None => {
                scores.agents.iter().find(|a| a.verb == asked.name()).map_or([None; 2], |a| [a.average_precision; 2])
            }
        };
        if asked.role.is_none() && scores.agents.is_empty() {
            continue;
        }
        let slow = [1, 2].map(|s| slow::average_precision(&slow_images, asked.action, asked.role, s));
        for (fast, slow) in fast.iter().zip(slow) {
            assert_eq!(fast.is_some(), slow.is_some(), "seed {seed}");
            let (fast, slow) = (fast.unwrap_or_default(), 100.0 * slow.unwrap_or_default());
            assert!((fast - slow).abs() < 1e-9, "seed {seed}, {}: {fast} {slow}", asked.name());
            decided += usize::from(fast > 0.0 && fast < 100.0);
        }
        apart += usize::from(fast[0] != fast[1]);
    }
    assert!(
        decided > 1000 && apart > 150,
        "{decided} scores that are neither 0 nor 100, {apart} that differ by scenario"
    );
}

#[test]
fn equal_scores_do_not_depend_on_the_order_of_images() {
    let board = |n| image(n, &[person(H, &[does("skateboard", &[Some(THING)])])]);
    let images: Vec<_> = (0..30).map(board).collect();
    let tied = [predict(H, "skateboard instr", Some(THING), 0.5), predict(H, "skateboard instr", Some(FAR), 0.5)];
    let predictions: Predictions = (0..30).map(|n| (n, tied.to_vec())).collect();
    let reversed: Predictions = predictions.iter().rev().cloned().collect();
    let first = ap(&images, &predictions, "skateboard instr");
    assert_eq!(first, ap(&images, &reversed, "skateboard instr"));
    assert!(first[0].is_some_and(|ap| ap > 50.0 && ap < 100.0), "{first:?}");
}

#[test]
fn lines_by_hand() {
    let read = |triplet: &str| {
        let line = format!("{{\"image\": \"1.jpg\", \"triplets\": [{triplet}]}}");
        let mut lines =
            PredictionReader::<_, RolePrediction>::new(BufReader::new(line.as_bytes()), Path::new("p.jsonl"));
        lines.next().unwrap().map(|(_, image)| image.triplets[0]).map_err(|e| e.to_string())
    };
    let good = r#"{"human": [0, 0, 9, 19], "verb": "hold obj", "role": null, "score": 0.4}"#;
    assert_eq!(read(good), Ok(predict(H, "hold obj", None, 0.4)));
    assert_eq!(read(&good.replace("null", "[20, 0, 29, 9]")), Ok(predict(H, "hold obj", Some(THING), 0.4)));
    assert_eq!(read(&good.replace("hold obj", "stand")), Ok(predict(H, "stand", None, 0.4)));
    for (bad, want) in [
        (good.replace("hold obj", "hold instr"), "verb `hold instr` is unknown"),
        (good.replace("hold obj", "stand obj"), "such as `hold obj`"),
        (good.replace("\"role\": null, ", ""), "missing field `role`"),
        (good.replace("\"verb\": \"hold obj\"", "\"interaction\": 3"), "unknown field `interaction`"),
        (good.replace("null", "[1, 2, 3]"), "array of length 4"),
        (good.replace("0.4", "NaN"), "NaN"),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(error.starts_with("p.jsonl, line 1, column ") && error.contains(want), "{error}");
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("p.jsonl");
    let list = [
        predict(H, "cut instr", Some(THING), 0.25),
        predict(H, "smile", None, 0.1),
        predict(OTHER, "eat obj", None, -3.5),
    ];
    let mut file = PredictionFile::create(&place).unwrap();
    file.add("COCO_val2014_000000000001.jpg", &list).unwrap();
    file.commit().unwrap();
    let text = std::fs::read_to_string(&place).unwrap();
    assert!(
        text.contains(r#""verb":"cut instr","role":[20.0,0.0,29.0,9.0]"#)
            && text.contains(r#""verb":"smile","role":null"#),
        "{text}"
    );
    let numbers = HashMap::from([("COCO_val2014_000000000001.jpg", 1)]);
    let mut read = Vec::new();
    take_all(
        PredictionReader::<_, RolePrediction>::new(BufReader::new(text.as_bytes()), &place),
        &numbers,
        |_, triplets| {
            read.extend_from_slice(triplets);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(read, list);
}
