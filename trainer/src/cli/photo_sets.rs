//! The pictures of HICO-DET and V-COCO that a system learns from and is scored on, and its predictions.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use anyhow::bail;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::Value;

use super::pictures::DataChoice;
use crate::dataset::hico_det::{
    FRACTION_SEED, HicoDet, HicoDetPictures, InteractionTable, ZeroShotSplit, fraction_numbers, without_unseen,
};
use crate::dataset::v_coco::{ActionRoles, Split, VCoco, VCocoPictures};
use crate::dataset::{FRACTIONS, PictureSet, fraction};
use crate::eval::hico_det::{HicoDetEvaluator, HicoDetScores};
use crate::eval::interactions::TripletPrediction;
use crate::eval::predictions::PredictionFile;
use crate::eval::zero_shot::ZeroShotMeans;
use crate::system::rmlr::{role_predictions, verb_numbers};

/// Predictions of the scored pictures.
pub(super) const PREDICTIONS_FILE: &str = "predictions.jsonl";

/// Which pictures.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhotoChoice<'a> {
    pub(super) data: DataChoice,
    /// Folder of the annotations.
    pub(super) root: Option<&'a Path>,
    /// Folder of the pictures; without it, that of the annotations.
    pub(super) images: Option<&'a Path>,
    /// Learn from a part of the training split and score on the rest.
    pub(super) holdout: bool,
    /// Percent of the training pictures.
    pub(super) fraction: Option<u32>,
    /// What is kept back.
    pub(super) zero_shot: Option<ZeroShotSplit>,
}

/// Parses a share of the training pictures.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let found = text.parse().ok().filter(|p| FRACTIONS.contains(p));
    found.ok_or_else(|| format!("expected one of {FRACTIONS:?}"))
}

/// HICO-DET's scores, and those of the zero-shot split.
pub(super) type Scores = (HicoDetScores, Option<ZeroShotMeans>);

/// Takes the predictions of a picture: its name, its number, and they.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&str, u64, &[TripletPrediction]) -> anyhow::Result<()>;

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

    /// Name of each picture by its number.
    pub(super) fn names(&self) -> HashMap<u64, &str> {
        match self {
            Self::HicoDet(set) => set.images().iter().map(|i| (i.number, i.name.as_str())).collect(),
            Self::VCoco(set, _) => set.images().iter().map(|i| (i.number, i.name.as_str())).collect(),
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
    pub(super) fn open(arguments: &PhotoChoice<'_>) -> anyhow::Result<Self> {
        let Some(root) = arguments.root else { bail!("--root is needed: the folder of the annotations") };
        let images = arguments.images.unwrap_or(root);
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
    pub(super) fn score_command(&self, arguments: &PhotoChoice<'_>, predictions: &Path) -> Option<String> {
        let root = arguments.root?.display();
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

impl PhotoData {
    /// Writes the predictions that `predict` hands to its sink for the scored pictures, interactions numbered by the table
    /// `[class][verb]` it is given. What it returns, the names of pictures that could not be read, and the scores where they can be had
    /// at once.
    pub(super) fn predictions(
        &self,
        path: &Path,
        predict: impl FnOnce(&[Vec<Option<usize>>], Sink<'_>) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<(Vec<String>, Option<Scores>)> {
        let mut file = PredictionFile::create(path)?;
        let (unread, scores) = match &self.scored {
            Scored::HicoDet(pictures) => {
                let table = pictures.table();
                let mut evaluator = HicoDetEvaluator::new(table, pictures.images(), None, 0);
                let unread = predict(&table.index(), &mut |name, number, found| {
                    file.add(name, found)?;
                    Ok(evaluator.add_image(number, found)?)
                })?;
                let scores = evaluator.finish();
                let zero_shot = self.unseen.as_ref().map(|unseen| ZeroShotMeans::new(&scores.per_interaction, unseen));
                (unread, Some((scores, zero_shot.transpose()?)))
            }
            Scored::VCoco(pictures, _) => {
                let vocabulary = pictures.vocabulary();
                let unread = predict(&verb_numbers(vocabulary), &mut |name, _, found| {
                    Ok(file.add(name, &role_predictions(found, vocabulary))?)
                })?;
                (unread, None)
            }
        };
        file.commit()?;
        Ok((unread, scores))
    }
}

/// The lines of a result that say how the scored pictures went: `skipped`, `skipped_scored`, `dropped_detections`, `scores`, `zero_shot`,
/// `bundle`, `predictions`, `score_command`.
pub(super) fn print_scores(out: &mut impl Write, result: &Value) -> anyhow::Result<()> {
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    writeln!(out, "{}: {} pictures of {}", text("row"), result["pictures"], text("scored"))?;
    for (key, what) in [
        ("skipped", "training pictures could not be read (counted in every epoch)"),
        ("skipped_scored", "scored pictures could not be read and have no predictions"),
        ("dropped_detections", "detections were of classes that the data set does not have"),
    ] {
        if result[key].as_u64().unwrap_or_default() > 0 {
            writeln!(out, "  {} {what}", result[key])?;
        }
    }
    if let Some(map) = result["scores"]["default"]["full"].as_f64() {
        let zero_shot =
            result["zero_shot"].as_object().map(|z| format!(", unseen {}, seen {}", z["unseen"], z["seen"]));
        writeln!(out, "  mAP {map:.2} %, Default{}", zero_shot.unwrap_or_default())?;
    }
    if !text("bundle").is_empty() {
        writeln!(out, "  bundle: {}", text("bundle"))?;
    }
    writeln!(out, "  predictions: {}", text("predictions"))?;
    match result["score_command"].as_str() {
        Some(command) => writeln!(out, "  score them with: {command}")?,
        None => writeln!(
            out,
            "  `hoi-train score` knows the test split only; the figure above is that of the held-out part"
        )?,
    }
    Ok(())
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

fn hico_det(arguments: &PhotoChoice<'_>, root: &Path, images: &Path) -> anyhow::Result<PhotoData> {
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

fn v_coco(arguments: &PhotoChoice<'_>, root: &Path, images: &Path) -> anyhow::Result<PhotoData> {
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
