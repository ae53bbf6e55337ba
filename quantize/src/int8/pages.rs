//! The report as text and as Markdown.

use std::fmt::{self, Write as _};
use std::io;

use super::judge::Agreement;
use super::mixed::{Mixed, Step};
use super::report::Int8Report;
use super::signal::{LayerSignal, Signal};
use crate::bundles::tables::Table;

/// Layers in the text; all are in report.md and in the JSON.
const TEXT_LAYERS: usize = 10;
/// Names of nodes in the text.
const TEXT_NAMES: usize = 4;

/// All files of the report, by name.
pub(super) fn files(report: &Int8Report) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    Ok(vec![("report.json".to_owned(), json), ("report.md".to_owned(), markdown(report).into_bytes())])
}

fn decibel(signal: &Signal) -> String {
    signal.decibel.map_or_else(|| "-".to_owned(), |db| format!("{db:.1}"))
}

fn size(report: &Int8Report) -> String {
    let share = 100.0 * report.bytes_after as f64 / report.bytes_float.max(1) as f64;
    let Int8Report { file, bytes_before, bytes_after, .. } = report;
    format!("{file}: {bytes_before} -> {bytes_after} bytes ({share:.1} % of the same graph with 32-bit floats)")
}

fn facts(report: &Int8Report) -> [(&'static str, String); 3] {
    let Int8Report { images, method, quantized_tensors, scales, equalized, .. } = report;
    [
        ("size", size(report)),
        ("statistics", format!("{images} images, method {method}")),
        ("tensors", format!("{quantized_tensors} quantized, {scales} scales, {equalized} equalised")),
    ]
}

/// The layers with the most noise of their own first.
fn layers(report: &Int8Report, listed: usize) -> Option<Table> {
    let mut layers: Vec<&LayerSignal> = report.layers.iter().collect();
    layers.sort_by(|a, b| b.alone.share_of_noise().total_cmp(&a.alone.share_of_noise()));
    let kept = |l: &LayerSignal| report.mixed.as_ref().is_some_and(|m| m.kept.contains(&l.name));
    let row = |l: &&LayerSignal| {
        let precision = if kept(l) { "float" } else { "int8" };
        vec![l.name.clone(), l.operator.clone(), decibel(&l.alone), decibel(&l.whole), precision.to_owned()]
    };
    (!layers.is_empty()).then(|| Table {
        title: "Layers, signal to noise in dB with this one quantized and with all of them".to_owned(),
        columns: vec!["layer", "operator", "alone", "all", "is"],
        rows: layers.iter().take(listed).map(row).collect(),
        more: layers.len().saturating_sub(listed),
    })
}

/// What was tried at the triplets.
fn trials(mixed: &Mixed) -> Vec<Table> {
    let row = |layer: &str, what: &str, float: usize, a: &Agreement| {
        let lost = a.triplets.count - a.triplets.found;
        let of_lost = format!("{lost} of {}", a.triplets.count);
        vec![
            layer.to_owned(),
            what.to_owned(),
            float.to_string(),
            of_lost,
            format!("{:.1}", a.lost),
            format!("{:.2}", a.drift),
        ]
    };
    let step = |s: &Step| row(&s.layer, s.change.word(), s.float, &s.agreement);
    let columns = || vec!["layer", "what", "in float", "triplets lost", "lost %", "scores move %"];
    let first = [row("", "all quantized", 0, &mixed.before)];
    let mut tables = vec![Table {
        title: format!("Layers at the triplets, {} images", mixed.images),
        columns: columns(),
        rows: first.into_iter().chain(mixed.sensitivity.iter().map(step)).collect(),
        more: 0,
    }];
    if let Some(max_drop) = mixed.max_drop {
        let last = [row("", "result", mixed.kept.len(), &mixed.after)];
        tables.push(Table {
            title: format!("Layers in float for at most {max_drop} % lost: {}", mixed.kept.len()),
            columns: columns(),
            rows: mixed.steps.iter().map(step).chain(last).collect(),
            more: 0,
        });
    }
    tables
}

fn tables(report: &Int8Report, listed: usize) -> Vec<Table> {
    layers(report, listed).into_iter().chain(report.mixed.iter().flat_map(trials)).collect()
}

/// `report.md`.
fn markdown(report: &Int8Report) -> String {
    let mut out = format!("# {}\n\n- from: {}\n- to: {}\n", report.name, report.bundle, report.output);
    // Writing to a string cannot fail.
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "- {name}: {fact}");
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "- warning: {warning}");
    }
    let operators = report.operators.iter().map(|(op, count)| {
        let names = count.float_names.join(", ");
        vec![op.clone(), count.quantized.to_string(), count.float.to_string(), names]
    });
    let operators = Table {
        title: "Nodes".to_owned(),
        columns: vec!["operator", "quantized", "float", "which"],
        rows: operators.collect(),
        more: 0,
    };
    let outputs = report.outputs.iter().map(|o| vec![o.name.clone(), decibel(&o.signal), o.images.to_string()]);
    let outputs = Table {
        title: "Outputs, signal to noise in dB".to_owned(),
        columns: vec!["output", "dB", "images"],
        rows: outputs.collect(),
        more: 0,
    };
    for table in [operators, outputs].into_iter().chain(tables(report, usize::MAX)) {
        let _ = write!(out, "\n## {}\n\n{}", table.title, table.markdown());
    }
    out
}

impl fmt::Display for Int8Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, fact) in facts(self) {
            writeln!(f, "{name:10} {fact}")?;
        }
        for (op, count) in &self.operators {
            write!(f, "           {op}: {} quantized, {} float", count.quantized, count.float)?;
            let names = &count.float_names;
            if !names.is_empty() {
                let more = names.len().saturating_sub(TEXT_NAMES);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(f, " ({}{more})", names[..names.len().min(TEXT_NAMES)].join(", "))?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            match output.signal.decibel {
                Some(db) => {
                    writeln!(f, "output     {}: signal to noise {db:.1} dB ({} images)", output.name, output.images)?
                }
                None => writeln!(f, "output     {}: no difference ({} images)", output.name, output.images)?,
            }
        }
        for table in tables(self, TEXT_LAYERS) {
            write!(f, "\n{table}")?;
        }
        if !self.warnings.is_empty() && !self.layers.is_empty() {
            writeln!(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning    {warning}")?;
        }
        Ok(())
    }
}
