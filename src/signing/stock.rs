//! The stock of keys: records that other replicas change too, under a lease, and private keys in a backend that all of
//! them share.

use super::keys::{ANSWERS_LIVE, Held, Keys, SigningKeysError, is_of};
use super::{BackendKey, Signer};
use crate::domain::{KeyRecord, PUBLISHED_BEFORE_USE, Purpose, Timestamp};
use crate::store::{Lease, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Number of attempts to get a lease that another replica holds.
const LEASE_TRIES: u32 = 60;
const LEASE_WAIT: Duration = Duration::from_millis(200);

/// The treatment of a file without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unrecorded {
    /// It was put there by an operator.
    Adopted,
    /// Another replica may be about to record it.
    Left,
}

impl Keys {
    /// Reads what is known of the keys, which another replica may have changed, and takes those that are new here from
    /// their backend.
    pub(super) async fn take_stock(
        &self,
        held: &mut Held,
        unrecorded: Unrecorded,
        now: Timestamp,
    ) -> Result<(), SigningKeysError> {
        let (before, signers) = (held.records.clone(), held.signers.len());
        let stored = self.recall(held).await?;
        let found = self.find_keys(held, &stored, unrecorded, now).await;
        if found.is_err() || held.records != before || held.signers.len() != signers {
            self.ring.store(Arc::new(held.ring(now)));
        }
        found
    }

    /// Reads the records alone, as the store has them; to be seen by anyone, the ring has to be made again.
    pub(super) async fn recall(&self, held: &mut Held) -> Result<Vec<KeyRecord>, SigningKeysError> {
        let stored = self.parts.records.read().await?;
        let mut known = stored.clone();
        // A key that is here, and that the store has lost.
        let lost = |record: &&KeyRecord| {
            held.signers.contains_key(&record.kid) && stored.iter().all(|other| other.kid != record.kid)
        };
        known.extend(held.records.iter().filter(lost).cloned());
        held.unsaved |= known.len() > stored.len();
        // What was revoked here, and could not be recorded, stays revoked.
        for record in &mut known {
            let own = held.records.iter().find(|own| own.kid == record.kid).and_then(|own| own.revoked);
            held.unsaved |= own.is_some() && record.revoked.is_none();
            record.revoked = record.revoked.or(own);
        }
        held.know(known);
        Ok(stored)
    }

    async fn find_keys(
        &self,
        held: &mut Held,
        stored: &[KeyRecord],
        unrecorded: Unrecorded,
        now: Timestamp,
    ) -> Result<(), SigningKeysError> {
        let mut known = held.records.clone();
        let is_new = |record: &KeyRecord| record.state(now).is_alive() && !held.signers.contains_key(&record.kid);
        if unrecorded == Unrecorded::Left && !known.iter().any(is_new) {
            return Ok(());
        }
        let first = |purpose: &Purpose| known.iter().all(|record| record.purpose != *purpose);
        let first: Vec<Purpose> = Purpose::ALL.into_iter().filter(first).collect();
        held.untested = None;
        for BackendKey { purpose, signer } in self.bounded(Box::pin(self.parts.backends.list())).await? {
            match known.iter().find(|record| record.kid == signer.key_id()) {
                Some(record) if !record.state(now).is_alive() && stored.contains(record) => {
                    tracing::warn!(kid = signer.key_id(), "a key that was revoked or has retired is removed");
                    let backend = self.parts.backends.of(purpose);
                    self.bounded(backend.remove(signer.key_id(), record.public_half(&*signer))).await?;
                    continue;
                }
                None if unrecorded == Unrecorded::Left => continue,
                _ => {}
            }
            if !held.signers.contains_key(signer.key_id())
                && let Err(fault) = self.test(&*signer, purpose).await
            {
                // The broker goes on without it, and is not ready if it is recorded; a start refuses. It is never
                // adopted: its predecessor would hand over to a key that cannot sign.
                tracing::error!(%fault, "key not used");
                held.untested = Some(fault);
                continue;
            }
            if known.iter().all(|record| record.kid != signer.key_id()) {
                let longest = held.rotation.longest.seconds();
                adopt(&mut known, (purpose, &*signer), first.contains(&purpose), longest, now);
                held.unsaved = true;
            }
            held.signers.entry(signer.key_id().to_owned()).or_insert(signer);
        }
        held.know(known);
        Ok(())
    }

    /// Looks for keys that another replica has made, unless that was done a moment ago or is being done.
    pub async fn look_again(&self, now: Timestamp) {
        let second = now.seconds();
        let Ok(mut held) = self.held.try_lock() else { return };
        if self.looked.swap(second, Ordering::Relaxed) == second {
            return;
        }
        if let Err(fault) = self.take_stock(&mut held, Unrecorded::Left, now).await {
            tracing::warn!(%fault, "keys of other replicas not looked for");
        }
    }

    /// The lease of the keys, which another replica may hold for a moment.
    pub(super) async fn lease(&self) -> Result<Lease, SigningKeysError> {
        for _ in 0..LEASE_TRIES {
            if let Some(lease) = self.parts.records.take(self.lease_name()?).await? {
                return Ok(lease);
            }
            self.parts.clock.sleep(LEASE_WAIT).await;
        }
        Err(StoreError::LeaseLost.into())
    }

    pub(super) fn lease_name(&self) -> Result<Lease, SigningKeysError> {
        let mut random = [0; 16];
        self.parts.entropy.fill(&mut random)?;
        Ok(Lease::named(&URL_SAFE_NO_PAD.encode(random)))
    }

    pub(super) async fn let_go(&self, lease: Lease) {
        // Where this fails it ends by itself.
        if let Err(fault) = self.parts.records.let_go(lease).await {
            tracing::warn!(%fault, "the lease of the keys is not given back");
        }
    }
}

impl Held {
    /// Takes `records` in one order on every replica, so that all publish the same document.
    fn know(&mut self, mut records: Vec<KeyRecord>) {
        records.sort_by(|one, other| {
            (one.purpose, one.published, &one.kid).cmp(&(other.purpose, other.published, &other.kid))
        });
        self.records = records;
    }
}

/// Records a key that an operator put there. The `first` of a purpose sign at once, the last by name of each algorithm;
/// one that comes later is published before it signs.
fn adopt(
    known: &mut Vec<KeyRecord>,
    (purpose, signer): (Purpose, &dyn Signer),
    first: bool,
    longest: i64,
    now: Timestamp,
) {
    let signs_from = if first { now } else { now.plus(PUBLISHED_BEFORE_USE) };
    let line = |record: &&mut KeyRecord| is_of(record, purpose, signer.algorithm()) && record.signs_until.is_none();
    let alone = known.iter_mut().filter(line).map(|record| record.signs_until = Some(signs_from)).count() == 0;
    known.push(KeyRecord {
        kid: signer.key_id().to_owned(),
        purpose,
        algorithm: signer.algorithm(),
        published: now,
        signs_from: if alone { now } else { signs_from },
        signs_until: None,
        longest: if purpose == Purpose::Tokens { longest } else { ANSWERS_LIVE },
        revoked: None,
    });
}
