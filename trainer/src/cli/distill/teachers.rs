//! What teachers say of photos.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::pipeline::HoiPipeline;
use tch::{Device, Kind, Tensor};

use crate::dataset::stanford40::{ACTIONS, Stanford40};
use crate::eval::stanford40::{ActionMap, ActionScorer};
use crate::system::edge::Answers;

/// What each teacher says of the photos of these sets: a finished run that holds answers, or a bundle that is asked.
pub(in crate::cli) fn ask_teachers(
    teachers: &[PathBuf],
    sets: &[&Stanford40],
) -> anyhow::Result<Vec<(PathBuf, Answers)>> {
    let actions = ACTIONS.map(|a| a.0);
    let ask = |folder: &PathBuf| -> anyhow::Result<(PathBuf, Answers)> {
        let answers = if Answers::lie_in(folder) {
            Answers::read(folder, &actions)?
        } else {
            ask_bundle(folder, sets).with_context(|| {
                format!(
                    "--teacher {} holds no answers (a finished run of `hoi-train weakly --stanford40` or `hoi-train distill` does), and as a \
                     bundle it cannot be asked",
                    folder.display()
                )
            })?
        };
        Ok((folder.clone(), answers))
    };
    teachers.iter().map(ask).collect()
}

/// Asks a bundle of the runtime about every photo, with the person given.
fn ask_bundle(folder: &Path, sets: &[&Stanford40]) -> anyhow::Result<Answers> {
    let bundle = ModelBundle::load(folder)?;
    let map = ActionMap::new(&bundle.manifest().evaluation, bundle.vocabulary())?;
    let pipeline = HoiPipeline::new(&bundle, &TractEngine::new(1))?;
    let scorer = ActionScorer { pipeline: &pipeline, map: &map };
    let (mut photos, mut scores) = (Vec::new(), Vec::new());
    for set in sets {
        for (index, photo) in set.photos.iter().enumerate() {
            let said = scorer.score(&set.open(index)?, &photo.person)?;
            scores.extend(said.given);
            photos.push(photo.name.clone());
        }
    }
    let rows = photos.len() as i64;
    Ok(Answers {
        actions: ACTIONS.iter().map(|a| a.0.to_owned()).collect(),
        photos,
        scores: Tensor::from_slice(&scores).view([rows, ACTIONS.len() as i64]),
        features: Tensor::zeros([rows, 0], (Kind::Float, Device::Cpu)),
    })
}
