//! Finding files and pictures in a folder that may be laid out in one of the usual ways.

use std::path::{Path, PathBuf};

use hoi_runtime::geometry::Size;
use image::{ImageReader, RgbImage};

use super::DatasetError;

/// The first file that is there: by rising place of the name, then of the folder below `root`, plain before `.gz`.
pub(super) fn find(root: &Path, folders: &[&str], names: &[&str]) -> Option<PathBuf> {
    for name in names {
        for folder in folders {
            let plain = root.join(folder).join(name);
            let packed = root.join(folder).join(format!("{name}.gz"));
            if let Some(found) = [plain, packed].into_iter().find(|path| path.is_file()) {
                return Some(found);
            }
        }
    }
    None
}

/// Where the pictures of a data set lie.
#[derive(Clone, Debug)]
pub struct PictureFolder {
    root: PathBuf,
    folders: &'static [&'static str],
}

impl PictureFolder {
    /// Pictures below `root`, in one of `folders`.
    pub(super) fn new(root: &Path, folders: &'static [&'static str]) -> Self {
        Self { root: root.to_owned(), folders }
    }

    /// The path of the picture of the first of these names that is there.
    pub fn find(&self, names: &[&str]) -> Option<PathBuf> {
        let paths =
            self.folders.iter().flat_map(|folder| names.iter().map(move |name| self.root.join(folder).join(name)));
        paths.into_iter().find(|path| path.is_file())
    }

    /// The same, or where it should be.
    ///
    /// # Errors
    /// [`DatasetError::NothingFound`] with the folders that were searched.
    pub fn path(&self, names: &[&str]) -> Result<PathBuf, DatasetError> {
        self.find(names).ok_or_else(|| {
            let folders: Vec<&str> = self.folders.iter().map(|f| if f.is_empty() { "." } else { f }).collect();
            DatasetError::NothingFound {
                folder: self.root.clone(),
                what: format!("picture {}", names.join(" or ")),
                looked_for: format!("it in {}", folders.join(", ")),
            }
        })
    }
}

fn reader(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>, DatasetError> {
    let read = |source| DatasetError::Read { path: path.to_owned(), source };
    ImageReader::open(path).map_err(read)?.with_guessed_format().map_err(read)
}

/// Decodes a picture to 8 bits RGB. Orientation marks are not followed: the annotations are not either.
pub(super) fn read_picture(path: &Path) -> Result<RgbImage, DatasetError> {
    let picture = reader(path)?.decode();
    Ok(picture.map_err(|source| DatasetError::Picture { path: path.to_owned(), source })?.into_rgb8())
}

/// Size of a picture, from its header alone.
pub(super) fn picture_size(path: &Path) -> Result<Size, DatasetError> {
    let size = reader(path)?.into_dimensions();
    let (width, height) = size.map_err(|source| DatasetError::Picture { path: path.to_owned(), source })?;
    Ok(Size::new(width, height))
}
