//! Rotation and revocation of signing keys, by a running broker or in the store alone.

use super::change::UNSEEN;
use crate::audit::{AuditLog, AuditTrail, EventKind, Outcome, Refused};
use crate::domain::{DecisionId, KeyRecord, Purpose, Timestamp};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::signing::{Keys, SigningKeysError};
use crate::store::{About, Act, Entry, StoreError};
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::Kind as NamedKind;
use std::sync::Arc;

/// Makes a successor for the key of a purpose and an algorithm, where a broker runs or not.
///
/// # Errors
/// [`SigningKeysError`] when it cannot be made or recorded.
pub async fn rotate_key(
    (purpose, algorithm): (Purpose, Algorithm),
    decision: &DecisionId,
    keys: &Keys,
    audit: &Arc<AuditLog>,
    now: Timestamp,
) -> Result<KeyRecord, SigningKeysError> {
    let mut trail = AuditTrail::begin(EventKind::Keys, decision, None, now, audit);
    let made = keys.rotate(purpose, algorithm, now).await;
    match &made {
        Ok(key) => trail.changed(format!("{purpose} {algorithm}: {} signs from {}", key.kid, key.signs_from)),
        Err(fault) => trail.changed(format!("{purpose} {algorithm}: no successor: {fault}")),
    }
    let _ = trail.done(if made.is_ok() { Outcome::Granted } else { Outcome::Unavailable });
    made
}

/// Drops the key `kid`, where a broker runs or not, and revokes what it signed. `about` names the operator and the
/// reason.
///
/// # Errors
/// [`SigningKeysError::Unknown`], or [`SigningKeysError`] if that is not durable: then ask again.
pub async fn revoke_key(
    (kid, about): (&str, About),
    decision: &DecisionId,
    (keys, revocations, audit): (&Keys, &Arc<Revocations>, &Arc<AuditLog>),
    now: Timestamp,
) -> Result<KeyRecord, SigningKeysError> {
    let mut trail = AuditTrail::begin(EventKind::Keys, decision, None, now, audit);
    let why = about.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let result = async {
        // Dropped first, whatever then fails: it signs and verifies nothing from here on.
        let dropped = keys.revoke(kid, now).await;
        if matches!(dropped, Err(SigningKeysError::Unknown(_))) {
            return dropped;
        }
        let (at, decision) = (now.seconds(), decision.to_string());
        let about = About { at, decision, ..about };
        revocations.enter(Entry::new(NamedKind::Key, kid, Act::Revoke, now.plus(UNSEEN), about), now).await?;
        dropped
    }
    .await;
    match &result {
        Ok(key) => {
            trail.revoked(&key.kid);
            trail.changed(format!("{} {}: {} is revoked{why}", key.purpose, key.algorithm, key.kid));
            let written = trail.done(Outcome::Granted);
            written.map_err(|fault| StoreError::Io(fault.to_string()))?;
            // By the key that has taken over: what the compromised one sealed is vouched for again.
            if key.purpose == Purpose::Checkpoints {
                audit.seal(now).await.map_err(|fault| StoreError::Io(fault.to_string()))?;
            }
        }
        Err(fault) => {
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
    result
}
