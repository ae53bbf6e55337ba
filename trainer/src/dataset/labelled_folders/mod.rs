//! Photos sorted into folders: each folder is an interaction, its photos show it somewhere, and nothing says where.
//!
//! ```text
//! photos/ride bicycle/*.jpg      the verb `ride` with a bicycle
//! photos/sit_on couch/*.png      the verb `sit_on` with a couch
//! photos/play violin/*.jpg       the verb `play_violin`, where a vocabulary file has it
//! ```
//!
//! What cannot be used is left out and named in a [`FolderSummary`]; an error is only what leaves nothing to learn from.

mod check;
mod error;
mod known;
mod spelling;
mod summary;
#[cfg(test)]
mod tests;
mod vocabulary_file;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::Size;
use hoi_runtime::source::SourceError;
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary, VocabularyError, VocabularySpec};

pub use error::{KnownInteractionsError, LabelledFoldersError};
pub use known::KnownInteractions;
pub use summary::{
    DuplicatePhoto, EmptyFolder, FolderSummary, InteractionCount, MergedFolders, SharedPhoto, UnknownFolder, Unreadable,
};
pub use vocabulary_file::VOCABULARY_FILE_LIMIT;

use super::ImageLabel;
use check::Checked;
use walk::Found;

/// Fewer interactions than this cannot be told apart.
const FEWEST_INTERACTIONS: usize = 2;

/// A photo and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledPhoto {
    /// The file; where several have the same content, the first by path.
    pub path: PathBuf,
    /// Its interactions, each once, in the order of [`LabelledFolders::interactions`]; at least one.
    pub labels: Vec<ImageLabel>,
    /// Size in pixels, upright.
    pub size: Size,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub digest: String,
}

/// An interaction that photos show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledInteraction {
    /// Verb and object in [`LabelledFolders::vocabulary`].
    pub label: ImageLabel,
    /// "sit on couch".
    pub name: String,
    /// Photos that carry it.
    pub photos: usize,
}

/// Photos with the interactions of the folders they lie in.
#[derive(Clone, Debug)]
pub struct LabelledFolders {
    /// Different photos, by rising path.
    pub photos: Vec<LabelledPhoto>,
    /// Interactions with at least one photo: by object, then verb; then those without an object.
    pub interactions: Vec<LabelledInteraction>,
    /// What was found and what was left out.
    pub summary: FolderSummary,
    vocabulary: Vocabulary,
}

/// Files of one interaction's folder.
struct Folder {
    entry: usize,
    name: String,
    found: Found,
}

/// A photo whose interactions are indices into the known ones.
struct Draft {
    /// Known interaction and the first file for it.
    copies: Vec<(usize, PathBuf)>,
    checked: Checked,
}

impl LabelledFolders {
    /// Reads the folders inside `root`. Each is named after an interaction of `known`; folders inside it belong to it. Every photo is decoded
    /// once, as the board does, to see that it can be; at most four are in memory.
    ///
    /// # Errors
    /// [`LabelledFoldersError`]: `root` is missing or no folder; fewer than two interactions have a photo; they make no vocabulary.
    pub fn read(root: &Path, known: &KnownInteractions) -> Result<Self, LabelledFoldersError> {
        let read = |source| LabelledFoldersError::Read { path: root.to_owned(), source };
        if !std::fs::metadata(root).map_err(read)?.is_dir() {
            return Err(LabelledFoldersError::NotAFolder { path: root.to_owned() });
        }
        let mut top = walk::list(root).map_err(read)?;
        let canonical = root.canonicalize().map_err(read)?;
        let mut summary = FolderSummary { pictures_in_root: top.pictures.len(), ..FolderSummary::default() };
        let mut folders = Vec::new();
        top.folders.sort();
        for path in std::mem::take(&mut top.folders) {
            let name = relative(&path, root);
            let mut found = walk::walk(&path, &canonical);
            summary.take(&mut found, root);
            match known.find(&name) {
                Some(entry) => folders.push(Folder { entry, name, found }),
                None => summary.unknown_folders.push(UnknownFolder {
                    pictures: found.pictures.len(),
                    nearest: known.nearest(&name).into_iter().map(str::to_owned).collect(),
                    vocabulary_line: known.vocabulary_line(&name),
                    folder: name,
                }),
            }
        }
        summary.take(&mut top, root);
        summary.merged = merged(&folders, known);
        let drafts = drafts(&folders, root, &mut summary);
        summary.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
        Self::label(drafts, known, summary, root)
    }

    /// Objects of the detector, with the verbs of these interactions, in the order of the known ones, and no others.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn label(
        drafts: Vec<Draft>,
        known: &KnownInteractions,
        mut summary: FolderSummary,
        root: &Path,
    ) -> Result<Self, LabelledFoldersError> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for (entry, _) in drafts.iter().flat_map(|d| &d.copies) {
            *counts.entry(*entry).or_default() += 1;
        }
        summary.photos = drafts.len();
        if counts.len() < FEWEST_INTERACTIONS {
            let (path, found) = (root.to_owned(), counts.len());
            let count = |(entry, photos): (usize, usize)| {
                let interaction = known.entries[entry].name.clone();
                InteractionCount { interaction, photos }
            };
            summary.interactions = counts.into_iter().map(count).collect();
            return Err(LabelledFoldersError::TooFew { path, found, summary: Box::new(summary) });
        }
        let used: Vec<usize> = counts.keys().copied().collect();
        let refused = |source| LabelledFoldersError::Vocabulary { path: root.to_owned(), source };
        let (vocabulary, labels) = vocabulary_of(&used, known).map_err(refused)?;
        let interaction = |(entry, photos)| LabelledInteraction {
            label: labels[&entry],
            name: known.entries[entry].name.clone(),
            photos,
        };
        let mut interactions: Vec<LabelledInteraction> = counts.into_iter().map(interaction).collect();
        interactions.sort_by_key(|i| order(&i.label));
        let count = |i: &LabelledInteraction| InteractionCount { interaction: i.name.clone(), photos: i.photos };
        summary.interactions = interactions.iter().map(count).collect();
        for draft in drafts.iter().filter(|d| d.copies.len() > 1) {
            let of = |(entry, _): &&(usize, PathBuf)| order(&labels[entry]);
            let mut copies: Vec<_> = draft.copies.iter().collect();
            copies.sort_by_key(of);
            summary.shared.push(SharedPhoto {
                paths: copies.iter().map(|(_, path)| relative(path, root)).collect(),
                interactions: copies.iter().map(|(entry, _)| known.entries[*entry].name.clone()).collect(),
            });
        }
        let photos = drafts.into_iter().filter_map(|draft| {
            let mut of: Vec<ImageLabel> = draft.copies.iter().map(|(entry, _)| labels[entry]).collect();
            of.sort_by_key(order);
            let path = draft.copies.into_iter().next()?.1;
            Some(LabelledPhoto { path, labels: of, size: draft.checked.size, digest: draft.checked.digest })
        });
        Ok(Self { photos: photos.collect(), interactions, summary, vocabulary })
    }
}

impl FolderSummary {
    /// Notes everything of a folder but its pictures.
    fn take(&mut self, found: &mut Found, root: &Path) {
        self.not_pictures += found.not_pictures;
        self.hidden += found.hidden;
        let unreadable = std::mem::take(&mut found.unreadable);
        let unreadable =
            unreadable.into_iter().map(|(path, reason)| Unreadable { path: relative(&path, root), reason });
        self.unreadable.extend(unreadable);
        self.links_not_followed.extend(found.not_followed.iter().map(|path| relative(path, root)));
    }
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

/// By object, then verb; then those without an object.
fn order(label: &ImageLabel) -> (bool, Option<ObjectClass>, Verb) {
    (label.object.is_none(), label.object, label.verb)
}

fn merged(folders: &[Folder], known: &KnownInteractions) -> Vec<MergedFolders> {
    let mut of: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for folder in folders {
        of.entry(folder.entry).or_default().push(folder.name.clone());
    }
    let several = of.into_iter().filter(|(_, folders)| folders.len() > 1);
    several.map(|(entry, folders)| MergedFolders { interaction: known.entries[entry].name.clone(), folders }).collect()
}

/// Decodes all pictures and puts equal ones together; by rising path of the first file.
fn drafts(folders: &[Folder], root: &Path, summary: &mut FolderSummary) -> Vec<Draft> {
    let mut files: Vec<(&Path, usize)> = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        files.extend(folder.found.pictures.iter().map(|path| (path.as_path(), number)));
    }
    files.sort_unstable();
    let paths: Vec<&Path> = files.iter().map(|f| f.0).collect();
    let mut readable = vec![0usize; folders.len()];
    let mut drafts: Vec<Draft> = Vec::new();
    let mut by_digest: HashMap<String, usize> = HashMap::new();
    for ((path, number), checked) in files.into_iter().zip(check::check_all(&paths)) {
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => {
                summary.unreadable.push(Unreadable { path: relative(path, root), reason: reason(&error, path) });
                continue;
            }
        };
        readable[number] += 1;
        let entry = folders[number].entry;
        let next = drafts.len();
        let draft = *by_digest.entry(checked.digest.clone()).or_insert(next);
        if draft == next {
            drafts.push(Draft { copies: vec![(entry, path.to_owned())], checked });
            continue;
        }
        let copies = &mut drafts[draft].copies;
        match copies.iter().find(|c| c.0 == entry) {
            Some((_, kept)) => {
                let (path, kept) = (relative(path, root), relative(kept, root));
                summary.duplicates.push(DuplicatePhoto { path, kept });
            }
            None => copies.push((entry, path.to_owned())),
        }
    }
    let empty = folders.iter().zip(readable).filter(|(_, readable)| *readable == 0);
    let empty = empty.map(|(f, _)| EmptyFolder { folder: f.name.clone(), unreadable: f.found.pictures.len() });
    summary.empty_folders.extend(empty);
    drafts
}

/// The error without the path, which stands beside it.
fn reason(error: &SourceError, path: &Path) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text).to_owned()
}

/// The vocabulary of these known interactions alone, and the label of each in it.
fn vocabulary_of(
    used: &[usize],
    known: &KnownInteractions,
) -> Result<(Vocabulary, HashMap<usize, ImageLabel>), VocabularyError> {
    let mut verbs: Vec<usize> = used.iter().map(|&e| known.entries[e].verb).collect();
    verbs.sort_unstable();
    verbs.dedup();
    let mut valid: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut alone = Vec::new();
    let mut labels = HashMap::new();
    for &used in used {
        let entry = &known.entries[used];
        let name = known.verbs[entry.verb].clone();
        match entry.object {
            Some(object) => valid.entry(known.objects[usize::from(object.0)].clone()).or_default().push(name),
            None => alone.push(name),
        }
        let verb = verbs.partition_point(|&v| v < entry.verb) as u16;
        labels.insert(used, ImageLabel { verb: Verb(verb), object: entry.object });
    }
    let verbs: Vec<String> = verbs.into_iter().map(|v| known.verbs[v].clone()).collect();
    let vocabulary = Vocabulary::new(VocabularySpec {
        human: known.human.clone(),
        objects: known.objects.clone(),
        background_verb: known.background.clone().filter(|b| verbs.contains(b)),
        verbs,
        valid,
        alone,
    })?;
    Ok((vocabulary, labels))
}
