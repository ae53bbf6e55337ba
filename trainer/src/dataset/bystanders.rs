//! Persons of pictures with boxes of COCO's classes who do nothing that is asked for: what teaches a network to say nothing.
//!
//! The folder holds `annotations.json` (`{names, images: [{file, width, height, objects: [{label, box: [x1, y1, x2, y2]}]}]}`, 0-based continuous
//! pixels) and the pictures beside it in `images`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use image::RgbImage;
use serde::Deserialize;

use super::folder::read_picture;
use super::{DatasetError, read_json};

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
        let path = root.join("annotations.json");
        let document: Document = read_json(&path, "{names, images: [{file, width, height, objects: [{label, box}]}]}")?;
        let mut persons = Vec::new();
        for picture in document.images.iter().filter(|p| !without.contains(&p.file)) {
            let size = Size::new(picture.width, picture.height);
            let named = |o: &Object| document.names.get(o.label).map(String::as_str);
            if let Some(unknown) = picture.objects.iter().find(|o| named(o).is_none()) {
                return Err(DatasetError::Inconsistent {
                    path: path.clone(),
                    record: picture.file.clone(),
                    reason: format!("label {} has no name among {}", unknown.label, document.names.len()),
                });
            }
            let boxes = |o: &Object| BBox::new(o.bbox[0], o.bbox[1], o.bbox[2], o.bbox[3]);
            let used: Vec<BBox> =
                picture.objects.iter().filter(|o| named(o).is_some_and(|n| classes.contains(n))).map(boxes).collect();
            for person in picture.objects.iter().filter(|o| named(o) == Some(human)).map(boxes) {
                let large = person.area() >= LEAST_SHARE * size.width as f32 * size.height as f32;
                if large && used.iter().all(|b| b.intersection(&person) <= 0.0) {
                    persons.push(Bystander { file: picture.file.clone(), size, person: person.clip(size) });
                }
            }
        }
        Ok(Self { images: root.join("images"), persons })
    }

    /// Reads a person's picture.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file when it is missing, cannot be decoded, or has another size than its annotation says.
    pub fn open(&self, index: usize) -> Result<RgbImage, DatasetError> {
        let person = &self.persons[index];
        let path = self.images.join(&person.file);
        let pixels = read_picture(&path)?;
        let size = Size::new(pixels.width(), pixels.height());
        if size != person.size {
            let reason = format!("the picture is {size}, its annotation says {}", person.size);
            return Err(DatasetError::Inconsistent { path, record: person.file.clone(), reason });
        }
        Ok(pixels)
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
