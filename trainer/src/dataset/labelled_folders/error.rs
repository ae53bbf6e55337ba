//! Why folders of photos, or the names they may have, are refused.

use std::path::PathBuf;

use hoi_runtime::vocabulary::VocabularyError;

use super::FolderSummary;

fn suggestions(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (nearest: {})", nearest.join(", ")) }
}

/// Why the interactions that folders may be named after were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnownInteractionsError {
    /// A vocabulary file cannot be read.
    #[error("cannot read the vocabulary file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A vocabulary file that is too large to be one.
    #[error("{}: more than the {limit} bytes that a vocabulary file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A vocabulary file that is not text.
    #[error("{}, line {line}: not UTF-8: a vocabulary file is plain text, a line an interaction", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
    },
    /// A vocabulary file without an interaction.
    #[error("{}: no line with an interaction: a verb and an object class such as `juggle sports ball`, or a verb alone", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A verb that is not written as data sets do.
    #[error(
        "{}, line {line}: `{}` is no verb: letters, digits, `_` and `-` are expected, as in `walk_with`",
        path.display(),
        verb.escape_debug()
    )]
    Verb {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The line's first word.
        verb: String,
    },
    /// An object that the detector does not know.
    #[error(
        "{}, line {line}: `{}` is no object class of the detector{}; an interaction without one is a single word, as `play_violin`",
        path.display(),
        object.escape_debug(),
        suggestions(nearest)
    )]
    UnknownObject {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// What follows the verb.
        object: String,
        /// Classes with a similar name, the nearest first.
        nearest: Vec<String>,
    },
    /// The same interaction on two lines.
    #[error("{}, line {line}: `{interaction}` stands on line {first} already", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The line, 1-based.
        line: usize,
        /// The line that has it first.
        first: usize,
        /// The interaction as the line writes it.
        interaction: String,
    },
    /// Two interactions that no folder name tells apart: `play violin` and `play_violin`.
    #[error(
        "{place}: a folder \"{folder}\" would name both `{interaction}` and `{known}`, which is known already; one of them must go"
    )]
    SameFolderName {
        /// File and line, or the vocabulary.
        place: String,
        /// The one that is refused, as a vocabulary file writes it.
        interaction: String,
        /// The one that is there.
        known: String,
        /// The name that both share.
        folder: String,
    },
}

/// Why a folder of photos cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelledFoldersError {
    /// The folder is missing or cannot be read.
    #[error("cannot read the folder of photos {}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file where the folder should be.
    #[error("{} is no folder: one is needed that holds a folder of photos for each interaction, such as \"ride bicycle\"", path.display())]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// Too little is left to learn from.
    #[error(
        "{}: {} with photos, at least 2 are needed: a folder of photos for each, named verb and object, such as \"ride bicycle\"\n{summary}",
        path.display(),
        if *found == 1 { "1 interaction".to_owned() } else { format!("{found} interactions") }
    )]
    TooFew {
        /// The folder.
        path: PathBuf,
        /// Interactions with at least one readable photo.
        found: usize,
        /// What was found, left out and why.
        summary: Box<FolderSummary>,
    },
    /// The interactions do not make a vocabulary.
    #[error("{}: the interactions of its folders make no vocabulary", path.display())]
    Vocabulary {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: VocabularyError,
    },
}
