//! The folder of the report: it appears whole or not at all.

use std::io::{Cursor, ErrorKind};
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

use super::report::BundlesReport;
use super::{BundlesError, pages};

/// A folder beside its destination, not yet visible under its name. Dropping it removes it.
#[derive(Debug)]
pub(super) struct ReportFolder {
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

    /// Writes all files and renames the folder into place.
    pub fn write(self, report: &BundlesReport, pictures: Vec<(String, RgbImage)>) -> Result<(), BundlesError> {
        let failed = |name: &str| {
            let path = self.path.join(name);
            move |source| BundlesError::Report { path, source }
        };
        let mut json = serde_json::to_vec_pretty(report).map_err(|e| failed("report.json")(e.into()))?;
        json.push(b'\n');
        let texts = [
            ("report.json", json),
            ("report.md", pages::markdown(report).into_bytes()),
            ("report.html", pages::html(report).into_bytes()),
        ];
        for (name, content) in texts {
            std::fs::write(self.beside.path().join(name), content).map_err(failed(name))?;
        }
        for (name, picture) in pictures {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| failed(&name)(std::io::Error::other(e)))?;
            std::fs::write(self.beside.path().join(&name), bytes.into_inner()).map_err(failed(&name))?;
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
