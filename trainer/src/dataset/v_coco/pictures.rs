//! V-COCO's pictures with their annotation.

use std::path::Path;

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{Verb, Vocabulary};

use super::official::PERSON;
use super::{ActionRole, ActionRoles, VCocoImage, vocabulary};
use crate::dataset::entities::entities;
use crate::dataset::folder::read_picture;
use crate::dataset::{AnnotatedPicture, DatasetError, PairLabel, PictureFolder, PictureSet};

/// By how many pixels a COCO box may pass the edge of its picture (rounding); it is cut there.
const TOLERANCE: f32 = 1.0;

/// Where COCO's pictures lie below `root`.
pub fn picture_folder(root: &Path) -> PictureFolder {
    PictureFolder::new(
        root,
        &[
            "train2014",
            "val2014",
            "train2017",
            "val2017",
            "images/train2014",
            "images/val2014",
            "images/train2017",
            "images/val2017",
            "coco/images/train2014",
            "coco/images/val2014",
            "coco/images/train2017",
            "coco/images/val2017",
            "images",
            "",
        ],
    )
}

/// The names under which COCO hands out an image: with its split of 2014, and the bare number of 2017.
pub fn picture_names(image: &VCocoImage) -> [String; 2] {
    [image.name.clone(), format!("{:012}.jpg", image.number)]
}

/// Annotated images together with the folder of their pictures.
#[derive(Clone, Debug)]
pub struct VCocoPictures {
    images: Vec<VCocoImage>,
    action_roles: Vec<ActionRole>,
    vocabulary: Vocabulary,
    folder: PictureFolder,
}

impl VCocoPictures {
    /// The pictures of `images` below `root`, with the pairs of these action-roles; others are left out. Nothing is opened yet.
    ///
    /// # Errors
    /// As [`vocabulary`].
    pub fn new(images: Vec<VCocoImage>, action_roles: ActionRoles, root: &Path) -> Result<Self, DatasetError> {
        Ok(Self {
            images,
            action_roles: action_roles.list(),
            vocabulary: vocabulary(action_roles)?,
            folder: picture_folder(root),
        })
    }

    /// The annotated images, in the order of the set.
    pub fn images(&self) -> &[VCocoImage] {
        &self.images
    }

    /// The action-role of each verb of the vocabulary.
    pub fn action_roles(&self) -> &[ActionRole] {
        &self.action_roles
    }
}

impl PictureSet for VCocoPictures {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn name(&self, index: usize) -> String {
        self.images.get(index).map_or_else(|| format!("picture {index}"), |image| image.name.clone())
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        let image = &self.images[index];
        let [name, number] = picture_names(image);
        let path = self.folder.path(&[&name, &number])?;
        let pixels = read_picture(&path)?;
        let size = Size::new(pixels.width(), pixels.height());
        let wrong = |record: String, reason: String| DatasetError::Inconsistent { path: path.clone(), record, reason };
        if let Some(annotated) = image.size.filter(|annotated| *annotated != size) {
            let reason = format!("it was annotated at {annotated}, this picture has {size}");
            return Err(wrong(name, reason));
        }
        let inside = |bbox: BBox| {
            let clipped = bbox.clip(size);
            let edges = <[f32; 4]>::from(bbox).into_iter().zip(<[f32; 4]>::from(clipped));
            if edges.into_iter().any(|(edge, cut)| (edge - cut).abs() > TOLERANCE) {
                return Err(wrong(
                    format!("box {:?}", <[f32; 4]>::from(bbox)),
                    format!("it is not inside the picture of {size}"),
                ));
            }
            Ok(clipped)
        };
        let persons = image.persons.iter().filter(|person| !image.crowds.contains(&person.bbox));
        let boxes = persons.map(|person| (person.bbox, PERSON)).chain(image.objects.iter().map(|o| (o.bbox, o.class)));
        let boxes = boxes.map(|(bbox, class)| Ok((inside(bbox)?, class))).collect::<Result<Vec<_>, DatasetError>>()?;
        let mut pairs = Vec::with_capacity(image.pairs.len());
        for pair in &image.pairs {
            if let Some(verb) = self.action_roles.iter().position(|role| *role == pair.action_role) {
                let (human, object) = (inside(pair.human)?, inside(pair.object)?);
                pairs.push(PairLabel { human, object, class: pair.class, verb: Verb(verb as u16) });
            }
        }
        let entities = entities(boxes);
        Ok(AnnotatedPicture { name: image.name.clone(), number: image.number, pixels, entities, pairs })
    }
}
