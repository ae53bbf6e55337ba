//! Pictures with boxes of named classes.
//!
//! A folder holds `annotations.json` (`{names, images: [{file, width, height, objects: [{label, box: [x1, y1, x2, y2]}]}]}`, 0-based continuous
//! pixels) and the pictures beside it in `images`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use image::RgbImage;
use serde::Deserialize;

use super::folder::read_picture;
use super::{DatasetError, read_json};

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxedPicture {
    /// File name in [`BoxedPictures::images`].
    pub file: String,
    /// Size in pixels.
    pub size: Size,
    /// Index into [`BoxedPictures::names`] and place of each object.
    pub boxes: Vec<(usize, BBox)>,
}

/// The pictures of a folder.
#[derive(Clone, Debug)]
pub struct BoxedPictures {
    /// Where the pictures lie.
    pub images: PathBuf,
    /// Names of the classes.
    pub names: Vec<String>,
    /// In the order of the annotation.
    pub pictures: Vec<BoxedPicture>,
}

#[derive(Deserialize)]
struct Document {
    names: Vec<String>,
    images: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    file: String,
    width: u32,
    height: u32,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    label: usize,
    #[serde(rename = "box")]
    bbox: [f32; 4],
}

impl BoxedPictures {
    /// Reads a folder's annotation. Pictures in `without` are left out.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file and what is wrong with it.
    pub fn load(root: &Path, without: &HashSet<String>) -> Result<Self, DatasetError> {
        let path = root.join("annotations.json");
        let document: Document = read_json(&path, "{names, images: [{file, width, height, objects: [{label, box}]}]}")?;
        let mut pictures = Vec::with_capacity(document.images.len());
        for Picture { file, width, height, objects } in document.images {
            if without.contains(&file) {
                continue;
            }
            if let Some(unknown) = objects.iter().find(|o| o.label >= document.names.len()) {
                let reason = format!("label {} has no name among {}", unknown.label, document.names.len());
                return Err(DatasetError::Inconsistent { path, record: file, reason });
            }
            let boxes = objects.iter().map(|o| (o.label, BBox::new(o.bbox[0], o.bbox[1], o.bbox[2], o.bbox[3])));
            pictures.push(BoxedPicture { file, size: Size::new(width, height), boxes: boxes.collect() });
        }
        Ok(Self { images: root.join("images"), names: document.names, pictures })
    }

    /// Reads a picture.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file when it is missing, cannot be decoded, or has another size than its annotation says.
    pub fn open(&self, index: usize) -> Result<RgbImage, DatasetError> {
        let BoxedPicture { file, size, .. } = &self.pictures[index];
        open_annotated(&self.images, file, *size)
    }
}

/// Reads the picture `file` of a folder, which must have this size.
///
/// # Errors
/// [`DatasetError`] naming the file when it is missing, cannot be decoded, or has another size than its annotation says.
pub(super) fn open_annotated(folder: &Path, file: &str, expected: Size) -> Result<RgbImage, DatasetError> {
    let path = folder.join(file);
    let pixels = read_picture(&path)?;
    let size = Size::new(pixels.width(), pixels.height());
    if size != expected {
        let reason = format!("the picture is {size}, its annotation says {expected}");
        return Err(DatasetError::Inconsistent { path, record: file.to_owned(), reason });
    }
    Ok(pixels)
}
