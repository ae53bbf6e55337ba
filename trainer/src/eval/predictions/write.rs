//! Writing line by line, beside the file's place.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Prediction, PredictionsError};
use crate::export::WriteError;

/// A file of predictions in the making. It appears under its name when it is whole; dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct PredictionFile {
    path: PathBuf,
    beside: PathBuf,
    out: BufWriter<File>,
    committed: bool,
}

/// A line whose predictions stay where they are.
#[derive(Serialize)]
struct Line<'a, T> {
    image: &'a str,
    triplets: &'a [T],
}

impl PredictionFile {
    /// Begins a file that will be at `path`.
    ///
    /// # Errors
    /// [`PredictionsError::Write`] when the folder is missing or not writable.
    pub fn create(path: &Path) -> Result<Self, PredictionsError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let out = File::create(&beside).map_err(|source| WriteError { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), beside, out: BufWriter::new(out), committed: false })
    }

    /// Adds the predictions of an image: one line.
    ///
    /// # Errors
    /// [`PredictionsError`] when a number is not finite, or the disk is full.
    pub fn add<T: Prediction>(&mut self, image: &str, triplets: &[T]) -> Result<(), PredictionsError> {
        for (index, triplet) in triplets.iter().enumerate() {
            if let Some(what) = triplet.not_finite() {
                return Err(PredictionsError::NotFinite { image: image.to_owned(), index, what });
            }
        }
        let written = serde_json::to_writer(&mut self.out, &Line { image, triplets })
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|source| self.failed(source))
    }

    /// Renames the file into place, replacing what was there.
    ///
    /// # Errors
    /// [`PredictionsError::Write`] when the disk is full or a directory bears the name.
    pub fn commit(mut self) -> Result<(), PredictionsError> {
        let written = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        written.and_then(|()| std::fs::rename(&self.beside, &self.path)).map_err(|source| self.failed(source))?;
        self.committed = true;
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> PredictionsError {
        WriteError { path: self.path.clone(), source }.into()
    }
}

impl Drop for PredictionFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a leftover here, and nothing reads it.
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}
