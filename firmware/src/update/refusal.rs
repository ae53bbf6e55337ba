//! Why an update was refused, left in the store: who installs is one process, and the one with screen and serial port is another.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::UpdateError;
use super::disk::Disk;

pub(super) const FILE: &str = ".refused";
pub(super) const BESIDE: &str = ".refused.new";

/// Bytes of a reason, at most.
const LIMIT: u64 = 1000;

/// Leaves `why` in the store, in place of what was left there before.
///
/// # Errors
/// [`UpdateError::Io`] when the store cannot be written.
pub(super) fn leave(store: &Path, why: &str) -> Result<(), UpdateError> {
    let mut disk = Disk::default();
    disk.give_to_owner_of(store)?;
    let (file, beside) = (store.join(FILE), store.join(BESIDE));
    disk.remove(&beside)?;
    disk.write_new(&beside, &mut why.as_bytes())?;
    disk.rename(&beside, &file)
}

/// The refusals of a store as they come, for the device that runs from it.
#[derive(Debug)]
pub struct Refusals {
    file: PathBuf,
    seen: Option<SystemTime>,
}

impl Refusals {
    /// Those of the store in `folder` from now on.
    pub fn of(folder: &Path) -> Self {
        let file = folder.join(FILE);
        Self { seen: left_at(&file), file }
    }

    /// Why the last update was refused, once; `None` where none was since the last call.
    pub fn take(&mut self) -> Option<String> {
        let left = left_at(&self.file);
        if left.is_none() || left == self.seen {
            return None;
        }
        self.seen = left;
        let mut why = Vec::new();
        File::open(&self.file).ok()?.take(LIMIT).read_to_end(&mut why).ok()?;
        Some(String::from_utf8_lossy(&why).into_owned())
    }
}

fn left_at(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_refusal_is_said_once_and_old_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path(), "older").unwrap();
        let mut refusals = Refusals::of(folder.path());
        assert_eq!(refusals.take(), None);
        for why in ["no signature", "disk full"] {
            // File systems count time in steps.
            std::thread::sleep(Duration::from_millis(20));
            leave(folder.path(), why).unwrap();
            assert_eq!(refusals.take().as_deref(), Some(why));
            assert_eq!(refusals.take(), None);
        }
        std::thread::sleep(Duration::from_millis(20));
        leave(folder.path(), &"x".repeat(5000)).unwrap();
        assert_eq!(refusals.take().unwrap().len() as u64, LIMIT);
        assert_eq!(Refusals::of(&folder.path().join("gone")).take(), None);
    }
}
