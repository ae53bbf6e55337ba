//! Files that appear whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Bytes written beside their destination, not yet visible under its name. Dropping it removes them.
#[derive(Debug)]
pub struct StagedFile {
    beside: NamedTempFile,
    path: PathBuf,
}

impl StagedFile {
    /// Writes `bytes` to a hidden file in the folder of `path` and makes sure that they are on the disk.
    ///
    /// # Errors
    /// The system's error when the folder is missing, not writable or full.
    pub fn new(path: &Path, bytes: &[u8]) -> std::io::Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".hoi-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // What any new file gets: the umask is taken off it.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut beside = builder.tempfile_in(folder)?;
        beside.write_all(bytes)?;
        beside.as_file().sync_all()?;
        Ok(Self { beside, path: path.to_owned() })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file into place, replacing what was there.
    ///
    /// # Errors
    /// The system's error, for example when a directory bears the name.
    pub fn commit(self) -> std::io::Result<()> {
        self.beside.persist(&self.path).map(|_| ()).map_err(|e| e.error)
    }
}
