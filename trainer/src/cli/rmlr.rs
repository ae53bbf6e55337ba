//! `hoi-train rmlr`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tch::Device;

use super::run::{RunArguments, command_line};
use crate::dataset::augment::{Augmentation, Resize};
use crate::dataset::rendered::{RenderedConfig, RenderedScenes, Split};
use crate::dataset::{AnnotatedImage, PictureSet};
use crate::export::write_beside;
use crate::system::detr::DetrModel;
use crate::system::rmlr::{
    BoxesConfig, CacheWriter, DetectOptions, Example, FrozenDetector, LabelledDetections, LanguageConfig, LossWeights,
    RmlrConfig, RmlrModel, RmlrShape, RoiPooling, Row, Source, TextMode, Texts, Truth, Words, average_precisions,
    boxes_logits, detect_set, mean_average_precision, mean_percent, read_cache, save_model, train, train_boxes,
};
use crate::system::run::{EpochRecord, RunConfig, RunIdentity, Schedule, Trainer, progress_bar};
use crate::text::TextEncoder;

/// Where the text encoder is linked by the script that fetches it.
pub(super) const TEXT_ENCODER: &str = ".text-encoder";

/// Sizes and training of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// An eighth of the paper's widths, for rendered scenes on a CPU
    Tiny,
    /// The paper's
    Full,
}

#[derive(Debug, Args)]
pub(super) struct RmlrArguments {
    /// The frozen detector: the folder that `hoi-train detr` wrote
    #[arg(long, value_name = "DIR")]
    detector: PathBuf,
    /// The text encoder's folder (config.json, weights, tokenizer)
    #[arg(long, value_name = "DIR", default_value = TEXT_ENCODER)]
    text_encoder: PathBuf,
    /// Sizes and training of the head
    #[arg(long, value_enum, default_value_t = Plan::Tiny)]
    config: Plan,
    /// Row of the paper's Table 2
    #[arg(long, value_enum, default_value_t = Row::Full)]
    row: Row,
    /// Train the perceptron that sees boxes and classes only, instead of RmLR
    #[arg(long)]
    boxes_only: bool,
    /// Weights of the loss as in Table 7: hoi, s^m, w^m, s^a, w^a
    #[arg(long, value_name = "X,X,X,X,X", value_delimiter = ',', num_args = 5)]
    loss_weights: Option<Vec<f64>>,
    /// Layers of the reasoning module (Table 8)
    #[arg(long, value_name = "N")]
    reasoning_layers: Option<usize>,
    /// Self-attention layers of cross-modal learning (Table 8)
    #[arg(long, value_name = "N")]
    self_attention_layers: Option<usize>,
    /// Keep the context of the whole picture in rows that do not re-mine
    #[arg(long)]
    with_context: bool,
    /// Add the 36 values of box geometry to the pair token
    #[arg(long)]
    with_spatial: bool,
    /// Reading of the masked RoI
    #[arg(long, value_enum, default_value_t = RoiPooling::Enclosing)]
    pooling: RoiPooling,
    /// Words that a pair attends to
    #[arg(long, value_enum, default_value_t = Words::All)]
    words: Words,
    /// How sub-sentences are read
    #[arg(long, value_enum, default_value_t = TextMode::Joined)]
    text: TextMode,
    /// Stop the gradient of the cross-attended side from this share of the epochs on; 1: never
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    detach_words_from: f64,
    /// Dropout of all layers
    #[arg(long, value_name = "X")]
    dropout: Option<f64>,
    /// Rendered scenes to learn from
    #[arg(long, value_name = "N", default_value_t = 3000)]
    scenes: usize,
    /// Rendered scenes to score on
    #[arg(long, value_name = "N", default_value_t = 1000)]
    score_scenes: usize,
    /// Which of them
    #[arg(long, value_enum, default_value_t = Split::Validation)]
    split: Split,
    /// Seed of the scenes
    #[arg(long, value_name = "N", default_value_t = 0)]
    scene_seed: u64,
    /// Keep what the detector says here, and read it from here
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Score after each epoch too
    #[arg(long)]
    score_each_epoch: bool,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// A detector with what identifies it.
pub(super) struct Detector {
    pub(super) model: DetrModel,
    /// Folder and digest of its weights.
    pub(super) key: String,
}

impl Detector {
    pub(super) fn load(folder: &Path, device: Device) -> anyhow::Result<Self> {
        let model = DetrModel::load(folder, device).context("loading the detector")?;
        let weights = folder.join("model.safetensors");
        let bytes = std::fs::read(&weights).with_context(|| format!("cannot read {}", weights.display()))?;
        Ok(Self { model, key: hoi_runtime::bundle::sha256_hex(&bytes) })
    }

    /// Size of the input; the detector must take pictures of one size.
    pub(super) fn input(&self) -> anyhow::Result<Size> {
        match self.model.settings.resize() {
            Resize::Exact(size) => Ok(size),
            Resize::ShortSide { .. } => {
                bail!("this detector takes pictures of any size; rendered scenes need one with a fixed input")
            }
        }
    }
}

/// Examples of a set, mirrored or not, from the cache where there is one.
pub(super) fn examples(
    detector: &Detector,
    set: &RenderedScenes,
    mirrored: bool,
    pooling: RoiPooling,
    cache: Option<&Path>,
    threads: usize,
) -> anyhow::Result<Vec<Example>> {
    let vocabulary = set.vocabulary();
    let RenderedConfig { size, seed, split, count } = *set.config();
    let name = format!("{}{}-{seed}-{count}", split.name(), if mirrored { "-mirrored" } else { "" });
    let key = format!("rendered {name} of {size} by {}", detector.key);
    let folder = cache.map(|c| c.join(&name));
    let example = |d: LabelledDetections| Example::new(d.picture, &d.pairs, vocabulary, pooling);
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        if let Some(found) = read_cache(folder, &key)? {
            return Ok(found.into_iter().map(example).collect());
        }
    }
    let mut writer = folder.as_ref().map(|folder| CacheWriter::new(folder, &key));
    let augmentation = Augmentation::exact(detector.input()?, if mirrored { 1.0 } else { 0.0 });
    let progress = progress_bar();
    progress.set_length(set.len() as u64);
    progress.set_message(format!("detecting {name}"));
    let options = DetectOptions { augmentation: &augmentation, batch: 16, threads, skip_limit: 0, progress: &progress };
    let indices: Vec<usize> = (0..set.len()).collect();
    let mut examples = Vec::with_capacity(set.len());
    detect_set::<anyhow::Error>(&detector.model, set, &indices, &options, |found| {
        if let Some(writer) = &mut writer {
            writer.push(&found)?;
        }
        examples.push(example(found));
        Ok(())
    })?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    progress.finish_and_clear();
    Ok(examples)
}

/// What rendered scenes are scored against.
pub(super) struct RenderedTruth {
    vocabulary: Vocabulary,
    interactions: Vec<Vec<Option<usize>>>,
    count: usize,
    images: Vec<AnnotatedImage>,
}

impl RenderedTruth {
    pub(super) fn new(set: &RenderedScenes) -> Self {
        let vocabulary = set.vocabulary().clone();
        let mut interactions = vec![vec![None; vocabulary.verb_count()]; vocabulary.object_count()];
        for (i, interaction) in set.interactions().iter().enumerate() {
            interactions[usize::from(interaction.object.0)][usize::from(interaction.verb.0)] = Some(i);
        }
        let images = (0..set.len()).map(|i| set.annotation(i)).collect();
        Self { vocabulary, interactions, count: set.interactions().len(), images }
    }

    pub(super) fn truth(&self) -> Truth<'_> {
        Truth {
            vocabulary: &self.vocabulary,
            interactions: &self.interactions,
            count: self.count,
            images: &self.images,
        }
    }
}

impl RmlrArguments {
    fn run_config(&self) -> RunConfig {
        let own = match self.config {
            Plan::Full => RunConfig::default(),
            Plan::Tiny => RunConfig {
                epochs: 10,
                batch: 16,
                learning_rate: 1e-3,
                max_gradient: 1.0,
                schedule: Schedule::Cosine { warmup: 0.05 },
                ..RunConfig::default()
            },
        };
        self.run.config(own)
    }

    fn model_config(&self, detector: &dyn FrozenDetector, verbs: usize, encoder: Option<&TextEncoder>) -> RmlrConfig {
        let (channels, tokens) = (detector.map_channels(), detector.token_width());
        let mut shape = match self.config {
            Plan::Tiny => RmlrShape::tiny(channels, tokens, verbs as i64),
            Plan::Full => RmlrShape { map_channels: channels, token_width: tokens, ..RmlrShape::full(verbs as i64) },
        };
        shape.reasoning_layers = self.reasoning_layers.unwrap_or(shape.reasoning_layers);
        shape.dropout = self.dropout.unwrap_or(shape.dropout);
        shape.spatial_used = self.with_spatial;
        shape.pooling = self.pooling;
        let mut weights = match self.loss_weights.as_deref() {
            Some(&[a, b, c, d, e]) => LossWeights::of([a, b, c, d, e]),
            _ => LossWeights::default(),
        };
        self.row.apply(&mut shape, &mut weights, self.with_context);
        let name = self.text_encoder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut language = LanguageConfig::beside(&shape, &name, encoder.map_or(1, TextEncoder::width));
        language.self_attention_layers = self.self_attention_layers.unwrap_or(language.self_attention_layers);
        language.words = self.words;
        language.text = self.text;
        language.detach_words_from = self.detach_words_from;
        RmlrConfig { shape, language, weights }
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let device = self.run.device()?;
        let detector = Detector::load(&self.detector, device)?;
        let (size, seed) = (detector.input()?, self.scene_seed);
        let set =
            |split, count| RenderedScenes::new(RenderedConfig { size, seed, split, count }).context("drawing scenes");
        let (training, scored) = (set(Split::Train, self.scenes)?, set(self.split, self.score_scenes)?);
        let threads = self.run.loader_threads();
        let get = |set, mirrored| examples(&detector, set, mirrored, self.pooling, self.cache.as_deref(), threads);
        let copies = [get(&training, false)?, get(&training, true)?];
        let held = get(&scored, false)?;
        let truth = RenderedTruth::new(&scored);
        let folder = self.run.make_folder()?;
        let config = self.run_config();
        let began = Instant::now();
        let (precisions, name, epochs) = if self.boxes_only {
            let boxes = BoxesConfig {
                epochs: config.epochs,
                batch: config.batch,
                learning_rate: config.learning_rate,
                hidden: 128,
                seed: config.seed,
            };
            let network = train_boxes(&copies, training.vocabulary(), &boxes);
            let logits = |chunk: &[&Example]| chunk.iter().map(|e| boxes_logits(&network, e)).collect();
            (average_precisions(&truth.truth(), &held, logits)?, "boxes only", Vec::new())
        } else {
            let (model, log) = self.train_rmlr(&detector.model, &training, &copies, &held, &truth, &config, device)?;
            let precisions = average_precisions(&truth.truth(), &held, |chunk| model.logits(chunk))?;
            let note = json!({"data": self.data(), "command": command_line(), "config": config,
                "detector": detector.key, "map": mean_percent(&precisions), "split": self.split});
            save_model(&model, training.vocabulary(), note, folder)?;
            (precisions, self.row.title(), log)
        };
        let result = json!({
            "row": name,
            "seed": config.seed,
            "split": self.split,
            "scenes": self.score_scenes,
            "map": mean_percent(&precisions),
            "per_interaction": precisions,
            "seconds": began.elapsed().as_secs_f64(),
            "epochs": epochs,
            "command": command_line(),
        });
        let mut text = serde_json::to_vec_pretty(&result)?;
        text.push(b'\n');
        write_beside(&folder.join("result.json"), &text)?;
        self.report(&result)
    }

    fn data(&self) -> String {
        format!("rendered scenes, {} of the training split, scene seed {}", self.scenes, self.scene_seed)
    }

    #[allow(clippy::too_many_arguments, reason = "one caller; these are the parts of a run")]
    fn train_rmlr(
        &self,
        detector: &DetrModel,
        training: &RenderedScenes,
        copies: &[Vec<Example>],
        held: &[Example],
        truth: &RenderedTruth,
        config: &RunConfig,
        device: Device,
    ) -> anyhow::Result<(RmlrModel, Vec<EpochRecord>)> {
        let vocabulary = training.vocabulary();
        let wants_text = {
            let config = self.model_config(detector, vocabulary.verb_count(), None);
            config.weights.transfer()
        };
        let encoder = wants_text
            .then(|| TextEncoder::load(&self.text_encoder, device).context("loading the text encoder"))
            .transpose()?;
        let model_config = self.model_config(detector, vocabulary.verb_count(), encoder.as_ref());
        let texts = match &encoder {
            None => Vec::new(),
            Some(encoder) => {
                let all: Vec<&Example> = copies.first().map_or_else(Vec::new, |list| list.iter().collect());
                Texts { encoder, vocabulary, mode: self.text }.of(&all).context("reading the text of the scenes")?
            }
        };
        let model = RmlrModel::new(&model_config, config.seed, device);
        let identity = RunIdentity { system: serde_json::to_value(&model_config)?, data: self.data() };
        let progress = self.run.progress();
        let mut trainer =
            Trainer::start(&model.store, &[], config, identity, &self.run.options(&progress)).context("starting")?;
        let source = Source::Cached { copies, texts: &texts };
        let each = self.score_each_epoch;
        train(&model, vocabulary, &source, &mut trainer, config, |model| {
            if !each {
                return Ok(Vec::new());
            }
            Ok(vec![("map", mean_average_precision(model, &truth.truth(), held)?)])
        })
        .context("training")?;
        progress.finish_and_clear();
        let log = trainer.log().to_vec();
        trainer.keep_average();
        Ok((model, log))
    }

    fn report(&self, result: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let map = result["map"].as_f64().unwrap_or_default();
        if self.json {
            writeln!(
                out,
                "{}",
                json!({"out": self.run.out, "row": result["row"], "seed": result["seed"],
                "split": self.split, "map": map, "seconds": result["seconds"]})
            )?;
        } else {
            let name = result["row"].as_str().unwrap_or_default();
            writeln!(out, "{name}: mAP {map:.2} % on {} {} scenes", self.score_scenes, self.split.name())?;
        }
        Ok(())
    }
}
