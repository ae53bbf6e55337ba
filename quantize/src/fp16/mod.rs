//! f16-stored weights that run at f32 speed everywhere, and graphs that compute in f16.
//!
//! A graph whose weights are f16 constants, each behind a Cast to f32, is about half as large; engines fold the casts while loading, so that
//! nothing is computed in f16. What is lost is the rounding of the weights (11 significant bits), which is measured by running the graph
//! before and after.
//!
//! A graph that computes in f16 is for CPUs with FP16 arithmetic; where there is none the runtime computes it in f32, while other engines
//! may be very slow.

mod convert;
mod native;
mod report;

use std::path::{Path, PathBuf};

use hoi_runtime::engine::Engine;

pub use convert::{Conversion, ConvertedTensor, KeepReason, KeptTensor, LEAST_ELEMENTS, convert};
pub use native::{NativeError, compute_in_halves};
pub use report::{Fp16Report, REPORT_SCHEMA};

use crate::compare::{CompareError, RandomInputs, compare};
use crate::onnx::{self, OnnxError};
use hoi_runtime::staged::StagedFile;

/// Oldest operator set whose Cast takes the target type as a number.
pub const OLDEST_OPSET: i64 = 6;
/// Largest difference of an output, as a share of its range, that is let through unless asked otherwise.
pub const DEFAULT_TOLERANCE: f64 = 0.02;

/// One conversion of a file.
#[derive(Clone, Debug)]
pub struct Fp16Job {
    /// The file to read.
    pub input: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// Where to write the report as JSON, if anywhere.
    pub report: Option<PathBuf>,
    /// The inputs with which both graphs are run.
    pub inputs: RandomInputs,
    /// Largest allowed difference of an output, as a share of its range.
    pub tolerance: f64,
    /// Whether the graph is to compute in f16; otherwise only its weights are stored so.
    pub native: bool,
}

/// Why a file was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fp16Error {
    /// Two of the paths given are one file.
    #[error("{} and {} are the same file; the input is never overwritten", first.display(), second.display())]
    SameFile {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The input is no ONNX file that can be used.
    #[error("{}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: OnnxError,
    },
    /// The operator set is too old to hold the casts.
    #[error(
        "{}: operator set {version} is too old for a Cast to f32; {OLDEST_OPSET} or newer is needed", path.display()
    )]
    OldOpset {
        /// The file.
        path: PathBuf,
        /// Its operator set.
        version: i64,
    },
    /// The graph cannot compute in f16.
    #[error("{}", path.display())]
    Native {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NativeError,
    },
    /// The two graphs could not be run side by side.
    #[error("comparing before and after")]
    Compare {
        /// Why.
        source: CompareError,
    },
    /// The result could not be written.
    #[error("{}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The result could not be encoded.
    #[error("encoding the converted graph")]
    Encode {
        /// Why.
        source: OnnxError,
    },
    /// The report could not be encoded.
    #[error("encoding the report")]
    Report {
        /// Why.
        source: serde_json::Error,
    },
}

/// Converts a file, runs both versions, and writes the result and the report if every output stays within the tolerance.
///
/// A result outside of the tolerance is no error of this function: [`Fp16Report::within_tolerance`] is false then, and nothing is written.
/// A model without anything to convert is written unchanged, byte for byte.
///
/// # Errors
/// [`Fp16Error`]; nothing is written then.
pub fn run(job: &Fp16Job, engine: &dyn Engine) -> Result<Fp16Report, Fp16Error> {
    refuse_same_file(&job.input, &job.output)?;
    if let Some(report) = &job.report {
        refuse_same_file(&job.input, report)?;
        refuse_same_file(&job.output, report)?;
    }
    let refused = |source| Fp16Error::Input { path: job.input.clone(), source };
    let before = onnx::read_bytes(&job.input).map_err(refused)?;
    let mut model = onnx::from_bytes(&before).map_err(refused)?;
    let version = model.opset();
    if version < OLDEST_OPSET {
        return Err(Fp16Error::OldOpset { path: job.input.clone(), version });
    }
    let tensors = if job.native {
        let path = || job.input.clone();
        compute_in_halves(&mut model).map_err(|source| Fp16Error::Native { path: path(), source })?
    } else {
        convert(&mut model, LEAST_ELEMENTS)
    };
    let after = if tensors.converted.is_empty() && !job.native {
        before.clone()
    } else {
        onnx::to_bytes(&model).map_err(|source| Fp16Error::Encode { source })?
    };
    drop(model);
    let comparison = compare(&before, &after, engine, job.inputs).map_err(|source| Fp16Error::Compare { source })?;
    let report = Fp16Report {
        schema: REPORT_SCHEMA,
        input: job.input.display().to_string(),
        output: job.output.display().to_string(),
        within_tolerance: comparison.outputs.iter().all(|o| o.relative() <= job.tolerance),
        bytes_before: before.len(),
        bytes_after: after.len(),
        tolerance: job.tolerance,
        native: job.native,
        tensors,
        comparison,
    };
    if report.within_tolerance {
        write(job, &after, &report)?;
    }
    Ok(report)
}

/// Writes result and report; neither appears unless both could be written.
fn write(job: &Fp16Job, bytes: &[u8], report: &Fp16Report) -> Result<(), Fp16Error> {
    let stage = |path: &Path, bytes: &[u8]| {
        let staged = if path.is_dir() {
            Err(std::io::Error::from(std::io::ErrorKind::IsADirectory))
        } else {
            StagedFile::new(path, bytes)
        };
        staged.map_err(|source| Fp16Error::Output { path: path.to_owned(), source })
    };
    let mut files = vec![stage(&job.output, bytes)?];
    if let Some(path) = &job.report {
        let mut json = serde_json::to_vec_pretty(report).map_err(|source| Fp16Error::Report { source })?;
        json.push(b'\n');
        files.push(stage(path, &json)?);
    }
    for file in files {
        let path = file.path().to_owned();
        file.commit().map_err(|source| Fp16Error::Output { path, source })?;
    }
    Ok(())
}

fn refuse_same_file(first: &Path, second: &Path) -> Result<(), Fp16Error> {
    let same = match (first.canonicalize(), second.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => first == second,
    };
    if same {
        return Err(Fp16Error::SameFile { first: first.to_owned(), second: second.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod native_tests;
#[cfg(test)]
mod tests;
