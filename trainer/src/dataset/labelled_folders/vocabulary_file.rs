//! The lines of a vocabulary file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::KnownInteractionsError;

/// Bytes of a vocabulary file: some 50,000 interactions.
pub const VOCABULARY_FILE_LIMIT: u64 = 1 << 20;

/// The lines that hold something, numbered from 1, without comments and blanks around them. At least one.
pub(super) fn read(path: &Path) -> Result<Vec<(usize, String)>, KnownInteractionsError> {
    let bytes = read_bytes(path).map_err(|source| KnownInteractionsError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > VOCABULARY_FILE_LIMIT {
        return Err(KnownInteractionsError::TooLarge { path: path.to_owned(), limit: VOCABULARY_FILE_LIMIT });
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        KnownInteractionsError::NotUtf8 { path: path.to_owned(), line }
    })?;
    // Some editors begin a file with this mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).enumerate();
    let lines: Vec<_> = lines.filter(|(_, l)| !l.is_empty()).map(|(i, l)| (i + 1, l.to_owned())).collect();
    if lines.is_empty() {
        return Err(KnownInteractionsError::Empty { path: path.to_owned() });
    }
    Ok(lines)
}

/// At most a byte more than the limit.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    // Before it is opened: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(VOCABULARY_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
