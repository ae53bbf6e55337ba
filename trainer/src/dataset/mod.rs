//! Data sets as they are published, read and checked.

pub mod augment;
pub mod boxed;
mod boxes;
pub mod bystanders;
pub mod check;
mod coco;
mod entities;
mod error;
mod folder;
mod fraction;
pub mod hico_det;
mod hoia;
mod image_label;
pub mod labelled_folders;
pub mod layout;
pub mod loader;
pub mod mat5;
mod picture;
pub mod proposals;
pub mod rendered;
pub mod stanford40;
pub mod v_coco;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use serde::de::DeserializeOwned;

pub use coco::class_of_coco_id;
pub use entities::ENTITY_IOU;
pub use error::DatasetError;
pub use folder::PictureFolder;
pub use fraction::{FRACTIONS, fraction};
pub use image_label::ImageLabel;
pub use picture::{AnnotatedPicture, EntityLabel, PairLabel, PictureSet};

/// One annotated human-object pair of one interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnnotatedPair {
    /// Box of the human, 0-based continuous pixels of the original image.
    pub human: BBox,
    /// Box of the object, in the same space.
    pub object: BBox,
    /// Index into the data set's table of interactions.
    pub interaction: usize,
}

/// An image with its annotated pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotatedImage {
    /// File name of the image.
    pub name: String,
    /// The number in the file name. Numbers are not contiguous.
    pub number: u64,
    /// Size of the image; `None` where the annotation does not say it (HAKE: images without a label).
    pub size: Option<Size>,
    /// One entry per pair and interaction: the same boxes, sometimes slightly moved, are repeated for every verb.
    pub pairs: Vec<AnnotatedPair>,
}

/// Reads a JSON document; a name ending in `.gz` is unpacked on the way.
fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, DatasetError> {
    let read = |source| DatasetError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut text = Vec::new();
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::GzDecoder::new(file).read_to_end(&mut text).map_err(read)?;
    } else {
        file.read_to_end(&mut text).map_err(read)?;
    }
    serde_json::from_slice(&text).map_err(|source| DatasetError::Format { path: path.to_owned(), expected, source })
}
