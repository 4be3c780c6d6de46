//! Rotation and revocation of signing keys.

use super::change::UNSEEN;
use super::{Admin, AdminError, OperatorId};
use crate::audit::{EventKind, Outcome, Refused};
use crate::domain::{DecisionId, KeyRecord, KeyState, Purpose, Timestamp};
use crate::error::{Error, Unavailable};
use crate::signing::SigningKeysError;
use crate::store::{About, Act, Entry, StoreError};
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::Kind as NamedKind;

impl Admin {
    /// Every key and its state.
    pub async fn keys(&self) -> Vec<(KeyRecord, KeyState)> {
        let now = self.clock.now();
        self.keys.list().await.into_iter().map(|key| (key.clone(), key.state(now))).collect()
    }

    /// Makes a successor for the key that signs `purpose` with `algorithm`.
    ///
    /// # Errors
    /// [`AdminError::Keys`] when it cannot be made or recorded.
    pub async fn rotate_key(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        by: &OperatorId,
    ) -> Result<KeyRecord, AdminError> {
        let (now, decision) = (self.clock.now(), self.decision());
        let mut trail = self.trail(EventKind::Keys, &decision, now);
        let made = self.keys.rotate(purpose, algorithm, now).await;
        match &made {
            Ok(key) => {
                trail.changed(format!("{purpose} {algorithm}: {} signs from {}, by {by}", key.kid, key.signs_from))
            }
            Err(fault) => trail.changed(format!("{purpose} {algorithm}: no successor, by {by}: {fault}")),
        }
        let _ = trail.done(if made.is_ok() { Outcome::Granted } else { Outcome::Unavailable });
        Ok(made?)
    }

    /// Drops the key `kid` everywhere, and revokes what it signed.
    ///
    /// # Errors
    /// - [`AdminError::Invalid`] for a reason that cannot be stored.
    /// - [`AdminError::Keys`] if there is no such key, or if that is not durable: then ask again.
    pub async fn revoke_key(
        &self,
        kid: &str,
        reason: Option<String>,
        by: &OperatorId,
    ) -> Result<KeyRecord, AdminError> {
        super::request::check_reason(reason.as_deref())?;
        let (now, decision) = (self.clock.now(), self.decision());
        let mut trail = self.trail(EventKind::Keys, &decision, now);
        let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let result = self.drop_key(kid, reason, by, (&decision, now)).await;
        match &result {
            Ok(key) => {
                trail.revoked(&key.kid);
                trail.changed(format!("{} {}: {} is revoked by {by}{why}", key.purpose, key.algorithm, key.kid));
                let written = trail.done(Outcome::Granted);
                written.map_err(|fault| StoreError::Io(fault.to_string()))?;
                // By the key that has taken over: what the compromised one sealed is vouched for again.
                if key.purpose == Purpose::Checkpoints
                    && let Err(fault) = self.audit.seal(now).await
                {
                    tracing::error!(%fault, "lines of the audit log wait for a checkpoint");
                }
            }
            Err(fault) => {
                trail.changed(format!("{kid} is not revoked, by {by}{why}: {fault}"));
                let error: Error = Unavailable::Signing.into();
                let refused = Refused {
                    reason: error.reason().to_owned(),
                    message: fault.to_string(),
                    error: error.wire().error.to_owned(),
                    told: error.wire().reason.to_owned(),
                };
                trail.refuse(Outcome::Unavailable, refused, "a key that can be revoked");
            }
        }
        Ok(result?)
    }

    async fn drop_key(
        &self,
        kid: &str,
        reason: Option<String>,
        by: &OperatorId,
        (decision, now): (&DecisionId, Timestamp),
    ) -> Result<KeyRecord, SigningKeysError> {
        // Dropped first, whatever then fails: it signs and verifies nothing from here on.
        let dropped = self.keys.revoke(kid, now).await;
        if matches!(dropped, Err(SigningKeysError::Unknown(_))) {
            return dropped;
        }
        let (at, decision) = (now.seconds(), decision.to_string());
        let about = About { by: by.to_string(), reason, at, decision, ..About::default() };
        self.revocations.enter(Entry::new(NamedKind::Key, kid, Act::Revoke, now.plus(UNSEEN), about), now).await?;
        dropped
    }
}
