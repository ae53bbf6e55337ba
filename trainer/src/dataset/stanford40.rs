//! Stanford 40 Actions: photos with one action and the person who does it.
//!
//! The folder holds `annotations.json` (a list of `{file, width, height, action, person: [x1, y1, x2, y2]}`, 0-based continuous pixels),
//! `splits/train.txt` and `splits/test.txt` (a file name a line), and the photos in `images`.
//!
//! Other people in a photo are not annotated, objects neither: an action is an image-level label with a person.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use hoi_runtime::geometry::{BBox, Size};
use hoi_runtime::vocabulary::{ObjectClass, Vocabulary, VocabularySpec};
use image::RgbImage;
use serde::Deserialize;

use super::folder::read_picture;
use super::hico_det::COCO_80;
use super::{DatasetError, read_json};

/// The actions as the set names them, with the verb (HICO-DET's where it has one) and the COCO object where there is one.
///
/// Actions whose object differs from photo to photo ("drinking", "pouring liquid") have none, nor have those whose object COCO does not
/// know.
pub const ACTIONS: [(&str, &str, Option<&str>); 40] = [
    ("applauding", "applaud", None),
    ("blowing_bubbles", "blow_bubbles", None),
    ("brushing_teeth", "brush_with", Some("toothbrush")),
    ("cleaning_the_floor", "clean_floor", None),
    ("climbing", "climb", None),
    ("cooking", "cook", None),
    ("cutting_trees", "cut_trees", None),
    ("cutting_vegetables", "cut_with", Some("knife")),
    ("drinking", "drink", None),
    ("feeding_a_horse", "feed", Some("horse")),
    ("fishing", "fish", None),
    ("fixing_a_bike", "repair", Some("bicycle")),
    ("fixing_a_car", "repair", Some("car")),
    ("gardening", "garden", None),
    ("holding_an_umbrella", "hold", Some("umbrella")),
    ("jumping", "jump", None),
    ("looking_through_a_microscope", "look_through_microscope", None),
    ("looking_through_a_telescope", "look_through_telescope", None),
    ("phoning", "talk_on", Some("cell phone")),
    ("playing_guitar", "play_guitar", None),
    ("playing_violin", "play_violin", None),
    ("pouring_liquid", "pour", None),
    ("pushing_a_cart", "push_cart", None),
    ("reading", "read", Some("book")),
    ("riding_a_bike", "ride", Some("bicycle")),
    ("riding_a_horse", "ride", Some("horse")),
    ("rowing_a_boat", "row", Some("boat")),
    ("running", "run", None),
    ("shooting_an_arrow", "shoot_arrow", None),
    ("smoking", "smoke", None),
    ("taking_photos", "take_photos", None),
    ("texting_message", "text_on", Some("cell phone")),
    ("throwing_frisby", "throw", Some("frisbee")),
    ("using_a_computer", "type_on", Some("laptop")),
    ("walking_the_dog", "walk", Some("dog")),
    ("washing_dishes", "wash_dishes", None),
    ("watching_TV", "watch", Some("tv")),
    ("waving_hands", "wave_hands", None),
    ("writing_on_a_board", "write_on_board", None),
    ("writing_on_a_book", "write_on", Some("book")),
];

/// One photo.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionPhoto {
    /// File name.
    pub name: String,
    /// Size in pixels.
    pub size: Size,
    /// Index into [`ACTIONS`].
    pub action: usize,
    /// The person who does it.
    pub person: BBox,
}

/// Part of the set. The training list is cut in two by file name, so that everything can be chosen without the test list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ActionSplit {
    /// The whole training list
    Train,
    /// Four fifths of the training list
    Fit,
    /// The other fifth of the training list, to choose by
    Held,
    /// The test list, to report on
    Test,
}

/// Photos of one part of the set.
#[derive(Clone, Debug)]
pub struct Stanford40 {
    images: PathBuf,
    /// In the order of the list.
    pub photos: Vec<ActionPhoto>,
}

#[derive(Deserialize)]
struct Row {
    file: String,
    width: u32,
    height: u32,
    action: String,
    person: [f64; 4],
}

/// COCO's 80 objects and the verbs of the actions. Every verb can also be said of a person alone: objects are not annotated, and a detector
/// may miss them.
///
/// # Errors
/// [`DatasetError`], were [`ACTIONS`] contradictory.
pub fn vocabulary() -> Result<Vocabulary, DatasetError> {
    let mut verbs: Vec<String> = Vec::new();
    let mut valid: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, verb, object) in ACTIONS {
        if !verbs.iter().any(|v| v == verb) {
            verbs.push(verb.to_owned());
        }
        if let Some(object) = object {
            valid.entry(object.to_owned()).or_default().push(verb.to_owned());
        }
    }
    let spec = VocabularySpec {
        human: COCO_80[0].to_owned(),
        objects: COCO_80.map(str::to_owned).to_vec(),
        alone: verbs.clone(),
        verbs,
        background_verb: None,
        valid,
    };
    Vocabulary::new(spec).map_err(|error| DatasetError::Inconsistent {
        path: "stanford40".into(),
        record: "the vocabulary".to_owned(),
        reason: error.to_string(),
    })
}

/// A vocabulary with the actions added: their verbs after the others, valid for the action's object; those without an object can be said of a
/// person alone.
///
/// # Errors
/// [`DatasetError`] when `base` does not know an action's object.
pub fn with_actions(base: &VocabularySpec) -> Result<Vocabulary, DatasetError> {
    let mut spec = base.clone();
    for (_, verb, object) in ACTIONS {
        if !spec.verbs.iter().any(|v| v == verb) {
            spec.verbs.push(verb.to_owned());
        }
        let list = match object {
            Some(object) => spec.valid.entry(object.to_owned()).or_default(),
            None => &mut spec.alone,
        };
        if !list.iter().any(|v| v == verb) {
            list.push(verb.to_owned());
        }
    }
    Vocabulary::new(spec).map_err(|error| DatasetError::Inconsistent {
        path: "stanford40".into(),
        record: "the vocabulary with the actions".to_owned(),
        reason: error.to_string(),
    })
}

/// The actions as a manifest's `evaluation.stanford40` lists them.
pub fn evaluation_table() -> BTreeMap<String, (String, Option<String>)> {
    let row = |(action, verb, object): (&str, &str, Option<&str>)| {
        (action.to_owned(), (verb.to_owned(), object.map(str::to_owned)))
    };
    ACTIONS.into_iter().map(row).collect()
}

/// Class of an action's object.
pub fn object_of(action: usize, vocabulary: &Vocabulary) -> Option<ObjectClass> {
    ACTIONS.get(action)?.2.and_then(|name| vocabulary.object(name))
}

/// Every fifth photo of an action, counted in the order of the list, is held out.
const HELD_EVERY: usize = 5;

fn read_list(path: PathBuf) -> Result<(PathBuf, Vec<String>), DatasetError> {
    let text = std::fs::read_to_string(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        let reason = "the photo is listed twice".to_owned();
        return Err(DatasetError::Inconsistent { path, record: twice.clone(), reason });
    }
    Ok((path, names))
}

impl Stanford40 {
    /// Reads a part of the set.
    ///
    /// # Errors
    /// [`DatasetError`] naming file and record: a file is missing or not as described above; an action is none of [`ACTIONS`]; a box is not
    /// inside its photo; a listed photo is not annotated.
    pub fn load(root: &Path, split: ActionSplit) -> Result<Self, DatasetError> {
        let name = if split == ActionSplit::Test { "test.txt" } else { "train.txt" };
        Self::load_part(root, root.join("splits").join(name), |counted| match split {
            ActionSplit::Fit => counted % HELD_EVERY != 0,
            ActionSplit::Held => counted % HELD_EVERY == 0,
            ActionSplit::Train | ActionSplit::Test => true,
        })
    }

    /// Reads the photos that a file lists, a name a line.
    ///
    /// # Errors
    /// As [`Stanford40::load`].
    pub fn load_list(root: &Path, list: &Path) -> Result<Self, DatasetError> {
        Self::load_part(root, list.to_owned(), |_| true)
    }

    /// The photos of a list of which `wanted` says so, told which of its action's photos it is, counted from 1.
    fn load_part(root: &Path, list: PathBuf, wanted: impl Fn(usize) -> bool) -> Result<Self, DatasetError> {
        let (list, names) = read_list(list)?;
        let photos = read_photos(&root.join("annotations.json"))?;
        let mut counts = [0usize; ACTIONS.len()];
        let mut chosen = Vec::with_capacity(names.len());
        for name in names {
            let Some(photo) = photos.get(&name) else {
                let reason = "annotations.json has no such photo".to_owned();
                return Err(DatasetError::Inconsistent { path: list, record: name, reason });
            };
            counts[photo.action] += 1;
            if wanted(counts[photo.action]) {
                chosen.push(photo.clone());
            }
        }
        Ok(Self { images: root.join("images"), photos: chosen })
    }

    /// Reads a photo; boxes are in its pixels.
    ///
    /// # Errors
    /// [`DatasetError`] naming the file when it is missing, cannot be decoded, or has another size than its annotation says.
    pub fn open(&self, index: usize) -> Result<RgbImage, DatasetError> {
        let photo = &self.photos[index];
        let path = self.images.join(&photo.name);
        let pixels = read_picture(&path)?;
        let size = Size::new(pixels.width(), pixels.height());
        if size != photo.size {
            let reason = format!("the photo is {size}, its annotation says {}", photo.size);
            return Err(DatasetError::Inconsistent { path, record: photo.name.clone(), reason });
        }
        Ok(pixels)
    }
}

fn read_photos(path: &Path) -> Result<HashMap<String, ActionPhoto>, DatasetError> {
    let rows: Vec<Row> = read_json(path, "a list of photos {file, width, height, action, person}")?;
    let mut photos = HashMap::with_capacity(rows.len());
    for Row { file, width, height, action, person } in rows {
        let Some(number) = ACTIONS.iter().position(|a| a.0 == action) else {
            return Err(DatasetError::Inconsistent {
                path: path.to_owned(),
                record: file,
                reason: format!("`{action}` is none of the set's 40 actions"),
            });
        };
        let size = Size::new(width, height);
        let [x1, y1, x2, y2] = person;
        let inside = x1 >= 0.0 && y1 >= 0.0 && x2 <= f64::from(width) && y2 <= f64::from(height) && x1 < x2 && y1 < y2;
        if !inside {
            return Err(DatasetError::BoxOutside {
                path: path.to_owned(),
                record: file,
                bbox: person,
                size,
                convention: "x1, y1, x2, y2 in 0-based continuous pixels",
            });
        }
        let person = BBox::new(x1 as f32, y1 as f32, x2 as f32, y2 as f32);
        photos.insert(file.clone(), ActionPhoto { name: file, size, action: number, person });
    }
    Ok(photos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(rows: &str, train: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("splits")).unwrap();
        std::fs::write(folder.path().join("annotations.json"), rows).unwrap();
        std::fs::write(folder.path().join("splits/train.txt"), train).unwrap();
        folder
    }

    fn row(file: &str, action: &str, person: &str) -> String {
        format!(r#"{{"file":"{file}","width":240,"height":320,"action":"{action}","person":{person}}}"#)
    }

    #[test]
    fn actions_make_a_vocabulary() {
        let vocabulary = vocabulary().unwrap();
        assert_eq!(vocabulary.alone().len(), vocabulary.verb_count());
        // ride and repair serve two actions each.
        assert_eq!(vocabulary.verb_count(), 38);
        let horse = vocabulary.object("horse").unwrap();
        assert_eq!(object_of(25, &vocabulary), Some(horse));
        assert_eq!(object_of(0, &vocabulary), None);
        assert_eq!(vocabulary.valid_verbs(horse).len(), 2);
        let mut pairs: Vec<_> = ACTIONS.iter().map(|a| (a.1, a.2)).collect();
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), 40, "two actions would be one interaction");
    }

    #[test]
    fn actions_are_added_to_a_vocabulary() {
        let mut base = vocabulary().unwrap().spec().clone();
        base.verbs = vec!["sit_on".into(), "ride".into()];
        base.valid = BTreeMap::from([("horse".to_owned(), vec!["ride".to_owned()])]);
        base.alone.clear();
        let both = with_actions(&base).unwrap();
        assert_eq!(both.verb_name(hoi_runtime::vocabulary::Verb(0)), Some("sit_on"));
        assert_eq!(both.verb_count(), 1 + 38);
        let horse = both.object("horse").unwrap();
        assert_eq!(both.valid_verbs(horse).len(), 2, "ride and feed, each once");
        assert!(both.alone().contains(&both.verb("wave_hands").unwrap()));
        assert!(!both.alone().contains(&both.verb("ride").unwrap()));
        assert_eq!(evaluation_table().len(), 40);
        base.objects.retain(|o| o != "horse");
        base.valid.clear();
        assert!(with_actions(&base).unwrap_err().to_string().contains("horse"));
    }

    #[test]
    fn a_fifth_of_each_action_is_held_out() {
        let names: Vec<String> = (0..20).map(|i| format!("p{i:02}.jpg")).collect();
        let rows: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(i, n)| row(n, if i < 10 { "running" } else { "jumping" }, "[0,0,240,320]"))
            .collect();
        let folder = folder(&format!("[{}]", rows.join(",")), &names.join("\n"));
        let load = |split| -> Vec<String> {
            Stanford40::load(folder.path(), split).unwrap().photos.into_iter().map(|p| p.name).collect()
        };
        assert_eq!(load(ActionSplit::Held), ["p04.jpg", "p09.jpg", "p14.jpg", "p19.jpg"]);
        let mut all = [load(ActionSplit::Fit), load(ActionSplit::Held)].concat();
        all.sort();
        assert_eq!(all, load(ActionSplit::Train));
        assert!(Stanford40::load(folder.path(), ActionSplit::Test).unwrap_err().to_string().contains("test.txt"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |rows: &str, train: &str| {
            let folder = folder(rows, train);
            Stanford40::load(folder.path(), ActionSplit::Train).unwrap_err().to_string()
        };
        let good = row("a.jpg", "running", "[0,0,240,320]");
        assert!(error(&format!("[{good}]"), "a.jpg\nb.jpg").contains("b.jpg"));
        assert!(error(&format!("[{good}]"), "a.jpg\na.jpg").contains("twice"));
        assert!(error(&format!("[{}]", row("a.jpg", "flying", "[0,0,9,9]")), "a.jpg").contains("flying"));
        let outside = error(&format!("[{}]", row("a.jpg", "running", "[0,0,250,320]")), "a.jpg");
        assert!(outside.contains("a.jpg") && outside.contains("240x320"), "{outside}");
        assert!(error("{}", "a.jpg").contains("annotations.json"));
    }
}
