//! The broker's own keys: which of them signs, which verify, and what `/jwks` says. Private key bytes never leave this
//! folder.

mod backend;
mod change;
mod ed25519;
mod es256;
mod files;
mod keys;
mod pending;
mod public_halves;
mod ring;
mod rs256;
mod stock;
mod tend;

pub use backend::{
    BackendAnswer, BackendKey, KeyBackend, KeyBackendError, KeyBackends, PendingSignature, Signer, Signing,
};
pub use ed25519::Ed25519;
pub use es256::Es256;
pub use files::{KeyFileError, KeyFiles};
pub use keys::{KeyParts, Keys, Rotation, SigningKeysError};
pub use pending::UnfinishedJws;
pub use public_halves::SealingKeys;
pub use ring::{Document, KeyRing, PublicKeys, SigningError, TokenSigner};
pub use rs256::Rs256;

use countersign_verify::dpop::thumbprint;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};

/// Returns a key's thumbprint (RFC 7638) and its public JWK: the members that its kind requires, with the thumbprint as
/// `kid`, `use` and `alg`.
fn public_jwk(required: &[(&str, &str)], algorithm: Algorithm) -> (String, Map<String, Value>) {
    let named = |(name, value): (&str, &str)| (name.to_owned(), Value::from(value));
    let mut jwk: Map<String, Value> = required.iter().copied().map(named).collect();
    // Every kind of key that signs here has a thumbprint.
    let kid = thumbprint(&jwk).map(|thumbprint| thumbprint.to_string()).unwrap_or_default();
    jwk.extend([("kid", kid.as_str()), ("use", "sig"), ("alg", algorithm.name())].map(named));
    (kid, jwk)
}
