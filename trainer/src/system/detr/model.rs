//! A trained detector: a folder with `config.json` and `model.safetensors`.

use std::path::{Path, PathBuf};

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::BBox;
use hoi_runtime::pairing::{PairingSpec, select_entities};
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary, VocabularyError, VocabularySpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::config::DetrSettings;
use super::dense::DENSE_PREFIX;
use crate::dataset::loader::Batch;
use crate::export::{WriteError, write_beside};
use crate::network::ConfigError;
use crate::network::detr::{Detr, DetrConfig, DetrOutput};
use crate::network::weights::{StateDict, WeightsError};
use crate::system::run::{CheckpointError, RunError, write_tensors};

const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const SCHEMA: &str = "hoi.detr/1";

/// Why a detector cannot be trained, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetrError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The description is damaged or of another version.
    #[error("{} does not describe a detector: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The network cannot be built.
    #[error(transparent)]
    Network(#[from] ConfigError),
    /// The vocabulary cannot be used.
    #[error("the detector's vocabulary cannot be used")]
    Vocabulary(#[from] VocabularyError),
    /// The weights cannot be read, or are of another network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A COCO checkpoint has no row for this class.
    #[error("class `{class}` is not one of COCO's 80: a COCO checkpoint cannot give its row")]
    NotInCoco {
        /// Its name.
        class: String,
    },
    /// The network has another number of classes than the vocabulary.
    #[error("the detector has {found} classes, the vocabulary {wanted}")]
    Classes {
        /// Of the network.
        found: i64,
        /// Of the vocabulary.
        wanted: usize,
    },
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The weights cannot be written.
    #[error(transparent)]
    Save(#[from] CheckpointError),
    /// The description cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// All of `config.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    schema: String,
    settings: DetrSettings,
    vocabulary: VocabularySpec,
    training: Value,
}

/// A detector with its classes and its input.
#[derive(Debug)]
pub struct DetrModel {
    /// The network.
    pub network: Detr,
    /// Its variables.
    pub store: VarStore,
    /// Sizes, loss and input.
    pub settings: DetrSettings,
    /// Its classes, in the order of the columns.
    pub vocabulary: Vocabulary,
    /// Which detections become entities.
    pub pairing: PairingSpec,
}

/// What a detector finds in one picture.
#[derive(Debug)]
pub struct PictureDetections {
    /// The backbone's map of the padded picture, `[c, h, w]`.
    pub feature: Tensor,
    /// Its padding, bool `[h, w]`, true on padding.
    pub feature_padding: Tensor,
    /// One row for each detection, `[N, D]`.
    pub tokens: Tensor,
    /// Persons first, each side by falling score; boxes in pixels of the network's input.
    pub detections: Vec<Detection>,
}

impl DetrModel {
    /// A fresh network. Seed libtorch's generator first ([`tch::manual_seed`]).
    ///
    /// # Errors
    /// [`DetrError`] when the sizes do not fit each other or the vocabulary.
    pub fn new(settings: DetrSettings, vocabulary: Vocabulary, device: Device) -> Result<Self, DetrError> {
        settings.detector.check()?;
        if settings.detector.classes != vocabulary.object_count() as i64 {
            let (found, wanted) = (settings.detector.classes, vocabulary.object_count());
            return Err(DetrError::Classes { found, wanted });
        }
        let store = VarStore::new(device);
        let network = Detr::new(&store.root(), &settings.detector);
        Ok(Self { network, store, settings, vocabulary, pairing: PairingSpec::default() })
    }

    /// Reads the folder that training has written.
    ///
    /// # Errors
    /// [`DetrError`] naming the file and what is wrong with it.
    pub fn load(folder: &Path, device: Device) -> Result<Self, DetrError> {
        let path = folder.join(CONFIG_FILE);
        let text = std::fs::read(&path).map_err(|source| DetrError::Read { path: path.clone(), source })?;
        let format = |reason: String| DetrError::Format { path: path.clone(), reason };
        let Description { schema, settings, vocabulary, .. } =
            serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
        if schema != SCHEMA {
            return Err(format(format!("schema `{schema}`, expected `{SCHEMA}`")));
        }
        let model = Self::new(settings, Vocabulary::new(vocabulary)?, device)?;
        StateDict::read(&folder.join(WEIGHTS_FILE))?.load(&model.store, "")?;
        Ok(model)
    }

    /// Writes weights and description into an existing folder, the description last; `training` says where it came from.
    ///
    /// # Errors
    /// [`DetrError`] naming the file that cannot be written.
    pub fn save(&self, folder: &Path, training: Value) -> Result<(), DetrError> {
        let mut tensors: Vec<(String, Tensor)> = self.store.variables().into_iter().collect();
        tensors.retain(|(name, _)| !name.starts_with(DENSE_PREFIX));
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, tensor) in &mut tensors {
            *tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        }
        write_tensors(folder, WEIGHTS_FILE, &tensors)?;
        let description = Description {
            schema: SCHEMA.to_owned(),
            settings: self.settings.clone(),
            vocabulary: self.vocabulary.spec().clone(),
            training,
        };
        let path = folder.join(CONFIG_FILE);
        let text = serde_json::to_vec_pretty(&description)
            .map_err(|e| DetrError::Format { path: path.clone(), reason: e.to_string() })?;
        Ok(write_beside(&path, &text)?)
    }

    /// Sizes of the network.
    pub fn config(&self) -> &DetrConfig {
        &self.settings.detector
    }

    /// Detects in a batch (on the network's device afterwards) and selects as two-stage systems do (C3): per-class NMS, then the best
    /// persons and objects. Without gradients.
    pub fn detect(&self, batch: &Batch) -> Vec<PictureDetections> {
        let output = self.frozen(batch);
        let candidates = decode(&output, batch);
        let pictures = candidates.into_iter().zip(0..);
        pictures
            .map(|(candidates, picture)| {
                let detections = select_entities(&candidates, self.vocabulary.human(), &self.pairing);
                // NMS leaves no two alike, so the first that is equal is the one.
                let row = |d: &Detection| candidates.iter().position(|c| c == d).unwrap_or_default() as i64;
                let rows: Vec<i64> = detections.iter().map(row).collect();
                let rows = Tensor::from_slice(&rows).to_device(self.store.device());
                PictureDetections {
                    feature: output.feature.get(picture),
                    feature_padding: output.feature_padding.get(picture),
                    tokens: output.tokens.get(picture).index_select(0, &rows),
                    detections,
                }
            })
            .collect()
    }

    /// The best class of every query, without NMS: what is scored. Boxes in pixels of the network's input.
    pub fn candidates(&self, batch: &Batch) -> Vec<Vec<Detection>> {
        decode(&self.frozen(batch), batch)
    }

    fn frozen(&self, batch: &Batch) -> DetrOutput {
        let device = self.store.device();
        self.network.forward_frozen(&batch.images.to_device(device), &batch.padding.to_device(device))
    }
}

/// Per query the best class, its probability and the box, cut to the picture.
fn decode(output: &DetrOutput, batch: &Batch) -> Vec<Vec<Detection>> {
    let size = output.logits.size();
    let (queries, classes) = (size[1] as usize, size[2] - 1);
    let (height, width) = (batch.images.size()[2] as f32, batch.images.size()[3] as f32);
    let (scores, best) = no_grad(|| output.logits.softmax(-1, Kind::Float).narrow(2, 0, classes).max_dim(2, false));
    let list = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    // A tensor of another kind gives no numbers, and thus no detections.
    let numbers = |t: &Tensor| Vec::<f32>::try_from(list(t)).unwrap_or_default();
    let (scores, boxes) = (numbers(&scores), numbers(&output.boxes));
    let best = Vec::<i64>::try_from(best.to_device(Device::Cpu).contiguous().view([-1])).unwrap_or_default();
    let all: Vec<(f32, i64, &[f32])> =
        scores.iter().zip(&best).zip(boxes.chunks_exact(4)).map(|((&s, &c), b)| (s, c, b)).collect();
    let pictures = batch.targets.iter().zip(all.chunks(queries.max(1)));
    pictures
        .map(|(target, rows)| {
            let detection = |&(score, class, b): &(f32, i64, &[f32])| Detection {
                bbox: BBox::from_center(b[0], b[1], b[2], b[3]).scale(width, height).clip(target.input),
                class: ObjectClass(class as u16),
                score,
            };
            rows.iter().map(detection).collect()
        })
        .collect()
}
