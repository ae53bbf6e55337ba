//! Pictures from files: one, or those of a folder.

use std::path::{Path, PathBuf};

use hoi_runtime::source::{Frame, ImageLimits, list_pictures, open_image};

use super::{OpenError, Taken};

/// Pictures from files, one after the other. A file is read only when its turn comes.
#[derive(Debug)]
pub(super) struct FileSource {
    pictures: Vec<PathBuf>,
    limits: ImageLimits,
    next: u64,
    end: u64,
}

impl FileSource {
    /// The picture, or the folder of pictures, at `path`, gone through `repeat` times. A file that is missing or no picture is found
    /// out when its turn comes.
    ///
    /// # Errors
    /// [`OpenError`] for a folder without pictures, or that cannot be read.
    pub(super) fn of_path(path: &Path, repeat: u32, limits: ImageLimits) -> Result<Self, OpenError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use hoi_runtime::source::SourceError;
    use image::RgbImage;

    #[test]
    fn a_folder_is_taken_by_name_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png"] {
            RgbImage::new(3, 2).save(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("c.jpg"), "no picture").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let taken: Vec<Taken> = FileSource::of_path(folder.path(), 2, ImageLimits::default()).unwrap().collect();
        let names: Vec<&str> = taken.iter().map(|t| t.source.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.png", "c.jpg", "a.png", "b.png", "c.jpg"]);
        let indices: Vec<Option<u64>> = taken.iter().map(|t| t.frame.as_ref().ok().map(|f| f.index)).collect();
        assert_eq!(indices, [Some(0), Some(1), None, Some(3), Some(4), None]);
        assert!(taken[0].frame.as_ref().is_ok_and(|f| f.source == taken[0].source));
    }

    #[test]
    fn an_empty_folder_is_an_error_and_a_missing_file_waits_for_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            FileSource::of_path(folder.path(), 1, ImageLimits::default()),
            Err(OpenError::NoPictures { .. })
        ));
        let gone = folder.path().join("gone.jpg");
        let mut source = FileSource::of_path(&gone, 1, ImageLimits::default()).unwrap();
        assert!(matches!(source.next().unwrap().frame, Err(SourceError::Io { .. })));
        assert!(source.next().is_none());
    }
}
