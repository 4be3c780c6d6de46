//! What is revoked, in memory, and the log behind it. Owns the order: a revocation is in the log for good before it is in
//! the view, and in the view before anyone is told.

mod view;

use crate::domain::Timestamp;
use crate::store::{Entry, Replayed, RevocationLog, Revoked, StoreError};
use countersign_verify::AccessToken;
use countersign_verify::revocation::{Kind, Name, Named, is_hit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use view::View;

/// All live revocations of this replica.
pub struct Revocations {
    log: Arc<dyn RevocationLog>,
    view: RwLock<View>,
    position: AtomicU64,
    /// Held from the log to the view, so that the view never skips a position.
    order: tokio::sync::Mutex<()>,
}

impl Revocations {
    /// Reads the log.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read whole: a replica that does not know what is revoked does not start.
    pub async fn load(log: Arc<dyn RevocationLog>, now: Timestamp) -> Result<Self, StoreError> {
        let Replayed { position, records } = log.replay(now).await?;
        let mut view = View::default();
        for Revoked { position, entry } in &records {
            view.apply(*position, entry, now);
        }
        Ok(Self {
            log,
            view: RwLock::new(view),
            position: AtomicU64::new(position),
            order: tokio::sync::Mutex::default(),
        })
    }

    /// Whether `token` is dead: it, one above it, or something that one of them belongs to.
    #[must_use]
    pub fn hit(&self, token: &AccessToken) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        !view.is_empty() && is_hit(token, |name| view.reach(name))
    }

    /// Whether what is named `id` of `kind` is suspended: nothing new is given to it.
    #[must_use]
    pub fn suspends(&self, kind: Kind, id: &str) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.suspends_any() && view.reach(Name::new(kind, id)).is_some_and(|reach| reach.suspended)
    }

    /// Whether something that was decided at `pos` is dead by one of `names`.
    #[must_use]
    pub fn hits(&self, names: &[Named], pos: u64) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().any(|named| view.reach(named.name).is_some_and(|reach| reach.hits(named, pos)))
    }

    /// The position in the log that this replica has applied.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// How many are live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).count()
    }

    /// Every record that is alive at `now`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<Revoked>, StoreError> {
        let mut records = self.log.replay(now).await?.records;
        records.retain(|record| record.entry.until >= now);
        Ok(records)
    }

    /// Puts `entry` in force, on everything below what it names too.
    ///
    /// # Errors
    /// [`StoreError`] when the log does not have it for good; then it may or may not hold, and asking again is safe.
    pub async fn enter(self: &Arc<Self>, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        let this = Arc::clone(self);
        // A task of its own: a caller that goes away must not leave a record in the log that is not in the view.
        let work = tokio::spawn(async move { this.record(entry, now).await });
        work.await.map_err(|fault| StoreError::Io(fault.to_string()))?
    }

    async fn record(&self, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        let _order = self.order.lock().await;
        // Asked for again, or by many at once: it holds already.
        if self.view.read().unwrap_or_else(PoisonError::into_inner).has(&entry) {
            return Ok(());
        }
        let position = self.log.append(entry.clone(), now).await?;
        self.view.write().unwrap_or_else(PoisonError::into_inner).apply(position, &entry, now);
        self.position.store(position, Ordering::Release);
        Ok(())
    }
}
