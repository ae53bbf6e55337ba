//! The committed parts of HICO-DET's training split.

use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::dataset::{DatasetError, FRACTIONS};

/// Seed with which the committed parts were drawn by [`fraction`](crate::dataset::fraction) from the numbers of the 37,633 training images with
/// an annotated pair.
pub const FRACTION_SEED: u64 = 10;

const COMMITTED: &str = include_str!("../../../data/hico_det_fractions.json");

/// What each part has more than the one before.
#[derive(Deserialize)]
struct Committed {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    percent: u32,
    added: Vec<u64>,
}

/// Numbers of the training images of the part of 5, 15, 25 or 50 percent, rising; each part holds the smaller ones.
///
/// # Errors
/// [`DatasetError`] for another percentage.
pub fn fraction_numbers(percent: u32) -> Result<Vec<u64>, DatasetError> {
    let path = || Path::new("hico_det_fractions.json").to_owned();
    if !FRACTIONS.contains(&percent) {
        return Err(DatasetError::UnknownId {
            path: path(),
            record: "parts of the training split".to_owned(),
            what: "percent",
            value: i64::from(percent),
            expected: "5, 15, 25 or 50".to_owned(),
        });
    }
    static PARSED: OnceLock<Result<Committed, serde_json::Error>> = OnceLock::new();
    let committed = match PARSED.get_or_init(|| serde_json::from_str(COMMITTED)) {
        Ok(committed) => committed,
        Err(error) => {
            let (record, reason) = ("the whole file".to_owned(), error.to_string());
            return Err(DatasetError::Inconsistent { path: path(), record, reason });
        }
    };
    let steps = committed.steps.iter().filter(|step| step.percent <= percent);
    let mut numbers: Vec<u64> = steps.flat_map(|step| step.added.iter().copied()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
