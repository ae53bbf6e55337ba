//! `hoi-train eval`.

mod hico_det;
mod stanford40;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum EvalSet {
    /// HICO-DET's test split with the boxes given: which verbs, not which boxes
    HicoDet(hico_det::HicoDetArguments),
    /// Stanford-40: which action, by a given person, by a detected one, and as `hoi detect` says it
    Stanford40(stanford40::Stanford40Arguments),
}

impl EvalSet {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::HicoDet(arguments) => arguments.run(),
            Self::Stanford40(arguments) => arguments.run(),
        }
    }
}
