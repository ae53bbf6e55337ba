//! The configuration: one TOML file, whose documented form is `hoi-device.toml` beside this crate's sources ([`DOCUMENTED`]).
//!
//! A key that is left out has the value of the documented file. A key that the documented file does not have is an error with the
//! nearest name; so is a value of another type or out of its range. Nothing is guessed, and a file is taken whole or not at all.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::board::BoardChoice;
use crate::serial::Protocol;

/// Every key with its default and what it means; what `hoi-device config` prints.
pub const DOCUMENTED: &str = include_str!("../../hoi-device.toml");

/// The layout of the file that this version reads.
pub const SCHEMA: &str = "hoi.device/1";

/// Bytes that a configuration may have.
pub const MAX_BYTES: u64 = 256 * 1024;

/// What the device is to do, as the file says it. An empty text stands for "none".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// [`SCHEMA`].
    pub schema: String,
    /// Pictures.
    pub source: SourceConfig,
    /// Bundle and networks.
    pub model: ModelConfig,
    /// Screen.
    pub display: DisplayConfig,
    /// Serial port.
    pub serial: SerialConfig,
    /// Machine.
    pub board: BoardConfig,
    /// Standard output.
    pub output: OutputConfig,
}

/// `[source]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// As [`crate::source::open`] takes it.
    pub uri: String,
    /// How often what ends is gone through; 0 without end.
    pub repeat: u32,
    /// Seconds.
    pub stall_s: f64,
}

/// `[model]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Folder or name of a bundle.
    pub bundle: String,
    /// Folder of a [`crate::update::Store`].
    pub store: String,
    /// Good frames until an update is kept.
    pub confirm_frames: u32,
    /// Threads that one network may use.
    pub threads: u16,
    /// In `[0, 1]`.
    pub min_score: f32,
}

/// `[display]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisplayConfig {
    /// As [`crate::display::open`] takes it.
    pub uri: String,
}

/// `[serial]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SerialConfig {
    /// Device node.
    pub device: String,
    /// Bits a second.
    pub baud: u32,
    /// `jsonl` or `frames`.
    pub protocol: String,
    /// Seconds between two messages about the state; 0 none.
    pub status_s: f64,
}

/// `[board]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoardConfig {
    /// A [`BoardChoice`].
    pub name: String,
}

/// `[output]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputConfig {
    /// Whether frames are printed.
    pub json: bool,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self { uri: "v4l2:///dev/video0".to_owned(), repeat: 1, stall_s: 2.0 }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            bundle: String::new(),
            store: String::new(),
            confirm_frames: 20,
            threads: 1,
            min_score: hoi_runtime::pipeline::DEFAULT_MIN_SCORE,
        }
    }
}

impl Default for SerialConfig {
    fn default() -> Self {
        Self { device: String::new(), baud: 115_200, protocol: "jsonl".to_owned(), status_s: 10.0 }
    }
}

impl Default for BoardConfig {
    fn default() -> Self {
        Self { name: "auto".to_owned() }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("configuration {path}: {source}; `hoi-device config` prints one to begin with")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than any configuration.
    #[error("configuration {path}: more than {MAX_BYTES} bytes; this is no configuration")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML, or a value has another type.
    #[error("configuration {path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, and what is wrong there.
        reason: String,
    },
    /// It is of another version, or does not say of which.
    #[error(
        "configuration {path}: {found}; this hoi-device reads `schema = \"{SCHEMA}\"` (`hoi-device config` prints one)"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// A key that no configuration has.
    #[error("configuration {path}: line {line}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The key with its table: `source.url`.
        key: String,
        /// `; did you mean ..?`
        hint: String,
    },
    /// A value that is not possible.
    #[error("configuration {path}: {key} = {value}: {possible}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its table.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What may.
        possible: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], which names file, line and key and says what would be right.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let cannot = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(cannot)?;
        let bytes = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
        if bytes as u64 > MAX_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&text, path)
    }

    /// Reads text that stands in `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |reason: String| ConfigError::Syntax { path: path.to_owned(), reason: one_line(&reason) };
        let table = DeTable::parse(text).map_err(|e| syntax(e.to_string()))?;
        let version = |found| ConfigError::Version { path: path.to_owned(), found };
        match table.get_ref().get("schema").map(|v| v.get_ref()) {
            Some(DeValue::String(schema)) if schema == SCHEMA => {}
            Some(DeValue::String(schema)) => return Err(version(format!("it is of version `{schema}`"))),
            Some(_) => return Err(version("its `schema` is no text".to_owned())),
            None => return Err(version("it does not say of which version it is".to_owned())),
        }
        check_keys(table.get_ref(), &documented(), "", text, path)?;
        let config: Self = toml::from_str(text).map_err(|e| syntax(e.to_string()))?;
        config.check(path)?;
        Ok(config)
    }

    /// The settings of a command line without a file.
    pub fn for_command_line() -> Self {
        Self { schema: SCHEMA.to_owned(), ..Self::default() }
    }

    /// The board that is to be used.
    pub fn board(&self) -> BoardChoice {
        self.board.name.parse().unwrap_or_default()
    }

    /// The protocol of the serial port.
    pub fn protocol(&self) -> Protocol {
        self.serial.protocol.parse().unwrap_or_default()
    }

    /// Whether anyone would see what is found.
    pub fn has_output(&self) -> bool {
        !self.display.uri.is_empty() || !self.serial.device.is_empty() || self.output.json
    }

    /// The values that their type does not bound.
    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let wrong = |key, value: &dyn std::fmt::Display, possible: String| {
            Err(ConfigError::Value { path: path.to_owned(), key, value: value.to_string(), possible })
        };
        let within = |key, value: f64, range: RangeInclusive<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            wrong(key, &value, format!("{} to {} is possible", range.start(), range.end()))
        };
        if self.source.uri.is_empty() {
            return wrong("source.uri", &"\"\"", "a source is needed, such as v4l2:///dev/video0".to_owned());
        }
        within("source.stall_s", self.source.stall_s, 0.1..=600.0)?;
        within("model.confirm_frames", self.model.confirm_frames.into(), 1.0..=1e6)?;
        within("model.threads", self.model.threads.into(), 1.0..=256.0)?;
        within("model.min_score", self.model.min_score.into(), 0.0..=1.0)?;
        within("serial.baud", self.serial.baud.into(), 50.0..=4e6)?;
        if self.serial.status_s != 0.0 {
            within("serial.status_s", self.serial.status_s, 0.1..=3600.0)?;
        }
        if let Err(possible) = self.serial.protocol.parse::<Protocol>() {
            return wrong("serial.protocol", &format!("\"{}\"", self.serial.protocol), possible);
        }
        if let Err(possible) = self.board.name.parse::<BoardChoice>() {
            return wrong("board.name", &format!("\"{}\"", self.board.name), possible);
        }
        Ok(())
    }
}

/// The keys that there are.
fn documented() -> toml::Table {
    // The file is part of the program, and a test reads it.
    DOCUMENTED.parse().unwrap_or_default()
}

fn check_keys(
    table: &DeTable<'_>,
    known: &toml::Table,
    inside: &str,
    text: &str,
    path: &Path,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        match (known.get(key.get_ref().as_ref()), value.get_ref()) {
            (Some(toml::Value::Table(known)), DeValue::Table(table)) => {
                check_keys(table, known, &format!("{inside}{}.", key.get_ref()), text, path)?;
            }
            (Some(_), _) => {}
            (None, _) => {
                let before = text.get(..key.span().start).unwrap_or(text);
                let line = before.matches('\n').count() + 1;
                let key = format!("{inside}{}", key.get_ref());
                let hint = nearest(&key);
                return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key, hint });
            }
        }
    }
    Ok(())
}

/// What `key` was probably meant to be, as the end of a message: the nearest of all keys, or all of its table.
fn nearest(key: &str) -> String {
    let mut all = Vec::new();
    for (name, value) in &documented() {
        all.push(name.clone());
        if let toml::Value::Table(table) = value {
            all.extend(table.keys().map(|inner| format!("{name}.{inner}")));
        }
    }
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let near = all
        .iter()
        // A right name in a wrong table, or a name that is nearly right.
        .map(|name| (if last(name) == last(key) { 1 } else { strsim::damerau_levenshtein(name, key) }, name))
        .min()
        .filter(|&(distance, _)| distance <= 3);
    match near {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => "; `hoi-device config` prints all keys".to_owned(),
    }
}

/// A message of several lines on one.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('|') && !line.chars().all(|c| "^ |".contains(c)))
        .collect();
    lines.join(": ")
}

#[cfg(test)]
mod tests;
