//! Scores as a table for people.

use crate::eval::hico_det::MeanPrecision;
use crate::eval::layout::LayoutScores;

/// What every print of these scores must say.
pub(super) const BOXES_GIVEN: &str =
    "boxes were given: annotated boxes, merged, no picture and no detector; this is not a detection result";

/// A score in percent, a dash where there is none.
pub(super) fn cell(v: Option<f64>) -> String {
    v.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"))
}

/// The names of a row's columns.
pub(super) fn head() -> String {
    format!("  {:<14}{:>8}{:>8}{:>10}{:>26}\n", "", "Full", "Rare", "Non-rare", "without no_interaction")
}

/// A row of HICO-DET's means.
pub(super) fn row(name: &str, m: &MeanPrecision) -> String {
    format!(
        "  {name:<14}{:>8}{:>8}{:>10}{:>26}\n",
        cell(m.full),
        cell(m.rare),
        cell(m.non_rare),
        cell(m.without_no_interaction)
    )
}

/// The table of one setting.
pub(super) fn render(title: &str, s: &LayoutScores) -> String {
    let mut text = format!("{title}, setting {}: mAP in percent ({BOXES_GIVEN})\n{}", s.setting.name(), head());
    text.push_str(&row("Default", &s.scores.default));
    if let Some(known) = &s.scores.known_object {
        text.push_str(&row("Known-Object", known));
    }
    text.push_str(&format!(
        "  {} images, {} pairs; {} pairs of {} images left out by the cap\n",
        s.images, s.pairs, s.pairs_left_out, s.images_capped
    ));
    text
}
