//! The two annotation files: HAKE's of the training split, hicodet's of the test split.

use std::collections::BTreeMap;
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use serde::Deserialize;

use super::InteractionTable;
use crate::dataset::boxes::Convention;
use crate::dataset::{AnnotatedImage, AnnotatedPair, DatasetError, read_json};

#[derive(Deserialize)]
struct HakeImage {
    labels: Vec<HakeLabel>,
}

#[derive(Deserialize)]
struct HakeLabel {
    hoi_id: i64,
    human_bbox: [f64; 4],
    object_bbox: [f64; 4],
    width: u32,
    height: u32,
}

/// The number in `HICO_train2015_00000001.jpg`.
pub(super) fn image_number(path: &Path, name: &str) -> Result<u64, DatasetError> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.rsplit_once('_').map_or(stem, |(_, digits)| digits);
    digits.parse().map_err(|_| DatasetError::Inconsistent {
        path: path.to_owned(),
        record: name.to_owned(),
        reason: "the name does not end in `_NUMBER.jpg`".to_owned(),
    })
}

fn checked_box(path: &Path, record: String, bbox: [f64; 4], size: Size) -> Result<BBox, DatasetError> {
    Convention::OneBasedInclusive.checked(path, || record, bbox, Some(size))
}

/// Reads HAKE's instance-level JSON: file name -> labels with `hoi_id` 1..=600 and 1-based inclusive boxes. By rising image number.
///
/// # Errors
/// [`DatasetError`], naming file, image and label: not such a document, an unknown `hoi_id`, a box outside its image, labels of
/// one image that disagree about its size.
pub fn read_hake(path: &Path, table: &InteractionTable) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let document: BTreeMap<String, HakeImage> =
        read_json(path, "HAKE's instance-level annotation (file name -> labels)")?;
    let mut images = Vec::with_capacity(document.len());
    for (name, image) in document {
        let mut size: Option<Size> = None;
        let mut pairs = Vec::with_capacity(image.labels.len());
        for (i, label) in image.labels.iter().enumerate() {
            let record = || format!("{name}, label {i}");
            let own = Size::new(label.width, label.height);
            if *size.get_or_insert(own) != own {
                return Err(DatasetError::Inconsistent {
                    path: path.to_owned(),
                    record: record(),
                    reason: format!("its image is {own} here and another size in the labels before"),
                });
            }
            let interaction = label.hoi_id.checked_sub(1).and_then(|k| usize::try_from(k).ok());
            let interaction =
                interaction.filter(|&k| k < table.classes().len()).ok_or_else(|| DatasetError::UnknownId {
                    path: path.to_owned(),
                    record: record(),
                    what: "hoi_id",
                    value: label.hoi_id,
                    expected: format!("1 to {}", table.classes().len()),
                })?;
            pairs.push(AnnotatedPair {
                human: checked_box(path, record(), label.human_bbox, own)?,
                object: checked_box(path, record(), label.object_bbox, own)?,
                interaction,
            });
        }
        images.push(AnnotatedImage { number: image_number(path, &name)?, name, size, pairs });
    }
    images.sort_by_key(|image| image.number);
    Ok(images)
}

#[derive(Deserialize)]
struct HicodetDocument {
    annotation: Vec<HicodetImage>,
    filenames: Vec<String>,
    size: Vec<[u32; 2]>,
}

#[derive(Deserialize)]
struct HicodetImage {
    boxes_h: Vec<[f64; 4]>,
    boxes_o: Vec<[f64; 4]>,
    hoi: Vec<i64>,
    object: Vec<usize>,
    verb: Vec<usize>,
}

/// Reads hicodet's `instances_*.json`: parallel lists with `hoi` 0..=599 and 1-based inclusive boxes. In the order of the file.
///
/// # Errors
/// [`DatasetError`], naming file, image and pair: not such a document, lists of different lengths, an unknown `hoi`, one that
/// contradicts its `object` or `verb`, a box outside its image.
pub fn read_hicodet(path: &Path, table: &InteractionTable) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let document: HicodetDocument = read_json(path, "hicodet's annotation (annotation, filenames, size)")?;
    let inconsistent = |record: &str, reason: String| DatasetError::Inconsistent {
        path: path.to_owned(),
        record: record.to_owned(),
        reason,
    };
    let count = document.annotation.len();
    if document.filenames.len() != count || document.size.len() != count {
        let (names, sizes) = (document.filenames.len(), document.size.len());
        let reason = format!("{count} annotations, {names} names and {sizes} sizes do not go together");
        return Err(inconsistent("the whole file", reason));
    }
    let images = document.annotation.into_iter().zip(document.filenames).zip(document.size);
    let mut read = Vec::with_capacity(count);
    for ((image, name), [width, height]) in images {
        let size = Size::new(width, height);
        let count = image.hoi.len();
        let lengths = [image.boxes_h.len(), image.boxes_o.len(), image.object.len(), image.verb.len()];
        if lengths.iter().any(|&n| n != count) {
            let reason = format!("{count} hoi do not go with {lengths:?} boxes_h, boxes_o, object, verb");
            return Err(inconsistent(&name, reason));
        }
        let mut pairs = Vec::with_capacity(count);
        for i in 0..count {
            let record = || format!("{name}, pair {i}");
            let unknown = |what, value, expected| DatasetError::UnknownId {
                path: path.to_owned(),
                record: record(),
                what,
                value,
                expected,
            };
            let interaction = usize::try_from(image.hoi[i]).ok();
            let (interaction, class) =
                interaction.and_then(|k| Some((k, table.classes().get(k)?))).ok_or_else(|| {
                    unknown("hoi", image.hoi[i], format!("0 to {}", table.classes().len().saturating_sub(1)))
                })?;
            if image.object[i] != class.hico_object {
                let expected = format!("{}, the object of hoi {interaction}", class.hico_object);
                return Err(unknown("object", image.object[i] as i64, expected));
            }
            if image.verb[i] != class.interaction.verb.0 as usize {
                let expected = format!("{}, the verb of hoi {interaction}", class.interaction.verb.0);
                return Err(unknown("verb", image.verb[i] as i64, expected));
            }
            pairs.push(AnnotatedPair {
                human: checked_box(path, record(), image.boxes_h[i], size)?,
                object: checked_box(path, record(), image.boxes_o[i], size)?,
                interaction,
            });
        }
        read.push(AnnotatedImage { number: image_number(path, &name)?, name, size: Some(size), pairs });
    }
    Ok(read)
}
