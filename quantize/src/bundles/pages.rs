//! The report as text, Markdown and HTML.

use std::fmt::{self, Write as _};
use std::io::{self, Cursor};

use image::{ImageFormat, RgbImage};

use super::report::{BundleSummary, BundlesReport};
use super::tables::{escape, tables};

/// Rows of each list in the text.
const TEXT_ROWS: usize = 10;
/// Rows of each list on the pages; all are in the JSON.
const PAGE_ROWS: usize = 50;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{border:1px solid #bbb;padding:.2rem .6rem;text-align:left}\
.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:0 0 1.5rem}\
.pair{display:flex;gap:.5rem}.pair>div{flex:1}img{width:100%}";

fn describe(bundle: &BundleSummary) -> String {
    format!("{} {} ({})", bundle.name, bundle.version, bundle.folder)
}

fn pictures(report: &BundlesReport) -> String {
    let images = &report.images;
    let mut text = format!("{} of {}", images.compared, images.folder);
    if images.left_out > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {} left out by name", images.left_out);
    }
    text
}

fn facts(report: &BundlesReport) -> [(&'static str, String); 3] {
    [("A", describe(&report.a)), ("B", describe(&report.b)), ("pictures", pictures(report))]
}

impl fmt::Display for BundlesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, fact) in facts(self) {
            writeln!(f, "{name:8}  {fact}")?;
        }
        for table in tables(self, TEXT_ROWS) {
            write!(f, "\n{table}")?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning   {warning}")?;
        }
        Ok(())
    }
}

/// All files of the report, by name.
pub(super) fn files(report: &BundlesReport, pictures: Vec<(String, RgbImage)>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    let mut files = vec![
        ("report.json".to_owned(), json),
        ("report.md".to_owned(), markdown(report).into_bytes()),
        ("report.html".to_owned(), html(report).into_bytes()),
    ];
    for (name, picture) in pictures {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(io::Error::other)?;
        files.push((name, bytes.into_inner()));
    }
    Ok(files)
}

/// `report.md`.
fn markdown(report: &BundlesReport) -> String {
    let mut out = format!("# {} and {}\n\n", report.a.name, report.b.name);
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "- {name}: {fact}");
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "- warning: {warning}");
    }
    for table in tables(report, PAGE_ROWS) {
        let _ = write!(out, "\n## {}\n\n{}", table.title, table.markdown());
    }
    if !report.worst.is_empty() {
        out += "\n## Pictures on which they differ most\n\nFramed: what only this bundle has.\n";
    }
    for worst in &report.worst {
        let _ = writeln!(out, "\n### `{}`: {} lost, {} new\n", worst.image, worst.lost, worst.new);
        if let Some([a, b]) = &worst.pictures {
            let _ = writeln!(out, "| A | B |\n| --- | --- |\n| ![A]({a}) | ![B]({b}) |");
        }
    }
    out
}

/// `report.html`.
fn html(report: &BundlesReport) -> String {
    let title = escape(&format!("{} and {}", report.a.name, report.b.name));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<ul>\n"
    );
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "<li>{name}: {}</li>", escape(&fact));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "<li>warning: {}</li>", escape(&warning.to_string()));
    }
    out += "</ul>\n";
    for table in tables(report, PAGE_ROWS) {
        let _ = write!(out, "<h2>{}</h2>\n{}", escape(&table.title), table.html());
    }
    if !report.worst.is_empty() {
        out += "<h2>Pictures on which they differ most</h2>\n<p>A on the left, B on the right. Framed: what only this bundle has.</p>\n";
    }
    for worst in &report.worst {
        let name = escape(&worst.image);
        let _ = write!(out, "<figure>\n<figcaption>{name}: {} lost, {} new</figcaption>\n", worst.lost, worst.new);
        if let Some(files) = &worst.pictures {
            out += "<div class=\"pair\">\n";
            for (which, file) in ["A", "B"].iter().zip(files) {
                let _ = writeln!(out, "<div><img src=\"{file}\" alt=\"{name}, answer of {which}\"></div>");
            }
            out += "</div>\n";
        }
        out += "</figure>\n";
    }
    out += "</body>\n</html>\n";
    out
}
