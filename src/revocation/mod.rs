//! The revocations in force. A revocation is in the log durably before it is in the view, and in the view before it is
//! acknowledged. `view` answers from memory, `log` writes, `follow` reads what other brokers append, `feed` tells
//! followers, and `status_lists` sets the entries of tokens.

mod feed;
mod follow;
mod log;
mod status_lists;
mod status_rows;
mod view;

pub use feed::{Follower, Heard};
pub use follow::Sharing;
pub use view::{Fresh, NotSuspended};

use crate::domain::Timestamp;
use crate::store::{Begun, Place, RevocationLog, StoreError};
use countersign_verify::view::View;
use feed::Latest;
use follow::SharedLog;
use log::{apply, read};
use status_rows::Statuses;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, Semaphore, watch};

/// Limit of requests that wait for a status list that is not known here, so that invented names block nobody.
const WAITING_FOR_LISTS: usize = 64;

/// How much longer than the token a record of its revocation is stored, in seconds: longer than any verifier's leeway.
pub const RECORD_MARGIN: i64 = 300;

/// All live revocations of this replica.
pub struct Revocations {
    log: Arc<dyn RevocationLog>,
    view: RwLock<View>,
    /// The status lists, which are judged by the view. Lock order: this one before the view.
    statuses: Mutex<Statuses>,
    /// The place up to which the log was read.
    place: watch::Sender<Place>,
    /// Held from the log to the view, so that the view never skips a position.
    order: tokio::sync::Mutex<()>,
    /// The freshness of a log that other brokers append to.
    shared: Option<SharedLog>,
    closed: AtomicBool,
    /// The latest records, whole.
    latest: Mutex<Latest>,
    /// Notified when a signing key was revoked, on any replica.
    keys_changed: Notify,
    /// Notified when a status list is new.
    lists_begun: Notify,
    /// The requests that may wait for a list.
    waiting_for_lists: Semaphore,
}

impl Revocations {
    /// Reads the log. `sharing` is given if other brokers append to it too.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read whole: a replica that does not know what is revoked does not start.
    pub async fn load(
        log: Arc<dyn RevocationLog>,
        sharing: Option<Sharing>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let shared = sharing.map(|sharing| (sharing.clock.monotonic(), SharedLog::new(sharing)));
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
        let shared = shared.map(|(asked, shared)| {
            shared.heard(asked);
            shared
        });
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

    /// Ends the streams of followers: the broker stops.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Returns true if the broker is stopping.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends when a signing key was revoked, on any replica.
    pub async fn key_revoked(&self) {
        self.keys_changed.notified().await;
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Place {
        *self.place.borrow()
    }

    fn statuses(&self) -> MutexGuard<'_, Statuses> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
