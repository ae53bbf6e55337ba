//! Training on rendered scenes.

use std::io::Write;
use std::time::Instant;

use anyhow::Context;
use serde_json::{Value, json};
use tch::Device;

use super::RmlrArguments;
use crate::cli::detected::{Detector, RenderedTruth, scene_detections};
use crate::cli::run::{command_line, write_result};
use crate::dataset::PictureSet;
use crate::dataset::rendered::RenderedScenes;
use crate::system::detr::DetrModel;
use crate::system::rmlr::{
    BoxesConfig, Example, RmlrModel, Source, Texts, average_precisions, boxes_logits, mean_average_precision,
    mean_percent, save_model, train, train_boxes,
};
use crate::system::run::{EpochRecord, RunConfig, RunIdentity, Trainer};

fn data(training: &RenderedScenes) -> String {
    format!("rendered scenes, {} of the training split, scene seed {}", training.len(), training.config().seed)
}

impl RmlrArguments {
    pub(super) fn run_rendered(self) -> anyhow::Result<()> {
        let device = self.run.device()?;
        let detector = Detector::load(&self.detector, device)?;
        let size = detector.input()?;
        let [training, scored] = self.scenes.sets(size, 3000)?;
        // Before anything slow: a folder that cannot be used is an error at once.
        let folder = self.run.make_folder()?;
        let threads = self.run.loader_threads();
        let get = |set: &RenderedScenes, mirrored| {
            scene_detections(&detector, set, mirrored, self.scenes.cache.as_deref(), threads, |found| {
                Example::new(found.picture, &found.pairs, set.vocabulary(), self.pooling)
            })
        };
        let copies = [get(&training, false)?, get(&training, true)?];
        let held = get(&scored, false)?;
        let truth = RenderedTruth::new(&scored);
        let config = self.run_config();
        let began = Instant::now();
        let (precisions, name, epochs) = if self.boxes_only {
            let boxes = BoxesConfig {
                epochs: config.epochs,
                batch: config.batch,
                learning_rate: config.learning_rate,
                hidden: 128,
                seed: config.seed,
            };
            let network = train_boxes(&copies, training.vocabulary(), &boxes);
            let logits = |chunk: &[&Example]| chunk.iter().map(|e| boxes_logits(&network, e)).collect();
            (average_precisions(&truth.truth(), &held, logits)?, "boxes only", Vec::new())
        } else {
            let (model, log) = self.train_rmlr(&detector.model, &training, &copies, &held, &truth, &config, device)?;
            let precisions = average_precisions(&truth.truth(), &held, |chunk| model.logits(chunk))?;
            let note = json!({"data": data(&training), "command": command_line(), "config": config,
                "detector": detector.key, "map": mean_percent(&precisions), "split": self.scenes.split});
            save_model(&model, training.vocabulary(), note, folder)?;
            (precisions, self.row.title(), log)
        };
        let result = json!({
            "row": name,
            "seed": config.seed,
            "split": self.scenes.split,
            "scenes": self.scenes.score_scenes,
            "map": mean_percent(&precisions),
            "per_interaction": precisions,
            "seconds": began.elapsed().as_secs_f64(),
            "epochs": epochs,
            "command": command_line(),
        });
        write_result(folder, &result)?;
        self.report(&result)
    }

    #[allow(clippy::too_many_arguments, reason = "one caller; these are the parts of a run")]
    fn train_rmlr(
        &self,
        detector: &DetrModel,
        training: &RenderedScenes,
        copies: &[Vec<Example>],
        held: &[Example],
        truth: &RenderedTruth,
        config: &RunConfig,
        device: Device,
    ) -> anyhow::Result<(RmlrModel, Vec<EpochRecord>)> {
        let vocabulary = training.vocabulary();
        let encoder = self.encoder(detector, vocabulary.verb_count(), device)?;
        let model_config = self.model_config(detector, vocabulary.verb_count(), encoder.as_ref());
        let model = RmlrModel::new(&model_config, config.seed, device);
        let texts = match &encoder {
            None => Vec::new(),
            Some(encoder) => {
                let texts = Texts { encoder, vocabulary, mode: self.text };
                model.start_sentences(&texts).context("reading the sentences of the vocabulary")?;
                let all: Vec<&Example> = copies.first().map_or_else(Vec::new, |list| list.iter().collect());
                texts.of(&all).context("reading the text of the scenes")?
            }
        };
        let identity = RunIdentity { system: serde_json::to_value(&model_config)?, data: data(training) };
        let progress = self.run.progress();
        let mut trainer =
            Trainer::start(&model.store, &[], config, identity, &self.run.options(&progress)).context("starting")?;
        let source = Source::Cached { copies, texts: &texts };
        let each = self.score_each_epoch;
        train(&model, vocabulary, &source, &mut trainer, config, |model| {
            if !each {
                return Ok(Vec::new());
            }
            Ok(vec![("map", mean_average_precision(model, &truth.truth(), held)?)])
        })
        .context("training")?;
        progress.finish_and_clear();
        let log = trainer.log().to_vec();
        trainer.keep_average();
        Ok((model, log))
    }

    fn report(&self, result: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let map = result["map"].as_f64().unwrap_or_default();
        if self.json {
            writeln!(
                out,
                "{}",
                json!({"out": self.run.out, "row": result["row"], "seed": result["seed"],
                "split": self.scenes.split, "map": map, "seconds": result["seconds"]})
            )?;
        } else {
            let name = result["row"].as_str().unwrap_or_default();
            writeln!(
                out,
                "{name}: mAP {map:.2} % on {} {} scenes",
                self.scenes.score_scenes,
                self.scenes.split.name()
            )?;
        }
        Ok(())
    }
}
