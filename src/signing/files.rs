//! Keys on disk: PKCS#8 PEM files in a directory that nobody else can read. Looser modes are refused, not mended: who
//! could read a key until now may have it.

use super::{BackendAnswer, BackendKey, Ed25519, Es256, KeyBackend, Rs256, Signer};
use crate::domain::{Entropy, NoEntropy, Purpose};
use crate::files;
use countersign_verify::key::Algorithm;
use p256::pkcs8::SecretDocument;
use p256::pkcs8::der::pem::LineEnding;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::{Zeroize as _, Zeroizing};

/// The label of an unencrypted PKCS#8 (RFC 7468 §10).
const LABEL: &str = "PRIVATE KEY";
/// The longest key file that is read, in bytes.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// Why keys cannot be read or made. Never holds a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A file or the directory cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    Io(PathBuf, io::Error),
    /// Others can read or replace it.
    #[error("`{0}` {1}; {2}")]
    Exposed(PathBuf, &'static str, &'static str),
    /// The file does not hold a key that can sign; the text says why.
    #[error("`{0}` holds no key that can sign: {1}")]
    NotAKey(PathBuf, &'static str),
    /// The same key is there twice.
    #[error("`{0}` and `{1}` hold the same key; a key signs for one purpose, so remove one of the files")]
    Twice(PathBuf, PathBuf),
    /// A key could not be made.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The keys in a directory: a backend in this process, which several replicas may share.
pub struct KeyFiles(Arc<Directory>);

struct Directory {
    path: PathBuf,
    entropy: Arc<dyn Entropy>,
    /// The file of each key that was seen, by its id.
    files: Mutex<BTreeMap<String, PathBuf>>,
}

impl KeyFiles {
    /// Returns the keys in `directory`. Nothing is read yet.
    #[must_use]
    pub fn new(directory: &Path, entropy: Arc<dyn Entropy>) -> Self {
        Self(Arc::new(Directory { path: directory.to_owned(), entropy, files: Mutex::default() }))
    }

    /// Makes the directory, with mode 0700, where it is missing.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn ensure(&self) -> Result<(), KeyFileError> {
        let directory = &self.0.path;
        if !directory.exists() {
            let made = files::private_directory(directory);
            made.map_err(|fault| KeyFileError::Io(directory.clone(), fault))?;
        }
        Ok(())
    }

    /// Does `work` on a thread that may wait for the disk.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> Result<T, KeyFileError> + Send + 'static,
    ) -> BackendAnswer<'_, T> {
        let directory = Arc::clone(&self.0);
        Box::pin(async move {
            let place = directory.path.clone();
            let done = tokio::task::spawn_blocking(move || work(&directory)).await;
            Ok(done.map_err(|fault| KeyFileError::Io(place, io::Error::other(fault)))??)
        })
    }
}

impl KeyBackend for KeyFiles {
    fn place(&self) -> String {
        format!("`{}`", self.0.path.display())
    }

    fn list(&self) -> BackendAnswer<'_, Vec<BackendKey>> {
        self.with(Directory::read)
    }

    fn create(&self, purpose: Purpose, algorithm: Algorithm) -> BackendAnswer<'_, BackendKey> {
        self.with(move |directory| directory.create(purpose, algorithm))
    }

    fn remove(&self, kid: &str, public_half: Option<String>) -> BackendAnswer<'_, ()> {
        let kid = kid.to_owned();
        self.with(move |directory| directory.remove(&kid, public_half.as_deref()))
    }

    fn public_halves(&self) -> BackendAnswer<'_, Vec<String>> {
        self.with(|directory| {
            let read = |path: PathBuf| fs::read_to_string(&path).map_err(|fault| KeyFileError::Io(path, fault));
            paths(&directory.path, "jwk")?.into_iter().map(read).collect()
        })
    }
}

impl Directory {
    /// Reads every key, in the order of the files' names.
    fn read(&self) -> Result<Vec<BackendKey>, KeyFileError> {
        let (mut keys, mut found) = (Vec::new(), BTreeMap::new());
        for path in paths(&self.path, "pem")? {
            let signer = read_key(&path)?;
            if let Some(other) = found.insert(signer.key_id().to_owned(), path.clone()) {
                return Err(KeyFileError::Twice(other, path));
            }
            keys.push(BackendKey { purpose: purpose_of(&path), signer });
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        Ok(keys)
    }

    fn create(&self, purpose: Purpose, algorithm: Algorithm) -> Result<BackendKey, KeyFileError> {
        let made = create_unscrubbed(&self.path, purpose, algorithm, &*self.entropy);
        scrub_stack();
        let (path, signer) = made?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(signer.key_id().to_owned(), path);
        Ok(BackendKey { purpose, signer })
    }

    /// Removes a key's file. Of one that sealed the audit log, and is not compromised, the public half stays.
    fn remove(&self, kid: &str, public_half: Option<&str>) -> Result<(), KeyFileError> {
        let path = self.files.lock().unwrap_or_else(PoisonError::into_inner).get(kid).cloned();
        let Some(path) = path else { return Ok(()) };
        let io = |fault| KeyFileError::Io(path.clone(), fault);
        if let Some(jwk) = public_half {
            files::replace(&path.with_extension("jwk"), jwk.as_bytes()).map_err(io)?;
        }
        match fs::remove_file(&path) {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(io(fault)),
            _ => files::sync(&self.path).map_err(io)?,
        }
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(kid);
        Ok(())
    }
}

fn paths(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, KeyFileError> {
    let io = |fault| KeyFileError::Io(directory.to_owned(), fault);
    guard(directory, &fs::symlink_metadata(directory).map_err(io)?, true)?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|own| own == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A file's name says what its key is for; one that says nothing is for tokens.
fn purpose_of(path: &Path) -> Purpose {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let said = Purpose::ALL.into_iter().find(|purpose| name.starts_with(&format!("{purpose}-")));
    said.unwrap_or(Purpose::Tokens)
}

#[inline(never)]
fn create_unscrubbed(
    directory: &Path,
    purpose: Purpose,
    algorithm: Algorithm,
    entropy: &dyn Entropy,
) -> Result<(PathBuf, Arc<dyn Signer>), KeyFileError> {
    let io = |fault| KeyFileError::Io(directory.to_owned(), fault);
    let mut random = Zeroizing::new([0; 32]);
    entropy.fill(random.as_mut_slice())?;
    let document = match algorithm {
        Algorithm::EdDsa => Ed25519::generate(&random),
        Algorithm::Rs256 => Rs256::generate().and_then(|der| SecretDocument::try_from(der.as_ref()).ok()),
        _ => Es256::generate(&random),
    };
    let document = document.ok_or(NoEntropy)?;
    let signer = signer(document.as_bytes()).map_err(|fault| KeyFileError::NotAKey(directory.to_owned(), fault))?;
    let pem = document.to_pem(LABEL, LineEnding::LF).map_err(|_| NoEntropy)?;
    let start: String = signer.key_id().chars().take(12).collect();
    let path = directory.join(format!("{purpose}-{}-{start}.pem", algorithm.name().to_lowercase()));
    files::replace(&path, pem.as_bytes()).map_err(io)?;
    Ok((path, signer))
}

fn read_key(path: &Path) -> Result<Arc<dyn Signer>, KeyFileError> {
    let read = read_unscrubbed(path);
    scrub_stack();
    read
}

/// Overwrites the stack, where frames of finished functions leave copies of secrets.
#[inline(never)]
fn scrub_stack() {
    let mut deep = [0_u8; 128 * 1024];
    deep.zeroize();
    std::hint::black_box(&deep);
}

#[inline(never)]
fn read_unscrubbed(path: &Path) -> Result<Arc<dyn Signer>, KeyFileError> {
    let io = |fault| KeyFileError::Io(path.to_owned(), fault);
    let not_a_key = |fault| KeyFileError::NotAKey(path.to_owned(), fault);
    guard(path, &fs::symlink_metadata(path).map_err(io)?, false)?;
    // As large as it can get: a buffer that grows leaves what it held behind, unwiped.
    let mut pem = Zeroizing::new(String::with_capacity(MAX_KEY_BYTES + 1));
    File::open(path).map_err(io)?.take(MAX_KEY_BYTES as u64).read_to_string(&mut pem).map_err(io)?;
    let (label, document) = SecretDocument::from_pem(&pem)
        .map_err(|_| not_a_key("it is not one PEM block of base64 in lines of 64 characters"))?;
    match label {
        LABEL => signer(document.as_bytes()).map_err(not_a_key),
        "ENCRYPTED PRIVATE KEY" => Err(not_a_key("it is encrypted, and there is nobody to ask for its passphrase")),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err(not_a_key("it is a public key")),
        _ => Err(not_a_key("it is no PKCS#8 (`BEGIN PRIVATE KEY`); convert it with `openssl pkcs8 -topk8 -nocrypt`")),
    }
}

/// The backend for a key: its algorithm follows from what kind of key it is.
fn signer(der: &[u8]) -> Result<Arc<dyn Signer>, &'static str> {
    if let Ok(key) = Es256::from_pkcs8(der) {
        return Ok(Arc::new(key));
    }
    if let Ok(key) = Ed25519::from_pkcs8(der) {
        return Ok(Arc::new(key));
    }
    match Rs256::from_pkcs8(der) {
        Ok(key) => Ok(Arc::new(key)),
        Err(fault) if is_rsa(der) => Err(fault),
        Err(_) => Err("it is no private key of P-256 (ES256), Ed25519 (EdDSA) or RSA (RS256)"),
    }
}

/// Returns true if the algorithm identifier is rsaEncryption (RFC 8017 appendix A.1).
fn is_rsa(der: &[u8]) -> bool {
    const RSA_ENCRYPTION: [u8; 11] = [6, 9, 42, 134, 72, 134, 247, 13, 1, 1, 1];
    der.windows(RSA_ENCRYPTION.len()).take(32).any(|window| window == RSA_ENCRYPTION)
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
