//! A backend of signing keys: the place where private keys are made, stored and used. Files are one; a key service or
//! a hardware module is another one, whose signatures take time and can fail.

use super::{KeyFileError, SigningError};
use crate::domain::Purpose;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

/// The future of a backend's answer.
pub type BackendAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyBackendError>> + Send + 'a>>;

/// Makes, lists and removes private keys. A backend is one file, an arm in `app/parts.rs`, and a line in
/// `tests/it/signing.rs`, whose contract every backend keeps.
pub trait KeyBackend: Send + Sync {
    /// The place of the keys, for people.
    fn place(&self) -> String;

    /// Returns every key that the backend has, in an order of its own that does not change.
    ///
    /// # Errors
    /// [`KeyBackendError`] if one of them cannot be read: a key that is not seen could be taken for one that is gone.
    fn list(&self) -> BackendAnswer<'_, Vec<BackendKey>>;

    /// Makes a key, durably.
    ///
    /// # Errors
    /// [`KeyBackendError`] if it cannot be made. Then there may be a key that nobody uses.
    fn create(&self, purpose: Purpose, algorithm: Algorithm) -> BackendAnswer<'_, BackendKey>;

    /// Removes the private key `kid` permanently; nothing happens if it is not there. Keeps `public_half`, if it is
    /// given, for [`KeyBackend::public_halves`].
    ///
    /// # Errors
    /// [`KeyBackendError`] if the key may still be there.
    fn remove(&self, kid: &str, public_half: Option<String>) -> BackendAnswer<'_, ()>;

    /// The public halves that [`KeyBackend::remove`] kept, as JSON.
    ///
    /// # Errors
    /// [`KeyBackendError`] if they cannot be read.
    fn public_halves(&self) -> BackendAnswer<'_, Vec<String>>;
}

/// A key of a backend.
#[derive(Clone)]
pub struct BackendKey {
    /// The purpose that it was made for.
    pub purpose: Purpose,
    /// Signs with it.
    pub signer: Arc<dyn Signer>,
}

/// Why a backend cannot list, make or remove keys. Never holds a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyBackendError {
    /// The files of keys cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A backend outside this process cannot be reached, or refuses.
    #[error("the signing keys in {0} cannot be used: {1}")]
    Remote(String, String),
}

/// Signs with one private key.
pub trait Signer: Send + Sync {
    /// The key's id: its RFC 7638 thumbprint.
    fn key_id(&self) -> &str;

    /// The algorithm of the key.
    fn algorithm(&self) -> Algorithm;

    /// The public key as a JWK (RFC 7517), with `kid`, `use` and `alg`.
    fn public_jwk(&self) -> &Map<String, Value>;

    /// Begins the JWS signature over `message` (RFC 7518 §3).
    fn sign(&self, message: &[u8]) -> Signing;
}

/// A JWS signature, or the wait for one.
pub enum Signing {
    /// A key in this process has signed.
    Now(Result<Vec<u8>, SigningError>),
    /// A backend outside this process signs.
    Later(PendingSignature),
}

/// A signature that a backend is making. It is dropped after the deadline.
pub type PendingSignature = Pin<Box<dyn Future<Output = Result<Vec<u8>, SigningError>> + Send>>;

/// The backends of a broker. What seals the audit log may be kept apart from what signs tokens.
#[derive(Clone)]
pub struct KeyBackends {
    /// The backend of the keys for tokens and answers.
    pub tokens: Arc<dyn KeyBackend>,
    /// The backend of the keys that seal the audit log.
    pub checkpoints: Arc<dyn KeyBackend>,
}

impl fmt::Debug for KeyBackends {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyBackends({}, {})", self.tokens.place(), self.checkpoints.place())
    }
}

impl KeyBackends {
    /// One backend for every purpose.
    #[must_use]
    pub fn one(backend: Arc<dyn KeyBackend>) -> Self {
        Self { tokens: Arc::clone(&backend), checkpoints: backend }
    }

    /// The backend of the keys for `purpose`.
    pub(super) fn of(&self, purpose: Purpose) -> &dyn KeyBackend {
        match purpose {
            Purpose::Checkpoints => &*self.checkpoints,
            Purpose::Tokens | Purpose::Introspection => &*self.tokens,
        }
    }

    /// Every key that is where keys of its purpose belong.
    pub(super) async fn list(&self) -> Result<Vec<BackendKey>, KeyBackendError> {
        let mut keys = self.tokens.list().await?;
        if !Arc::ptr_eq(&self.tokens, &self.checkpoints) {
            keys.retain(|key| key.purpose != Purpose::Checkpoints);
            keys.extend(self.checkpoints.list().await?.into_iter().filter(|key| key.purpose == Purpose::Checkpoints));
        }
        Ok(keys)
    }
}
