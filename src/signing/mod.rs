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
pub use keys::{KeyError, Keys, Rotation, SealingKeys};
pub use ring::{Document, KeyRing, PublicKeys, SigningError, TokenSigner};
pub use rs256::Rs256;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};

/// Signs with one private key. A backend is one file, an arm in `files.rs`, and a line in `tests/it/signing.rs`.
pub trait Signer: Send + Sync {
    /// The key's id: its RFC 7638 thumbprint.
    fn key_id(&self) -> &str;

    /// What it signs with.
    fn algorithm(&self) -> Algorithm;

    /// The public key as a JWK (RFC 7517), with `kid`, `use` and `alg`.
    fn public_jwk(&self) -> &Map<String, Value>;

    /// The JWS signature over `message` (RFC 7518 §3).
    ///
    /// # Errors
    /// [`SigningError`] when the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

/// A public JWK of the `required` members of its kind, which are given in the order of their names: with its thumbprint as
/// `kid` (RFC 7638 §3.2: the required members alone, ordered, without whitespace), `use` and `alg`.
fn public_jwk(required: &[(&str, &str)], algorithm: Algorithm) -> (String, Map<String, Value>) {
    let members: Vec<String> = required.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    let canonical = format!("{{{}}}", members.join(","));
    let kid = URL_SAFE_NO_PAD.encode(crate::domain::sha256(&[canonical.as_bytes()]));
    let more = [("kid", kid.as_str()), ("use", "sig"), ("alg", algorithm.name())];
    let all = required.iter().copied().chain(more).map(|(name, value)| (name.to_owned(), Value::from(value)));
    (kid.clone(), all.collect())
}
