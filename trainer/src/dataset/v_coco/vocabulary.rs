//! Objects, action-roles and which of them go together.

use std::collections::BTreeMap;
use std::path::Path;

use hoi_runtime::vocabulary::{Vocabulary, VocabularySpec};
use serde::Deserialize;

use super::ActionRoles;
use crate::dataset::DatasetError;
use crate::dataset::hico_det::COCO_80;

const COMMITTED: &str = include_str!("../../../data/v_coco_objects.json");

#[derive(Deserialize)]
struct Committed {
    /// Action-role -> objects.
    objects: BTreeMap<String, Vec<String>>,
}

/// V-COCO's vocabulary: COCO's 80 objects, and the action-roles as verbs, named as [`ActionRole::name`](super::ActionRole::name) does.
///
/// The 24 of UPT go with the objects they occur with in the data set (`trainer/data/v_coco_objects.json`). `point` goes with every object: that list leaves
/// it out. Actions without a role go with none.
///
/// # Errors
/// [`DatasetError`], were that file damaged.
pub fn vocabulary(action_roles: ActionRoles) -> Result<Vocabulary, DatasetError> {
    let path = || Path::new("v_coco_objects.json").to_owned();
    let committed: Committed = serde_json::from_str(COMMITTED).map_err(|source| DatasetError::Format {
        path: path(),
        expected: "objects of V-COCO's action-roles",
        source,
    })?;
    let list = action_roles.list();
    let mut valid: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for role in list.iter().filter(|role| role.role.is_some()) {
        let name = role.name();
        let objects = committed.objects.get(&name).cloned().unwrap_or_else(|| COCO_80.map(str::to_owned).to_vec());
        for object in objects {
            valid.entry(object).or_default().push(name.clone());
        }
    }
    let spec = VocabularySpec {
        human: COCO_80[0].to_owned(),
        objects: COCO_80.map(str::to_owned).to_vec(),
        verbs: list.iter().map(|role| role.name()).collect(),
        background_verb: None,
        valid,
        alone: Vec::new(),
    };
    Vocabulary::new(spec).map_err(|error| DatasetError::Inconsistent {
        path: path(),
        record: "the vocabulary".to_owned(),
        reason: error.to_string(),
    })
}
