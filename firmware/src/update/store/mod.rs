//! The folder of installed bundles.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hoi_runtime::bundle::ModelBundle;
use minisign_verify::PublicKey;

use super::UpdateError;
use super::archive::{Description, open_signed, unpack};
use super::disk::{Disk, failed};
use super::refusal;
use super::signature::Signed;
use super::state::{BESIDE, Installed, State, StoreStatus, is_left_over};
use crate::device::describe;

/// How often a bundle is started without being confirmed before it is taken back.
pub const TRIES: u32 = 3;

const STAGING: &str = ".staging";
/// Held while a bundle is unpacked and tried.
const INSTALL_LOCK: &str = ".install.lock";
/// Held while the state is read and written anew.
const STATE_LOCK: &str = ".state.lock";

/// Which versions are installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Those that are later than the installed ones of the same name, and were not taken back.
    #[default]
    Newer,
    /// Any: a person asked for it.
    AnyVersion,
}

/// A bundle to run.
#[derive(Clone, Debug)]
pub struct Started {
    /// Its name, version and folder within the store.
    pub installed: Installed,
    /// Where it lies.
    pub folder: PathBuf,
    /// The bundle; its files' hashes are verified.
    pub bundle: ModelBundle,
    /// It has not been confirmed yet.
    pub on_trial: bool,
    /// What a person should know: another bundle was taken back, or starts cannot be counted.
    pub notice: Option<String>,
}

/// A folder of installed bundles. Any number of processes may have it open.
pub struct Store {
    folder: PathBuf,
    pub(super) disk: Disk,
    /// The folder of the bundle that this process runs.
    running: Option<String>,
}

impl Store {
    /// Opens the store in `folder`, which is created where it is missing, and removes what an interrupted update has left.
    ///
    /// # Errors
    /// [`UpdateError`] when the folder cannot be created or read, holds something else, or its state is damaged. A disk that is
    /// read-only is no error.
    pub fn open(folder: &Path) -> Result<Self, UpdateError> {
        Self::open_on(folder, Disk::default())
    }

    pub(super) fn open_on(folder: &Path, mut disk: Disk) -> Result<Self, UpdateError> {
        if !folder.is_dir() {
            if let Some(above) = folder.ancestors().skip(1).find(|above| above.is_dir()) {
                disk.give_to_owner_of(above)?;
            }
            disk.create_folder(folder)?;
        }
        disk.give_to_owner_of(folder)?;
        let mut store = Self { folder: folder.to_owned(), disk, running: None };
        if State::read(folder)?.is_none() {
            store.check_empty()?;
            // On a disk that is full or read-only there is nothing to clean, and installing says what is wrong.
            let _ = store.change(|_| ());
        } else if let Some(_lock) = store.try_lock(INSTALL_LOCK)? {
            // What cannot be removed now is removed the next time.
            let _ = store.clean();
        }
        Ok(store)
    }

    /// Installs the update `file`, signed with one of `keys`: checks the signature of the whole file, unpacks it beside, loads it, lets
    /// `health` run it, and makes it the current bundle, on trial until [`Store::confirm`]. It is run from the next
    /// [`Store::start`] on.
    ///
    /// # Errors
    /// [`UpdateError`] that says why the update is refused; what was installed stays as it is.
    pub fn install(
        &mut self,
        file: &Path,
        keys: &[PublicKey],
        accept: Accept,
        health: &mut dyn FnMut(&Path) -> Result<(), String>,
    ) -> Result<Installed, UpdateError> {
        if !fs::metadata(file).map_err(failed("read", file))?.is_file() {
            return Err(UpdateError::NotAFile { file: file.to_owned() });
        }
        let signed = Signed::of(file, keys)?;
        let open = open_signed(file, &signed)?;
        let Some(_lock) = self.try_lock(INSTALL_LOCK)? else {
            return Err(UpdateError::Busy { folder: self.folder.clone() });
        };
        // A store that could not be written when it was opened has no state yet, and is no store without one.
        self.change(|_| ())?;
        self.clean()?;
        let staging = self.folder.join(STAGING);
        let installed = self.unpack_and_swap(file, open, &signed, &staging, accept, health);
        // What is left of a refused update, or of a bundle that nothing names any more. What cannot be removed now is removed later.
        let _ = self.disk.remove(&staging);
        let _ = self.clean();
        installed
    }

    fn unpack_and_swap(
        &mut self,
        file: &Path,
        open: File,
        signed: &Signed<'_>,
        staging: &Path,
        accept: Accept,
        health: &mut dyn FnMut(&Path) -> Result<(), String>,
    ) -> Result<Installed, UpdateError> {
        let state = self.state()?;
        let folder = self.folder.clone();
        let check = |description: &Description, disk: &Disk| {
            check_version(description, &state, accept)?;
            let (needs, has) = (description.room(), disk.free(&folder)?);
            if needs > has { Err(UpdateError::DiskFull { folder: folder.clone(), needs, has }) } else { Ok(()) }
        };
        let Description { name, version, .. } = unpack(file, open, signed, staging, &mut self.disk, check)?;
        ModelBundle::load(staging)?;
        health(staging).map_err(|reason| UpdateError::Health { name: name.clone(), version, reason })?;

        let taken = |folder: &str| state.folders().any(|known| known == folder);
        let numbered = |n: u32| if n == 1 { format!("{name}-{version}") } else { format!("{name}-{version}.{n}") };
        // At most two are taken.
        let into = (1..=3).map(numbered).find(|folder| !taken(folder)).unwrap_or_else(|| numbered(4));
        let path = self.folder.join(&into);
        self.disk.remove(&path)?;
        self.disk.rename(staging, &path)?;
        self.disk.sync_folder(&folder)?;
        let installed = Installed { name, version, folder: into };
        self.change(|state| {
            let before = state.current.replace(installed.clone());
            // A bundle that was never confirmed is nothing to go back to.
            if state.trial.replace(0).is_none() && before.is_some() {
                state.previous = before;
            }
        })?;
        Ok(installed)
    }

    /// The bundle to run, `None` for the program's own. Counts the starts of a bundle on trial: after [`TRIES`] without a
    /// [`Store::confirm`], and when a bundle does not load, the one before it is the current one again.
    ///
    /// Where the state cannot be written, a bundle on trial is not run but the one before it.
    ///
    /// # Errors
    /// [`UpdateError`] when the state cannot be read, or not be written and nothing confirmed is there.
    pub fn start(&mut self) -> Result<Option<Started>, UpdateError> {
        let _lock = self.lock()?;
        let before = self.state()?;
        let mut state = before.clone();
        let mut notice = None;
        let bundle = loop {
            let Some(current) = &state.current else { break None };
            let why = match state.trial {
                Some(starts) if starts >= TRIES => format!("started {starts} times without being confirmed"),
                _ => match ModelBundle::load(&self.folder.join(&current.folder)) {
                    Ok(bundle) => break Some(bundle),
                    Err(error) => describe(&error),
                },
            };
            notice = Some(format!("{current} was taken back: {why}"));
            state.take_back(&why);
        };
        state.trial = state.trial.map(|starts| starts + 1);
        let written = if state == before { Ok(()) } else { state.write(&self.folder, &mut self.disk) };
        let mut on_trial = state.trial.is_some();
        let mut bundle = bundle;
        if let Err(error) = written {
            if on_trial {
                let Some(previous) = state.previous.take() else { return Err(error) };
                bundle = Some(ModelBundle::load(&self.folder.join(&previous.folder))?);
                state.current = Some(previous);
                on_trial = false;
            }
            let said = describe(&error);
            notice = Some(notice.map_or_else(|| said.clone(), |notice| format!("{notice}; {said}")));
        }
        let (Some(installed), Some(bundle)) = (state.current, bundle) else { return Ok(None) };
        self.running = Some(installed.folder.clone());
        let folder = self.folder.join(&installed.folder);
        Ok(Some(Started { installed, folder, bundle, on_trial, notice }))
    }

    /// The running bundle is good. Says whether it was on trial; does nothing when another one was installed meanwhile.
    ///
    /// # Errors
    /// [`UpdateError`] when the state cannot be read or written.
    pub fn confirm(&mut self) -> Result<bool, UpdateError> {
        let running = self.running.clone();
        self.change(|state| {
            let is_current = state.current.as_ref().map(|current| &current.folder) == running.as_ref();
            is_current && state.trial.take().is_some()
        })
    }

    /// The running bundle is let go in good order before it could be confirmed: its start does not count as a try.
    ///
    /// # Errors
    /// [`UpdateError`] when the state cannot be read or written.
    pub fn release(&mut self) -> Result<(), UpdateError> {
        let running = self.running.take();
        self.change(|state| {
            if state.current.as_ref().map(|current| &current.folder) == running.as_ref() {
                state.trial = state.trial.map(|starts| starts.saturating_sub(1));
            }
        })
    }

    /// Goes back to the bundle before the current one, which is the program's own where there is none. Returns what is current then. A
    /// process that runs a bundle of this store takes back only that.
    ///
    /// # Errors
    /// [`UpdateError`] when no bundle is installed, or the state cannot be read or written.
    pub fn roll_back(&mut self, why: &str) -> Result<Option<Installed>, UpdateError> {
        let running = self.running.clone();
        let folder = self.folder.clone();
        self.change(|state| {
            let current = state.current.as_ref().ok_or(UpdateError::NothingInstalled { folder })?;
            if running.is_none_or(|running| running == current.folder) {
                state.take_back(why);
            }
            Ok(state.current.clone())
        })?
    }

    /// What is installed.
    ///
    /// # Errors
    /// [`UpdateError`] when the state cannot be read.
    pub fn status(&self) -> Result<StoreStatus, UpdateError> {
        Ok(self.state()?.status())
    }

    fn state(&self) -> Result<State, UpdateError> {
        Ok(State::read(&self.folder)?.unwrap_or_else(State::new))
    }

    /// Changes the state; written is what is another than before, or was never written.
    fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> Result<T, UpdateError> {
        let _lock = self.lock()?;
        let before = State::read(&self.folder)?;
        let mut state = before.clone().unwrap_or_else(State::new);
        let answer = change(&mut state);
        if before.as_ref() != Some(&state) {
            state.write(&self.folder, &mut self.disk)?;
        }
        Ok(answer)
    }

    /// Removes what nothing names. The install lock is held.
    fn clean(&mut self) -> Result<(), UpdateError> {
        let _lock = self.lock()?;
        let state = self.state()?;
        self.disk.remove(&self.folder.join(BESIDE))?;
        for name in self.names()? {
            let is_bundle = !name.starts_with('.') && name != "state.json" && !is_left_over(&name);
            if name == STAGING || (is_bundle && !state.folders().any(|folder| folder == name)) {
                self.disk.remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Names in the folder; what is not UTF-8 is none of ours.
    fn names(&self) -> Result<Vec<String>, UpdateError> {
        let read = failed("read", &self.folder);
        let names = fs::read_dir(&self.folder).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()
        });
        Ok(names.map_err(read)?.into_iter().flatten().collect())
    }

    fn check_empty(&self) -> Result<(), UpdateError> {
        let ours = |name: &String| {
            is_left_over(name) || [STATE_LOCK, INSTALL_LOCK, refusal::FILE, refusal::BESIDE].contains(&name.as_str())
        };
        if self.names()?.iter().all(ours) {
            Ok(())
        } else {
            Err(UpdateError::NotAStore { folder: self.folder.clone() })
        }
    }

    /// The lock of the state, as soon as it is free; `None` where the disk is read-only, so that nobody writes.
    fn lock(&self) -> Result<Option<File>, UpdateError> {
        let path = self.folder.join(STATE_LOCK);
        let Some(file) = open_lock(&path)? else { return Ok(None) };
        self.disk.give(&path)?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(Some(file))
    }

    /// A lock, unless another process has it.
    fn try_lock(&self, name: &str) -> Result<Option<Option<File>>, UpdateError> {
        let path = self.folder.join(name);
        let Some(file) = open_lock(&path)? else { return Ok(Some(None)) };
        self.disk.give(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Some(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }
}

/// A file to lock; `None` where it cannot be created because nothing can.
fn open_lock(path: &Path) -> Result<Option<File>, UpdateError> {
    match File::options().create(true).truncate(false).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed("lock", path)(error)),
    }
}

fn check_version(update: &Description, state: &State, accept: Accept) -> Result<(), UpdateError> {
    if accept == Accept::AnyVersion {
        return Ok(());
    }
    let Description { name, version, .. } = update;
    let newest = state.installed().filter(|known| known.name == *name).map(|known| known.version).max();
    if let Some(installed) = newest.filter(|installed| version <= installed) {
        return Err(UpdateError::Older { name: name.clone(), version: *version, installed });
    }
    match &state.rolled_back {
        Some(back) if back.name == *name && back.version == *version => {
            Err(UpdateError::TakenBack { name: name.clone(), version: *version, why: back.why.clone() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
