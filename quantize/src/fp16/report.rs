//! What a conversion reports, as JSON and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::convert::{Conversion, KeepReason};
use crate::compare::{Comparison, RandomInputs};

/// Name and version of the JSON report.
pub const REPORT_SCHEMA: &str = "hoi.fp16/1";

/// The report of one conversion; its JSON form is what `--json` prints and `--report` writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fp16Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The file that was read.
    pub input: String,
    /// The file that was to be written.
    pub output: String,
    /// Whether every output stayed within the tolerance, so that `output` is written.
    pub within_tolerance: bool,
    /// Size of the input file.
    pub bytes_before: usize,
    /// Size of the output file.
    pub bytes_after: usize,
    /// Largest allowed difference of an output, as a share of its range.
    pub tolerance: f64,
    /// Whether the result computes in f16.
    pub native: bool,
    /// What became of each tensor.
    pub tensors: Conversion,
    /// What the outputs say.
    pub comparison: Comparison,
}

impl std::fmt::Display for Fp16Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Conversion { converted, kept, already_f16 } = &self.tensors;
        let share = 100.0 * self.bytes_after as f64 / self.bytes_before.max(1) as f64;
        writeln!(f, "size       {} -> {} bytes ({share:.1} %)", self.bytes_before, self.bytes_after)?;
        let elements: usize = converted.iter().map(|t| t.elements).sum();
        let already = if *already_f16 > 0 { format!(", {already_f16} were f16 before") } else { String::new() };
        writeln!(f, "converted  {} tensors, {elements} elements{already}", converted.len())?;
        if self.native {
            writeln!(f, "           computes in f16: for CPUs with FP16 arithmetic")?;
        } else if converted.is_empty() {
            writeln!(f, "           nothing to do: no tensor is left that f16 would make smaller")?;
        }
        let small = kept.iter().filter(|t| t.reason == KeepReason::TooSmall);
        let (n, sum) = small.fold((0, 0), |(n, sum), t| (n + 1, sum + t.elements));
        writeln!(f, "kept f32   {} tensors, {n} of them small ({sum} elements together)", kept.len())?;
        let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for tensor in kept.iter().filter(|t| t.reason != KeepReason::TooSmall) {
            by_reason.entry(tensor.reason.to_string()).or_default().push(&tensor.name);
        }
        for (reason, names) in by_reason {
            writeln!(f, "           {}: {reason}", list(&names))?;
        }
        let Comparison { engine, inputs, outputs } = &self.comparison;
        let RandomInputs { seed, draws, range: [low, high] } = inputs;
        writeln!(
            f,
            "outputs    {draws} draws of inputs in [{low}, {high}], seed {seed}, {engine}; allowed: {} of the range",
            self.tolerance
        )?;
        for output in outputs {
            let relative = output.relative();
            let verdict = if relative <= self.tolerance { "" } else { "  TOO FAR" };
            let mut line = format!(
                "           {}: difference {:.3e}, range {:.3e}, relative {relative:.2e}",
                output.name, output.max_abs, output.range
            );
            if output.non_finite_mismatches > 0 {
                write!(line, ", {} elements differ in being finite", output.non_finite_mismatches)?;
            }
            writeln!(f, "{line}{verdict}")?;
        }
        Ok(())
    }
}

/// The first names, and how many more there are.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
