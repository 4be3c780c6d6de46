//! The view: which revocations are in force. It is asked at every decision, and answers from memory.

use super::{Revocations, follow::SharedLog};
use crate::store::StoreError;
use countersign_verify::AccessToken;
use countersign_verify::revocation::{Kind, Name, Named};
use std::sync::PoisonError;

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

impl Revocations {
    /// Returns a proof that the view is fresh enough to be used.
    ///
    /// # Errors
    /// [`StoreError::Stale`] if the shared log could not be read for too long.
    pub fn fresh(&self) -> Result<Fresh, StoreError> {
        self.shared.as_ref().map_or(Ok(()), SharedLog::fresh)?;
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
        self.shared.as_ref().map_or(0, SharedLog::staleness)
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

    /// Returns the number of revocations in force.
    #[must_use]
    pub fn count(&self) -> usize {
        self.view.read().unwrap_or_else(PoisonError::into_inner).count()
    }
}
