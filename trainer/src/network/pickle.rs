//! Reads the pickles of `torch.save`, without running what they name: tensors are rebuilt, every other object is left opaque.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tch::Kind;

/// What a pickle holds. Lists and dictionaries are shared, since they grow after they are remembered.
#[derive(Clone, Debug)]
pub(super) enum Value {
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
    /// Anything else.
    Opaque,
}

/// Values kept outside of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) kind: Kind,
    /// Number of values.
    pub(super) len: usize,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

impl Value {
    fn dict() -> Self {
        Self::Dict(Rc::default())
    }

    /// What a dictionary says under a name.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        let Self::Dict(entries) = self else { return None };
        let entries = entries.borrow();
        let found = entries.iter().rev().find(|(key, _)| matches!(key, Value::Text(text) if &**text == name));
        found.map(|(_, value)| value.clone())
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
pub(super) struct Pickle {
    pub(super) value: Value,
    /// Bytes it took.
    pub(super) taken: usize,
    /// Every storage it names.
    pub(super) storages: Vec<Rc<Storage>>,
}

/// Reads one pickle from the front of `bytes`.
///
/// # Errors
/// What is wrong, and at which byte.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), storages: Vec::new() };
    loop {
        let start = machine.at;
        match machine.step() {
            Ok(false) => {}
            Ok(true) => {
                let value = machine.pop().map_err(|what| format!("{what} at byte {start}"))?;
                return Ok(Pickle { value, taken: machine.at, storages: machine.storages });
            }
            Err(what) => return Err(format!("{what} at byte {start} of the pickle")),
        }
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    storages: Vec<Rc<Storage>>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| "the file ends".to_owned())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian unsigned number of up to eight bytes.
    fn number(&mut self, count: usize) -> Step<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn length(&mut self, count: usize) -> Step<usize> {
        usize::try_from(self.number(count)?).map_err(|_| "a length beyond memory".to_owned())
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or_else(|| "the file ends".to_owned())?;
        let line = text(&rest[..end])?;
        self.at += end + 1;
        Ok(line)
    }

    fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("nothing on the stack".to_owned());
        }
        self.stack.pop().ok_or_else(|| "nothing on the stack".to_owned())
    }

    fn top(&self) -> Step<&Value> {
        self.stack.last().ok_or_else(|| "nothing on the stack".to_owned())
    }

    /// Everything since the last mark.
    fn since_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| "no mark".to_owned())?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn tuple(&mut self, count: usize) -> Step<()> {
        let start = self.stack.len().checked_sub(count).ok_or_else(|| "nothing on the stack".to_owned())?;
        let values = self.stack.split_off(start);
        self.stack.push(Value::Tuple(values.into()));
        Ok(())
    }

    fn append(&mut self, values: Vec<Value>) -> Step<()> {
        if let Value::List(list) = self.top()? {
            list.borrow_mut().extend(values);
        }
        Ok(())
    }

    fn set(&mut self, values: Vec<Value>) -> Step<()> {
        if let Value::Dict(dict) = self.top()? {
            let mut dict = dict.borrow_mut();
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                dict.push((key, value));
            }
        }
        Ok(())
    }

    fn remember(&mut self, place: usize) -> Step<()> {
        let value = self.top()?.clone();
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Step<()> {
        let value = self.memo.get(&place).ok_or_else(|| format!("nothing was remembered as {place}"))?.clone();
        self.stack.push(value);
        Ok(())
    }

    /// One instruction of protocols 2 to 5; whether it was the last.
    fn step(&mut self) -> Step<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(true),
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.since_mark()?;
            }
            b'2' => self.stack.push(self.top()?.clone()),
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Int(i64::from(code == 0x88))),
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.stack.push(Value::Int(i64::from(number)));
            }
            b'K' | b'M' => {
                let number = self.number(if code == b'K' { 1 } else { 2 })? as i64;
                self.stack.push(Value::Int(number));
            }
            0x8a => {
                let count = self.length(1)?;
                let bytes = self.take(count)?;
                self.stack.push(long(bytes));
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Opaque);
            }
            b'X' | b'U' | b'T' | 0x8c | 0x8d => {
                let width = match code {
                    b'U' | 0x8c => 1,
                    0x8d => 8,
                    _ => 4,
                };
                let count = self.length(width)?;
                let text = text(self.take(count)?)?;
                self.stack.push(Value::Text(text.into()));
            }
            b'B' | b'C' | 0x8e => {
                let width = match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                };
                let count = self.length(width)?;
                self.take(count)?;
                self.stack.push(Value::Opaque);
            }
            b')' => self.stack.push(Value::Tuple(Rc::new([]))),
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b't' => {
                let values = self.since_mark()?;
                self.stack.push(Value::Tuple(values.into()));
            }
            b']' => self.stack.push(Value::List(Rc::default())),
            b'l' => {
                let values = self.since_mark()?;
                self.stack.push(Value::List(Rc::new(RefCell::new(values))));
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' => {
                let values = self.since_mark()?;
                self.append(values)?;
            }
            b'}' => self.stack.push(Value::dict()),
            b'd' => {
                let values = self.since_mark()?;
                self.stack.push(Value::dict());
                self.set(values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let values = self.since_mark()?;
                self.set(values)?;
            }
            // Sets are never of interest.
            0x8f => self.stack.push(Value::Opaque),
            0x90 => {
                self.since_mark()?;
            }
            b'q' | b'r' => {
                let place = self.length(if code == b'q' { 1 } else { 4 })?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' | b'j' => {
                let place = self.length(if code == b'h' { 1 } else { 4 })?;
                self.recall(place)?;
            }
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.stack.push(Value::Global(name.into()));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err("a global without a name".to_owned());
                };
                self.stack.push(Value::Global(format!("{module}.{name}").into()));
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.stack.push(call(&function, &arguments)?);
            }
            0x81 => {
                let (_arguments, _class) = (self.pop()?, self.pop()?);
                self.stack.push(Value::Opaque);
            }
            // The state of an object; a dictionary's attributes are not its entries.
            b'b' => {
                self.pop()?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = Rc::new(storage(&id)?);
                self.storages.push(storage.clone());
                self.stack.push(Value::Storage(storage));
            }
            _ => return Err(format!("instruction {code:#04x} is unknown")),
        }
        Ok(false)
    }
}

fn text(bytes: &[u8]) -> Step<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a text that is not UTF-8".to_owned())
}

/// A little-endian two's complement number.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let fill = if bytes.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
    let mut whole = [fill; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(whole))
}

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
