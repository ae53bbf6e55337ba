//! The report as tables, which text, Markdown and HTML show alike.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::matching::{Missed, Share};
use super::report::{BundlesReport, TwoWays};
use super::times::StageTimes;

/// Columns that hold words, beside the first.
const WORDS: &[&str] = &["what", "which", "operator", "is"];

/// A table of texts.
pub(crate) struct Table {
    pub title: String,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    /// Rows that are not shown.
    pub more: usize,
}

/// Everything that the report counts and measures; at most `listed` rows of each list.
pub(super) fn tables(report: &BundlesReport, listed: usize) -> Vec<Table> {
    let mut all = vec![kept(report), times(report), sizes(report)];
    for (what, two_ways) in [("detections", &report.detections), ("triplets", &report.triplets)] {
        let lists = [("Lost", ["A", "B"], &two_ways.lost), ("New", ["B", "A"], &two_ways.new)];
        for (name, bundles, missed) in lists.into_iter().filter(|(_, _, missed)| !missed.is_empty()) {
            let title = format!("{name} {what}, which only {} has: {}", bundles[0], missed.len());
            all.push(list(title, bundles, missed, listed));
        }
    }
    all
}

fn kept(report: &BundlesReport) -> Table {
    let t = &report.thresholds;
    let rows = |what: &str, [score, other]: [f32; 2], two_ways: &TwoWays| {
        let row = |from: &str, to: &str, share: &Share| {
            let (count, found) = (share.count.to_string(), share.found.to_string());
            let name = format!("{what} of {from} over {score} that {to} has over {other}");
            vec![name, count, found, format!("{:.1} %", 100.0 * share.share)]
        };
        [row("A", "B", &two_ways.a_in_b), row("B", "A", &two_ways.b_in_a)]
    };
    let detections = rows("detections", t.detections(), &report.detections);
    let triplets = rows("triplets", t.triplets(), &report.triplets);
    Table {
        title: format!("Kept (the same class or verb, boxes with IoU over {})", t.iou),
        columns: vec!["", "count", "found", "share"],
        rows: detections.into_iter().chain(triplets).collect(),
        more: 0,
    }
}

fn times(report: &BundlesReport) -> Table {
    let row = |name: &str, s: &StageTimes| {
        let ms = [s.a.median_ms, s.a.best_ms, s.b.median_ms, s.b.best_ms].map(|ms| format!("{ms:.2}"));
        std::iter::once(name.to_owned()).chain(ms).chain([ratio(s.ratio)]).collect()
    };
    let runs = report.images.compared * report.times.rounds;
    Table {
        title: format!("Time in ms, {runs} runs of each in turn, {}", report.engine),
        columns: vec!["", "A median", "A best", "B median", "B best", "B / A"],
        rows: vec![row("detector", &report.times.detector), row("picture to triplets", &report.times.frame)],
        more: 0,
    }
}

fn sizes(report: &BundlesReport) -> Table {
    let (a, b) = (&report.a, &report.b);
    let row = |name: &str, a: Option<u64>, b: Option<u64>| {
        let bytes = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let share = a.zip(b).filter(|(a, _)| *a > 0).map(|(a, b)| b as f64 / a as f64);
        vec![name.to_owned(), bytes(a), bytes(b), ratio(share)]
    };
    let names: BTreeSet<&String> = a.files.keys().chain(b.files.keys()).collect();
    let mut rows: Vec<Vec<String>> =
        names.into_iter().map(|n| row(n, a.files.get(n).copied(), b.files.get(n).copied())).collect();
    rows.push(row("all", Some(a.bytes), Some(b.bytes)));
    Table { title: "Size in bytes".to_owned(), columns: vec!["", "A", "B", "B / A"], rows, more: 0 }
}

/// Findings of the first of `bundles`, with the score that the second gives the same thing in the same place.
fn list(title: String, bundles: [&str; 2], missed: &[Missed], listed: usize) -> Table {
    let score = |bundle| if bundle == "A" { "score in A" } else { "score in B" };
    let row = |m: &Missed| {
        let other = m.other_score.map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"));
        vec![m.image.clone(), m.what.to_string(), format!("{:.2}", m.score), other]
    };
    Table {
        title,
        columns: vec!["picture", "what", score(bundles[0]), score(bundles[1])],
        rows: missed.iter().take(listed).map(row).collect(),
        more: missed.len().saturating_sub(listed),
    }
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"))
}

impl Table {
    /// Whether a column holds words, which stand at the left.
    fn is_text(&self, column: usize) -> bool {
        column == 0 || self.columns.get(column).is_some_and(|name| WORDS.contains(name))
    }

    /// As Markdown, without the title.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.columns.iter().map(|c| (*c).to_owned()).collect());
        out +=
            &line((0..self.columns.len()).map(|i| if self.is_text(i) { "---" } else { "---:" }.to_owned()).collect());
        for row in &self.rows {
            out += &line(row.iter().map(|c| cell(c)).collect());
        }
        if self.more > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "\nand {} more", self.more);
        }
        out
    }

    /// As HTML, without the title.
    pub fn html(&self) -> String {
        let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.enumerate().map(|(i, text)| {
                let class = if self.is_text(i) { "" } else { " class=\"n\"" };
                format!("<{tag}{class}>{}</{tag}>", escape(text))
            });
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let mut out = format!("<table>\n{}", row("th", &mut self.columns.iter().copied()));
        for cells in &self.rows {
            out += &row("td", &mut cells.iter().map(String::as_str));
        }
        out += "</table>\n";
        if self.more > 0 {
            let _ = writeln!(out, "<p>and {} more</p>", self.more);
        }
        out
    }
}

/// Text that may stand in HTML, also in an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let header: Vec<String> = self.columns.iter().map(|c| (*c).to_owned()).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let width = |i: usize| lines().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for cells in lines() {
            let mut line = String::new();
            for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if self.is_text(i) {
                    write!(line, "  {cell:width$}")?;
                } else {
                    write!(line, "  {cell:>width$}")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        if self.more > 0 {
            writeln!(f, "  and {} more", self.more)?;
        }
        Ok(())
    }
}
