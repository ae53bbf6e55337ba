//! Photos sorted into folders.
use std::path::{Path, PathBuf};

use clap::Args;

use super::WeaklyArguments;

#[derive(Debug, Args)]
pub(super) struct ImagesArguments {
    /// Learn from photos sorted into folders, each named after an interaction
    #[arg(long, value_name = "DIR")]
    pub(super) images: Option<PathBuf>,
}

impl WeaklyArguments {
    pub(super) fn run_images(self, _root: &Path) -> anyhow::Result<()> {
        anyhow::bail!("later")
    }
}
