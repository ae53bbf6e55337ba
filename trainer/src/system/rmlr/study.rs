//! The study: rows times seeds on rendered scenes, and the table that is made of their results.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::{Figure1, Figure4, Likeness};

/// What a run leaves in `result.json`, as far as the table needs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RunResult {
    /// Name of the row.
    pub row: String,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// Split that was scored.
    pub split: String,
    /// Scenes that were scored.
    pub scenes: usize,
    /// Mean average precision in percent.
    pub map: f64,
    /// Duration of training and scoring.
    pub seconds: f64,
    /// The command.
    pub command: String,
}

/// A result that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no result.
    #[error("{} is not the result of a run", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads the result in a run's folder, as [`RunResult`] or more; `None` when the run has not finished.
///
/// # Errors
/// [`ResultError`] when it cannot be read.
pub fn read_result<T: DeserializeOwned>(folder: &Path) -> Result<Option<T>, ResultError> {
    let path = folder.join("result.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| ResultError::Format { path, source }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ResultError::Read { path, source }),
    }
}

/// Mean and standard deviation over seeds (divided by n - 1; 0 for one seed).
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// Rows in order, each with its results over the seeds.
pub fn rows_table(rows: &[(String, Vec<RunResult>)]) -> String {
    let mut text =
        String::from("| row | mAP, mean | standard deviation | each seed | seconds a run |\n|---|---|---|---|---|\n");
    for (name, results) in rows {
        let maps: Vec<f64> = results.iter().map(|r| r.map).collect();
        let (mean, deviation) = mean_and_deviation(&maps);
        let each: Vec<String> = maps.iter().map(|m| format!("{m:.2}")).collect();
        let (seconds, _) = mean_and_deviation(&results.iter().map(|r| r.seconds).collect::<Vec<_>>());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {mean:.2} | {deviation:.2} | {} | {seconds:.0} |", each.join(", "));
    }
    text
}

/// Figure 1 as a table.
pub fn figure_1_table(figure: &Figure1) -> String {
    let row = |name: &str, f: fn(&Likeness) -> f64, digits: usize| {
        let of = |likeness: &Likeness| format!("{:.digits$}", f(likeness));
        format!(
            "| {name} | {} | {} | {} | {} |\n",
            of(&figure.tokens.same_place),
            of(&figure.tokens.same_action),
            of(&figure.cues.same_place),
            of(&figure.cues.same_action)
        )
    };
    let mut text = String::from(
        "| mean over triples | token: same place, other action | token: other place, same action | cue m: same place, other action | cue m: other place, same action |\n|---|---|---|---|---|\n",
    );
    text.push_str(&row("cosine similarity", |l| l.cosine, 3));
    text.push_str(&row("Euclidean distance", |l| l.distance, 2));
    text
}

/// Figure 4 as a table.
pub fn figure_4_table(figure: &Figure4) -> String {
    format!(
        "| relative change | masked RoI | whole enclosing box |\n|---|---|---|\n| raw map, pooled | {:.3} | {:.3} |\n| cue m | {:.3} | {:.3} |\n",
        figure.masked_map, figure.enclosing_map, figure.masked_cue, figure.enclosing_cue
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_by_hand() {
        assert_eq!(mean_and_deviation(&[]), (0.0, 0.0));
        assert_eq!(mean_and_deviation(&[4.0]), (4.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[1.0, 2.0, 3.0, 6.0]);
        // Squares 4 + 1 + 0 + 9 = 14, divided by 3.
        assert!((mean - 3.0).abs() < 1e-12 && (deviation - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
