//! `hoi-train eval hico-det`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use hoi_runtime::bundle::{AccuracyRecord, BundleParts, HeadDescription, ModelBundle, write_bundle};
use hoi_runtime::engine::{Dim, Tensor, TractEngine};
use hoi_runtime::interaction::InteractionHead;
use hoi_runtime::staged::StagedFile;
use hoi_runtime::vocabulary::{Vocabulary, VocabularySpec};
use ndarray::{ArrayD, s};
use serde_json::json;

use crate::cli::table;
use crate::dataset::hico_det::{HicoDet, InteractionTable};
use crate::dataset::layout::{Draw, LayoutSample, SceneSet, Setting};
use crate::eval::layout::{LayoutScores, LayoutTruth, score_layout};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SettingChoice {
    /// The annotated boxes, merged, and nothing else: a closed world
    Merged,
    /// And distractors in every image
    Open,
    /// And 3 % jitter
    Jitter,
    /// One after the other
    All,
}

/// What gives a pair's verbs their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScorerChoice {
    /// The bundle's head
    Head,
    /// How often the verb occurs with the object in the training split: the floor
    Prior,
    /// The annotation itself: the ceiling
    Perfect,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HicoDetArguments {
    /// The bundle whose head is scored
    #[arg(long, value_name = "DIR", conflicts_with = "head")]
    bundle: Option<PathBuf>,
    /// A head outside a bundle
    #[arg(long, value_name = "FILE", requires = "head_json")]
    head: Option<PathBuf>,
    /// Its description
    #[arg(long, value_name = "FILE", requires = "head")]
    head_json: Option<PathBuf>,
    /// Folder of HICO-DET's annotations
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// What surrounds the annotated boxes
    #[arg(long, value_enum, default_value_t = SettingChoice::All)]
    setting: SettingChoice,
    /// What gives a pair's verbs their scores
    #[arg(long, value_enum, default_value_t = ScorerChoice::Head)]
    scorer: ScorerChoice,
    /// Seed of the distractors and of the order of ties
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write the figures to this file as a bundle's manifest lists them (`hoi bundle --accuracy`)
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// Threads of the engine
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
}

impl HicoDetArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let data = HicoDet::open(&self.root)?;
        let images = data.test()?;
        let scenes = SceneSet::new(&images, data.table());
        let known = data.known_objects()?;
        let truth = LayoutTruth { table: data.table(), images: &images, scenes: &scenes, known_objects: Some(&known) };
        let settings = match self.setting {
            SettingChoice::Merged => vec![Setting::Merged],
            SettingChoice::Open => vec![Setting::Open],
            SettingChoice::Jitter => vec![Setting::Jitter],
            SettingChoice::All => Setting::ALL.to_vec(),
        };
        let mut out = std::io::stdout().lock();
        let mut records = Vec::new();
        for setting in settings {
            let scorer = self.scorer(&data, setting)?;
            let scores = score_layout(&truth, setting, self.seed, |sample| scorer.scores(sample))
                .with_context(|| format!("scoring the setting {}", setting.name()))?;
            records.extend(accuracy(&scores, self.seed));
            if self.json {
                let mut line = serde_json::to_value(&scores)?;
                line["set"] = json!("hico-det test");
                line["boxes"] = json!(table::BOXES_GIVEN);
                line["seed"] = json!(self.seed);
                writeln!(out, "{line}")?;
            } else {
                write!(out, "{}", table::render("HICO-DET test", &scores))?;
            }
        }
        if let Some(path) = &self.records {
            let mut text = serde_json::to_vec_pretty(&records)?;
            text.push(b'\n');
            StagedFile::new(path, &text)
                .and_then(StagedFile::commit)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn scorer(&self, data: &HicoDet, setting: Setting) -> anyhow::Result<Scorer> {
        let table = data.table();
        match self.scorer {
            ScorerChoice::Perfect => Ok(Scorer::Perfect(table.vocabulary().verb_count())),
            ScorerChoice::Prior => Ok(Scorer::Prior(prior(data, setting, self.seed)?)),
            ScorerChoice::Head => {
                let engine = TractEngine::new(self.threads);
                match (&self.head, &self.head_json) {
                    (Some(head), Some(description)) => graph_scorer(head, description, &engine, table),
                    _ => {
                        let bundle = match &self.bundle {
                            Some(folder) => ModelBundle::load(folder)
                                .with_context(|| format!("loading the bundle {}", folder.display()))?,
                            None => ModelBundle::builtin().context("loading the built-in bundle")?,
                        };
                        same_vocabulary(bundle.vocabulary().spec(), table.vocabulary())?;
                        let head = InteractionHead::load(&engine, &bundle)?;
                        Ok(Scorer::Head {
                            head,
                            verbs: table.vocabulary().verb_count(),
                            absent: absent_features(&bundle),
                        })
                    }
                }
            }
        }
    }
}

/// The figures of one setting as a manifest lists them.
fn accuracy(scores: &LayoutScores, seed: u64) -> Vec<AccuracyRecord> {
    let name = scores.setting.name();
    let default = &scores.scores.default;
    let known = scores.scores.known_object.as_ref();
    let figures = [
        ("mAP Default Full", default.full),
        ("mAP Default Rare", default.rare),
        ("mAP Default Non-rare", default.non_rare),
        ("mAP Default without no_interaction", default.without_no_interaction),
        ("mAP Known-Object Full", known.and_then(|k| k.full)),
    ];
    let record = |(metric, value): (&str, Option<f64>)| {
        Some(AccuracyRecord {
            data_set: "HICO-DET test".into(),
            setting: format!("{name}; {}", table::BOXES_GIVEN),
            metric: metric.into(),
            value: (value? * 100.0).round() / 100.0,
            command: format!("hoi-train eval hico-det --root ROOT --bundle BUNDLE --setting {name} --seed {seed}"),
        })
    };
    figures.into_iter().filter_map(record).collect()
}

/// Columns and rows must mean what HICO-DET means by them; more verbs may follow HICO-DET's.
fn same_vocabulary(found: &VocabularySpec, wanted: &Vocabulary) -> anyhow::Result<()> {
    for (list, found, wanted) in
        [("objects", &found.objects, &wanted.spec().objects), ("verbs", &found.verbs, &wanted.spec().verbs)]
    {
        let length = if list == "verbs" { wanted.len() } else { found.len().max(wanted.len()) };
        if let Some(i) = (0..length).find(|&i| found.get(i) != wanted.get(i)) {
            let name = |names: &[String]| names.get(i).map_or_else(|| "nothing".to_owned(), |n| format!("`{n}`"));
            anyhow::bail!(
                "the head's {list} are not HICO-DET's: number {i} is {}, expected {}",
                name(found),
                name(wanted)
            );
        }
    }
    Ok(())
}

fn graph_scorer(
    head: &std::path::Path,
    description: &std::path::Path,
    engine: &TractEngine,
    table: &InteractionTable,
) -> anyhow::Result<Scorer> {
    let text = std::fs::read(description).with_context(|| format!("cannot read {}", description.display()))?;
    let description: HeadDescription =
        serde_json::from_slice(&text).with_context(|| format!("{} does not describe a head", description.display()))?;
    same_vocabulary(&description.vocabulary, table.vocabulary())?;
    let onnx = std::fs::read(head).with_context(|| format!("cannot read {}", head.display()))?;
    // The runtime's own way into the head, by a bundle that is written for it.
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().context("loading the built-in bundle")?);
    parts.files.remove(&parts.manifest.head.file);
    parts.files.insert(description.head.file.clone(), onnx);
    parts.manifest.head = description.head;
    parts.manifest.vocabulary = description.vocabulary;
    parts.manifest.evaluation.clear();
    let bundle = write_bundle(&folder.path().join("head"), parts)
        .with_context(|| format!("putting {} into a bundle", head.display()))?;
    let head =
        InteractionHead::load(engine, &bundle).with_context(|| format!("loading the graph {}", head.display()))?;
    Ok(Scorer::Head { head, verbs: table.vocabulary().verb_count(), absent: absent_features(&bundle) })
}

/// Maps of zeros for a head that looks at the picture: what it would see of one that is not there.
fn absent_features(bundle: &ModelBundle) -> Vec<(String, Tensor)> {
    let spec = &bundle.manifest().head;
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(_) => 1,
    };
    let maps = spec.inputs.iter().filter(|input| input.name.starts_with("feature"));
    maps.map(|map| {
        let shape: Vec<usize> = map.shape.iter().map(fixed).collect();
        (map.name.clone(), Tensor::F32(ArrayD::zeros(shape)))
    })
    .collect()
}

/// `[object][verb]` row by row: positives over pairs, in the training split.
fn prior(data: &HicoDet, setting: Setting, seed: u64) -> anyhow::Result<Vec<Vec<f32>>> {
    let scenes = SceneSet::new(&data.train()?, data.table());
    let vocabulary = data.table().vocabulary();
    let mut positives = vec![vec![0f32; vocabulary.verb_count()]; vocabulary.object_count()];
    let mut pairs = vec![0f32; vocabulary.object_count()];
    let draw = Draw { setting, seed, epoch: 0, flip: false };
    for index in 0..scenes.scenes().len() {
        let sample = scenes.draw(index, &draw);
        let classes = sample.object_class();
        classes.iter().for_each(|&c| pairs[c as usize] += 1.0);
        sample.positives.iter().for_each(|&(row, verb)| positives[classes[row] as usize][verb as usize] += 1.0);
    }
    for (row, count) in positives.iter_mut().zip(pairs) {
        row.iter_mut().for_each(|p| *p /= count.max(1.0));
    }
    Ok(positives)
}

enum Scorer {
    Head {
        head: InteractionHead,
        /// HICO-DET's verbs: the first columns.
        verbs: usize,
        /// What stands in for the picture.
        absent: Vec<(String, Tensor)>,
    },
    Prior(Vec<Vec<f32>>),
    Perfect(usize),
}

impl Scorer {
    /// A value per pair and verb, row by row. With all box scores 1, logits rank as fused scores do.
    fn scores(&self, sample: &LayoutSample) -> anyhow::Result<Vec<f32>> {
        let classes = sample.object_class();
        match self {
            Self::Head { head, verbs, absent } => {
                let output = head.run(&sample.entities, &sample.pairs, sample.size, absent)?;
                Ok(output.verb_logits.slice(s![.., ..*verbs]).iter().copied().collect())
            }
            Self::Prior(of_object) => Ok(classes.iter().flat_map(|&c| of_object[c as usize].iter().copied()).collect()),
            Self::Perfect(verbs) => {
                let mut values = vec![0f32; classes.len() * verbs];
                sample.positives.iter().for_each(|&(row, verb)| values[row * verbs + verb as usize] = 1.0);
                Ok(values)
            }
        }
    }
}
