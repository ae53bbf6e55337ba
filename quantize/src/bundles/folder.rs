//! The folder of the report: it appears whole or not at all.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::BundlesError;

/// A folder beside its destination, not yet visible under its name. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct ReportFolder {
    beside: TempDir,
    path: PathBuf,
}

impl ReportFolder {
    /// Makes sure that the report can be written before anything is measured.
    pub fn new(path: &Path) -> Result<Self, BundlesError> {
        let report = |source| BundlesError::Report { path: path.to_owned(), source };
        let used = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != ErrorKind::NotFound || path.file_name().is_none(),
        };
        if used {
            return Err(BundlesError::ReportExists { path: path.to_owned() });
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = tempfile::Builder::new().prefix(".report-").tempdir_in(parent).map_err(report)?;
        Ok(Self { beside, path: path.to_owned() })
    }

    /// What is said when the report cannot be made.
    pub fn failed(&self, source: std::io::Error) -> BundlesError {
        BundlesError::Report { path: self.path.clone(), source }
    }

    /// Writes files, by name, and renames the folder into place.
    pub fn write(self, files: Vec<(String, Vec<u8>)>) -> Result<(), BundlesError> {
        for (name, content) in files {
            let failed = |source| BundlesError::Report { path: self.path.join(&name), source };
            std::fs::write(self.beside.path().join(&name), content).map_err(failed)?;
        }
        let report = |source| BundlesError::Report { path: self.path.clone(), source };
        // A temporary folder is private to its owner; a report is for everyone.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.beside.path(), mode).map_err(report)?;
        }
        // Only an empty folder goes away; one that was filled in the meantime stays, and the report is refused.
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(report(error)),
            _ => {}
        }
        std::fs::rename(self.beside.path(), &self.path).map_err(report)?;
        // Nothing is left there to remove.
        let _ = self.beside.keep();
        Ok(())
    }
}
