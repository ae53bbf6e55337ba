//! Rendered scenes: what is drawn is what is annotated, and boxes do not tell the verb.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::time::Duration;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{Interaction, ObjectClass};
use hoi_trainer::dataset::PictureSet;
use hoi_trainer::dataset::rendered::{
    Interference, RenderedConfig, RenderedError, RenderedScene, RenderedScenes, SamePlace, Split, interference,
    same_place, used_object,
};

const SIZE: Size = Size { width: 160, height: 160 };

fn set(seed: u64, split: Split, count: usize) -> RenderedScenes {
    RenderedScenes::new(RenderedConfig { size: SIZE, seed, split, count }).unwrap()
}

#[test]
fn a_scene_is_always_the_same() {
    let scenes = set(7, Split::Validation, 10);
    for index in 0..10 {
        let picture = scenes.open(index).unwrap();
        assert_eq!(picture, set(7, Split::Validation, 500).open(index).unwrap());
        assert_ne!(picture.pixels, scenes.open(index + 1).unwrap().pixels);
        assert_ne!(picture.pixels, set(8, Split::Validation, 10).open(index).unwrap().pixels);
        // The annotation without drawing says the same.
        let annotation = scenes.annotation(index);
        assert_eq!((&annotation.name, annotation.number), (&picture.name, picture.number));
        assert_eq!(annotation.pairs.len(), picture.pairs.len());
        for (a, p) in annotation.pairs.iter().zip(&picture.pairs) {
            assert_eq!((a.human, a.object), (p.human, p.object));
            assert_eq!(scenes.interactions()[a.interaction], Interaction { verb: p.verb, object: p.class });
        }
    }
}

#[test]
fn splits_share_no_scene() {
    let mut seen = HashSet::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let scenes = set(0, split, 1000);
        for index in 0..1000 {
            let boxes: Vec<[u32; 4]> =
                scenes.scene(index).entities().iter().map(|e| <[f32; 4]>::from(e.bbox).map(f32::to_bits)).collect();
            assert!(seen.insert(boxes), "{split:?} {index}");
        }
    }
}

/// The box around the pixels that are covered at all.
fn covered(coverage: &[u8], width: u32) -> BBox {
    let mut b = BBox::new(f32::MAX, f32::MAX, 0.0, 0.0);
    for (i, _) in coverage.iter().enumerate().filter(|(_, c)| **c > 0) {
        let (x, y) = ((i as u32 % width) as f32, (i as u32 / width) as f32);
        b = BBox::new(b.x1.min(x), b.y1.min(y), b.x2.max(x + 1.0), b.y2.max(y + 1.0));
    }
    b
}

#[test]
fn boxes_are_tight_and_entities_visible() {
    let scenes = set(1, Split::Train, 150);
    for index in 0..150 {
        let scene = scenes.scene(index);
        let entities = scene.entities();
        let coverage: Vec<Vec<u8>> = (0..entities.len()).map(|i| scene.coverage(i)).collect();
        for (entity, coverage) in entities.iter().zip(&coverage) {
            let (said, drawn) = (entity.bbox, covered(coverage, SIZE.width));
            assert_eq!(said.clip(SIZE), said, "scene {index}");
            for (a, b) in <[f32; 4]>::from(said).into_iter().zip(<[f32; 4]>::from(drawn)) {
                assert!((a - b).abs() <= 1.25, "scene {index}: {:?} {said:?} {drawn:?}", entity.class);
            }
        }
        let order = scene.depth_order();
        for (rank, &i) in order.iter().enumerate() {
            let all = coverage[i].iter().filter(|c| **c > 127).count();
            let hidden = |p: usize| order[rank + 1..].iter().any(|&k| coverage[k][p] > 127);
            let free = (0..coverage[i].len()).filter(|&p| coverage[i][p] > 127 && !hidden(p)).count();
            assert!(free as f32 >= 0.35 * all as f32, "scene {index}, entity {i}: {free} of {all}");
        }
    }
}

/// Kolmogorov-Smirnov: whether two samples differ by more than one pair of samples of one distribution in 10,000 does.
fn differ(a: &mut [f32], b: &mut [f32]) -> bool {
    a.sort_by(f32::total_cmp);
    b.sort_by(f32::total_cmp);
    let (n, m) = (a.len() as f32, b.len() as f32);
    let largest = a
        .iter()
        .chain(b.iter())
        .map(|&x| (a.partition_point(|v| *v <= x) as f32 / n - b.partition_point(|v| *v <= x) as f32 / m).abs())
        .fold(0.0, f32::max);
    largest > (0.5 * (2.0_f32 / 1e-4).ln()).sqrt() * ((n + m) / (n * m)).sqrt()
}

/// What boxes say about a pair: place, size and shape of both, and how the object lies to the human.
fn geometry(human: &BBox, object: &BBox) -> [f32; 10] {
    let ((hx, hy), (ox, oy)) = (human.center(), object.center());
    [
        hx,
        hy,
        human.height(),
        human.width() / human.height(),
        object.height() / human.height(),
        object.width() / object.height(),
        (ox - hx).abs() / human.width(),
        (ox - hx) / human.width(),
        (oy - hy) / human.height(),
        human.iou(object),
    ]
}

/// A pair of a scene: class, verbs (as bits), geometry.
fn pairs_of(scene: &RenderedScene) -> Vec<(ObjectClass, u32, [f32; 10])> {
    let (entities, labels) = (scene.entities(), scene.pairs());
    let mut pairs = Vec::new();
    for (h, human) in entities.iter().enumerate().filter(|(_, e)| e.class == ObjectClass(0)) {
        for (_, object) in entities.iter().enumerate().filter(|(o, _)| *o != h) {
            let of_pair = labels.iter().filter(|l| l.human == human.bbox && l.object == object.bbox);
            let verbs = of_pair.fold(0, |bits, l| bits | 1 << l.verb.0);
            pairs.push((object.class, verbs, geometry(&human.bbox, &object.bbox)));
        }
    }
    pairs
}

#[test]
fn boxes_do_not_tell_the_verb() {
    let scenes = set(2, Split::Train, 5000);
    let pairs: Vec<_> = (0..5000).flat_map(|i| pairs_of(&scenes.scene(i))).collect();
    let mut counts = Vec::new();
    for Interaction { verb, object } in scenes.interactions() {
        let acting: Vec<_> = pairs.iter().filter(|p| p.0 == *object && p.1 != 0).collect();
        let count = acting.iter().filter(|p| p.1 >> verb.0 & 1 == 1).count();
        assert!(count > 0, "{verb:?} {object:?}");
        counts.push(count);
        for k in 0..10 {
            let part = |with: bool| -> Vec<f32> {
                acting.iter().filter(|p| (p.1 >> verb.0 & 1 == 1) == with).map(|p| p.2[k]).collect()
            };
            assert!(!differ(&mut part(true), &mut part(false)), "{verb:?} {object:?} value {k}");
        }
    }
    // The test would notice: boxes do tell whether somebody is near enough to do anything.
    let distance =
        |acting: bool| -> Vec<f32> { pairs.iter().filter(|p| (p.1 != 0) == acting).map(|p| p.2[6]).collect() };
    assert!(differ(&mut distance(true), &mut distance(false)));
    // Long-tailed: the commonest interactions are many times as frequent as the rarest.
    counts.sort_unstable();
    assert!(counts[counts.len() - 1] > 8 * counts[0], "{counts:?}");
    let acting = pairs.iter().filter(|p| p.1 != 0).count();
    let several = pairs.iter().filter(|p| p.1.count_ones() > 1).count();
    assert!(4 * several >= acting, "{several} of {acting}");
    let objects = pairs.iter().filter(|p| p.0 != ObjectClass(0)).count();
    let idle = pairs.iter().filter(|p| p.0 != ObjectClass(0) && p.1 == 0).count();
    assert!((0.45..0.75).contains(&(idle as f32 / objects as f32)), "{idle} of {objects}");
}

#[test]
fn scenes_hold_what_they_should() {
    let scenes = set(3, Split::Test, 2000);
    let mut persons = BTreeMap::new();
    for index in 0..2000 {
        let entities = scenes.scene(index).entities();
        let humans = entities.iter().filter(|e| e.class == ObjectClass(0)).count();
        let objects = entities.len() - humans;
        assert!((1..=4).contains(&humans) && objects <= 5 && entities.len() >= 2, "scene {index}");
        *persons.entry(humans).or_insert(0) += 1;
        for human in entities.iter().filter(|e| e.class == ObjectClass(0)) {
            assert!((49.0..=120.0).contains(&human.bbox.height()), "scene {index}: {human:?}");
        }
    }
    assert_eq!(persons.len(), 4, "{persons:?}");
    assert!((30..=40).contains(&scenes.interactions().len()));
}

#[test]
fn same_place_by_what_it_promises() {
    for list in same_place(SIZE, 0, 200).unwrap() {
        let boxes = |s: &RenderedScene| s.entities().iter().map(|e| e.bbox).collect::<Vec<_>>();
        let verbs = |s: &RenderedScene| s.pairs().iter().map(|p| p.verb).collect::<HashSet<_>>();
        let [anchor, action, place] = [&list.anchor, &list.other_action, &list.other_place];
        assert_eq!(boxes(anchor), boxes(action));
        assert!(verbs(anchor).is_disjoint(&verbs(action)));
        assert_eq!(verbs(anchor), verbs(place));
        assert!(boxes(anchor)[SamePlace::HUMAN].iou(&boxes(place)[SamePlace::HUMAN]) < 0.2);
        for scene in [anchor, action, place] {
            assert_eq!(scene.acting(), [(SamePlace::HUMAN, SamePlace::OBJECT)]);
            assert_eq!(scene.entities()[SamePlace::OBJECT].class, anchor.entities()[SamePlace::OBJECT].class);
        }
        assert!(!verbs(anchor).is_empty() && !verbs(action).is_empty());
    }
}

#[test]
fn the_nearest_person_seldom_tells_who_uses_an_object() {
    let scenes = used_object(SIZE, 5, 500).unwrap();
    let mut nearest = 0;
    for used in &scenes {
        let entities = used.scene.entities();
        let person = |i: usize| entities[i].class == ObjectClass(0);
        assert!(person(used.user) && person(used.other) && !person(used.object) && used.user != used.other);
        assert_eq!(entities.iter().filter(|e| e.class == ObjectClass(0)).count(), 2);
        assert_eq!(used.scene.acting(), [(used.user, used.object)]);
        nearest += usize::from(used.nearest() == used.user);
    }
    assert_eq!(scenes, used_object(SIZE, 5, 500).unwrap());
    println!("the nearest person is right in {} % of the scenes", 100 * nearest / 500);
    // Neither the nearest nor the farther person may be a good guess.
    assert!((200..=300).contains(&nearest), "{nearest} of 500");
}

#[test]
fn interference_changes_the_intruder_alone() {
    for (index, list) in interference(SIZE, 0, 40).unwrap().into_iter().enumerate() {
        let with = list.with.entities();
        assert_eq!(list.without.entities(), with[..Interference::INTRUDER]);
        let [human, object, intruder] =
            [Interference::HUMAN, Interference::OBJECT, Interference::INTRUDER].map(|i| with[i]);
        assert_ne!(object.class, intruder.class);
        assert_eq!(human.bbox.enclosing(&object.bbox).intersection(&intruder.bbox), intruder.bbox.area());
        assert_eq!(human.bbox.intersection(&intruder.bbox) + object.bbox.intersection(&intruder.bbox), 0.0);
        assert_eq!(list.without.acting(), [(Interference::HUMAN, Interference::OBJECT)]);
        assert!(list.with.acting().contains(&(Interference::NEIGHBOUR, Interference::INTRUDER)));
        let (a, b) = (list.with.draw(), list.without.draw());
        let mut changed = 0;
        for ((x, y, p), q) in a.enumerate_pixels().zip(b.pixels()) {
            let inside = BBox::new(x as f32, y as f32, x as f32 + 1.0, y as f32 + 1.0).intersection(&intruder.bbox);
            assert!(p == q || inside > 0.0, "scene {index}: {x} {y}");
            changed += u32::from(p != q);
        }
        assert!(changed as f32 > 0.25 * intruder.bbox.area(), "scene {index}");
    }
}

/// Time that this thread has had the processor, which others on the machine do not lengthen. Linux only.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[test]
fn draws_quickly() {
    let scenes = set(4, Split::Train, 8);
    let round = |_| {
        let start = processor_time()?;
        (0..8).for_each(|i| drop(scenes.open(i).unwrap()));
        Some((processor_time()? - start) / 8)
    };
    let Some(best) = (0..20).filter_map(round).min() else {
        println!("no processor time of a thread on this system: not measured");
        return;
    };
    assert!(best < Duration::from_millis(3), "{best:?}");
}

#[test]
fn small_pictures_are_refused_and_large_ones_drawn() {
    let config = RenderedConfig { size: Size::new(40, 160), ..RenderedConfig::default() };
    assert_eq!(RenderedScenes::new(config).unwrap_err(), RenderedError::TooSmall { size: config.size });
    assert!(matches!(same_place(Size::new(160, 9), 0, 1), Err(RenderedError::TooSmall { .. })));
    let config = RenderedConfig { size: Size::new(480, 320), ..RenderedConfig::default() };
    let picture = RenderedScenes::new(config).unwrap().open(0).unwrap();
    assert_eq!(picture.pixels.dimensions(), (480, 320));
    assert!(picture.entities.iter().any(|e| e.bbox.height() > 100.0));
}

#[test]
fn the_command_writes_pictures_and_annotation() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("scenes");
    let arguments = ["scenes", "--count", "3", "--split", "test", "--seed", "5", "--annotate", "--out"];
    let run = |extra: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_hoi-train")).args(arguments).arg(&out).args(extra).output().unwrap()
    };
    let done = run(&[]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let scenes = set(5, Split::Test, 3);
    let text = std::fs::read(out.join("annotations.json")).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for index in 0..3 {
        let picture = scenes.open(index).unwrap();
        assert_eq!(image::open(out.join(&picture.name)).unwrap().to_rgb8(), picture.pixels);
        assert!(out.join(picture.name.replace(".png", "_annotated.png")).is_file());
        let record = &document["images"][index];
        assert_eq!(record["file"].as_str(), Some(picture.name.as_str()));
        assert_eq!(record["pairs"].as_array().map(Vec::len), Some(picture.pairs.len()));
        assert_eq!(record["entities"][0]["class"].as_str(), Some("person"));
    }
    let refused = run(&["--size", "20"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("at least 64 pixels"));
}
