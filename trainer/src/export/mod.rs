//! From a trained network to the files that a bundle is made of.

mod layout;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use layout::{ExportError, HEAD_FILE, HeadFile, HeadSpec, head_inputs, head_outputs, layout_graph, write_layout};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: std::io::Error,
}

/// Writes a file beside its place and renames it, so that its place never holds half a file.
pub(crate) fn write_beside(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(name);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| {
        // What is left of it is of no use; that it cannot be removed either is not the error to tell.
        let _ = std::fs::remove_file(&beside);
        fail(source)
    })
}
