//! RS256 with a key from memory: AWS-LC makes, reads and holds the key, and signs with it in constant time.

use super::{Signer, Signing, SigningError};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};

/// The public exponent that everybody uses, 65537; a smaller one leaves no room for mistakes.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// An RS256 key of 2048 to 4096 bits.
pub struct Rs256 {
    key_id: String,
    public_jwk: Map<String, Value>,
    pair: KeyPair,
    random: SystemRandom,
}

impl Rs256 {
    /// Reads the PKCS#8 of an RSA private key.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, &'static str> {
        let pair = KeyPair::from_pkcs8(der).map_err(|_| "it is no RSA private key of 2048 bits or more")?;
        if !(256..=512).contains(&pair.public_modulus_len()) {
            return Err("its modulus has not 2048 to 4096 bits");
        }
        let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
        let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
        if e != EXPONENT {
            return Err("its public exponent is not 65537");
        }
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        let required = [("e", e.as_str()), ("kty", "RSA"), ("n", n.as_str())];
        let (key_id, public_jwk) = super::public_jwk(&required, Algorithm::Rs256);
        Ok(Self { key_id, public_jwk, pair, random: SystemRandom::new() })
    }

    /// The PKCS#8 of a new key of 2048 bits. It takes a tenth of a second or so.
    #[must_use]
    pub fn generate() -> Option<Pkcs8V1Der<'static>> {
        KeyPair::generate(KeySize::Rsa2048).ok()?.as_der().ok()
    }
}

impl Signer for Rs256 {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn public_jwk(&self) -> &Map<String, Value> {
        &self.public_jwk
    }

    fn sign(&self, message: &[u8]) -> Signing {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature);
        Signing::Now(signed.map(|()| signature).map_err(|_| SigningError::Unusable))
    }
}
