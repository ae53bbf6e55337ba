//! V-COCO: 26 actions of persons in 10,346 COCO images.
//!
//! All boxes are 0-based continuous pixels of the original image, COCO's `x, y, x + w, y + h`.
//!
//! What the formats can give:
//!
//! | file | persons | actions without role | roles that are not annotated |
//! |---|---|---|---|
//! | official `vcoco_*.json` with COCO's instances | all of COCO's | yes | yes |
//! | QPIC's `trainval_vcoco.json`, `test_vcoco.json` | those listed | yes | yes |
//! | `instances_vcoco_*.json` (UPT) | those of the pairs | no | no |
//!
//! The official role AP needs the first. From UPT's files persons without a pair are missing, and with them instances that the recall
//! counts; every person in them counts as annotated.

mod classes;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;

use super::EntityLabel;
pub use classes::{ACTIONS, Action, ActionRole, ActionRoles, Role};

/// An image with everything that the role AP and training take from its annotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VCocoImage {
    /// COCO's id, the last digits of the file name.
    pub number: u64,
    /// File name of the image.
    pub name: String,
    /// Size of the image; `None` where the files do not say it.
    pub size: Option<Size>,
    /// The persons, each once.
    pub persons: Vec<VCocoPerson>,
    /// The objects of other classes, each once, without crowds.
    pub objects: Vec<EntityLabel>,
    /// Those boxes of `persons` that COCO marks as a crowd: the score knows them, training does not.
    pub crowds: Vec<BBox>,
    /// The annotated roles as pairs with the class of the second box, which may be a person; in the order of the file.
    pub pairs: Vec<VCocoPair>,
}

/// A person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoPerson {
    /// Its box.
    pub bbox: BBox,
    /// Whether V-COCO says anything about this person, be it that no action is done; a COCO person it does not list is `false`.
    pub annotated: bool,
    /// What the person does, by rising action.
    pub actions: Vec<VCocoAction>,
}

/// An action of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoAction {
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// The box of each role, in the order of [`Action::roles`]; `None` where it is not annotated.
    pub roles: Vec<Option<BBox>>,
}

/// An annotated role: a person, its action, and the second box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VCocoPair {
    /// Box of the person.
    pub human: BBox,
    /// Box of the object or instrument.
    pub object: BBox,
    /// COCO class of the second box, `0..80`.
    pub class: ObjectClass,
    /// The action and its role.
    pub action_role: ActionRole,
}
