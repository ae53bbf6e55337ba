//! Pictures with their annotation, whatever set they come from: what loaders and trainers take.

use hoi_runtime::geometry::BBox;
use hoi_runtime::vocabulary::{ObjectClass, Verb, Vocabulary};
use image::RgbImage;

use super::DatasetError;

/// A person or an object, once per picture however often the annotation repeats its box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntityLabel {
    /// Its box, 0-based continuous pixels of the picture.
    pub bbox: BBox,
    /// Its class in the set's vocabulary.
    pub class: ObjectClass,
}

/// A verb of an annotated human-object pair; a pair with two verbs is two labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLabel {
    /// Box of the human.
    pub human: BBox,
    /// Box of the object.
    pub object: BBox,
    /// Class of the object.
    pub class: ObjectClass,
    /// The verb.
    pub verb: Verb,
}

/// A picture and what is annotated in it; boxes in pixels of `pixels`.
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotatedPicture {
    /// File name, or the name of the rendered scene.
    pub name: String,
    /// Number of the image in its set.
    pub number: u64,
    /// The picture, 8 bits RGB.
    pub pixels: RgbImage,
    /// All annotated persons and objects, each once.
    pub entities: Vec<EntityLabel>,
    /// Annotated verbs of pairs, in annotation order.
    pub pairs: Vec<PairLabel>,
}

/// A data set that can give its pictures one by one, from any thread.
pub trait PictureSet: Send + Sync {
    /// Number of pictures.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Objects, verbs and which of them go together.
    fn vocabulary(&self) -> &Vocabulary;

    /// File name of a picture, for messages.
    fn name(&self, index: usize) -> String;

    /// Reads or draws a picture. The same index gives the same picture.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file when it is missing or cannot be decoded.
    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError>;
}
