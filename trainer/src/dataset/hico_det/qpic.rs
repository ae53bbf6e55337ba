//! `trainval_hico.json` and `test_hico.json` (PPDM, QPIC): 0-based inclusive boxes, COCO's ids, verbs 1..=117.

use std::path::Path;

use super::InteractionTable;
use super::annotations::image_number;
use crate::dataset::boxes::Convention;
use crate::dataset::coco::checked_class;
use crate::dataset::hoia::read_hoia;
use crate::dataset::{AnnotatedImage, AnnotatedPair, DatasetError};

/// Reads QPIC's list of images. In the order of the file, which leaves out images without a pair and says no size of an image.
///
/// # Errors
/// [`DatasetError`], naming file, image and row: not such a document, an unknown id, a verb that the object's class does not have, a subject
/// that is no person, a box with an edge below 0 or on the wrong side of another.
pub fn read_qpic(path: &Path, table: &InteractionTable) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let interactions = table.index();
    let verbs = table.vocabulary().verb_count();
    let human = table.vocabulary().human();
    let mut read = Vec::new();
    for image in read_hoia(path)? {
        let mut boxes = Vec::with_capacity(image.annotations.len());
        for (i, annotation) in image.annotations.iter().enumerate() {
            let bbox = Convention::ZeroBasedInclusive.checked(path, || image.box_record(i), annotation.bbox, None)?;
            boxes.push((bbox, checked_class(path, || image.box_record(i), annotation.category_id)?));
        }
        let mut pairs = Vec::with_capacity(image.hoi_annotation.len());
        for (i, row) in image.hoi_annotation.iter().enumerate() {
            let (subject, object) = match image.boxes_of(path, i, false)? {
                (subject, Some(object)) => (boxes[subject], boxes[object]),
                (_, None) => continue,
            };
            let unknown = |what, value, expected| DatasetError::UnknownId {
                path: path.to_owned(),
                record: image.record(i),
                what,
                value,
                expected,
            };
            if subject.1 != human {
                let class = i64::from(subject.1.0);
                return Err(unknown("class of the subject", class, format!("{}, a person", human.0)));
            }
            let verb = usize::try_from(row.category_id - 1).ok().filter(|verb| *verb < verbs);
            let verb = verb.ok_or_else(|| unknown("category_id", row.category_id, format!("1 to {verbs}")))?;
            let interaction = interactions[object.1.0 as usize][verb].ok_or_else(|| {
                let name = table.vocabulary().object_name(object.1).unwrap_or_default();
                unknown("category_id", row.category_id, format!("a verb that occurs with {name}"))
            })?;
            pairs.push(AnnotatedPair { human: subject.0, object: object.0, interaction });
        }
        read.push(AnnotatedImage {
            number: image_number(path, &image.file_name)?,
            name: image.file_name,
            size: None,
            pairs,
        });
    }
    Ok(read)
}
