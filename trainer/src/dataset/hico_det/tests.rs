//! Small files in a temporary folder: what is right is read, what is wrong is refused by name.

use std::io::Write;
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use serde_json::{Value, json};

use super::*;

/// 0 hold bicycle, 1 ride bicycle (rare), 2 hold cup, 3 hug person.
pub(crate) fn classes_json() -> Value {
    let row = |hoi, object, object_idx, verb, verb_idx, coco, n_train| {
        json!({"hoi": hoi, "object": object, "object_idx": object_idx,
        "verb": verb, "verb_idx": verb_idx, "coco80_idx": coco, "rare": n_train < 10, "n_train": n_train, "n_test": 1})
    };
    json!([
        row(0, "bicycle", 0, "hold", 0, 1, 10),
        row(1, "bicycle", 0, "ride", 1, 1, 9),
        row(2, "cup", 1, "hold", 0, 41, 50),
        row(3, "person", 2, "hug", 2, 0, 50)
    ])
}

/// The table of [`classes_json`].
pub(crate) fn table() -> InteractionTable {
    let folder = tempfile::tempdir().unwrap();
    read_table(folder.path(), &classes_json()).unwrap()
}

fn read_table(folder: &Path, rows: &Value) -> Result<InteractionTable, DatasetError> {
    let path = folder.join("hoi_classes.json");
    std::fs::write(&path, rows.to_string()).unwrap();
    InteractionTable::read(&path)
}

/// Writes a gzipped JSON document.
pub(crate) fn write_gz(path: &Path, document: &Value) {
    let mut gz = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), Default::default());
    gz.write_all(document.to_string().as_bytes()).unwrap();
    gz.finish().unwrap();
}

fn hake(labels: Value) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hake.json.gz");
    write_gz(
        &path,
        &json!({"HICO_train2015_00000012.jpg": {"labels": labels}, "HICO_train2015_00000003.jpg": {"labels": []}}),
    );
    read_hake(&path, &table())
}

fn label(hoi_id: i64, human: [f64; 4]) -> Value {
    json!({"hoi_id": hoi_id, "human_bbox": human, "object_bbox": [1, 1, 100, 50], "width": 100, "height": 50})
}

#[test]
fn table_by_hand() {
    let table = table();
    assert_eq!(table.vocabulary().spec().verbs, ["hold", "ride", "hug"]);
    assert_eq!(table.vocabulary().object_count(), 80);
    assert_eq!(table.classes().iter().map(|c| c.rare).collect::<Vec<_>>(), [false, true, false, false]);
    let index = table.index();
    assert_eq!((index[1][1], index[41][1], index[0][2]), (Some(1), None, Some(3)));
    assert_eq!(table.vocabulary().spec().valid["bicycle"], ["hold", "ride"]);
    assert_eq!(table.vocabulary().background(), None);
}

#[test]
fn table_refuses_what_contradicts_itself() {
    let folder = tempfile::tempdir().unwrap();
    let with = |row: usize, key: &str, value: Value| {
        let mut rows = classes_json();
        rows[row][key] = value;
        read_table(folder.path(), &rows).unwrap_err().to_string()
    };
    assert!(with(1, "hoi", json!(7)).contains("hoi 7 is unknown: expected 1"));
    assert!(with(1, "coco80_idx", json!(80)).contains("coco80_idx 80 is unknown: expected 0 to 79"));
    assert!(with(2, "object", json!("mug")).contains("COCO's class 41 is `cup`"));
    assert!(with(2, "verb", json!("grip")).contains("verb 0 is `grip` here and `hold` before"));
    assert!(with(3, "verb_idx", json!(3)).contains("no row names verb 2"));
    assert!(with(3, "verb_idx", json!(4_000_000_000_u32)).contains("cannot name"));
    assert!(with(3, "n_train", json!("many")).contains("hoi_classes.json is not a list of interaction classes"));
}

#[test]
fn hake_is_read() {
    let images = hake(json!([label(2, [3., 4., 10., 50.])])).unwrap();
    assert_eq!(images.iter().map(|i| i.number).collect::<Vec<_>>(), [3, 12]);
    assert_eq!(images[0].size, None);
    assert_eq!(images[1].size, Some(Size::new(100, 50)));
    let pair = images[1].pairs[0];
    assert_eq!(pair.interaction, 1);
    assert_eq!(pair.human, BBox::new(2., 3., 10., 50.));
    assert_eq!(pair.object, BBox::new(0., 0., 100., 50.));
}

#[test]
fn hake_refuses_by_name() {
    let good = [1., 1., 2., 2.];
    for hoi_id in [0, 5, -1, i64::MIN] {
        let error = hake(json!([label(1, good), label(hoi_id, good)])).unwrap_err();
        assert!(matches!(error, DatasetError::UnknownId { what: "hoi_id", .. }), "{error}");
        assert!(error.to_string().contains("HICO_train2015_00000012.jpg, label 1"), "{error}");
    }
    for outside in [[0., 1., 2., 2.], [1., 1., 101., 2.]] {
        let error = hake(json!([label(1, outside)])).unwrap_err();
        assert!(matches!(error, DatasetError::BoxOutside { bbox, .. } if bbox == outside), "{error}");
    }
    let error = hake(json!([label(1, [5., 1., 2., 2.])])).unwrap_err();
    assert!(matches!(error, DatasetError::NotABox { .. }), "{error}");
    let mut other_size = label(1, good);
    other_size["width"] = json!(200);
    let error = hake(json!([label(1, good), other_size])).unwrap_err();
    assert!(error.to_string().contains("another size"), "{error}");
    assert!(matches!(hake(json!("none")).unwrap_err(), DatasetError::Format { .. }));
}

#[test]
fn what_is_no_gzip_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hake.json.gz");
    assert!(matches!(read_hake(&path, &table()), Err(DatasetError::Read { .. })));
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(read_hake(&path, &table()), Err(DatasetError::Read { .. })));
}

fn hicodet(change: impl Fn(&mut Value)) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.json.gz");
    let mut document = json!({
        "annotation": [{"boxes_h": [[1, 1, 5, 5]], "boxes_o": [[2, 2, 9, 9]], "hoi": [3], "object": [2], "verb": [2]},
                       {"boxes_h": [], "boxes_o": [], "hoi": [], "object": [], "verb": []}],
        "filenames": ["HICO_test2015_00000001.jpg", "HICO_test2015_00000154.jpg"],
        "size": [[10, 20], [30, 40]],
    });
    change(&mut document);
    write_gz(&path, &document);
    read_hicodet(&path, &table())
}

#[test]
fn hicodet_is_read() {
    let images = hicodet(|_| ()).unwrap();
    assert_eq!(images[0].pairs[0].interaction, 3);
    assert_eq!(images[0].pairs[0].object, BBox::new(1., 1., 9., 9.));
    assert_eq!((images[1].number, images[1].size), (154, Some(Size::new(30, 40))));
}

#[test]
fn hicodet_refuses_by_name() {
    let message = |change: fn(&mut Value)| hicodet(change).unwrap_err().to_string();
    assert!(message(|d| d["annotation"][0]["hoi"][0] = json!(4)).contains("hoi 4 is unknown: expected 0 to 3"));
    assert!(message(|d| d["annotation"][0]["object"][0] = json!(1)).contains("expected 2, the object of hoi 3"));
    assert!(message(|d| d["annotation"][0]["verb"][0] = json!(1)).contains("expected 2, the verb of hoi 3"));
    assert!(
        message(|d| d["annotation"][0]["boxes_o"][0] = json!([1, 1, 11, 2])).contains("not inside the image of 10x20")
    );
    assert!(message(|d| d["annotation"][0]["verb"] = json!([])).contains("do not go with"));
    assert!(message(|d| d["size"] = json!([[1, 1]])).contains("do not go together"));
    assert!(message(|d| d["filenames"][0] = json!("cat.jpg")).contains("_NUMBER.jpg"));
}

#[test]
fn lists_are_read_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known.json.gz");
    let lists = |last: i64, person: Value| {
        write_gz(
            &path,
            &json!({"note": "", "objects": {"bicycle": {"object_idx": 0, "hois": [0, last], "images": [1, 5]},
                "cup": {"object_idx": 1, "hois": [2, 2], "images": [5]}, "person": person}}),
        );
        read_known_objects(&path, &table())
    };
    let person = json!({"object_idx": 2, "hois": [3, 3], "images": []});
    let known = lists(1, person.clone()).unwrap();
    assert!(known.contains(1, 5) && known.contains(2, 5));
    assert!(!known.contains(2, 1) && !known.contains(3, 5) && !known.contains(9, 5));
    assert!(matches!(lists(4, person.clone()), Err(DatasetError::UnknownId { value: 4, .. })));
    let error = lists(1, json!({"object_idx": 2, "hois": [2, 2], "images": []})).unwrap_err();
    assert!(error.to_string().contains("interaction 3"), "{error}");

    let path = folder.path().join("split.json.gz");
    write_gz(&path, &json!({"train": [1, 2], "val": [3]}));
    assert_eq!(read_held_out(&path).unwrap().val.len(), 1);
    write_gz(&path, &json!({"train": [1, 3], "val": [3]}));
    assert!(read_held_out(&path).unwrap_err().to_string().contains("image 3"));
}
