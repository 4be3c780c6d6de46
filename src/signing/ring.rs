//! The key ring of one moment: several keys verify, one of each purpose and algorithm signs. It never changes; a rotation
//! makes another one.

use super::Signer;
use crate::domain::{KeyRecord, KeyState, Purpose, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::claims::AccessClaims;
use countersign_verify::key::{Algorithm, KeySet, KeyUse, VerifyingKey};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// No key could sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be used")]
pub struct SigningError;

/// All keys that are alive.
pub struct KeyRing {
    keys: Vec<Key>,
    verifying: KeySet,
    jwks: String,
    /// What there has to be a key for.
    wanted: Vec<(Purpose, Algorithm)>,
    /// How many keys are alive that this replica does not have.
    lacking: usize,
}

struct Key {
    record: KeyRecord,
    signer: Arc<dyn Signer>,
    /// The header of what it usually signs, encoded, with its dot.
    header: String,
}

impl KeyRing {
    /// A ring of keys with what is known of each. The public half of each is tried: one that does not verify is left out,
    /// so that nothing is ever signed by it.
    #[must_use]
    pub fn new(keys: Vec<(KeyRecord, Arc<dyn Signer>)>, wanted: Vec<(Purpose, Algorithm)>) -> Self {
        let (mut verifying, mut published, mut ring) = (KeySet::default(), Vec::new(), Vec::new());
        for (record, signer) in keys {
            let Ok(public) = VerifyingKey::from_jwk(signer.public_jwk(), KeyUse::Signature, &SIGNING_ALGORITHMS) else {
                tracing::error!(kid = signer.key_id(), "a key whose public half cannot verify is not used");
                continue;
            };
            if record.purpose == Purpose::Tokens {
                verifying.add(public);
            }
            if record.purpose != Purpose::Checkpoints {
                published.push(Value::Object(signer.public_jwk().clone()));
            }
            let header = header(typ(record.purpose), &*signer);
            ring.push(Key { record, signer, header });
        }
        Self { keys: ring, verifying, jwks: json!({ "keys": published }).to_string(), wanted, lacking: 0 }
    }

    /// As it is where `count` keys are alive that this replica does not have.
    #[must_use]
    pub fn lacking(self, count: usize) -> Self {
        Self { lacking: count, ..self }
    }

    /// Signs `claims` as an access token with the key that is active for `algorithm` at `now`. Gives the token and the
    /// key's id.
    ///
    /// # Errors
    /// [`SigningError`] when there is none, or it cannot be used; no other one is tried.
    pub fn sign(
        &self,
        claims: &AccessClaims,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<(String, &str), SigningError> {
        self.sign_with(Purpose::Tokens, None, Some(algorithm), claims, now)
    }

    /// Signs `payload` for another purpose than tokens, as a compact JWS.
    ///
    /// # Errors
    /// As [`KeyRing::sign`].
    pub fn sign_as(&self, purpose: Purpose, payload: &impl Serialize, now: Timestamp) -> Result<String, SigningError> {
        self.sign_with(purpose, None, None, payload, now).map(|(signed, _)| signed)
    }

    /// Signs `payload`, of the type `typ`, for those who ask for answers: resource servers.
    ///
    /// # Errors
    /// As [`KeyRing::sign`].
    pub fn sign_answer(&self, typ: &str, payload: &impl Serialize, now: Timestamp) -> Result<String, SigningError> {
        self.sign_with(Purpose::Introspection, Some(typ), None, payload, now).map(|(signed, _)| signed)
    }

    fn sign_with(
        &self,
        purpose: Purpose,
        typ: Option<&str>,
        algorithm: Option<Algorithm>,
        payload: &impl Serialize,
        now: Timestamp,
    ) -> Result<(String, &str), SigningError> {
        let fits = |key: &&Key| {
            key.record.purpose == purpose
                && algorithm.is_none_or(|algorithm| key.record.algorithm == algorithm)
                && key.record.signs_from <= now
                && key.record.signs_until.is_none_or(|until| now < until)
        };
        // The latest to have begun: its predecessor has handed over to it.
        let key = self.keys.iter().filter(fits).max_by_key(|key| key.record.signs_from).ok_or(SigningError)?;
        let payload = serde_json::to_vec(payload).map_err(|_| SigningError)?;
        let mut signed = String::with_capacity(key.header.len() + payload.len() * 4 / 3 + 400);
        match typ {
            None => signed.push_str(&key.header),
            Some(typ) => signed.push_str(&header(typ, &*key.signer)),
        }
        URL_SAFE_NO_PAD.encode_string(payload, &mut signed);
        let signature = key.signer.sign(signed.as_bytes())?;
        signed.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut signed);
        Ok((signed, key.signer.key_id()))
    }

    /// The public halves of the keys for tokens, ready to verify.
    #[must_use]
    pub fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// How many purposes and algorithms there has to be a key for, and none can sign at `now`; and how many keys other
    /// replicas have that this one lacks.
    #[must_use]
    pub fn missing(&self, now: Timestamp) -> usize {
        let signs = |purpose, algorithm| {
            self.keys.iter().any(|Key { record, .. }| {
                (record.purpose, record.algorithm) == (purpose, algorithm) && record.state(now) == KeyState::Active
            })
        };
        self.wanted.iter().filter(|(purpose, algorithm)| !signs(*purpose, *algorithm)).count() + self.lacking
    }

    /// Whether other replicas have keys that this one lacks.
    #[must_use]
    pub fn is_lacking(&self) -> bool {
        self.lacking > 0
    }

    /// The document at `/jwks`.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// What is known of each key.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().map(|key| &key.record)
    }
}

/// What it usually signs.
fn typ(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Tokens => "at+jwt",
        Purpose::Checkpoints => "audit-checkpoint+jws",
        Purpose::Introspection => "token-introspection+jwt",
    }
}

fn header(typ: &str, signer: &dyn Signer) -> String {
    let header = json!({"typ": typ, "alg": signer.algorithm().name(), "kid": signer.key_id()});
    format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()))
}
