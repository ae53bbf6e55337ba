//! `anno_bbox.mat`, the official annotation, and `anno.mat`, the labels of whole images.

use std::path::Path;

use hoi_runtime::geometry::Size;

use super::InteractionTable;
use super::annotations::image_number;
use crate::dataset::boxes::Convention;
use crate::dataset::mat5::{Array, MatFile, Record};
use crate::dataset::{AnnotatedImage, AnnotatedPair, DatasetError};

/// The two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// 38,118 images.
    Train,
    /// 9,658 images.
    Test,
}

/// Where an error is.
struct Place<'a> {
    path: &'a Path,
    record: String,
}

impl Place<'_> {
    fn wrong(&self, reason: impl Into<String>) -> DatasetError {
        DatasetError::Inconsistent { path: self.path.to_owned(), record: self.record.clone(), reason: reason.into() }
    }

    fn field<'r>(&self, record: &Record<'r>, name: &str) -> Result<&'r Array, DatasetError> {
        record.field(name).ok_or_else(|| self.wrong(format!("no field `{name}`")))
    }

    fn number(&self, record: &Record<'_>, name: &str) -> Result<f64, DatasetError> {
        self.field(record, name)?.number().ok_or_else(|| self.wrong(format!("`{name}` is not one number")))
    }

    fn records<'r>(&self, record: &Record<'r>, name: &str) -> Result<Vec<Record<'r>>, DatasetError> {
        self.field(record, name)?.records().ok_or_else(|| self.wrong(format!("`{name}` is no structure")))
    }

    fn whole(&self, value: f64, what: &str, limit: usize) -> Result<usize, DatasetError> {
        if value.fract() == 0.0 && value >= 1.0 && value <= limit as f64 {
            return Ok(value as usize);
        }
        Err(self.wrong(format!("{what} {value} is unknown: expected 1 to {limit}")))
    }

    fn boxes(&self, hoi: &Record<'_>, name: &str) -> Result<Vec<[f64; 4]>, DatasetError> {
        let records = self.records(hoi, name)?;
        records
            .iter()
            .map(|b| Ok([self.number(b, "x1")?, self.number(b, "y1")?, self.number(b, "x2")?, self.number(b, "y2")?]))
            .collect()
    }
}

/// Reads one split of `anno_bbox.mat`: structures `{filename, size {width, height}, hoi {id, bboxhuman, bboxobject, connection, invis}}`, 1-based
/// inclusive boxes, one pair for each row of `connection`. Interactions that are flagged `invis` have no boxes and are skipped. In the order
/// of the file.
///
/// # Errors
/// [`DatasetError`], naming file, image and interaction: not such a file, an unknown id, a `connection` to a box that is not there, a box outside its
/// image.
pub fn read_official(path: &Path, split: Split, table: &InteractionTable) -> Result<Vec<AnnotatedImage>, DatasetError> {
    let variable = match split {
        Split::Train => "bbox_train",
        Split::Test => "bbox_test",
    };
    let array = MatFile::open(path)?.variable(variable)?;
    let place = Place { path, record: variable.to_owned() };
    let records = array.records().ok_or_else(|| place.wrong("no array of structures"))?;
    records
        .iter()
        .enumerate()
        .map(|(i, record)| read_image(path, &format!("{variable}({})", i + 1), record, table))
        .collect()
}

fn read_image(
    path: &Path,
    at: &str,
    record: &Record<'_>,
    table: &InteractionTable,
) -> Result<AnnotatedImage, DatasetError> {
    let mut place = Place { path, record: at.to_owned() };
    let name = place.field(record, "filename")?.text().ok_or_else(|| place.wrong("`filename` is no text"))?;
    place.record = format!("{at} {name}");
    let sizes = place.records(record, "size")?;
    let [size] = &sizes[..] else { return Err(place.wrong("`size` is not one structure")) };
    let side = |name| place.whole(place.number(size, name)?, name, u32::MAX as usize);
    let size = Size::new(side("width")? as u32, side("height")? as u32);
    let hois = place.records(record, "hoi")?;
    let mut pairs = Vec::new();
    for (k, hoi) in hois.iter().enumerate() {
        place.record = format!("{at} {name}, hoi {}", k + 1);
        let interaction = place.whole(place.number(hoi, "id")?, "id", table.classes().len())? - 1;
        if place.number(hoi, "invis")? != 0.0 {
            continue;
        }
        let (humans, objects) = (place.boxes(hoi, "bboxhuman")?, place.boxes(hoi, "bboxobject")?);
        let connection = place.field(hoi, "connection")?.matrix();
        let (rows, columns, values) = connection.ok_or_else(|| place.wrong("`connection` is no matrix of numbers"))?;
        if rows > 0 && columns != 2 {
            return Err(place.wrong(format!("`connection` has {columns} columns, 2 are needed")));
        }
        for row in 0..rows {
            let human = humans[place.whole(values[row], "the human of a connection", humans.len())? - 1];
            let object = objects[place.whole(values[rows + row], "the object of a connection", objects.len())? - 1];
            let checked = |what: &str, bbox| {
                let record = || format!("{}, {what} of connection {}", place.record, row + 1);
                Convention::OneBasedInclusive.checked(path, record, bbox, Some(size))
            };
            pairs.push(AnnotatedPair {
                human: checked("human", human)?,
                object: checked("object", object)?,
                interaction,
            });
        }
    }
    Ok(AnnotatedImage { number: image_number(path, name)?, name: name.to_owned(), size: Some(size), pairs })
}

/// Labels of whole images for one interaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageLabels {
    /// Numbers of the images that show it.
    pub positive: Vec<u64>,
    /// Numbers of the images where it is not clear.
    pub ambiguous: Vec<u64>,
    /// In how many images it is said not to be.
    pub negative: usize,
}

/// Reads one split of `anno.mat`: the numbers of its images, and for each interaction which of them show it (1), may show it (0), do not (-1); NaN is not
/// labelled.
///
/// # Errors
/// [`DatasetError`] naming the file and what does not fit.
pub fn read_image_labels(path: &Path, split: Split) -> Result<(Vec<u64>, Vec<ImageLabels>), DatasetError> {
    let (list, matrix) = match split {
        Split::Train => ("list_train", "anno_train"),
        Split::Test => ("list_test", "anno_test"),
    };
    let file = MatFile::open(path)?;
    let wrong = |record: &str, reason: &str| DatasetError::Inconsistent {
        path: path.to_owned(),
        record: record.to_owned(),
        reason: reason.to_owned(),
    };
    let Array::Cells { cells, .. } = file.variable(list)? else { return Err(wrong(list, "no list of cells")) };
    let numbers =
        cells.iter().map(|cell| image_number(path, cell.text().ok_or_else(|| wrong(list, "a cell without text"))?));
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    let array = file.variable(matrix)?;
    let (rows, columns, values) = array.matrix().ok_or_else(|| wrong(matrix, "no matrix of numbers"))?;
    if columns != numbers.len() {
        return Err(wrong(matrix, &format!("{columns} columns do not go with {} names in {list}", numbers.len())));
    }
    let mut labels = vec![ImageLabels::default(); rows];
    for (column, number) in values.chunks_exact(rows.max(1)).zip(&numbers) {
        for (label, value) in labels.iter_mut().zip(column) {
            match *value {
                1.0 => label.positive.push(*number),
                0.0 => label.ambiguous.push(*number),
                -1.0 => label.negative += 1,
                v if v.is_nan() => (),
                v => return Err(wrong(matrix, &format!("image {number}: label {v}: expected 1, 0, -1 or NaN"))),
            }
        }
    }
    Ok((numbers, labels))
}
