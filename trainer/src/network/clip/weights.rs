//! Checkpoints of CLIP: where their parameters belong, and what sizes they have.

use std::path::{Path, PathBuf};

use tch::Tensor;
use tch::nn::{self, VarStore};

use super::config::{
    BatchNorms, BlocksConfig, ClipConfig, ModifiedResNetConfig, TextTransformerConfig, VisionTransformerConfig,
    VisualConfig,
};
use super::error::ClipError;
use super::settings::{ClipOptions, Settings, SettingsFile, Side};
use super::{Clip, TextTransformer, Visual};
use crate::network::names::Place;
use crate::network::weights::StateDict;

/// Files of a folder that are looked for, the first that is there is read.
const FILES: [&str; 4] =
    ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"];

/// How other files of weights end; a folder with one of them alone will do.
const EXTENSIONS: [&str; 3] = ["safetensors", "pt", "pth"];

/// What the names of the visual network's parameters begin with.
const VISUAL: &str = "visual.";

/// Where a parameter belongs: OpenAI's names stay, those of transformers are translated, unknown ones stay.
fn place(name: &str) -> Place {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let whole = |name: &str| Place::Whole(name.to_owned());
    // Sizes that OpenAI's archives hold as tensors, buffers of old transformers, and counters of batch norms.
    let counter = name.ends_with(".num_batches_tracked") || name.ends_with(".position_ids");
    if counter || ["input_resolution", "context_length", "vocab_size"].contains(&name) {
        return Place::Ignored;
    }
    for (theirs, ours) in [
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("visual_projection.weight", "visual.proj"),
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_projection.weight", "text_projection"),
    ] {
        if name == theirs {
            return whole(ours);
        }
    }
    for (theirs, ours) in [
        ("vision_model.pre_layrnorm.", "visual.ln_pre."),
        ("vision_model.post_layernorm.", "visual.ln_post."),
        ("text_model.final_layer_norm.", "ln_final."),
    ] {
        if let Some(rest) = name.strip_prefix(theirs) {
            return Place::Whole(format!("{ours}{rest}"));
        }
    }
    for (theirs, ours) in [
        ("vision_model.encoder.layers.", "visual.transformer.resblocks"),
        ("text_model.encoder.layers.", "transformer.resblocks"),
    ] {
        if let Some((number, rest)) = name.strip_prefix(theirs).and_then(|name| name.split_once('.')) {
            return block_place(&format!("{ours}.{number}"), rest).unwrap_or_else(|| whole(name));
        }
    }
    whole(name)
}

/// Within a block of transformers.
fn block_place(block: &str, rest: &str) -> Option<Place> {
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "self_attn.q_proj" => return Some(Place::Third(format!("{block}.attn.in_proj_{kind}"), 0)),
        "self_attn.k_proj" => return Some(Place::Third(format!("{block}.attn.in_proj_{kind}"), 1)),
        "self_attn.v_proj" => return Some(Place::Third(format!("{block}.attn.in_proj_{kind}"), 2)),
        "self_attn.out_proj" => "attn.out_proj",
        "layer_norm1" => "ln_1",
        "layer_norm2" => "ln_2",
        "mlp.fc1" => "mlp.c_fc",
        "mlp.fc2" => "mlp.c_proj",
        _ => return None,
    };
    Some(Place::Whole(format!("{block}.{part}.{kind}")))
}

/// The path of a place in a store, as `clip.visual`; empty for the root.
fn path_of<'a>(store: &'a VarStore, prefix: &str) -> nn::Path<'a> {
    prefix.split('.').filter(|part| !part.is_empty()).fold(store.root(), |path, part| path / part)
}

/// What the names of the parameters there begin with.
fn start_of(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}.") }
}

/// A checkpoint in memory: sizes and weights.
#[derive(Debug)]
pub struct ClipCheckpoint {
    path: PathBuf,
    config: ClipConfig,
    weights: StateDict,
}

impl ClipCheckpoint {
    /// Reads a file (safetensors, a state dict of `torch.save`, or OpenAI's own TorchScript archive), or that of a folder as the
    /// Hugging Face hub has it. Names are OpenAI's or those of transformers.
    ///
    /// Sizes are those of the tensors. Heads, activation and epsilon come from the `config.json` or `open_clip_config.json` beside
    /// them, else they are OpenAI's: [`ClipOptions::default`].
    ///
    /// # Errors
    /// See [`ClipError`].
    pub fn read(file_or_folder: &Path) -> Result<Self, ClipError> {
        Self::read_with(file_or_folder, &ClipOptions::default())
    }

    /// As [`ClipCheckpoint::read`], for a model that is not OpenAI's and beside which no file says so.
    ///
    /// # Errors
    /// See [`ClipError`].
    pub fn read_with(file_or_folder: &Path, options: &ClipOptions) -> Result<Self, ClipError> {
        let path = if file_or_folder.is_dir() { weights_in(file_or_folder)? } else { file_or_folder.to_owned() };
        let transposed = |weights: &StateDict| weights.tensors().contains_key("text_projection.weight");
        let weights = StateDict::read(&path)?;
        let hub = transposed(&weights);
        let mut weights = weights.renamed(place)?;
        if hub {
            // Linear layers there, plain matrices here.
            let tensors = weights.tensors().iter().map(|(name, tensor)| {
                let matrix = ["visual.proj", "text_projection"].contains(&name.as_str()) && tensor.dim() == 2;
                (name.clone(), if matrix { tensor.tr() } else { tensor.shallow_clone() })
            });
            weights = StateDict::new(&path, tensors.collect::<Vec<_>>());
        }
        let settings = SettingsFile::read(path.parent().unwrap_or(Path::new("")), options)?;
        let config = Shapes { path: &path, weights: &weights, settings: &settings }.config()?;
        config.check().map_err(|source| ClipError::Config { path: path.clone(), source })?;
        Ok(Self { path, config, weights })
    }

    /// The sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole network, its parameters below `prefix` (as `clip`; empty for the root) in the store, where nothing else may be.
    /// Whether they are trained is up to the store: see [`freeze`](super::freeze).
    ///
    /// # Errors
    /// A parameter is missing, superfluous or of another shape.
    pub fn clip(&self, store: &VarStore, prefix: &str, norms: BatchNorms) -> Result<Clip, ClipError> {
        let clip = Clip::new(&path_of(store, prefix), &self.config, norms);
        self.weights.load(store, &start_of(prefix))?;
        Ok(clip)
    }

    /// The visual network alone, below `prefix`, where nothing else may be.
    ///
    /// # Errors
    /// As [`ClipCheckpoint::clip`].
    pub fn visual(&self, store: &VarStore, prefix: &str, norms: BatchNorms) -> Result<Visual, ClipError> {
        let visual = Visual::new(&path_of(store, prefix), &self.config.visual, norms);
        self.only(|name| Some(name.strip_prefix(VISUAL)?.to_owned())).load(store, &start_of(prefix))?;
        Ok(visual)
    }

    /// The text transformer alone, below `prefix`, where nothing else may be.
    ///
    /// # Errors
    /// As [`ClipCheckpoint::clip`].
    pub fn text(&self, store: &VarStore, prefix: &str) -> Result<TextTransformer, ClipError> {
        let text = TextTransformer::new(&path_of(store, prefix), &self.config.text);
        let own = |name: &str| (!name.starts_with(VISUAL) && name != "logit_scale").then(|| name.to_owned());
        self.only(own).load(store, &start_of(prefix))?;
        Ok(text)
    }

    fn only(&self, name: impl Fn(&str) -> Option<String>) -> StateDict {
        let tensors = self.weights.tensors().iter().filter_map(|(n, tensor)| Some((name(n)?, tensor.shallow_clone())));
        StateDict::new(&self.path, tensors.collect::<Vec<(String, Tensor)>>())
    }
}

/// The file of weights in a folder.
fn weights_in(folder: &Path) -> Result<PathBuf, ClipError> {
    if let Some(path) = FILES.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        return Ok(path);
    }
    let read = |source| ClipError::Read { path: folder.to_owned(), source };
    let mut others = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|extension| e == *extension)) {
            others.push(path);
        }
    }
    if others.len() == 1 {
        return Ok(others.swap_remove(0));
    }
    others.sort();
    let names =
        others.iter().filter_map(|path| path.file_name()).map(|n| n.to_string_lossy()).collect::<Vec<_>>().join(", ");
    Err(ClipError::NoWeights {
        folder: folder.to_owned(),
        found: if names.is_empty() { "no weights".to_owned() } else { format!("several files of weights ({names})") },
        expected: format!("{} or one file *.{}", FILES.join(", "), EXTENSIONS.join(", *.")),
    })
}

/// Reads sizes from shapes.
struct Shapes<'a> {
    path: &'a Path,
    weights: &'a StateDict,
    settings: &'a SettingsFile,
}

impl Shapes<'_> {
    fn config(&self) -> Result<ClipConfig, ClipError> {
        let text = self.text()?;
        let residual = self.weights.tensors().contains_key("visual.layer1.0.conv1.weight");
        let visual = if residual {
            VisualConfig::ResNet(self.resnet()?)
        } else {
            VisualConfig::VisionTransformer(self.transformer()?)
        };
        Ok(ClipConfig { visual, text })
    }

    fn shape<const N: usize>(&self, name: &str, expected: &'static str) -> Result<[i64; N], ClipError> {
        let Some(tensor) = self.weights.tensors().get(name) else {
            return Err(ClipError::NotClip { path: self.path.to_owned(), name: name.to_owned() });
        };
        tensor.size().try_into().map_err(|found| self.misshapen(name, found, expected))
    }

    fn misshapen(&self, name: &str, found: Vec<i64>, expected: &'static str) -> ClipError {
        ClipError::Shape { path: self.path.to_owned(), name: name.to_owned(), found, expected }
    }

    /// Side of the square that a position table is for, beside its one extra row; and the table's width.
    fn grid(&self, name: &str) -> Result<(i64, i64), ClipError> {
        let expected = "[grid * grid + 1, width]";
        let [rows, width] = self.shape(name, expected)?;
        let grid = ((rows - 1).max(0) as f64).sqrt().round() as i64;
        if grid < 1 || grid * grid + 1 != rows {
            return Err(self.misshapen(name, vec![rows, width], expected));
        }
        Ok((grid, width))
    }

    /// How many there are of something numbered from 0, of which this tensor is a part.
    fn count(&self, name: impl Fn(i64) -> String) -> i64 {
        (0..).take_while(|&i| self.weights.tensors().contains_key(&name(i))).count() as i64
    }

    fn heads(&self, side: Side, settings: &Settings, width: i64) -> Result<i64, ClipError> {
        settings.heads(width).ok_or_else(|| ClipError::Heads {
            path: self.path.to_owned(),
            part: side.part(),
            width,
            head_width: settings.head_width,
        })
    }

    fn blocks(&self, side: Side, prefix: &str, width: i64) -> Result<BlocksConfig, ClipError> {
        let settings = self.settings.side(side, Some(width))?;
        let first = format!("{prefix}transformer.resblocks.0.mlp.c_fc.weight");
        let [feed_forward, _] = self.shape(&first, "[feed-forward width, width]")?;
        Ok(BlocksConfig {
            width,
            layers: self.count(|i| format!("{prefix}transformer.resblocks.{i}.ln_1.weight")),
            heads: self.heads(side, &settings, width)?,
            feed_forward,
            activation: settings.activation,
            norm_eps: settings.norm_eps,
        })
    }

    fn text(&self) -> Result<TextTransformerConfig, ClipError> {
        let [vocabulary, width] = self.shape("token_embedding.weight", "[vocabulary, width]")?;
        let [context, _] = self.shape("positional_embedding", "[context, width]")?;
        let [_, output] = self.shape("text_projection", "[width, feature]")?;
        Ok(TextTransformerConfig { blocks: self.blocks(Side::Text, "", width)?, vocabulary, context, output })
    }

    fn transformer(&self) -> Result<VisionTransformerConfig, ClipError> {
        let [width, _, patch, _] = self.shape("visual.conv1.weight", "[width, 3, patch, patch]")?;
        let (grid, _) = self.grid("visual.positional_embedding")?;
        let [_, output] = self.shape("visual.proj", "[width, feature]")?;
        Ok(VisionTransformerConfig { blocks: self.blocks(Side::Visual, VISUAL, width)?, patch, grid, output })
    }

    fn resnet(&self) -> Result<ModifiedResNetConfig, ClipError> {
        let [width, _, _, _] = self.shape("visual.layer1.0.conv1.weight", "[width, width, 1, 1]")?;
        let (grid, channels) = self.grid("visual.attnpool.positional_embedding")?;
        let [output, _] = self.shape("visual.attnpool.c_proj.weight", "[feature, channels]")?;
        let settings = self.settings.side(Side::Visual, None)?;
        let depth = |layer: usize| self.count(|i| format!("{VISUAL}layer{}.{i}.conv1.weight", layer + 1));
        let heads = self.heads(Side::Visual, &settings, channels)?;
        Ok(ModifiedResNetConfig { depths: std::array::from_fn(depth), width, heads, grid, output })
    }
}
