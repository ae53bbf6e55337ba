//! Weights of the public DETR checkpoints.

use std::path::Path;

use hoi_runtime::vocabulary::Vocabulary;
use tch::nn::VarStore;

use super::model::DetrError;
use crate::dataset::hico_det::COCO_80;
use crate::network::weights::{StateDict, coco_class_rows};

/// Rows of the published class head: the ids 0 to 90, of which 80 are in use, and "no object".
const COCO_ROWS: i64 = 92;

/// Row of the published class head for each class of the vocabulary, "no object" last.
fn head_rows(vocabulary: &Vocabulary) -> Result<Vec<i64>, DetrError> {
    let all = coco_class_rows();
    let mut rows = Vec::new();
    for name in &vocabulary.spec().objects {
        let plain = name.replace('_', " ");
        let row = COCO_80.iter().position(|coco| *coco == plain).and_then(|at| all.get(at));
        rows.push(*row.ok_or_else(|| DetrError::NotInCoco { class: name.clone() })?);
    }
    rows.extend(all.last());
    Ok(rows)
}

/// Fills the store of a detector with a published checkpoint ([`StateDict::read`]) or with a trained detector's `model.safetensors`.
///
/// A class head with COCO's 92 rows is cut to the vocabulary's classes and "no object", by name.
///
/// # Errors
/// [`DetrError`] when the file cannot be read, is of another network, or a class is not one of COCO's.
pub fn load_pretrained(store: &VarStore, file: &Path, vocabulary: &Vocabulary) -> Result<(), DetrError> {
    let mut weights = StateDict::read(file)?.with_detr_keys()?;
    let head = weights.tensors().get("class_embed.bias");
    if head.is_some_and(|bias| bias.size() == [COCO_ROWS]) && vocabulary.object_count() as i64 + 1 != COCO_ROWS {
        weights.keep_class_rows(&head_rows(vocabulary)?)?;
    }
    Ok(weights.load(store, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoi_runtime::vocabulary::VocabularySpec;

    #[test]
    fn rows_follow_the_names() {
        let spec = |objects: &[&str]| VocabularySpec {
            human: "person".into(),
            objects: objects.iter().map(|o| (*o).to_owned()).collect(),
            verbs: vec!["hold".into()],
            background_verb: None,
            valid: Default::default(),
            alone: Vec::new(),
        };
        let rows = |objects: &[&str]| head_rows(&Vocabulary::new(spec(objects)).unwrap());
        // COCO's ids: person 1, stop sign 13, toothbrush 90; 91 is "no object".
        assert_eq!(rows(&["toothbrush", "person", "stop_sign"]).unwrap(), [90, 1, 13, 91]);
        assert!(matches!(rows(&["person", "unicorn"]), Err(DetrError::NotInCoco { class }) if class == "unicorn"));
    }
}
