//! The pictures that both bundles see.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hoi_runtime::source::list_pictures;

use super::{BundlesError, Warning};

/// The pictures of a folder without those left out.
#[derive(Debug)]
pub(super) struct Listed {
    /// Sorted; at least one.
    pub images: Vec<PathBuf>,
    /// How many were left out.
    pub left_out: usize,
    /// Names on the list that no picture has.
    pub warning: Option<Warning>,
}

/// The pictures directly in `folder`, without those that the file `leave_out` names.
pub(super) fn list(folder: &Path, leave_out: Option<&Path>) -> Result<Listed, BundlesError> {
    let all = list_pictures(folder).map_err(|source| BundlesError::Folder { source })?;
    let count = all.len();
    if count == 0 {
        return Err(BundlesError::NoImages { folder: folder.to_owned() });
    }
    let Some(path) = leave_out else { return Ok(Listed { images: all, left_out: 0, warning: None }) };
    let text =
        std::fs::read_to_string(path).map_err(|source| BundlesError::LeaveOut { path: path.to_owned(), source })?;
    let mut names = names(&text);
    let listed = names.len();
    // Each name is taken off the list where a picture bears it; what stays on it names nothing.
    let images: Vec<PathBuf> = all.into_iter().filter(|p| !p.file_name().is_some_and(|n| names.remove(n))).collect();
    if images.is_empty() {
        return Err(BundlesError::AllLeftOut { folder: folder.to_owned(), count });
    }
    let warning = names.first().map(|example| Warning::NotThere {
        list: path.display().to_string(),
        names: names.len(),
        of: listed,
        example: example.to_string_lossy().into_owned(),
    });
    Ok(Listed { left_out: count - images.len(), images, warning })
}

/// The file names of a list, one a line; of a path the last part counts.
fn names(text: &str) -> BTreeSet<OsString> {
    text.lines().filter_map(|line| Path::new(line.trim()).file_name()).map(OsString::from).collect()
}
