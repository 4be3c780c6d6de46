//! What is revoked, in memory, and the log behind it. Owns the order: a revocation is in the log for good before it is in
//! the view, and in the view before anyone is told.

use crate::domain::Timestamp;
use crate::store::{Replayed, RevocationLog, Revoked, StoreError};
use countersign_verify::AccessToken;
use countersign_verify::revocation::{Kind, Name, names};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// How much longer than it can hit something a record stays in the view, in seconds: a clock that jumps ahead for a moment
/// must not lose it.
const GRACE: i64 = 7 * 86_400;

/// All live revocations of this replica.
pub struct Revocations {
    log: Arc<dyn RevocationLog>,
    live: RwLock<HashMap<Name, Timestamp>>,
    position: AtomicU64,
    /// Held from the log to the view, so that the view never skips a position. Holds how large the view may grow before
    /// what is over is dropped.
    order: tokio::sync::Mutex<usize>,
}

impl Revocations {
    /// Reads the log.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read whole: a replica that does not know what is revoked does not start.
    pub async fn load(log: Arc<dyn RevocationLog>, now: Timestamp) -> Result<Self, StoreError> {
        let Replayed { position, records } = log.replay(now).await?;
        let live = records.into_iter().map(|Revoked { name, until, .. }| (name, until)).collect();
        Ok(Self {
            log,
            live: RwLock::new(live),
            position: AtomicU64::new(position),
            order: tokio::sync::Mutex::default(),
        })
    }

    /// Whether `token`, one above it, or the key of one of them was revoked.
    #[must_use]
    pub fn hit(&self, token: &AccessToken) -> bool {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        !live.is_empty() && names(token).any(|name| live.contains_key(&name))
    }

    /// Whether what is named `id` of `kind` was revoked itself.
    #[must_use]
    pub fn is_revoked(&self, kind: Kind, id: &str) -> bool {
        self.live.read().unwrap_or_else(PoisonError::into_inner).contains_key(&Name::new(kind, id))
    }

    /// The position in the log that this replica has applied.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// How many are live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Revokes what is named `id` of `kind`, and everything below it, none of which lives past `until`.
    ///
    /// # Errors
    /// [`StoreError`] when the log does not have it for good; then it may or may not hold, and asking again is safe.
    pub async fn revoke(
        self: &Arc<Self>,
        kind: Kind,
        id: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (this, name) = (Arc::clone(self), Name::new(kind, id));
        // A task of its own: a caller that goes away must not leave a record in the log that is not in the view.
        let work = tokio::spawn(async move { this.record(name, until, now).await });
        work.await.map_err(|fault| StoreError::Io(fault.to_string()))?
    }

    async fn record(&self, name: Name, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mut swept = self.order.lock().await;
        let position = self.log.append(name, until, now).await?;
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        // What is over is dropped when the view has doubled, so that a revocation costs no walk through all of them.
        if live.len() >= *swept {
            live.retain(|_, until| until.plus(GRACE) >= now);
            *swept = live.len() * 2 + 1_024;
        }
        live.insert(name, until);
        self.position.store(position, Ordering::Release);
        Ok(())
    }
}
