//! Where the pictures come from, by URI.
//!
//! `file://photo.jpg`, `file:///home/pi/photo.jpg` or a plain path; a folder gives its pictures sorted by name. Cameras and streams
//! (`v4l2`, `csi`, `rtsp`, `http`) are refused by name.

use std::path::{Path, PathBuf};

use hoi_runtime::source::{Frame, ImageLimits, SourceError, list_pictures, open_image};

/// Schemes that are planned and not there yet.
const PLANNED: [&str; 6] = ["v4l2", "csi", "rtsp", "http", "https", "test"];

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A kind of source that later versions have.
    #[error(
        "source {uri}: `{scheme}` is not in this version; pictures and folders are: file://photo.jpg, file://photos"
    )]
    NotInThisVersion {
        /// The URI as given.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// No kind of source that anyone plans.
    #[error("source {uri}: unknown scheme `{scheme}`; file://photo.jpg or file://photos is needed")]
    UnknownScheme {
        /// The URI as given.
        uri: String,
        /// Its scheme.
        scheme: String,
    },
    /// Nothing after the scheme.
    #[error("source `{uri}` names no file; file://photo.jpg or file://photos is needed")]
    NoPath {
        /// The URI as given.
        uri: String,
    },
    /// A folder without pictures.
    #[error("source {folder}: no .jpg, .jpeg, .png, .bmp or .webp pictures in this folder")]
    NoPictures {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that cannot be read.
    #[error(transparent)]
    Folder(#[from] SourceError),
}

impl OpenError {
    /// Whether the command line is wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NotInThisVersion { .. } | Self::UnknownScheme { .. } | Self::NoPath { .. })
    }
}

/// One step of a source: a picture, or why it could not be had.
#[derive(Debug)]
pub struct Taken {
    /// The picture's URI.
    pub source: String,
    /// The picture; its index is the position in the run.
    pub frame: Result<Frame, SourceError>,
}

/// Pictures from files, one after the other. A file is read only when its turn comes.
#[derive(Debug)]
pub struct FileSource {
    pictures: Vec<PathBuf>,
    limits: ImageLimits,
    next: u64,
    end: u64,
}

impl FileSource {
    /// Opens the source that `uri` names; its pictures are gone through `repeat` times.
    ///
    /// A file that is missing or no picture is found out when its turn comes.
    ///
    /// # Errors
    /// [`OpenError`] for a scheme that is not in this version and for a folder without pictures.
    pub fn open(uri: &str, repeat: u32, limits: ImageLimits) -> Result<Self, OpenError> {
        let path = path_of(uri)?;
        let pictures = if path.is_dir() { list_pictures(path)? } else { vec![path.to_owned()] };
        if pictures.is_empty() {
            return Err(OpenError::NoPictures { folder: path.to_owned() });
        }
        let end = pictures.len() as u64 * u64::from(repeat);
        Ok(Self { pictures, limits, next: 0, end })
    }
}

impl Iterator for FileSource {
    type Item = Taken;

    fn next(&mut self) -> Option<Taken> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let path = &self.pictures[(index % self.pictures.len() as u64) as usize];
        let frame = open_image(path, &self.limits).map(|frame| Frame { index, ..frame });
        Some(Taken { source: format!("file://{}", path.display()), frame })
    }
}

/// The path that a URI names; text without `://` is a path.
fn path_of(uri: &str) -> Result<&Path, OpenError> {
    let path = match uri.split_once("://") {
        None => uri,
        Some(("file", path)) => path,
        Some((scheme, _)) => {
            let (uri, scheme) = (uri.to_owned(), scheme.to_owned());
            return Err(if PLANNED.contains(&scheme.as_str()) {
                OpenError::NotInThisVersion { uri, scheme }
            } else {
                OpenError::UnknownScheme { uri, scheme }
            });
        }
    };
    if path.is_empty() {
        return Err(OpenError::NoPath { uri: uri.to_owned() });
    }
    Ok(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    #[test]
    fn uris_by_hand() {
        assert_eq!(path_of("file://a/b.jpg").unwrap(), Path::new("a/b.jpg"));
        assert_eq!(path_of("file:///a/b.jpg").unwrap(), Path::new("/a/b.jpg"));
        assert_eq!(path_of("a b%20.jpg").unwrap(), Path::new("a b%20.jpg"));
        for uri in ["v4l2:///dev/video0", "rtsp://camera", "csi://0", "http://camera/stream"] {
            let error = path_of(uri).unwrap_err();
            assert!(error.is_usage() && matches!(error, OpenError::NotInThisVersion { .. }), "{error}");
            assert!(error.to_string().contains("file://"), "{error}");
        }
        assert!(matches!(path_of("foo://x"), Err(OpenError::UnknownScheme { .. })));
        assert!(matches!(path_of("file://"), Err(OpenError::NoPath { .. })));
        assert!(matches!(path_of(""), Err(OpenError::NoPath { .. })));
    }

    #[test]
    fn a_folder_is_taken_by_name_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png"] {
            RgbImage::new(3, 2).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("c.jpg"), "no picture").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let uri = format!("file://{}", folder.path().display());
        let taken: Vec<Taken> = FileSource::open(&uri, 2, ImageLimits::default()).unwrap().collect();
        let names: Vec<&str> = taken.iter().map(|t| t.source.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.png", "c.jpg", "a.png", "b.png", "c.jpg"]);
        let indices: Vec<Option<u64>> = taken.iter().map(|t| t.frame.as_ref().ok().map(|f| f.index)).collect();
        assert_eq!(indices, [Some(0), Some(1), None, Some(3), Some(4), None]);
        assert!(taken[0].frame.as_ref().is_ok_and(|f| f.source == taken[0].source));
    }

    #[test]
    fn an_empty_folder_is_an_error_and_a_missing_file_waits_for_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let uri = folder.path().to_str().unwrap();
        assert!(matches!(FileSource::open(uri, 1, ImageLimits::default()), Err(OpenError::NoPictures { .. })));
        let gone = folder.path().join("gone.jpg");
        let mut source = FileSource::open(gone.to_str().unwrap(), 1, ImageLimits::default()).unwrap();
        assert!(matches!(source.next().unwrap().frame, Err(SourceError::Io { .. })));
        assert!(source.next().is_none());
    }
}
