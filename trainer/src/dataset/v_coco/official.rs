//! The official `vcoco_*.json`, which point at annotations of a COCO instances file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use hoi_runtime::vocabulary::ObjectClass;
use serde::Deserialize;

use super::{ACTIONS, ActionRole, VCocoImage, VCocoPair, VCocoPerson};
use crate::dataset::coco::{CocoBox, CocoImage, read_instances};
use crate::dataset::{DatasetError, EntityLabel, read_json};

/// COCO's class of persons.
pub(super) const PERSON: ObjectClass = ObjectClass(0);

/// One action over all annotated persons.
#[derive(Deserialize)]
struct ActionRow {
    action_name: String,
    role_name: Vec<String>,
    image_id: Vec<u64>,
    ann_id: Vec<u64>,
    label: Vec<u8>,
    /// Role after role, the agent first; 0 is no object.
    role_object_id: Vec<u64>,
}

fn read_rows(path: &Path) -> Result<Vec<ActionRow>, DatasetError> {
    let rows: Vec<ActionRow> =
        read_json(path, "V-COCO's list of actions (action_name, role_name, image_id, ann_id, label, role_object_id)")?;
    let wrong = |record: String, reason: String| DatasetError::Inconsistent { path: path.to_owned(), record, reason };
    if rows.len() != ACTIONS.len() {
        return Err(wrong(
            "the whole file".to_owned(),
            format!("{} actions, {} are needed", rows.len(), ACTIONS.len()),
        ));
    }
    for (i, (row, action)) in rows.iter().zip(&ACTIONS).enumerate() {
        let record = || format!("action {i} ({})", row.action_name);
        let roles: Vec<&str> = std::iter::once("agent").chain(action.roles.iter().map(|role| role.name())).collect();
        if row.action_name != action.name || row.role_name != roles {
            return Err(wrong(record(), format!("roles {:?}: expected {} with {roles:?}", row.role_name, action.name)));
        }
        let count = row.ann_id.len();
        let lengths = [row.image_id.len(), row.label.len(), row.role_object_id.len()];
        if lengths != [count, count, count * roles.len()] {
            let reason = format!("{lengths:?} image_id, label, role_object_id do not go with {count} ann_id");
            return Err(wrong(record(), reason));
        }
    }
    Ok(rows)
}

/// Counts of official files without the instances that they point into: images, and persons that do each of [`ACTIONS`].
///
/// # Errors
/// [`DatasetError`] naming the file that is not such a document.
pub fn official_positives(annotation: &[PathBuf]) -> Result<(usize, Vec<usize>), DatasetError> {
    let mut images = BTreeSet::new();
    let mut positives = vec![0; ACTIONS.len()];
    for path in annotation {
        for (count, row) in positives.iter_mut().zip(read_rows(path)?) {
            *count += row.label.iter().filter(|label| **label == 1).count();
            images.extend(row.image_id);
        }
    }
    Ok((images.len(), positives))
}

/// Where a COCO annotation is in its image.
#[derive(Clone, Copy)]
struct Place<'a> {
    image: u64,
    coco: &'a CocoBox,
    /// Index of the person, if it is one and has an area.
    person: Option<usize>,
}

/// Reads official files (one, or those of `train` and `val`) with the instances that they point into. By rising number.
///
/// As in the official evaluator, COCO annotations without an area are left out, and what V-COCO says of them is too.
///
/// # Errors
/// [`DatasetError`], naming file and row: not such documents, an image or annotation that the instances do not hold, an agent that is no person.
pub fn read_official(annotation: &[PathBuf], instances: &[PathBuf]) -> Result<Vec<VCocoImage>, DatasetError> {
    let files = annotation.iter().map(|path| Ok((path.as_path(), read_rows(path)?)));
    let files = files.collect::<Result<Vec<_>, DatasetError>>()?;
    let mut first_use = BTreeMap::new();
    for (path, rows) in &files {
        for id in rows.iter().flat_map(|row| &row.image_id) {
            first_use.entry(*id).or_insert(*path);
        }
    }
    let mut coco = BTreeMap::new();
    for path in instances {
        read_instances(path, &|id| first_use.contains_key(&id), &mut coco)?;
    }
    if let Some((id, path)) = first_use.iter().find(|(id, _)| !coco.contains_key(id)) {
        let names: Vec<String> = instances.iter().map(|path| path.display().to_string()).collect();
        return Err(DatasetError::Inconsistent {
            path: (*path).to_owned(),
            record: format!("image {id}"),
            reason: format!("{} does not hold it", names.join(", ")),
        });
    }
    let mut images = BTreeMap::new();
    let mut places = HashMap::new();
    for (&number, image) in &coco {
        images.insert(number, laid_out(number, image, &mut places));
    }
    for (path, rows) in &files {
        for (action, row) in rows.iter().enumerate() {
            note_row(path, action, row, &places, &mut images)?;
        }
    }
    Ok(images.into_values().collect())
}

/// The image with its persons and objects and no action, and where each annotation went.
fn laid_out<'a>(number: u64, image: &'a CocoImage, places: &mut HashMap<u64, Place<'a>>) -> VCocoImage {
    let CocoImage { name, size, boxes } = image;
    let mut read = VCocoImage { number, name: name.clone(), size: Some(*size), ..VCocoImage::default() };
    for coco in boxes {
        let mut person = None;
        if !coco.empty && coco.class == PERSON {
            person = Some(read.persons.len());
            read.persons.push(VCocoPerson::new(coco.bbox));
            read.crowds.extend(coco.crowd.then_some(coco.bbox));
        } else if !coco.empty && !coco.crowd {
            read.objects.push(EntityLabel { bbox: coco.bbox, class: coco.class });
        }
        places.insert(coco.id, Place { image: number, coco, person });
    }
    read
}

fn note_row(
    path: &Path,
    action: usize,
    row: &ActionRow,
    places: &HashMap<u64, Place<'_>>,
    images: &mut BTreeMap<u64, VCocoImage>,
) -> Result<(), DatasetError> {
    let count = row.ann_id.len();
    for i in 0..count {
        let record = || format!("action {}, row {i} (image {})", row.action_name, row.image_id[i]);
        let unknown = |what, value: u64, expected: &str| DatasetError::UnknownId {
            path: path.to_owned(),
            record: record(),
            what,
            value: value as i64,
            expected: expected.to_owned(),
        };
        let here = |what, id| {
            let place = places.get(&id).filter(|place| place.image == row.image_id[i]);
            place.copied().ok_or_else(|| unknown(what, id, "a COCO annotation of the image"))
        };
        let agent = here("ann_id", row.ann_id[i])?;
        if agent.coco.class != PERSON {
            return Err(unknown("ann_id", row.ann_id[i], "a person"));
        }
        if row.label[i] > 1 {
            return Err(unknown("label", u64::from(row.label[i]), "0 or 1"));
        }
        let (Some(person), Some(image)) = (agent.person, images.get_mut(&row.image_id[i])) else { continue };
        image.persons[person].annotated = true;
        if row.label[i] == 0 {
            continue;
        }
        image.persons[person].note(ActionRole { action, role: None }, None);
        for role in 0..ACTIONS[action].roles.len() {
            let id = row.role_object_id[(role + 1) * count + i];
            if id == 0 {
                continue;
            }
            let CocoBox { bbox, class, empty, .. } = *here("role_object_id", id)?.coco;
            if empty {
                continue;
            }
            let action_role = ActionRole { action, role: Some(role) };
            image.persons[person].note(action_role, Some(bbox));
            image.pairs.push(VCocoPair { human: agent.coco.bbox, object: bbox, class, action_role });
        }
    }
    Ok(())
}
