//! `hoi-train count`.

use std::io::Write;

use clap::{Args, ValueEnum};
use hoi_runtime::geometry::Size;
use serde_json::json;

use crate::network::count::{Count, RmlrSizes, Totals, count_detr, count_rmlr};
use crate::network::detr::DetrConfig;
use crate::network::resnet::ResNetConfig;

/// COCO's class ids with their gaps, which the published detectors have a row for.
const COCO_IDS: i64 = 91;

/// Classes of a detector tuned to HICO-DET or V-COCO (C2).
const CLASSES: i64 = 80;

/// A network of full size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Network {
    /// DETR with ResNet-50, as published for COCO
    DetrR50,
    /// DETR with ResNet-101, as published for COCO
    DetrR101,
    /// RmLR on DETR with ResNet-50
    RmlrR50,
    /// RmLR on DETR with ResNet-101
    RmlrR101,
}

/// A row of RmLR's Table 4, as printed there.
struct Published {
    parameters_millions: f64,
    macs_billions: f64,
}

impl Network {
    fn name(self) -> &'static str {
        match self {
            Self::DetrR50 => "detr-r50",
            Self::DetrR101 => "detr-r101",
            Self::RmlrR50 => "rmlr-r50",
            Self::RmlrR101 => "rmlr-r101",
        }
    }

    fn has_head(self) -> bool {
        matches!(self, Self::RmlrR50 | Self::RmlrR101)
    }

    fn backbone(self) -> ResNetConfig {
        match self {
            Self::DetrR50 | Self::RmlrR50 => ResNetConfig::resnet50(),
            Self::DetrR101 | Self::RmlrR101 => ResNetConfig::resnet101(),
        }
    }

    fn published(self) -> Published {
        let (parameters_millions, macs_billions) = match self {
            Self::DetrR50 => (36.59, 57.02),
            Self::DetrR101 => (55.53, 104.37),
            Self::RmlrR50 => (36.98, 57.22),
            Self::RmlrR101 => (55.92, 105.57),
        };
        Published { parameters_millions, macs_billions }
    }

    /// The detector that it is or stands on, in Table 4.
    fn detector(self) -> Self {
        match self {
            Self::DetrR50 | Self::RmlrR50 => Self::DetrR50,
            Self::DetrR101 | Self::RmlrR101 => Self::DetrR101,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct CountArguments {
    /// What is counted
    #[arg(value_enum)]
    network: Network,
    /// Size of the picture, in pixels
    #[arg(long, value_name = "WxH", default_value = "800x800", value_parser = size)]
    size: Size,
    /// Verbs of RmLR's classifier
    #[arg(long, value_name = "N", default_value_t = 117, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    verbs: i64,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn size(text: &str) -> Result<Size, String> {
    let side = |text: &str| text.parse::<u32>().ok().filter(|side| (1..=16_384).contains(side));
    let parsed = text.split_once('x').and_then(|(width, height)| Some(Size::new(side(width)?, side(height)?)));
    parsed.ok_or_else(|| "expected width and height from 1 to 16384, as in 800x800".to_owned())
}

fn millions(count: i64) -> f64 {
    count as f64 / 1e6
}

fn billions(count: i64) -> f64 {
    count as f64 / 1e9
}

impl CountArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let classes = if self.network.has_head() { CLASSES } else { COCO_IDS };
        let config = DetrConfig::full(self.network.backbone(), classes);
        let sizes = self.network.has_head().then(|| RmlrSizes::full(self.verbs));
        let count = match &sizes {
            Some(sizes) => count_rmlr(&config, sizes, self.size)?,
            None => count_detr(&config, self.size)?,
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", self.object(&count, sizes.as_ref()))?;
        } else {
            write!(out, "{}", self.table(&count, sizes.as_ref()))?;
        }
        Ok(())
    }

    fn object(&self, count: &Count, sizes: Option<&RmlrSizes>) -> serde_json::Value {
        let object = |totals: Totals| json!({"parameters": totals.parameters, "macs": totals.macs});
        let parts: Vec<_> = count
            .parts()
            .iter()
            .map(|p| json!({"name": p.name, "parameters": p.totals.parameters, "macs": p.totals.macs}))
            .collect();
        let published = self.network.published();
        let totals = count.totals();
        json!({
            "network": self.network.name(),
            "size": self.size.to_string(),
            "verbs": sizes.map(|s| s.verbs),
            "pairs": sizes.map(|s| s.pairs),
            "parameters": totals.parameters,
            "parameters_with_frozen_norms": count.parameters_with_norms(),
            "macs": totals.macs,
            "parts": parts,
            "detector_under_table4_rule": object(count.under_table4_rule()),
            "table4": {"parameters_millions": published.parameters_millions, "macs_billions": published.macs_billions},
        })
    }

    fn table(&self, count: &Count, sizes: Option<&RmlrSizes>) -> String {
        let pairs = sizes.map_or_else(String::new, |s| format!(", {} verbs, {} pairs", s.verbs, s.pairs));
        let mut text = format!(
            "{} at {}{pairs}\n  {:<30}{:>14}{:>12}\n",
            self.network.name(),
            self.size,
            "",
            "parameters",
            "MACs (G)"
        );
        let mut row = |name: &str, parameters: i64, macs: Option<i64>| {
            let macs = macs.map_or_else(String::new, |macs| format!("{:.3}", billions(macs)));
            text.push_str(format!("  {name:<30}{parameters:>14}{macs:>12}").trim_end());
            text.push('\n');
        };
        for part in count.parts() {
            row(part.name, part.totals.parameters, Some(part.totals.macs));
        }
        let (totals, rule) = (count.totals(), count.under_table4_rule());
        row("in all", totals.parameters, Some(totals.macs));
        row("with the frozen norms", count.parameters_with_norms(), None);
        row("detector, rule of Table 4", rule.parameters, Some(rule.macs));
        text.push_str(&self.explanation(count));
        text
    }

    /// Why RmLR's Table 4 says something else.
    fn explanation(&self, count: &Count) -> String {
        let (printed, detector) = (self.network.published(), self.network.detector().published());
        let (totals, rule) = (count.totals(), count.under_table4_rule());
        let mut text = format!(
            "RmLR's Table 4 prints {:.2} M parameters and {:.2} G MACs for {} at 800x800. Its figures for the\n\
             detector alone, {:.2} M and {:.2} G, are what comes out when only convolutions, the input projection and\n\
             the linear layers of the feed-forward blocks are counted: here {:.2} M and {:.2} G. Every attention,\n\
             norm, query and head is missing, so they are no counts of a network.\n",
            printed.parameters_millions,
            printed.macs_billions,
            self.network.name(),
            detector.parameters_millions,
            detector.macs_billions,
            millions(rule.parameters),
            billions(rule.macs),
        );
        let part = |name: &str| count.parts().into_iter().find(|p| p.name == name).map(|p| p.totals.parameters);
        if let (true, Some(context)) = (self.network.has_head(), part("context")) {
            let grows = |n: Network| n.published().macs_billions - n.detector().published().macs_billions;
            text.push_str(&format!(
                "Nor is {:.2} M a count under that rule: it leaves {:.2} M for all that the method adds, and the layer of\n\
                 the global context (eq. 6, 2048 to 512) alone has {:.2} M. For the same head, Table 4's MACs grow by\n\
                 {:.2} G with ResNet-50 and by {:.2} G with ResNet-101. The true count is {:.2} M.\n",
                printed.parameters_millions,
                printed.parameters_millions - detector.parameters_millions,
                millions(context),
                grows(Network::RmlrR50),
                grows(Network::RmlrR101),
                millions(totals.parameters),
            ));
        }
        text
    }
}
