//! The programs that read cameras, streams and videos: where they are, and which Debian package brings them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::stream::Format;

/// A program's command line, and how it writes pictures to its standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    /// The program's name, for messages: `ffmpeg`.
    pub(super) name: &'static str,
    /// Where it is.
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) format: Format,
}

/// A program that is looked for, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
}

/// `ffmpeg`, which reads USB cameras, streams and video files.
pub(super) const FFMPEG: Wanted = Wanted { name: "ffmpeg", package: "ffmpeg" };

/// The first program `name` of the folders in `path` (as in `PATH`, which is used where `path` is `None`).
pub(super) fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let from_environment = if path.is_none() { env::var_os("PATH") } else { None };
    let path = path.or(from_environment.as_deref())?;
    env::split_paths(path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

/// The program, or that it is missing.
pub(super) fn require(wanted: Wanted, path: Option<&OsStr>) -> Result<PathBuf, String> {
    let Wanted { name, package } = wanted;
    find(name, path).ok_or_else(|| {
        format!(
            "the program `{name}` is not installed; Debian's package {package} brings it: `sudo apt install {package}`"
        )
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_program_is_a_file_that_can_be_run() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(first.join("ffmpeg")).unwrap();
        fs::create_dir_all(&second).unwrap();
        let path = env::join_paths([&first, &second]).unwrap();
        fs::write(second.join("ffmpeg"), "").unwrap();
        assert_eq!(find("ffmpeg", Some(&path)), None);
        let error = require(FFMPEG, Some(&path)).unwrap_err();
        assert!(error.contains("apt install ffmpeg"), "{error}");
        fs::set_permissions(second.join("ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("ffmpeg", Some(&path)), Some(second.join("ffmpeg")));
    }

    #[test]
    fn the_environment_is_searched_where_nothing_else_is_said() {
        assert!(find("sh", None).is_some());
        assert_eq!(find("sh", Some(OsStr::new("/nowhere"))), None);
    }
}
