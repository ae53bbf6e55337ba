//! The list of images that PPDM introduced and QPIC, HOICLIP and others use for HICO-DET (`trainval_hico.json`) and V-COCO
//! (`trainval_vcoco.json`): boxes, and rows that point at two of them.

use std::path::Path;

use serde::Deserialize;

use super::{DatasetError, read_json};

/// An image.
#[derive(Deserialize)]
pub(super) struct HoiaImage {
    pub(super) file_name: String,
    pub(super) annotations: Vec<HoiaBox>,
    pub(super) hoi_annotation: Vec<HoiaRow>,
}

/// A box.
#[derive(Deserialize)]
pub(super) struct HoiaBox {
    pub(super) bbox: [f64; 4],
    /// COCO's id, 1..=90 with gaps.
    pub(super) category_id: i64,
}

/// An interaction of two boxes.
#[derive(Deserialize)]
pub(super) struct HoiaRow {
    subject_id: i64,
    object_id: i64,
    /// The verb.
    pub(super) category_id: i64,
}

impl HoiaImage {
    /// Indices into `annotations` of the subject and of the object of a row; -1 is no object where `without_object` allows it.
    pub(super) fn boxes_of(
        &self,
        path: &Path,
        row: usize,
        without_object: bool,
    ) -> Result<(usize, Option<usize>), DatasetError> {
        let HoiaRow { subject_id, object_id, .. } = self.hoi_annotation[row];
        let count = self.annotations.len();
        let index = |what, id: i64, expected: String| {
            usize::try_from(id).ok().filter(|i| *i < count).ok_or_else(|| DatasetError::UnknownId {
                path: path.to_owned(),
                record: self.record(row),
                what,
                value: id,
                expected,
            })
        };
        let boxes = format!("the index of one of {count} boxes");
        let subject = index("subject_id", subject_id, boxes.clone())?;
        let object = match object_id {
            -1 if without_object => None,
            id if without_object => Some(index("object_id", id, format!("{boxes}, or -1"))?),
            id => Some(index("object_id", id, boxes)?),
        };
        Ok((subject, object))
    }

    /// The name of a row, for messages.
    pub(super) fn record(&self, row: usize) -> String {
        format!("{}, hoi_annotation {row}", self.file_name)
    }

    /// The name of a box, for messages.
    pub(super) fn box_record(&self, index: usize) -> String {
        format!("{}, annotation {index}", self.file_name)
    }
}

pub(super) fn read_hoia(path: &Path) -> Result<Vec<HoiaImage>, DatasetError> {
    read_json(path, "a list of images with `annotations` and `hoi_annotation` (PPDM, QPIC)")
}
