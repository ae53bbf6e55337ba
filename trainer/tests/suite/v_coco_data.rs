//! V-COCO from outside: the three formats on one made-up image, and the published annotation where it is beside the project.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use hoi_trainer::dataset::v_coco::{
    ACTIONS, ActionRole, ActionRoles, Source, Split, VCoco, VCocoImage, VCocoPictures, official_positives,
    read_official, read_pairs, read_qpic, vocabulary,
};
use hoi_trainer::dataset::{DatasetError, PictureSet};
use serde_json::{Value, json};

const NAME: &str = "COCO_val2014_000000000042.jpg";

fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/v-coco");
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: ../shared/data/v-coco is not here");
    None
}

/// Three persons, the third a crowd, a knife (COCO's 49) and a cake (61); the fourth object has no area.
fn instances() -> Value {
    let row = |id, category, bbox: [f64; 4], crowd, area| json!({"id": id, "image_id": 42, "category_id": category, "bbox": bbox, "iscrowd": crowd, "area": area});
    json!({"images": [{"id": 42, "file_name": NAME, "width": 100, "height": 80}, {"id": 5, "file_name": "other.jpg", "width": 1, "height": 1}],
        "annotations": [row(11, 1, [10., 10., 20., 40.], 0, 500.), row(12, 1, [50., 5., 30.5, 75.2], 0, 900.),
            row(13, 1, [0., 0., 100., 20.], 1, 700.), row(21, 49, [25., 30., 5., 5.], 0, 9.), row(22, 61, [20., 40., 15., 10.], 0, 80.),
            row(23, 61, [1., 1., 3., 3.], 0, 0.)]})
}

/// What the official file says: person 11 cuts with 21 (no object annotated) and stands; person 12 holds 11 and is said to do nothing else; the crowd is not mentioned.
fn official() -> Value {
    let rows = ACTIONS.iter().map(|action| {
        let mut roles = vec!["agent"];
        roles.extend(action.roles.iter().map(|role| role.name()));
        let label = match action.name {
            "cut" | "stand" => [1, 0],
            "hold" => [0, 1],
            _ => [0, 0],
        };
        let mut objects = vec![11, 12];
        objects.extend(action.roles.iter().enumerate().flat_map(|(role, _)| match (action.name, role) {
            ("cut", 0) => [21, 0],
            ("hold", 0) => [0, 11],
            _ => [0, 0],
        }));
        json!({"action_name": action.name, "role_name": roles, "image_id": [42, 42], "ann_id": [11, 12], "label": label,
            "role_object_id": objects, "include": []})
    });
    Value::Array(rows.collect())
}

fn write(folder: &Path, name: &str, document: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

fn read(official: &Value, instances: &Value) -> Result<Vec<VCocoImage>, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let annotation = write(folder.path(), "vcoco_test.json", official);
    let instances = write(folder.path(), "instances_vcoco_all_2014.json", instances);
    read_official(&[annotation], &[instances])
}

fn action(name: &str) -> usize {
    ACTIONS.iter().position(|action| action.name == name).unwrap()
}

const FIRST: BBox = BBox { x1: 10., y1: 10., x2: 30., y2: 50. };
const KNIFE: BBox = BBox { x1: 25., y1: 30., x2: 30., y2: 35. };

#[test]
fn actions_and_their_counts() {
    let counts = [ActionRoles::WithoutPoint, ActionRoles::WithRole, ActionRoles::All].map(|which| which.list().len());
    assert_eq!(counts, [24, 25, 29]);
    let names: Vec<String> = ActionRoles::All.list().into_iter().map(ActionRole::name).collect();
    assert_eq!((names[1].as_str(), names[6].as_str(), names[7].as_str()), ("stand", "hit instr", "hit obj"));
    assert_eq!((names[26].as_str(), names[28].as_str()), ("point instr", "snowboard instr"));
    let words = vocabulary(ActionRoles::WithoutPoint).unwrap();
    assert_eq!((words.verb_count(), words.object_count()), (24, 80));
    assert_eq!((0..80).map(|o| words.valid_verbs(ObjectClass(o)).len()).sum::<usize>(), 236);
    assert_eq!(vocabulary(ActionRoles::All).unwrap().verb_count(), 29);
}

#[test]
fn official_files_by_hand() {
    let images = read(&official(), &instances()).unwrap();
    let [image] = &images[..] else { panic!("{} images", images.len()) };
    assert_eq!((image.number, image.name.as_str(), image.size), (42, NAME, Some(Size::new(100, 80))));
    let annotated: Vec<bool> = image.persons.iter().map(|p| p.annotated).collect();
    assert_eq!(annotated, [true, true, false]);
    assert_eq!(image.crowds, [BBox::new(0., 0., 100., 20.)]);
    // 5 + 75.2 passes the edge by 0.2 and is cut there.
    assert_eq!(image.persons[1].bbox, BBox::new(50., 5., 80.5, 80.));
    assert_eq!(image.objects.iter().map(|o| o.class.0).collect::<Vec<_>>(), [43, 55]);
    let done: Vec<_> = image.persons[0].actions.iter().map(|a| (a.action, a.roles.clone())).collect();
    assert_eq!(done, [(action("stand"), vec![]), (action("cut"), vec![Some(KNIFE), None])]);
    let held: Vec<_> = image.persons[1].actions.iter().map(|a| (a.action, a.roles.clone())).collect();
    assert_eq!(held, [(action("hold"), vec![Some(FIRST)])]);
    let pairs: Vec<_> = image.pairs.iter().map(|p| (p.action_role.name(), p.object, p.class.0)).collect();
    assert_eq!(pairs, [("hold obj".to_owned(), FIRST, 0), ("cut instr".to_owned(), KNIFE, 43)]);
}

#[test]
fn official_files_are_refused_by_name() {
    let spoiled = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut annotation, mut coco) = (official(), instances());
        change(&mut annotation, &mut coco);
        read(&annotation, &coco).unwrap_err().to_string()
    };
    let image = spoiled(&|_, coco| coco["images"][0]["id"] = json!(43));
    assert!(image.contains("`images` does not list") || image.contains("image 42"), "{image}");
    let agent = spoiled(&|annotation, _| annotation[0]["ann_id"][1] = json!(21));
    assert!(agent.contains("action hold, row 1 (image 42)") && agent.contains("a person"), "{agent}");
    let object = spoiled(&|annotation, _| annotation[0]["role_object_id"][3] = json!(99));
    assert!(object.contains("role_object_id 99 is unknown"), "{object}");
    assert!(spoiled(&|annotation, _| annotation[2]["label"][0] = json!(2)).contains("expected 0 or 1"));
    assert!(spoiled(&|annotation, _| annotation[2]["label"] = json!([1])).contains("do not go with 2 ann_id"));
    let order = spoiled(&|annotation, _| annotation[6]["role_name"] = json!(["agent", "obj", "instr"]));
    assert!(order.contains("action 6 (hit)") && order.contains("expected hit"), "{order}");
    assert!(spoiled(&|annotation, _| *annotation = json!([])).contains("0 actions, 26 are needed"));
    let outside = spoiled(&|_, coco| coco["annotations"][3]["bbox"] = json!([99, 1, 5, 5]));
    assert!(outside.contains("annotation 21 of image 42") && outside.contains("100x80"), "{outside}");
    assert!(spoiled(&|_, coco| coco["annotations"][3]["category_id"] = json!(91)).contains("category_id 91"));
}

/// The image of [`official`] as QPIC's converter writes it: all boxes, a row for each role, -1 where it is not annotated.
fn qpic() -> Value {
    let all = ActionRoles::All.list();
    let id = |name: &str| all.iter().position(|role| role.name() == name).unwrap();
    let boxes =
        [(1, [10., 10., 30., 50.]), (1, [50., 5., 80.5, 80.2]), (1, [0., 0., 100., 20.]), (49, [25., 30., 30., 35.])];
    let boxes = boxes.map(|(category, bbox)| json!({"bbox": bbox, "category_id": category}));
    let row = |subject, object: i64, name| json!({"subject_id": subject, "object_id": object, "category_id": id(name)});
    json!([{"file_name": NAME, "annotations": boxes, "hoi_annotation":
        [row(1, 0, "hold obj"), row(0, -1, "stand"), row(0, 3, "cut instr"), row(0, -1, "cut obj")]}])
}

fn sizes() -> HashMap<String, Size> {
    HashMap::from([(NAME.to_owned(), Size::new(100, 80))])
}

#[test]
fn qpic_says_what_the_official_files_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "test_vcoco.json", &qpic());
    let [image] = &read_qpic(&path, &sizes()).unwrap()[..] else { panic!("not one image") };
    let [official] = &read(&official(), &instances()).unwrap()[..] else { panic!("not one image") };
    assert_eq!(image.pairs, official.pairs);
    assert_eq!(image.persons, official.persons);
    assert!(image.crowds.is_empty(), "the format does not say which");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut document = qpic();
        change(&mut document);
        read_qpic(&write(folder.path(), "spoiled.json", &document), &sizes()).unwrap_err().to_string()
    };
    let verb = refused(&|d| d[0]["hoi_annotation"][1]["category_id"] = json!(29));
    assert!(verb.contains("hoi_annotation 1: category_id 29 is unknown: expected 0 to 28"), "{verb}");
    assert!(refused(&|d| d[0]["hoi_annotation"][1]["object_id"] = json!(3)).contains("stand has no role"));
    assert!(refused(&|d| d[0]["hoi_annotation"][0]["subject_id"] = json!(3)).contains("a person"));
    assert!(refused(&|d| d[0]["annotations"][0]["bbox"] = json!([0, 0, 103, 5])).contains("100x80"));
    assert!(refused(&|d| d[0]["file_name"] = json!("cat.jpg")).contains("COCO's id"));
}

#[test]
fn pairs_by_hand() {
    let objects: Vec<String> = std::iter::once("background".to_owned())
        .chain(vocabulary(ActionRoles::WithoutPoint).unwrap().spec().objects.clone())
        .collect();
    let classes: Vec<String> = ActionRoles::WithoutPoint.list().into_iter().map(ActionRole::name).collect();
    let first = [10., 10., 30., 50.];
    let document = json!({"classes": classes, "objects": objects, "images": [42], "annotations": [{"file_name": NAME,
        "boxes_h": [first, [50., 5., 80.5, 80.]], "boxes_o": [[25., 30., 30., 35.], first], "actions": [14, 0], "objects": [44, 1]}]});
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "instances_vcoco_test.json", &document);
    let [image] = &read_pairs(&path, &sizes()).unwrap()[..] else { panic!("not one image") };
    assert_eq!(image.persons.len(), 2);
    assert!(image.persons.iter().all(|p| p.annotated));
    assert_eq!(image.persons[0].actions[0].roles, [Some(KNIFE), None]);
    assert_eq!(image.pairs[1].class, ObjectClass(0));
    assert_eq!(image.objects.len(), 1);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut spoiled = document.clone();
        change(&mut spoiled);
        read_pairs(&write(folder.path(), "spoiled.json", &spoiled), &sizes()).unwrap_err().to_string()
    };
    let unknown = refused(&|d| d["annotations"][0]["actions"][1] = json!(24));
    assert!(unknown.contains("000042.jpg, pair 1: actions 24 is unknown: expected 0 to 23"), "{unknown}");
    assert!(refused(&|d| d["annotations"][0]["objects"][0] = json!(0)).contains("expected 1 to 80"));
    assert!(refused(&|d| d["annotations"][0]["actions"] = json!([1])).contains("do not go with 1 actions"));
    assert!(refused(&|d| d["classes"][3] = json!("stare obj")).contains("24 action-roles"));
    assert!(refused(&|d| d["images"][0] = json!(41)).contains("image 41 belongs"));
    assert!(refused(&|d| d["annotations"][0]["boxes_o"][0] = json!([1, 1, 0, 3])).contains("is no box"));
}

#[test]
fn formats_are_looked_for_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let data = VCoco::open(root).unwrap();
    assert!(data.source(Split::Test).unwrap_err().to_string().contains("instances_vcoco_all_2014.json"));
    std::fs::create_dir_all(root.join("data/vcoco")).unwrap();
    std::fs::write(root.join("instances_vcoco_test.json"), "").unwrap();
    assert!(matches!(data.source(Split::Test).unwrap(), Source::Pairs(_)));
    write(&root.join("data/vcoco"), "vcoco_test.json", &official());
    assert!(matches!(data.source(Split::Test).unwrap(), Source::Pairs(_)), "official files without COCO's instances");
    std::fs::write(root.join("test_vcoco.json"), "").unwrap();
    assert!(matches!(data.source(Split::Test).unwrap(), Source::Qpic(_)));
    write(&root.join("data"), "instances_vcoco_all_2014.json", &instances());
    assert_eq!(data.source(Split::Test).unwrap().name(), "official");
    assert_eq!(data.images(Split::Test).unwrap(), read(&official(), &instances()).unwrap());
}

#[test]
fn published_pairs_and_labels() {
    let Some(root) = shared() else { return };
    let data = VCoco::open(&root).unwrap();
    for (split, images, empty, pairs) in [(Split::Trainval, 5_400, 431, 13_817), (Split::Test, 4_946, 414, 12_402)] {
        let read = data.images(split).unwrap();
        assert_eq!(read.len(), images);
        assert_eq!(read.iter().filter(|i| i.pairs.is_empty()).count(), empty);
        assert_eq!(read.iter().map(|i| i.pairs.len()).sum::<usize>(), pairs);
        assert!(read.iter().all(|i| i.size.is_some()));
        let words = vocabulary(ActionRoles::WithoutPoint).unwrap();
        let valid = |p: &hoi_trainer::dataset::v_coco::VCocoPair| {
            let verb = words.verb(&p.action_role.name()).unwrap();
            words.valid_verbs(p.class).contains(&verb)
        };
        assert!(read.iter().flat_map(|i| &i.pairs).all(valid));
    }
    let (images, train) = official_positives(&data.official_annotation(Split::Trainval).unwrap()).unwrap();
    assert_eq!((images, train[action("hold")], train[action("point")]), (5_400, 1838 + 2163, 15 + 23));
}

#[test]
fn the_pictures_that_are_there_are_opened() {
    let Some(root) = shared() else { return };
    let text = std::fs::read(root.join("images/annotations.json")).unwrap();
    let listed: Value = serde_json::from_slice(&text).unwrap();
    let listed = listed["images"].as_array().unwrap();
    let data = VCoco::open(&root).unwrap();
    let mut images = data.images(Split::Trainval).unwrap();
    images.extend(data.images(Split::Test).unwrap());
    let missing = images.iter().position(|i| i.number == 294).unwrap();
    let set = VCocoPictures::new(images, ActionRoles::WithoutPoint, &root).unwrap();
    for image in listed {
        let name = image["vcoco_file_name"].as_str().unwrap();
        let index = (0..set.len()).find(|i| set.name(*i) == name).unwrap();
        let picture = set.open(index).unwrap();
        let size = (picture.pixels.width().into(), picture.pixels.height().into());
        assert_eq!((image["width"].as_u64(), image["height"].as_u64()), (Some(size.0), Some(size.1)));
        let pairs: Vec<(String, f64)> = picture
            .pairs
            .iter()
            .map(|p| (set.vocabulary().verb_name(p.verb).unwrap().to_owned(), f64::from(p.object.x1).round()))
            .collect();
        let expected: Vec<(String, f64)> = image["pairs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["action"].as_str().unwrap().to_owned(), p["object"][0].as_f64().unwrap().round()))
            .collect();
        assert_eq!(pairs, expected, "{name}");
        assert!(picture.entities.iter().any(|e| e.class == ObjectClass(0)));
    }
    let error = set.open(missing).unwrap_err().to_string();
    assert!(
        error.contains("COCO_val2014_000000000294.jpg or 000000000294.jpg") && error.contains("val2014"),
        "{error}"
    );
}
