//! Keys on disk: PKCS#8 PEM files in a directory that nobody else can read. Looser modes are refused, not mended: who
//! could read a key until now may have it.

use super::es256::Es256;
use super::{KeyRing, NoKeys};
use crate::domain::{Entropy, NoEntropy};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The name that a first key gets.
const FIRST: &str = "es256-1.pem";
/// The longest key file that is read, in bytes.
const MAX_KEY_BYTES: u64 = 16 * 1024;

/// Why keys cannot be read or made. Never holds a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file or the directory cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    Io(PathBuf, io::Error),
    /// Others can read or replace it.
    #[error("`{0}` {1}; {2}")]
    Exposed(PathBuf, &'static str, &'static str),
    /// It is not a key that can sign.
    #[error("`{0}` holds no key that can sign: {1}")]
    NotAKey(PathBuf, &'static str),
    /// The directory holds no key.
    #[error("`{0}` holds no `*.pem` file; start the broker to have a first key made, or put one there")]
    None(PathBuf),
    /// The keys do not make a ring.
    #[error("the keys in `{0}` cannot be used together: {1}")]
    Ring(PathBuf, NoKeys),
    /// A key could not be made.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Reads the keys in `directory`. The last by file name signs.
///
/// # Errors
/// [`KeyFileError`] names the file and what to do.
pub fn read(directory: &Path) -> Result<KeyRing, KeyFileError> {
    guard(
        directory,
        &fs::symlink_metadata(directory).map_err(|fault| KeyFileError::Io(directory.to_owned(), fault))?,
        true,
    )?;
    let io = |fault| KeyFileError::Io(directory.to_owned(), fault);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(KeyFileError::None(directory.to_owned()));
    }
    let signers = paths.iter().map(|path| read_key(path)).collect::<Result<Vec<_>, _>>()?;
    KeyRing::new(signers).map_err(|fault| KeyFileError::Ring(directory.to_owned(), fault))
}

/// Reads the keys in `directory`; where it is missing or empty, makes it with mode 0700 and a first ES256 key in it.
///
/// # Errors
/// As [`read`], and when the key cannot be written.
pub fn load_or_create(directory: &Path, entropy: &dyn Entropy) -> Result<KeyRing, KeyFileError> {
    let io = |fault| KeyFileError::Io(directory.to_owned(), fault);
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    }
    match read(directory) {
        Err(KeyFileError::None(_)) => {
            create(&directory.join(FIRST), entropy)?;
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
            read(directory)
        }
        other => other,
    }
}

fn create(path: &Path, entropy: &dyn Entropy) -> Result<(), KeyFileError> {
    let io = |fault| KeyFileError::Io(path.to_owned(), fault);
    let mut random = Zeroizing::new([0; 32]);
    entropy.fill(random.as_mut_slice())?;
    let pem = Es256::generate_pem(&random).ok_or(NoEntropy)?;
    // Whole or not at all: a crash must not leave half a key under a key's name.
    let unfinished = path.with_extension("unfinished");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).map_err(io)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)
}

fn read_key(path: &Path) -> Result<Box<dyn super::Signer>, KeyFileError> {
    let io = |fault| KeyFileError::Io(path.to_owned(), fault);
    let link = fs::symlink_metadata(path).map_err(io)?;
    guard(path, &link, false)?;
    let mut pem = Zeroizing::new(String::new());
    File::open(path).map_err(io)?.take(MAX_KEY_BYTES).read_to_string(&mut pem).map_err(io)?;
    let signer = Es256::from_pem(&pem).map_err(|fault| KeyFileError::NotAKey(path.to_owned(), fault))?;
    Ok(Box::new(signer))
}

fn guard(path: &Path, metadata: &fs::Metadata, is_directory: bool) -> Result<(), KeyFileError> {
    let exposed = |what, mend| Err(KeyFileError::Exposed(path.to_owned(), what, mend));
    if metadata.file_type().is_symlink() {
        return exposed("is a symbolic link", "name the real place");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return exposed("belongs to another user", "run the broker as its owner");
    }
    match (is_directory, metadata.mode() & 0o077) {
        (_, 0) => Ok(()),
        (true, _) => exposed(
            "can be opened by others",
            "run `chmod 700` on it, and replace its keys if others may have read them",
        ),
        (false, _) => {
            exposed("can be read by others", "run `chmod 600` on it, and replace the key if others may have read it")
        }
    }
}
