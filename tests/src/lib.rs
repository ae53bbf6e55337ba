//! What the cross-crate tests share: where photos and optional data lie, and broken bundles.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::fs;
use std::path::{Path, PathBuf};

use hoi_runtime::bundle::{BundleParts, ModelBundle, write_bundle};
use hoi_runtime::engine::{Dim, TensorSpec};
use hoi_runtime::spatial::SPATIAL_LEN;

/// The photos that ship with the project.
pub fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("photos")
}

/// A file or folder of the optional data; prints a line and gives `None` where it is not there.
pub fn shared_data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// A folder of the repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Makes the parts of the default bundle those of a detector without taps under a head that takes boxes and classes and knows HICO-DET's verbs. The
/// head's file is the caller's to replace.
pub fn layout_only(parts: &mut BundleParts) {
    let manifest = &mut parts.manifest;
    manifest.detector.taps.clear();
    let symbol = || Dim::Symbol("P".into());
    manifest.head.answers_unplaced = false;
    manifest.head.inputs = vec![
        TensorSpec::f32("spatial", vec![symbol(), Dim::Fixed(SPATIAL_LEN)]),
        TensorSpec::i64("object_class", vec![symbol()]),
    ];
    manifest.head.outputs = vec![TensorSpec::f32("verb_logits", vec![symbol(), Dim::Fixed(HICO_VERBS)])];
    let vocabulary = &mut manifest.vocabulary;
    vocabulary.verbs.truncate(HICO_VERBS);
    vocabulary.alone.clear();
    vocabulary.valid.values_mut().for_each(|list| list.retain(|verb| vocabulary.verbs.contains(verb)));
    manifest.evaluation.clear();
    manifest.fusion = manifest.fusion.clone().calibrated(None);
}

/// HICO-DET's verbs: the first of the default bundle's.
pub const HICO_VERBS: usize = 117;

/// A copy of the default bundle in a temporary folder, to be damaged.
pub struct BundleCopy {
    folder: tempfile::TempDir,
}

impl Default for BundleCopy {
    fn default() -> Self {
        Self::with(|_| {})
    }
}

impl BundleCopy {
    /// The default bundle with `change` made to its parts; hashes fit what is written.
    pub fn with(change: impl FnOnce(&mut BundleParts)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parts = BundleParts::from_bundle(&ModelBundle::builtin().unwrap());
        change(&mut parts);
        write_bundle(&folder.path().join("bundle"), parts).unwrap();
        Self { folder }
    }

    /// The bundle's folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    /// Replaces `from` by `to` in the manifest's text; `from` must be there.
    pub fn edit_manifest(&self, from: &str, to: &str) {
        let path = self.path().join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "the manifest has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
    }
}
