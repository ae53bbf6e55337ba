//! Pictures in batches, read and augmented by several threads, the same whatever their number.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use hoi_runtime::geometry::Size;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::augment::{Augmentation, Augmented};
use super::{DatasetError, EntityLabel, PairLabel, PictureSet};

/// How pictures are read and put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Pictures of a batch, at least 1; the last batch may have fewer.
    pub batch: usize,
    /// Threads that read and augment; 0 counts as 1. They change no result.
    pub threads: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// Number of the epoch: each has its own order and augmentation.
    pub epoch: u64,
    /// Whether the order is drawn anew; otherwise it is that of `indices`.
    pub shuffle: bool,
    /// Bad pictures that are passed over; one more is an error. Over several epochs, hand in what the epochs before have left.
    pub skip_limit: usize,
}

/// What is known of one picture of a batch; boxes in pixels of the network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Position in the picture set.
    pub index: usize,
    /// Number of the image in its data set.
    pub number: u64,
    /// File name, or the name of the rendered scene.
    pub name: String,
    /// Size of the picture as it was read, or of the part that was cut out of it.
    pub original: Size,
    /// Size in the network's input, without padding.
    pub input: Size,
    /// Persons and objects.
    pub entities: Vec<EntityLabel>,
    /// Annotated verbs of pairs.
    pub pairs: Vec<PairLabel>,
}

/// Pictures for one step, on the CPU.
#[derive(Debug)]
pub struct Batch {
    /// `[B, 3, H, W]` f32, ImageNet-normalised, each picture at the top left, 0 in the padding; `H` and `W` are the batch's largest.
    pub images: Tensor,
    /// `[B, H, W]` bool, true where there is padding.
    pub padding: Tensor,
    /// One for each picture.
    pub targets: Vec<Target>,
}

/// A picture that was passed over.
#[derive(Debug)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub error: DatasetError,
}

/// What an epoch came to.
#[derive(Debug, Default)]
pub struct LoaderReport {
    /// Pictures handed over.
    pub pictures: usize,
    /// Pictures passed over, in the order of the epoch.
    pub skipped: Vec<Skipped>,
}

/// Why an epoch ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError<E> {
    /// Options or indices that cannot be used.
    #[error("{what}: {reason}")]
    Options {
        /// Name of the option.
        what: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// More bad pictures than are tolerated.
    #[error("{count} bad pictures, {limit} are tolerated; the last one is {name}")]
    TooManySkipped {
        /// Bad pictures so far.
        count: usize,
        /// How many are tolerated.
        limit: usize,
        /// Name of the last one.
        name: String,
        /// What is wrong with it.
        source: Box<DatasetError>,
    },
    /// A thread stopped without handing over its picture.
    #[error("reading {name} stopped a loader thread")]
    ThreadStopped {
        /// The picture it should have handed over.
        name: String,
    },
    /// What the function that takes the batches said.
    #[error("{0:#}")]
    Consumer(E),
}

/// Reads the pictures `indices` of `set`, augments them and hands them to `f` in batches.
///
/// Order and content of the batches depend on `indices`, `augmentation`, `batch`, `seed`, `epoch` and `shuffle` only: each picture has
/// a random generator of its own. Threads wait when they are about two batches ahead. A picture that cannot be read is passed over
/// and the next one takes its place.
///
/// # Errors
/// [`LoaderError::Options`] for a batch of 0 and an index outside the set, [`LoaderError::TooManySkipped`] with the bad picture that is one
/// too many, [`LoaderError::Consumer`] with what `f` says.
pub fn batches<E>(
    set: &dyn PictureSet,
    indices: &[usize],
    augmentation: &Augmentation,
    options: &LoaderOptions,
    mut f: impl FnMut(Batch) -> Result<(), E>,
) -> Result<LoaderReport, LoaderError<E>> {
    if options.batch == 0 {
        return Err(LoaderError::Options { what: "batch", reason: "0 pictures: at least 1 is needed".to_owned() });
    }
    if let Some(index) = indices.iter().find(|&&index| index >= set.len()) {
        let reason = format!("{index} is outside the set, which has {} pictures", set.len());
        return Err(LoaderError::Options { what: "indices", reason });
    }
    let mut order = indices.to_vec();
    if options.shuffle {
        order.shuffle(&mut generator(options, None));
    }
    let threads = options.threads.clamp(1, order.len().max(1));
    let ahead = (2 * options.batch).div_ceil(threads);
    let order = order.as_slice();
    thread::scope(|scope| {
        // Thread t reads the positions t, t + threads, ...: taking from one channel after the other gives the order back.
        let (mut channels, mut workers) = (Vec::new(), Vec::new());
        for first in 0..threads {
            let (sender, receiver) = sync_channel(ahead);
            let own = order.iter().copied().skip(first).step_by(threads);
            workers.push(scope.spawn(move || read(set, own, augmentation, options, &sender)));
            channels.push(receiver);
        }
        let result = collect(set, order, &channels, options, &mut f);
        // Threads that wait for room in a channel end when it is gone; a panic of theirs has become an error already.
        drop(channels);
        for worker in workers {
            let _ = worker.join();
        }
        result
    })
}

type Opened = Result<(Target, Vec<f32>), DatasetError>;

fn read(
    set: &dyn PictureSet,
    own: impl Iterator<Item = usize>,
    augmentation: &Augmentation,
    options: &LoaderOptions,
    sender: &SyncSender<Opened>,
) {
    for index in own {
        let opened = set.open(index).map(|picture| {
            let (name, number) = (picture.name.clone(), picture.number);
            let augmented = augmentation.apply(picture, &mut generator(options, Some(index)));
            let Augmented { values, input, original, entities, pairs } = augmented;
            (Target { index, number, name, original, input, entities, pairs }, values)
        });
        if sender.send(opened).is_err() {
            return;
        }
    }
}

fn collect<E>(
    set: &dyn PictureSet,
    order: &[usize],
    channels: &[Receiver<Opened>],
    options: &LoaderOptions,
    f: &mut impl FnMut(Batch) -> Result<(), E>,
) -> Result<LoaderReport, LoaderError<E>> {
    let mut report = LoaderReport::default();
    let mut pictures = Vec::with_capacity(options.batch);
    for (&index, channel) in order.iter().zip(channels.iter().cycle()) {
        match channel.recv() {
            Ok(Ok(picture)) => pictures.push(picture),
            Ok(Err(source)) => {
                let (name, count, limit) = (set.name(index), report.skipped.len() + 1, options.skip_limit);
                if count > limit {
                    return Err(LoaderError::TooManySkipped { count, limit, name, source: source.into() });
                }
                report.skipped.push(Skipped { name, error: source });
            }
            Err(_) => return Err(LoaderError::ThreadStopped { name: set.name(index) }),
        }
        if pictures.len() == options.batch {
            report.pictures += pictures.len();
            f(assemble(std::mem::take(&mut pictures))).map_err(LoaderError::Consumer)?;
        }
    }
    if !pictures.is_empty() {
        report.pictures += pictures.len();
        f(assemble(pictures)).map_err(LoaderError::Consumer)?;
    }
    Ok(report)
}

/// Lays pictures at the top left of one tensor.
fn assemble(pictures: Vec<(Target, Vec<f32>)>) -> Batch {
    let side = |of: fn(&Size) -> u32| pictures.iter().map(|(target, _)| of(&target.input)).max().unwrap_or(0) as usize;
    let (width, height) = (side(|size| size.width), side(|size| size.height));
    let mut values = vec![0.0_f32; pictures.len() * 3 * height * width];
    let mut padding = vec![true; pictures.len() * height * width];
    for (i, (target, own)) in pictures.iter().enumerate() {
        let (own_width, own_height) = (target.input.width as usize, target.input.height as usize);
        for (row, line) in own.chunks_exact(own_width.max(1)).enumerate() {
            let (channel, y) = (row / own_height, row % own_height);
            values[((3 * i + channel) * height + y) * width..][..own_width].copy_from_slice(line);
        }
        for y in 0..own_height {
            padding[(i * height + y) * width..][..own_width].fill(false);
        }
    }
    let shape = [pictures.len() as i64, height as i64, width as i64];
    Batch {
        images: Tensor::from_slice(&values).view([shape[0], 3, shape[1], shape[2]]),
        padding: Tensor::from_slice(&padding).to_kind(Kind::Bool).view(shape),
        targets: pictures.into_iter().map(|(target, _)| target).collect(),
    }
}

/// The generator of a picture, or of the order of the epoch.
fn generator(options: &LoaderOptions, index: Option<usize>) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&options.seed.to_le_bytes());
    key[8..16].copy_from_slice(&options.epoch.to_le_bytes());
    key[16..24].copy_from_slice(&index.map_or(u64::MAX, |index| index as u64).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A bar on standard error that counts pictures, with pictures a second and the time left. `what` stands before it.
pub fn progress_bar(pictures: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(pictures).with_message(what);
    match ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} images, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
