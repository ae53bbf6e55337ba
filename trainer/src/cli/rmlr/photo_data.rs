//! The pictures of HICO-DET and V-COCO that a run learns from and is scored on.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;
use hoi_runtime::vocabulary::Vocabulary;

use super::photos::PhotoArguments;
use crate::cli::pictures::DataChoice;
use crate::dataset::hico_det::{
    FRACTION_SEED, HicoDet, HicoDetPictures, InteractionTable, fraction_numbers, without_unseen,
};
use crate::dataset::v_coco::{ActionRoles, Split, VCoco, VCocoPictures};
use crate::dataset::{PictureSet, fraction};

/// What is predicted.
pub(super) enum Scored {
    HicoDet(Box<HicoDetPictures>),
    VCoco(Box<VCocoPictures>, Split),
}

impl Scored {
    pub(super) fn set(&self) -> &dyn PictureSet {
        match self {
            Self::HicoDet(set) => &**set,
            Self::VCoco(set, _) => &**set,
        }
    }
}

/// Pictures with what they are in words.
pub(super) struct PhotoData {
    pub(super) training: Box<dyn PictureSet>,
    /// The set's, but for zero-shot splits without the interactions that are kept back: what is not shown is not called wrong either.
    pub(super) vocabulary: Vocabulary,
    pub(super) scored: Scored,
    /// Interactions that are kept back.
    pub(super) unseen: Option<Vec<usize>>,
    pub(super) words: String,
    pub(super) scored_words: String,
    pub(super) cache_name: String,
    holdout: bool,
}

impl PhotoData {
    /// Reads the annotation; pictures are opened later.
    pub(super) fn open(arguments: &PhotoArguments) -> anyhow::Result<Self> {
        let Some(root) = &arguments.root else { bail!("--root is needed: the folder of the annotations") };
        let images = arguments.images.as_deref().unwrap_or(root);
        let mut data = match arguments.data {
            DataChoice::HicoDet => hico_det(arguments, root, images)?,
            DataChoice::VCoco => v_coco(arguments, root, images)?,
            DataChoice::Rendered => bail!("rendered scenes have no folder"),
        };
        if data.training.is_empty() {
            bail!("no picture of {} is left to learn from: {}", root.display(), data.words);
        }
        if let Some(percent) = arguments.fraction {
            data.words.push_str(&format!(", {percent} %"));
            data.cache_name.push_str(&format!("-{percent}"));
        }
        if let Some(split) = arguments.zero_shot {
            data.words.push_str(&format!(", without the unseen interactions of {}", split.name()));
            data.cache_name.push_str(&format!("-{}", split.name()));
        }
        Ok(data)
    }

    /// The command that scores a file of predictions, where there is one.
    pub(super) fn score_command(&self, arguments: &PhotoArguments, predictions: &Path) -> Option<String> {
        let root = arguments.root.as_deref()?.display();
        let file = predictions.display();
        match &self.scored {
            Scored::HicoDet(_) if self.holdout => None,
            Scored::HicoDet(_) => Some(format!("hoi-train score hico-det --predictions {file} --root {root}")),
            Scored::VCoco(_, split) => {
                Some(format!("hoi-train score v-coco --predictions {file} --root {root} --split {}", split.name()))
            }
        }
    }
}

/// The vocabulary without the interactions `unseen`.
fn seen_vocabulary(table: &InteractionTable, unseen: &[usize]) -> anyhow::Result<Vocabulary> {
    let mut spec = table.vocabulary().spec().clone();
    for &k in unseen {
        let Some(class) = table.classes().get(k) else {
            bail!(
                "interaction {k} of the zero-shot split is unknown: this annotation has {}, the splits are of HICO-DET's 600",
                table.classes().len()
            );
        };
        let (object, verb) = (class.interaction.object, class.interaction.verb);
        let verb = table.vocabulary().verb_name(verb).unwrap_or_default();
        if let Some(valid) = table.vocabulary().object_name(object).and_then(|name| spec.valid.get_mut(name)) {
            valid.retain(|name| name != verb);
        }
    }
    Ok(Vocabulary::new(spec)?)
}

fn hico_det(arguments: &PhotoArguments, root: &Path, images: &Path) -> anyhow::Result<PhotoData> {
    let data = HicoDet::open(root)?;
    let table = data.table();
    let mut training = data.train()?;
    training.retain(|i| !i.pairs.is_empty());
    let (mut scored, mut scored_words) = (Vec::new(), "HICO-DET, test split");
    if arguments.holdout {
        let parts = data.held_out()?;
        (scored, training) = training
            .into_iter()
            .filter(|i| parts.train.contains(&i.number) || parts.val.contains(&i.number))
            .partition(|i| parts.val.contains(&i.number));
        scored_words = "HICO-DET, held-out part of the training split";
    }
    if let Some(percent) = arguments.fraction {
        let kept: BTreeSet<u64> = fraction_numbers(percent)?.into_iter().collect();
        training.retain(|i| kept.contains(&i.number));
    }
    let unseen = arguments.zero_shot.map(|split| split.unseen()).transpose()?;
    let mut vocabulary = table.vocabulary().clone();
    if let Some(unseen) = &unseen {
        vocabulary = seen_vocabulary(table, unseen)?;
        training = without_unseen(training, unseen, table);
    }
    if !arguments.holdout {
        scored = data.test()?;
    }
    let set = |of| Box::new(HicoDetPictures::new(of, table.clone(), images));
    Ok(PhotoData {
        words: format!("HICO-DET, {} images of the training split", training.len()),
        scored_words: scored_words.to_owned(),
        cache_name: format!("hico-det{}", if arguments.holdout { "-held-in" } else { "" }),
        training: set(training),
        scored: Scored::HicoDet(set(scored)),
        vocabulary,
        unseen,
        holdout: arguments.holdout,
    })
}

fn v_coco(arguments: &PhotoArguments, root: &Path, images: &Path) -> anyhow::Result<PhotoData> {
    if arguments.zero_shot.is_some() {
        bail!("--zero-shot names interactions of HICO-DET: leave it out with --data v-coco");
    }
    let data = VCoco::open(root)?;
    let (learned, scored) = if arguments.holdout { (Split::Train, Split::Val) } else { (Split::Trainval, Split::Test) };
    let mut training = data.images(learned)?;
    if let Some(percent) = arguments.fraction {
        let numbers: Vec<u64> = training.iter().map(|i| i.number).collect();
        let kept: BTreeSet<u64> = fraction(&numbers, percent, FRACTION_SEED).into_iter().collect();
        training.retain(|i| kept.contains(&i.number));
    }
    let roles = ActionRoles::WithoutPoint;
    let training = VCocoPictures::new(training, roles, images)?;
    let test = VCocoPictures::new(data.images(scored)?, roles, images)?;
    Ok(PhotoData {
        words: format!("V-COCO, {} images of {}", training.len(), learned.name()),
        scored_words: format!("V-COCO, {}", scored.name()),
        cache_name: format!("v-coco-{}", learned.name()),
        vocabulary: training.vocabulary().clone(),
        training: Box::new(training),
        scored: Scored::VCoco(Box::new(test), scored),
        unseen: None,
        holdout: arguments.holdout,
    })
}
