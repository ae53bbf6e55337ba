//! V-COCO's score on annotation files: hand-made ones in the official format with COCO's instances, and the published ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::BBox;
use hoi_trainer::dataset::v_coco::{ACTIONS, ActionRole, Split, VCoco, VCocoImage};
use hoi_trainer::eval::predictions::PredictionFile;
use hoi_trainer::eval::v_coco::{RolePrediction, TEST_POSITIVES, VCocoEvaluator, VCocoScores, action_role_named};
use serde_json::{Value, json};

use crate::command::{hoi_train, path, text};

/// A person of a hand-made image: COCO's annotation id, and actions with an id or 0 for each role.
type Doing<'a> = (u64, &'a [(&'a str, &'a [u64])]);

/// `vcoco_test.json` with these persons: image id -> persons.
fn official(images: &[(u64, &[Doing<'_>])]) -> Value {
    let rows = ACTIONS.iter().map(|action| {
        let (mut image_id, mut ann_id, mut label) = (Vec::new(), Vec::new(), Vec::new());
        let mut roles = vec![Vec::new(); 1 + action.roles.len()];
        for (image, persons) in images {
            for (person, doing) in *persons {
                let done = doing.iter().find(|(name, _)| *name == action.name);
                image_id.push(*image);
                ann_id.push(*person);
                label.push(u8::from(done.is_some()));
                roles[0].push(*person);
                for (i, ids) in roles.iter_mut().skip(1).enumerate() {
                    ids.push(done.map_or(0, |(_, objects)| objects[i]));
                }
            }
        }
        let names: Vec<_> = std::iter::once("agent").chain(action.roles.iter().map(|r| r.name())).collect();
        json!({"action_name": action.name, "role_name": names, "include": [], "image_id": image_id, "ann_id": ann_id,
            "label": label, "role_object_id": roles.concat()})
    });
    rows.collect()
}

fn name(image: u64) -> String {
    format!("COCO_val2014_{image:012}.jpg")
}

/// COCO's instances: image ids of 100 x 100, and (id, image, category, x y w h).
fn instances(images: &[u64], boxes: &[(u64, u64, i64, [f64; 4])]) -> Value {
    let images: Vec<_> =
        images.iter().map(|id| json!({"id": id, "file_name": name(*id), "width": 100, "height": 100})).collect();
    let boxes = boxes.iter().map(|(id, image, category, bbox)| {
        json!({"id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": 40.5, "iscrowd": 0,
            "segmentation": []})
    });
    let categories = json!([{"id": 1, "name": "person"}, {"id": 41, "name": "skateboard"}]);
    json!({"images": images, "annotations": boxes.collect::<Vec<_>>(), "categories": categories})
}

/// Two images: in 5 a person (51) on a skateboard (52), one (53) who jumps without anything annotated and stands, and one (54) of
/// whom V-COCO says nothing; in 6 only such a person (61).
fn fixture(folder: &Path) {
    let doing: &[Doing<'_>] = &[(51, &[("skateboard", &[52])]), (53, &[("jump", &[0]), ("stand", &[])])];
    let annotation = official(&[(5, doing), (6, &[(62, &[])])]);
    std::fs::write(folder.join("vcoco_test.json"), annotation.to_string()).unwrap();
    let boxes = [
        (51, 5, 1, [0., 0., 10., 20.]),
        (52, 5, 41, [20., 0., 10., 10.]),
        (53, 5, 1, [40., 0., 10., 20.]),
        (54, 5, 1, [60., 0., 10., 20.]),
        (61, 6, 1, [0., 0., 10., 20.]),
        (62, 6, 1, [50., 50., 10., 20.]),
    ];
    std::fs::write(folder.join("instances_vcoco_all_2014.json"), instances(&[5, 6], &boxes).to_string()).unwrap();
}

fn lines(place: &Path, images: &[(u64, Value)]) {
    let text = images.iter().map(|(n, triplets)| json!({"image": name(*n), "triplets": triplets}).to_string() + "\n");
    std::fs::write(place, text.collect::<String>()).unwrap();
}

#[test]
fn the_command_scores_official_files() {
    let folder = tempfile::tempdir().unwrap();
    fixture(folder.path());
    let place = folder.path().join("p.jsonl");
    let on_54 = json!({"human": [60, 0, 69, 19], "verb": "skateboard instr", "role": [20, 0, 29, 9], "score": 0.99});
    let in_5 = json!([
        {"human": [0, 0, 9, 19], "verb": "skateboard instr", "role": [20, 0, 29, 9], "score": 0.9},
        {"human": [40, 0, 49, 19], "verb": "skateboard instr", "role": [20, 0, 29, 9], "score": 0.95},
        {"human": [40, 0, 49, 19], "verb": "jump instr", "role": [20, 0, 29, 9], "score": 0.8},
        on_54,
        {"human": [40, 0, 49, 19], "verb": "stand", "role": null, "score": 0.5},
    ]);
    let in_6 = json!([{"human": [0, 0, 9, 19], "verb": "skateboard instr", "role": null, "score": 0.98}]);
    lines(&place, &[(6, in_6), (5, in_5)]);
    let base = ["score", "v-coco", "--predictions", path(&place), "--root", path(folder.path())];
    let done = hoi_train(&[&base[..], &["--json"]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let line: Value = serde_json::from_str(text(&done.stdout).lines().last().unwrap()).unwrap();
    // skateboard: false, true of 1 in both; jump: an instrument where none is annotated.
    assert_eq!((&line["scenario_1"], &line["scenario_2"]), (&json!(25.0), &json!(75.0)));
    assert_eq!(line["with_point"], json!({"scenario_1": 25.0, "scenario_2": 75.0}));
    // Of skateboard, jump and stand, the only action predicted alone is right.
    assert!((line["agent"].as_f64().unwrap() - 100.0 / 3.0).abs() < 1e-9);
    assert_eq!((&line["skipped"], &line["images"], &line["triplets"]), (&json!(2), &json!(2), &json!(6)));
    assert_eq!(line["annotation"], "official");
    assert!(line["quoted"].as_str().unwrap().contains("24 action-roles, without point"));
    let limits = line["limits"].as_array().unwrap();
    assert!(
        limits.len() == 1 && limits[0].as_str().unwrap().contains("3 actions of persons here, 22070"),
        "{limits:?}"
    );
    let roles = line["roles"].as_array().unwrap();
    assert_eq!(roles.len(), 25);
    let jump = roles.iter().find(|r| r["verb"] == "jump instr").unwrap();
    assert_eq!(*jump, json!({"verb": "jump instr", "positives": 1, "scenario_1": 0.0, "scenario_2": 100.0}));

    let table = text(&hoi_train(&base).stdout);
    for part in
        ["mean of 24, no point           25.00       75.00", "mean of all 25", "2 predictions skipped", "hold obj"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn failures_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    fixture(folder.path());
    let place = folder.path().join("p.jsonl");
    let root = path(folder.path());
    let refused = |triplet: Value, image: u64| {
        lines(&place, &[(5, json!([])), (image, json!([triplet]))]);
        let failed = hoi_train(&["score", "v-coco", "--predictions", path(&place), "--root", root, "--json"]);
        assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0));
        text(&failed.stderr)
    };
    let good = json!({"human": [0, 0, 9, 19], "verb": "stand", "role": null, "score": 0.9});
    let unknown = refused(good.clone(), 7);
    assert!(unknown.contains("p.jsonl, line 2: image `COCO_val2014_000000000007.jpg`"), "{unknown}");
    let twice = refused(good.clone(), 5);
    assert!(twice.contains("p.jsonl, line 2: image 5 was given twice"), "{twice}");
    let mut bad = good.clone();
    bad["verb"] = json!("fly obj");
    assert!(refused(bad, 6).contains("line 2, column"), "the verb");
    let mut bad = good;
    bad["interaction"] = json!(3);
    assert!(refused(bad, 6).contains("unknown field `interaction`"));

    let absent = hoi_train(&["score", "v-coco", "--predictions", path(&place), "--root", root, "--split", "val"]);
    let stderr = text(&absent.stderr);
    assert!(absent.status.code() == Some(1) && stderr.contains("instances_vcoco_all_2014.json"), "{stderr}");
    let place = folder.path().join("none.jsonl");
    let absent = hoi_train(&["score", "v-coco", "--predictions", path(&place), "--root", root]);
    assert!(text(&absent.stderr).contains("cannot read") && text(&absent.stderr).contains("none.jsonl"));
}

fn published() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/v-coco");
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: ../shared/data/v-coco is not here");
    None
}

fn unpacked(path: &Path) -> Value {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What a perfect system says: every action of every person, with null where a role is not annotated.
fn perfect(image: &VCocoImage) -> Vec<RolePrediction> {
    let closed = |b: BBox| BBox::new(b.x1, b.y1, b.x2 - 1.0, b.y2 - 1.0);
    let mut list = Vec::new();
    for person in &image.persons {
        for done in &person.actions {
            for (i, role) in done.roles.iter().enumerate() {
                let verb = ActionRole { action: done.action, role: Some(i) };
                let (human, role) = (closed(person.bbox), role.map(closed));
                list.push(RolePrediction { human, verb, role, score: 0.5 });
            }
            let verb = ActionRole { action: done.action, role: None };
            list.push(RolePrediction { human: closed(person.bbox), verb, role: None, score: 0.5 });
        }
    }
    list
}

fn score(images: &[VCocoImage], system: impl Fn(&VCocoImage) -> Vec<RolePrediction>) -> (VCocoScores, Vec<usize>) {
    let mut evaluator = VCocoEvaluator::new(images, 0).unwrap();
    images.iter().for_each(|image| evaluator.add_image(image.number, &system(image)).unwrap());
    (evaluator.finish(), evaluator.positives().to_vec())
}

/// The published official file of the training split, with instances made by hand: every annotation it points at gets a place of
/// its own, on a grid.
#[test]
fn the_official_train_file_on_made_up_instances() {
    let Some(root) = published() else { return };
    let rows = unpacked(&root.join("vcoco_train.json.gz"));
    let rows = rows.as_array().unwrap();
    let id = |v: &Value| v.as_u64().unwrap();
    let mut of_image: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut persons = BTreeSet::new();
    let mut expected = Vec::new();
    for row in rows {
        let images = row["image_id"].as_array().unwrap();
        let labels = row["label"].as_array().unwrap();
        persons.extend(row["ann_id"].as_array().unwrap().iter().map(id));
        expected.push(labels.iter().filter(|l| id(l) == 1).count());
        for (i, object) in row["role_object_id"].as_array().unwrap().iter().map(id).enumerate().filter(|o| o.1 != 0) {
            of_image.entry(id(&images[i % images.len()])).or_default().insert(object);
        }
    }
    let mut boxes = Vec::new();
    for (image, ids) in &of_image {
        for (i, id) in ids.iter().enumerate() {
            let place = [(i % 9) as f64 * 11.0, (i / 9) as f64 * 11.0, 10.0, 10.0];
            boxes.push((*id, *image, if persons.contains(id) { 1 } else { 41 }, place));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root.join("vcoco_train.json.gz"), folder.path().join("vcoco_train.json.gz")).unwrap();
    let ids: Vec<u64> = of_image.keys().copied().collect();
    let file = folder.path().join("instances_vcoco_all_2014.json");
    std::fs::write(file, instances(&ids, &boxes).to_string()).unwrap();

    let images = VCoco::open(folder.path()).unwrap().images(Split::Train).unwrap();
    assert_eq!(images.len(), 2_533);
    let (scores, positives) = score(&images, perfect);
    assert_eq!(positives, expected);
    assert_eq!((positives[0], positives[1], positives[23]), (1838, 2150, 15), "hold, stand, point");
    assert_eq!((scores.scenario_1, scores.scenario_2, scores.agent), (Some(100.0), Some(100.0), Some(100.0)));
    assert_eq!(scores.skipped, 0);
    // A system that always names a role box loses the persons without one, in scenario 1 only.
    let talkative = |image: &VCocoImage| {
        let list = perfect(image).into_iter().filter(|p| p.verb.role.is_some());
        list.map(|p| RolePrediction { role: p.role.or(Some(p.human)), ..p }).collect()
    };
    let (scores, _) = score(&images, talkative);
    assert_eq!(scores.scenario_2, Some(100.0));
    assert!(scores.scenario_1.unwrap() < 90.0, "{:?}", scores.scenario_1);
}

#[test]
fn files_of_pairs_are_scored_and_say_what_they_lack() {
    let Some(root) = published() else { return };
    let images = VCoco::open(&root).unwrap().images(Split::Test).unwrap();
    assert_eq!(images.len(), 4_946);
    let (scores, positives) = score(&images, perfect);
    assert_eq!(positives.iter().zip(TEST_POSITIVES).filter(|(here, official)| **here > *official).count(), 0);
    assert_eq!(
        (positives[0], positives[1], positives[23]),
        (2733, 0, 0),
        "hold; stand and point are not in these files"
    );
    let all = [scores.scenario_1, scores.scenario_2].map(Option::unwrap);
    assert!(all.iter().all(|s| *s > 99.0), "{all:?}");
    let facts: Value = serde_json::from_slice(&std::fs::read(root.join("facts_test_eval.json")).unwrap()).unwrap();
    for (action, count) in ACTIONS.iter().zip(TEST_POSITIVES) {
        assert_eq!(facts["n_pos_test"][action.name], count, "{}", action.name);
    }

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("p.jsonl");
    let mut file = PredictionFile::create(&place).unwrap();
    let hold = action_role_named("hold obj").unwrap();
    let some: HashMap<u64, Vec<RolePrediction>> =
        images.iter().map(|i| (i.number, perfect(i).into_iter().filter(|p| p.verb == hold).collect())).collect();
    images.iter().filter(|i| !some[&i.number].is_empty()).for_each(|i| file.add(&i.name, &some[&i.number]).unwrap());
    file.commit().unwrap();
    let base = ["score", "v-coco", "--predictions", path(&place), "--root", path(&root)];
    let done = hoi_train(&[&base[..], &["--json"]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(line["annotation"], "UPT");
    assert_eq!(line["limits"].as_array().unwrap().len(), 2);
    let held = &line["roles"][0];
    assert!(held["verb"] == "hold obj" && held["scenario_1"].as_f64().unwrap() > 99.0, "{held}");
    assert_eq!(text(&hoi_train(&base).stdout).matches("not the official score").count(), 2);
}
