//! HICO-DET: the class table, the annotation of both splits in any of its usual files, the pictures, the lists of the Known-Object mode, of the
//! held-out part and of the fractions, and the zero-shot splits.
//!
//! The files hold 1-based inclusive boxes (QPIC's: 0-based inclusive); here all are 0-based continuous pixels of the original image.
//!
//! # What is looked for
//! In the folder itself, then in its `annotations`; each file plain or with `.gz`. The first that is there is read:
//!
//! | split | file | from |
//! |---|---|---|
//! | train | `hake_train2015_instance_level.json`, `hico-det-training-set-instance-level.json` | HAKE |
//! | train | `instances_train2015.json` | hicodet utilities |
//! | train | `anno_bbox.mat` | official |
//! | train | `trainval_hico.json` | PPDM, QPIC |
//! | test | `instances_test2015.json` | hicodet utilities |
//! | test | `anno_bbox.mat` | official |
//! | test | `test_hico.json` | PPDM, QPIC |
//!
//! Pictures are looked for in `images/train2015`, `images/test2015`, `train2015`, `test2015`, `hico_20160224_det/images/train2015`,
//! `hico_20160224_det/images/test2015`, `images` and the folder itself.

mod annotations;
mod classes;
mod fractions;
mod image_lists;
mod official;
mod pictures;
mod qpic;
mod zero_shot;

use std::path::{Path, PathBuf};

use super::folder::find;
use super::{AnnotatedImage, DatasetError};
pub use annotations::{read_hake, read_hicodet};
pub use classes::{COCO_80, InteractionClass, InteractionTable, NO_INTERACTION, RARE_BELOW};
pub use fractions::{FRACTION_SEED, fraction_numbers};
pub use image_lists::{HeldOut, KnownObjectImages, read_held_out, read_known_objects};
pub use official::{ImageLabels, Split, read_image_labels, read_official};
pub use pictures::{HicoDetPictures, picture_folder};
pub use qpic::read_qpic;
pub use zero_shot::{ZeroShotSplit, without_unseen};

/// Folders below the root that annotation is looked for in.
const FOLDERS: &[&str] = &["", "annotations"];

/// A file format of the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// HAKE's instance-level labels.
    Hake,
    /// hicodet utilities' parallel lists.
    Hicodet,
    /// The official MATLAB file.
    Official,
    /// PPDM's and QPIC's list of images.
    Qpic,
}

impl Format {
    /// Formats of a split with their file names, in the order in which they are looked for.
    fn order(split: Split) -> &'static [(Self, &'static [&'static str])] {
        match split {
            Split::Train => &[
                (Self::Hake, &["hake_train2015_instance_level.json", "hico-det-training-set-instance-level.json"]),
                (Self::Hicodet, &["instances_train2015.json"]),
                (Self::Official, &["anno_bbox.mat"]),
                (Self::Qpic, &["trainval_hico.json"]),
            ],
            Split::Test => &[
                (Self::Hicodet, &["instances_test2015.json"]),
                (Self::Official, &["anno_bbox.mat"]),
                (Self::Qpic, &["test_hico.json"]),
            ],
        }
    }

    /// Whose format it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hake => "HAKE",
            Self::Hicodet => "hicodet",
            Self::Official => "official",
            Self::Qpic => "QPIC",
        }
    }
}

/// The annotation folder of HICO-DET.
#[derive(Clone, Debug)]
pub struct HicoDet {
    root: PathBuf,
    table: InteractionTable,
}

impl HicoDet {
    /// Opens the folder. Its `hoi_classes.json` is the class table; without one, HICO-DET's own.
    ///
    /// # Errors
    /// [`DatasetError`] when the folder cannot be read or `hoi_classes.json` is wrong.
    pub fn open(root: &Path) -> Result<Self, DatasetError> {
        std::fs::read_dir(root).map_err(|source| DatasetError::Read { path: root.to_owned(), source })?;
        let table = match find(root, FOLDERS, &["hoi_classes.json"]) {
            Some(path) => InteractionTable::read(&path)?,
            None => InteractionTable::published()?,
        };
        Ok(Self { root: root.to_owned(), table })
    }

    /// The interactions and their vocabulary.
    pub fn table(&self) -> &InteractionTable {
        &self.table
    }

    /// The file that a split is read from.
    ///
    /// # Errors
    /// [`DatasetError::NothingFound`] with the names that would do.
    pub fn annotation(&self, split: Split) -> Result<(Format, PathBuf), DatasetError> {
        let order = Format::order(split);
        let found = order.iter().find_map(|(format, names)| Some((*format, find(&self.root, FOLDERS, names)?)));
        found.ok_or_else(|| {
            let names: Vec<&str> = order.iter().flat_map(|(_, names)| names.iter().copied()).collect();
            let what = match split {
                Split::Train => "annotation of the training split",
                Split::Test => "annotation of the test split",
            };
            self.missing(what, &names)
        })
    }

    /// A split, from [`HicoDet::annotation`]: HAKE's by rising image number, the others in the order of the file.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn images(&self, split: Split) -> Result<Vec<AnnotatedImage>, DatasetError> {
        let (format, path) = self.annotation(split)?;
        match format {
            Format::Hake => read_hake(&path, &self.table),
            Format::Hicodet => read_hicodet(&path, &self.table),
            Format::Official => read_official(&path, split, &self.table),
            Format::Qpic => read_qpic(&path, &self.table),
        }
    }

    /// The training split.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn train(&self) -> Result<Vec<AnnotatedImage>, DatasetError> {
        self.images(Split::Train)
    }

    /// The test split.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn test(&self) -> Result<Vec<AnnotatedImage>, DatasetError> {
        self.images(Split::Test)
    }

    /// For each interaction the test images that the Known-Object mode scores it on.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and object.
    pub fn known_objects(&self) -> Result<KnownObjectImages, DatasetError> {
        read_known_objects(&self.list("lists of the Known-Object mode", "known_object_test.json")?, &self.table)
    }

    /// How the training split is parted into one to train on and one to choose by.
    ///
    /// # Errors
    /// [`DatasetError`], naming the file.
    pub fn held_out(&self) -> Result<HeldOut, DatasetError> {
        read_held_out(&self.list("parts of the training split", "split_ids.json")?)
    }

    fn list(&self, what: &str, name: &str) -> Result<PathBuf, DatasetError> {
        find(&self.root, FOLDERS, &[name]).ok_or_else(|| self.missing(what, &[name]))
    }

    fn missing(&self, what: &str, names: &[&str]) -> DatasetError {
        let looked_for = format!("{}, plain or .gz, here or in annotations", names.join(", "));
        DatasetError::NothingFound { folder: self.root.clone(), what: what.to_owned(), looked_for }
    }
}

#[cfg(test)]
pub(crate) mod tests;
