//! Writing bundles: from a base bundle and the parts that replace its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{BundleError, FileEntry, HeadSpec, MANIFEST, Manifest, ModelBundle, sha256_hex, stays_inside};
use crate::vocabulary::VocabularySpec;

/// What a trainer says of a head it wrote: `head.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadDescription {
    /// The vocabulary that the head's classes and verbs index.
    pub vocabulary: VocabularySpec,
    /// Inputs and outputs.
    pub head: HeadSpec,
    /// How it was trained.
    pub training: HeadTraining,
}

/// How a head was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadTraining {
    /// The data.
    pub data: String,
    /// The command that trained it.
    pub command: String,
    /// Whatever else the trainer notes: seed, epochs, loss.
    #[serde(flatten)]
    pub notes: BTreeMap<String, serde_json::Value>,
}

/// A manifest with the content of the files that it will list.
#[derive(Clone, Debug)]
pub struct BundleParts {
    /// The manifest; its `files` are filled in by [`write_bundle`].
    pub manifest: Manifest,
    /// Content by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl BundleParts {
    /// The parts of a bundle, to be changed and written again.
    pub fn from_bundle(bundle: &ModelBundle) -> Self {
        let files = bundle.files.iter().map(|(name, content)| (name.clone(), content.to_vec())).collect();
        Self { manifest: bundle.manifest.clone(), files }
    }
}

/// Writes a bundle into `folder` and reads it back, so that what was written is known to load.
///
/// Files are written into a folder beside and renamed; an existing `folder` is replaced only when it holds a bundle (a manifest) or is
/// empty, and only after the new one was verified.
///
/// # Errors
/// [`BundleError`] when a file cannot be written, `folder` holds something else, or the parts do not make a valid bundle.
pub fn write_bundle(folder: &Path, mut parts: BundleParts) -> Result<ModelBundle, BundleError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| BundleError::Io { path, cause }
    };
    if folder.file_name().is_none() {
        return Err(io(folder)(std::io::Error::other(
            "not a folder's name; a bundle cannot be written in place of it",
        )));
    }
    let parent = match folder.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(io(&parent))?;
    if folder.exists() {
        let entries = fs::read_dir(folder).map_err(io(folder))?.count();
        if entries > 0 && !folder.join(MANIFEST).is_file() {
            return Err(io(folder)(std::io::Error::other(
                "the folder is not empty and holds no bundle; it is left as it is",
            )));
        }
    }
    parts.manifest.files = parts
        .files
        .iter()
        .map(|(name, content)| (name.clone(), FileEntry { sha256: sha256_hex(content), bytes: content.len() as u64 }))
        .collect();
    let beside = tempfile::Builder::new().prefix(".bundle-").tempdir_in(&parent).map_err(io(&parent))?;
    let root = beside.path().canonicalize().map_err(io(beside.path()))?;
    for (name, content) in &parts.files {
        let path = root.join(name);
        // `load` below checks the name as well; here it must not lead out of the temporary folder.
        if !stays_inside(name) {
            return Err(BundleError::Outside { path: folder.join(MANIFEST), file: name.clone() });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        fs::write(&path, content).map_err(io(&path))?;
    }
    let manifest_path = root.join(MANIFEST);
    let mut json = serde_json::to_vec_pretty(&parts.manifest)
        .map_err(|cause| BundleError::Json { path: manifest_path.clone(), cause })?;
    json.push(b'\n');
    fs::write(&manifest_path, json).map_err(io(&manifest_path))?;
    ModelBundle::load(&root)?;

    // The old bundle is kept until the new one is in its place, and put back when it does not get there.
    let old = if folder.exists() {
        let old = tempfile::Builder::new().prefix(".bundle-old-").tempdir_in(&parent).map_err(io(&parent))?;
        fs::rename(folder, old.path().join("bundle")).map_err(io(folder))?;
        Some(old)
    } else {
        None
    };
    if let Err(error) = fs::rename(beside.path(), folder) {
        if let Some(old) = old {
            let kept = old.keep().join("bundle");
            fs::rename(&kept, folder).map_err(io(&kept))?;
        }
        return Err(io(folder)(error));
    }
    // Nothing is left there to remove.
    let _ = beside.keep();
    // A temporary folder is private to its owner; a bundle is for everyone.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(io(folder))?;
    }
    ModelBundle::load(folder)
}
