//! MATLAB 5 files (`.mat` up to version 7): the arrays that the data sets' files hold.
//!
//! Read: little-endian files, compressed or not, with arrays of numbers (real), of characters, cell arrays and structures. Refused:
//! complex and sparse arrays, objects, big-endian files, and version 7.3, which is another format (HDF5).
//!
//! Memory follows what the file holds, not what its headers claim; nesting and unpacked size are limited.

mod array;
mod element;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub use array::{Array, Record};
use element::{COMPRESSED, Limited, MATRIX, Tag};

use super::DatasetError;

/// Bytes before the first element.
const HEADER: usize = 128;

/// Most bytes that one variable may unpack to.
const UNPACKED_LIMIT: u64 = 4 << 30;

/// Why a MATLAB file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatError {
    /// The file cannot be read, or ends early.
    #[error("{place}: the file ends early or cannot be unpacked")]
    Read {
        /// The variable or header.
        place: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{place}: {reason}")]
    Format {
        /// The variable, or header.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// What this reader does not read.
    #[error("{place}: {what} is not supported: real numbers, characters, cells and structures of MATLAB 5 to 7 are")]
    Unsupported {
        /// The variable or header.
        place: String,
        /// What was found.
        what: String,
    },
    /// A variable is not in the file.
    #[error("no variable `{name}`: the file holds {found}")]
    Missing {
        /// The variable.
        name: String,
        /// The names of those that are there.
        found: String,
    },
}

/// A MATLAB file whose variables can be read one by one.
#[derive(Clone, Debug)]
pub struct MatFile {
    path: PathBuf,
}

impl MatFile {
    /// Opens the file and checks its header.
    ///
    /// # Errors
    /// [`DatasetError::Read`] when it cannot be read, [`DatasetError::Mat`] when it is no MATLAB 5 file.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = Self { path: path.to_owned() };
        file.start()?;
        Ok(file)
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one variable; the others are passed over.
    ///
    /// # Errors
    /// [`DatasetError::Mat`] when it is not there or cannot be read.
    pub fn variable(&self, name: &str) -> Result<Array, DatasetError> {
        let mut file = self.start()?;
        let error = |source| DatasetError::Mat { path: self.path.clone(), source };
        let mut names = Vec::new();
        loop {
            let Some(tag) = Tag::read_or_end(&mut file).map_err(|e| error(e.at("next variable")))? else {
                let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(error(MatError::Missing { name: name.to_owned(), found }));
            };
            let next =
                file.stream_position().map_err(|source| DatasetError::Read { path: self.path.clone(), source })?
                    + u64::from(tag.length);
            let found = match tag.kind {
                COMPRESSED => {
                    let packed = (&mut file).take(u64::from(tag.length));
                    let mut unpacked = Limited::new(flate2::read::ZlibDecoder::new(packed), UNPACKED_LIMIT);
                    let inner = Tag::read(&mut unpacked).map_err(|e| error(e.at("a compressed variable")))?;
                    if inner.kind == MATRIX {
                        array::variable(&mut unpacked, inner, name)
                    } else {
                        Ok(Err(String::new()))
                    }
                }
                MATRIX => array::variable(&mut Limited::new(&mut file, UNPACKED_LIMIT), tag, name),
                _ => Ok(Err(String::new())),
            };
            match found.map_err(|e| error(e.at(name)))? {
                Ok(array) => return Ok(array),
                Err(other) if !other.is_empty() => names.push(other),
                Err(_) => (),
            }
            file.seek(SeekFrom::Start(next))
                .map_err(|source| DatasetError::Read { path: self.path.clone(), source })?;
        }
    }

    fn start(&self) -> Result<BufReader<File>, DatasetError> {
        let read = |source| DatasetError::Read { path: self.path.clone(), source };
        let mut file = BufReader::new(File::open(&self.path).map_err(read)?);
        let mut header = Vec::new();
        (&mut file).take(HEADER as u64).read_to_end(&mut header).map_err(read)?;
        let error = |source| DatasetError::Mat { path: self.path.clone(), source };
        let place = || "header".to_owned();
        let format = |reason: &str| error(MatError::Format { place: place(), reason: reason.to_owned() });
        let unsupported = |what: &str| error(MatError::Unsupported { place: place(), what: what.to_owned() });
        if header.len() < HEADER {
            return Err(format("shorter than the header of a MATLAB 5 file"));
        }
        match (&header[124..126], &header[126..128]) {
            ([0, 1], b"IM") => Ok(file),
            ([0, 2], b"IM") => Err(unsupported("version 7.3 (HDF5)")),
            ([1, 0], b"MI") => Err(unsupported("a big-endian file")),
            _ => Err(format("not the header of a MATLAB 5 file")),
        }
    }
}
