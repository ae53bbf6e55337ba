//! Which values a graph's tensors take on real images.
//!
//! Images go through the runtime's own preprocessing, one at a time, and the graph runs in f32 on the runtime's engine. Of each tensor a
//! [`Histogram`] is kept, from which a [`Method`] chooses the threshold that 127 stands for.

mod histogram;
mod images;
mod statistics;
mod threshold;
mod video;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hoi_runtime::engine::{EngineError, Model, Tensor};
use hoi_runtime::preprocess::{InputSpec, prepare};
use hoi_runtime::source::{ImageLimits, SourceError, open_image};
use serde::Serialize;

pub use histogram::{BINS, Histogram};
pub use images::{FEW_IMAGES, choose_images};
pub(crate) use images::{evenly_spread, file_name};
pub use statistics::{STATISTICS_SCHEMA, Statistics};
pub use threshold::{LARGEST, Method, scale};
pub use video::{VideoFrames, is_video};

use images::Variety;

/// Why calibration failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The folder of images cannot be read.
    #[error("calibration images")]
    Folder {
        /// The folder and the system's words.
        source: SourceError,
    },
    /// The folder holds no pictures.
    #[error("{}: no pictures (jpg, png, bmp or webp) in it; calibration needs some like those the network will see", folder.display())]
    NoImages {
        /// The folder.
        folder: PathBuf,
    },
    /// A video whose frames cannot be had.
    #[error("{}: {reason}", video.display())]
    Video {
        /// The file.
        video: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No picture of the folder could be read.
    #[error("none of the {count} calibration images could be read; the first: {first}")]
    NoneReadable {
        /// How many were tried.
        count: usize,
        /// What was wrong with the first.
        first: String,
    },
    /// The graph failed on an image.
    #[error("running the graph on {}", image.display())]
    Run {
        /// The image.
        image: PathBuf,
        /// The engine's error.
        source: EngineError,
    },
    /// A statistics file that cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Statistics {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Statistics of another graph.
    #[error("{}: statistics of another graph (sha256 {found}, this one has {expected})", path.display())]
    OtherGraph {
        /// The file.
        path: PathBuf,
        /// The graph's hash.
        expected: String,
        /// The hash in the file.
        found: String,
    },
}

/// Something that makes calibration less trustworthy than it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// An image that could not be read.
    Skipped {
        /// What was wrong, with the file's name.
        reason: String,
    },
    /// Fewer than [`FEW_IMAGES`].
    FewImages {
        /// How many.
        images: usize,
    },
    /// Images that are nearly the same.
    AllAlike,
    /// Images without colour.
    AllGrey,
    /// Statistics without the names of their images.
    ImagesUnknown,
    /// Too few images beside those of calibration to judge on.
    JudgedOnCalibration {
        /// How many there are.
        others: usize,
    },
    /// A tensor that never was anything but 0.
    OnlyZero {
        /// The tensor.
        tensor: String,
    },
    /// A tensor that also had infinite or NaN values.
    NonFinite {
        /// The tensor.
        tensor: String,
        /// How many.
        values: u64,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
            Self::FewImages { images } => write!(
                f,
                "only {images} calibration images: what they do not show will be clipped; {FEW_IMAGES} or more are better"
            ),
            Self::AllAlike => f.write_str("the calibration images are all alike: other scenes may be clipped"),
            Self::AllGrey => {
                f.write_str("the calibration images are all grey: what reacts to colour gets too narrow a range")
            }
            Self::ImagesUnknown => {
                f.write_str("the statistics do not say which images they are of, so the new bundle does not, either")
            }
            Self::JudgedOnCalibration { others } => write!(
                f,
                "only {others} images are known to be none of calibration's: layers were judged on calibration's as well, which flatters"
            ),
            Self::OnlyZero { tensor } => {
                write!(f, "`{tensor}` never was anything but 0 on the calibration images; its scale is a guess")
            }
            Self::NonFinite { tensor, values } => {
                write!(f, "`{tensor}` had {values} infinite or NaN values, which were ignored")
            }
        }
    }
}

/// What [`collect`] saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// A histogram for each output of the graph, and for the picture.
    pub tensors: BTreeMap<String, Histogram>,
    /// File names of the images that were read.
    pub files: Vec<String>,
    /// What speaks against them.
    pub warnings: Vec<Warning>,
}

/// Runs `model`, whose outputs are the tensors wanted, on every image.
///
/// The graph takes the picture first and then `extra`, the same for each image. The picture's own tensor is part of the result, under the
/// name of the input. `progress` hears after each image how many are done. Unreadable images are skipped with a warning.
///
/// # Errors
/// [`CalibrateError`] when the graph fails or no image can be read.
pub fn collect(
    model: &dyn Model,
    input: &InputSpec,
    extra: &[Tensor],
    images: &[PathBuf],
    progress: &mut dyn FnMut(usize),
) -> Result<Observed, CalibrateError> {
    let mut histograms = vec![Histogram::default(); model.outputs().len()];
    let mut picture = Histogram::default();
    let mut variety = Variety::default();
    let mut warnings = Vec::new();
    let mut files = Vec::new();
    for (i, path) in images.iter().enumerate() {
        match open_image(path, &ImageLimits::default()) {
            Ok(frame) => {
                variety.add(&frame.pixels);
                let (tensor, _) = prepare(&frame.pixels, input);
                picture.add_tensor(tensor.as_slice().unwrap_or_default(), tensor.shape());
                let inputs = std::iter::once(Tensor::F32(tensor)).chain(extra.iter().cloned()).collect();
                let run = |source| CalibrateError::Run { image: path.clone(), source };
                for (histogram, output) in histograms.iter_mut().zip(model.run(inputs).map_err(run)?) {
                    if let Some(values) = output.as_f32() {
                        let shape = values.shape().to_vec();
                        histogram.add_tensor(values.as_standard_layout().as_slice().unwrap_or_default(), &shape);
                    }
                }
                files.push(file_name(path));
            }
            Err(error) => warnings.push(Warning::Skipped { reason: error.to_string() }),
        }
        progress(i + 1);
    }
    let read = files.len();
    if read == 0 {
        let first = warnings.first().map_or_else(String::new, ToString::to_string);
        return Err(CalibrateError::NoneReadable { count: images.len(), first });
    }
    if read < FEW_IMAGES {
        warnings.push(Warning::FewImages { images: read });
    }
    if read > 1 && variety.all_alike {
        warnings.push(Warning::AllAlike);
    }
    if variety.all_grey {
        warnings.push(Warning::AllGrey);
    }
    let names = model.outputs().iter().map(|o| o.name.clone());
    let mut tensors: BTreeMap<String, Histogram> = names.zip(histograms).collect();
    tensors.insert(input.name.clone(), picture);
    Ok(Observed { tensors, files, warnings })
}

#[cfg(test)]
mod tests;
