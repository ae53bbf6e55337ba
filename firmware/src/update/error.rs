//! Why an update was refused or a store cannot be used.

use std::io;
use std::path::PathBuf;

use hoi_runtime::bundle::BundleError;

/// Why an update was refused or a store cannot be used. What was installed before stays as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The system refused: no room, no permission, a disk that is read-only or broken.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was to be done: `write`, `rename`.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is less room than the update needs.
    #[error("disk full: {} needs {} MiB and has {} MiB free", folder.display(), mebibytes(*needs), mebibytes(*has))]
    DiskFull {
        /// The store.
        folder: PathBuf,
        /// Bytes.
        needs: u64,
        /// Bytes.
        has: u64,
    },
    /// The update is a folder or a device.
    #[error("{}: an update is one file, such as nano-7.hoi, and this is none", file.display())]
    NotAFile {
        /// The path.
        file: PathBuf,
    },
    /// No signature beside the file.
    #[error("{}: no such file; the signature that `minisign -Sm` writes belongs beside the update", signature.display())]
    NoSignature {
        /// Where it would be.
        signature: PathBuf,
    },
    /// The signature cannot be read.
    #[error("{}: {reason}; `minisign -Sm` of version 0.10 or later writes what is needed", signature.display())]
    Signature {
        /// The signature.
        signature: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Someone else's signature.
    #[error("{}: signed with a key that is none of the {keys} that this device trusts", file.display())]
    UnknownKey {
        /// The update.
        file: PathBuf,
        /// How many keys were tried.
        keys: usize,
    },
    /// The signature is another file's.
    #[error("{}: the signature is not of this file: it was changed, damaged or copied by half", file.display())]
    WrongSignature {
        /// The update.
        file: PathBuf,
    },
    /// A key that is none.
    #[error("{}: {reason}; a public key as `minisign -G` writes it (minisign.pub) is needed", file.display())]
    Key {
        /// The key's file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A signed file that is no update.
    #[error("{}: {reason}", file.display())]
    Archive {
        /// The update.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name or version that an update cannot have.
    #[error(
        "{name:?} is no name for an update: 1 to 64 small letters, digits, `-` and `_` are needed, with a letter first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// As new as what is there, or older.
    #[error(
        "{name} {version} is not newer than the installed {name} {installed}; --allow-older installs it nevertheless"
    )]
    Older {
        /// The bundle's name.
        name: String,
        /// The update's version.
        version: u64,
        /// The installed version.
        installed: u64,
    },
    /// It was installed before and did not run.
    #[error("{name} {version} was taken back before: {why}; a later version is needed, or --allow-older")]
    TakenBack {
        /// The bundle's name.
        name: String,
        /// The version.
        version: u64,
        /// Why it was taken back.
        why: String,
    },
    /// The bundle does not load, or cannot be packed.
    #[error("bundle refused")]
    Bundle(#[from] BundleError),
    /// The bundle loads and does not run.
    #[error("{name} {version} does not run here: {reason}")]
    Health {
        /// The bundle's name.
        name: String,
        /// Its version.
        version: u64,
        /// What the trial run said.
        reason: String,
    },
    /// The folder holds something else.
    #[error("{}: not empty, and no store of bundles (it has no state.json); name a new or empty folder", folder.display())]
    NotAStore {
        /// The folder.
        folder: PathBuf,
    },
    /// The state cannot be read.
    #[error("{}: {reason}; remove it to begin with the bundle of the program, and install again", path.display())]
    State {
        /// The state's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process installs.
    #[error("{}: another update is being installed", folder.display())]
    Busy {
        /// The store.
        folder: PathBuf,
    },
    /// The program's own bundle runs.
    #[error("{}: no bundle is installed, so there is none to take back", folder.display())]
    NothingInstalled {
        /// The store.
        folder: PathBuf,
    },
}

/// Rounded up, so that `needs` is never less than it is.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
