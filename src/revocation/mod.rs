//! The revocations in force, in memory, and the log behind them. A revocation is in the log durably before it is in the
//! view, and in the view before it is acknowledged. Where other brokers append to the log too, it is followed; a view
//! that is too old answers nothing.

mod feed;
mod shared;
mod status;

pub use feed::{Follower, Heard};

use crate::domain::{Entropy, ListId, StatusRow, Timestamp};
use crate::store::{Act, Begun, Entry, Page, Place, RevocationLog, Revoked, StoreError};
use countersign_verify::AccessToken;
use countersign_verify::revocation::{Kind, Name, Named};
use countersign_verify::view::View;
use feed::Latest;
use shared::Shared;
use status::Statuses;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// Limit of requests that wait for a status list that is not known here, so that invented names block nobody.
const WAITING_FOR_LISTS: usize = 64;

/// How much longer than the token a record of its revocation is stored, in seconds: longer than any verifier's leeway.
pub const RECORD_MARGIN: i64 = 300;

/// Proof that the view of revocations was current, with the position in the log that this replica had applied then.
/// Only [`Revocations::fresh`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    position: u64,
}

impl Fresh {
    /// The position in the revocation log that had been applied.
    #[must_use]
    pub fn position(self) -> u64 {
        self.position
    }
}

/// Proof that something is not suspended. Only [`Revocations::not_suspended`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSuspended {
    _looked_up: (),
}

/// All live revocations of this replica.
pub struct Revocations {
    log: Arc<dyn RevocationLog>,
    view: RwLock<View>,
    /// Judged by the view: locked before it.
    statuses: Mutex<Statuses>,
    /// The place up to which the log was read.
    place: watch::Sender<Place>,
    /// Held from the log to the view, so that the view never skips a position.
    order: tokio::sync::Mutex<()>,
    /// The freshness of a log that other brokers append to.
    shared: Option<Shared>,
    closed: AtomicBool,
    /// The latest records, whole.
    latest: Mutex<Latest>,
    /// Told where a signing key was revoked, by whomever.
    keys_changed: Notify,
    /// Told where a status list is new.
    lists_begun: Notify,
    /// The requests that may wait for a list.
    waiting_for_lists: Semaphore,
}

impl Revocations {
    /// Reads the log. Where other brokers append to it, a view that is older than `max_staleness` answers nothing.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read whole: a replica that does not know what is revoked does not start.
    pub async fn load(
        log: Arc<dyn RevocationLog>,
        max_staleness: Option<Duration>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let shared = max_staleness.map(Shared::new);
        let asked = shared::instant();
        let Begun { position, records, swept } = log.begin(0, now).await?;
        let (mut view, mut statuses) = (View::with_room(records), Statuses::default());
        let read = read(&*log, |page| {
            page.records.iter().for_each(|record| apply(&mut view, record, now));
            for row in &page.rows {
                let _ = statuses.add(row, |_| None, now);
            }
        });
        let place = read.await?.max(Place { position, row: 0 });
        statuses.judge_all(|name| view.reach(name));
        statuses.were_swept(swept, now);
        if let Some(shared) = &shared {
            shared.heard(asked);
        }
        Ok(Self {
            log,
            view: RwLock::new(view),
            statuses: Mutex::new(statuses),
            place: watch::Sender::new(place),
            order: tokio::sync::Mutex::default(),
            shared,
            closed: AtomicBool::new(false),
            latest: Mutex::new(Latest::since(place.position)),
            keys_changed: Notify::new(),
            lists_begun: Notify::new(),
            waiting_for_lists: Semaphore::new(WAITING_FOR_LISTS),
        })
    }

    /// Returns a proof that the view is fresh enough to be used.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the shared log could not be read for too long.
    pub fn fresh(&self) -> Result<Fresh, StoreError> {
        self.shared.as_ref().map_or(Ok(()), Shared::fresh)?;
        Ok(Fresh { position: self.position() })
    }

    /// Returns true if other brokers append to the log.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// How long the shared log could not be read, in milliseconds; 0 if nobody else appends to it.
    #[must_use]
    pub fn staleness(&self) -> u64 {
        self.shared.as_ref().map_or(0, Shared::staleness)
    }

    /// Returns true if `token` is revoked: itself, a token above it, or something that one of them belongs to.
    #[must_use]
    pub fn hit(&self, token: &AccessToken) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.hits(token)
    }

    /// Returns a proof that `id` of `kind` is not suspended; none if it is, and nothing new may be given to it.
    #[must_use]
    pub fn not_suspended(&self, kind: Kind, id: &str) -> Option<NotSuspended> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let is_suspended = view.suspends_any() && view.reach(Name::new(kind, id)).is_some_and(|reach| reach.suspended);
        (!is_suspended).then_some(NotSuspended { _looked_up: () })
    }

    /// Returns true if one of `names` revokes what was decided at `pos`.
    #[must_use]
    pub fn hits(&self, names: &[Named], pos: u64) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().any(|named| view.reach(named.name).is_some_and(|reach| reach.hits(named, pos)))
    }

    /// The position in the log that this replica has applied.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.place().position
    }

    /// Returns true if this replica has applied the log up to `position`. Waits for a record that another replica has
    /// just appended.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the shared log cannot be read.
    pub async fn reaches(&self, position: u64) -> Result<bool, StoreError> {
        if self.position() >= position {
            return Ok(true);
        }
        let Some(shared) = &self.shared else { return Ok(false) };
        shared.fresh()?;
        let mut applied = self.place.subscribe();
        let reached = applied.wait_for(|applied| applied.position >= position);
        match tokio::time::timeout(shared::CATCH_UP, reached).await {
            Ok(reached) => Ok(reached.is_ok()),
            // Nothing is left to be read, or it is not known whether there is.
            Err(_) => shared.heard_lately().then_some(false).ok_or(StoreError::Stale),
        }
    }

    /// Ends when every revocation in force is durable.
    ///
    /// # Errors
    /// [`StoreError`] when the log does not say so.
    pub async fn confirm(&self) -> Result<(), StoreError> {
        self.log.confirm().await
    }

    /// Returns the number of revocations in force.
    #[must_use]
    pub fn count(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).count()
    }

    /// Ends what followers are told: the broker stops.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Returns true if the broker is stopping.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends when a signing key was revoked, by whomever.
    pub async fn key_revoked(&self) {
        self.keys_changed.notified().await;
    }

    /// Every record that is alive at `now`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub async fn list(&self, now: Timestamp) -> Result<Vec<Revoked>, StoreError> {
        let mut records = Vec::new();
        read(&*self.log, |page| records.extend(page.records.into_iter().filter(|record| record.entry.until >= now)))
            .await?;
        Ok(records)
    }

    /// Puts `entry` in force, on everything below what it names too.
    ///
    /// # Errors
    /// [`StoreError`] if the log does not have it durably; then it may or may not be in force, and asking again is
    /// safe.
    pub async fn enter(self: &Arc<Self>, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        let this = Arc::clone(self);
        // A task of its own: a caller that goes away must not leave a record in the log that is not in the view.
        let work = tokio::spawn(async move { this.record(entry, now).await });
        work.await.map_err(|fault| StoreError::Io(fault.to_string()))?
    }

    async fn record(&self, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        if self.shared.is_some() {
            return self.record_shared(entry, now).await;
        }
        let _order = self.order.lock().await;
        // Asked for again, or by many at once: it holds already.
        if self.has(&entry) {
            return Ok(());
        }
        let position = self.log.append(entry.clone(), now).await?;
        let last = Place { position, ..Place::default() };
        self.apply(&Page { records: vec![Revoked { position, entry }], last, ..Page::default() }, now);
        Ok(())
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, entry: &Entry) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        entry.act == Act::Revoke && entry.is_of_one() && view.has(entry.name, entry.until.seconds())
    }

    fn place(&self) -> Place {
        *self.place.borrow()
    }

    fn statuses(&self) -> MutexGuard<'_, Statuses> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in force what the log has next.
    fn apply(&self, page: &Page, now: Timestamp) {
        if page.is_empty() {
            return;
        }
        if !page.records.is_empty() {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            page.records.iter().for_each(|record| apply(&mut view, record, now));
        }
        self.judge(page, now);
        self.latest().take_in(&page.records);
        self.place.send_replace(page.last);
        if page.records.iter().any(|record| record.entry.about.kind == Kind::Key.name()) {
            self.keys_changed.notify_one();
        }
    }

    /// Brings the status lists into step with the view, which has the records of `page` already: whatever comes first,
    /// a row or what revokes it, one of them finds the other.
    fn judge(&self, page: &Page, now: Timestamp) {
        let mut statuses = self.statuses();
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        for Revoked { entry, .. } in &page.records {
            view.reach(entry.name).iter().for_each(|reach| statuses.judge(entry.name, reach));
        }
        let mut is_new = false;
        for row in &page.rows {
            is_new |= statuses.add(row, |name| view.reach(name), now);
        }
        if is_new {
            self.lists_begun.notify_waiters();
        }
    }

    /// An entry of a status list, for one token.
    ///
    /// # Errors
    /// [`StoreError`] where there is none.
    pub fn allot(&self, entropy: &dyn Entropy, now: Timestamp) -> Result<(ListId, u32), StoreError> {
        self.statuses().allot(entropy, now)
    }

    /// Keeps what a token with an entry can be revoked by, before anyone has it.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not have it.
    pub async fn keep(&self, row: StatusRow, now: Timestamp) -> Result<(), StoreError> {
        self.log.keep(row.clone(), now).await?;
        self.judge(&Page { rows: vec![row], ..Page::default() }, now);
        Ok(())
    }

    /// Returns the number of changes of a status list; none if there is no such list. Some callers wait for a list that
    /// another replica has just begun.
    pub async fn status_changes(&self, list: &ListId, now: Timestamp) -> Option<u64> {
        let known = || {
            let mut statuses = self.statuses();
            statuses.look_at_the_clock(now);
            statuses.changes(list)
        };
        let changes = known();
        if changes.is_some() || self.shared.is_none() {
            return changes;
        }
        let Ok(_place) = self.waiting_for_lists.try_acquire() else { return None };
        let heard = async {
            loop {
                let begun = self.lists_begun.notified();
                if let Some(changes) = known() {
                    return changes;
                }
                begun.await;
            }
        };
        tokio::time::timeout(shared::CATCH_UP, heard).await.ok()
    }

    /// The entries of a status list as they are published, and how often they have changed.
    #[must_use]
    pub fn status_entries(&self, list: &ListId) -> Option<(Vec<u8>, u64)> {
        self.statuses().entries(list)
    }

    /// Every status list that names a token alive, in order. What is over goes.
    #[must_use]
    pub fn status_lists(&self, now: Timestamp) -> Vec<ListId> {
        self.statuses().tended(now)
    }

    /// Returns the number of tokens with an entry.
    #[must_use]
    pub fn status_rows(&self) -> usize {
        self.statuses().count()
    }
}

/// All of the log, some at a time: there may be very much. Gives where it ends.
async fn read(log: &dyn RevocationLog, mut each: impl FnMut(Page)) -> Result<Place, StoreError> {
    let mut place = Place::default();
    loop {
        let page = log.page(place).await?;
        if page.is_empty() {
            return Ok(place);
        }
        place = page.last;
        each(page);
    }
}

fn apply(view: &mut View, Revoked { position, entry }: &Revoked, now: Timestamp) {
    view.apply(*position, &entry.record(), now.seconds());
}
