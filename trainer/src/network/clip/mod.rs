//! CLIP: a visual network (residual with attention pooling, or a vision transformer) and a text transformer with a common feature
//! space (C11; Radford et al. 2021).
//!
//! Checkpoints are OpenAI's (names, and their own archives) or those of transformers and OpenCLIP ([`ClipCheckpoint`]). Parameters go
//! into a store of the caller's, or stay without gradient ([`Clip::load`]). Texts become token ids with
//! [`ClipTokenizer`](crate::text::ClipTokenizer).
//!
//! ```no_run
//! # use hoi_trainer::network::clip::Clip;
//! # use hoi_trainer::text::ClipTokenizer;
//! # use tch::Device;
//! # fn texts() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = "clip-vit-base-patch32".as_ref();
//! let clip = Clip::load(folder, Device::Cpu)?;
//! let tokenizer = ClipTokenizer::load(folder, &clip.config().text)?;
//! let bank = clip.encode_text(&tokenizer.batch(&["a person riding a bicycle", "a person holding a cup"])?);
//! # Ok(())
//! # }
//! ```

mod attention_pool;
mod blocks;
mod config;
mod error;
mod modified_resnet;
mod settings;
mod text;
mod vision_transformer;
mod weights;

use std::path::Path;

use image::imageops::FilterType;
use tch::nn::{self, Init, VarStore};
use tch::{Device, Tensor};

pub use attention_pool::{AttentionPool, AttentionPoolShape, resized_positions};
pub use config::{
    Activation, BatchNorms, BlocksConfig, ClipConfig, ModifiedResNetConfig, TextTransformerConfig,
    VisionTransformerConfig, VisualConfig,
};
pub use error::ClipError;
pub use modified_resnet::ModifiedResNet;
pub use settings::ClipOptions;
pub use text::TextTransformer;
pub use vision_transformer::VisionTransformer;
pub use weights::ClipCheckpoint;

/// Mean of red, green and blue in pictures of 0 to 1, subtracted from them (C7; OpenAI's `_transform`).
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of red, green and blue, by which the difference is divided (C7; OpenAI's `_transform`).
pub const STANDARD_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Pixels of a picture's short side after resizing, and of both sides after the centre crop (C7; OpenAI's `_transform`).
pub const INPUT_SIDE: u32 = 224;

/// How pictures are resized (C7): bicubic with a = -0.5, widened when shrinking, as PIL's `BICUBIC` that OpenAI's `_transform` uses.
pub const RESAMPLING: FilterType = FilterType::CatmullRom;

/// The visual network.
#[derive(Debug)]
pub enum Visual {
    /// RN50, RN101.
    ResNet(ModifiedResNet),
    /// ViT-B/32.
    VisionTransformer(VisionTransformer),
}

impl Visual {
    /// A network under `path`, for a configuration that passes [`VisualConfig::check`]; `norms` matter to residual networks only.
    pub fn new(path: &nn::Path, config: &VisualConfig, norms: BatchNorms) -> Self {
        match config {
            VisualConfig::ResNet(config) => Self::ResNet(ModifiedResNet::new(path, config, norms)),
            VisualConfig::VisionTransformer(config) => Self::VisionTransformer(VisionTransformer::new(path, config)),
        }
    }

    /// Pictures `[B, 3, H, W]`, normalised with [`MEAN`] and [`STANDARD_DEVIATION`], to features `[B, D]` of any length.
    pub fn forward(&self, images: &Tensor) -> Tensor {
        match self {
            Self::ResNet(network) => network.forward(images),
            Self::VisionTransformer(network) => network.forward(images),
        }
    }

    /// The residual network, if it is one: maps and parts of maps are its alone.
    pub fn resnet(&self) -> Option<&ModifiedResNet> {
        match self {
            Self::ResNet(network) => Some(network),
            Self::VisionTransformer(_) => None,
        }
    }
}

/// A CLIP.
///
/// Keys as OpenAI's: `visual.*`, those of [`TextTransformer`], `logit_scale`.
#[derive(Debug)]
pub struct Clip {
    visual: Visual,
    text: TextTransformer,
    logit_scale: Tensor,
    config: ClipConfig,
}

impl Clip {
    /// A network under `path`, for a configuration that passes [`ClipConfig::check`].
    pub fn new(path: &nn::Path, config: &ClipConfig, norms: BatchNorms) -> Self {
        Self {
            visual: Visual::new(&(path / "visual"), &config.visual, norms),
            text: TextTransformer::new(path, &config.text),
            logit_scale: path.var("logit_scale", &[], Init::Const((1.0f64 / 0.07).ln())),
            config: config.clone(),
        }
    }

    /// A file or folder's CLIP as f32 on a device, without gradient: [`ClipCheckpoint::read`], [`ClipCheckpoint::clip`], [`freeze`].
    ///
    /// # Errors
    /// See [`ClipError`].
    pub fn load(file_or_folder: &Path, device: Device) -> Result<Self, ClipError> {
        let store = VarStore::new(device);
        let clip = ClipCheckpoint::read(file_or_folder)?.clip(&store, "", BatchNorms::Frozen)?;
        freeze(&store, "");
        Ok(clip)
    }

    /// The sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The visual network.
    pub fn visual(&self) -> &Visual {
        &self.visual
    }

    /// The text transformer.
    pub fn text(&self) -> &TextTransformer {
        &self.text
    }

    /// Logarithm of the factor of cosines, a scalar.
    pub fn logit_scale(&self) -> &Tensor {
        &self.logit_scale
    }

    /// Features `[B, D]` of pictures: [`Visual::forward`].
    pub fn encode_image(&self, images: &Tensor) -> Tensor {
        self.visual.forward(images)
    }

    /// Features `[B, D]` of token ids `[B, L]`, of any length: [`TextTransformer::forward`].
    pub fn encode_text(&self, ids: &Tensor) -> Tensor {
        self.text.forward(ids)
    }

    /// Logits `[B, T]` of features of pictures `[B, D]` and texts `[T, D]`: exp(`logit_scale`) times their cosine.
    pub fn logits(&self, images: &Tensor, texts: &Tensor) -> Tensor {
        let unit = |x: &Tensor| x / x.norm_scalaropt_dim(2.0, [1], true);
        self.logit_scale.exp() * unit(images).matmul(&unit(texts).tr())
    }
}

/// Takes the parameters below `prefix` (empty for all) out of training: they need no gradient any more. They stay among the store's
/// trainable variables, so an optimizer has to ask each for `requires_grad`.
pub fn freeze(store: &VarStore, prefix: &str) {
    let start = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    for (name, variable) in store.variables() {
        if name.starts_with(&start) {
            let _ = variable.set_requires_grad(false);
        }
    }
}
