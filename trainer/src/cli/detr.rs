//! `hoi-train detr`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::pictures::{DataArguments, PictureData};
use super::run::{RunArguments, command_line};
use crate::eval::detection::DetectionScores;
use crate::system::detr::{DetrModel, DetrPlan, DetrSettings, DetrTask, evaluate, train_detr};

#[derive(Debug, Args)]
pub(super) struct DetrArguments {
    /// Network, loss and input
    #[arg(long, value_enum, default_value_t = DetrPlan::Tiny)]
    config: DetrPlan,
    /// Network, loss and input from a JSON file (as `settings` in a trained detector's config.json) in place of --config's
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Checkpoint to start from: a published one of COCO (.pth or safetensors), or a trained model.safetensors
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    data: DataArguments,
    /// Score every that many epochs too; 0: at the end only
    #[arg(long, value_name = "N", default_value_t = 0)]
    score_every: usize,
    /// Weight of "no object" in the cross-entropy
    #[arg(long, value_name = "X")]
    no_object: Option<f64>,
    /// Weight of the dense help in training; 0: none
    #[arg(long, value_name = "X")]
    dense: Option<f64>,
    /// Learned queries
    #[arg(long, value_name = "N")]
    queries: Option<i64>,
    /// Do not train: score the model in --out
    #[arg(long)]
    eval_only: bool,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArguments,
}

impl DetrArguments {
    fn settings(&self, classes: usize) -> anyhow::Result<DetrSettings> {
        let Some(path) = &self.settings else { return Ok(self.config.settings(classes)) };
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} does not hold a detector's settings", path.display()))
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let device = self.run.device()?;
        let data = self.data.open(self.run.seed)?;
        if self.eval_only {
            let model = DetrModel::load(&self.run.out, device)?;
            return self.report(&model, &data);
        }
        let mut settings = self.settings(data.training.vocabulary().object_count())?;
        settings.loss.no_object = self.no_object.unwrap_or(settings.loss.no_object);
        settings.dense = self.dense.unwrap_or(settings.dense);
        settings.detector.queries = self.queries.unwrap_or(settings.detector.queries);
        let config = self.run.config(self.config.run());
        let folder = self.run.make_folder()?;
        let progress = self.run.progress();
        let task = DetrTask {
            training: &*data.training,
            validation: Some(&*data.validation),
            score_every: self.score_every,
            settings: &settings,
            run: &config,
            weights: self.weights.as_deref(),
            data: &data.words,
            loader_threads: self.run.loader_threads(),
            device,
        };
        let (model, finished) = train_detr(&task, &self.run.options(&progress)).context("training")?;
        progress.finish_and_clear();
        let training = json!({
            "data": data.words,
            "pictures": data.training.len(),
            "config": config,
            "weights": self.weights,
            "finished": finished,
            "version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
        });
        model.save(folder, training).context("saving the detector")?;
        if !finished {
            eprintln!("hoi-train: stopped before the last epoch; --resume goes on");
        }
        self.report(&model, &data)
    }

    fn report(&self, model: &DetrModel, data: &PictureData) -> anyhow::Result<()> {
        let scores = evaluate(model, &*data.validation, 16, self.run.loader_threads())?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let line = json!({"out": self.run.out, "split": data.validation_words, "map50": scores.map50,
                "mean_recall": scores.mean_recall, "pictures": scores.pictures, "classes": scores.classes});
            writeln!(out, "{line}")?;
        } else {
            write!(out, "{}", render(&data.validation_words, &scores, model))?;
        }
        Ok(())
    }
}

fn render(title: &str, scores: &DetectionScores, model: &DetrModel) -> String {
    let mut text = format!(
        "{title}, {} pictures: mAP50 {:.2} %, mean recall {:.2} %\n",
        scores.pictures,
        100.0 * scores.map50,
        100.0 * scores.mean_recall
    );
    for c in &scores.classes {
        let name = model.vocabulary.spec().objects.get(c.class).map_or("", String::as_str);
        text.push_str(&format!(
            "  {name:<16}AP50 {:>6.2}   recall {:>6.2}   {:>6} boxes\n",
            100.0 * c.average_precision,
            100.0 * c.recall,
            c.annotated
        ));
    }
    text
}
