//! The status lists of this replica: entries are given to tokens, and set by what is revoked.

use super::{Revocations, follow};
use crate::domain::{Entropy, ListId, StatusRow, Timestamp, within};
use crate::store::{Page, StoreError};

impl Revocations {
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
        let Some(shared) = self.shared.as_ref().filter(|_| changes.is_none()) else { return changes };
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
        within(shared.clock(), follow::CATCH_UP, heard).await
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
