//! Arrays: numbers, characters, cells, structures.

use std::io::Read;

use super::element::{ElementError, Limited, MATRIX, Tag, numbers, text};

/// How deep cells and structures may lie in each other.
const DEPTH_LIMIT: usize = 16;

/// An array of a MATLAB file; elements in MATLAB's order, column after column.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Numbers of any type; also logical ones.
    Numbers {
        /// Rows, columns, ...
        dims: Vec<usize>,
        /// Their product of values.
        values: Vec<f64>,
    },
    /// A row of characters.
    Text(String),
    /// Arrays in an array.
    Cells {
        /// Rows, columns, ...
        dims: Vec<usize>,
        /// Their product of arrays.
        cells: Vec<Array>,
    },
    /// An array of structures with the same fields.
    Structures {
        /// Rows, columns, ...
        dims: Vec<usize>,
        /// Names of the fields.
        fields: Vec<String>,
        /// The fields of the first structure, then those of the second, ...
        values: Vec<Array>,
    },
}

/// One structure of an array of them.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    fields: &'a [String],
    values: &'a [Array],
}

impl<'a> Record<'a> {
    /// The array in a field.
    pub fn field(&self, name: &str) -> Option<&'a Array> {
        self.fields.iter().position(|field| field == name).and_then(|i| self.values.get(i))
    }
}

impl Array {
    /// The structures; `None` for another array, except an empty one, which MATLAB writes for "no structure".
    pub fn records(&self) -> Option<Vec<Record<'_>>> {
        match self {
            Self::Structures { fields, values, .. } => {
                Some(values.chunks(fields.len().max(1)).map(|values| Record { fields, values }).collect())
            }
            Self::Numbers { values, .. } if values.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }

    /// Rows, columns and the numbers, column after column; `None` for another array and more dimensions.
    pub fn matrix(&self) -> Option<(usize, usize, &[f64])> {
        match self {
            Self::Numbers { dims, values } => match dims[..] {
                [rows, columns] => Some((rows, columns, values)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The only number of an array.
    pub fn number(&self) -> Option<f64> {
        match self.matrix() {
            Some((1, 1, [value])) => Some(*value),
            _ => None,
        }
    }

    /// The text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Head {
    class: u32,
    complex: bool,
    dims: Vec<usize>,
    name: String,
}

fn head(reader: &mut Limited<impl Read>) -> Result<Head, ElementError> {
    let format = |reason: &str| ElementError::Format(reason.to_owned());
    let flags = Tag::read(reader)?.payload(reader)?;
    let flags = flags.first_chunk::<4>().map(|b| u32::from_le_bytes(*b)).ok_or_else(|| format("no array flags"))?;
    let tag = Tag::read(reader)?;
    let dims = numbers(tag.kind, &tag.payload(reader)?)?;
    let dims: Vec<usize> = dims
        .into_iter()
        .map(|d| if d >= 0.0 { Ok(d as usize) } else { Err(format("a negative dimension")) })
        .collect::<Result<_, _>>()?;
    if dims.len() < 2 {
        return Err(format("an array with fewer than 2 dimensions"));
    }
    let tag = Tag::read(reader)?;
    let name = text(tag.kind, &tag.payload(reader)?)?;
    Ok(Head { class: flags & 0xff, complex: flags & 0x800 != 0, dims, name })
}

/// Reads a variable; its name instead when it is another one.
pub(super) fn variable(
    reader: &mut Limited<impl Read>,
    tag: Tag,
    wanted: &str,
) -> Result<Result<Array, String>, ElementError> {
    reader.check(u64::from(tag.length))?;
    let reader: &mut dyn Read = reader;
    let mut inner = Limited::new(reader, u64::from(tag.length));
    let head = head(&mut inner)?;
    if head.name != wanted {
        return Ok(Err(head.name));
    }
    body(&mut inner, head, 0).map(Ok)
}

fn nested(reader: &mut Limited<&mut dyn Read>, depth: usize) -> Result<Array, ElementError> {
    if depth > DEPTH_LIMIT {
        return Err(ElementError::Unsupported(format!("nesting deeper than {DEPTH_LIMIT}")));
    }
    let tag = Tag::read(reader)?;
    let length = u64::from(tag.length);
    if tag.kind != MATRIX {
        return Err(ElementError::Format(format!("an element of type {} where an array belongs", tag.kind)));
    }
    if length == 0 {
        return Ok(Array::Numbers { dims: vec![0, 0], values: Vec::new() });
    }
    reader.check(length)?;
    let array = {
        let mut inner: Limited<&mut dyn Read> = Limited::new(reader, length);
        let head = head(&mut inner)?;
        let array = body(&mut inner, head, depth)?;
        let rest = inner.left();
        inner.exactly(rest)?;
        array
    };
    reader.skip_padding(length)?;
    Ok(array)
}

fn body(reader: &mut Limited<&mut dyn Read>, head: Head, depth: usize) -> Result<Array, ElementError> {
    let Head { class, complex, dims, .. } = head;
    if complex {
        return Err(ElementError::Unsupported("a complex array".to_owned()));
    }
    let too_many = || ElementError::Format(format!("more elements than memory has places: {dims:?}"));
    let count = dims.iter().try_fold(1_usize, |n, d| n.checked_mul(*d)).ok_or_else(too_many)?;
    match class {
        1 => {
            let cells = (0..count).map(|_| nested(reader, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            Ok(Array::Cells { dims, cells })
        }
        2 => {
            let fields = field_names(reader)?;
            let total = count.checked_mul(fields.len()).ok_or_else(too_many)?;
            let values = (0..total).map(|_| nested(reader, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            Ok(Array::Structures { dims, fields, values })
        }
        4 => {
            let tag = Tag::read(reader)?;
            let text = text(tag.kind, &tag.payload(reader)?)?;
            if dims[0] > 1 {
                return Err(ElementError::Unsupported(format!("text of {} rows", dims[0])));
            }
            Ok(Array::Text(text))
        }
        6..=15 => {
            let tag = Tag::read(reader)?;
            let values = numbers(tag.kind, &tag.payload(reader)?)?;
            if values.len() != count {
                return Err(ElementError::Format(format!("{} numbers in an array of {dims:?}", values.len())));
            }
            Ok(Array::Numbers { dims, values })
        }
        3 => Err(ElementError::Unsupported("an object".to_owned())),
        5 => Err(ElementError::Unsupported("a sparse array".to_owned())),
        other => Err(ElementError::Unsupported(format!("an array of class {other}"))),
    }
}

/// Names of the fields of a structure: all of the same length in the file, filled with zeros.
fn field_names(reader: &mut Limited<&mut dyn Read>) -> Result<Vec<String>, ElementError> {
    let format = |reason: &str| ElementError::Format(reason.to_owned());
    let tag = Tag::read(reader)?;
    let length = numbers(tag.kind, &tag.payload(reader)?)?;
    let [length] = length[..] else { return Err(format("no length of field names")) };
    let tag = Tag::read(reader)?;
    let names = tag.payload(reader)?;
    if !(1.0..=1024.0).contains(&length) {
        return Err(format("field names shorter than 1 or longer than 1024 bytes"));
    }
    names
        .chunks(length as usize)
        .map(|name| {
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            String::from_utf8(name.to_vec()).map_err(|_| format("field names that are no text"))
        })
        .collect()
}
