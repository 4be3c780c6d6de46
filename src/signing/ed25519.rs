//! EdDSA over Ed25519 (RFC 8037 §3.1) with a key from memory: ed25519-dalek reads and holds the key, and signs with it.

use super::{Signer, Signing, SigningError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, SecretDocument};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// An Ed25519 key.
pub struct Ed25519 {
    key_id: String,
    public_jwk: Map<String, Value>,
    key: SigningKey,
}

impl Ed25519 {
    /// Reads the PKCS#8 of an Ed25519 private key.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, &'static str> {
        let key = SigningKey::from_pkcs8_der(der).map_err(|_| "it is no Ed25519 private key")?;
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        let required = [("crv", "Ed25519"), ("kty", "OKP"), ("x", x.as_str())];
        let (key_id, public_jwk) = super::public_jwk(&required, Algorithm::EdDsa);
        Ok(Self { key_id, public_jwk, key })
    }

    /// The PKCS#8 of a new key from 32 random bytes.
    #[must_use]
    pub fn generate(random: &Zeroizing<[u8; 32]>) -> Option<SecretDocument> {
        SigningKey::from_bytes(random).to_pkcs8_der().ok()
    }
}

impl Signer for Ed25519 {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDsa
    }

    fn public_jwk(&self) -> &Map<String, Value> {
        &self.public_jwk
    }

    fn sign(&self, message: &[u8]) -> Signing {
        let signature = self.key.try_sign(message);
        Signing::Now(signature.map(|signature| signature.to_vec()).map_err(|_| SigningError::Unusable))
    }
}
