//! Weights of the public DETR checkpoints.

use std::collections::HashMap;
use std::path::Path;

use hoi_runtime::vocabulary::Vocabulary;
use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

use super::model::DetrError;
use crate::dataset::hico_det::COCO_80;

/// Rows of the published class head: the category ids 0 to 90, of which 80 are in use, and "no object".
pub const COCO_CLASSES: i64 = 91;

/// Category ids up to 90 that COCO does not use.
const UNUSED_IDS: [i64; 11] = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

/// Row of the published class head for each class of the vocabulary, "no object" last.
fn head_rows(vocabulary: &Vocabulary) -> Result<Vec<i64>, DetrError> {
    let ids: Vec<i64> = (0..COCO_CLASSES).filter(|id| !UNUSED_IDS.contains(id)).collect();
    let mut rows = Vec::new();
    for name in &vocabulary.spec().objects {
        let plain = name.replace('_', " ");
        let row = COCO_80.iter().position(|coco| *coco == plain).and_then(|at| ids.get(at));
        rows.push(*row.ok_or_else(|| DetrError::NotInCoco { class: name.clone() })?);
    }
    rows.push(COCO_CLASSES);
    Ok(rows)
}

/// Fills the store of a detector with a checkpoint in safetensors, keys as published (a leading `model.` or `detr.` is dropped).
///
/// A class head with COCO's 92 rows is cut to the vocabulary's classes and "no object", by name.
///
/// # Errors
/// [`DetrError`] when the file cannot be read, lacks a tensor or has one of another shape, or a class is not one of COCO's.
pub fn load_pretrained(store: &VarStore, file: &Path, vocabulary: &Vocabulary) -> Result<(), DetrError> {
    let tensors =
        Tensor::read_safetensors(file).map_err(|source| DetrError::Tensors { path: file.to_owned(), source })?;
    let plain = |name: String| {
        let rest = ["model.", "detr."].iter().find_map(|prefix| name.strip_prefix(prefix));
        rest.map(str::to_owned).unwrap_or(name)
    };
    let mut tensors: HashMap<String, Tensor> = tensors.into_iter().map(|(name, t)| (plain(name), t)).collect();
    for name in ["class_embed.weight", "class_embed.bias"] {
        if tensors.get(name).is_some_and(|t| t.size().first() == Some(&(COCO_CLASSES + 1))) {
            let rows = Tensor::from_slice(&head_rows(vocabulary)?);
            tensors.entry(name.to_owned()).and_modify(|t| *t = t.index_select(0, &rows));
        }
    }
    fill(store, tensors, file)
}

/// Copies a tensor into every variable of the store.
pub(super) fn fill(store: &VarStore, mut tensors: HashMap<String, Tensor>, file: &Path) -> Result<(), DetrError> {
    let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, mut variable) in variables {
        let mismatch = |reason: String| DetrError::Weights { path: file.to_owned(), name: name.clone(), reason };
        let tensor = tensors.remove(&name).ok_or_else(|| mismatch("it is missing".to_owned()))?;
        if tensor.size() != variable.size() {
            return Err(mismatch(format!("shape {:?}, expected {:?}", tensor.size(), variable.size())));
        }
        no_grad(|| variable.copy_(&tensor.to_kind(Kind::Float)));
    }
    Ok(())
}
