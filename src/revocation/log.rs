//! The log: how a revocation becomes durable, and how what it has next is put in force.

use super::{Revocations, follow};
use crate::domain::{Timestamp, within};
use crate::store::{Act, Entry, Page, Place, RevocationLog, Revoked, StoreError};
use countersign_verify::revocation::Kind;
use countersign_verify::view::View;
use std::sync::{Arc, PoisonError};

impl Revocations {
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

    pub(super) fn has(&self, entry: &Entry) -> bool {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        entry.act == Act::Revoke && entry.is_of_one() && view.has(entry.name, entry.until.seconds())
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
        match within(shared.clock(), follow::CATCH_UP, reached).await {
            Some(reached) => Ok(reached.is_ok()),
            // Nothing is left to be read, or it is not known whether there is.
            None => shared.heard_lately().then_some(false).ok_or(StoreError::Stale),
        }
    }

    /// Ends when every revocation in force is durable.
    ///
    /// # Errors
    /// [`StoreError`] when the log does not say so.
    pub async fn confirm(&self) -> Result<(), StoreError> {
        self.log.confirm().await
    }

    /// Puts in force what the log has next.
    pub(super) fn apply(&self, page: &Page, now: Timestamp) {
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
    pub(super) fn judge(&self, page: &Page, now: Timestamp) {
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
}

/// All of the log, some at a time: there may be very much. Gives where it ends.
pub(super) async fn read(log: &dyn RevocationLog, mut each: impl FnMut(Page)) -> Result<Place, StoreError> {
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

pub(super) fn apply(view: &mut View, Revoked { position, entry }: &Revoked, now: Timestamp) {
    view.apply(*position, &entry.record(), now.seconds());
}
