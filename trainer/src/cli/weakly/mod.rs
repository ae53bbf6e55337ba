//! `hoi-train weakly`: training from image-level labels, on rendered scenes, photos in folders, Stanford-40, HICO-DET or V-COCO.

mod data_sets;
mod images;
mod photos;
mod rendered;
mod stanford40;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use self::data_sets::DataSetArguments;
use self::images::ImagesArguments;
use self::photos::PhotoArguments;
use self::stanford40::Stanford40Arguments;
pub(super) use self::stanford40::actions_table;
use super::detected::SceneArguments;
use super::rmlr::TEXT_ENCODER;
use super::run::RunArguments;
use crate::system::weakly_hoi::{Knowledge, OverPairs, Pooling, SelfTaught, WeaklyConfig, WeaklyRow, WeaklyShape};

#[derive(Debug, Args)]
pub(super) struct WeaklyArguments {
    #[command(flatten)]
    images: ImagesArguments,
    #[command(flatten)]
    stanford40: Stanford40Arguments,
    #[command(flatten)]
    data_set: DataSetArguments,
    /// What proposes: for photos a bundle, by default `builtin:nano`; without photos the folder that `hoi-train detr` wrote, whose map is then the
    /// backbone's
    #[arg(long, value_name = "DIR")]
    detector: Option<PathBuf>,
    #[command(flatten)]
    photos: PhotoArguments,
    #[command(flatten)]
    method: MethodArguments,
    #[command(flatten)]
    scenes: SceneArguments,
    /// On scenes: in place of training, the weights of this finished run, whose row is trained alike (exp3 for exp4, exp7 for full)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["images", "stanford40", "data", "resume", "stop_after"])]
    trained: Option<PathBuf>,
    /// One JSON object a line on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// Steps before the relatedness loss counts, in short runs.
const RELATEDNESS_AFTER: usize = 300;

/// Choices of the method, whatever it learns from.
#[derive(Debug, Args)]
struct MethodArguments {
    /// The text encoder's folder (config.json, weights, tokenizer), for the knowledge bank
    #[arg(long, value_name = "DIR", default_value = TEXT_ENCODER)]
    text_encoder: PathBuf,
    /// Row of the paper's Table 2, or 3
    #[arg(long, value_enum, default_value_t = WeaklyRow::Full)]
    row: WeaklyRow,
    /// How pairs ask the knowledge bank (Table 4), in rows that do
    #[arg(long, value_enum)]
    knowledge: Option<Knowledge>,
    /// Pairs that each annotated verb chooses as related (Table 5)
    #[arg(long, value_name = "K", default_value_t = 1)]
    positives: usize,
    /// Only pairs with the object of the annotated interaction itself are chosen
    #[arg(long)]
    strict: bool,
    /// Reduction of the relatedness loss over the pairs of an image: sum as the paper prints it
    #[arg(long, value_enum, default_value_t = OverPairs::Mean)]
    over_pairs: OverPairs,
    /// Steps before the relatedness loss counts [default: 300; 1000 with --data]
    #[arg(long, value_name = "STEPS")]
    relatedness_after: Option<usize>,
}

impl MethodArguments {
    fn config(&self, shape: WeaklyShape, pooling: Pooling, dropout: f64) -> WeaklyConfig {
        let mut parts = self.row.parts();
        parts.knowledge = parts.knowledge.map(|mode| self.knowledge.unwrap_or(mode));
        let self_taught = SelfTaught {
            positives: self.positives,
            strict: self.strict,
            over_pairs: self.over_pairs,
            after_steps: self.relatedness_after.unwrap_or(RELATEDNESS_AFTER),
        };
        WeaklyConfig {
            shape,
            pooling,
            dropout,
            parts,
            bank: self.row.bank(),
            encoder: name(&self.text_encoder),
            self_taught,
            exclusive: false,
            backbone: None,
        }
    }
}

/// The last part of a path.
fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

impl WeaklyArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.method.positives == 0 {
            bail!("--positives 0: each verb must choose at least one pair");
        }
        if self.data_set.given() {
            return self.run_data_set();
        }
        if self.data_set.root.is_some() {
            bail!("--root is the folder of a data set: --data hico-det or --data v-coco says of which");
        }
        let photos = self.images.images.is_some() || self.stanford40.stanford40.is_some();
        if photos && self.method.row.parts().prompt_score.is_some() {
            bail!(
                "--row of `{}`: what the prompts say without training is scored on rendered scenes, HICO-DET and V-COCO only",
                self.method.row.title()
            );
        }
        match (self.images.images.clone(), self.stanford40.stanford40.clone()) {
            (Some(folder), _) => self.run_images(&folder),
            (None, Some(folder)) => self.run_stanford40(&folder),
            (None, None) => self.run_rendered(),
        }
    }
}
