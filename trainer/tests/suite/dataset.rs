//! Data sets from outside: files written here by hand, SciPy's MATLAB files, and the published annotation where it is beside the project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Verb};
use hoi_trainer::dataset::augment::Augmentation;
use hoi_trainer::dataset::hico_det::{
    FRACTION_SEED, Format, HicoDet, HicoDetPictures, InteractionTable, Split, ZeroShotSplit, fraction_numbers,
    read_hake, read_image_labels, read_official, read_qpic, without_unseen,
};
use hoi_trainer::dataset::loader::{LoaderError, LoaderOptions, batches};
use hoi_trainer::dataset::mat5::{Array, MatFile};
use hoi_trainer::dataset::{AnnotatedImage, AnnotatedPair, DatasetError, FRACTIONS, PictureSet, fraction};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

fn shared(folder: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    if root.is_dir() {
        return Some(root);
    }
    println!("skipped: ../shared/data/{folder} is not here");
    None
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hico_det").join(name)
}

/// An error with its sources, as a command prints it.
fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn published() -> InteractionTable {
    InteractionTable::published().unwrap()
}

#[test]
fn the_table_that_is_carried_is_the_published_one() {
    let table = published();
    assert_eq!((table.classes().len(), table.classes().iter().filter(|c| c.rare).count()), (600, 138));
    let background = table.vocabulary().background().unwrap();
    assert_eq!(background, Verb(57));
    assert_eq!(table.classes().iter().filter(|c| c.interaction.verb == background).count(), 80);
    let Some(root) = shared("hico-det") else { return };
    let read = InteractionTable::read(&root.join("hoi_classes.json")).unwrap();
    assert_eq!(read.classes(), table.classes());
    assert_eq!(read.vocabulary().spec(), table.vocabulary().spec());
}

#[test]
fn official_boxes_are_read() {
    for name in ["anno_bbox.mat", "anno_bbox_plain.mat"] {
        let images = read_official(&fixture(name), Split::Train, &published()).unwrap();
        assert_eq!(images.iter().map(|i| i.number).collect::<Vec<_>>(), [1, 7, 9], "{name}");
        assert_eq!(images[0].size, Some(Size::new(640, 480)));
        let boxes: Vec<_> = images[0].pairs.iter().map(|p| (p.interaction, p.human, p.object)).collect();
        assert_eq!(
            boxes,
            [
                (1, BBox::new(207., 32., 427., 300.), BBox::new(0., 0., 640., 480.)),
                (3, BBox::new(9., 29., 20., 40.), BBox::new(4., 6., 6., 8.)),
                (3, BBox::new(10., 30., 21., 41.), BBox::new(4., 6., 6., 8.)),
            ]
        );
        assert!(images[1].pairs.is_empty(), "invisible");
        assert_eq!(images[2].pairs[0].object, BBox::new(99., 49., 100., 50.));
        assert_eq!(images[2].pairs.len(), 1);
        let test = read_official(&fixture(name), Split::Test, &published()).unwrap();
        assert_eq!((test[0].number, test[0].pairs[0].human), (2, BBox::new(0., 2., 2., 4.)));
    }
}

/// The error for the uncompressed fixture after a change of its bytes.
fn official_after(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = std::fs::read(fixture("anno_bbox_plain.mat")).unwrap();
    change(&mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anno_bbox.mat");
    std::fs::write(&path, bytes).unwrap();
    chain(&read_official(&path, Split::Train, &published()).unwrap_err())
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|w| w == what).unwrap()
}

#[test]
fn official_files_are_refused_by_name() {
    // The box 208 427 33 300: a right edge of 900 leaves the image.
    let outside = official_after(|bytes| {
        let at = find(bytes, &427_u16.to_le_bytes());
        bytes[at..at + 2].copy_from_slice(&900_u16.to_le_bytes());
    });
    assert!(outside.contains("bbox_train(1) HICO_train2015_00000001.jpg, hoi 1, human of connection 1"), "{outside}");
    assert!(outside.contains("900") && outside.contains("640x480") && outside.contains("1-based"), "{outside}");
    let name = official_after(|bytes| {
        let at = find(bytes, b"00000007");
        bytes[at..at + 8].copy_from_slice(b"seven007");
    });
    assert!(name.contains("_NUMBER.jpg"), "{name}");
    let field = official_after(|bytes| {
        let at = find(bytes, b"connection");
        bytes[at] = b'k';
    });
    assert!(field.contains("no field `connection`"), "{field}");
    let missing = official_after(|bytes| {
        let at = find(bytes, b"bbox_train");
        bytes[at] = b'c';
    });
    assert!(missing.contains("no variable `bbox_train`") && missing.contains("bbox_test"), "{missing}");
    assert!(official_after(|bytes| bytes.truncate(60)).contains("shorter than the header"));
    assert!(official_after(|bytes| bytes[125] = 2).contains("7.3"));
    assert!(official_after(|bytes| bytes[..128].fill(b' ')).contains("not the header"));
    let unsupported = MatFile::open(&fixture("unsupported.mat")).unwrap();
    assert!(chain(&unsupported.variable("complex").unwrap_err()).contains("a complex array is not supported"));
    let Array::Numbers { dims, values } = unsupported.variable("good").unwrap() else { panic!("not numbers") };
    assert_eq!((dims, values[0], values[1], values[3]), (vec![2, 2], 1.5, 3.0, -4.0));
    assert!(values[2].is_nan());
}

#[test]
fn damaged_matlab_files_are_errors_and_nothing_worse() {
    for name in ["anno_bbox.mat", "anno_bbox_plain.mat"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.mat");
        let table = published();
        let mut refused = 0;
        for cut in (0..bytes.len()).step_by(37) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(read_official(&path, Split::Test, &table).is_err(), "{name} cut at {cut}");
            let mut flipped = bytes.clone();
            flipped[cut] ^= 0xff;
            std::fs::write(&path, &flipped).unwrap();
            refused += usize::from(read_official(&path, Split::Train, &table).is_err());
        }
        assert!(refused > 0);
    }
}

#[test]
fn labels_of_whole_images_are_the_published_ones() {
    let Some(root) = shared("hico-det") else { return };
    let text = std::fs::File::open(root.join("image_level_labels.json.gz")).unwrap();
    let document: Value = serde_json::from_reader(flate2::read::GzDecoder::new(text)).unwrap();
    // The training split (183 MB unpacked) is checked by `hoi-train data check`.
    let (numbers, labels) = read_image_labels(&root.join("anno.mat"), Split::Test).unwrap();
    assert_eq!((numbers.len(), labels.len()), (9_658, 600));
    for (k, label) in labels.iter().enumerate() {
        let list = |key: &str| -> Vec<u64> { serde_json::from_value(document["test"][key][k].clone()).unwrap() };
        assert_eq!(label.positive, list("positive"), "interaction {k}");
        assert_eq!(label.ambiguous, list("ambiguous"), "interaction {k}");
        assert_eq!(Some(label.negative as u64), document["test"]["n_negative"][k].as_u64(), "interaction {k}");
    }
}

/// QPIC's file with one image; `change` may spoil it.
fn qpic(change: impl FnOnce(&mut Value)) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let mut document = json!([{"file_name": "HICO_train2015_00000001.jpg", "img_id": 1,
        "annotations": [{"bbox": [207, 32, 426, 299], "category_id": 1}, {"bbox": [58, 97, 571, 404], "category_id": 4}],
        "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": 77},
                           {"subject_id": 0, "object_id": 1, "category_id": 88}]}]);
    change(&mut document);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trainval_hico.json");
    std::fs::write(&path, document.to_string()).unwrap();
    read_qpic(&path, &published())
}

#[test]
fn qpic_and_hake_give_the_same_boxes() {
    let images = qpic(|_| ()).unwrap();
    let pairs = &images[0].pairs;
    assert_eq!((images[0].number, images[0].size, pairs.len()), (1, None, 2));
    let names = |pair: &AnnotatedPair| {
        let table = published();
        let class = table.classes()[pair.interaction].interaction;
        let vocabulary = table.vocabulary();
        let verb = vocabulary.verb_name(class.verb).unwrap().to_owned();
        (verb, vocabulary.object_name(class.object).unwrap().to_owned())
    };
    assert_eq!(names(&pairs[0]), ("ride".into(), "motorcycle".into()));
    assert_eq!(names(&pairs[1]), ("sit_on".into(), "motorcycle".into()));
    let label = json!({"hoi_id": pairs[0].interaction + 1, "human_bbox": [208, 33, 427, 300], "object_bbox": [59, 98, 572, 405],
        "width": 640, "height": 480});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hake.json");
    std::fs::write(&path, json!({"HICO_train2015_00000001.jpg": {"labels": [label]}}).to_string()).unwrap();
    assert_eq!(read_hake(&path, &published()).unwrap()[0].pairs[0], pairs[0]);
}

#[test]
fn qpic_is_refused_by_name() {
    let message = |change: fn(&mut Value)| qpic(change).unwrap_err().to_string();
    let object = message(|d| d[0]["hoi_annotation"][1]["object_id"] = json!(2));
    assert!(object.contains("HICO_train2015_00000001.jpg, hoi_annotation 1: object_id 2 is unknown"), "{object}");
    assert!(message(|d| d[0]["hoi_annotation"][0]["object_id"] = json!(-1)).contains("object_id -1"));
    assert!(message(|d| d[0]["hoi_annotation"][0]["subject_id"] = json!(1)).contains("a person"));
    assert!(message(|d| d[0]["hoi_annotation"][0]["category_id"] = json!(118)).contains("expected 1 to 117"));
    assert!(message(|d| d[0]["hoi_annotation"][0]["category_id"] = json!(1)).contains("occurs with motorcycle"));
    let category = message(|d| d[0]["annotations"][1]["category_id"] = json!(12));
    assert!(category.contains("annotation 1: category_id 12 is unknown: expected one of COCO's 80"), "{category}");
    assert!(message(|d| d[0]["annotations"][0]["bbox"] = json!([-1, 0, 5, 5])).contains("is no box"));
    assert!(message(|d| *d = json!({"annotations": []})).contains("is not a list of images"));
}

#[test]
fn files_are_looked_for_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir(root.join("annotations")).unwrap();
    let data = HicoDet::open(root).unwrap();
    let nothing = data.annotation(Split::Train).unwrap_err().to_string();
    assert!(nothing.contains("trainval_hico.json") && nothing.contains("anno_bbox.mat"), "{nothing}");
    let order = [
        ("annotations/trainval_hico.json.gz", Format::Qpic),
        ("trainval_hico.json", Format::Qpic),
        ("annotations/anno_bbox.mat", Format::Official),
        ("instances_train2015.json", Format::Hicodet),
        ("hake_train2015_instance_level.json.gz", Format::Hake),
        ("hake_train2015_instance_level.json", Format::Hake),
    ];
    for (name, format) in order {
        std::fs::write(root.join(name), "").unwrap();
        assert_eq!(data.annotation(Split::Train).unwrap(), (format, root.join(name)));
    }
    assert!(matches!(HicoDet::open(&root.join("nowhere")), Err(DatasetError::Read { .. })));
}

#[test]
fn fractions_are_nested_and_the_committed_ones() {
    let ids: Vec<u64> = (0..1000).map(|i| 3 * i + 7).collect();
    let parts: Vec<BTreeSet<u64>> = FRACTIONS.iter().map(|p| fraction(&ids, *p, 3).into_iter().collect()).collect();
    assert_eq!(parts.iter().map(BTreeSet::len).collect::<Vec<_>>(), [50, 150, 250, 500]);
    assert!(parts.windows(2).all(|w| w[0].is_subset(&w[1])));
    let mut reversed = ids.clone();
    reversed.reverse();
    assert_eq!(fraction(&reversed, 15, 3), fraction(&ids, 15, 3));
    assert_ne!(fraction(&ids, 15, 4), fraction(&ids, 15, 3));
    assert_eq!(fraction(&ids, 100, 3), ids);
    // 5 % of 37,633 is 1,881.65.
    let committed: Vec<Vec<u64>> = FRACTIONS.iter().map(|p| fraction_numbers(*p).unwrap()).collect();
    assert_eq!(committed.iter().map(Vec::len).collect::<Vec<_>>(), [1_882, 5_645, 9_408, 18_817]);
    assert!(fraction_numbers(10).unwrap_err().to_string().contains("expected 5, 15, 25 or 50"));
    let Some(root) = shared("hico-det") else { return };
    let train = HicoDet::open(&root).unwrap().train().unwrap();
    let numbers: Vec<u64> = train.iter().filter(|i| !i.pairs.is_empty()).map(|i| i.number).collect();
    assert_eq!(numbers.len(), 37_633);
    for (percent, committed) in FRACTIONS.iter().zip(&committed) {
        assert_eq!(&fraction(&numbers, *percent, FRACTION_SEED), committed, "{percent} %");
    }
}

#[test]
fn unseen_pairs_go_with_all_their_labels() {
    let sizes = [120, 120, 120, 120, 120, 120, 120, 100, 84];
    for (split, size) in ZeroShotSplit::ALL.into_iter().zip(sizes) {
        let (unseen, seen) = (split.unseen().unwrap(), split.seen().unwrap());
        assert_eq!((unseen.len(), seen.len()), (size, 600 - size), "{}", split.name());
        let all: BTreeSet<usize> = unseen.iter().chain(&seen).copied().collect();
        assert_eq!(all, (0..600).collect());
        assert_eq!(split.name().parse(), Ok(split));
    }
    assert!("uc5".parse::<ZeroShotSplit>().unwrap_err().contains("rf-uc"));
    assert!(ZeroShotSplit::Uc(5).unseen().is_err());
    let table = published();
    let object = |k: usize| table.classes()[k].interaction.object;
    let unseen_objects: BTreeSet<u16> = ZeroShotSplit::Uo.unseen().unwrap().iter().map(|k| object(*k).0).collect();
    assert_eq!(unseen_objects.len(), 12);
    assert!(ZeroShotSplit::Uo.seen().unwrap().iter().all(|k| !unseen_objects.contains(&object(*k).0)));
    assert!(ZeroShotSplit::RfUc.unseen().unwrap().iter().all(|k| table.classes()[*k].rare));

    // Interactions 0 and 1 are of airplanes, 28 of birds.
    let pair = |interaction, x: f32| AnnotatedPair {
        human: BBox::new(x, 0., x + 100., 100.),
        object: BBox::new(x, 50., x + 50., 100.),
        interaction,
    };
    let image = |number, pairs: &[AnnotatedPair]| AnnotatedImage {
        name: format!("{number}.jpg"),
        number,
        size: None,
        pairs: pairs.to_vec(),
    };
    let images = vec![
        // The first pair carries 1, also in its slightly moved copy; the second is another pair, the third of another class.
        image(1, &[pair(0, 0.), pair(1, 2.), pair(0, 300.), pair(28, 0.)]),
        image(2, &[pair(1, 0.), pair(0, 1.)]),
        image(3, &[]),
        image(4, &[pair(0, 0.)]),
    ];
    let left = without_unseen(images, &[1], &table);
    let left: Vec<(u64, Vec<(usize, f32)>)> =
        left.iter().map(|i| (i.number, i.pairs.iter().map(|p| (p.interaction, p.human.x1)).collect())).collect();
    assert_eq!(left, [(1, vec![(0, 300.), (28, 0.)]), (4, vec![(0, 0.)])]);
}

/// Six pictures of 40 x 30 with one annotated pair each.
fn pictures(root: &Path) -> Vec<AnnotatedImage> {
    std::fs::create_dir_all(root.join("images/train2015")).unwrap();
    (1..=6)
        .map(|number| {
            let name = format!("HICO_train2015_{number:08}.jpg");
            let path = root.join("images/train2015").join(&name);
            RgbImage::from_pixel(40, 30, Rgb([number as u8 * 20; 3])).save(path).unwrap();
            let (human, object) = (BBox::new(0., 0., 20., 30.), BBox::new(10., 10., 30., 30.));
            let moved = BBox::new(0., 0., 20., 29.);
            let pairs = vec![
                AnnotatedPair { human, object, interaction: 0 },
                AnnotatedPair { human: moved, object, interaction: 1 },
            ];
            AnnotatedImage { name, number, size: Some(Size::new(40, 30)), pairs }
        })
        .collect()
}

#[test]
fn pictures_are_opened_with_each_box_once() {
    let folder = tempfile::tempdir().unwrap();
    let set = HicoDetPictures::new(pictures(folder.path()), published(), folder.path());
    let picture = set.open(2).unwrap();
    assert_eq!((picture.number, picture.pixels.dimensions(), picture.pairs.len()), (3, (40, 30), 2));
    let classes: Vec<u16> = picture.entities.iter().map(|e| e.class.0).collect();
    assert_eq!(classes, [0, 4], "a person and an airplane");
    assert_eq!(picture.pairs[1].class, ObjectClass(4));
}

#[test]
fn bad_pictures_in_the_middle_of_an_epoch_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut images = pictures(folder.path());
    let path = |i: usize| folder.path().join("images/train2015").join(format!("HICO_train2015_{:08}.jpg", i + 1));
    std::fs::remove_file(path(1)).unwrap();
    let bytes = std::fs::read(path(2)).unwrap();
    std::fs::write(path(2), &bytes[..20]).unwrap();
    std::fs::write(path(3), "no picture").unwrap();
    images[4].size = Some(Size::new(41, 30));
    let set = HicoDetPictures::new(images, published(), folder.path());
    let run = |skip_limit| {
        let options = LoaderOptions { batch: 2, threads: 2, seed: 0, epoch: 0, shuffle: false, skip_limit };
        let mut numbers = Vec::new();
        let augmentation = Augmentation::exact(Size::new(32, 32), 0.0);
        let report = batches(&set, &[0, 1, 2, 3, 4, 5], &augmentation, &options, |batch| {
            numbers.extend(batch.targets.iter().map(|t| t.number));
            Ok::<_, String>(())
        });
        (numbers, report)
    };
    let (numbers, report) = run(4);
    assert_eq!(numbers, [1, 6]);
    let messages: Vec<String> =
        report.unwrap().skipped.iter().map(|s| format!("{}: {}", s.name, chain(&s.error))).collect();
    let expected = ["no picture HICO_train2015_00000002.jpg", "cannot decode", "cannot decode", "41x30"];
    for (message, (number, expected)) in messages.iter().zip((2..).zip(expected)) {
        assert!(message.contains(&format!("{number:08}.jpg")) && message.contains(expected), "{message}");
    }
    let (_, report) = run(3);
    assert!(matches!(report, Err(LoaderError::TooManySkipped { count: 4, name, .. }) if name.contains("00000005")));
}
