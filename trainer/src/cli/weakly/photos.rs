//! Photos: who proposes, which backbone reads them, and what it said before.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::Detection;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use image::RgbImage;
use tch::Device;

use crate::dataset::proposals::ProposalFile;
use crate::export::write_beside;
use crate::system::rmlr::{CacheWriter, DetectedPicture, LabelledDetections, read_cache};
use crate::system::run::progress_bar;
use crate::system::weakly_hoi::{BundleProposer, LOOKS, PhotoBackbone, PhotoReader, Proposer, backbone_key, in_order};

#[derive(Debug, Args)]
pub(super) struct PhotoArguments {
    /// Weights of an EfficientNet-Lite that reads photos; several, where their maps have the same cells, are read side by side
    #[arg(long, value_name = "FILE")]
    pub(super) backbone: Vec<PathBuf>,
    /// Side of the square that backbones see of Stanford-40's photos; without it each sees the size that it was trained on
    #[arg(long, value_name = "PIXELS", requires = "stanford40", value_parser = clap::value_parser!(u32).range(64..=1024))]
    pub(super) backbone_input: Option<u32>,
    /// Learn from these proposals, of any detector: one JSON object a photo, as `hoi detect --json` prints them; a bundle still gets the
    /// detector of --detector
    #[arg(long, value_name = "FILE")]
    pub(super) proposals: Option<PathBuf>,
}

/// What makes photos into examples.
pub(super) struct PhotoSetting {
    pub(super) proposer: Proposer,
    files: Vec<PathBuf>,
    input: Option<Size>,
    looks: bool,
    pub(super) key: String,
    device: Device,
}

/// Photos as they were read.
pub(super) struct PhotosRead {
    /// As they are and, where that was wanted, mirrored.
    pub(super) views: Vec<Vec<DetectedPicture>>,
    /// How long that took, when it was done.
    pub(super) seconds: f64,
}

/// In a cache: how long reading took.
const READING_FILE: &str = "reading.json";

/// Photos to be read.
pub(super) struct PhotoList<'a, O, E> {
    /// Name in the cache and beside the progress bar.
    pub(super) name: &'a str,
    /// What the photos and their boxes depend on beside the setting.
    pub(super) key: String,
    /// How many there are.
    pub(super) count: usize,
    /// Reads one.
    pub(super) open: O,
    /// What is proposed in it.
    pub(super) entities: E,
    /// Mirrored as well.
    pub(super) mirror: bool,
}

impl PhotoArguments {
    /// Loads what proposes.
    pub(super) fn proposer(&self, detector: Option<&Path>, vocabulary: &Vocabulary) -> anyhow::Result<Proposer> {
        if let Some(path) = &self.proposals {
            let file = ProposalFile::read(path, vocabulary).context("reading the proposals")?;
            if !file.unknown_classes().is_empty() {
                let list: Vec<String> =
                    file.unknown_classes().iter().map(|(name, n)| format!("{name} ({n})")).collect();
                eprintln!("hoi-train: proposals of classes that are not known here were left out: {}", list.join(", "));
            }
            return Ok(Proposer::File(Box::new(file)));
        }
        let engine = TractEngine::default();
        let bundle = match detector {
            Some(folder) => ModelBundle::load(folder),
            None => ModelBundle::builtin(),
        };
        let bundle = bundle.context("reading the detector's bundle")?;
        Ok(Proposer::Bundle(Box::new(
            BundleProposer::new(bundle, vocabulary, &engine).context("loading the detector")?,
        )))
    }

    /// All of it; `input` is the size that backbones see, or their own.
    pub(super) fn setting(
        &self,
        proposer: Proposer,
        files: Vec<PathBuf>,
        input: Option<Size>,
        looks: bool,
        device: Device,
    ) -> anyhow::Result<PhotoSetting> {
        let backbones = backbone_key(&files, input).context("reading the backbones")?;
        let key = format!(
            "{}; backbones {backbones}; looks {}",
            proposer.key(),
            if looks { LOOKS.to_string() } else { looks.to_string() }
        );
        Ok(PhotoSetting { proposer, files, input, looks, key, device })
    }
}

impl PhotoSetting {
    pub(super) fn backbone(&self) -> anyhow::Result<PhotoBackbone> {
        PhotoBackbone::load(&self.files, self.input, self.device)
            .context("loading the backbones (--backbone-input gives all of them one size)")
    }

    /// Reads photos, as they are and where that is wanted mirrored, from a cache where there is one.
    pub(super) fn read<O, E>(
        &self,
        list: &PhotoList<'_, O, E>,
        vocabulary: &Vocabulary,
        threads: usize,
        cache: Option<&Path>,
    ) -> anyhow::Result<PhotosRead>
    where
        O: Fn(usize) -> anyhow::Result<RgbImage> + Sync,
        E: Fn(usize, &RgbImage) -> anyhow::Result<Vec<Detection>> + Sync,
    {
        let key = format!("{}; {}", self.key, list.key);
        let views: &[&str] = if list.mirror { &["", "-mirrored"] } else { &[""] };
        let folders: Option<Vec<PathBuf>> =
            cache.map(|cache| views.iter().map(|view| cache.join(format!("{}{view}", list.name))).collect());
        if let Some(folders) = &folders {
            for folder in folders {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            }
            let mut found = Vec::new();
            for folder in folders {
                let Some(pictures) = read_cache(folder, &key)? else { break };
                found.push(pictures.into_iter().map(|p| p.picture).collect());
            }
            if found.len() == views.len() {
                let seconds = std::fs::read(folders[0].join(READING_FILE)).ok();
                let seconds = seconds.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
                return Ok(PhotosRead { views: found, seconds });
            }
        }
        let mut writers: Vec<CacheWriter> =
            folders.iter().flatten().map(|folder| CacheWriter::new(folder, &key)).collect();
        let began = Instant::now();
        let progress = progress_bar();
        progress.set_length(list.count as u64);
        progress.set_message(format!("reading {}", list.name));
        let mut seen: Vec<Vec<DetectedPicture>> = views.iter().map(|_| Vec::with_capacity(list.count)).collect();
        let work = |backbone: &PhotoBackbone, index: usize| {
            let pixels = (list.open)(index)?;
            let entities = (list.entities)(index, &pixels)?;
            let reader = PhotoReader { backbone, human: vocabulary.human(), looks: self.looks };
            Ok(reader.read(index as u64, &pixels, &entities, list.mirror))
        };
        in_order(
            list.count,
            threads,
            || self.backbone(),
            work,
            |_, pictures: Vec<DetectedPicture>| {
                for (view, picture) in pictures.into_iter().enumerate() {
                    let item = LabelledDetections { picture, pairs: Vec::new() };
                    if let Some(writer) = writers.get_mut(view) {
                        writer.push(&item)?;
                    }
                    seen[view].push(item.picture);
                }
                progress.inc(1);
                anyhow::Ok(())
            },
        )?;
        let seconds = began.elapsed().as_secs_f64();
        if let Some(folder) = folders.iter().flatten().next() {
            write_beside(&folder.join(READING_FILE), serde_json::to_string(&seconds)?.as_bytes())?;
        }
        for writer in writers {
            writer.finish()?;
        }
        progress.finish_and_clear();
        if seen.iter().any(|view| view.len() != list.count) {
            bail!("reading {} stopped early", list.name);
        }
        Ok(PhotosRead { views: seen, seconds })
    }
}
