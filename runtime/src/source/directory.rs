//! The pictures of a directory, and the share of them that one of several machines takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::SourceError;

/// Share `index` of `count` of a list: the pictures at positions `index - 1`, `index - 1 + count`, ...
///
/// Written `i/n`, `i` from 1 to `n`. The shares of one list are disjoint and together are the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// A shard that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no shard: i/n with 1 <= i <= n is needed, for example 2/8")]
pub struct ShardError {
    /// What was written.
    pub text: String,
}

impl Shard {
    /// The share of `items` that falls to this shard, in order.
    pub fn select<T>(&self, items: Vec<T>) -> Vec<T> {
        items.into_iter().skip(self.index - 1).step_by(self.count).collect()
    }
}

impl Default for Shard {
    /// `1/1`: everything.
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err(ShardError { text: text.to_owned() }),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Extensions that count as pictures, in lower case.
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];

/// Whether the extension of `path` is that of a picture: jpg, jpeg, png, bmp or webp, in any case.
pub fn has_picture_extension(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// The pictures directly in `directory`, by extension, sorted by name so that every machine sees the same order. Hidden files and
/// subdirectories are left out.
///
/// # Errors
/// [`SourceError::Io`] when the directory cannot be read.
pub fn list_pictures(directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let io = |cause| SourceError::Io { path: directory.to_owned(), cause };
    let mut pictures = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        if has_picture_extension(&path) && !hidden && !path.is_dir() {
            pictures.push(path);
        }
    }
    pictures.sort();
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_disjoint_and_complete() {
        let items: Vec<u32> = (0..11).collect();
        let mut all: Vec<u32> =
            (1..=4).flat_map(|i| format!("{i}/4").parse::<Shard>().unwrap().select(items.clone())).collect();
        assert_eq!("2/4".parse::<Shard>().unwrap().select(items.clone()), [1, 5, 9]);
        all.sort_unstable();
        assert_eq!(all, items);
        assert_eq!(Shard::default().select(items.clone()), items);
        assert!("9/9".parse::<Shard>().unwrap().select(vec![1, 2]).is_empty());
    }

    #[test]
    fn bad_shards_are_refused() {
        for text in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/2", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
