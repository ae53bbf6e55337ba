//! Reads the pickles of `torch.save`, without running what they name: tensors are rebuilt, every other object is left opaque.

mod machine;

use std::cell::RefCell;
use std::rc::Rc;

use machine::Machine;
use tch::Kind;

/// What the names of classes that TorchScript made begin with.
const TORCH_SCRIPT: &str = "__torch__.";

/// What a pickle holds. Lists and dictionaries are shared, since they grow after they are remembered.
#[derive(Clone, Debug)]
pub(in crate::network) enum Value {
    None,
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<[Value]>),
    List(Rc<RefCell<Vec<Value>>>),
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// `module.name`.
    Global(Rc<str>),
    Storage(Rc<Storage>),
    Tensor(Rc<View>),
    /// A module of TorchScript: its attributes by name.
    Module(Rc<RefCell<Vec<(Value, Value)>>>),
    /// Anything else.
    Opaque,
}

/// Values kept outside of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::network) struct Storage {
    pub(in crate::network) key: String,
    pub(in crate::network) kind: Kind,
    /// Number of values.
    pub(in crate::network) len: usize,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(in crate::network) struct View {
    pub(in crate::network) storage: Rc<Storage>,
    pub(in crate::network) offset: i64,
    pub(in crate::network) size: Vec<i64>,
    pub(in crate::network) stride: Vec<i64>,
}

impl Value {
    fn dict() -> Self {
        Self::Dict(Rc::default())
    }

    /// What a dictionary says under a name.
    pub(in crate::network) fn get(&self, name: &str) -> Option<Value> {
        let Self::Dict(entries) = self else { return None };
        let entries = entries.borrow();
        let found = entries.iter().rev().find(|(key, _)| matches!(key, Value::Text(text) if &**text == name));
        found.map(|(_, value)| value.clone())
    }

    /// A new object of a class: modules of TorchScript are kept, others are opaque.
    fn object(class: &Value) -> Self {
        match class {
            Self::Global(name) if name.starts_with(TORCH_SCRIPT) => Self::Module(Rc::default()),
            _ => Self::Opaque,
        }
    }

    /// Integers of a tuple or list.
    fn integers(&self) -> Option<Vec<i64>> {
        let whole = |values: &[Value]| {
            values.iter().map(|v| if let Value::Int(i) = v { Some(*i) } else { None }).collect::<Option<Vec<_>>>()
        };
        match self {
            Self::Tuple(values) => whole(values),
            Self::List(values) => whole(&values.borrow()),
            _ => None,
        }
    }
}

/// Kind of the values in a storage class of `torch`.
fn kind_of(class: &str) -> Option<Kind> {
    Some(match class.strip_prefix("torch.")? {
        "DoubleStorage" => Kind::Double,
        "FloatStorage" => Kind::Float,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

/// One pickle.
#[derive(Debug)]
pub(in crate::network) struct Pickle {
    pub(in crate::network) value: Value,
    /// Bytes it took.
    pub(in crate::network) taken: usize,
    /// Every storage it names.
    pub(in crate::network) storages: Vec<Rc<Storage>>,
}

/// Reads one pickle from the front of `bytes`.
///
/// # Errors
/// What is wrong, and at which byte.
pub(in crate::network) fn read(bytes: &[u8]) -> Result<Pickle, String> {
    Machine::new(bytes).run()
}

type Step<T> = Result<T, String>;

fn call(function: &Value, arguments: &Value) -> Step<Value> {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else { return Ok(Value::Opaque) };
    match (&**name, &arguments[..]) {
        ("collections.OrderedDict", []) => Ok(Value::dict()),
        ("torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor", [storage, offset, size, stride, ..]) => {
            let (Value::Storage(storage), Value::Int(offset), Some(size), Some(stride)) =
                (storage, offset, size.integers(), stride.integers())
            else {
                return Err("a tensor without storage, offset, size and stride".to_owned());
            };
            Ok(Value::Tensor(Rc::new(View { storage: storage.clone(), offset: *offset, size, stride })))
        }
        ("torch._utils._rebuild_parameter", [tensor, ..]) => Ok(tensor.clone()),
        _ => Ok(Value::Opaque),
    }
}

fn storage(id: &Value) -> Step<Storage> {
    let wrong = || "a storage of unknown form".to_owned();
    let Value::Tuple(parts) = id else { return Err(wrong()) };
    let [Value::Text(tag), Value::Global(class), Value::Text(key), _location, Value::Int(len), view @ ..] = &parts[..]
    else {
        return Err(wrong());
    };
    if &**tag != "storage" || !matches!(view, [] | [Value::None]) {
        return Err(wrong());
    }
    let kind = kind_of(class).ok_or_else(|| format!("a storage of the class {class}, which is unknown"))?;
    let len = usize::try_from(*len).map_err(|_| wrong())?;
    Ok(Storage { key: key.to_string(), kind, len })
}
