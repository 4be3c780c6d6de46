//! What an operator does to the keys: a successor by hand, and the end of a compromised key.

use super::keys::{Held, Keys, SigningKeysError, is_of};
use super::stock::Unrecorded;
use crate::domain::{KeyRecord, KeyState, PUBLISHED_BEFORE_USE, Purpose, Timestamp};
use crate::store::Lease;
use countersign_verify::key::Algorithm;
use std::sync::Arc;

impl Keys {
    /// Makes a successor for the key that signs `purpose` with `algorithm`: published now, signing when everyone can
    /// have it. Where one is published already, that is the one.
    ///
    /// # Errors
    /// [`SigningKeysError`] when it cannot be made or recorded.
    pub async fn rotate(
        &self,
        purpose: Purpose,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        let mut held = self.held.lock().await;
        let lease = self.lease().await?;
        let made = self.rotate_held(&mut held, (purpose, algorithm), &lease, now).await;
        self.let_go(lease).await;
        made
    }

    async fn rotate_held(
        &self,
        held: &mut Held,
        (purpose, algorithm): (Purpose, Algorithm),
        lease: &Lease,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        if purpose != Purpose::Tokens && !held.wanted().contains(&(purpose, algorithm)) {
            return Err(SigningKeysError::Algorithm(purpose, algorithm));
        }
        let waiting =
            |record: &&KeyRecord| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published;
        if let Some(waiting) = held.records.iter().find(waiting) {
            return Ok(waiting.clone());
        }
        let from = if held.current(purpose, algorithm).is_some() { now.plus(PUBLISHED_BEFORE_USE) } else { now };
        let before = held.records.clone();
        let made = self.make(held, (purpose, algorithm), from, now).await?;
        self.keep_or_undo(held, before, lease, now).await?;
        Ok(made)
    }

    /// Drops the key `kid`, which is compromised: it signs and verifies nothing from now on, and another one signs at
    /// once. What it signed is ended by the revocation log, not here.
    ///
    /// # Errors
    /// [`SigningKeysError::Unknown`], or [`SigningKeysError`] if that cannot be recorded durably.
    pub async fn revoke(&self, kid: &str, now: Timestamp) -> Result<KeyRecord, SigningKeysError> {
        let mut held = self.held.lock().await;
        // Dropped here before anything that can fail.
        if let Some(record) = held.records.iter_mut().find(|record| record.kid == kid) {
            record.revoked = record.revoked.or(Some(now));
            held.unsaved = true;
            self.ring.store(Arc::new(held.ring(now)));
        }
        let lease = self.lease().await?;
        let revoked = self.revoke_held(&mut held, kid, &lease, now).await;
        self.let_go(lease).await;
        revoked
    }

    async fn revoke_held(
        &self,
        held: &mut Held,
        kid: &str,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        let state_of = |held: &Held| {
            let known = held.records.iter().find(|record| record.kid == kid);
            known.map(|record| KeyRecord { revoked: None, ..record.clone() }.state(now))
        };
        // Recorded before the directory is looked at, which may be gone.
        let before = held.records.clone();
        self.recall(held).await?;
        match held.records.iter_mut().find(|record| record.kid == kid) {
            Some(record) => {
                record.revoked = record.revoked.or(Some(now));
                // What was recalled with it is seen by all, whether this can be kept or not.
                self.ring.store(Arc::new(held.ring(now)));
                self.keep(held, lease, now).await?;
            }
            // What has changed meanwhile is taken in below, with its files.
            None => held.records = before,
        }
        self.take_stock(held, Unrecorded::Adopted, now).await?;
        let state = state_of(held);
        let unknown = || SigningKeysError::Unknown(kid.to_owned());
        let record = held.records.iter_mut().find(|record| record.kid == kid).ok_or_else(unknown)?;
        let (purpose, algorithm) = (record.purpose, record.algorithm);
        record.revoked = record.revoked.or(Some(now));
        let revoked = record.clone();
        held.unsaved = true;
        let was_needed = matches!(state, Some(KeyState::Active | KeyState::Published));
        self.ring.store(Arc::new(held.ring(now)));
        let wanted = held.wanted().contains(&(purpose, algorithm));
        if state == Some(KeyState::Published) {
            // Its predecessor goes on as if it had never been.
            let line = |record: &&mut KeyRecord| is_of(record, purpose, algorithm) && record.revoked.is_none();
            let last = held.records.iter_mut().filter(line).max_by_key(|record| record.signs_from);
            if let Some(last) = last.filter(|last| last.state(now) == KeyState::Active) {
                last.signs_until = None;
            }
        }
        let alone = was_needed && wanted && held.active(purpose, algorithm, now).is_none();
        let successor = held
            .records
            .iter_mut()
            .find(|record| alone && is_of(record, purpose, algorithm) && record.state(now) == KeyState::Published);
        let needs_another = alone && successor.is_none();
        if let Some(successor) = successor {
            // Nobody can have waited for it: what signs has gone.
            successor.signs_from = now;
        }
        // For good before another one is made: whatever fails after this leaves nothing of the key.
        self.keep(held, lease, now).await?;
        if let Some(signer) = held.signers.get(kid) {
            self.bounded(self.parts.backends.of(purpose).remove(kid, revoked.public_half(&**signer))).await?;
            held.signers.remove(kid);
        }
        if needs_another {
            let before = held.records.clone();
            self.make(held, (purpose, algorithm), now, now).await?;
            self.keep_or_undo(held, before, lease, now).await?;
        }
        Ok(revoked)
    }
}
