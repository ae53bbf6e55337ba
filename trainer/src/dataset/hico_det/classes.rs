//! The table of interactions, and the vocabulary that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hoi_runtime::vocabulary::{Interaction, ObjectClass, Verb, Vocabulary, VocabularySpec};
use serde::Deserialize;

use crate::dataset::{DatasetError, read_json};

/// COCO's 80 classes in COCO's order and spelling: the object vocabulary of every detector here. HICO-DET has the same 80.
pub const COCO_80: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// HICO-DET's verb for "nothing happens between the two".
pub const NO_INTERACTION: &str = "no_interaction";

/// Fewer training instances than this make an interaction rare (HICO-DET).
pub const RARE_BELOW: u32 = 10;

/// One of HICO-DET's 600 interactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InteractionClass {
    /// Verb and object, as indices into the vocabulary.
    pub interaction: Interaction,
    /// Position of the object in HICO-DET's own, alphabetical order.
    pub hico_object: usize,
    /// Annotated pairs in the training split.
    pub train_count: u32,
    /// Whether there are fewer than [`RARE_BELOW`] of them.
    pub rare: bool,
}

/// The table of interactions with its vocabulary: objects in COCO order, verbs in HICO-DET's order.
#[derive(Clone, Debug)]
pub struct InteractionTable {
    classes: Vec<InteractionClass>,
    vocabulary: Vocabulary,
}

/// Object, verb and annotated training pairs of each interaction.
const PUBLISHED: &str = include_str!("../../../data/hico_det_classes.tsv");

#[derive(Deserialize)]
struct Row {
    hoi: i64,
    object: String,
    object_idx: usize,
    verb: String,
    verb_idx: usize,
    coco80_idx: i64,
    n_train: u32,
}

impl InteractionTable {
    /// HICO-DET's own table of 600 interactions, as this crate carries it (`trainer/data/hico_det_classes.tsv`).
    ///
    /// # Errors
    /// [`DatasetError`] naming the row, were that file damaged.
    pub fn published() -> Result<Self, DatasetError> {
        let path = Path::new("hico_det_classes.tsv");
        let mut rows = Vec::new();
        for (i, line) in PUBLISHED.lines().filter(|line| !line.starts_with('#')).enumerate() {
            let mut parts = line.split('\t');
            let row = (parts.next(), parts.next(), parts.next().and_then(|n| n.parse().ok()));
            let (Some(object), Some(verb), Some(n_train)) = row else {
                let reason = "object, verb and a count, with tabs between, are needed".to_owned();
                return Err(DatasetError::Inconsistent { path: path.to_owned(), record: format!("row {i}"), reason });
            };
            rows.push((object, verb, n_train));
        }
        // HICO-DET numbers objects and verbs by their names.
        let objects: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
        let verbs: BTreeSet<&str> = rows.iter().map(|row| row.1).collect();
        let place = |names: &BTreeSet<&str>, name| names.iter().position(|n| *n == name).unwrap_or(names.len());
        let coco = |name: &str| COCO_80.iter().position(|n| *n == name.replace('_', " "));
        let rows = rows.iter().enumerate().map(|(hoi, &(object, verb, n_train))| Row {
            hoi: hoi as i64,
            object: object.to_owned(),
            object_idx: place(&objects, object),
            verb: verb.to_owned(),
            verb_idx: place(&verbs, verb),
            coco80_idx: coco(object).map_or(-1, |index| index as i64),
            n_train,
        });
        Self::from_rows(path, &rows.collect::<Vec<_>>())
    }

    /// Reads `hoi_classes.json`: rows `{hoi, object, object_idx, verb, verb_idx, coco80_idx, n_train, ..}`, `hoi` 0-based and rising.
    ///
    /// # Errors
    /// [`DatasetError`] when the file cannot be read, is not such a list, skips an index or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, DatasetError> {
        let rows: Vec<Row> = read_json(path, "a list of interaction classes (hoi_classes.json)")?;
        Self::from_rows(path, &rows)
    }

    fn from_rows(path: &Path, rows: &[Row]) -> Result<Self, DatasetError> {
        let inconsistent =
            |record: String, reason: String| DatasetError::Inconsistent { path: path.to_owned(), record, reason };
        let verb_count = rows.iter().map(|r| r.verb_idx + 1).max().unwrap_or(0);
        if verb_count > rows.len() {
            return Err(inconsistent("verb_idx".into(), format!("{} rows cannot name {verb_count} verbs", rows.len())));
        }
        let mut verbs: Vec<Option<String>> = vec![None; verb_count];
        let mut valid: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut classes = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            let record = || format!("row {i} ({} {})", row.verb, row.object);
            let unknown = |what, value, expected| DatasetError::UnknownId {
                path: path.to_owned(),
                record: record(),
                what,
                value,
                expected,
            };
            if row.hoi != i as i64 {
                return Err(unknown("hoi", row.hoi, format!("{i}, its position in the list")));
            }
            let name = usize::try_from(row.coco80_idx).ok().and_then(|o| COCO_80.get(o));
            let name = name.ok_or_else(|| unknown("coco80_idx", row.coco80_idx, "0 to 79".into()))?;
            if row.object.replace('_', " ") != *name {
                return Err(inconsistent(
                    record(),
                    format!("object `{}`, but COCO's class {} is `{name}`", row.object, row.coco80_idx),
                ));
            }
            match &verbs[row.verb_idx] {
                Some(other) if *other != row.verb => {
                    let reason = format!("verb {} is `{}` here and `{other}` before", row.verb_idx, row.verb);
                    return Err(inconsistent(record(), reason));
                }
                _ => verbs[row.verb_idx] = Some(row.verb.clone()),
            }
            valid.entry((*name).to_owned()).or_default().push(row.verb.clone());
            classes.push(InteractionClass {
                interaction: Interaction {
                    verb: Verb(row.verb_idx as u16),
                    object: ObjectClass(row.coco80_idx as u16),
                },
                hico_object: row.object_idx,
                train_count: row.n_train,
                rare: row.n_train < RARE_BELOW,
            });
        }
        let verbs: Vec<String> = verbs
            .into_iter()
            .enumerate()
            .map(|(v, name)| name.ok_or_else(|| inconsistent("verb_idx".into(), format!("no row names verb {v}"))))
            .collect::<Result<_, _>>()?;
        let spec = VocabularySpec {
            human: COCO_80[0].to_owned(),
            objects: COCO_80.map(str::to_owned).to_vec(),
            background_verb: verbs.iter().any(|v| v == NO_INTERACTION).then(|| NO_INTERACTION.to_owned()),
            verbs,
            valid,
            alone: Vec::new(),
        };
        let vocabulary = Vocabulary::new(spec).map_err(|e| inconsistent("the vocabulary".into(), e.to_string()))?;
        Ok(Self { classes, vocabulary })
    }

    /// The interactions; the position is their 0-based HICO-DET index.
    pub fn classes(&self) -> &[InteractionClass] {
        &self.classes
    }

    /// Objects, verbs and which verb occurs with which object.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// `[object][verb]`: the index of the interaction, `None` where the data set does not know it.
    pub fn index(&self) -> Vec<Vec<Option<usize>>> {
        let mut index = vec![vec![None; self.vocabulary.verb_count()]; self.vocabulary.object_count()];
        for (k, class) in self.classes.iter().enumerate() {
            let Interaction { verb, object } = class.interaction;
            index[object.0 as usize][verb.0 as usize] = Some(k);
        }
        index
    }
}
