//! `instances_vcoco_*.json` of the V-COCO utilities (UPT): human-object pairs of 24 action-roles.

use std::collections::HashMap;
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use serde::Deserialize;

use super::official::PERSON;
use super::{ActionRoles, VCocoImage, VCocoPair, VCocoPerson, image_number};
use crate::dataset::boxes::Convention;
use crate::dataset::hico_det::COCO_80;
use crate::dataset::{DatasetError, EntityLabel, read_json};

#[derive(Deserialize)]
struct Document {
    annotations: Vec<ImageRow>,
    classes: Vec<String>,
    /// The first one is the background.
    objects: Vec<String>,
    images: Vec<u64>,
}

#[derive(Deserialize)]
struct ImageRow {
    boxes_h: Vec<[f64; 4]>,
    boxes_o: Vec<[f64; 4]>,
    actions: Vec<i64>,
    objects: Vec<i64>,
    file_name: String,
}

/// Reads UPT's pairs, with `sizes` where they are known. In the order of the file.
///
/// A person that is the human of a pair is annotated, one that is only the object of pairs is not.
///
/// # Errors
/// [`DatasetError`], naming file, image and pair: not such a document, other classes than the 24 or other objects than COCO's, lists of
/// different lengths, an unknown id, a box outside its image.
pub fn read_pairs(path: &Path, sizes: &HashMap<String, Size>) -> Result<Vec<VCocoImage>, DatasetError> {
    let document: Document = read_json(path, "V-COCO's pairs (annotations, classes, objects, images)")?;
    let wrong = |record: &str, reason: String| DatasetError::Inconsistent {
        path: path.to_owned(),
        record: record.to_owned(),
        reason,
    };
    let action_roles = ActionRoles::WithoutPoint.list();
    if !action_roles.iter().map(|role| role.name()).eq(document.classes.iter().cloned()) {
        return Err(wrong("classes", "they are not the 24 action-roles in the official order".to_owned()));
    }
    if document.objects.len() != COCO_80.len() + 1 || document.objects.iter().skip(1).ne(COCO_80.iter()) {
        return Err(wrong("objects", "they are not the background and COCO's 80 classes".to_owned()));
    }
    if document.images.len() != document.annotations.len() {
        let (images, annotations) = (document.images.len(), document.annotations.len());
        return Err(wrong("images", format!("{images} images do not go with {annotations} annotations")));
    }
    let mut read = Vec::with_capacity(document.images.len());
    for (row, id) in document.annotations.into_iter().zip(document.images) {
        let name = row.file_name.clone();
        if image_number(path, &name)? != id {
            return Err(wrong(&name, format!("it stands where image {id} belongs")));
        }
        let count = row.actions.len();
        let lengths = [row.boxes_h.len(), row.boxes_o.len(), row.objects.len()];
        if lengths != [count; 3] {
            let reason = format!("{lengths:?} boxes_h, boxes_o, objects do not go with {count} actions");
            return Err(wrong(&name, reason));
        }
        let size = sizes.get(&name).copied();
        let mut image = VCocoImage { number: id, name, size, ..VCocoImage::default() };
        for i in 0..count {
            let record = || format!("{}, pair {i}", row.file_name);
            let unknown = |what, value, last: usize| DatasetError::UnknownId {
                path: path.to_owned(),
                record: record(),
                what,
                value,
                expected: format!("{} to {last}", usize::from(what == "objects")),
            };
            let action_role = usize::try_from(row.actions[i]).ok().and_then(|k| action_roles.get(k)).copied();
            let action_role = action_role.ok_or_else(|| unknown("actions", row.actions[i], action_roles.len() - 1))?;
            let class = row.objects[i].checked_sub(1).and_then(|k| u16::try_from(k).ok());
            let class = class.filter(|k| usize::from(*k) < COCO_80.len()).map(ObjectClass);
            let class = class.ok_or_else(|| unknown("objects", row.objects[i], COCO_80.len()))?;
            let human = Convention::Corners.checked(path, record, row.boxes_h[i], size)?;
            let object = Convention::Corners.checked(path, record, row.boxes_o[i], size)?;
            let person = person_at(&mut image.persons, human);
            image.persons[person].note(action_role, Some(object));
            if class == PERSON {
                person_at(&mut image.persons, object);
            } else if !image.objects.contains(&EntityLabel { bbox: object, class }) {
                image.objects.push(EntityLabel { bbox: object, class });
            }
            image.pairs.push(VCocoPair { human, object, class, action_role });
        }
        read.push(image);
    }
    Ok(read)
}

/// Index of the person with this box, who is added when new.
fn person_at(persons: &mut Vec<VCocoPerson>, bbox: BBox) -> usize {
    persons.iter().position(|person| person.bbox == bbox).unwrap_or_else(|| {
        persons.push(VCocoPerson::new(bbox));
        persons.len() - 1
    })
}
