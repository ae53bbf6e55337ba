//! Reads the files of `torch.save`: the zip archive of PyTorch 1.6 and later, and the plain sequence before it. The archives of
//! `torch.jit.save` have the form of the first, with modules in place of a dictionary.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use tch::Tensor;

use super::pickle::{self, Storage, Value, View};

/// How the older form starts: protocol 2, and a number of ten bytes.
pub(super) const OLDER_START: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

/// How a zip archive starts.
pub(super) const ZIP_START: &[u8] = b"PK\x03\x04";

/// Names under which training programs keep the state dict among other things.
const STATE_NAMES: [&str; 3] = ["model", "state_dict", "model_state_dict"];

type Named = Vec<(String, Tensor)>;

/// Named tensors of a zip archive.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_zip(path: &Path) -> Result<Named, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| e.to_string())?;
    let index = archive.file_names().find(|name| *name == "data.pkl" || name.ends_with("/data.pkl")).map(str::to_owned);
    let index = index.ok_or_else(|| "the archive holds no data.pkl, so torch.save did not write it".to_owned())?;
    let folder = index.strip_suffix("data.pkl").unwrap_or_default().to_owned();
    let mut entry = |name: String| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(&name).map_err(|e| format!("{name}: {e}"))?;
        // Nor can an entry then be larger than the file.
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(format!("{name} is compressed, so torch.save did not write it"));
        }
        entry.read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
        Ok(bytes)
    };
    if entry(format!("{folder}byteorder")).is_ok_and(|order| order != b"little") {
        return Err("its values are big-endian; save it on a little-endian machine".to_owned());
    }
    let views = named_views(&pickle::read(&entry(index)?)?.value)?;
    materialise(views, |storage| entry(format!("{folder}data/{}", storage.key)))
}

/// Named tensors of the older form.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_older(bytes: &[u8]) -> Result<Named, String> {
    // Magic number, protocol version, the machine that wrote it, the value, the order of the storages.
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.taken;
        Ok::<_, String>(pickle)
    };
    let [_magic, _version, _machine, state, order] = [next()?, next()?, next()?, next()?, next()?];
    let views = named_views(&state.value)?;
    let Value::List(order) = order.value else { return Err("the list of its storages is missing".to_owned()) };
    let mut storages: HashMap<String, &[u8]> = HashMap::new();
    let known: HashMap<&str, &Storage> = state.storages.iter().map(|s| (s.key.as_str(), &**s)).collect();
    for key in order.borrow().iter() {
        let Value::Text(key) = key else { return Err("a storage without a name".to_owned()) };
        let cut = || format!("the file ends in storage {key}");
        let count = bytes.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok()).ok_or_else(cut)?;
        let count = usize::try_from(u64::from_le_bytes(count)).map_err(|_| cut())?;
        let storage = known.get(&**key).ok_or_else(|| format!("nothing says of what kind storage {key} is"))?;
        let end = count.checked_mul(storage.kind.elt_size_in_bytes()).and_then(|n| n.checked_add(at + 8));
        storages.insert(key.to_string(), end.and_then(|end| bytes.get(at + 8..end)).ok_or_else(cut)?);
        at = end.unwrap_or(at);
    }
    materialise(views, |storage| {
        let bytes = storages.get(&storage.key).ok_or_else(|| format!("storage {} is missing", storage.key))?;
        Ok(bytes.to_vec())
    })
}

/// The tensors of a state dict, wherever a training program keeps it.
fn named_views(value: &Value) -> Result<Vec<(String, Rc<View>)>, String> {
    if matches!(value, Value::Module(_)) {
        let named = module_views(value);
        return if named.is_empty() { Err("its module holds no tensors".to_owned()) } else { Ok(named) };
    }
    let inner = STATE_NAMES.iter().find_map(|name| value.get(name).filter(|v| matches!(v, Value::Dict(_))));
    let Value::Dict(entries) = inner.as_ref().unwrap_or(value) else {
        return Err("it holds no dictionary of tensors".to_owned());
    };
    let entries = entries.borrow();
    let named = entries.iter().filter_map(|(key, value)| match (key, value) {
        (Value::Text(name), Value::Tensor(view)) => Some((name.to_string(), view.clone())),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() { Err("its dictionary holds no tensors".to_owned()) } else { Ok(named) }
}

/// The tensors of a TorchScript module and of those within it, named as its state dict would name them.
fn module_views(root: &Value) -> Vec<(String, Rc<View>)> {
    let mut named = Vec::new();
    // Each module once, so that a file cannot send this round in circles.
    let mut seen = HashSet::new();
    let mut left = vec![(String::new(), root.clone())];
    while let Some((name, value)) = left.pop() {
        match value {
            Value::Tensor(view) => named.push((name, view)),
            Value::Module(attributes) if seen.insert(Rc::as_ptr(&attributes)) => {
                for (key, value) in attributes.borrow().iter() {
                    let Value::Text(key) = key else { continue };
                    let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                    left.push((name, value.clone()));
                }
            }
            _ => {}
        }
    }
    named
}

fn materialise(
    views: Vec<(String, Rc<View>)>,
    mut bytes: impl FnMut(&Storage) -> Result<Vec<u8>, String>,
) -> Result<Named, String> {
    let mut storages: HashMap<String, Tensor> = HashMap::new();
    let mut named = Named::with_capacity(views.len());
    for (name, view) in views {
        let storage = &*view.storage;
        if !fits(&view) {
            return Err(format!("`{name}` reaches beyond its {} values", storage.len));
        }
        if !storages.contains_key(&storage.key) {
            let bytes = bytes(storage)?;
            let expected = storage.len.checked_mul(storage.kind.elt_size_in_bytes());
            if expected.is_none_or(|expected| bytes.len() != expected) {
                return Err(format!("storage {} has {} bytes, not {} values", storage.key, bytes.len(), storage.len));
            }
            let tensor = Tensor::f_from_data_size(&bytes, &[storage.len as i64], storage.kind);
            storages.insert(storage.key.clone(), tensor.map_err(|e| format!("`{name}`: {e}"))?);
        }
        let tensor = storages[&storage.key].f_as_strided(&view.size, &view.stride, view.offset);
        named.push((name.clone(), tensor.map_err(|e| format!("`{name}`: {e}"))?));
    }
    Ok(named)
}

/// Whether all values of a view lie in its storage.
fn fits(view: &View) -> bool {
    let View { storage, offset, size, stride } = view;
    if size.len() != stride.len() || *offset < 0 || size.iter().chain(stride).any(|&n| n < 0) {
        return false;
    }
    if size.contains(&0) {
        return true;
    }
    let last = size
        .iter()
        .zip(stride)
        .try_fold(*offset, |last, (&n, &step)| (n - 1).checked_mul(step).and_then(|reach| last.checked_add(reach)));
    last.and_then(|last| usize::try_from(last).ok()).is_some_and(|last| last < storage.len)
}
