//! The stack machine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Pickle, Step, Storage, Value, call, storage};

/// The stack machine that a pickle is a program for.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    storages: Vec<Rc<Storage>>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), storages: Vec::new() }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Step<Pickle> {
        loop {
            let start = self.at;
            let place = |what: String| format!("{what} at byte {start} of the pickle");
            if self.step().map_err(place)? {
                let value = self.pop().map_err(place)?;
                return Ok(Pickle { value, taken: self.at, storages: self.storages });
            }
        }
    }

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
                let (_arguments, class) = (self.pop()?, self.pop()?);
                self.stack.push(Value::object(&class));
            }
            // The state of an object; a dictionary's attributes are not its entries.
            b'b' => {
                let state = self.pop()?;
                if let (Value::Module(attributes), Value::Dict(state)) = (self.top()?, &state) {
                    attributes.borrow_mut().extend(state.borrow().iter().cloned());
                }
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
