//! `trainval_vcoco.json` and `test_vcoco.json` (QPIC): COCO's boxes as `x, y, x + w, y + h`, its ids, action-roles `0..29`, -1 for no object.

use std::collections::HashMap;
use std::path::Path;

use hoi_runtime::geometry::Size;

use super::official::PERSON;
use super::{ActionRoles, VCocoImage, VCocoPair, VCocoPerson, image_number};
use crate::dataset::boxes::Convention;
use crate::dataset::coco::checked_class;
use crate::dataset::hoia::read_hoia;
use crate::dataset::{DatasetError, EntityLabel};

/// Reads QPIC's list of images, with `sizes` where they are known. In the order of the file.
///
/// The 29 action-roles are numbered as [`ActionRoles::All`].
///
/// # Errors
/// [`DatasetError`], naming file, image and row: not such a document, an unknown id, a subject that is no person, a box outside its image.
pub fn read_qpic(path: &Path, sizes: &HashMap<String, Size>) -> Result<Vec<VCocoImage>, DatasetError> {
    let action_roles = ActionRoles::All.list();
    let mut read = Vec::new();
    for image in read_hoia(path)? {
        let mut own = VCocoImage {
            number: image_number(path, &image.file_name)?,
            name: image.file_name.clone(),
            size: sizes.get(&image.file_name).copied(),
            ..VCocoImage::default()
        };
        let mut boxes = Vec::with_capacity(image.annotations.len());
        for (i, annotation) in image.annotations.iter().enumerate() {
            let bbox = Convention::Corners.checked(path, || image.box_record(i), annotation.bbox, own.size)?;
            let class = checked_class(path, || image.box_record(i), annotation.category_id)?;
            if class == PERSON {
                boxes.push((bbox, class, Some(own.persons.len())));
                own.persons.push(VCocoPerson::new(bbox));
            } else {
                boxes.push((bbox, class, None));
                own.objects.push(EntityLabel { bbox, class });
            }
        }
        for (i, row) in image.hoi_annotation.iter().enumerate() {
            let unknown = |what, value, expected: String| DatasetError::UnknownId {
                path: path.to_owned(),
                record: image.record(i),
                what,
                value,
                expected,
            };
            let (subject, object) = image.boxes_of(path, i, true)?;
            let (human, _, Some(person)) = boxes[subject] else {
                let class = i64::from(boxes[subject].1.0);
                return Err(unknown("class of the subject", class, "0, a person".to_owned()));
            };
            let action_role = usize::try_from(row.category_id).ok().and_then(|id| action_roles.get(id)).copied();
            let action_role = action_role.ok_or_else(|| {
                unknown("category_id", row.category_id, format!("0 to {}", action_roles.len().saturating_sub(1)))
            })?;
            if let (Some(object), None) = (object, action_role.role) {
                return Err(unknown("object_id", object as i64, format!("-1: {} has no role", action_role.name())));
            }
            let object = object.map(|object| boxes[object]);
            own.persons[person].note(action_role, object.map(|(bbox, ..)| bbox));
            own.pairs.extend(object.map(|(bbox, class, _)| VCocoPair { human, object: bbox, class, action_role }));
        }
        read.push(own);
    }
    Ok(read)
}
