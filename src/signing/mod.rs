//! The broker's own keys: which of them signs, which verify, and what `/jwks` says. Private key bytes never leave this
//! folder.

mod es256;
mod files;
mod ring;

pub use es256::Es256;
pub use files::{KeyFileError, load_or_create, read};
pub use ring::{KeyRing, NoKeys, SigningError};

/// Signs with one private key.
pub trait Signer: Send + Sync {
    /// The key's id: its RFC 7638 thumbprint.
    fn key_id(&self) -> &str;

    /// The public key as a JWK (RFC 7517), with `kid`, `use` and `alg`.
    fn public_jwk(&self) -> &serde_json::Map<String, serde_json::Value>;

    /// The JWS signature over `message` (RFC 7518 §3).
    ///
    /// # Errors
    /// [`SigningError`] when the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}
