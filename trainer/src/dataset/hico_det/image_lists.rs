//! Lists of image numbers: the Known-Object mode's, and the held-out part of the training split.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;

use super::InteractionTable;
use crate::dataset::{DatasetError, read_json};

#[derive(Deserialize)]
struct KnownObjectDocument {
    objects: BTreeMap<String, KnownObject>,
}

#[derive(Deserialize)]
struct KnownObject {
    /// First and last interaction of the object, 0-based, inclusive.
    hois: [i64; 2],
    images: HashSet<u64>,
}

/// For each interaction the numbers of the test images that contain its object.
#[derive(Clone, Debug)]
pub struct KnownObjectImages {
    /// Index into `images`, one an interaction.
    set_of_interaction: Vec<usize>,
    images: Vec<HashSet<u64>>,
}

impl KnownObjectImages {
    /// Objects with a list of images.
    pub fn object_count(&self) -> usize {
        self.images.len()
    }

    /// Image sets, and for each interaction which of them is its own.
    ///
    /// # Panics
    /// When an entry of `set_of_interaction` is no index into `images`.
    pub fn new(images: Vec<HashSet<u64>>, set_of_interaction: Vec<usize>) -> Self {
        assert!(set_of_interaction.iter().all(|&s| s < images.len()), "an interaction without a set of images");
        Self { set_of_interaction, images }
    }

    /// Whether the Known-Object mode scores `interaction` on the image of that number.
    pub fn contains(&self, interaction: usize, image_number: u64) -> bool {
        self.set_of_interaction.get(interaction).is_some_and(|&s| self.images[s].contains(&image_number))
    }
}

/// Reads `known_object_test.json`: for each object its range of interactions and its image numbers.
///
/// # Errors
/// [`DatasetError`] when the file is not such a document, a range leaves the table, or an interaction has no list.
pub fn read_known_objects(path: &Path, table: &InteractionTable) -> Result<KnownObjectImages, DatasetError> {
    let document: KnownObjectDocument =
        read_json(path, "the image lists of the Known-Object mode (objects -> hois, images)")?;
    let count = table.classes().len();
    let mut set_of_interaction = vec![None; count];
    let mut images = Vec::with_capacity(document.objects.len());
    for (name, object) in document.objects {
        let range = object.hois.map(|k| usize::try_from(k).ok().filter(|&k| k < count));
        let [Some(first), Some(last)] = range else {
            return Err(DatasetError::UnknownId {
                path: path.to_owned(),
                record: name,
                what: "hois",
                value: object.hois[if range[0].is_none() { 0 } else { 1 }],
                expected: format!("0 to {}", count.saturating_sub(1)),
            });
        };
        set_of_interaction.iter_mut().take(last + 1).skip(first).for_each(|s| *s = Some(images.len()));
        images.push(object.images);
    }
    let set_of_interaction = set_of_interaction
        .into_iter()
        .enumerate()
        .map(|(k, set)| {
            set.ok_or_else(|| DatasetError::Inconsistent {
                path: path.to_owned(),
                record: format!("interaction {k}"),
                reason: "no object's range holds it".to_owned(),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(KnownObjectImages { set_of_interaction, images })
}

/// Numbers of the training images to train on while choosing, and of those to choose by.
#[derive(Clone, Debug, Deserialize)]
pub struct HeldOut {
    /// To train on.
    pub train: HashSet<u64>,
    /// To choose by.
    pub val: HashSet<u64>,
}

/// Reads `split_ids.json`: `train` and `val`, which must not share an image.
///
/// # Errors
/// [`DatasetError`] when the file is not such a document or the two share an image.
pub fn read_held_out(path: &Path) -> Result<HeldOut, DatasetError> {
    let held_out: HeldOut = read_json(path, "the parts of the training split (train, val)")?;
    if let Some(number) = held_out.train.intersection(&held_out.val).min() {
        return Err(DatasetError::Inconsistent {
            path: path.to_owned(),
            record: format!("image {number}"),
            reason: "it is in `train` and in `val`".to_owned(),
        });
    }
    Ok(held_out)
}
