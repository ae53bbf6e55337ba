//! ONNX files: read, check, build and write, without a protobuf compiler and without losing a field.
//!
//! ```
//! use hoi_quantize::onnx::{self, GraphBuilder, attr_int};
//! use hoi_runtime::engine::{Dim, ElementType};
//!
//! let mut graph = GraphBuilder::new("layer");
//! graph
//!     .input("x", ElementType::F32, &[Dim::Symbol("P".into()), Dim::Fixed(2)])
//!     .initializer_f32("w", &[2, 1], &[0.5, -1.0])
//!     .node("Gemm", &["x", "w"], &["y"], vec![attr_int("transB", 0)])
//!     .output("y", ElementType::F32, &[Dim::Symbol("P".into()), Dim::Fixed(1)]);
//! let model = graph.finish();
//! let bytes = onnx::to_bytes(&model)?;
//! assert_eq!(onnx::from_bytes(&bytes)?, model);
//! # Ok::<(), onnx::OnnxError>(())
//! ```

mod access;
mod builder;
mod check;
mod proto;
mod proto_type;
mod tensor;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use prost::Message as _;

use hoi_runtime::staged::StagedFile;

pub use builder::{GraphBuilder, attr_float, attr_int, attr_ints, attr_string};
pub use check::{LATEST_OPSET, check};
pub use proto::*;
pub use proto_type::*;
pub use tensor::element_count;

/// Largest file that is read: protobuf's own limit for one message.
pub const MAX_FILE_BYTES: u64 = i32::MAX as u64;

/// Why an ONNX file was refused or could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Opening, reading or writing failed.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A directory, a pipe or a device instead of a file.
    #[error("{}: not a regular file; an .onnx file is wanted", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("empty: an ONNX file has at least a graph and an operator set")]
    Empty,
    /// More than [`MAX_FILE_BYTES`].
    #[error("{bytes} bytes; one ONNX file holds at most {MAX_FILE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The file ends inside a field.
    #[error(
        "truncated: field {field} at byte {offset} needs {needed} bytes, the file has {available} more; fetch it again"
    )]
    Truncated {
        /// Field number of `ModelProto`; 7 is the graph.
        field: u32,
        /// Where the field's contents start.
        offset: usize,
        /// What the field says it holds.
        needed: u64,
        /// What is left of the file.
        available: usize,
    },
    /// The bytes are no `ModelProto`.
    #[error("not an ONNX file: {reason}")]
    NotOnnx {
        /// What does not fit.
        reason: String,
    },
    /// A model without a graph.
    #[error("it has no graph")]
    NoGraph,
    /// An operator set that this crate does not know.
    #[error("operator set {version} of `{domain}` is not known (1 to {LATEST_OPSET} of `ai.onnx` are)")]
    UnknownOpset {
        /// `ai.onnx` for the default domain.
        domain: String,
        /// Its version; 0 when the file names none.
        version: i64,
    },
    /// A tensor whose numbers lie in another file.
    #[error(
        "tensor `{tensor}` keeps its data in another file (`{location}`), which is not read; save the model as one file"
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The file that it names.
        location: String,
    },
    /// A tensor whose data does not have as many elements as its shape says.
    #[error("tensor `{tensor}` of shape {dims:?} should hold {expected}, found {found}")]
    WrongLength {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dims: Vec<i64>,
        /// What the shape and type ask for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A name defined twice in one graph.
    #[error("graph `{graph}` defines the {what} `{name}` more than once")]
    DuplicateName {
        /// The graph or subgraph.
        graph: String,
        /// `input`, `initializer` or `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Reads and checks an ONNX file.
///
/// # Errors
/// [`OnnxError`] as for [`from_bytes`], and when the file cannot be read, is no regular file or is larger than [`MAX_FILE_BYTES`].
pub fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    from_bytes(&read_bytes(path)?)
}

/// Reads a file as bytes, refusing what cannot be an ONNX file by its kind or size.
///
/// # Errors
/// [`OnnxError::Io`], [`OnnxError::NotAFile`], [`OnnxError::TooLarge`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let io = |source| OnnxError::Io { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(OnnxError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(OnnxError::TooLarge { bytes: metadata.len() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    let file = std::fs::File::open(path).map_err(io)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Decodes and [`check`]s a model.
///
/// # Errors
/// [`OnnxError::Empty`], [`OnnxError::Truncated`], [`OnnxError::NotOnnx`], and what [`check`] refuses.
pub fn from_bytes(bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    check::wire(bytes)?;
    let model = ModelProto::decode(bytes).map_err(|e| OnnxError::NotOnnx { reason: e.to_string() })?;
    if model.graph.is_none() && model.opset_import.is_empty() && model.ir_version.is_none() {
        return Err(OnnxError::NotOnnx { reason: "it names no IR version, no operator set and no graph".into() });
    }
    check(&model)?;
    Ok(model)
}

/// Encodes a model, after the same [`check`] that reading makes.
///
/// # Errors
/// What [`check`] refuses, and [`OnnxError::TooLarge`].
pub fn to_bytes(model: &ModelProto) -> Result<Vec<u8>, OnnxError> {
    check(model)?;
    let bytes = model.encoded_len() as u64;
    if bytes > MAX_FILE_BYTES {
        return Err(OnnxError::TooLarge { bytes });
    }
    Ok(model.encode_to_vec())
}

/// Writes a model beside `path` and renames it into place, so that `path` is either untouched or whole.
///
/// # Errors
/// As [`to_bytes`], and [`OnnxError::Io`].
pub fn write(model: &ModelProto, path: &Path) -> Result<(), OnnxError> {
    let bytes = to_bytes(model)?;
    StagedFile::new(path, &bytes)
        .and_then(StagedFile::commit)
        .map_err(|source| OnnxError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
