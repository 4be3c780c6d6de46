//! ES256 with a key from memory: p256 reads and holds the key and derives its public half, AWS-LC signs with it.

use super::{Signer, SigningError};
use crate::domain::sha256;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// An ES256 key.
pub struct Es256 {
    key_id: String,
    public_jwk: Map<String, Value>,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Es256 {
    /// Reads an unencrypted PKCS#8 PEM of a P-256 private key.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_pem(pem: &str) -> Result<Self, &'static str> {
        if !pem.contains("-----BEGIN PRIVATE KEY-----") {
            return Err("it is not an unencrypted PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)");
        }
        let secret =
            p256::SecretKey::from_pkcs8_pem(pem).map_err(|_| "it is not a P-256 private key, which ES256 needs")?;
        let point = secret.public_key().to_sec1_point(false);
        let coordinate = |bytes: Option<_>| {
            bytes.map(|bytes: &p256::FieldBytes| URL_SAFE_NO_PAD.encode(bytes)).ok_or("its public key is no point")
        };
        let (x, y) = (coordinate(point.x())?, coordinate(point.y())?);
        let der = secret.to_pkcs8_der().map_err(|_| "it cannot be encoded")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_bytes())
            .map_err(|_| "AWS-LC refuses it")?;
        // RFC 7638 §3.2: the required members alone, in order of their names, without whitespace.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let key_id = URL_SAFE_NO_PAD.encode(sha256(&[canonical.as_bytes()]));
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": key_id, "use": "sig", "alg": "ES256"});
        let Value::Object(public_jwk) = jwk else { return Err("its public key is no object") };
        Ok(Self { key_id, public_jwk, pair, random: SystemRandom::new() })
    }

    /// A new key from 32 random bytes, as PKCS#8 PEM. None where the bytes are no private key: a chance of 2^-32.
    #[must_use]
    pub fn generate_pem(random: &Zeroizing<[u8; 32]>) -> Option<Zeroizing<String>> {
        p256::SecretKey::from_slice(random.as_slice()).ok()?.to_pkcs8_pem(LineEnding::LF).ok()
    }
}

impl Signer for Es256 {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn public_jwk(&self) -> &Map<String, Value> {
        &self.public_jwk
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| SigningError)?;
        Ok(signature.as_ref().to_vec())
    }
}
