//! A log that several brokers append to: it is followed all the time, and when another server has taken over, what it
//! lacks and this replica knows is appended again.

use super::Revocations;
use super::log::{apply, read};
use super::status_rows::There;
use crate::domain::{Clock, StatusRow, Timestamp};
use crate::store::{About, Begun, Entry, Place, RevocationLog, Revoked, StoreError};
use crate::telemetry::JobRuns;
use countersign_verify::backoff::Backoff;
use countersign_verify::revocation::{Name, Record};
use countersign_verify::view::View;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long to wait for a record that was appended a moment ago.
pub(super) const CATCH_UP: Duration = Duration::from_secs(1);
/// Delays before a log that cannot be read is read again: the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Limit of records that are appended again at once.
const AT_ONCE: usize = 64;

/// A log that other brokers append to: how old the view of it may be, and by which clock.
pub struct Sharing {
    /// The age past which the view answers nothing.
    pub max_staleness: Duration,
    /// The clock that measures it.
    pub clock: Arc<dyn Clock>,
}

/// The freshness of the shared log.
pub(super) struct SharedLog {
    sharing: Sharing,
    /// The monotonic time of the last request that found every record applied. None if that is not known.
    heard: Mutex<Option<Duration>>,
}

impl SharedLog {
    pub(super) fn new(sharing: Sharing) -> Self {
        Self { sharing, heard: Mutex::default() }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.sharing.clock
    }

    pub(super) fn heard(&self, at: Duration) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn lost(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn fresh(&self) -> Result<(), StoreError> {
        let is_fresh = self.age().is_some_and(|age| age <= self.sharing.max_staleness);
        if is_fresh { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// Returns true if the log was read since a caller began to wait for it.
    pub(super) fn heard_lately(&self) -> bool {
        u128::from(self.staleness()) < CATCH_UP.as_millis()
    }

    /// In milliseconds; as long as can be where nothing is known.
    pub(super) fn staleness(&self) -> u64 {
        self.age().and_then(|age| u64::try_from(age.as_millis()).ok()).unwrap_or(u64::MAX)
    }

    fn age(&self) -> Option<Duration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| self.clock().monotonic().saturating_sub(at))
    }
}

impl Revocations {
    /// Appends `entry` to the shared log, and waits until this replica has applied it and every record before it.
    pub(super) async fn record_shared(&self, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        if self.has(&entry) {
            return self.log.confirm().await;
        }
        let position = self.log.append(entry, now).await?;
        // It holds. What is decided here from now on has to know it, and to say so.
        if self.reaches(position).await? { Ok(()) } else { Err(StoreError::Stale) }
    }

    /// Follows the log for ever, where others append to it.
    pub async fn follow(self: Arc<Self>, runs: JobRuns) {
        let Some(shared) = &self.shared else { return };
        let clock = shared.clock();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut begun = true;
        loop {
            let asked = clock.monotonic();
            begun &= !self.statuses().begin_again();
            // Until all that the new server lacks is put back, its log is not followed.
            let heard = if begun { self.log.follow(self.place(), clock.now()).await } else { Err(StoreError::History) };
            let followed = match heard {
                Err(StoreError::History) => {
                    shared.lost();
                    tracing::warn!("another server has taken over the store; its log is read");
                    let done = self.begin_again(shared, clock.now()).await;
                    begun = done.is_ok();
                    done
                }
                Ok(page) => {
                    self.apply(&page, clock.now());
                    shared.heard(asked);
                    Ok(())
                }
                Err(fault) => Err(fault),
            };
            runs.count(followed.is_ok());
            match followed {
                Ok(()) => backoff.reset(),
                Err(fault) => {
                    tracing::warn!(%fault, staleness_ms = shared.staleness(), "the revocation log cannot be followed");
                    clock.sleep(backoff.delay()).await;
                }
            }
        }
    }

    /// Reads the log of a server that has taken over, and appends again what it lacks.
    async fn begin_again(&self, shared: &SharedLog, now: Timestamp) -> Result<(), StoreError> {
        let asked = shared.clock().monotonic();
        let known = self.position();
        let Begun { position, records, .. } = self.log.begin(known, now).await?;
        let (mut view, mut newer, mut there) = (View::with_room(records), Vec::new(), There::default());
        let last = read(&*self.log, |page| {
            page.records.iter().for_each(|record| apply(&mut view, record, now));
            newer.extend(page.records.into_iter().filter(|record| record.position > known));
            let mut statuses = self.statuses();
            // By what is held: nothing that is known to be dead may be told alive meanwhile.
            let held = self.view.read().unwrap_or_else(PoisonError::into_inner);
            for row in &page.rows {
                there.note(row);
                statuses.add(row, |name| held.reach(name), now);
            }
        });
        let place = last.await?.max(Place { position, row: 0 });
        let lacking = {
            let held = self.view.read().unwrap_or_else(PoisonError::into_inner);
            self.whole(held.lacking_in(&view, now.seconds()))
        };
        if !lacking.is_empty() {
            tracing::error!(
                records = lacking.len(),
                "the server that has taken over had lost revocations; they are put back"
            );
            let append = |entry: Entry| async move {
                let position = self.log.append(entry.clone(), now).await?;
                Ok::<_, StoreError>(Revoked { position, entry })
            };
            let mut appended: Vec<Revoked> = stream::iter(lacking).map(append).buffered(AT_ONCE).try_collect().await?;
            appended.sort_by_key(|record| record.position);
            appended.iter().for_each(|record| apply(&mut view, record, now));
        }
        // What others append meanwhile comes next; a record that was put back is read once more, and changes nothing.
        {
            let mut latest = self.latest();
            latest.take_in(&newer);
            // What was lifted and is in force again is no record: who follows has to read all of it.
            latest.begin_again();
        }
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        let lacking = {
            let mut statuses = self.statuses();
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            statuses.judge_all(|name| view.reach(name));
            statuses.lacking(&there, now)
        };
        self.place.send_replace(place);
        self.keys_changed.notify_one();
        shared.heard(asked);
        if !lacking.is_empty() {
            tokio::spawn(put_back(Arc::clone(&self.log), lacking, Arc::clone(&shared.sharing.clock), now));
        }
        Ok(())
    }

    /// The entries as they were written, as far as they are remembered.
    fn whole(&self, lacking: Vec<Record>) -> Vec<Entry> {
        let latest = self.latest();
        let known: HashMap<Name, &Entry> = latest.after(0).map(|held| (held.entry.name, &held.entry)).collect();
        let about = |lost: &Record| {
            let whole = known.get(&lost.name).filter(|held| held.act == lost.act);
            let put_back = || About { by: "a broker that remembered it".to_owned(), ..About::default() };
            whole.map_or_else(put_back, |whole| whole.about.clone())
        };
        let entry = |lost: Record| {
            let until = Timestamp::new(lost.until).unwrap_or(Timestamp::MAX);
            Entry { name: lost.name, until, act: lost.act, about: about(&lost) }
        };
        lacking.into_iter().map(entry).collect()
    }
}

/// Puts rows of status lists back, which nobody has to wait for: this broker knows them. Until another server takes
/// over again.
async fn put_back(log: Arc<dyn RevocationLog>, mut rows: Vec<StatusRow>, clock: Arc<dyn Clock>, since: Timestamp) {
    let began = clock.monotonic();
    tracing::error!(
        rows = rows.len(),
        "the server that has taken over had lost entries of status lists; they are put back"
    );
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let passed = clock.monotonic().saturating_sub(began);
        let now = since.plus(passed.as_secs().try_into().unwrap_or(i64::MAX));
        rows.retain(|row| row.until >= now);
        if rows.is_empty() {
            return;
        }
        let some = rows.split_off(rows.len().saturating_sub(AT_ONCE));
        let kept = join_all(some.iter().map(|row| log.keep(row.clone(), now))).await;
        let lost = some.into_iter().zip(kept).filter(|(_, kept)| kept.is_err());
        let lost: Vec<(StatusRow, Result<(), StoreError>)> = lost.collect();
        if lost.iter().any(|(_, kept)| *kept == Err(StoreError::History)) {
            return;
        }
        if !lost.is_empty() {
            clock.sleep(backoff.delay()).await;
            rows.extend(lost.into_iter().map(|(row, _)| row));
        }
    }
}
