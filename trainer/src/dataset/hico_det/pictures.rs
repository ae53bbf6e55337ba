//! HICO-DET's pictures with their annotation.

use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::Vocabulary;

use super::InteractionTable;
use crate::dataset::entities::entities;
use crate::dataset::folder::read_picture;
use crate::dataset::{AnnotatedImage, AnnotatedPicture, DatasetError, PairLabel, PictureFolder, PictureSet};

/// Where HICO-DET's pictures lie below `root`.
pub fn picture_folder(root: &Path) -> PictureFolder {
    PictureFolder::new(
        root,
        &[
            "images/train2015",
            "images/test2015",
            "train2015",
            "test2015",
            "hico_20160224_det/images/train2015",
            "hico_20160224_det/images/test2015",
            "images",
            "",
        ],
    )
}

/// Annotated images together with the folder of their pictures.
#[derive(Clone, Debug)]
pub struct HicoDetPictures {
    images: Vec<AnnotatedImage>,
    table: InteractionTable,
    folder: PictureFolder,
}

impl HicoDetPictures {
    /// The pictures of `images` below `root`. Nothing is opened yet.
    pub fn new(images: Vec<AnnotatedImage>, table: InteractionTable, root: &Path) -> Self {
        Self { images, table, folder: picture_folder(root) }
    }

    /// The annotated images, in the order of the set.
    pub fn images(&self) -> &[AnnotatedImage] {
        &self.images
    }

    /// The interactions.
    pub fn table(&self) -> &InteractionTable {
        &self.table
    }
}

impl PictureSet for HicoDetPictures {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.table.vocabulary()
    }

    fn name(&self, index: usize) -> String {
        self.images.get(index).map_or_else(|| format!("picture {index}"), |image| image.name.clone())
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        let image = &self.images[index];
        let path = self.folder.path(&[&image.name])?;
        let pixels = read_picture(&path)?;
        let size = Size::new(pixels.width(), pixels.height());
        let human = self.vocabulary().human();
        let mut pairs = Vec::with_capacity(image.pairs.len());
        for (i, pair) in image.pairs.iter().enumerate() {
            let wrong =
                |reason: String| DatasetError::Inconsistent { path: path.clone(), record: format!("pair {i}"), reason };
            let class = self.table.classes().get(pair.interaction);
            let class = class.ok_or_else(|| wrong(format!("interaction {} is unknown", pair.interaction)))?.interaction;
            let inside = |b: BBox| b.clip(size) == b;
            if image.size.is_some_and(|annotated| annotated != size) || !inside(pair.human) || !inside(pair.object) {
                let annotated = image.size.map_or_else(String::new, |annotated| format!(" of {annotated}"));
                return Err(wrong(format!(
                    "its boxes were annotated in another picture{annotated}: this one has {size}"
                )));
            }
            pairs.push(PairLabel { human: pair.human, object: pair.object, class: class.object, verb: class.verb });
        }
        let entities = entities(pairs.iter().flat_map(|pair| [(pair.human, human), (pair.object, pair.class)]));
        Ok(AnnotatedPicture { name: image.name.clone(), number: image.number, pixels, entities, pairs })
    }
}
