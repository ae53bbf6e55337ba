//! Weights of others: state dicts in safetensors files and in those of `torch.save`, under the names of DETR, torchvision, timm and
//! `transformers`. Those of CLIP are in [`super::clip`].
//!
//! ```no_run
//! # use hoi_trainer::network::weights::{StateDict, coco_class_rows};
//! # fn load(store: &tch::nn::VarStore) -> Result<(), Box<dyn std::error::Error>> {
//! let mut weights = StateDict::read("detr-r50.pth".as_ref())?.with_detr_keys()?;
//! weights.keep_class_rows(&coco_class_rows())?;
//! weights.load(store, "")?;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use super::names::{Place, detr_place, efficientnet_lite_place, resnet_place};
use super::torch_file::{OLDER_START, ZIP_START, read_older, read_zip};

/// Names that a message holds at most of each sort.
const NAMED: usize = 3;

/// Ids up to 90 that COCO gives to no class.
const COCO_GAPS: [i64; 10] = [12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

/// COCO's largest class id.
const COCO_LAST_ID: i64 = 90;

/// Where the header of a safetensors file opens, after its length.
const SAFETENSORS_BRACE: usize = 8;

/// Whether a file that starts so is for [`StateDict::read`]; 16 bytes tell.
pub(super) fn is_state_dict(start: &[u8]) -> bool {
    start.starts_with(ZIP_START) || start.starts_with(&OLDER_START) || start.get(SAFETENSORS_BRACE) == Some(&b'{')
}

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is damaged or of another form.
    #[error("{} holds no weights: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file's parameters are not those of the network.
    #[error("the weights in {} are of another network: {}", path.display(), differences(missing, unexpected, misshapen))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Parameters that only the network has.
        missing: Vec<String>,
        /// Parameters that only the file has.
        unexpected: Vec<String>,
        /// Parameters of another shape.
        misshapen: Vec<Misshapen>,
    },
}

/// A parameter of another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<i64>,
    /// Its shape in the network.
    pub expected: Vec<i64>,
}

fn differences(missing: &[String], unexpected: &[String], misshapen: &[Misshapen]) -> String {
    let shapes = misshapen.iter().map(|m| format!("{} is {:?}, expected {:?}", m.name, m.found, m.expected));
    let mut text = String::new();
    for (sort, names) in [
        ("missing", missing.to_vec()),
        ("unexpected", unexpected.to_vec()),
        ("of another shape", shapes.collect::<Vec<_>>()),
    ] {
        if names.is_empty() {
            continue;
        }
        let separator = if text.is_empty() { "" } else { "; " };
        let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > NAMED { ", ..." } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{} {sort} ({named}{more})", names.len());
    }
    text
}

/// Named tensors, and where they come from.
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// Reads a `.safetensors` file or one of `torch.save` (`.pth`, `.pt`, `.bin`: a state dict, or a dictionary that holds one as
    /// `model`, `state_dict` or `model_state_dict`), or an archive of `torch.jit.save`, whose modules give the names. The content
    /// tells which, not the name. Nothing that a pickle names is run, and no TorchScript.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let read = |source| WeightsError::Read { path: path.to_owned(), source };
        let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
        let mut start = Vec::new();
        File::open(path).and_then(|f| f.take(OLDER_START.len() as u64).read_to_end(&mut start)).map_err(read)?;
        let tensors = if start.starts_with(ZIP_START) {
            read_zip(path).map_err(format)?
        } else if start == OLDER_START {
            read_older(&std::fs::read(path).map_err(read)?).map_err(format)?
        } else if start.get(SAFETENSORS_BRACE) == Some(&b'{') {
            Tensor::read_safetensors(path).map_err(|error| format(error.to_string()))?
        } else {
            return Err(format("it is neither a safetensors file nor one of torch.save".to_owned()));
        };
        Ok(Self::new(path, tensors))
    }

    /// Of tensors at hand; messages name `path`.
    pub fn new(path: &Path, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self { path: path.to_owned(), tensors: tensors.into_iter().collect() }
    }

    /// The file that messages name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Only the tensors whose names start with `prefix`, without it.
    pub fn part(self, prefix: &str) -> Self {
        let tensors = self.tensors.into_iter();
        let tensors = tensors.filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t))).collect();
        Self { tensors, ..self }
    }

    /// With the names of [`Detr`](super::detr::Detr), from DETR's own checkpoints or those of `DetrForObjectDetection`.
    ///
    /// # Errors
    /// Of some attention's projections of query, key and value one is missing.
    pub fn with_detr_keys(self) -> Result<Self, WeightsError> {
        self.renamed(detr_place)
    }

    /// With the names of [`ResNet`](super::resnet::ResNet), from torchvision, timm or `ResNetModel`. The classifier is dropped.
    ///
    /// # Errors
    /// As [`StateDict::with_detr_keys`].
    pub fn with_resnet_keys(self) -> Result<Self, WeightsError> {
        self.renamed(resnet_place)
    }

    /// With the names of [`EfficientNetLite`](super::efficientnet_lite::EfficientNetLite), which are those of the PyTorch
    /// conversions; the counters that PyTorch's batch norms keep are dropped.
    ///
    /// # Errors
    /// As [`StateDict::with_detr_keys`].
    pub fn with_efficientnet_lite_keys(self) -> Result<Self, WeightsError> {
        self.renamed(efficientnet_lite_place)
    }

    pub(super) fn renamed(self, place: impl Fn(&str) -> Place) -> Result<Self, WeightsError> {
        let mut tensors = BTreeMap::new();
        let mut thirds: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
        for (name, tensor) in self.tensors {
            match place(&name) {
                Place::Whole(name) => {
                    tensors.insert(name, tensor);
                }
                Place::Third(name, third) => thirds.entry(name).or_default()[third] = Some(tensor),
                Place::Ignored => {}
            }
        }
        let format = |reason: String| WeightsError::Format { path: self.path.clone(), reason };
        for (name, parts) in thirds {
            let [Some(query), Some(key), Some(value)] = parts else {
                return Err(format(format!("of `{name}`, the part for query, key or value is missing")));
            };
            let whole = Tensor::f_cat(&[query, key, value], 0).map_err(|e| format(format!("`{name}`: {e}")))?;
            tensors.insert(name, whole);
        }
        Ok(Self { path: self.path, tensors })
    }

    /// Keeps these rows of the class head (`class_embed`), in this order.
    ///
    /// # Errors
    /// There is no class head, or it has fewer rows.
    pub fn keep_class_rows(&mut self, rows: &[i64]) -> Result<(), WeightsError> {
        let index = Tensor::from_slice(rows);
        for name in ["class_embed.weight", "class_embed.bias"] {
            let format = |reason: String| WeightsError::Format { path: self.path.clone(), reason };
            let head = self.tensors.get(name).ok_or_else(|| format(format!("it has no tensor `{name}`")))?;
            let count = head.size().first().copied().unwrap_or(0);
            if let Some(row) = rows.iter().find(|&&row| row < 0 || row >= count) {
                return Err(format(format!("`{name}` has {count} rows, and row {row} is asked for")));
            }
            let kept = head.index_select(0, &index.to_device(head.device()));
            self.tensors.insert(name.to_owned(), kept);
        }
        Ok(())
    }

    /// Copies every tensor into the parameter of its name under `prefix` (empty for the whole store, else as `backbone.0.body.`).
    /// Kind and device of the parameters stay. Either all are copied or none.
    ///
    /// # Errors
    /// The names or shapes are not those of the parameters under `prefix`.
    pub fn load(&self, store: &VarStore, prefix: &str) -> Result<(), WeightsError> {
        let parameters = store.variables().into_iter();
        let parameters: BTreeMap<String, Tensor> =
            parameters.filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t))).collect();
        let only = |a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>| -> Vec<String> {
            a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
        };
        let (missing, unexpected) = (only(&parameters, &self.tensors), only(&self.tensors, &parameters));
        let both = parameters.iter().filter_map(|(name, p)| Some((name, p, self.tensors.get(name)?)));
        let misshapen: Vec<_> = both
            .filter(|(_, parameter, tensor)| parameter.size() != tensor.size())
            .map(|(name, p, t)| Misshapen { name: name.clone(), found: t.size(), expected: p.size() })
            .collect();
        if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
            return Err(WeightsError::Mismatch { path: self.path.clone(), missing, unexpected, misshapen });
        }
        no_grad(|| {
            for (name, mut parameter) in parameters {
                parameter.copy_(&self.tensors[&name]);
            }
        });
        Ok(())
    }
}

/// Rows of a COCO checkpoint's class head (91 ids with gaps, and "no object") that belong to its 80 classes, in COCO's order, and
/// that of "no object" (C2).
pub fn coco_class_rows() -> Vec<i64> {
    (1..=COCO_LAST_ID).filter(|id| !COCO_GAPS.contains(id)).chain([COCO_LAST_ID + 1]).collect()
}
