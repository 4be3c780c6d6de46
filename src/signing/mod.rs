//! The broker's own keys: which of them signs, which verify, and what `/jwks` says. Private key bytes never leave this
//! folder.

mod ed25519;
mod es256;
mod files;
mod keys;
mod ring;
mod rs256;
mod stock;
mod tend;

pub use ed25519::Ed25519;
pub use es256::Es256;
pub use files::KeyFileError;
pub use keys::{Keys, Rotation, SealingKeys, SigningKeysError};
pub use ring::{Document, KeyRing, PublicKeys, SigningError, TokenSigner};
pub use rs256::Rs256;

use countersign_verify::dpop::thumbprint;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};

/// Signs with one private key. A backend is one file, an arm in `files.rs`, and a line in `tests/it/signing.rs`.
pub trait Signer: Send + Sync {
    /// The key's id: its RFC 7638 thumbprint.
    fn key_id(&self) -> &str;

    /// The algorithm of the key.
    fn algorithm(&self) -> Algorithm;

    /// The public key as a JWK (RFC 7517), with `kid`, `use` and `alg`.
    fn public_jwk(&self) -> &Map<String, Value>;

    /// The JWS signature over `message` (RFC 7518 §3).
    ///
    /// # Errors
    /// [`SigningError`] when the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

/// Returns a key's thumbprint (RFC 7638) and its public JWK: the members that its kind requires, with the thumbprint as
/// `kid`, `use` and `alg`.
fn public_jwk(required: &[(&str, &str)], algorithm: Algorithm) -> (String, Map<String, Value>) {
    let named = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
    let mut jwk: Map<String, Value> = required.iter().copied().map(named).collect();
    // Every kind of key that signs here has a thumbprint.
    let kid = thumbprint(&jwk).unwrap_or_default();
    jwk.extend([("kid", kid.as_str()), ("use", "sig"), ("alg", algorithm.name())].map(named));
    (kid, jwk)
}
