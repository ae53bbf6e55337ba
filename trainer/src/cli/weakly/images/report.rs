//! What is said of a run on folders: a model card, JSON, and lines.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tch::Device;

use crate::cli::run::command_line;
use crate::dataset::labelled_folders::LabelledFolders;
use crate::system::run::RunConfig;
use crate::system::weakly_hoi::{AnsweredPhoto, Estimate, WeakExample};
use hoi_runtime::fusion::Calibration;
use hoi_runtime::pipeline::DEFAULT_MIN_SCORE;

/// Wrong photos and confusions that are listed in the card.
const LISTED: usize = 20;

/// Everything that is said of a run.
pub(super) struct ImagesReport<'a> {
    pub(super) folders: &'a LabelledFolders,
    pub(super) estimate: Option<Estimate>,
    /// The same without calibration.
    pub(super) uncalibrated: Option<Estimate>,
    /// What makes the bundle's scores probabilities.
    pub(super) calibration: Option<Calibration>,
    /// By photo.
    pub(super) answers: &'a [AnsweredPhoto],
    pub(super) examples: &'a [WeakExample],
    /// Photos that the proposals' file has no line for.
    pub(super) without_line: usize,
    /// Proposals beyond the caps.
    pub(super) capped: usize,
    pub(super) backbone: &'a str,
    pub(super) detector: &'a str,
    pub(super) config: &'a RunConfig,
    pub(super) device: Device,
    /// Reading photos; cross-validation.
    pub(super) seconds: [f64; 2],
}

/// A label that a photo's proposals cannot carry.
struct Uncarried {
    interaction: String,
    photos: Vec<String>,
}

impl ImagesReport<'_> {
    fn name(&self, interaction: usize) -> &str {
        self.folders.interactions.get(interaction).map_or("nothing", |i| i.name.as_str())
    }

    fn photo(&self, photo: usize) -> String {
        let path = &self.folders.photos[photo].path;
        let folder = path.parent().and_then(Path::file_name);
        let parts = folder.into_iter().chain(path.file_name()).map(|p| p.to_string_lossy());
        parts.collect::<Vec<_>>().join("/")
    }

    /// Photos in which no person was proposed.
    fn without_person(&self) -> Vec<String> {
        let human = self.folders.vocabulary().human();
        let none = |e: &WeakExample| !e.picture.entities.iter().any(|d| d.class == human);
        (0..self.examples.len()).filter(|&i| none(&self.examples[i])).map(|i| self.photo(i)).collect()
    }

    /// By interaction, photos whose label no pair of their proposals could carry.
    fn uncarried(&self) -> Vec<Uncarried> {
        let interactions = self.folders.interactions.iter().map(|interaction| {
            let misses = |e: &WeakExample| e.uncarried().contains(&interaction.label);
            let photos =
                (0..self.examples.len()).filter(|&i| misses(&self.examples[i])).map(|i| self.photo(i)).collect();
            Uncarried { interaction: interaction.name.clone(), photos }
        });
        interactions.filter(|u| !u.photos.is_empty()).collect()
    }

    fn pairs_cut(&self) -> usize {
        self.examples.iter().map(|e| e.cut).sum()
    }

    /// Figures for the manifest.
    pub(super) fn figures(&self) -> Vec<(String, f64)> {
        let Some(estimate) = &self.estimate else { return Vec::new() };
        let mut figures = vec![("share of photos whose interaction is said first".to_owned(), estimate.accuracy().0)];
        figures.extend(mean(estimate).map(|mean| ("mean average precision over interactions".to_owned(), mean)));
        figures
            .extend(estimate.calibration_error.map(|e| ("expected calibration error of what is said".to_owned(), e)));
        figures
    }

    /// The card.
    pub(super) fn markdown(&self, name: &str, seconds: f64) -> String {
        let mut text = format!("# {name}\n\n");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Interactions learned from {} photos sorted into folders, by image-level labels alone (Weakly-HOI).\nBoxes: {}. Backbone: {}.\n\n```\n{}\n```\n\nSeed {}, {} epochs, on {:?}, {:.0} s in all.",
            self.folders.photos.len(),
            self.detector,
            self.backbone,
            command_line(),
            self.config.seed,
            self.config.epochs,
            self.device,
            seconds
        );
        text.push_str("\n## What to expect\n\n");
        match &self.estimate {
            None => text.push_str("No estimate was asked for (`--folds 0`).\n"),
            Some(estimate) => self.expectation(&mut text, estimate),
        }
        text.push_str("\n## Photos\n\n");
        let _ = writeln!(text, "```\n{}\n```", self.folders.summary.to_string().trim_end());
        text.push_str(&self.proposals());
        text
    }

    fn expectation(&self, text: &mut String, estimate: &Estimate) {
        let (share, error) = estimate.accuracy();
        let _ = writeln!(
            text,
            "Cross-validation: every photo was answered by a model that had not seen it; the bundle itself learned from all of them. Photos that are\nalike (frames of one video, one afternoon) lie in several parts and make the figures better than a new place will.\n"
        );
        let each: Vec<String> = estimate.by_fold.iter().map(|s| format!("{:.0}", 100.0 * s)).collect();
        let _ = writeln!(
            text,
            "- first answer right: **{:.1} %** of {} photos (standard error {:.1}; by part {} %)\n- nothing said (no score over {DEFAULT_MIN_SCORE}): {} photos\n- mean average precision: {}\n",
            100.0 * share,
            estimate.photos,
            100.0 * error,
            each.join(", "),
            estimate.silent,
            mean(estimate).map_or_else(|| "-".to_owned(), |m| format!("{:.1} %", 100.0 * m))
        );
        text.push_str("| interaction | photos | first answer right | average precision | most often taken for |\n|---|---|---|---|---|\n");
        let confused = estimate.confused();
        for (i, interaction) in self.folders.interactions.iter().enumerate() {
            let row = &estimate.confusion[i];
            let of: usize = row.iter().sum();
            let silent = row.last().copied().unwrap_or(0);
            let mut other: Vec<String> = confused
                .iter()
                .filter(|c| c.0 == i)
                .take(2)
                .map(|&(_, said, count)| format!("{} ({count})", self.name(said)))
                .collect();
            if silent > 0 {
                other.push(format!("nothing said ({silent})"));
            }
            let _ = writeln!(
                text,
                "| {} | {} | {} of {of} | {} | {} |",
                interaction.name,
                interaction.photos,
                row[i],
                estimate.precisions[i].map_or_else(|| "-".to_owned(), |ap| format!("{:.1}", 100.0 * ap)),
                other.join(", ")
            );
        }
        self.scores(text, estimate);
        let wrong: Vec<&AnsweredPhoto> = self.answers.iter().filter(|a| !a.is_right(DEFAULT_MIN_SCORE)).collect();
        if !wrong.is_empty() {
            text.push_str("\n### Wrong answers\n\n");
            for answer in wrong.iter().take(LISTED) {
                let said = match answer.said(DEFAULT_MIN_SCORE) {
                    Some(said) => format!("{} {:.2}", self.name(said), answer.scores[said]),
                    None => "nothing".to_owned(),
                };
                let _ = writeln!(text, "- {}: {said}", self.photo(answer.photo));
            }
            if wrong.len() > LISTED {
                let _ = writeln!(text, "- and {} more: report.json", wrong.len() - LISTED);
            }
        }
    }

    /// How far scores are probabilities.
    fn scores(&self, text: &mut String, estimate: &Estimate) {
        text.push_str("\n### What a score means\n\n");
        let _ = match &self.calibration {
            Some(calibration) => writeln!(
                text,
                "The bundle turns the product s of an interaction's best triplet into the probability that the picture shows it, {calibration},\nfitted to the answers of cross-validation (here each part by the other parts' answers): of what is said with 0.8, about 80 % should be right.\nEvery photo here shows something that was learned; where nothing of it happens, scores are too high."
            ),
            None => writeln!(
                text,
                "Scores are not calibrated: the answers of cross-validation do not say how, or come from another detector than the board's."
            ),
        };
        let said: usize = estimate.reliability.iter().map(|b| b.count).sum();
        let right: f64 = estimate.reliability.iter().map(|b| b.count as f64 * b.share).sum();
        let share = 100.0 * right / said.max(1) as f64;
        let _ = writeln!(
            text,
            "Of all that is said with {DEFAULT_MIN_SCORE} or more, {said} interactions of photos, {share:.0} % are right."
        );
        if let Some(error) = estimate.calibration_error {
            let _ = writeln!(text, "Expected calibration error {error:.3} over what is said.");
        }
        text.push_str("\n| score | said | mean score | right |\n|---|---|---|---|\n");
        for (i, bin) in estimate.reliability.iter().enumerate().filter(|(_, b)| b.count > 0) {
            let bins = estimate.reliability.len() as f64;
            let _ = writeln!(
                text,
                "| {:.1} to {:.1} | {} | {:.2} | {:.0} % |",
                i as f64 / bins,
                (i + 1) as f64 / bins,
                bin.count,
                bin.score,
                100.0 * bin.share
            );
        }
    }

    /// What the proposals left out.
    fn proposals(&self) -> String {
        let mut text = String::new();
        let listed = |photos: &[String]| {
            let more = photos.len().saturating_sub(5);
            let shown = photos.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{shown} and {more} more") } else { shown }
        };
        let persons = self.without_person();
        if !persons.is_empty() {
            let _ = writeln!(text, "- no person was proposed in {} photos: {}", persons.len(), listed(&persons));
        }
        for Uncarried { interaction, photos } in self.uncarried() {
            let _ = writeln!(
                text,
                "- `{interaction}`: no proposal could carry the label in {} photos, which then count for the picture as a whole only: {}",
                photos.len(),
                listed(&photos)
            );
        }
        for (count, what) in [
            (self.without_line, "photos have no line in the proposals' file"),
            (self.capped, "proposals are beyond the most persons or objects"),
            (self.pairs_cut(), "pairs are beyond the most of a photo"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "- {count} {what}");
            }
        }
        text
    }

    /// Everything.
    pub(super) fn json(&self, seconds: f64) -> Value {
        let names: Vec<&str> = self.folders.interactions.iter().map(|i| i.name.as_str()).collect();
        let answers: Vec<Value> = self
            .answers
            .iter()
            .map(|a| {
                let said = a.said(DEFAULT_MIN_SCORE);
                json!({"photo": self.photo(a.photo), "part": a.fold, "shown": a.shown.iter().map(|&s| self.name(s)).collect::<Vec<_>>(),
                    "said": said.map(|s| self.name(s)), "score": said.map(|s| a.scores[s]), "right": a.is_right(DEFAULT_MIN_SCORE)})
            })
            .collect();
        let uncarried: serde_json::Map<String, Value> =
            self.uncarried().into_iter().map(|u| (u.interaction, json!(u.photos))).collect();
        json!({
            "interactions": names,
            "accuracy": self.estimate.as_ref().map(|e| e.accuracy().0),
            "accuracy_error": self.estimate.as_ref().map(|e| e.accuracy().1),
            "mean_ap": self.estimate.as_ref().and_then(mean),
            "estimate": self.estimate,
            "calibration": self.calibration,
            "uncalibrated": self.uncalibrated.as_ref().map(|e| json!({"right": e.right, "silent": e.silent})),
            "answers": answers,
            "folders": self.folders.summary,
            "without_person": self.without_person(),
            "labels_without_proposal": uncarried,
            "proposals_cut": self.capped,
            "pairs_cut": self.pairs_cut(),
            "photos_without_line": self.without_line,
            "device": format!("{:?}", self.device),
            "seconds": {"read": self.seconds[0], "estimate": self.seconds[1], "all": seconds},
            "config": self.config,
            "command": command_line(),
        })
    }

    /// Lines for a person, or one for a program.
    pub(super) fn print(&self, folder: &Path, seconds: f64, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            let mut line = self.json(seconds);
            if let Some(line) = line.as_object_mut() {
                for long in ["answers", "config"] {
                    line.remove(long);
                }
                line.insert("bundle".to_owned(), json!(folder));
            }
            writeln!(out, "{line}")?;
            return Ok(());
        }
        if let Some(estimate) = &self.estimate {
            let (share, error) = estimate.accuracy();
            writeln!(
                out,
                "first answer right: {:.1} % of {} photos that were not learned from (standard error {:.1})",
                100.0 * share,
                estimate.photos,
                100.0 * error
            )?;
            for (shown, said, count) in estimate.confused().into_iter().take(5) {
                writeln!(out, "  {} taken for {}: {count}", self.name(shown), self.name(said))?;
            }
        }
        write!(out, "{}", self.proposals())?;
        writeln!(
            out,
            "bundle: {} ({seconds:.0} s on {:?}); what it confuses: MODEL_CARD.md there",
            folder.display(),
            self.device
        )?;
        Ok(())
    }
}

fn mean(estimate: &Estimate) -> Option<f64> {
    let known: Vec<f64> = estimate.precisions.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}
