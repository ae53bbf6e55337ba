//! What reads pictures and prompts: CLIP, or an EfficientNet-Lite and a text encoder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hoi_runtime::bundle::sha256_hex;
use hoi_runtime::vocabulary::Vocabulary;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::super::WeaklyArguments;
use crate::dataset::augment::{Augmentation, Resize};
use crate::network::clip::{
    BatchNorms, Clip, ClipCheckpoint, ModifiedResNet, ModifiedResNetConfig, VisualConfig, freeze,
};
use crate::network::weights::StateDict;
use crate::system::weakly_hoi::{
    InteractionTable, MapNetwork, PhotoBackbone, Pooling, WeaklyModel, WeaklyShape, backbone_key, clip_bank, text_bank,
};
use crate::text::{ClipTokenizer, TextEncoder};

/// Longest side over shortest (C7: 1333 for 800).
const LONG_OVER_SHORT: f64 = 1333.0 / 800.0;

/// Pictures that tell the mean and deviation of an EfficientNet-Lite's features.
const STANDARDISED: usize = 400;

enum Network {
    Clip { store: VarStore, clip: Box<Clip>, sizes: ModifiedResNetConfig, path: PathBuf },
    Lite(Box<PhotoBackbone>),
}

/// Network, bank of prompts, and what identifies them.
pub(super) struct Reader {
    network: Network,
    /// `[N, D]`.
    pub(super) bank: Tensor,
    /// Digests of the weights.
    pub(super) key: String,
    /// Names, for the record.
    pub(super) names: Vec<String>,
    /// Name of what read the prompts.
    pub(super) encoder: String,
    resize: Resize,
}

fn file_key(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(sha256_hex(&bytes))
}

impl Reader {
    pub(super) fn load(arguments: &WeaklyArguments, vocabulary: &Vocabulary, device: Device) -> anyhow::Result<Self> {
        match (&arguments.data_set.clip_model, arguments.photos.backbone.as_slice()) {
            (Some(_), [_, ..]) => bail!("--clip-model and --backbone are both given: one of them reads the pictures"),
            (Some(path), []) => Self::clip(path, arguments.data_set.short_side, vocabulary, device),
            (None, []) => bail!(
                "nothing is named that reads pictures: --clip-model CHECKPOINT (CLIP RN50 or RN101, as the paper), or --backbone FILE \
                 (EfficientNet-Lite, trainer/setup-backbones gets two)"
            ),
            (None, files) => Self::lite(arguments, files, vocabulary, device),
        }
    }

    fn clip(path: &Path, short: u32, vocabulary: &Vocabulary, device: Device) -> anyhow::Result<Self> {
        let checkpoint = ClipCheckpoint::read(path).context("reading CLIP")?;
        let config = checkpoint.config();
        let VisualConfig::ResNet(sizes) = config.visual.clone() else {
            bail!(
                "{} is a vision transformer: a residual CLIP (RN50, RN101) is needed, whose map can be pooled in parts",
                checkpoint.path().display()
            );
        };
        let tokenizer = ClipTokenizer::load(path, &config.text).context("reading CLIP's tokenizer")?;
        let store = VarStore::new(device);
        let clip = checkpoint.clip(&store, "", BatchNorms::Frozen).context("reading CLIP")?;
        freeze(&store, "");
        let bank = clip_bank(clip.text(), &tokenizer, vocabulary, device).context("reading the prompts")?;
        let name = super::super::name(checkpoint.path());
        Ok(Self {
            key: format!("CLIP {}", file_key(checkpoint.path())?),
            names: vec![format!("CLIP {name}, short side {short}")],
            encoder: name,
            bank,
            resize: Resize::ShortSide { short, long: (f64::from(short) * LONG_OVER_SHORT).ceil() as u32 },
            network: Network::Clip { store, clip: Box::new(clip), sizes, path: checkpoint.path().to_owned() },
        })
    }

    fn lite(
        arguments: &WeaklyArguments,
        files: &[PathBuf],
        vocabulary: &Vocabulary,
        device: Device,
    ) -> anyhow::Result<Self> {
        let text = &arguments.method.text_encoder;
        let encoder = TextEncoder::load(text, device).context("loading the text encoder")?;
        let first = PhotoBackbone::load(&files[..1], None, device).context("loading the backbones")?;
        let input = first.input();
        let backbone = PhotoBackbone::load(files, Some(input), device).context("loading the backbones")?;
        Ok(Self {
            key: backbone_key(files, Some(input)).context("reading the backbones")?,
            names: backbone.names(),
            encoder: super::super::name(text),
            bank: text_bank(&encoder, vocabulary).context("reading the prompts")?,
            resize: Resize::Exact(input),
            network: Network::Lite(Box::new(backbone)),
        })
    }

    /// Sizes of CLIP's visual network.
    pub(super) fn clip_sizes(&self) -> Option<&ModifiedResNetConfig> {
        match &self.network {
            Network::Clip { sizes, .. } => Some(sizes),
            Network::Lite(_) => None,
        }
    }

    pub(super) fn pooling(&self) -> Pooling {
        match &self.network {
            Network::Clip { .. } => Pooling::Attention,
            Network::Lite(_) => Pooling::Mean,
        }
    }

    pub(super) fn shape(&self, vocabulary: &Vocabulary) -> WeaklyShape {
        let (map_channels, pool_heads, pool_grid) = match &self.network {
            Network::Clip { sizes, .. } => (sizes.channels(), sizes.heads, sizes.grid),
            Network::Lite(backbone) => (backbone.channels(), 4, 9),
        };
        WeaklyShape {
            map_channels,
            tokens: 0,
            width: self.bank.size()[1],
            pool_heads,
            pool_grid,
            verbs: vocabulary.verb_count() as i64,
            interactions: InteractionTable::of(vocabulary).len() as i64,
        }
    }

    /// Lets a model start at CLIP, where that is what reads.
    pub(super) fn start(&self, model: &WeaklyModel) -> anyhow::Result<()> {
        let Network::Clip { store, clip, path, .. } = &self.network else { return Ok(()) };
        let visual = StateDict::new(path, store.variables()).part("visual.");
        let scale = clip.logit_scale().double_value(&[]);
        model.start_at_clip(&visual, scale).context("starting at CLIP's pooling")
    }

    /// What makes maps: `trained` in the place of CLIP's frozen network.
    pub(super) fn maps<'a>(&'a self, trained: Option<&'a ModifiedResNet>) -> anyhow::Result<MapNetwork<'a>> {
        let frozen = match &self.network {
            Network::Clip { clip, .. } => clip.visual().resnet().map(MapNetwork::Clip),
            Network::Lite(backbone) => Some(MapNetwork::Lite(backbone)),
        };
        trained.map(MapNetwork::Clip).or(frozen).context("CLIP's visual network has no map")
    }

    /// Whole pictures, mirrored or not, nothing else.
    pub(super) fn plain(&self, mirrored: bool) -> Augmentation {
        let flip = if mirrored { 1.0 } else { 0.0 };
        Augmentation { flip, resize: self.resize, ..Augmentation::test() }
    }

    /// C7 without crops.
    pub(super) fn training(&self) -> Augmentation {
        Augmentation { crops: false, resize: self.resize, ..Augmentation::training() }
    }

    /// How many pictures a model is prepared with.
    pub(super) fn prepared_with(&self, batch: usize) -> usize {
        match &self.network {
            Network::Clip { .. } => batch,
            Network::Lite(_) => batch.max(STANDARDISED),
        }
    }
}
