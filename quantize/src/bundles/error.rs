//! Why two bundles were not compared.

use std::path::PathBuf;

use hoi_runtime::bundle::BundleError;
use hoi_runtime::pipeline::PipelineError;
use hoi_runtime::source::SourceError;

/// Why two bundles were not compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundlesError {
    /// The folder of the report is in use.
    #[error("{}: there is something already; the name of a new or empty folder is wanted", path.display())]
    ReportExists {
        /// The folder.
        path: PathBuf,
    },
    /// Thresholds by which a bundle would not even agree with itself.
    #[error(
        "{what} of one bundle count over {score} and need one of the other over {other}: the second must not be larger"
    )]
    Thresholds {
        /// `detections` or `triplets`.
        what: &'static str,
        /// From which score on one counts.
        score: f32,
        /// What its counterpart must reach.
        other: f32,
    },
    /// A bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The networks of a bundle do not load.
    #[error("bundle {}", bundle.display())]
    Pipeline {
        /// The bundle's folder.
        bundle: PathBuf,
        /// What does not fit.
        source: Box<PipelineError>,
    },
    /// A bundle failed on a picture.
    #[error("bundle {} on {}", bundle.display(), image.display())]
    Run {
        /// The bundle's folder.
        bundle: PathBuf,
        /// The picture.
        image: PathBuf,
        /// What failed.
        source: Box<PipelineError>,
    },
    /// The folder of pictures cannot be read.
    #[error("pictures to compare on")]
    Folder {
        /// The folder and the system's words.
        source: SourceError,
    },
    /// The folder holds no pictures.
    #[error("{}: no pictures (jpg, png, bmp or webp) in it", folder.display())]
    NoImages {
        /// The folder.
        folder: PathBuf,
    },
    /// Every picture of the folder is left out.
    #[error("{}: all {count} pictures in it are left out", folder.display())]
    AllLeftOut {
        /// The folder.
        folder: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// The list of pictures to leave out cannot be read.
    #[error("list of pictures to leave out: {}", path.display())]
    LeaveOut {
        /// The list.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// No picture could be read.
    #[error("none of the {count} pictures could be read; the first: {first}")]
    NoneReadable {
        /// How many were tried.
        count: usize,
        /// What was wrong with the first.
        first: String,
    },
    /// A picture that was compared cannot be read again to be drawn on.
    #[error("drawing the report's pictures")]
    Redraw {
        /// The picture and what is wrong with it.
        source: SourceError,
    },
    /// The report cannot be written.
    #[error("report {}", path.display())]
    Report {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}
