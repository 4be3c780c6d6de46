//! The key ring: several keys verify, one signs.

use super::Signer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::claims::AccessClaims;
use countersign_verify::key::{KeySet, KeyUse, VerifyingKey};
use serde_json::{Value, json};

/// The key could not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be used")]
pub struct SigningError;

/// Why keys do not make a ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// There is none.
    #[error("there is no key")]
    Empty,
    /// The same key is there twice.
    #[error("the key `{0}` is there twice; remove one file")]
    Twice(String),
    /// A public half does not verify.
    #[error("the key `{0}` has a public half that cannot verify")]
    Unusable(String),
}

/// All keys of the broker, the last of which signs.
pub struct KeyRing {
    signers: Vec<(Box<dyn Signer>, String)>,
    verifying: KeySet,
    jwks: String,
}

impl KeyRing {
    /// A ring of `signers`; the last one signs.
    ///
    /// # Errors
    /// [`NoKeys`] when there is none, or one is there twice.
    pub fn new(signers: Vec<Box<dyn Signer>>) -> Result<Self, NoKeys> {
        let mut verifying = KeySet::default();
        let mut with_headers: Vec<(Box<dyn Signer>, String)> = Vec::new();
        for signer in signers {
            let kid = signer.key_id().to_owned();
            if with_headers.iter().any(|(other, _)| other.key_id() == kid) {
                return Err(NoKeys::Twice(kid));
            }
            let key = VerifyingKey::from_jwk(signer.public_jwk(), KeyUse::Signature, &SIGNING_ALGORITHMS);
            verifying.add(key.map_err(|_| NoKeys::Unusable(kid.clone()))?);
            let header = json!({"typ": "at+jwt", "alg": signer.public_jwk().get("alg"), "kid": kid});
            with_headers.push((signer, format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()))));
        }
        if with_headers.is_empty() {
            return Err(NoKeys::Empty);
        }
        let keys: Vec<_> = with_headers.iter().map(|(signer, _)| Value::Object(signer.public_jwk().clone())).collect();
        Ok(Self { signers: with_headers, verifying, jwks: json!({ "keys": keys }).to_string() })
    }

    /// Signs `claims` as an access token with the active key. Gives the token and the key's id.
    ///
    /// # Errors
    /// [`SigningError`] when the key cannot be used; no other one is tried.
    pub fn sign(&self, claims: &AccessClaims) -> Result<(String, &str), SigningError> {
        let (signer, header) = self.signers.last().ok_or(SigningError)?;
        let payload = serde_json::to_vec(claims).map_err(|_| SigningError)?;
        let mut token = String::with_capacity(header.len() + payload.len() * 4 / 3 + 96);
        token.push_str(header);
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = signer.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok((token, signer.key_id()))
    }

    /// The public halves, ready to verify.
    #[must_use]
    pub fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// The document at `/jwks`.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The id of the key that signs.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.signers.last().map(|(signer, _)| signer.key_id())
    }
}
