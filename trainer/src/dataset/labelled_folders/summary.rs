//! What was found in folders of photos, and everything that was left out.

use std::fmt;

use serde::Serialize;

/// So many of a kind are shown; all are serialised.
const SHOWN: usize = 10;

/// What was found in folders of photos and what was left out or odd. Paths are relative to the folder that was read.
///
/// It is displayed as lines of text, at most ten of a kind, and serialised in full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FolderSummary {
    /// Different photos that can be decoded.
    pub photos: usize,
    /// Interactions that have photos.
    pub interactions: Vec<InteractionCount>,
    /// Folders whose name is no known interaction: left out.
    pub unknown_folders: Vec<UnknownFolder>,
    /// Folders of a known interaction without a photo that can be decoded.
    pub empty_folders: Vec<EmptyFolder>,
    /// Pictures that cannot be decoded, and files or folders that cannot be read: left out.
    pub unreadable: Vec<Unreadable>,
    /// Folders whose names mean the same interaction: their photos are put together.
    pub merged: Vec<MergedFolders>,
    /// Photos in folders of several interactions: each is one photo with several labels.
    pub shared: Vec<SharedPhoto>,
    /// Photos that are there more than once for one interaction: each counts once.
    pub duplicates: Vec<DuplicatePhoto>,
    /// Links to folders that lead back to where they lie or to what is read anyway.
    pub links_not_followed: Vec<String>,
    /// Pictures beside the folders, which have no label: left out.
    pub pictures_in_root: usize,
    /// Files that are no pictures by their extension, unknown folders included: left out.
    pub not_pictures: usize,
    /// Files and folders whose name begins with a dot: left out.
    pub hidden: usize,
}

/// Photos of an interaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InteractionCount {
    /// "sit on couch".
    pub interaction: String,
    /// Different photos that carry it.
    pub photos: usize,
}

/// A folder whose name is no known interaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnknownFolder {
    /// Its name.
    pub folder: String,
    /// Pictures in it by extension; they were not opened.
    pub pictures: usize,
    /// Known interactions with a similar name, at most three, the nearest first.
    pub nearest: Vec<String>,
    /// The line of a vocabulary file that would make the name known, where one would.
    pub vocabulary_line: Option<String>,
}

/// A folder without a photo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EmptyFolder {
    /// Its name.
    pub folder: String,
    /// Pictures in it that cannot be decoded.
    pub unreadable: usize,
}

/// A picture that cannot be decoded, or a folder that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Which.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Folders of one interaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MergedFolders {
    /// "sit on couch".
    pub interaction: String,
    /// Their names.
    pub folders: Vec<String>,
}

/// A photo with several labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedPhoto {
    /// Files with its content, the first of each interaction.
    pub paths: Vec<String>,
    /// What it is said to show.
    pub interactions: Vec<String>,
}

/// A file whose content is there already for the same interaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicatePhoto {
    /// The file that does not count.
    pub path: String,
    /// The file that does.
    pub kept: String,
}

/// "1 photo", "2 photos".
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

/// A heading with its items below, or nothing where there is none.
fn section<T>(f: &mut fmt::Formatter<'_>, heading: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n{heading}: {}", items.len())?;
    for item in items.iter().take(SHOWN) {
        write!(f, "\n  {}", show(item))?;
    }
    match items.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, "\n  and {more} more"),
    }
}

impl UnknownFolder {
    fn line(&self) -> String {
        let pictures = count(self.pictures, "picture", "pictures");
        let nearest =
            if self.nearest.is_empty() { String::new() } else { format!("nearest: {}; ", quoted(&self.nearest)) };
        let remedy = match &self.vocabulary_line {
            Some(line) => format!("to make it known, the line `{line}` in a vocabulary file"),
            None => "to be known it must be named verb and object".to_owned(),
        };
        format!("{:?} ({pictures}): {nearest}{remedy}", self.folder)
    }
}

impl fmt::Display for FolderSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", count(self.photos, "photo", "photos"))?;
        section(f, "interactions", &self.interactions, |i| {
            format!("{} ({})", i.interaction, count(i.photos, "photo", "photos"))
        })?;
        section(f, "folders left out, whose name is no known interaction", &self.unknown_folders, UnknownFolder::line)?;
        section(f, "folders without a photo", &self.empty_folders, |e| match e.unreadable {
            0 => format!("{:?}", e.folder),
            n => format!("{:?} ({} that cannot be read)", e.folder, count(n, "picture", "pictures")),
        })?;
        section(f, "left out, cannot be read", &self.unreadable, |u| format!("{:?}: {}", u.path, u.reason))?;
        section(f, "interactions put together from several folders", &self.merged, |m| {
            format!("{} from {}", m.interaction, quoted(&m.folders))
        })?;
        section(f, "photos in several folders, which get all their labels", &self.shared, |s| {
            format!("{}: {}", s.interactions.join(", "), quoted(&s.paths))
        })?;
        section(f, "copies in the same folder, which count once", &self.duplicates, |d| {
            format!("{:?} is {:?}", d.path, d.kept)
        })?;
        section(f, "links not followed, to folders that are read anyway", &self.links_not_followed, |l| {
            format!("{l:?}")
        })?;
        let left = [
            (self.pictures_in_root, "pictures beside the folders, which have no label"),
            (self.not_pictures, "files that are no pictures"),
            (self.hidden, "hidden files and folders"),
        ];
        left.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, what)| write!(f, "\nleft out, {what}: {n}"))
    }
}
