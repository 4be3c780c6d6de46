//! Key rotation: creates missing keys, promotes successors, retires old keys, and records each step before it takes
//! effect.

use super::keys::{ANSWERS_LIVE, Held, Keys, SigningKeysError, is_of};
use super::{BackendKey, KeyRing};
use crate::domain::{JWKS_MAX_AGE, KeyRecord, KeyState, Lifetime, PUBLISHED_BEFORE_USE, Purpose, Timestamp};
use crate::store::{Lease, StoreError};
use countersign_verify::key::Algorithm;
use std::sync::Arc;

impl Keys {
    pub(super) async fn tend_held(
        &self,
        held: &mut Held,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<(), SigningKeysError> {
        if held.unsaved {
            self.keep(held, lease, now).await?;
        }
        let before = held.records.clone();
        if let Err(fault) = self.make_due(held, now).await {
            self.undo(held, before, &[]).await;
            return Err(fault);
        }
        let (longest, wanted, every) = (held.rotation.longest.seconds(), held.wanted(), held.rotation.every);
        for record in &mut held.records {
            // Nobody asks for its algorithm any more, or yet: it is kept as long as a key signs, and then it retires.
            let unwanted = !wanted.contains(&(record.purpose, record.algorithm)) && record.signs_until.is_none();
            if unwanted && every.is_some_and(|every| record.signs_from.plus(every.seconds()) <= now) {
                record.signs_until = Some(now);
            }
            // A target that lives longer than before: the key has to stay for what it signs from now on.
            if record.purpose == Purpose::Tokens && record.signs_until.is_none_or(|until| until > now) {
                record.longest = record.longest.max(longest);
            }
        }
        held.records.retain(|record| !record.is_over(now));
        held.unsaved |= held.records != before;
        let retired: Vec<String> = held
            .signers
            .keys()
            .filter(|kid| held.records.iter().any(|record| record.kid == **kid && !record.state(now).is_alive()))
            .cloned()
            .collect();
        if held.unsaved || !retired.is_empty() {
            self.keep_or_undo(held, before, lease, now).await?;
            for kid in retired {
                let record = held.records.iter().find(|record| record.kid == kid);
                if let (Some(record), Some(signer)) = (record, held.signers.get(&kid)) {
                    let backend = self.parts.backends.of(record.purpose);
                    self.bounded(backend.remove(&kid, record.public_half(&**signer))).await?;
                    tracing::info!(%kid, "key retired");
                }
                held.signers.remove(&kid);
            }
        }
        Ok(())
    }

    /// Makes the keys that are missing, and successors for those whose time comes.
    async fn make_due(&self, held: &mut Held, now: Timestamp) -> Result<(), SigningKeysError> {
        for (purpose, algorithm) in held.wanted() {
            let due = |since: Timestamp, every: Lifetime| {
                since.plus(every.seconds() - PUBLISHED_BEFORE_USE) <= now && since <= now
            };
            let signs_from = match held.current(purpose, algorithm).map(|current| current.signs_from) {
                None => now,
                Some(since) if held.rotation.every.is_some_and(|every| due(since, every)) => {
                    now.plus(PUBLISHED_BEFORE_USE)
                }
                Some(_) => continue,
            };
            self.make(held, (purpose, algorithm), signs_from, now).await?;
        }
        Ok(())
    }

    pub(super) async fn make(
        &self,
        held: &mut Held,
        (purpose, algorithm): (Purpose, Algorithm),
        signs_from: Timestamp,
        now: Timestamp,
    ) -> Result<KeyRecord, SigningKeysError> {
        let backend = self.parts.backends.of(purpose);
        let BackendKey { signer, .. } = self.bounded(backend.create(purpose, algorithm)).await?;
        if let Err(fault) = self.test(&*signer, purpose).await {
            if let Err(fault) = self.bounded(backend.remove(signer.key_id(), None)).await {
                tracing::warn!(kid = signer.key_id(), %fault, "a key that failed its test stays in the backend, unused");
            }
            return Err(fault);
        }
        let kid = signer.key_id().to_owned();
        for current in held.records.iter_mut().filter(|record| is_of(record, purpose, algorithm)) {
            current.signs_until = current.signs_until.or(Some(signs_from));
        }
        let longest = if purpose == Purpose::Tokens { held.rotation.longest.seconds() } else { ANSWERS_LIVE };
        let record = KeyRecord {
            kid: kid.clone(),
            purpose,
            algorithm,
            published: now,
            signs_from,
            signs_until: None,
            longest,
            revoked: None,
        };
        tracing::info!(%kid, %purpose, %algorithm, %signs_from, "key made");
        held.records.push(record.clone());
        held.unsaved = true;
        held.signers.insert(kid, signer);
        Ok(record)
    }

    /// Stores the keys as [`Keys::keep`] does. If that fails, no key was made: a key without a record must never come
    /// to sign.
    pub(super) async fn keep_or_undo(
        &self,
        held: &mut Held,
        before: Vec<KeyRecord>,
        lease: &Lease,
        now: Timestamp,
    ) -> Result<(), SigningKeysError> {
        let kept = self.keep(held, lease, now).await;
        if kept.is_err() {
            // It may have been recorded all the same: then its file is what every replica needs.
            let recorded = match &kept {
                Err(SigningKeysError::Store(StoreError::LeaseLost)) => Some(Vec::new()),
                _ => self.parts.records.read().await.ok(),
            };
            let Some(recorded) = recorded else {
                held.records = before;
                return kept;
            };
            self.undo(held, before, &recorded).await;
        }
        kept
    }

    /// Goes back to the records `before`, and removes every key that was made since and is not `recorded`: a key
    /// without a record must never come to sign.
    async fn undo(&self, held: &mut Held, before: Vec<KeyRecord>, recorded: &[KeyRecord]) {
        let is_known = |kid: &str| before.iter().chain(recorded).any(|record| record.kid == kid);
        let made: Vec<_> = held.records.iter().filter(|record| !is_known(&record.kid)).cloned().collect();
        for KeyRecord { kid, purpose, .. } in made {
            if held.signers.remove(&kid).is_some()
                && let Err(fault) = self.bounded(self.parts.backends.of(purpose).remove(&kid, None)).await
            {
                tracing::warn!(%kid, %fault, "a key that was not recorded stays in the backend, unused");
            }
        }
        held.records = before;
    }

    /// Records the changes durably, and publishes them.
    pub(super) async fn keep(&self, held: &mut Held, lease: &Lease, now: Timestamp) -> Result<(), SigningKeysError> {
        self.parts.records.write(&held.records, lease).await?;
        held.unsaved = false;
        self.ring.store(Arc::new(held.ring(now)));
        Ok(())
    }
}

impl Held {
    /// A key that not every replica of `ready` publishes yet has to wait: nobody may hold a set that lacks what signs.
    pub(super) fn hold_back(&mut self, ready: &[Vec<String>], now: Timestamp) {
        let lacking = |record: &KeyRecord| ready.iter().any(|kids| !kids.contains(&record.kid));
        let soon = now.plus(JWKS_MAX_AGE.into());
        let is_early = |record: &&KeyRecord| {
            record.state(now) == KeyState::Published && record.signs_from < soon && lacking(record)
        };
        let early: Vec<KeyRecord> = self.records.iter().filter(is_early).cloned().collect();
        for KeyRecord { kid, purpose, algorithm, signs_from, .. } in early {
            tracing::warn!(%kid, "a replica that is ready does not publish the key yet; it signs later");
            let later = now.plus(PUBLISHED_BEFORE_USE);
            for record in self.records.iter_mut().filter(|record| is_of(record, purpose, algorithm)) {
                if record.kid == kid {
                    record.signs_from = later;
                } else if record.signs_until == Some(signs_from) {
                    record.signs_until = Some(later);
                }
            }
            self.unsaved = true;
        }
    }

    /// A key for each algorithm of tokens, and one for each other purpose.
    pub(super) fn wanted(&self) -> Vec<(Purpose, Algorithm)> {
        let tokens = self.rotation.algorithms.iter().map(|algorithm| (Purpose::Tokens, *algorithm));
        let others = [Purpose::Checkpoints, Purpose::Introspection].map(|purpose| (purpose, Algorithm::Es256));
        tokens.chain(others).collect()
    }

    /// The last of its line, which signs or will.
    pub(super) fn current(&self, purpose: Purpose, algorithm: Algorithm) -> Option<&KeyRecord> {
        let last = |record: &&KeyRecord| {
            is_of(record, purpose, algorithm) && record.signs_until.is_none() && record.revoked.is_none()
        };
        self.records.iter().find(last)
    }

    pub(super) fn active(&self, purpose: Purpose, algorithm: Algorithm, now: Timestamp) -> Option<&KeyRecord> {
        self.records.iter().find(|record| is_of(record, purpose, algorithm) && record.state(now) == KeyState::Active)
    }

    pub(super) fn ring(&self, now: Timestamp) -> KeyRing {
        let alive = self.records.iter().filter(|record| record.state(now).is_alive());
        let with_signer = alive.filter_map(|record| {
            let signer = self.signers.get(&record.kid)?;
            Some((record.clone(), Arc::clone(signer)))
        });
        let lacking = self
            .records
            .iter()
            .filter(|record| record.state(now).is_alive() && !self.signers.contains_key(&record.kid));
        KeyRing::new(with_signer.collect(), self.wanted()).lacking(lacking.count())
    }
}
