//! Whose signature a file has: `minisign`'s ed25519 over the BLAKE2b of the whole file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use minisign_verify::{Error, PublicKey, Signature, StreamVerifier};

use super::UpdateError;
use super::disk::failed;

/// Bytes of a key or a signature, at most.
const TEXT_LIMIT: u64 = 4096;

/// Reads a public key as `minisign -G` writes it.
///
/// # Errors
/// [`UpdateError::Io`] when the file cannot be read, [`UpdateError::Key`] when it is no public key.
pub fn read_key(file: &Path) -> Result<PublicKey, UpdateError> {
    let refused = |reason: String| UpdateError::Key { file: file.to_owned(), reason };
    let text = read_text(file).map_err(failed("read", file))?.ok_or_else(|| refused("not a public key".to_owned()))?;
    PublicKey::decode(&text).map_err(|error| {
        refused(match error {
            Error::InvalidEncoding => "not a public key".to_owned(),
            other => other.to_string(),
        })
    })
}

/// A file's signature and the key that made it.
pub(super) struct Signed<'a> {
    file: PathBuf,
    signature: Signature,
    key: &'a PublicKey,
}

impl<'a> Signed<'a> {
    /// Reads the signature beside `file` and finds its key among `keys`.
    pub(super) fn of(file: &Path, keys: &'a [PublicKey]) -> Result<Self, UpdateError> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        let beside = PathBuf::from(beside);
        let refused = |reason: &str| UpdateError::Signature { signature: beside.clone(), reason: reason.to_owned() };
        let text = match read_text(&beside) {
            Ok(text) => text.ok_or_else(|| refused("not a signature"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(UpdateError::NoSignature { signature: beside });
            }
            Err(error) => return Err(failed("read", &beside)(error)),
        };
        let signature = Signature::decode(&text).map_err(|_| refused("not a signature"))?;
        let mut answers = keys.iter().map(|key| (key, key.verify_stream(&signature).map(drop)));
        let found = answers.find(|(_, answer)| !matches!(answer, Err(Error::UnexpectedKeyId)));
        match found {
            None => Err(UpdateError::UnknownKey { file: file.to_owned(), keys: keys.len() }),
            Some((key, Ok(()))) => Ok(Self { file: file.to_owned(), signature, key }),
            Some((_, Err(_))) => Err(refused("a signature of the old kind, which is not of a hash")),
        }
    }

    /// What comes from `content` is to be the signed file.
    pub(super) fn over<R: Read>(&self, content: R) -> Result<Checked<'_, R>, UpdateError> {
        let verifier = self.key.verify_stream(&self.signature).map_err(|_| self.wrong())?;
        Ok(Checked { content, verifier, signed: self })
    }

    fn wrong(&self) -> UpdateError {
        UpdateError::WrongSignature { file: self.file.clone() }
    }
}

/// A reader that knows in the end whether what it gave was signed.
pub(super) struct Checked<'a, R> {
    content: R,
    verifier: StreamVerifier<'a>,
    signed: &'a Signed<'a>,
}

impl<R: Read> Checked<'_, R> {
    /// Reads what is left and says whether all of it was signed.
    pub(super) fn finish(mut self) -> Result<(), UpdateError> {
        io::copy(&mut self, &mut io::sink()).map_err(failed("read", &self.signed.file))?;
        self.verifier.finalize().map_err(|_| self.signed.wrong())
    }
}

impl<R: Read> Read for Checked<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(bytes)?;
        self.verifier.update(&bytes[..n]);
        Ok(n)
    }
}

/// A short text file; `None` when it is too long or no UTF-8.
fn read_text(file: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= TEXT_LIMIT))
}
