//! The last stage before a token leaves: its first use is reserved, and the grant is on the audit log.

use super::MintedToken;
use super::mint::TaskUse;
use crate::assertion::{AssertionError, ProofFault};
use crate::audit::AuditTrail;
use crate::client::ClientError;
use crate::domain::{Clock, Lifetime, Timestamp, UsedOnce};
use crate::error::{Error, Unavailable};
use crate::revocation::Revocations;
use crate::store::{BudgetUse, Reservation, Reservations, Reserved, StoreError, TaskRecords};
use crate::token::{CompactToken, TokenShape};
use countersign_verify::confirmation::ConfirmationKey;
use countersign_verify::key::Algorithm;
use std::fmt;

/// An issued token: recorded, and the only value that the HTTP layer can put into an answer as a token.
pub struct Issued {
    token: CompactToken,
    shape: TokenShape,
    expires_in: i64,
    scope: String,
    algorithm: Algorithm,
    key: Option<ConfirmationKey>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Issued(for {} s)", self.expires_in)
    }
}

impl Issued {
    /// Reserves first use and a place in the task's budget at once, stores what the token can be revoked by, and writes
    /// the grant. A refusal consumes nothing. If the grant cannot be written, the reservation is released; if that
    /// fails too, the assertion counts as used.
    ///
    /// # Errors
    /// [`Error::Replayed`] if the assertion was used before, [`Unavailable`] if reservation or grant cannot be written.
    pub(super) async fn record(
        minted: MintedToken,
        stores: RecordStores<'_>,
        clock: &dyn Clock,
        trail: &mut AuditTrail,
    ) -> Result<Self, Error> {
        // Looked at again: nothing that expired meanwhile leaves.
        let now = clock.now();
        let expires_in = minted.expires().since(now);
        if expires_in <= 0 {
            return Err(AssertionError::Expired.into());
        }
        let budget = match minted.task_use() {
            TaskUse::Implicit | TaskUse::Opens(_) => None,
            TaskUse::Token(task) => Some(BudgetUse { task: task.clone(), idle: stores.idle, until: minted.expires() }),
        };
        let reservation = Reservation { first_uses: minted.first_uses(), budget };
        let mut held = stores.reserve(reservation, now, trail).await?;
        if let TaskUse::Opens(record) = minted.task_use() {
            if let Err(fault) = stores.tasks.open((**record).clone(), now).await {
                return Err(held.release(opening(fault)).await);
            }
            held.opened = Some(record.id.clone());
        }
        // Stored before anyone has the token, so that a revocation always finds the entry.
        if let Some(row) = minted.status_row()
            && let Err(fault) = stores.revocations.keep(row.clone(), now).await
        {
            return Err(held.release(Unavailable::Store(fault).into()).await);
        }
        let (scope, algorithm, key) = (minted.scope().to_owned(), minted.algorithm(), minted.key().cloned());
        let shape = minted.shape();
        let (granted, sealed) = minted.split();
        let written = match trail.grant(granted) {
            Ok(written) => written,
            Err(fault) => {
                tracing::error!(%fault, "the grant cannot be written, so no token is issued");
                return Err(held.release(Unavailable::Audit.into()).await);
            }
        };
        Ok(Self { token: sealed.release(written), shape, expires_in, scope, algorithm, key })
    }

    /// The shape of the token.
    #[must_use]
    pub fn shape(&self) -> TokenShape {
        self.shape
    }

    /// The algorithm that the token is signed with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `token_type`: `DPoP` if the token is bound to a key, otherwise `Bearer` (RFC 9449 §5).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        token_type(self.key.as_ref())
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &CompactToken {
        &self.token
    }

    /// Lifetime of the token, in seconds.
    #[must_use]
    pub fn expires_in(&self) -> i64 {
        self.expires_in
    }

    /// The granted scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

/// Returns the `token_type` of a token of ours that is bound to `key`. A certificate is proved by the connection, so
/// that its tokens are sent as bearer tokens (RFC 8705 §3).
#[must_use]
pub fn token_type(key: Option<&ConfirmationKey>) -> &'static str {
    match key {
        Some(ConfirmationKey::Jkt(_)) => "DPoP",
        Some(ConfirmationKey::X5t(_) | ConfirmationKey::SpiffeId(_)) | None => "Bearer",
    }
}

fn opening(fault: StoreError) -> Error {
    match fault {
        StoreError::TooManyTasks => Error::TooManyTasks,
        other => Unavailable::Store(other).into(),
    }
}

/// The stores that a grant is recorded in.
#[derive(Clone, Copy)]
pub(super) struct RecordStores<'a> {
    pub(super) reservations: &'a dyn Reservations,
    pub(super) tasks: &'a dyn TaskRecords,
    /// The longest time for which a task may be idle.
    pub(super) idle: Lifetime,
    pub(super) revocations: &'a Revocations,
}

impl<'a> RecordStores<'a> {
    /// Reserves all of `reservation` or nothing.
    async fn reserve(
        self,
        reservation: Reservation,
        now: Timestamp,
        trail: &mut AuditTrail,
    ) -> Result<Held<'a>, Error> {
        if reservation == Reservation::default() {
            return Ok(Held { stores: self, reservation, slot: 0, opened: None });
        }
        let reserved = self.reservations.reserve(reservation.clone(), now).await.map_err(Unavailable::Store)?;
        if matches!(reserved, Reserved::Used(_)) {
            // Anyone who saw the assertion can present it again, so the refusal may be counted instead of written.
            trail.count_only();
        }
        for of in UsedOnce::ALL.into_iter().filter(|of| reservation.first_uses.has(*of)) {
            let (name, replayed): (_, Error) = match of {
                UsedOnce::SubjectToken => ("first use", Error::Replayed),
                UsedOnce::ClientAssertion => ("client first use", ClientError::Replayed.into()),
                UsedOnce::Proof => ("proof's first use", ProofFault::Replayed.into()),
            };
            let first = reserved != Reserved::Used(of);
            let found = if first { "not exchanged before" } else { "exchanged before" };
            trail.require(name, first, || "not exchanged before", || found, replayed)?;
        }
        let slot = match reserved {
            Reserved::Whole(slot) => Ok(slot),
            Reserved::Used(_) => Err(("used before", Error::Replayed)),
            Reserved::BudgetSpent => Err(("its budget is used up", Error::TaskSpent)),
            Reserved::Idle => Err(("idle for too long", Error::TaskIdle)),
            Reserved::UnknownTask => Err(("not known", Error::TaskUnknown)),
        };
        let slot = if reservation.budget.is_some() {
            const EXPECTED: &str = "known, in use and within its budget";
            let found =
                |slot: &Result<_, (&'static str, _)>| slot.as_ref().map_or_else(|(found, _)| *found, |_| EXPECTED);
            trail.require_ok("task's use", slot, || EXPECTED, found)
        } else {
            slot
        };
        let slot = slot.map_err(|(_, fault)| fault)?;
        Ok(Held { stores: self, reservation, slot, opened: None })
    }
}

/// The reservation for a token that has not left yet.
struct Held<'a> {
    stores: RecordStores<'a>,
    reservation: Reservation,
    slot: u32,
    /// The id of the task that this exchange opened.
    opened: Option<String>,
}

impl Held<'_> {
    /// Releases what was reserved, because no token is issued, and returns the reason. What cannot be released counts
    /// as used.
    async fn release(self, reason: Error) -> Error {
        let RecordStores { reservations, tasks, .. } = self.stores;
        if self.reservation != Reservation::default()
            && let Err(fault) = reservations.release(self.reservation, self.slot).await
        {
            tracing::error!(%fault, "the reservation of a token that was not issued counts as used");
        }
        if let Some(task) = self.opened
            && let Err(fault) = tasks.forget(&task).await
        {
            tracing::error!(%fault, "a task whose token was not issued stays open");
        }
        reason
    }
}
