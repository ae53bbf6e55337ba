//! Where the knowledge bank starts: the vectors of the interactions' prompts.

use hoi_runtime::vocabulary::Vocabulary;
use tch::{Device, Kind, Tensor, no_grad};

use super::example::InteractionTable;
use crate::dataset::v_coco::ACTIONS;
use crate::eval::v_coco::action_role_named;
use crate::network::clip::TextTransformer;
use crate::text::{ClipTokenizer, TextEncoder, TextError, prompt, role_prompt};

/// Prompts that go through CLIP's text transformer at once.
const TOGETHER: usize = 64;

/// The prompts of all interactions, in the table's order: [`prompt`], and for V-COCO's verbs with a role [`role_prompt`].
pub fn prompts(vocabulary: &Vocabulary) -> Vec<String> {
    let table = InteractionTable::of(vocabulary);
    let sentence = |verb: &str, object: Option<&str>| {
        let role = action_role_named(verb).and_then(|r| Some((ACTIONS[r.action], r.role?)));
        match (role, object) {
            (Some((action, role)), Some(object)) => role_prompt(action.name, action.roles[role], object),
            _ => prompt(verb, object),
        }
    };
    let entries = table.entries().iter();
    entries
        .map(|label| {
            let object = label.object.and_then(|o| vocabulary.object_name(o));
            sentence(vocabulary.verb_name(label.verb).unwrap_or_default(), object)
        })
        .collect()
}

/// The text vectors of all interactions, in the table's order: `[N, D]`.
///
/// # Errors
/// [`TextError`] when the encoder refuses a prompt.
pub fn text_bank(encoder: &TextEncoder, vocabulary: &Vocabulary) -> Result<Tensor, TextError> {
    let read = encoder.encode_apart(&prompts(vocabulary))?;
    // One row per interaction: two that read alike share a vector.
    let rows: Vec<i64> = read.rows.iter().map(|&row| row as i64).collect();
    Ok(read.sentences.index_select(0, &Tensor::from_slice(&rows).to_device(read.sentences.device())))
}

/// As [`text_bank`], from CLIP's text transformer on `device`.
///
/// # Errors
/// [`TextError`] when a prompt has more tokens than the transformer's context.
pub fn clip_bank(
    text: &TextTransformer,
    tokenizer: &ClipTokenizer,
    vocabulary: &Vocabulary,
    device: Device,
) -> Result<Tensor, TextError> {
    let prompts = prompts(vocabulary);
    let mut rows = Vec::with_capacity(prompts.len().div_ceil(TOGETHER));
    for part in prompts.chunks(TOGETHER) {
        let ids = tokenizer.batch(part)?.to_device(device);
        rows.push(no_grad(|| text.forward(&ids)));
    }
    Ok(Tensor::cat(&rows, 0))
}

/// Rows of the bank at unit length.
pub(super) fn unit_rows(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min(1e-12)
}

/// The mean of each verb's prompts, each at unit length: verb and `[D]`. Verbs without an interaction have none.
pub(super) fn verb_means(bank: &Tensor, table: &InteractionTable) -> Vec<(i64, Tensor)> {
    let unit = unit_rows(&bank.to_kind(Kind::Float));
    let mut rows: std::collections::BTreeMap<u16, Vec<i64>> = std::collections::BTreeMap::new();
    for (row, label) in table.entries().iter().enumerate() {
        rows.entry(label.verb.0).or_default().push(row as i64);
    }
    rows.into_iter()
        .map(|(verb, rows)| {
            let own = unit.index_select(0, &Tensor::from_slice(&rows).to_device(unit.device()));
            (i64::from(verb), own.mean_dim([0i64].as_slice(), false, Kind::Float))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::v_coco::{ActionRoles, vocabulary};
    use hoi_runtime::vocabulary::VocabularySpec;

    #[test]
    fn prompts_of_v_coco_have_roles() {
        let list = prompts(&vocabulary(ActionRoles::WithoutPoint).unwrap());
        for expected in ["a person cutting with knife", "a person holding a cup", "a person riding with bicycle"] {
            assert!(list.iter().any(|p| p == expected), "{expected}");
        }
        assert!(list.iter().all(|p| !p.contains(" obj") && !p.contains(" instr")));
    }

    #[test]
    fn means_of_verbs_by_hand() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let vocabulary = Vocabulary::new(VocabularySpec {
            human: "person".into(),
            objects: names(&["person", "ball", "cup"]),
            verbs: names(&["hold", "kick", "hug"]),
            background_verb: None,
            valid: [("ball".to_owned(), names(&["hold", "kick"])), ("cup".to_owned(), names(&["hold"]))].into(),
            alone: Vec::new(),
        })
        .unwrap();
        // hold ball, kick ball, hold cup.
        let bank = Tensor::from_slice(&[3f32, 4., 0., 2., 1., 0.]).view([3, 2]);
        let means = verb_means(&bank, &InteractionTable::of(&vocabulary));
        assert_eq!(means.iter().map(|m| m.0).collect::<Vec<_>>(), [0, 1], "nobody hugs");
        for (found, expected) in means.iter().zip([[0.8, 0.4], [0.0, 1.0]]) {
            let difference = (&found.1 - Tensor::from_slice(&expected)).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{difference}");
        }
    }
}
