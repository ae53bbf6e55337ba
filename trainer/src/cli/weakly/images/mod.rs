//! Photos sorted into folders: a bundle for the board, what it confuses, and what to expect of it.

mod report;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::bundle::{AccuracyRecord, MANIFEST, ModelBundle, TrainingRecord};
use hoi_runtime::fusion::ScoredTriplet;
use hoi_runtime::pairing::{Bounds, PairingSpec, select_entities};
use hoi_runtime::pipeline::DEFAULT_MIN_SCORE;
use hoi_runtime::source::{ImageLimits, open_image};
use hoi_runtime::vocabulary::Vocabulary;
use image::RgbImage;
use tch::{Device, Tensor};

use self::report::ImagesReport;
use super::WeaklyArguments;
use super::photos::{PhotoList, PhotosRead};
use crate::cli::run::command_line;
use crate::dataset::ImageLabel;
use crate::dataset::labelled_folders::{KnownInteractions, LabelledFolders};
use crate::dataset::proposals::ProposalRule;
use crate::export::{SecondBackbone, WeaklyGraph, WeaklyOver, WeightStorage, write_beside, write_weakly_over};
use crate::network::efficientnet_lite::{EfficientNetLite, Pretrained};
use crate::system::run::{RunConfig, RunIdentity, RunOptions, Schedule, Trainer};
use crate::system::weakly_hoi::{
    AnsweredPhoto, Estimate, InteractionTable, Pooling, Proposer, WeakExample, WeaklyConfig, WeaklyModel, WeaklyShape,
    calibrate, folds, prepare, text_bank, train,
};
use crate::text::TextEncoder;

/// Where the script that fetches backbones links the smallest.
const BACKBONE: &str = ".backbones/efficientnet-lite0.pth";
/// Share of features and hidden values that training sets to 0.
const DROPOUT: f64 = 0.3;
/// Triplets of a picture at most.
const MAX_TRIPLETS: usize = 100;
/// Photos scored at a time.
const BATCH: usize = 64;

#[derive(Debug, Args)]
pub(super) struct ImagesArguments {
    /// Learn from photos sorted into folders, each named after an interaction ("ride bicycle"); --out becomes a bundle for the board
    #[arg(long, value_name = "DIR")]
    pub(super) images: Option<PathBuf>,
    /// Interactions beyond those of the detector's bundle: a line each, the verb, then the object if there is one
    #[arg(long, value_name = "FILE", requires = "images")]
    vocabulary: Option<PathBuf>,
    /// Parts into which photos are divided, each scored by a model that learned from the others; 0: no estimate
    #[arg(long, value_name = "N", default_value_t = 5, requires = "images")]
    folds: usize,
    /// Store the backbone's weights in 16 bits: a smaller bundle
    #[arg(long, requires = "images")]
    f16_weights: bool,
}

/// Least score of a proposal. All pairs of a picture share each verb's probability: with every guess of a detector among them, nothing is left
/// for those that count.
const LEAST_SCORE: f32 = 0.25;

/// Persons, and other things, of a photo at most: every pair is paid for on the board.
const MOST: usize = 8;

/// The same on the board and in training: a photo's proposals, the best of each side.
fn pairing(rule: ProposalRule) -> PairingSpec {
    let bounds = Bounds { min: 0, max: MOST };
    PairingSpec { nms_iou: rule.nms_iou, min_score: rule.min_score, humans: bounds, objects: bounds }
}

/// What is learned from, the same for every fold.
struct Lesson<'a> {
    /// As they are, and mirrored.
    copies: [Vec<WeakExample>; 2],
    vocabulary: &'a Vocabulary,
    bank: Tensor,
    model: WeaklyConfig,
    config: RunConfig,
    device: Device,
    /// Where runs leave their files.
    work: &'a Path,
}

impl Lesson<'_> {
    /// Trains on the photos that `take` wants.
    fn learn(&self, name: &str, take: impl Fn(usize) -> bool) -> anyhow::Result<WeaklyModel> {
        let chosen = |view: &[WeakExample]| -> Vec<WeakExample> {
            view.iter().enumerate().filter(|(i, _)| take(*i)).map(|(_, e)| e.shallow_clone()).collect()
        };
        let copies: Vec<Vec<WeakExample>> = self.copies.iter().map(|view| chosen(view)).collect();
        let config = RunConfig { batch: self.config.batch.min(copies[0].len().max(1)), ..self.config.clone() };
        let mut own = self.model.clone();
        // Of a short run, relatedness is learned in three quarters.
        let steps = config.epochs * copies[0].len().div_ceil(config.batch);
        own.self_taught.after_steps = own.self_taught.after_steps.min(steps / 4);
        let model = WeaklyModel::new(&own, self.vocabulary, &self.bank, config.seed, self.device);
        prepare(&model, &copies[0], config.batch);
        let folder = self.work.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let progress = indicatif::ProgressBar::hidden();
        let options = RunOptions {
            folder: &folder,
            resume: false,
            stop_after: None,
            checkpoint_every: None,
            progress: &progress,
        };
        let identity = RunIdentity { system: serde_json::to_value(&own)?, data: name.to_owned() };
        let mut trainer = Trainer::start(&model.store, &[], &config, identity, &options).context("starting")?;
        train(&model, &copies, &mut trainer, &config, |_| Ok(Vec::new())).context("training")?;
        trainer.keep_average();
        Ok(model)
    }

    /// What a model says of photos that it did not learn from, as the board would.
    fn answers(&self, model: &WeaklyModel, photos: &[usize], fold: usize) -> anyhow::Result<Vec<AnsweredPhoto>> {
        let table = InteractionTable::of(self.vocabulary);
        let position = |label| table.position(label);
        let mut answers = Vec::with_capacity(photos.len());
        for chunk in photos.chunks(BATCH) {
            let examples: Vec<&WeakExample> = chunk.iter().map(|&i| &self.copies[0][i]).collect();
            for ((&photo, example), triplets) in
                chunk.iter().zip(&examples).zip(model.triplets(&examples, self.vocabulary)?)
            {
                let mut scores = vec![0f32; table.len()];
                for triplet in &triplets {
                    if let Some(row) = position(label_of(example, triplet)) {
                        scores[row] = scores[row].max(triplet.score);
                    }
                }
                let shown = example.labels.iter().filter_map(|&l| position(l)).collect();
                answers.push(AnsweredPhoto { photo, shown, scores, fold });
            }
        }
        Ok(answers)
    }
}

fn label_of(example: &WeakExample, triplet: &ScoredTriplet) -> ImageLabel {
    ImageLabel { verb: triplet.verb, object: triplet.object.map(|o| example.picture.entities[o].class) }
}

/// A bundle may only take the place of nothing or of a bundle.
fn check_out(out: &Path) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(out) {
        Ok(entries) => entries.count(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e).with_context(|| format!("cannot use --out {}", out.display())),
    };
    if entries > 0 && !out.join(MANIFEST).is_file() {
        bail!("--out {}: the folder is not empty and holds no bundle; it is left as it is", out.display());
    }
    Ok(())
}

impl WeaklyArguments {
    /// The weights of the backbone.
    fn backbone_file(&self) -> anyhow::Result<PathBuf> {
        match self.photos.backbone.as_slice() {
            [] => {
                let file = PathBuf::from(BACKBONE);
                if !file.is_file() {
                    bail!("there is no {BACKBONE}: run trainer/setup-backbones, or name weights with --backbone FILE");
                }
                Ok(file)
            }
            [file] => Ok(file.clone()),
            several => bail!("--backbone is given {} times: a bundle has one second backbone", several.len()),
        }
    }

    pub(super) fn run_images(self, root: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        let arguments = &self.images;
        if arguments.folds == 1 {
            bail!(
                "--folds 1: at least 2 parts are needed to score photos that were not learned from, or 0 for no estimate"
            );
        }
        check_out(&self.run.out)?;
        let device = self.run.device()?;
        let base = match &self.detector {
            Some(folder) => ModelBundle::load(folder),
            None => ModelBundle::builtin(),
        };
        let base = base.context("reading the detector's bundle")?;
        let mut known = KnownInteractions::new(base.vocabulary()).context("reading the bundle's interactions")?;
        if let Some(file) = &arguments.vocabulary {
            known = known.with_vocabulary_file(file).context("reading --vocabulary")?;
        }
        let folders = LabelledFolders::read(root, &known)?;
        eprintln!("{}", folders.summary.to_string().trim_end());
        let vocabulary = folders.vocabulary();
        let encoder = TextEncoder::load(&self.method.text_encoder, device).context("loading the text encoder")?;
        let file = self.backbone_file()?;
        let lite = EfficientNetLite::load(&file, Device::Cpu).context("loading the backbone")?;
        let bank = text_bank(&encoder, vocabulary).context("reading the prompts of the vocabulary")?;

        let rule = ProposalRule { min_score: LEAST_SCORE, ..ProposalRule::default() };
        let pairing = pairing(rule);
        let proposer = self.photos.proposer(self.detector.as_deref(), vocabulary)?;
        let input = base.manifest().detector.input.size();
        let setting = self.photos.setting(proposer, vec![file.clone()], Some(input), false, device)?;
        let backbone = setting.backbone()?;
        let paths: Vec<PathBuf> = folders.photos.iter().map(|p| p.path.clone()).collect();
        let proposals = setting.proposer.for_photos(&paths, vocabulary.human(), rule)?;
        let capped = AtomicUsize::new(0);
        let digests: String = folders.photos.iter().map(|p| p.digest.as_str()).collect();
        let list = PhotoList {
            name: "photos",
            key: format!("{}; {rule:?}; {pairing:?}", hoi_runtime::bundle::sha256_hex(digests.as_bytes())),
            count: paths.len(),
            open: |i: usize| Ok(open_image(&paths[i], &ImageLimits::default())?.pixels),
            entities: |i: usize, pixels: &RgbImage| {
                let selected = proposals.of(i, pixels)?;
                let entities = select_entities(&selected.entities, vocabulary.human(), &pairing);
                capped.fetch_add(selected.capped + selected.entities.len() - entities.len(), Ordering::Relaxed);
                Ok(entities)
            },
            mirror: true,
        };
        let PhotosRead { mut views, .. } =
            setting.read(&list, vocabulary, self.run.loader_threads(), self.scenes.cache.as_deref())?;
        let reading = began.elapsed().as_secs_f64();
        let mut example = |view: usize| -> Vec<WeakExample> {
            let pictures = std::mem::take(&mut views[view]).into_iter().zip(&folders.photos);
            pictures.map(|(picture, photo)| WeakExample::new(picture, photo.labels.clone(), vocabulary)).collect()
        };
        let copies = [example(0), example(1)];

        let config = self.run.config(RunConfig {
            epochs: 20,
            batch: 32,
            learning_rate: 1e-3,
            weight_decay: 0.05,
            max_gradient: 1.0,
            schedule: Schedule::Cosine { warmup: 0.05 },
            ..RunConfig::default()
        });
        let shape = WeaklyShape {
            map_channels: backbone.channels(),
            tokens: 0,
            width: encoder.width(),
            pool_heads: 4,
            pool_grid: 9,
            verbs: vocabulary.verb_count() as i64,
            interactions: bank.size()[0],
        };
        let parent = match self.run.out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let work = tempfile::Builder::new()
            .prefix(".hoi-train-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
        let model = self.method.config(shape, Pooling::Mean, DROPOUT);
        let lesson = Lesson { copies, vocabulary, bank, model, config, device, work: work.path() };

        let table = InteractionTable::of(vocabulary);
        let first: Vec<usize> =
            folders.photos.iter().map(|p| p.labels.first().and_then(|&l| table.position(l)).unwrap_or(0)).collect();
        let parts = folds(&first, arguments.folds, lesson.config.seed);
        let mut answers: Vec<AnsweredPhoto> = Vec::new();
        for part in 0..arguments.folds {
            let own: Vec<usize> = (0..parts.len()).filter(|&i| parts[i] == part).collect();
            if own.is_empty() || own.len() == parts.len() {
                continue;
            }
            eprintln!(
                "part {} of {}: {} photos are scored by a model of the others",
                part + 1,
                arguments.folds,
                own.len()
            );
            let model = lesson.learn(&format!("part-{part}"), |i| parts[i] != part)?;
            answers.extend(lesson.answers(&model, &own, part)?);
        }
        answers.sort_by_key(|a| a.photo);
        let estimate_of = |answers: &[AnsweredPhoto]| {
            (!answers.is_empty()).then(|| Estimate::new(answers, table.len(), DEFAULT_MIN_SCORE))
        };
        let uncalibrated = estimate_of(&answers);
        // With proposals of another detector than the board's the products are others there.
        let calibration = match &setting.proposer {
            Proposer::Bundle(_) => calibrate(&mut answers),
            Proposer::File(_) => None,
        };
        let estimating = began.elapsed().as_secs_f64() - reading;
        let model = lesson.learn("all", |_| true)?;

        // What ranks is what one model says: parts that are calibrated apart are not compared.
        let estimate = estimate_of(&answers).zip(uncalibrated.as_ref());
        let estimate = estimate.map(|(own, raw)| Estimate { precisions: raw.precisions.clone(), ..own });
        let report = ImagesReport {
            folders: &folders,
            estimate,
            uncalibrated,
            calibration,
            answers: &answers,
            examples: &lesson.copies[0],
            without_line: proposals.without_line().len(),
            capped: capped.into_inner(),
            backbone: &backbone.names().join(", "),
            detector: &match &setting.proposer {
                Proposer::Bundle(p) => format!("the detector of `{}`", p.bundle().manifest().name),
                Proposer::File(f) => {
                    format!("{}, and on the board the detector of `{}`", f.path().display(), base.manifest().name)
                }
            },
            config: &lesson.config,
            device,
            seconds: [reading, estimating],
        };
        self.write_images_bundle(&base, &lite, &file, &model, &report, pairing)?;
        let seconds = began.elapsed().as_secs_f64();
        let card = report.markdown(&super::name(&self.run.out), seconds);
        write_beside(&self.run.out.join("MODEL_CARD.md"), card.as_bytes())?;
        let mut text = serde_json::to_vec_pretty(&report.json(seconds))?;
        text.push(b'\n');
        write_beside(&self.run.out.join("report.json"), &text)?;
        report.print(&self.run.out, seconds, self.json)
    }

    /// Detector, second backbone and head as a bundle in --out.
    fn write_images_bundle(
        &self,
        base: &ModelBundle,
        lite: &Pretrained,
        file: &Path,
        model: &WeaklyModel,
        report: &ImagesReport<'_>,
        pairing: PairingSpec,
    ) -> anyhow::Result<()> {
        let vocabulary = report.folders.vocabulary();
        let tensors = lite.store.variables();
        let storage = if self.images.f16_weights { WeightStorage::F16 } else { WeightStorage::F32 };
        let backbone =
            SecondBackbone { tensors: &tensors, prefix: "", config: lite.network.config(), storage, side: None };
        let weights = WeaklyGraph::exported(model.store.variables());
        let alone = !vocabulary.alone().is_empty();
        let feature = backbone.feature(&base.manifest().detector.input);
        let head = WeaklyGraph::new(model.config(), &weights, alone, feature);
        let name = super::name(&self.run.out);
        let network = format!("EfficientNet-{:?}", lite.variant);
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let source = format!("{}, SHA-256 {}", super::name(file), hoi_runtime::bundle::sha256_hex(&bytes));
        let accuracy = report.figures().into_iter().map(|(metric, value)| AccuracyRecord {
            data_set: format!("{} photos in folders", report.folders.photos.len()),
            setting: format!("cross-validation in {} parts, whole photos", self.images.folds),
            metric,
            value,
            command: command_line(),
        });
        let fusion = model.fusion_spec(vocabulary, MAX_TRIPLETS).calibrated(report.calibration);
        let parts = WeaklyOver {
            base,
            backbone,
            name: if name.is_empty() { "weakly".to_owned() } else { name },
            version: "0.1.0".to_owned(),
            description: format!(
                "Interactions learned from photos in folders (Weakly-HOI) over the detector of {}",
                base.manifest().name
            ),
            head: head.part(fusion).context("exporting the head")?,
            vocabulary: vocabulary.spec().clone(),
            pairing,
            training: vec![
                TrainingRecord {
                    part: "second_backbone".to_owned(),
                    data: "ImageNet-1k".to_owned(),
                    licence: "Apache-2.0, where they are the published weights of EfficientNet-Lite".to_owned(),
                    source: source.clone(),
                },
                TrainingRecord {
                    part: "head".to_owned(),
                    data: format!("{} photos in folders, image-level labels", report.folders.photos.len()),
                    licence: "the owner of the photos decides".to_owned(),
                    source: command_line(),
                },
            ],
            accuracy: accuracy.collect(),
            evaluation: std::collections::BTreeMap::new(),
            notes: Vec::new(),
            notice: format!(
                "{network}, trained on ImageNet by Google (tensorflow/tpu, Apache-2.0), batch norms folded into the convolutions.\nWeights: {source}."
            ),
            texts: std::collections::BTreeMap::new(),
        };
        write_weakly_over(&parts, &self.run.out).context("writing the bundle")?;
        Ok(())
    }
}
