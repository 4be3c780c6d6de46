//! The records that resource servers receive: every revocation in force, and then each record in the order of the log.
//! A follower that falls too far behind begins again.

use super::Revocations;
use crate::domain::{Clock, Timestamp, within};
use crate::store::{Revoked, StoreError};
use countersign_verify::feed::{Event, HERE, Here, LOST, RECORD, Snapshot, Told};
use countersign_verify::revocation::Name;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Number of the latest records that are remembered whole: for followers, and for a store that lost them.
const REMEMBERED: usize = 16_384;
/// Interval at which a follower receives a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// Limit of records in one event.
const AT_ONCE: usize = 512;

/// The latest records of the log.
pub(super) struct Latest {
    records: VecDeque<HeldRecord>,
    /// The position before the first of them.
    since: u64,
    /// Number of times that the log was read anew.
    readings: u64,
}

/// A record, and the event that tells of it, written once for all who follow.
struct HeldRecord {
    record: Revoked,
    told: Arc<str>,
}

impl Latest {
    pub(super) fn since(position: u64) -> Self {
        Self { records: VecDeque::new(), since: position, readings: 0 }
    }

    pub(super) fn take_in(&mut self, records: &[Revoked]) {
        let held = |record: &Revoked| {
            let told = serde_json::to_string(&Told::from(record.entry.record())).unwrap_or_default();
            HeldRecord { record: record.clone(), told: told.into() }
        };
        self.records.extend(records.iter().map(held));
        while self.records.len() > REMEMBERED
            && let Some(gone) = self.records.pop_front()
        {
            self.since = gone.record.position;
        }
    }

    pub(super) fn begin_again(&mut self) {
        self.readings += 1;
    }

    /// Those after `position`, oldest first.
    pub(super) fn after(&self, position: u64) -> impl Iterator<Item = &Revoked> {
        self.held_after(position).map(|held| &held.record)
    }

    fn held_after(&self, position: u64) -> impl Iterator<Item = &HeldRecord> {
        let first = self.records.partition_point(|held| held.record.position <= position);
        self.records.iter().skip(first)
    }
}

/// A follower that receives each record from a position on.
pub struct Follower {
    revocations: Arc<Revocations>,
    /// Names that do not concern the follower: targets of others.
    leaves_out: HashSet<Name>,
    position: u64,
    readings: u64,
}

/// The events that a follower receives.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// These events, in order.
    Events(Vec<Event>),
    /// The last event, after which there is nothing.
    Last(Event),
}

impl Revocations {
    /// Returns every revocation in force at `now`, except those that `leaves_out` names.
    ///
    /// # Errors
    /// [`StoreError::Stale`] where that is not known.
    pub fn snapshot(
        &self,
        parties: (&str, &str),
        leaves_out: &HashSet<Name>,
        now: Timestamp,
    ) -> Result<Snapshot, StoreError> {
        self.fresh()?;
        // Read first: what comes after it is told again.
        let position = self.position();
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Snapshot::of(&view, position, parties, now.seconds(), |name| leaves_out.contains(&name)))
    }

    /// Returns a follower of the records after `position`, except those that `leaves_out` names.
    #[must_use]
    pub fn tell(self: &Arc<Self>, position: u64, leaves_out: HashSet<Name>) -> Follower {
        let readings = self.latest().readings;
        Follower { revocations: Arc::clone(self), leaves_out, position, readings }
    }
}

impl Follower {
    /// Waits for the next events, at most a second.
    pub async fn next(&mut self, clock: &dyn Clock) -> Heard {
        let mut applied = self.revocations.place.subscribe();
        let after = self.position;
        // In time or not: what there is then is told.
        let _ = within(clock, BEAT, applied.wait_for(|place| place.position > after)).await;
        let here = self.revocations.position();
        let (told, is_last) = {
            let latest = self.revocations.latest();
            if after < latest.since || after > here || self.readings != latest.readings {
                return Self::lost(here);
            }
            let held: Vec<&HeldRecord> = latest.held_after(after).take(AT_ONCE).collect();
            self.position = held.last().map_or(here.max(after), |last| last.record.position);
            let wanted = held.iter().filter(|held| !self.leaves_out.contains(&held.record.entry.name));
            let told: Vec<_> = wanted.map(|held| (held.record.position, Arc::clone(&held.told))).collect();
            (told, held.len() < AT_ONCE)
        };
        let mut events: Vec<Event> =
            told.into_iter().map(|(position, told)| event(position, RECORD, told.to_string())).collect();
        // Where it is not known whether there is more, nothing is said: who follows notices.
        if self.revocations.fresh().is_ok() && is_last {
            let here = Here { stale_ms: self.revocations.staleness() };
            events.push(event(self.position, HERE, serde_json::to_string(&here).unwrap_or_default()));
        }
        Heard::Events(events)
    }

    /// Tells that everything has to be read again.
    #[must_use]
    pub fn lost(here: u64) -> Heard {
        Heard::Last(event(here, LOST, "{}".to_owned()))
    }
}

fn event(position: u64, name: &str, data: String) -> Event {
    Event { id: position.to_string(), name: name.to_owned(), data }
}
