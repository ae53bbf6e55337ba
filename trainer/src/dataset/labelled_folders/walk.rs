//! What lies in a folder and the folders below it.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use hoi_runtime::source::has_picture_extension;

/// What was found, by kind.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that are pictures by their extension.
    pub(super) pictures: Vec<PathBuf>,
    /// Folders directly inside; only [`list`] leaves them unopened.
    pub(super) folders: Vec<PathBuf>,
    /// Other files.
    pub(super) not_pictures: usize,
    /// Names that begin with a dot.
    pub(super) hidden: usize,
    /// What cannot be looked at, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// Links to folders that were, or would be, read anyway.
    pub(super) not_followed: Vec<PathBuf>,
}

/// What lies directly in `folder`, in no order.
pub(super) fn list(folder: &Path) -> std::io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")) {
            found.hidden += 1;
            continue;
        }
        match fs::metadata(&path) {
            Err(error) => found.unreadable.push((path, error.to_string())),
            Ok(metadata) if metadata.is_dir() => found.folders.push(path),
            Ok(_) if has_picture_extension(&path) => found.pictures.push(path),
            Ok(_) => found.not_pictures += 1,
        }
    }
    Ok(found)
}

/// What lies in `folder` and below. Links to folders are followed once each, and never up to `root` (canonical) or a folder that holds it.
pub(super) fn walk(folder: &Path, root: &Path) -> Found {
    let mut found = Found::default();
    let mut visited: HashSet<PathBuf> = HashSet::new();
    // Links wait until all real folders are read, so that a folder is found under its own name.
    let (mut real, mut links) = (Vec::new(), Vec::new());
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    if is_link(folder) {
        links.push(folder.to_owned())
    } else {
        real.push(folder.to_owned())
    }
    while let Some(next) = real.pop().or_else(|| links.pop()) {
        let own = match next.canonicalize() {
            Ok(own) => own,
            Err(error) => {
                found.unreadable.push((next, error.to_string()));
                continue;
            }
        };
        if root.starts_with(&own) || !visited.insert(own) {
            found.not_followed.push(next);
            continue;
        }
        match list(&next) {
            Err(error) => found.unreadable.push((next, error.to_string())),
            Ok(inside) => {
                let (to_links, to_real): (Vec<_>, Vec<_>) = inside.folders.into_iter().partition(|p| is_link(p));
                real.extend(to_real);
                links.extend(to_links);
                links.sort_unstable_by(|a, b| b.cmp(a));
                found.pictures.extend(inside.pictures);
                found.not_pictures += inside.not_pictures;
                found.hidden += inside.hidden;
                found.unreadable.extend(inside.unreadable);
            }
        }
    }
    found
}
