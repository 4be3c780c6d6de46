//! ES256 with a key from memory: p256 reads and holds the key and derives its public half, AWS-LC signs with it.

use super::{Signer, Signing, SigningError};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::der::pem::LineEnding;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, SecretDocument};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// An ES256 key.
pub struct Es256 {
    key_id: String,
    public_jwk: Map<String, Value>,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Es256 {
    /// Reads the PKCS#8 of a P-256 private key.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, &'static str> {
        let secret = p256::SecretKey::from_pkcs8_der(der).map_err(|_| "it is no P-256 private key")?;
        let point = secret.public_key().to_sec1_point(false);
        let coordinate = |bytes: Option<_>| {
            bytes.map(|bytes: &p256::FieldBytes| URL_SAFE_NO_PAD.encode(bytes)).ok_or("its public key is no point")
        };
        let (x, y) = (coordinate(point.x())?, coordinate(point.y())?);
        // Written again: other programs leave the public half out, or put it elsewhere.
        let der = secret.to_pkcs8_der().map_err(|_| "it cannot be encoded")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_bytes())
            .map_err(|_| "AWS-LC refuses it")?;
        let required = [("crv", "P-256"), ("kty", "EC"), ("x", x.as_str()), ("y", y.as_str())];
        let (key_id, public_jwk) = super::public_jwk(&required, Algorithm::Es256);
        Ok(Self { key_id, public_jwk, pair, random: SystemRandom::new() })
    }

    /// A new key from 32 random bytes, and its PKCS#8 as PEM, for a caller that has to hand it on. None as for
    /// [`Es256::generate`].
    #[must_use]
    pub fn generate_pem(random: &Zeroizing<[u8; 32]>) -> Option<(Self, Zeroizing<String>)> {
        let der = Self::generate(random)?;
        Some((Self::from_pkcs8(der.as_bytes()).ok()?, der.to_pem("PRIVATE KEY", LineEnding::LF).ok()?))
    }

    /// The PKCS#8 of a new key from 32 random bytes. None where the bytes are no private key: a chance of 2^-32.
    #[must_use]
    pub fn generate(random: &Zeroizing<[u8; 32]>) -> Option<SecretDocument> {
        p256::SecretKey::from_slice(random.as_slice()).ok()?.to_pkcs8_der().ok()
    }

    /// The JWS signature over `message` (RFC 7518 §3.4).
    ///
    /// # Errors
    /// [`SigningError::Unusable`] if the library refuses.
    pub fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| SigningError::Unusable)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl Signer for Es256 {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn public_jwk(&self) -> &Map<String, Value> {
        &self.public_jwk
    }

    fn sign(&self, message: &[u8]) -> Signing {
        Signing::Now(self.signature(message))
    }
}
