//! The persons and objects of a picture, each once.

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::BBox;
use hoi_runtime::pairing::non_maximum_suppression;
use hoi_runtime::vocabulary::ObjectClass;

use super::EntityLabel;

/// Boxes of one class with a larger IoU than this are one entity (hicodet's detector training).
pub const ENTITY_IOU: f32 = 0.7;

/// Drops the boxes that repeat an earlier one of their class: per-class NMS, all scores the same.
pub(super) fn entities(boxes: impl IntoIterator<Item = (BBox, ObjectClass)>) -> Vec<EntityLabel> {
    let all: Vec<Detection> = boxes.into_iter().map(|(bbox, class)| Detection { bbox, class, score: 1.0 }).collect();
    let kept = non_maximum_suppression(&all, ENTITY_IOU);
    kept.into_iter().map(|d| EntityLabel { bbox: d.bbox, class: d.class }).collect()
}
