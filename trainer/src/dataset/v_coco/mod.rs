//! V-COCO: 26 actions of persons in 10,346 COCO images.
//!
//! All boxes are 0-based continuous pixels of the original image, COCO's `x, y, x + w, y + h`.
//!
//! # What is looked for
//! In the folder itself, `annotations`, `data`, `data/vcoco`, `vcoco` and `coco/annotations` below it; each file plain or with `.gz`. The
//! first format that is complete is read:
//!
//! | format | files of a split | persons | actions without role, roles that are not annotated |
//! |---|---|---|---|
//! | official | `vcoco_SPLIT.json` and COCO's `instances_vcoco_all_2014.json`, or `instances_train2014.json` with `instances_val2014.json` | all of COCO's | yes |
//! | QPIC | `trainval_vcoco.json`, `test_vcoco.json` | all of COCO's | yes |
//! | UPT | `instances_vcoco_SPLIT.json` | those of the pairs | no |
//!
//! `SPLIT` is `train`, `val`, `trainval` or `test`; for `trainval` the first two together do as well.
//!
//! The official role AP needs the official files. QPIC's do not tell a person of whom V-COCO says that no action is done from one of whom it
//! says nothing: both count as not annotated. In UPT's files persons without a pair are missing, and with them instances that the recall counts.
//! Sizes of images stand in COCO's files; with the other formats they come from `image_sizes.json` where it is there.
//!
//! Pictures are looked for under their COCO 2014 name and under their bare number (COCO 2017) in `train2014`, `val2014`, `train2017` and `val2017`,
//! each in the folder itself, in `images` and in `coco/images`, and directly in `images` and in the folder.

mod classes;
mod official;
mod pairs;
mod persons;
mod pictures;
mod qpic;
mod vocabulary;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::ObjectClass;
use serde::Deserialize;

use super::folder::find;
use super::{DatasetError, EntityLabel, read_json};
pub use classes::{ACTIONS, Action, ActionRole, ActionRoles, Role};
pub use official::{official_positives, read_official};
pub use pairs::read_pairs;
pub use pictures::{VCocoPictures, picture_folder, picture_names};
pub use qpic::read_qpic;
pub use vocabulary::vocabulary;

/// Folders below the root that annotation is looked for in.
const FOLDERS: &[&str] = &["", "annotations", "data", "data/vcoco", "vcoco", "coco/annotations"];

/// An image with everything that the role AP and training take from its annotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VCocoImage {
    /// COCO's id, the last digits of the file name.
    pub number: u64,
    /// File name of the image.
    pub name: String,
    /// Size of the image; `None` where the files do not say it.
    pub size: Option<Size>,
    /// The persons, each once.
    pub persons: Vec<VCocoPerson>,
    /// The objects of other classes, each once, without crowds.
    pub objects: Vec<EntityLabel>,
    /// Those boxes of `persons` that COCO marks as a crowd: the score knows them, training does not.
    pub crowds: Vec<BBox>,
    /// The annotated roles as pairs with the class of the second box, which may be a person; in the order of the file.
    pub pairs: Vec<VCocoPair>,
}

/// A person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoPerson {
    /// Its box.
    pub bbox: BBox,
    /// Whether V-COCO says anything about this person, be it that no action is done; a COCO person it does not list is `false`.
    pub annotated: bool,
    /// What the person does, by rising action.
    pub actions: Vec<VCocoAction>,
}

/// An action of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct VCocoAction {
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// The box of each role, in the order of [`Action::roles`]; `None` where it is not annotated.
    pub roles: Vec<Option<BBox>>,
}

/// An annotated role: a person, its action, and the second box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VCocoPair {
    /// Box of the person.
    pub human: BBox,
    /// Box of the object or instrument.
    pub object: BBox,
    /// COCO class of the second box, `0..80`.
    pub class: ObjectClass,
    /// The action and its role.
    pub action_role: ActionRole,
}

/// The splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// 2,533 images.
    Train,
    /// 2,867 images.
    Val,
    /// Both: 5,400 images.
    Trainval,
    /// 4,946 images.
    Test,
}

impl Split {
    /// Its name in the file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Trainval => "trainval",
            Self::Test => "test",
        }
    }
}

/// The files that a split is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Official files, and COCO's instances that they point into.
    Official {
        /// One file, or those of `train` and `val`.
        annotation: Vec<PathBuf>,
        /// One file, or those of 2014's `train` and `val`.
        instances: Vec<PathBuf>,
    },
    /// QPIC's list of images.
    Qpic(PathBuf),
    /// UPT's pairs: one file, or those of `train` and `val`.
    Pairs(Vec<PathBuf>),
}

impl Source {
    /// Whose format it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Official { .. } => "official",
            Self::Qpic(_) => "QPIC",
            Self::Pairs(_) => "UPT",
        }
    }

    /// The files.
    pub fn paths(&self) -> Vec<&Path> {
        let paths: Vec<&PathBuf> = match self {
            Self::Official { annotation, instances } => annotation.iter().chain(instances).collect(),
            Self::Qpic(path) => vec![path],
            Self::Pairs(paths) => paths.iter().collect(),
        };
        paths.into_iter().map(PathBuf::as_path).collect()
    }
}

#[derive(Deserialize)]
struct SizeList {
    sizes: HashMap<String, [u32; 2]>,
}

/// The annotation folder of V-COCO.
#[derive(Clone, Debug)]
pub struct VCoco {
    root: PathBuf,
}

impl VCoco {
    /// Opens the folder.
    ///
    /// # Errors
    /// [`DatasetError::Read`] when it cannot be read.
    pub fn open(root: &Path) -> Result<Self, DatasetError> {
        std::fs::read_dir(root).map_err(|source| DatasetError::Read { path: root.to_owned(), source })?;
        Ok(Self { root: root.to_owned() })
    }

    /// The files of a name with the split in it, or those of its two parts.
    fn files(&self, name: &dyn Fn(&str) -> String, split: Split) -> Option<Vec<PathBuf>> {
        let file = |split: Split| find(&self.root, FOLDERS, &[&name(split.name())]);
        match (file(split), split) {
            (Some(path), _) => Some(vec![path]),
            (None, Split::Trainval) => Some(vec![file(Split::Train)?, file(Split::Val)?]),
            (None, _) => None,
        }
    }

    /// The official files of a split that are there, with or without COCO's instances.
    pub fn official_annotation(&self, split: Split) -> Option<Vec<PathBuf>> {
        self.files(&|split| format!("vcoco_{split}.json"), split)
    }

    fn instances(&self) -> Option<Vec<PathBuf>> {
        let file = |name: &str| find(&self.root, FOLDERS, &[name]);
        match file("instances_vcoco_all_2014.json") {
            Some(path) => Some(vec![path]),
            None => Some(vec![file("instances_train2014.json")?, file("instances_val2014.json")?]),
        }
    }

    /// What a split is read from.
    ///
    /// # Errors
    /// [`DatasetError::NothingFound`] with the names that would do.
    pub fn source(&self, split: Split) -> Result<Source, DatasetError> {
        if let (Some(annotation), Some(instances)) = (self.official_annotation(split), self.instances()) {
            return Ok(Source::Official { annotation, instances });
        }
        let qpic = format!("{}_vcoco.json", split.name());
        if let Some(path) = find(&self.root, FOLDERS, &[&qpic]) {
            return Ok(Source::Qpic(path));
        }
        self.files(&|split| format!("instances_vcoco_{split}.json"), split).map(Source::Pairs).ok_or_else(|| {
            let name = split.name();
            DatasetError::NothingFound {
                folder: self.root.clone(),
                what: format!("annotation of the split {name}"),
                looked_for: format!(
                    "vcoco_{name}.json with COCO's instances_vcoco_all_2014.json, {qpic}, instances_vcoco_{name}.json, plain or .gz"
                ),
            }
        })
    }

    /// A split, from [`VCoco::source`]; by rising number.
    ///
    /// # Errors
    /// [`DatasetError`], naming file and image.
    pub fn images(&self, split: Split) -> Result<Vec<VCocoImage>, DatasetError> {
        let mut images = match self.source(split)? {
            Source::Official { annotation, instances } => read_official(&annotation, &instances)?,
            Source::Qpic(path) => read_qpic(&path, &self.sizes()?)?,
            Source::Pairs(paths) => {
                let sizes = self.sizes()?;
                let mut images = Vec::new();
                for path in paths {
                    images.extend(read_pairs(&path, &sizes)?);
                }
                images
            }
        };
        images.sort_by_key(|image| image.number);
        Ok(images)
    }

    /// File name -> size, from `image_sizes.json`; empty where it is not there.
    fn sizes(&self) -> Result<HashMap<String, Size>, DatasetError> {
        let Some(path) = find(&self.root, FOLDERS, &["image_sizes.json"]) else { return Ok(HashMap::new()) };
        let list: SizeList = read_json(&path, "sizes of images (sizes: file name -> [width, height])")?;
        Ok(list.sizes.into_iter().map(|(name, [width, height])| (name, Size::new(width, height))).collect())
    }
}

/// The number in `COCO_val2014_000000000294.jpg`, which is COCO's id.
fn image_number(path: &Path, name: &str) -> Result<u64, DatasetError> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.rsplit_once('_').map_or(stem, |(_, digits)| digits);
    digits.parse().map_err(|_| DatasetError::Inconsistent {
        path: path.to_owned(),
        record: name.to_owned(),
        reason: "the name does not end in COCO's id".to_owned(),
    })
}
