//! `hoi-train eval boxes`.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use hoi_runtime::bundle::ModelBundle;
use hoi_runtime::detector::Detector;
use hoi_runtime::engine::TractEngine;
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::non_maximum_suppression;
use hoi_runtime::preprocess::prepare;
use hoi_runtime::vocabulary::Vocabulary;
use serde_json::json;

use crate::dataset::EntityLabel;
use crate::dataset::boxed::BoxedPictures;
use crate::eval::detection::{DetectionEvaluator, DetectionScores};
use crate::system::run::progress_bar;
use crate::system::weakly_hoi::in_order;

#[derive(Debug, Args)]
pub(in crate::cli) struct BoxesArguments {
    /// Folder of the pictures: annotations.json with boxes of named classes, images
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// A bundle whose detector is scored; given again, several on the same pictures
    #[arg(long, value_name = "DIR", required = true)]
    bundle: Vec<PathBuf>,
    /// Leave out the pictures that this file lists, a name or path a line: those that calibrated a bundle
    #[arg(long, value_name = "FILE")]
    leave_out: Option<PathBuf>,
    /// Pictures that are read at the same time, each on one thread
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    threads: u8,
    /// One JSON object a bundle on standard output
    #[arg(long)]
    json: bool,
}

impl BoxesArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let set = BoxedPictures::load(&self.root, &self.left_out()?).context("reading the annotation")?;
        ensure!(!set.pictures.is_empty(), "there is no picture to score");
        let mut out = std::io::stdout().lock();
        for folder in &self.bundle {
            let bundle =
                ModelBundle::load(folder).with_context(|| format!("loading the bundle {}", folder.display()))?;
            let scores = self.score(&bundle, &set).with_context(|| format!("scoring {}", folder.display()))?;
            let human = usize::from(bundle.vocabulary().human().0);
            let persons = scores.classes.iter().find(|c| c.class == human).map(|c| c.average_precision);
            if self.json {
                let names: Vec<&str> = scores.classes.iter().map(|c| name(bundle.vocabulary(), c.class)).collect();
                let line = json!({"bundle": bundle.manifest().name, "folder": folder, "pictures": scores.pictures,
                    "map50": scores.map50, "person": persons, "mean_recall": scores.mean_recall, "classes": scores.classes, "names": names});
                writeln!(out, "{line}")?;
            } else {
                let persons = persons.map_or_else(|| "-".to_owned(), |x| format!("{x:.3}"));
                writeln!(
                    out,
                    "{}: mAP50 {:.3}, persons {persons}, recall {:.3} ({} pictures, {} classes)",
                    folder.display(),
                    scores.map50,
                    scores.mean_recall,
                    scores.pictures,
                    scores.classes.len()
                )?;
            }
        }
        Ok(())
    }

    /// File names to leave out.
    fn left_out(&self) -> anyhow::Result<HashSet<String>> {
        let Some(path) = &self.leave_out else { return Ok(HashSet::new()) };
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = |line: &str| line.trim().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(text.lines().map(name).filter(|name| !name.is_empty()).collect())
    }

    fn score(&self, bundle: &ModelBundle, set: &BoxedPictures) -> anyhow::Result<DetectionScores> {
        let vocabulary = bundle.vocabulary();
        let classes: Vec<_> = set.names.iter().map(|name| vocabulary.object(name)).collect();
        let labels = |boxes: &[(usize, hoi_runtime::geometry::BBox)]| -> anyhow::Result<Vec<EntityLabel>> {
            let label = |&(label, bbox): &(usize, _)| {
                let class = classes[label].with_context(|| {
                    format!(
                        "`{}` is annotated, which is no class of the bundle `{}`",
                        set.names[label],
                        bundle.manifest().name
                    )
                })?;
                Ok(EntityLabel { bbox, class })
            };
            boxes.iter().map(label).collect()
        };
        let detector = Detector::load(&TractEngine::new(1), bundle).context("loading the detector")?;
        let progress = progress_bar();
        progress.set_length(set.pictures.len() as u64);
        progress.set_message(bundle.manifest().name.clone());
        let mut evaluator = DetectionEvaluator::new(vocabulary.object_count());
        in_order(
            set.pictures.len(),
            usize::from(self.threads),
            || anyhow::Ok(()),
            |(), index| {
                let pixels = set.open(index)?;
                let size = Size::new(pixels.width(), pixels.height());
                let (input, transform) = prepare(&pixels, &detector.spec().input);
                let found = detector.detect(input, &transform, size)?.detections;
                Ok(non_maximum_suppression(&found, bundle.manifest().pairing.nms_iou))
            },
            |index, found| {
                evaluator.add_picture(&labels(&set.pictures[index].boxes)?, &found);
                progress.inc(1);
                anyhow::Ok(())
            },
        )?;
        progress.finish_and_clear();
        Ok(evaluator.finish())
    }
}

fn name(vocabulary: &Vocabulary, class: usize) -> &str {
    vocabulary.spec().objects.get(class).map_or("", String::as_str)
}
