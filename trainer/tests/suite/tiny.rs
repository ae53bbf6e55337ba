//! A tiny data set in HICO-DET's files, in which the place of the object tells the verb.

use std::io::Write;
use std::path::{Path, PathBuf};

use hoi_trainer::dataset::hico_det::HicoDet;
use hoi_trainer::dataset::layout::SceneSet;
use serde_json::{Value, json};

/// Images of each split.
pub const IMAGES: usize = 60;

/// A folder with the five files.
pub struct TinyData {
    pub folder: tempfile::TempDir,
}

/// (interaction, HICO object, verb) of object class 0 (bicycle) and 1 (cup): below the human, beside it, far away.
const CLASSES: [[usize; 3]; 2] = [[0, 1, 2], [3, 3, 4]];

fn gz(path: &Path, document: &Value) {
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), Default::default());
    gz.write_all(document.to_string().as_bytes()).unwrap();
    gz.finish().unwrap();
}

/// A human and an object, 1-based inclusive, in an image of 640 x 480, and where the object is: 0 below, 1 beside, 2 far.
fn boxes(i: usize) -> ([u32; 4], [u32; 4], usize) {
    let place = i % 3;
    let (x, y) = (60 + (i * 37 % 200) as u32, 40 + (i * 53 % 90) as u32);
    let size = 60 + (i * 11 % 50) as u32;
    let (ox, oy) = match place {
        0 => (x, y + 90),
        1 => (x + 70, y + 20),
        _ => (x + 260, y + 150),
    };
    ([x, y, x + 80, y + 160], [ox, oy, ox + size, oy + size], place)
}

impl TinyData {
    pub fn write() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let row = |hoi, object, object_idx, verb, verb_idx, coco, n_train| {
            json!({"hoi": hoi, "object": object, "object_idx": object_idx, "verb": verb, "verb_idx": verb_idx,
                "coco80_idx": coco, "n_train": n_train})
        };
        let classes = json!([
            row(0, "bicycle", 0, "ride", 0, 1, 20),
            row(1, "bicycle", 0, "hold", 1, 1, 20),
            row(2, "bicycle", 0, "no_interaction", 2, 1, 5),
            row(3, "cup", 1, "hold", 1, 41, 20),
            row(4, "cup", 1, "no_interaction", 2, 41, 20)
        ]);
        std::fs::write(root.join("hoi_classes.json"), classes.to_string()).unwrap();
        let objects = [0, 0, 0, 1, 1];
        let verbs = [0, 1, 2, 1, 2];

        let mut train = serde_json::Map::new();
        for i in 0..IMAGES {
            let (human, object, place) = boxes(i);
            let hoi = CLASSES[i / 3 % 2][place];
            let label =
                json!({"hoi_id": hoi + 1, "human_bbox": human, "object_bbox": object, "width": 640, "height": 480});
            train.insert(format!("HICO_train2015_{:08}.jpg", i + 1), json!({"labels": [label]}));
        }
        train.insert("HICO_train2015_00009999.jpg".into(), json!({"labels": []}));
        gz(&root.join("hake_train2015_instance_level.json.gz"), &Value::Object(train));

        let (mut annotation, mut names, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..IMAGES {
            let (human, object, place) = boxes(i + 1000);
            let hoi = CLASSES[i / 3 % 2][place];
            annotation.push(json!({"boxes_h": [human], "boxes_o": [object], "hoi": [hoi], "object": [objects[hoi]],
                "verb": [verbs[hoi]]}));
            names.push(format!("HICO_test2015_{:08}.jpg", i + 1));
            sizes.push([640, 480]);
        }
        gz(
            &root.join("instances_test2015.json.gz"),
            &json!({"annotation": annotation, "filenames": names, "size": sizes}),
        );
        let all: Vec<usize> = (1..=IMAGES).collect();
        let known = json!({"objects": {"bicycle": {"object_idx": 0, "hois": [0, 2], "images": all},
            "cup": {"object_idx": 1, "hois": [3, 4], "images": all}}});
        gz(&root.join("known_object_test.json.gz"), &known);
        let (train, val): (Vec<usize>, Vec<usize>) = all.iter().partition(|&&n| n % 5 != 0);
        gz(&root.join("split_ids.json.gz"), &json!({"train": train, "val": val}));
        Self { folder }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn open(&self) -> (HicoDet, SceneSet) {
        let data = HicoDet::open(self.folder.path()).unwrap();
        let scenes = SceneSet::new(&data.train().unwrap(), data.table());
        (data, scenes)
    }
}
