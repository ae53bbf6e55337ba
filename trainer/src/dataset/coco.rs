//! COCO: its 80 classes under their published ids, and instances files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use serde::Deserialize;

use super::boxes::Convention;
use super::{DatasetError, read_json};

/// Ids between 1 and 90 that COCO gave to classes and then left out.
const GAPS: [i64; 10] = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

/// Largest id.
const LAST: i64 = 90;

/// Class of one of COCO's ids (1 to 90 with 10 gaps).
pub fn class_of_coco_id(id: i64) -> Option<ObjectClass> {
    if !(1..=LAST).contains(&id) || GAPS.contains(&id) {
        return None;
    }
    let gaps_before = GAPS.iter().filter(|gap| **gap < id).count();
    u16::try_from(id - 1).ok().map(|index| ObjectClass(index - gaps_before as u16))
}

/// The class, or an error that names file and record.
pub(super) fn checked_class(
    path: &Path,
    record: impl FnOnce() -> String,
    id: i64,
) -> Result<ObjectClass, DatasetError> {
    class_of_coco_id(id).ok_or_else(|| DatasetError::UnknownId {
        path: path.to_owned(),
        record: record(),
        what: "category_id",
        value: id,
        expected: "one of COCO's 80 ids from 1 to 90".to_owned(),
    })
}

#[derive(Deserialize)]
struct Document {
    images: Vec<ImageRow>,
    annotations: Vec<BoxRow>,
}

#[derive(Deserialize)]
struct ImageRow {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct BoxRow {
    id: u64,
    image_id: u64,
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
    area: Option<f64>,
}

/// An annotated object of a COCO image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CocoBox {
    pub(super) id: u64,
    pub(super) bbox: BBox,
    pub(super) class: ObjectClass,
    pub(super) crowd: bool,
    /// Whether the file gives it no area: COCO's users leave such objects out.
    pub(super) empty: bool,
}

/// A COCO image with all its boxes, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CocoImage {
    pub(super) name: String,
    pub(super) size: Size,
    pub(super) boxes: Vec<CocoBox>,
}

/// Reads the images `wanted` of an instances file into `images`.
pub(super) fn read_instances(
    path: &Path,
    wanted: &dyn Fn(u64) -> bool,
    images: &mut BTreeMap<u64, CocoImage>,
) -> Result<(), DatasetError> {
    let document: Document = read_json(path, "COCO's instances (images, annotations)")?;
    let mut read: HashMap<u64, CocoImage> = HashMap::new();
    for row in document.images.into_iter().filter(|row| wanted(row.id)) {
        let size = Size::new(row.width, row.height);
        read.insert(row.id, CocoImage { name: row.file_name, size, boxes: Vec::new() });
    }
    for row in document.annotations.into_iter().filter(|row| wanted(row.image_id)) {
        let record = || format!("annotation {} of image {}", row.id, row.image_id);
        let image = read.get_mut(&row.image_id).ok_or_else(|| DatasetError::Inconsistent {
            path: path.to_owned(),
            record: record(),
            reason: "`images` does not list its image".to_owned(),
        })?;
        let class = checked_class(path, record, row.category_id)?;
        let bbox = Convention::CornerAndExtent.checked(path, record, row.bbox, Some(image.size))?;
        let empty = row.area.is_some_and(|area| area <= 0.0);
        image.boxes.push(CocoBox { id: row.id, bbox, class, crowd: row.iscrowd != 0, empty });
    }
    images.extend(read);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::hico_det::COCO_80;

    #[test]
    fn ids_by_hand() {
        let name = |id| class_of_coco_id(id).map(|class| COCO_80[class.0 as usize]);
        let cases = [
            (1, Some("person")),
            (11, Some("fire hydrant")),
            (12, None),
            (13, Some("stop sign")),
            (44, Some("bottle")),
            (45, None),
            (67, Some("dining table")),
            (90, Some("toothbrush")),
            (0, None),
            (91, None),
            (-1, None),
        ];
        for (id, want) in cases {
            assert_eq!(name(id), want, "{id}");
        }
        assert_eq!((1..=90).filter_map(class_of_coco_id).map(|c| c.0).collect::<Vec<_>>(), (0..80).collect::<Vec<_>>());
    }
}
