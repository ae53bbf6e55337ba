//! `hoi-train eval`.

mod boxes;
mod hico_det;
mod stanford40;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum EvalSet {
    /// Pictures with boxes of COCO's classes: what the detectors of bundles find, side by side
    Boxes(boxes::BoxesArguments),
    /// HICO-DET's test split with the boxes given: which verbs, not which boxes
    HicoDet(hico_det::HicoDetArguments),
    /// Stanford-40: which action, by a given person, by a detected one, and as `hoi detect` says it
    Stanford40(stanford40::Stanford40Arguments),
}

impl EvalSet {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Boxes(arguments) => arguments.run(),
            Self::HicoDet(arguments) => arguments.run(),
            Self::Stanford40(arguments) => arguments.run(),
        }
    }
}
