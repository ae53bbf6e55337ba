//! Training of the detector.

use std::path::Path;

use serde_json::json;
use tch::{Device, Tensor};

use super::config::DetrSettings;
use super::dense::DenseHeads;
use super::model::{DetrError, DetrModel};
use super::pretrained::load_pretrained;
use crate::dataset::loader::{Batch, LoaderError, LoaderOptions, batches};
use crate::dataset::{EntityLabel, PictureSet};
use crate::eval::detection::{DetectionEvaluator, DetectionScores};
use crate::loss::SetTarget;
use crate::system::run::{EpochShape, RunConfig, RunError, RunIdentity, RunOptions, StepLoss, Trainer};

/// What is trained on what.
#[derive(Clone, Copy)]
pub struct DetrTask<'a> {
    /// Pictures to learn from.
    pub training: &'a dyn PictureSet,
    /// Pictures to score after every `score_every` epochs and at the end.
    pub validation: Option<&'a dyn PictureSet>,
    /// 0: at the end only.
    pub score_every: usize,
    /// Network, loss and input.
    pub settings: &'a DetrSettings,
    /// How it is trained.
    pub run: &'a RunConfig,
    /// A COCO checkpoint to start from.
    pub weights: Option<&'a Path>,
    /// The data in words.
    pub data: &'a str,
    /// Threads that read pictures.
    pub loader_threads: usize,
    /// Where the network lives.
    pub device: Device,
}

/// What is annotated in each picture, boxes as shares of the padded picture.
pub fn targets_of(batch: &Batch, device: Device) -> Vec<SetTarget> {
    let size = batch.images.size();
    let (height, width) = (size[2] as f32, size[3] as f32);
    let target = |entities: &[EntityLabel]| {
        let classes: Vec<i64> = entities.iter().map(|e| i64::from(e.class.0)).collect();
        let shares = |e: &EntityLabel| {
            let (x, y) = e.bbox.center();
            [x / width, y / height, e.bbox.width() / width, e.bbox.height() / height]
        };
        let boxes: Vec<f32> = entities.iter().flat_map(shares).collect();
        SetTarget {
            classes: Tensor::from_slice(&classes).to_device(device),
            boxes: Tensor::from_slice(&boxes).view([-1, 4]).to_device(device),
        }
    };
    batch.targets.iter().map(|t| target(&t.entities)).collect()
}

/// Trains a detector, from nothing or from a checkpoint. Whatever was trained is in the returned model; the flag says whether all
/// epochs are behind it.
///
/// # Errors
/// [`DetrError`] when the configuration cannot be used, pictures or weights cannot be read, or the run fails.
pub fn train_detr(task: &DetrTask<'_>, options: &RunOptions<'_>) -> Result<(DetrModel, bool), DetrError> {
    tch::manual_seed(task.run.seed as i64);
    let mut model = DetrModel::new(task.settings.clone(), task.training.vocabulary().clone(), task.device)?;
    if let Some(weights) = task.weights {
        load_pretrained(&model.store, weights, &model.vocabulary)?;
    }
    let detector = model.config();
    let dense =
        (task.settings.dense > 0.0).then(|| DenseHeads::new(&model.store.root(), detector.width, detector.classes));
    if task.settings.freeze_early {
        model.network.freeze_early();
    }
    let settings = serde_json::to_value(task.settings).unwrap_or_default();
    let system = json!({"detr": settings, "weights": task.weights});
    let identity = RunIdentity { system, data: task.data.to_owned() };
    let mut trainer = Trainer::start(&model.store, &task.settings.groups(), task.run, identity, options)?;
    let indices: Vec<usize> = (0..task.training.len()).collect();
    let shape = EpochShape::new(indices.len(), task.run.batch);
    let loss_of = task.settings.loss;
    trainer.run(shape, |epoch| {
        epoch.each_batch(task.training, &indices, &task.settings.augmentation, task.loader_threads, |batch| {
            let images = batch.images.to_device(task.device);
            let output = model.network.forward(&images, &batch.padding.to_device(task.device), true);
            let targets = targets_of(batch, task.device);
            let loss = loss_of.forward(&output.logits, &output.boxes, &output.auxiliary, &targets);
            let mut parts = vec![("class", loss.class), ("l1", loss.l1), ("giou", loss.giou)];
            let mut total = loss.total;
            if let Some(dense) = &dense {
                let map = (output.feature.size()[2], output.feature.size()[3]);
                let help = dense.loss(&output.memory, map, batch, &loss_of);
                parts.push(("dense", help.double_value(&[])));
                total += help * task.settings.dense;
            }
            Ok::<_, DetrError>(Some(StepLoss { total, parts }))
        })?;
        let number = epoch.number() + 1;
        let due = task.score_every > 0 && number.is_multiple_of(task.score_every) && number < task.run.epochs;
        match task.validation.filter(|_| due) {
            Some(set) => {
                let scores = epoch.with_average(|| evaluate(&model, set, task.run.batch, task.loader_threads))?;
                Ok::<_, DetrError>(vec![("map50", scores.map50), ("mean_recall", scores.mean_recall)])
            }
            None => Ok(Vec::new()),
        }
    })?;
    let finished = trainer.finished();
    trainer.keep_average();
    model.store.freeze();
    Ok((model, finished))
}

/// Scores every query's best class on all pictures of a set, without NMS.
///
/// # Errors
/// [`DetrError`] when a picture cannot be read.
pub fn evaluate(
    model: &DetrModel,
    set: &dyn PictureSet,
    batch: usize,
    threads: usize,
) -> Result<DetectionScores, DetrError> {
    let mut evaluator = DetectionEvaluator::new(model.vocabulary.object_count());
    let options = LoaderOptions { batch, threads, seed: 0, epoch: 0, shuffle: false, skip_limit: 0 };
    let indices: Vec<usize> = (0..set.len()).collect();
    let augmentation = model.settings.test_augmentation();
    let walked = batches(set, &indices, &augmentation, &options, |batch| {
        for (target, detections) in batch.targets.iter().zip(model.candidates(&batch)) {
            evaluator.add_picture(&target.entities, &detections);
        }
        Ok::<_, std::convert::Infallible>(())
    });
    walked.map_err(|e| match e {
        LoaderError::TooManySkipped { limit, name, source, .. } => RunError::Picture { limit, name, source },
        other => RunError::Loader { reason: other.to_string() },
    })?;
    Ok(evaluator.finish())
}
