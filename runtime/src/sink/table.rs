//! A frame's answer as a person reads it.

use std::fmt;

use crate::detector::Detection;
use crate::pipeline::FrameResult;
use crate::source::Frame;
use crate::vocabulary::Vocabulary;

/// Displays a frame's triplets, best first, and the time of each step.
pub struct Table<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// Its answer.
    pub result: &'a FrameResult,
    /// Names.
    pub vocabulary: &'a Vocabulary,
    /// Triplets and detections below this score are left out.
    pub min_score: f32,
    /// Under each triplet, the factors of its score, and their product where the bundle calibrates it.
    pub explain: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, result, vocabulary, min_score, explain } = self;
        let class = |d: &Detection| vocabulary.object_name(d.class).unwrap_or("?");
        let seen: Vec<&Detection> = result.detections.iter().filter(|d| d.score >= *min_score).collect();
        let persons = seen.iter().filter(|d| d.class == vocabulary.human()).count();
        writeln!(f, "{}  {}", frame.source, result.size)?;
        let rows: Vec<_> = result
            .triplets
            .iter()
            .filter(|t| t.score >= *min_score)
            .map(|t| {
                let verb = vocabulary.verb_name(t.verb).unwrap_or("?");
                let what = t.object.as_ref().map_or(String::new(), |o| format!(" {}", class(o)));
                (t, format!("{} {verb}{what}", class(&t.human)))
            })
            .collect();
        let width = rows.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        for (t, text) in &rows {
            write!(f, "  {text:width$}  {:.2}   {} {}", t.score, class(&t.human), Place(&t.human))?;
            match &t.object {
                Some(o) => writeln!(f, "   {} {}", class(o), Place(o))?,
                None => writeln!(f)?,
            }
            if *explain {
                let product = t.factors.product();
                if product == t.score {
                    writeln!(f, "    = {}", t.factors)?;
                } else {
                    writeln!(f, "    calibrated from {product:.3e} = {}", t.factors)?;
                }
            }
        }
        if rows.is_empty() {
            let reason = match (persons, seen.len()) {
                (0, _) => "no person",
                (1, 1) if vocabulary.alone().is_empty() => "one person and nothing else",
                _ => "nothing reaches --min-score",
            };
            writeln!(f, "  no interaction ({reason})")?;
        }
        let t = &result.timings;
        writeln!(
            f,
            "  ms: decode {:.1}, preprocess {:.1}, detector {:.1}, pairs {:.2}, head {:.2}, fusion {:.2}, total {:.1}",
            t.decode, t.preprocess, t.detector, t.pairs, t.head, t.fusion, t.total
        )
    }
}

/// Box and score of a detection.
struct Place<'a>(&'a Detection);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.0.bbox;
        write!(f, "{:.2} [{:.0} {:.0} {:.0} {:.0}]", self.0.score, b.x1, b.y1, b.x2, b.y2)
    }
}
