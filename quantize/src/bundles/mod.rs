//! How far two bundles are apart end to end: what each finds on the same pictures, and how long it takes.
//!
//! Both go through the runtime's own pipeline: detector, pairs, head, fusion. [`crate::compare`] compares single graphs instead.

mod error;
pub(crate) mod folder;
mod images;
mod matching;
mod pages;
mod pictures;
mod report;
pub(crate) mod tables;
mod times;

use std::path::{Path, PathBuf};

use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::engine::Engine;
use hoi_runtime::pipeline::{FrameResult, HoiPipeline, Timings};
use hoi_runtime::source::{Frame, ImageLimits, open_image};

pub use error::BundlesError;
pub use matching::{Kind, Missed, Share, Sighting, Thresholds, missing};
pub use report::{BundleSummary, BundlesReport, ImagesSummary, REPORT_SCHEMA, TwoWays, Warning, WorstImage};
pub use times::{Spread, StageTimes, Times};

use crate::calibrate::{evenly_spread, file_name};
use folder::ReportFolder;
use pictures::Kept;

/// Pictures that are compared unless told otherwise.
pub const DEFAULT_COUNT: usize = 200;
/// Runs of each bundle on the first picture that do not count.
const WARM_UP: usize = 2;

/// One comparison of two bundles.
#[derive(Clone, Debug)]
pub struct BundlesJob {
    /// Folder of the first bundle.
    pub a: PathBuf,
    /// Folder of the second bundle.
    pub b: PathBuf,
    /// Folder of pictures.
    pub images: PathBuf,
    /// At most this many pictures, evenly spread over the sorted folder.
    pub count: usize,
    /// A text file with one file name a line: pictures that are not used.
    pub leave_out: Option<PathBuf>,
    /// From which score and overlap on two findings count as the same.
    pub thresholds: Thresholds,
    /// How often each picture is run and timed; 0 counts as 1.
    pub rounds: usize,
    /// Folder for report.md, report.html, report.json and pictures; it must not be there yet, or be empty.
    pub report: Option<PathBuf>,
}

/// A bundle that is ready to run.
pub(crate) struct Ready<'a> {
    path: &'a Path,
    pub pipeline: HoiPipeline,
    summary: BundleSummary,
}

impl<'a> Ready<'a> {
    pub fn load(path: &'a Path, engine: &dyn Engine) -> Result<Self, BundlesError> {
        let bundle = ModelBundle::load(path)?;
        let summary = BundleSummary::new(path, bundle.manifest());
        let pipeline = HoiPipeline::new(&bundle, engine)
            .map_err(|source| BundlesError::Pipeline { bundle: path.to_owned(), source: source.into() })?;
        Ok(Self { path, pipeline, summary })
    }

    pub fn run(&self, frame: &Frame, image: &Path) -> Result<FrameResult, BundlesError> {
        self.pipeline.run(frame).map_err(|source| BundlesError::Run {
            bundle: self.path.to_owned(),
            image: image.to_owned(),
            source: source.into(),
        })
    }
}

/// Runs both bundles in turn on each picture, compares what they find and times them.
///
/// `progress` hears `(done, of)` after each picture. Unreadable pictures are skipped with a warning.
///
/// # Errors
/// [`BundlesError`]; the report's folder is not written then.
pub fn run(
    job: &BundlesJob,
    engine: &dyn Engine,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<BundlesReport, BundlesError> {
    job.thresholds.check()?;
    let folder = job.report.as_deref().map(ReportFolder::new).transpose()?;
    let ready = [Ready::load(&job.a, engine)?, Ready::load(&job.b, engine)?];
    let listed = images::list(&job.images, job.leave_out.as_deref())?;
    let mut warnings = report::of_vocabularies(ready.each_ref().map(|r| r.pipeline.vocabulary()));
    for one in &ready {
        warnings.extend(report::of_pairing(&one.summary, one.pipeline.pairing(), &job.thresholds));
    }
    warnings.extend(listed.warning);
    let chosen = evenly_spread(&listed.images, job.count);

    let mut found = [TwoWays::default(), TwoWays::default()];
    let mut samples: [Vec<Timings>; 2] = Default::default();
    let mut worst: Vec<Kept> = Vec::new();
    let mut compared = 0;
    let mut first_reason = None;
    for (i, path) in chosen.iter().enumerate() {
        match open_image(path, &ImageLimits::default()) {
            Ok(frame) => {
                let results = run_both(&ready, &frame, path, compared == 0, job.rounds, &mut samples)?;
                worst.push(compare_frame(path, results, &ready, &job.thresholds, &mut found));
                pictures::keep_worst(&mut worst);
                compared += 1;
            }
            Err(error) => {
                first_reason.get_or_insert_with(|| error.to_string());
                warnings.push(Warning::Skipped { reason: error.to_string() });
            }
        }
        progress(i + 1, chosen.len());
    }
    if compared == 0 {
        return Err(BundlesError::NoneReadable { count: chosen.len(), first: first_reason.unwrap_or_default() });
    }

    let [mut detections, mut triplets] = found;
    detections.sort();
    triplets.sort();
    let pipelines = ready.each_ref().map(|r| &r.pipeline);
    let drawn = folder.is_some().then(|| pictures::draw(&worst, &pipelines, &job.thresholds)).transpose()?;
    let [a, b] = ready.map(|r| r.summary);
    let report = BundlesReport {
        schema: REPORT_SCHEMA,
        a,
        b,
        engine: engine.name(),
        images: ImagesSummary {
            folder: job.images.display().to_string(),
            left_out: listed.left_out,
            chosen: chosen.len(),
            compared,
        },
        thresholds: job.thresholds,
        detections,
        triplets,
        times: Times::new(&samples, job.rounds.max(1)),
        worst: worst.iter().enumerate().map(|(i, kept)| kept.summary(i, folder.is_some())).collect(),
        warnings,
    };
    if let Some(folder) = folder {
        let files = pages::files(&report, drawn.unwrap_or_default()).map_err(|e| folder.failed(e))?;
        folder.write(files)?;
    }
    Ok(report)
}

/// Runs A, B, A, B, ... on one picture; gives the answers of the last round.
fn run_both(
    ready: &[Ready<'_>; 2],
    frame: &Frame,
    path: &Path,
    cold: bool,
    rounds: usize,
    samples: &mut [Vec<Timings>; 2],
) -> Result<[FrameResult; 2], BundlesError> {
    if cold {
        for _ in 0..WARM_UP {
            for one in ready {
                one.run(frame, path)?;
            }
        }
    }
    let mut round = || -> Result<[FrameResult; 2], BundlesError> {
        let answers = [ready[0].run(frame, path)?, ready[1].run(frame, path)?];
        for (samples, answer) in samples.iter_mut().zip(&answers) {
            samples.push(answer.timings);
        }
        Ok(answers)
    };
    let mut answers = round()?;
    for _ in 1..rounds {
        answers = round()?;
    }
    Ok(answers)
}

/// Adds what is kept, lost and new on one picture to `[detections, triplets]`.
fn compare_frame(
    path: &Path,
    results: [FrameResult; 2],
    ready: &[Ready<'_>; 2],
    thresholds: &Thresholds,
    [detections, triplets]: &mut [TwoWays; 2],
) -> Kept {
    let image = file_name(path);
    let vocabularies = ready.each_ref().map(|r| r.pipeline.vocabulary());
    let lists = [0, 1].map(|i| Sighting::of_frame(&results[i], vocabularies[i]));
    let [(a_detections, a_triplets), (b_detections, b_triplets)] = &lists;
    let mut kept = Kept::new(path, results);
    let of_detections = thresholds.detections();
    let of_triplets = thresholds.triplets();
    kept.add(detections.add(&image, [a_detections, b_detections], of_detections, thresholds.iou));
    kept.add(triplets.add(&image, [a_triplets, b_triplets], of_triplets, thresholds.iou));
    kept
}

#[cfg(test)]
mod tests;
