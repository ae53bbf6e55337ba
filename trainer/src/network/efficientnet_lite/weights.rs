//! Published weights: which network they are of, whether batch norms are folded, and folding them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hoi_quantize::onnx::{self as onnx_file, OnnxError};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::config::{BatchNorm, EfficientNetLiteConfig, NORM_EPS, Variant};
use super::layers::EfficientNetLite;
use super::onnx;
use crate::network::ConfigError;
use crate::network::weights::{Misshapen, StateDict, WeightsError, is_state_dict};

/// Why a file gives no EfficientNet-Lite.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read, or its parameters are not those of the network that it looks like.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Neither a state dict nor ONNX.
    #[error("{} holds neither a state dict (safetensors, torch.save) nor an ONNX graph", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it as ONNX.
        source: OnnxError,
    },
    /// An ONNX graph that computes something else.
    #[error("{} is no EfficientNet-Lite: {place}: expected {expected}, found {found}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// The node.
        place: String,
        /// What an EfficientNet-Lite has there.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// No published network has these sizes.
    #[error(
        "{} is no EfficientNet-Lite: it has {blocks} blocks and {channels} channels before the head's convolution; Lite0 to Lite4 \
         have 16 and 320, 21 and 320, 21 and 352, 24 and 384, 30 and 448",
        path.display()
    )]
    UnknownVariant {
        /// The file.
        path: PathBuf,
        /// Its blocks; 0 where none has the expected name.
        blocks: usize,
        /// Inputs of its last convolution; 0 where none has the expected name.
        channels: i64,
    },
    /// Batch norms are asked for that the file no longer has.
    #[error("{}: {reason}", path.display())]
    Norm {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        reason: ConfigError,
    },
}

/// The network of a file with its parameters, on one device.
#[derive(Debug)]
pub struct Pretrained {
    /// Which one it is.
    pub variant: Variant,
    /// The network, its batch norms folded.
    pub network: EfficientNetLite,
    /// Its parameters; frozen, until [`VarStore::unfreeze`].
    pub store: VarStore,
}

impl EfficientNetLite {
    /// The network of a file, for features: batch norms folded, nothing trainable. For anything else, see
    /// [`EfficientNetLiteWeights`].
    ///
    /// # Errors
    /// As [`EfficientNetLiteWeights::read`] and [`EfficientNetLiteWeights::load`].
    pub fn load(file: &Path, device: Device) -> Result<Pretrained, LoadError> {
        let weights = EfficientNetLiteWeights::read(file)?.with_norm(BatchNorm::Folded)?;
        let mut store = VarStore::new(device);
        let network = Self::new(&store.root(), weights.config());
        weights.load(&store, "")?;
        store.freeze();
        Ok(Pretrained { variant: weights.variant(), network, store })
    }
}

/// The parameters of a file, and the sizes of their network.
///
/// ```no_run
/// # use hoi_trainer::network::efficientnet_lite::{BatchNorm, EfficientNetLite, EfficientNetLiteWeights, LoadError};
/// # fn fine_tune(store: &tch::nn::VarStore) -> Result<(), LoadError> {
/// let weights = EfficientNetLiteWeights::read("efficientnet-lite2.pth".as_ref())?.with_norm(BatchNorm::Trained)?;
/// let network = EfficientNetLite::new(&(store.root() / "backbone"), weights.config());
/// weights.load(store, "backbone.")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EfficientNetLiteWeights {
    path: PathBuf,
    variant: Variant,
    config: EfficientNetLiteConfig,
    state: StateDict,
}

impl EfficientNetLiteWeights {
    /// Reads a state dict (`.pth`, safetensors) of the PyTorch conversions, or an ONNX graph with folded batch norms. The content
    /// tells which of these, which variant, and whether there is a classifier.
    ///
    /// # Errors
    /// The file cannot be read, or is of another network.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(16).read_to_end(&mut start))
            .map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        let unknown = |(blocks, channels)| LoadError::UnknownVariant { path: path.to_owned(), blocks, channels };
        if is_state_dict(&start) {
            let state = StateDict::read(path)?.with_efficientnet_lite_keys()?;
            let (blocks, channels) = sizes(&state);
            let variant = variant_of(blocks, channels).ok_or_else(|| unknown((blocks, channels)))?;
            let folded = state.tensors().contains_key("_conv_stem.bias");
            let norm = if folded { BatchNorm::Folded } else { BatchNorm::Frozen };
            return Ok(Self::new(path, variant, norm, state));
        }
        let model = onnx_file::read(path).map_err(|source| LoadError::Onnx { path: path.to_owned(), source })?;
        let (blocks, channels) = onnx::sizes(&model);
        let variant = variant_of(blocks, channels).ok_or_else(|| unknown((blocks, channels)))?;
        let config = EfficientNetLiteConfig { norm: BatchNorm::Folded, ..EfficientNetLiteConfig::of(variant) };
        let tensors = onnx::tensors(&model, &config).map_err(|onnx::Difference { place, expected, found }| {
            LoadError::Graph { path: path.to_owned(), place, expected, found }
        })?;
        Ok(Self::new(path, variant, BatchNorm::Folded, StateDict::new(path, tensors)))
    }

    fn new(path: &Path, variant: Variant, norm: BatchNorm, state: StateDict) -> Self {
        let classes = state.tensors().get("_fc.weight").and_then(|weight| weight.size().first().copied());
        let config = EfficientNetLiteConfig { norm, classes, ..EfficientNetLiteConfig::of(variant) };
        Self { path: path.to_owned(), variant, config, state }
    }

    /// Which network it is.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Sizes of the network that takes these parameters.
    pub fn config(&self) -> &EfficientNetLiteConfig {
        &self.config
    }

    /// For a network with other norms.
    ///
    /// # Errors
    /// Batch norms of a file in which they are folded; to fold, parameters that are missing or of another shape.
    pub fn with_norm(mut self, norm: BatchNorm) -> Result<Self, LoadError> {
        match (self.config.norm, norm) {
            (BatchNorm::Folded, BatchNorm::Folded) => {}
            (BatchNorm::Folded, asked) => {
                let reason = ConfigError {
                    field: "norm",
                    value: format!("{asked:?}").to_lowercase(),
                    expected: "this file's batch norms are part of its convolutions, so only `folded` can be had"
                        .into(),
                };
                return Err(LoadError::Norm { path: self.path, reason });
            }
            (_, BatchNorm::Folded) => self.state = fold_batch_norms(self.state, &self.config)?,
            _ => {}
        }
        self.config.norm = norm;
        Ok(self)
    }

    /// Without the classifier.
    pub fn without_classifier(mut self) -> Self {
        self.config.classes = None;
        let tensors = self.state.tensors().iter().filter(|(name, _)| !name.starts_with("_fc."));
        self.state = StateDict::new(&self.path, tensors.map(|(name, t)| (name.clone(), t.shallow_clone())));
        self
    }

    /// Copies every parameter into the network under `prefix` (empty, or as `backbone.`) that [`EfficientNetLite::new`] built with
    /// [`EfficientNetLiteWeights::config`].
    ///
    /// # Errors
    /// Names or shapes differ.
    pub fn load(&self, store: &VarStore, prefix: &str) -> Result<(), LoadError> {
        Ok(self.state.load(store, prefix)?)
    }
}

fn variant_of(blocks: usize, channels: i64) -> Option<Variant> {
    Variant::ALL.into_iter().find(|&variant| {
        let config = EfficientNetLiteConfig::of(variant);
        config.blocks().len() == blocks && config.head_convolution().inputs == channels
    })
}

/// Blocks, and inputs of the head's convolution.
fn sizes(state: &StateDict) -> (usize, i64) {
    let number = |name: &String| name.strip_prefix("_blocks.")?.split('.').next()?.parse::<usize>().ok();
    let blocks = state.tensors().keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    let head = state.tensors().get("_conv_head.weight").map(Tensor::size);
    (blocks, head.and_then(|size| size.get(1).copied()).unwrap_or(0))
}

/// Makes each batch norm part of its convolution: w' = w s, b' = b - mean s with s = scale / sqrt(var + 1e-3), computed in double
/// precision. `config` is that of the network whose parameters `state` holds (its `norm` does not matter). Other tensors stay.
///
/// # Errors
/// [`WeightsError::Mismatch`] with what is missing or has another shape.
pub fn fold_batch_norms(state: StateDict, config: &EfficientNetLiteConfig) -> Result<StateDict, WeightsError> {
    let mut missing = Vec::new();
    let mut misshapen = Vec::new();
    let mut take = |name: String, expected: &[i64]| match state.tensors().get(&name) {
        Some(tensor) if tensor.size() == expected => Some(tensor.to_kind(Kind::Double)),
        Some(tensor) => {
            misshapen.push(Misshapen { name, found: tensor.size(), expected: expected.to_vec() });
            None
        }
        None => {
            missing.push(name);
            None
        }
    };
    let mut folded = Vec::new();
    let plans = config.convolutions();
    for plan in &plans {
        let weight = take(format!("{}.weight", plan.name), &plan.shape());
        let parts = ["weight", "bias", "running_mean", "running_var"]
            .map(|part| take(format!("{}.{part}", plan.norm), &[plan.outputs]));
        let (Some(weight), [Some(scale), Some(shift), Some(mean), Some(variance)]) = (weight, parts) else { continue };
        let scale = scale * (variance + NORM_EPS).rsqrt();
        let bias = shift - mean * &scale;
        let weight = weight * scale.view([-1, 1, 1, 1]);
        folded.push((format!("{}.weight", plan.name), weight.to_kind(Kind::Float)));
        folded.push((format!("{}.bias", plan.name), bias.to_kind(Kind::Float)));
    }
    if !(missing.is_empty() && misshapen.is_empty()) {
        return Err(WeightsError::Mismatch {
            path: state.path().to_owned(),
            missing,
            unexpected: Vec::new(),
            misshapen,
        });
    }
    let norms: Vec<String> = plans.iter().map(|plan| format!("{}.", plan.norm)).collect();
    let rest = state.tensors().iter().filter(|(name, _)| !norms.iter().any(|norm| name.starts_with(norm)));
    // Of two entries of a name the later one counts.
    let tensors = rest.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).chain(folded);
    Ok(StateDict::new(state.path(), tensors))
}
