//! The file of an update: a tar with `update.json` first and then the bundle's files, nothing but plain files.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Component, Path};

use hoi_runtime::bundle::{MANIFEST, ModelBundle};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use super::UpdateError;
use super::disk::{Disk, failed};
use super::signature::Signed;
use super::state::is_name;

/// The schema of `update.json`.
pub const UPDATE_SCHEMA: &str = "hoi.update/1";

/// Files that an update may bring.
pub const FILES_LIMIT: u64 = 64;

/// Bytes that they may have together.
pub const BYTES_LIMIT: u64 = 1 << 30;

const DESCRIPTION: &str = "update.json";
const DESCRIPTION_LIMIT: u64 = 4096;

/// Bytes of a tar around each file, and at its end, at most.
const TAR_OVERHEAD: u64 = 1024;
const TAR_END: u64 = 64 * 1024;

/// Bytes that a file takes on the disk beyond its own, at most.
const BLOCK: u64 = 4096;

/// What an update says of itself: `update.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// [`UPDATE_SCHEMA`].
    pub schema: String,
    /// Name of the bundle: 1 to 64 of `a`-`z`, `0`-`9`, `-`, `_`, with a letter first.
    pub name: String,
    /// A later version has a larger number.
    pub version: u64,
    /// How many files follow, at most [`FILES_LIMIT`].
    pub files: u64,
    /// How many bytes they have together, at most [`BYTES_LIMIT`].
    pub bytes: u64,
}

impl Description {
    /// Bytes that the update takes on a disk, at most.
    pub(super) fn room(&self) -> u64 {
        self.bytes + (self.files + 4) * BLOCK
    }
}

/// Writes the bundle in `bundle` as an update `out`, which is replaced when it is whole; the same bundle gives the same bytes. It
/// is signed with `minisign -Sm OUT`.
///
/// # Errors
/// [`UpdateError`] when the bundle does not load, `name` is none, the bundle is larger than an update may be or `out` cannot be
/// written.
pub fn pack(bundle: &Path, name: &str, version: u64, out: &Path) -> Result<(), UpdateError> {
    if !is_name(name) {
        return Err(UpdateError::Name { name: name.to_owned() });
    }
    let bundle = ModelBundle::load(bundle)?;
    let refused = |reason: String| UpdateError::Archive { file: out.to_owned(), reason };
    let mut manifest = serde_json::to_vec_pretty(bundle.manifest()).map_err(|error| refused(error.to_string()))?;
    manifest.push(b'\n');
    let mut files = vec![(MANIFEST, manifest.as_slice())];
    files.extend(bundle.manifest().files.keys().filter_map(|name| Some((name.as_str(), bundle.file(name)?))));
    let description = Description {
        schema: UPDATE_SCHEMA.to_owned(),
        name: name.to_owned(),
        version,
        files: files.len() as u64,
        bytes: files.iter().map(|(_, content)| content.len() as u64).sum(),
    };
    check_limits(&description).map_err(refused)?;
    let mut first = serde_json::to_vec(&description).map_err(|error| refused(error.to_string()))?;
    first.push(b'\n');
    files.insert(0, (DESCRIPTION, &first));

    if out.is_dir() {
        return Err(UpdateError::NotAFile { file: out.to_owned() });
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".update-").tempfile_in(folder).map_err(failed("write", out))?;
    let mut tar = Builder::new(BufWriter::new(beside));
    for (name, content) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_path(name).map_err(|error| refused(format!("{name}: {error}")))?;
        header.set_cksum();
        tar.append(&header, content).map_err(failed("write", out))?;
    }
    let written = tar.into_inner().map_err(failed("write", out))?;
    let mut beside = written.into_inner().map_err(|error| failed("write", out)(error.into_error()))?;
    beside.flush().and_then(|()| beside.as_file().sync_all()).map_err(failed("write", out))?;
    beside.persist(out).map_err(|error| failed("write", out)(error.error))?;
    // A temporary file is private to its owner; an update is for everyone.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(out, std::fs::Permissions::from_mode(0o644)).map_err(failed("write", out))?;
    }
    Ok(())
}

fn check_limits(description: &Description) -> Result<(), String> {
    let Description { schema, name, files, bytes, .. } = description;
    if schema != UPDATE_SCHEMA {
        return Err(format!("the schema is {schema:?}; this version of hoi-device knows {UPDATE_SCHEMA:?}"));
    }
    if !is_name(name) {
        return Err(UpdateError::Name { name: name.clone() }.to_string());
    }
    if *files > FILES_LIMIT {
        return Err(format!("{files} files; at most {FILES_LIMIT} are allowed"));
    }
    if *bytes > BYTES_LIMIT {
        return Err(format!("{bytes} bytes; at most {BYTES_LIMIT} are allowed"));
    }
    Ok(())
}

/// Checks the signature of the whole update `file`, before anything of it is looked at, and opens it.
pub(super) fn open_signed(file: &Path, signed: &Signed<'_>) -> Result<File, UpdateError> {
    let bytes = std::fs::metadata(file).map_err(failed("read", file))?.len();
    let limit = BYTES_LIMIT + (FILES_LIMIT + 1) * TAR_OVERHEAD + DESCRIPTION_LIMIT + TAR_END;
    if bytes > limit {
        let reason = format!("{bytes} bytes; an update has at most {limit}");
        return Err(UpdateError::Archive { file: file.to_owned(), reason });
    }
    let open = || File::open(file).map_err(failed("read", file));
    signed.over(open()?)?.finish()?;
    open()
}

/// Unpacks an update into the new folder `into`, after `accept` has looked at its description. What was written by then is left where an
/// error comes, and so it is when the file is not the signed one any more.
pub(super) fn unpack(
    file: &Path,
    open: File,
    signed: &Signed<'_>,
    into: &Path,
    disk: &mut Disk,
    accept: impl FnOnce(&Description, &Disk) -> Result<(), UpdateError>,
) -> Result<Description, UpdateError> {
    let refused = |reason: String| UpdateError::Archive { file: file.to_owned(), reason };
    let broken = |error: std::io::Error| refused(format!("not a tar archive: {error}"));
    let mut archive = Archive::new(signed.over(BufReader::new(open))?);
    // Raw: what stands for longer names or sparse files is an entry of its own, and refused as one.
    let mut entries = archive.entries().map_err(broken)?.raw(true);
    let none = || refused(format!("the first file is not {DESCRIPTION}; `hoi-device update pack` writes an update"));
    let mut first = entries.next().ok_or_else(none)?.map_err(broken)?;
    if first.header().path_bytes() != DESCRIPTION.as_bytes() || first.size() > DESCRIPTION_LIMIT {
        return Err(none());
    }
    let mut json = Vec::new();
    first.read_to_end(&mut json).map_err(broken)?;
    let description: Description =
        serde_json::from_slice(&json).map_err(|error| refused(format!("{DESCRIPTION}: {error}")))?;
    check_limits(&description).map_err(|reason| refused(format!("{DESCRIPTION}: {reason}")))?;
    accept(&description, disk)?;

    disk.create_folder(into)?;
    let mut folders = vec![into.to_owned()];
    let (mut files, mut bytes) = (0, 0_u64);
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
        if entry.header().entry_type() != EntryType::Regular {
            let kind = entry.header().entry_type();
            return Err(refused(format!("{name:?} is a {kind:?}; an update holds plain files only")));
        }
        if !is_plain(&name) {
            return Err(refused(format!("{name:?} is no plain name of a file inside the bundle")));
        }
        files += 1;
        bytes = bytes.saturating_add(entry.size());
        if files > description.files || bytes > description.bytes {
            let Description { files, bytes, .. } = description;
            return Err(refused(format!(
                "{name:?}: more than the {files} files of {bytes} bytes that {DESCRIPTION} says"
            )));
        }
        let path = into.join(&name);
        if path.exists() {
            return Err(refused(format!("{name:?} is there twice")));
        }
        let parent = path.parent().unwrap_or(into);
        if !folders.iter().any(|known| known == parent) {
            disk.create_folder(parent)?;
            for folder in parent.ancestors().take_while(|folder| *folder != into) {
                disk.give(folder)?;
                folders.push(folder.to_owned());
            }
        }
        let expected = entry.size();
        let written = disk.write_new(&path, &mut entry)?;
        if written != expected {
            return Err(refused(format!("{name:?} ends after {written} of {expected} bytes")));
        }
    }
    if (files, bytes) != (description.files, description.bytes) {
        let Description { files: said, bytes: size, .. } = description;
        return Err(refused(format!("{files} files of {bytes} bytes; {DESCRIPTION} says {said} of {size}")));
    }
    // Someone may have written to the file after the first look at it.
    archive.into_inner().finish()?;
    for folder in folders.iter().rev() {
        disk.sync_folder(folder)?;
    }
    Ok(description)
}

/// Whether a name goes nowhere but down, at most four folders, and is not hidden.
fn is_plain(name: &str) -> bool {
    let path = Path::new(name);
    let plain = |part: Component<'_>| matches!(part, Component::Normal(name) if name.to_str().is_some_and(|name| !name.starts_with('.')));
    // What is normalised away, such as `a//b` or `a/.`, is not plain.
    let again = path.components().collect::<std::path::PathBuf>();
    !name.is_empty()
        && again.as_os_str() == path.as_os_str()
        && path.components().all(plain)
        && path.components().count() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_by_hand() {
        for name in ["manifest.json", "a/b.onnx", "a/b/c/d"] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "a/../b",
            "../a",
            "a//b",
            "a/./b",
            "a/",
            "./a",
            ".hidden",
            "a/.b",
            "a/b/c/d/e",
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
