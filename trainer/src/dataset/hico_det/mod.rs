//! HICO-DET: the class table, HAKE's annotation of the training split, hicodet's annotation of the test split, and the lists of
//! the Known-Object mode and of the held-out part.
//!
//! The files hold 1-based inclusive boxes; here all are 0-based continuous pixels of the original image. Images are not needed.

mod annotations;
mod classes;
mod image_lists;

use std::path::{Path, PathBuf};

use super::{AnnotatedImage, DatasetError};
pub use annotations::{read_hake, read_hicodet};
pub use classes::{COCO_80, InteractionClass, InteractionTable, NO_INTERACTION, RARE_BELOW};
pub use image_lists::{HeldOut, KnownObjectImages, read_held_out, read_known_objects};

/// The annotation folder of HICO-DET.
#[derive(Clone, Debug)]
pub struct HicoDet {
    root: PathBuf,
    table: InteractionTable,
}

impl HicoDet {
    /// Opens the folder and reads its class table.
    ///
    /// # Errors
    /// [`DatasetError`] when `hoi_classes.json` is missing or wrong.
    pub fn open(root: &Path) -> Result<Self, DatasetError> {
        Ok(Self { root: root.to_owned(), table: InteractionTable::read(&root.join("hoi_classes.json"))? })
    }

    /// The interactions and their vocabulary.
    pub fn table(&self) -> &InteractionTable {
        &self.table
    }

    /// The training split (HAKE's annotation), by rising image number.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn train(&self) -> Result<Vec<AnnotatedImage>, DatasetError> {
        read_hake(&self.root.join("hake_train2015_instance_level.json.gz"), &self.table)
    }

    /// The test split (hicodet's annotation), in the order of the file.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn test(&self) -> Result<Vec<AnnotatedImage>, DatasetError> {
        read_hicodet(&self.root.join("instances_test2015.json.gz"), &self.table)
    }

    /// For each interaction the test images that the Known-Object mode scores it on.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and object.
    pub fn known_objects(&self) -> Result<KnownObjectImages, DatasetError> {
        read_known_objects(&self.root.join("known_object_test.json.gz"), &self.table)
    }

    /// How the training split is parted into one to train on and one to choose by.
    ///
    /// # Errors
    /// [`DatasetError`], naming the file.
    pub fn held_out(&self) -> Result<HeldOut, DatasetError> {
        read_held_out(&self.root.join("split_ids.json.gz"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
