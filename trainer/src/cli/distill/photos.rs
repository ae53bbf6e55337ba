//! The photos that are learned from, read by the bundle's own detector.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use hoi_runtime::bundle::{ModelBundle, sha256_hex};
use hoi_runtime::detector::{Detection, Detector};
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::{BBox, Size};
use image::RgbImage;

use crate::dataset::bystanders::Bystanders;
use crate::dataset::proposals::{PictureProposals, ProposalFile};
use crate::dataset::stanford40::Stanford40;
use crate::system::edge::{LookCacheError, PhotoLook, PhotoReader, View, read_looks, write_looks};
use crate::system::run::progress_bar;
use crate::system::weakly_hoi::in_order;

/// What reads photos.
pub(super) struct PhotoSource<'a> {
    /// The bundle with the taps.
    pub(super) bundle: &'a ModelBundle,
    /// Objects of a stronger detector; without them the bundle's own are taken.
    pub(super) objects: Option<&'a ProposalFile>,
    /// Threads that read.
    pub(super) threads: usize,
    /// Where photos are kept that were read.
    pub(super) cache: Option<&'a Path>,
}

/// Photos as they were read.
pub(super) struct ReadPhotos {
    /// Each view of all photos.
    pub(super) views: Vec<Vec<PhotoLook>>,
    /// How long that took.
    pub(super) seconds: f64,
}

/// A picture to be read: a name, a person in it, and its pixels.
pub(super) trait PersonSet: Sync {
    /// How many persons there are.
    fn count(&self) -> usize;
    /// File of the picture of a person, in the set's folder.
    fn file(&self, index: usize) -> PathBuf;
    /// The person's box in pixels of the picture.
    fn person(&self, index: usize) -> BBox;
    /// Reads the picture.
    fn open(&self, index: usize) -> anyhow::Result<RgbImage>;
}

impl PersonSet for Stanford40 {
    fn count(&self) -> usize {
        self.photos.len()
    }

    fn file(&self, index: usize) -> PathBuf {
        PathBuf::from("images").join(&self.photos[index].name)
    }

    fn person(&self, index: usize) -> BBox {
        self.photos[index].person
    }

    fn open(&self, index: usize) -> anyhow::Result<RgbImage> {
        Ok(Stanford40::open(self, index)?)
    }
}

impl PersonSet for Bystanders {
    fn count(&self) -> usize {
        self.persons.len()
    }

    fn file(&self, index: usize) -> PathBuf {
        PathBuf::from("images").join(&self.persons[index].file)
    }

    fn person(&self, index: usize) -> BBox {
        self.persons[index].person
    }

    fn open(&self, index: usize) -> anyhow::Result<RgbImage> {
        Ok(Bystanders::open(self, index)?)
    }
}

impl PhotoSource<'_> {
    /// What the reading depends on beside the photos.
    fn key(&self) -> String {
        let manifest = self.bundle.manifest();
        let detector = sha256_hex(self.bundle.file(&manifest.detector.file).unwrap_or_default());
        let objects = self.objects.map_or_else(
            || "own objects".to_owned(),
            |file| {
                let text: String = file.pictures().iter().map(|p| format!("{p:?}\n")).collect();
                format!("objects {}", sha256_hex(text.as_bytes()))
            },
        );
        format!("detector {detector}; taps {:?}; pairing {:?}; {objects}", manifest.detector.taps, manifest.pairing)
    }

    /// Reads all views of a part of the set, from the cache where it has them.
    pub(super) fn read(&self, set: &dyn PersonSet, name: &str, views: &[View]) -> anyhow::Result<ReadPhotos> {
        let engine = TractEngine::new(1);
        let detector = Detector::load(&engine, self.bundle).context("loading the detector")?;
        let reader = PhotoReader {
            detector: &detector,
            bundle: self.bundle.origin().to_owned(),
            pairing: self.bundle.manifest().pairing.clone(),
            human: self.bundle.vocabulary().human(),
        };
        let paths: Vec<PathBuf> = (0..set.count()).map(|i| set.file(i)).collect();
        let lines: Vec<Option<&PictureProposals>> = match self.objects {
            Some(file) => file.find_all(&paths).context("looking for the photos in --objects")?,
            None => vec![None; paths.len()],
        };
        if self.objects.is_some()
            && let Some(missing) = lines.iter().position(Option::is_none)
        {
            anyhow::bail!("--objects has no line for {}", paths[missing].display());
        }
        let began = Instant::now();
        let reading = ViewReading { name, prefix: "", count: set.count(), threads: self.threads, cache: self.cache };
        let all = reading.read(
            views,
            &self.key(),
            &Kept { read: read_looks, write: write_looks },
            || Ok(()),
            |(), index, view| {
                let pixels = set.open(index)?;
                let size = Size::new(pixels.width(), pixels.height());
                let found: Option<Vec<Detection>> = match (self.objects, lines[index]) {
                    (Some(file), Some(line)) => Some(file.detections_in(line, size)?),
                    _ => None,
                };
                reader
                    .read(index as u64, &pixels, &set.person(index), found.as_deref(), view)
                    .with_context(|| format!("reading {}", paths[index].display()))
            },
        )?;
        Ok(ReadPhotos { views: all, seconds: began.elapsed().as_secs_f64() })
    }
}

/// What a folder holds of a view, `None` where it holds nothing.
type Found<T> = Result<Option<Vec<T>>, LookCacheError>;

/// How what was read is kept in a folder, under a key that says how it was read.
pub(in crate::cli) struct Kept<T> {
    pub(in crate::cli) read: fn(&Path, &str) -> Found<T>,
    pub(in crate::cli) write: fn(&Path, &str, &[T]) -> Result<(), LookCacheError>,
}

/// A part of a set whose photos are read in several views.
pub(in crate::cli) struct ViewReading<'a> {
    pub(in crate::cli) name: &'a str,
    /// What stands before the names of the cache's folders.
    pub(in crate::cli) prefix: &'a str,
    pub(in crate::cli) count: usize,
    pub(in crate::cli) threads: usize,
    pub(in crate::cli) cache: Option<&'a Path>,
}

impl ViewReading<'_> {
    /// Each view of all photos, from the cache where it has them. `how` says how they are read; each thread reads with what `start` makes for it.
    pub(in crate::cli) fn read<W, T: Send>(
        &self,
        views: &[View],
        how: &str,
        kept: &Kept<T>,
        start: impl Fn() -> anyhow::Result<W> + Sync,
        read: impl Fn(&W, usize, View) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        let Self { name, prefix, count, threads, cache } = *self;
        let mut all = Vec::with_capacity(views.len());
        for &view in views {
            let key = format!("{how}; {name}, {count} photos, {}", view.name());
            let folder = cache.map(|cache| cache.join(format!("{prefix}{name}-{}", view.name())));
            if let Some(folder) = &folder {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                if let Some(found) = (kept.read)(folder, &key).context("reading the cache of photos")? {
                    all.push(found);
                    continue;
                }
            }
            let progress = progress_bar();
            progress.set_length(count as u64);
            progress.set_message(format!("reading {name}, {}", view.name()));
            let mut looks = Vec::with_capacity(count);
            in_order(
                count,
                threads,
                &start,
                |worker, index| read(worker, index, view),
                |_, look| {
                    looks.push(look);
                    progress.inc(1);
                    anyhow::Ok(())
                },
            )?;
            progress.finish_and_clear();
            if let Some(folder) = &folder {
                (kept.write)(folder, &key, &looks).context("writing the cache of photos")?;
            }
            all.push(looks);
        }
        Ok(all)
    }
}
