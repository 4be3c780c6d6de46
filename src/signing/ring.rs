//! The key ring of one moment: several keys verify, one of each purpose and algorithm signs. It never changes; a
//! rotation makes another one.

use super::{Keys, Signer, Signing, UnfinishedJws};
use crate::domain::{KeyRecord, KeyState, Purpose, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::feed::SNAPSHOT_TYPE;
use countersign_verify::key::{Algorithm, KeySet, KeyUse, VerifyingKey};
use countersign_verify::status::LIST_TYPE;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No key of the purpose and algorithm is in force.
    #[error("no signing key is in force")]
    NoKey,
    /// The key cannot sign.
    #[error("the signing key cannot be used")]
    Unusable,
    /// The public half does not verify what the backend signed.
    #[error("the backend of the signing keys gave a wrong signature")]
    Wrong,
    /// The backend took too long.
    #[error("the backend of the signing keys takes too long")]
    Timeout,
    /// Too many signatures are waited for.
    #[error("too many signatures are waited for")]
    Busy,
}

/// A document that the broker signs and that is not a token, so that no token can be signed as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// A checkpoint of the audit log.
    Checkpoint,
    /// An introspection response (RFC 9701 §5).
    Introspection,
    /// A snapshot of the revocation feed.
    RevocationSnapshot,
    /// A Token Status List.
    StatusList,
}

impl Document {
    /// The purpose of the key that signs it, and its `typ`.
    fn signed_as(self) -> (Purpose, &'static str) {
        match self {
            Self::Checkpoint => (Purpose::Checkpoints, typ(Purpose::Checkpoints)),
            Self::Introspection => (Purpose::Introspection, typ(Purpose::Introspection)),
            Self::RevocationSnapshot => (Purpose::Introspection, SNAPSHOT_TYPE),
            Self::StatusList => (Purpose::Introspection, LIST_TYPE),
        }
    }
}

/// The right to sign access tokens. [`Keys::open`] makes the only one, and the stage of an exchange that mints owns it,
/// so that nothing else in the broker can sign a token.
pub struct TokenSigner(Arc<Keys>);

impl TokenSigner {
    pub(super) fn new(keys: Arc<Keys>) -> Self {
        Self(keys)
    }

    /// Signs `claims` as a token with this `typ`, with the key that is active for `algorithm` at `now`. Returns the
    /// token and the key's id.
    ///
    /// # Errors
    /// [`SigningError`] if no key is active, it cannot be used, or it takes too long; no other key is tried.
    pub async fn sign(
        &self,
        typ: &str,
        claims: &impl Serialize,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<(String, String), SigningError> {
        // The ring is released before the wait.
        let token = self.0.ring().begin_token(typ, claims, algorithm, now)?;
        self.0.finish(token).await
    }
}

/// The public halves of the broker's keys.
pub struct PublicKeys(Arc<Keys>);

impl PublicKeys {
    /// Returns the public halves of `keys`.
    #[must_use]
    pub fn new(keys: Arc<Keys>) -> Self {
        Self(keys)
    }

    /// The document at `/jwks` (RFC 7517 §5).
    #[must_use]
    pub fn jwks(&self) -> String {
        self.0.ring().jwks().to_owned()
    }
}

/// All keys that are alive.
pub struct KeyRing {
    keys: Vec<Key>,
    verifying: KeySet,
    jwks: String,
    /// The purposes and algorithms that need a key.
    wanted: Vec<(Purpose, Algorithm)>,
    /// Number of keys in force that this replica lacks.
    lacking: usize,
}

struct Key {
    record: KeyRecord,
    signer: Arc<dyn Signer>,
    public: Arc<VerifyingKey>,
    /// The header of what it usually signs, encoded, with its dot.
    header: String,
}

impl KeyRing {
    /// A ring of keys with what is known of each. The public half of each is tried: one that does not verify is left
    /// out, so that nothing is ever signed by it.
    #[must_use]
    pub fn new(keys: Vec<(KeyRecord, Arc<dyn Signer>)>, wanted: Vec<(Purpose, Algorithm)>) -> Self {
        let (mut verifying, mut published, mut ring) = (KeySet::default(), Vec::new(), Vec::new());
        for (record, signer) in keys {
            let public = || VerifyingKey::from_jwk(signer.public_jwk(), KeyUse::Signature, &SIGNING_ALGORITHMS);
            let (Ok(own), Ok(of_set)) = (public(), public()) else {
                tracing::error!(kid = signer.key_id(), "a key whose public half cannot verify is not used");
                continue;
            };
            if record.purpose == Purpose::Tokens {
                verifying.add(of_set);
            }
            if record.purpose != Purpose::Checkpoints {
                published.push(Value::Object(signer.public_jwk().clone()));
            }
            let header = header(typ(record.purpose), &*signer);
            ring.push(Key { record, signer, public: Arc::new(own), header });
        }
        Self { keys: ring, verifying, jwks: json!({ "keys": published }).to_string(), wanted, lacking: 0 }
    }

    /// Returns the ring, with the number of keys in force that this replica lacks.
    #[must_use]
    pub fn lacking(self, count: usize) -> Self {
        Self { lacking: count, ..self }
    }

    /// Begins `claims` as a token with this `typ`, with the key that is active for `algorithm` at `now`. Only
    /// [`TokenSigner`] calls it.
    fn begin_token(
        &self,
        typ: &str,
        claims: &impl Serialize,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<UnfinishedJws, SigningError> {
        self.begin((Purpose::Tokens, typ), Some(algorithm), claims, now)
    }

    /// Begins `payload` as a document of the broker. No document is a token.
    pub(super) fn begin_document(
        &self,
        document: Document,
        payload: &impl Serialize,
        now: Timestamp,
    ) -> Result<UnfinishedJws, SigningError> {
        self.begin(document.signed_as(), None, payload, now)
    }

    fn begin(
        &self,
        (purpose, typ): (Purpose, &str),
        algorithm: Option<Algorithm>,
        payload: &impl Serialize,
        now: Timestamp,
    ) -> Result<UnfinishedJws, SigningError> {
        let fits = |key: &&Key| {
            key.record.purpose == purpose
                && algorithm.is_none_or(|algorithm| key.record.algorithm == algorithm)
                && key.record.signs_from <= now
                && key.record.signs_until.is_none_or(|until| now < until)
        };
        // The latest to have begun: its predecessor has handed over to it.
        let key = self.keys.iter().filter(fits).max_by_key(|key| key.record.signs_from).ok_or(SigningError::NoKey)?;
        if typ == self::typ(purpose) {
            return begin(&key.header, (&*key.signer, &key.public), purpose, payload);
        }
        begin(&header(typ, &*key.signer), (&*key.signer, &key.public), purpose, payload)
    }

    /// The public halves of the keys for tokens, ready to verify.
    #[must_use]
    pub fn verifying(&self) -> &KeySet {
        &self.verifying
    }

    /// Returns the number of purposes and algorithms that need a key and have none that can sign at `now`, and of the
    /// keys that this replica lacks.
    #[must_use]
    pub fn missing(&self, now: Timestamp) -> usize {
        let signs = |purpose, algorithm| {
            self.keys.iter().any(|Key { record, .. }| {
                (record.purpose, record.algorithm) == (purpose, algorithm) && record.state(now) == KeyState::Active
            })
        };
        self.wanted.iter().filter(|(purpose, algorithm)| !signs(*purpose, *algorithm)).count() + self.lacking
    }

    /// Returns true if other replicas have keys that this one lacks.
    #[must_use]
    pub fn is_lacking(&self) -> bool {
        self.lacking > 0
    }

    /// The document at `/jwks`.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The records of the keys.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.iter().map(|key| &key.record)
    }
}

/// The `typ` that a purpose usually has.
fn typ(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Tokens => "at+jwt",
        Purpose::Checkpoints => "audit-checkpoint+jws",
        Purpose::Introspection => "token-introspection+jwt",
    }
}

/// The header of a JWS by `signer`, encoded, with its dot.
pub(super) fn header(typ: &str, signer: &dyn Signer) -> String {
    let header = json!({"typ": typ, "alg": signer.algorithm().name(), "kid": signer.key_id()});
    format!("{}.", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// Begins a JWS with this header, by a key and its public half.
pub(super) fn begin(
    header: &str,
    (signer, public): (&dyn Signer, &Arc<VerifyingKey>),
    purpose: Purpose,
    payload: &impl Serialize,
) -> Result<UnfinishedJws, SigningError> {
    let payload = serde_json::to_vec(payload).map_err(|_| SigningError::Unusable)?;
    let mut signing_input = String::with_capacity(header.len() + payload.len() * 4 / 3 + 400);
    signing_input.push_str(header);
    URL_SAFE_NO_PAD.encode_string(payload, &mut signing_input);
    let signature = signer.sign(signing_input.as_bytes());
    let public = matches!(signature, Signing::Later(_)).then(|| Arc::clone(public));
    Ok(UnfinishedJws { signing_input, kid: signer.key_id().to_owned(), purpose, signature, public })
}
