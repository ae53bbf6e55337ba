//! HICO-DET's folder.

use std::path::Path;

use super::{Count, Finding, PictureCheck};
use crate::dataset::AnnotatedImage;
use crate::dataset::folder::find;
use crate::dataset::hico_det::{Format, HicoDet, Split, picture_folder, read_image_labels};

/// Published numbers of a split: images, images without a pair, labels.
fn published(split: Split, format: Format) -> [Option<u64>; 3] {
    match (split, format) {
        (Split::Train, Format::Hake) => [Some(38_118), Some(485), Some(117_654)],
        (Split::Train, Format::Hicodet | Format::Official) => [Some(38_118), None, Some(117_871)],
        (Split::Train, Format::Qpic) => [Some(37_633), Some(0), None],
        (Split::Test, Format::Qpic) => [Some(9_546), Some(0), None],
        (Split::Test, Format::Hake | Format::Hicodet | Format::Official) => [Some(9_658), Some(112), Some(33_405)],
    }
}

/// Images and positive labels of `anno.mat`.
fn published_labels(split: Split) -> [u64; 2] {
    match split {
        Split::Train => [38_118, LABELS_TRAIN],
        Split::Test => [9_658, LABELS_TEST],
    }
}

/// Positive labels of whole training images (`anno_train`).
const LABELS_TRAIN: u64 = 70_373;

/// Positive labels of whole test images (`anno_test`).
const LABELS_TEST: u64 = 20_268;

fn name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Test => "test",
    }
}

/// Looks for everything that is read of HICO-DET below `root`; `progress` is called once for each picture that is looked for.
///
/// Needed are the annotations of both splits. The lists of the Known-Object mode, of the held-out part and the labels of whole images may be absent.
pub fn check_hico_det(root: &Path, pictures: &PictureCheck, progress: &mut dyn FnMut()) -> Vec<Finding> {
    let data = match HicoDet::open(root) {
        Ok(data) => data,
        Err(error) => return vec![Finding::failed("class table", &error)],
    };
    let classes = data.table().classes();
    let vocabulary = data.table().vocabulary();
    let counts = vec![
        Count::new("interactions", 600, classes.len()),
        Count::new("rare interactions", 138, classes.iter().filter(|class| class.rare).count()),
        Count::new("verbs", 117, vocabulary.verb_count()),
        Count::new("objects", 80, vocabulary.object_count()),
    ];
    let own = find(root, &["", "annotations"], &["hoi_classes.json"]);
    let note = own.map_or_else(|| "the one that this program carries".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::found("class table", note, counts)];
    let mut looked_for = Vec::new();
    for split in [Split::Train, Split::Test] {
        let what = format!("annotation, {}", name(split));
        let read = data.annotation(split).and_then(|(format, path)| Ok((format, path, data.images(split)?)));
        match read {
            Ok((format, path, images)) => {
                let [expected_images, expected_empty, expected_labels] = published(split, format);
                let counts = vec![
                    Count::new("images", expected_images, images.len()),
                    Count::new(
                        "images without a pair",
                        expected_empty,
                        images.iter().filter(|i| i.pairs.is_empty()).count(),
                    ),
                    Count::new("labels", expected_labels, images.iter().map(|i| i.pairs.len()).sum()),
                ];
                findings.push(Finding::found(&what, format!("{}, {}", path.display(), format.name()), counts));
                looked_for.push((split, images));
            }
            Err(error) => findings.push(Finding::failed(&what, &error)),
        }
    }
    let what = "lists of the Known-Object mode";
    findings.push(match data.known_objects() {
        Ok(known) => {
            Finding::found(what, "known_object_test.json", vec![Count::new("objects", 80, known.object_count())])
        }
        Err(error) => Finding::optional(what, &error),
    });
    let what = "parts of the training split";
    findings.push(match data.held_out() {
        Ok(parts) => {
            let counts = vec![
                Count::new("images to train on", 30_495, parts.train.len()),
                Count::new("images to choose by", 7_623, parts.val.len()),
            ];
            Finding::found(what, "split_ids.json", counts)
        }
        Err(error) => Finding::optional(what, &error),
    });
    findings.extend(check_labels(root));
    let folder = picture_folder(&pictures.root);
    for (split, images) in looked_for {
        let wanted = |image: AnnotatedImage| (vec![image.name], image.size);
        let wanted: Vec<_> = images.into_iter().map(wanted).collect();
        findings.push(pictures.look(&format!("pictures, {}", name(split)), &folder, &wanted, progress));
    }
    findings
}

/// The labels of whole images, which weak supervision takes.
fn check_labels(root: &Path) -> Vec<Finding> {
    let Some(path) =
        find(root, &["", "annotations"], &["anno.mat"]).filter(|path| path.extension().is_some_and(|e| e == "mat"))
    else {
        let (what, note) = ("labels of whole images".to_owned(), "no anno.mat".to_owned());
        return vec![Finding { what, state: super::State::Absent, note, counts: Vec::new() }];
    };
    let check = |split: Split| {
        let what = format!("labels of whole images, {}", name(split));
        match read_image_labels(&path, split) {
            Ok((images, labels)) => {
                let [expected_images, expected_positive] = published_labels(split);
                let counts = vec![
                    Count::new("interactions", 600, labels.len()),
                    Count::new("images", expected_images, images.len()),
                    Count::new("positive labels", expected_positive, labels.iter().map(|l| l.positive.len()).sum()),
                ];
                Finding::found(&what, path.display().to_string(), counts)
            }
            Err(error) => Finding::failed(&what, &error),
        }
    };
    vec![check(Split::Train), check(Split::Test)]
}
