//! Public halves for those who verify: what sealed the audit log, of keys that have gone too, and what signs tokens.

use super::{KeyBackendError, KeyBackends, KeyRing, Signer};
use crate::domain::{KeyRecord, Purpose, Timestamp};
use countersign_verify::SIGNING_ALGORITHMS;
use countersign_verify::key::{KeySet, KeyUse, VerifyingKey};
use serde_json::Value;

/// The member of a kept public half that says that its key is compromised: what it sealed proves nothing.
const REVOKED: &str = "revoked";

/// The keys that verify the checkpoints of the audit log.
#[derive(Debug)]
pub struct SealingKeys {
    /// Keys whose checkpoints vouch for what is before them.
    pub good: KeySet,
    /// Compromised ones, whose checkpoints vouch for nothing.
    pub revoked: KeySet,
}

impl KeyBackends {
    /// The public keys that the audit log's checkpoints are verified with, those that have retired too.
    ///
    /// # Errors
    /// [`KeyBackendError`] names the file or the backend.
    pub async fn checkpoint_keys(&self) -> Result<SealingKeys, KeyBackendError> {
        let keys = self.checkpoints.list().await?.into_iter();
        let active = keys.filter(|key| key.purpose == Purpose::Checkpoints);
        let active = active.map(|key| Value::Object(key.signer.public_jwk().clone()));
        let gone = self.checkpoints.public_halves().await?;
        let gone = gone.iter().filter_map(|jwk| serde_json::from_str::<Value>(jwk).ok());
        let (revoked, retired): (Vec<Value>, Vec<Value>) = gone.partition(|jwk| jwk.get(REVOKED).is_some());
        // One by one: they are more than one set may hold, in a log that is old enough.
        let set = |keys: Vec<Value>| {
            let mut set = KeySet::default();
            for jwk in keys.iter().filter_map(Value::as_object) {
                match VerifyingKey::from_jwk(jwk, KeyUse::Signature, &SIGNING_ALGORITHMS) {
                    Ok(key) => set.add(key),
                    Err(fault) => tracing::warn!(%fault, "a kept public half is not used"),
                }
            }
            set
        };
        Ok(SealingKeys { good: set(active.chain(retired).collect()), revoked: set(revoked) })
    }

    /// The keys for tokens, as `/jwks` has them: for an operator who looks at a token.
    ///
    /// # Errors
    /// [`KeyBackendError`] names the file or the backend.
    pub async fn token_keys(&self) -> Result<KeyRing, KeyBackendError> {
        let epoch = Timestamp::default();
        let known = self.tokens.list().await?.into_iter().filter(|key| key.purpose == Purpose::Tokens);
        let ring = known.map(|key| {
            let record = KeyRecord {
                kid: key.signer.key_id().to_owned(),
                purpose: key.purpose,
                algorithm: key.signer.algorithm(),
                published: epoch,
                signs_from: epoch,
                signs_until: None,
                longest: 0,
                revoked: None,
            };
            (record, key.signer)
        });
        Ok(KeyRing::new(ring.collect(), Vec::new()))
    }
}

impl KeyRecord {
    /// Returns the public half of a key that sealed the audit log, with a mark if the key is compromised. It stays when
    /// the key's file is deleted.
    pub(super) fn public_half(&self, signer: &dyn Signer) -> Option<String> {
        let mut jwk = signer.public_jwk().clone();
        if self.revoked.is_some() {
            jwk.insert(REVOKED.to_owned(), true.into());
        }
        serde_json::to_string(&jwk).ok().filter(|_| self.purpose == Purpose::Checkpoints)
    }
}
