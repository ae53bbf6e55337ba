//! The steps by which a store changes what is on the disk. Each is named before it is done, so that a test can let it fail or stop
//! everything there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use super::UpdateError;

/// Bytes that are written in one step.
const CHUNK: usize = 64 * 1024;

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    CreateFolder(PathBuf),
    Create(PathBuf),
    Write(PathBuf),
    /// From here on the content of a file, or the names in a folder, outlive a power cut.
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// Asked before each step; an error takes the step's place.
pub(super) type Fault = Box<dyn FnMut(&Step) -> io::Result<()> + Send>;

#[derive(Default)]
pub(super) struct Disk {
    pub(super) fault: Option<Fault>,
    /// Bytes that are said to be free, in place of those that are.
    pub(super) free: Option<u64>,
    /// Whose everything shall be: root works in a store of another user.
    pub(super) owner: Option<(u32, u32)>,
}

impl Disk {
    /// From now on what is made belongs to the owner of `folder`, where it is root who makes it: a service that runs as a user of its own
    /// goes on writing its store after a person has installed an update.
    pub(super) fn give_to_owner_of(&mut self, folder: &Path) -> Result<(), UpdateError> {
        let found = fs::metadata(folder).map_err(failed("read", folder))?;
        let is_root = rustix::process::geteuid().is_root();
        self.owner = (is_root && found.uid() != 0).then(|| (found.uid(), found.gid()));
        Ok(())
    }

    /// Gives `path` to the owner of the store.
    pub(super) fn give(&self, path: &Path) -> Result<(), UpdateError> {
        match self.owner {
            Some((user, group)) => lchown(path, Some(user), Some(group)).map_err(failed("give away", path)),
            None => Ok(()),
        }
    }

    fn step(&mut self, what: &'static str, path: &Path, step: Step) -> Result<(), UpdateError> {
        match &mut self.fault {
            None => Ok(()),
            Some(fault) => fault(&step).map_err(failed(what, path)),
        }
    }

    pub(super) fn create_folder(&mut self, folder: &Path) -> Result<(), UpdateError> {
        self.step("create", folder, Step::CreateFolder(folder.to_owned()))?;
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        self.give(folder)
    }

    /// Writes a new file, which must not be there, up to the disk. Returns how many bytes came.
    pub(super) fn write_new(&mut self, file: &Path, content: &mut dyn Read) -> Result<u64, UpdateError> {
        self.step("create", file, Step::Create(file.to_owned()))?;
        let mut open = File::create_new(file).map_err(failed("create", file))?;
        self.give(file)?;
        let mut chunk = vec![0; CHUNK];
        let mut written = 0;
        loop {
            let n = match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read what belongs into", file)(error)),
            };
            self.step("write", file, Step::Write(file.to_owned()))?;
            open.write_all(&chunk[..n]).map_err(failed("write", file))?;
            written += n as u64;
        }
        self.step("write", file, Step::Sync(file.to_owned()))?;
        open.sync_all().map_err(failed("write", file))?;
        Ok(written)
    }

    /// Makes the names in a folder outlive a power cut.
    pub(super) fn sync_folder(&mut self, folder: &Path) -> Result<(), UpdateError> {
        self.step("write", folder, Step::Sync(folder.to_owned()))?;
        File::open(folder).and_then(|open| open.sync_all()).map_err(failed("write", folder))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), UpdateError> {
        self.step("rename", from, Step::Rename(from.to_owned(), to.to_owned()))?;
        fs::rename(from, to).map_err(failed("rename", from))
    }

    /// Removes a file, or a folder with what is in it; what is not there is no error.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), UpdateError> {
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
        self.step("remove", path, Step::Remove(path.to_owned()))?;
        let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Bytes that may still be written below `folder`.
    pub(super) fn free(&self, folder: &Path) -> Result<u64, UpdateError> {
        if let Some(free) = self.free {
            return Ok(free);
        }
        let found = rustix::fs::statvfs(folder).map_err(|error| failed("ask the disk of", folder)(error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// An [`UpdateError::Io`] of the system's error.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpdateError {
    let path = path.to_owned();
    move |source| UpdateError::Io { what, path, source }
}
