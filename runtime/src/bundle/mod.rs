//! Bundles: a folder with a manifest, networks and a model card. Reading verifies everything and refuses what does not fit.

mod assemble;
mod builtin;
mod manifest;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

pub use assemble::{BundleParts, HeadDescription, HeadTraining, write_bundle};
pub use manifest::{AccuracyRecord, BundleKind, FileEntry, HeadSpec, Manifest, SCHEMA, TrainingRecord};

use self::builtin::Builtin;
use crate::engine::integer_kernels::best;
use crate::fusion::FusionError;
use crate::vocabulary::{Vocabulary, VocabularyError};

/// Name of the manifest inside a bundle's folder.
pub const MANIFEST: &str = "manifest.json";

/// A manifest may have this many bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// Any other file of a bundle may have this many bytes.
const FILE_LIMIT: u64 = 1 << 30;

/// Why a bundle was refused. Every variant names the bundle (or file) and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file that cannot be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file larger than the limit.
    #[error("{}: {bytes} bytes, more than the {limit} that are allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The manifest is no JSON, has an unknown key, lacks one, or a value is of the wrong type.
    #[error("{}: {cause}", path.display())]
    Json {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, with line, column and key.
        cause: serde_json::Error,
    },
    /// A manifest of another version.
    #[error("{}: schema `{found}` is not supported; this version reads `{SCHEMA}`", path.display())]
    Schema {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// No bundle of this name is part of the program.
    #[error("{}: no such bundle is part of the program; {known} are", path.display())]
    NotBuiltIn {
        /// What was asked for.
        path: PathBuf,
        /// Those that are.
        known: String,
    },
    /// A key whose value cannot be used.
    #[error("{}: key `{key}`: {reason}", path.display())]
    Key {
        /// The manifest.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file name that leads out of the bundle's folder.
    #[error("{}: file `{file}` lies outside the bundle's folder; names must be relative, without `..`, and links must stay inside", path.display())]
    Outside {
        /// The manifest.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// A file whose content is not what the manifest says.
    #[error("{}: {what} is {found}, the manifest says {expected}: the file is damaged or was changed", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// `sha256` or `length`.
        what: &'static str,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The vocabulary contradicts itself.
    #[error("{}: {cause}", path.display())]
    Vocabulary {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        cause: VocabularyError,
    },
}

/// A verified bundle in memory.
#[derive(Clone, Debug)]
pub struct ModelBundle {
    origin: PathBuf,
    manifest: Manifest,
    vocabulary: Vocabulary,
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl ModelBundle {
    /// Reads the bundle in `folder` and verifies the hash of every file. `builtin:nano` and `builtin:nano-int8` in place of a folder are
    /// the bundles that are part of the program.
    ///
    /// # Errors
    /// [`BundleError`] that names file and key: what is missing, unknown, damaged, too large or outside the folder.
    pub fn load(folder: &Path) -> Result<Self, BundleError> {
        if let Some(name) = builtin::name(folder) {
            let known = || builtin::all().map(|builtin| builtin.origin().display().to_string()).join(" and ");
            let found = builtin::all().into_iter().find(|builtin| builtin.name == name);
            let missing = || BundleError::NotBuiltIn { path: folder.to_owned(), known: known() };
            return Self::part_of_program(found.ok_or_else(missing)?);
        }
        let manifest_path = folder.join(MANIFEST);
        let bytes = read_bounded(&manifest_path, MANIFEST_LIMIT)?;
        let manifest = parse_manifest(&manifest_path, &bytes)?;
        let root = folder.canonicalize().map_err(|cause| BundleError::Io { path: folder.to_owned(), cause })?;
        let mut files = BTreeMap::new();
        for (name, entry) in &manifest.files {
            let path = resolve(&root, &manifest_path, name)?;
            let content = read_bounded(&path, FILE_LIMIT)?;
            verify(&path, &content, entry)?;
            files.insert(name.clone(), Cow::Owned(content));
        }
        Self::checked(folder.to_owned(), manifest, files)
    }

    /// The bundle `nano`, which is part of the program: in float, and so what others are made from.
    ///
    /// # Errors
    /// [`BundleError`] if the program was built with a bundle that does not fit it.
    pub fn builtin() -> Result<Self, BundleError> {
        Self::part_of_program(&builtin::NANO)
    }

    /// What runs by default: of the bundles that are part of the program, the one that is fastest on this CPU. That is `nano-int8` where
    /// [`best`] finds kernels for the CPU's vector instructions, `nano` elsewhere.
    ///
    /// # Errors
    /// [`BundleError`] if the program was built with a bundle that does not fit it.
    pub fn fastest_builtin() -> Result<Self, BundleError> {
        Self::part_of_program(builtin::fastest(best().name()))
    }

    fn part_of_program(builtin: &Builtin) -> Result<Self, BundleError> {
        let origin = builtin.origin();
        let manifest = parse_manifest(&origin.join(MANIFEST), builtin.manifest)?;
        let mut files = BTreeMap::new();
        for (name, entry) in &manifest.files {
            let path = origin.join(name);
            let (_, content) = builtin.files.iter().find(|(n, _)| n == name).ok_or_else(|| BundleError::Io {
                path: path.clone(),
                cause: std::io::Error::from(std::io::ErrorKind::NotFound),
            })?;
            verify(&path, content, entry)?;
            files.insert(name.clone(), Cow::Borrowed(*content));
        }
        Self::checked(origin, manifest, files)
    }

    fn checked(
        origin: PathBuf,
        manifest: Manifest,
        files: BTreeMap<String, Cow<'static, [u8]>>,
    ) -> Result<Self, BundleError> {
        let path = origin.join(MANIFEST);
        let vocabulary = Vocabulary::new(manifest.vocabulary.clone())
            .map_err(|cause| BundleError::Vocabulary { path: path.clone(), cause })?;
        check_manifest(&path, &manifest, &vocabulary)?;
        Ok(Self { origin, manifest, vocabulary, files })
    }

    /// Where the bundle comes from, as [`ModelBundle::load`] takes it: its folder, or for instance `builtin:nano`.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Classes, verbs, validity.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The content of a file, `None` when the manifest does not list it.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(AsRef::as_ref)
    }
}

fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, BundleError> {
    let json = |cause| BundleError::Json { path: path.to_owned(), cause };
    // The schema first: a manifest of another version has other keys, and "unknown key" would be a misleading answer.
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(json)?;
    match value.get("schema").and_then(|s| s.as_str()) {
        Some(SCHEMA) => {}
        Some(other) => return Err(BundleError::Schema { path: path.to_owned(), found: other.to_owned() }),
        None => return Err(BundleError::Schema { path: path.to_owned(), found: "(none)".into() }),
    }
    serde_json::from_slice(bytes).map_err(json)
}

/// What serde cannot check: names that must exist, lengths that must agree, numbers in range.
fn check_manifest(path: &Path, manifest: &Manifest, vocabulary: &Vocabulary) -> Result<(), BundleError> {
    let wrong =
        |key: &str, reason: String| Err(BundleError::Key { path: path.to_owned(), key: key.to_owned(), reason });
    if manifest.kind != BundleKind::TwoStage {
        return wrong("kind", "`query` bundles are not supported by this version; `two_stage` is".into());
    }
    for (key, file) in [("detector.file", &manifest.detector.file), ("head.file", &manifest.head.file)] {
        if !manifest.files.contains_key(file) {
            return wrong(key, format!("`{file}` is not listed in `files`"));
        }
    }
    for name in manifest.precision.keys() {
        if !manifest.files.contains_key(name) {
            return wrong("precision", format!("`{name}` is not listed in `files`"));
        }
    }
    if let Err((key, reason)) = manifest.detector.check(vocabulary) {
        return wrong(&format!("detector.{key}"), reason);
    }
    let pairing = &manifest.pairing;
    for (key, value) in [("nms_iou", pairing.nms_iou), ("min_score", pairing.min_score)] {
        if !(0.0..=1.0).contains(&value) {
            return wrong(&format!("pairing.{key}"), format!("{value} is not between 0 and 1"));
        }
    }
    for (key, bounds) in [("humans", pairing.humans), ("objects", pairing.objects)] {
        if bounds.min > bounds.max || bounds.max > 100 {
            return wrong(
                &format!("pairing.{key}"),
                format!("min {} and max {}: min <= max <= 100 is needed", bounds.min, bounds.max),
            );
        }
    }
    match manifest.fusion.check(vocabulary, &manifest.head.outputs) {
        Ok(()) => {}
        Err(FusionError::Key { key, reason }) => return wrong(&format!("fusion.{key}"), reason),
        Err(other) => return wrong("fusion", other.to_string()),
    }
    for (data_set, table) in &manifest.evaluation {
        for (label, (verb, object)) in table {
            let known =
                vocabulary.verb(verb).is_some() && object.as_ref().is_none_or(|o| vocabulary.object(o).is_some());
            if !known {
                return wrong(
                    &format!("evaluation.{data_set}.{label}"),
                    format!("[{verb}, {object:?}] is not in the vocabulary"),
                );
            }
        }
    }
    Ok(())
}

/// Whether a name is relative and goes nowhere but down.
fn stays_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

/// The path of a bundle's file, or an error when it would leave the folder.
fn resolve(root: &Path, manifest_path: &Path, name: &str) -> Result<PathBuf, BundleError> {
    let outside = || BundleError::Outside { path: manifest_path.to_owned(), file: name.to_owned() };
    if !stays_inside(name) {
        return Err(outside());
    }
    let path = root.join(name);
    let real = path.canonicalize().map_err(|cause| BundleError::Io { path: path.clone(), cause })?;
    if real.starts_with(root) { Ok(real) } else { Err(outside()) }
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, BundleError> {
    let io = |cause| BundleError::Io { path: path.to_owned(), cause };
    // Before it is opened: opening a named pipe would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    let file = File::open(path).map_err(io)?;
    let bytes = metadata.len();
    if bytes > limit {
        return Err(BundleError::TooLarge { path: path.to_owned(), bytes, limit });
    }
    let mut content = Vec::with_capacity(bytes as usize);
    file.take(limit).read_to_end(&mut content).map_err(io)?;
    Ok(content)
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut s, b| {
        // Writing to a string cannot fail.
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn verify(path: &Path, content: &[u8], entry: &FileEntry) -> Result<(), BundleError> {
    let mismatch = |what, expected, found| Err(BundleError::Hash { path: path.to_owned(), what, expected, found });
    if content.len() as u64 != entry.bytes {
        return mismatch("length", entry.bytes.to_string(), content.len().to_string());
    }
    let found = sha256_hex(content);
    if found != entry.sha256 {
        return mismatch("sha256", entry.sha256.clone(), found);
    }
    Ok(())
}
