//! What a store remembers: which bundle runs, which ran before, and whether the present one is on trial.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::UpdateError;
use super::disk::{Disk, failed};

/// The schema of `state.json`. Keys may be added within it.
pub const STORE_SCHEMA: &str = "hoi.store/1";

const FILE: &str = "state.json";
/// Where it is written before it takes the place of [`FILE`].
pub(super) const BESIDE: &str = ".state.json.new";

/// Bytes of `state.json`, at most.
const LIMIT: u64 = 64 * 1024;

/// Characters of a reason that are kept.
const REASON_LIMIT: usize = 500;

/// An installed bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The bundle's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its folder within the store.
    pub folder: String,
}

impl fmt::Display for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// A bundle that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The bundle's name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Why.
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    schema: String,
    pub(super) current: Option<Installed>,
    pub(super) previous: Option<Installed>,
    /// The current bundle has not been confirmed; how often it was started.
    pub(super) trial: Option<u32>,
    pub(super) rolled_back: Option<RolledBack>,
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    /// [`STORE_SCHEMA`].
    pub schema: String,
    /// What runs; `None` for the bundle of the program.
    pub current: Option<Installed>,
    /// What ran before, to go back to.
    pub previous: Option<Installed>,
    /// How often the current bundle was started without being confirmed; `None` when it is confirmed.
    pub trial: Option<u32>,
    /// What was taken back last.
    pub rolled_back: Option<RolledBack>,
}

impl StoreStatus {
    /// The status of the store in `folder`, without changing anything there; `None` where no store is.
    ///
    /// # Errors
    /// [`UpdateError`] when the state cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, UpdateError> {
        Ok(State::read(folder)?.map(|state| state.status()))
    }
}

impl fmt::Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.current, self.trial) {
            (None, _) => write!(f, "current: the bundle of the program")?,
            (Some(current), None) => write!(f, "current: {current}")?,
            (Some(current), Some(starts)) => write!(f, "current: {current}, on trial, started {starts} times")?,
        }
        match &self.previous {
            Some(previous) => write!(f, "\nprevious: {previous}")?,
            None => write!(f, "\nprevious: none")?,
        }
        if let Some(RolledBack { name, version, why }) = &self.rolled_back {
            write!(f, "\ntaken back: {name} {version}: {why}")?;
        }
        Ok(())
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self { schema: STORE_SCHEMA.to_owned(), current: None, previous: None, trial: None, rolled_back: None }
    }

    /// The state in `store`; `None` where there is none yet.
    pub(super) fn read(store: &Path) -> Result<Option<Self>, UpdateError> {
        let path = store.join(FILE);
        let refused = |reason: String| UpdateError::State { path: path.clone(), reason };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
            Ok(found) if !found.is_file() || found.len() > LIMIT => return Err(refused("not a state".to_owned())),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
        match value.get("schema").and_then(|schema| schema.as_str()) {
            Some(STORE_SCHEMA) => {}
            other => return Err(refused(format!("the schema is {other:?} and {STORE_SCHEMA:?} is needed"))),
        }
        let state: Self = serde_json::from_value(value).map_err(|error| refused(error.to_string()))?;
        if let Some(folder) = state.folders().find(|folder| !is_folder(folder)) {
            return Err(refused(format!("{folder:?} is no folder of this store")));
        }
        Ok(Some(state))
    }

    /// Puts this state in place of the one in `store`; power may go at any moment.
    pub(super) fn write(&self, store: &Path, disk: &mut Disk) -> Result<(), UpdateError> {
        let (path, beside) = (store.join(FILE), store.join(BESIDE));
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| UpdateError::State { path: path.clone(), reason: error.to_string() })?;
        json.push(b'\n');
        disk.remove(&beside)?;
        disk.write_new(&beside, &mut json.as_slice())?;
        disk.rename(&beside, &path)?;
        disk.sync_folder(store)
    }

    /// Folders that are still needed.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.installed().map(|installed| installed.folder.as_str())
    }

    pub(super) fn installed(&self) -> impl Iterator<Item = &Installed> {
        self.current.iter().chain(&self.previous)
    }

    /// Goes back from the current bundle to the one before it; the program's own where there is none.
    pub(super) fn take_back(&mut self, why: &str) {
        if let Some(Installed { name, version, .. }) = self.current.take() {
            self.rolled_back = Some(RolledBack { name, version, why: why.chars().take(REASON_LIMIT).collect() });
        }
        self.current = self.previous.take();
        self.trial = None;
    }

    pub(super) fn status(self) -> StoreStatus {
        let Self { schema, current, previous, trial, rolled_back } = self;
        StoreStatus { schema, current, previous, trial, rolled_back }
    }
}

/// Whether a store may hold it before there is a state: what is left of one that was begun.
pub(super) fn is_left_over(name: &str) -> bool {
    name == BESIDE || name == "lost+found"
}

/// Whether `name` is 1 to 64 of `a`-`z`, `0`-`9`, `-`, `_`, with a letter first.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// Whether `folder` is the name of a bundle's folder: a name, its version and perhaps a number.
fn is_folder(folder: &str) -> bool {
    let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    folder.starts_with(|c: char| c.is_ascii_lowercase()) && folder.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_hand() {
        for name in ["nano", "nano-int8", "a_1"] {
            assert!(is_name(name) && is_folder(&format!("{name}-7.2")), "{name}");
        }
        for name in ["", "7", "-a", "Nano", "a/b", "..", "a b", "\u{e9}", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_folder("../a") && !is_folder(".staging") && !is_folder(""));
    }

    #[test]
    fn a_state_that_is_none_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), None);
        let state = r#"{"schema": "hoi.store/1", "current": {"name": "a", "version": 1, "folder": "../a"}}"#;
        for (text, words) in
            [("", "EOF"), ("{}", "hoi.store/1"), (r#"{"schema": "hoi.store/9"}"#, "hoi.store/9"), (state, "../a")]
        {
            fs::write(folder.path().join(FILE), text).unwrap();
            let said = State::read(folder.path()).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains("remove it"), "{said}");
        }
        let later = r#"{"schema": "hoi.store/1", "a key of a later version": 1}"#;
        fs::write(folder.path().join(FILE), later).unwrap();
        assert_eq!(State::read(folder.path()).unwrap(), Some(State::new()));
    }
}
