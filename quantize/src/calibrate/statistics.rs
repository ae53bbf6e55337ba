//! Statistics as a file.

use std::collections::BTreeMap;
use std::path::Path;

use hoi_runtime::staged::StagedFile;
use serde::{Deserialize, Serialize};

use super::{CalibrateError, Histogram};

/// Name and version of the statistics file.
pub const STATISTICS_SCHEMA: &str = "hoi.calibration/1";

/// Largest statistics file that is read.
const FILE_LIMIT: u64 = 256 << 20;

/// What calibration has seen: a histogram for each tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// [`STATISTICS_SCHEMA`].
    pub schema: String,
    /// SHA-256 of the graph's file, in lower-case hexadecimal.
    pub graph_sha256: String,
    /// How many images were looked at.
    pub images: usize,
    /// Their file names; empty where they are not known.
    #[serde(default)]
    pub files: Vec<String>,
    /// By tensor.
    pub tensors: BTreeMap<String, Histogram>,
}

impl Statistics {
    /// Reads statistics and checks that they are of the graph with this hash.
    ///
    /// # Errors
    /// [`CalibrateError::Statistics`] when the file cannot be read or makes no sense, [`CalibrateError::OtherGraph`] when it is of another
    /// graph.
    pub fn read(path: &Path, graph_sha256: &str) -> Result<Self, CalibrateError> {
        let wrong = |reason: String| CalibrateError::Statistics { path: path.to_owned(), reason };
        let metadata = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?;
        if !metadata.is_file() || metadata.len() > FILE_LIMIT {
            return Err(wrong(format!("a regular file of at most {FILE_LIMIT} bytes is wanted")));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let statistics: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        if statistics.schema != STATISTICS_SCHEMA {
            return Err(wrong(format!("schema `{}`; this version reads `{STATISTICS_SCHEMA}`", statistics.schema)));
        }
        if let Some((name, _)) = statistics.tensors.iter().find(|(_, h)| !h.is_sound()) {
            return Err(wrong(format!("the histogram of `{name}` contradicts itself")));
        }
        if !statistics.files.is_empty() && statistics.files.len() != statistics.images {
            return Err(wrong(format!("{} images, but {} names", statistics.images, statistics.files.len())));
        }
        if statistics.graph_sha256 != graph_sha256 {
            return Err(CalibrateError::OtherGraph {
                path: path.to_owned(),
                expected: graph_sha256.to_owned(),
                found: statistics.graph_sha256,
            });
        }
        Ok(statistics)
    }

    /// Writes the statistics as JSON; the file appears whole or not at all.
    ///
    /// # Errors
    /// [`CalibrateError::Statistics`].
    pub fn write(&self, path: &Path) -> Result<(), CalibrateError> {
        let wrong = |reason: String| CalibrateError::Statistics { path: path.to_owned(), reason };
        let tensors = self.tensors.iter().map(|(name, h)| (name.clone(), h.clone().trimmed())).collect();
        let mut json = serde_json::to_vec(&Self { tensors, ..self.clone() }).map_err(|e| wrong(e.to_string()))?;
        json.push(b'\n');
        StagedFile::new(path, &json).and_then(StagedFile::commit).map_err(|e| wrong(e.to_string()))
    }
}
