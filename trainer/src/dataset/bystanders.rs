//! Persons of pictures with boxes of COCO's classes who do nothing that is asked for: what teaches a network to say nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use image::RgbImage;

use super::DatasetError;
use super::boxed::{BoxedPicture, BoxedPictures, open_annotated};

/// Persons smaller than this share of the picture are left out: nobody could say what they do.
const LEAST_SHARE: f32 = 0.02;

/// A person in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Bystander {
    /// File of the picture.
    pub file: String,
    /// Size of the picture.
    pub size: Size,
    /// The person's box.
    pub person: BBox,
}

/// Persons of pictures.
#[derive(Clone, Debug)]
pub struct Bystanders {
    images: PathBuf,
    /// In the order of the annotation.
    pub persons: Vec<Bystander>,
}

impl Bystanders {
    /// Reads the persons of a folder's pictures who touch no object of `classes`: with those they may do what is asked for. Pictures in
    /// `without` are left out.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file and what is wrong with it.
    pub fn load(
        root: &Path,
        human: &str,
        classes: &HashSet<&str>,
        without: &HashSet<String>,
    ) -> Result<Self, DatasetError> {
        let set = BoxedPictures::load(root, without)?;
        let mut persons = Vec::new();
        for picture in &set.pictures {
            let BoxedPicture { file, size, boxes } = picture;
            let named = |label: usize| set.names[label].as_str();
            let used: Vec<&BBox> =
                boxes.iter().filter(|(label, _)| classes.contains(named(*label))).map(|b| &b.1).collect();
            for (_, person) in boxes.iter().filter(|(label, _)| named(*label) == human) {
                let large = person.area() >= LEAST_SHARE * size.width as f32 * size.height as f32;
                if large && used.iter().all(|b| b.intersection(person) <= 0.0) {
                    persons.push(Bystander { file: file.clone(), size: *size, person: person.clip(*size) });
                }
            }
        }
        Ok(Self { images: set.images, persons })
    }

    /// Reads a person's picture.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file when it is missing, cannot be decoded, or has another size than its annotation says.
    pub fn open(&self, index: usize) -> Result<RgbImage, DatasetError> {
        let Bystander { file, size, .. } = &self.persons[index];
        open_annotated(&self.images, file, *size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_with_what_is_asked_for_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"names": ["person", "bicycle", "chair"], "images": [
            {"file": "a.png", "width": 100, "height": 100, "objects": [
                {"label": 0, "box": [0, 0, 30, 60]}, {"label": 0, "box": [60, 0, 90, 60]}, {"label": 0, "box": [95, 95, 99, 99]},
                {"label": 1, "box": [20, 40, 50, 90]}, {"label": 2, "box": [60, 40, 90, 90]}]},
            {"file": "b.png", "width": 100, "height": 100, "objects": [{"label": 0, "box": [0, 0, 50, 50]}]}]}"#;
        std::fs::write(folder.path().join("annotations.json"), text).unwrap();
        let classes = HashSet::from(["bicycle"]);
        let load = |without: &[&str]| {
            let without = without.iter().map(|n| (*n).to_owned()).collect();
            Bystanders::load(folder.path(), "person", &classes, &without).unwrap().persons
        };
        let all = load(&[]);
        assert_eq!(all.len(), 2, "one rides, one is too small to tell");
        assert_eq!((all[0].person.x1, all[1].file.as_str()), (60.0, "b.png"));
        assert_eq!(load(&["a.png"]).len(), 1);
        let wrong = text.replace("\"label\": 2", "\"label\": 7");
        std::fs::write(folder.path().join("annotations.json"), wrong).unwrap();
        let error = Bystanders::load(folder.path(), "person", &classes, &HashSet::new()).unwrap_err().to_string();
        assert!(error.contains("a.png") && error.contains("label 7"), "{error}");
    }
}
